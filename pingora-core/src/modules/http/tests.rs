use super::compression::{ResponseCompression, ResponseCompressionBuilder};
use super::grpc_web::{GrpcWeb, GrpcWebBridge};
use super::*;
use async_trait::async_trait;
use futures::FutureExt;
use pingora_error::{Error, ErrorType};
use std::io::Read;

/// Marks what it sees with its letter. Written with the macro, as users write theirs.
struct Marker {
    letter: char,
    fails: bool,
    ends_with: Option<&'static str>,
}

#[async_trait]
impl HttpModule for Marker {
    async fn request_header_filter(&mut self, req: &mut RequestHeader) -> Result<()> {
        tokio::task::yield_now().await;
        if self.fails {
            return Error::e_explain(ErrorType::HTTPStatus(418), "marked as failing");
        }
        req.append_header("mark", self.letter.to_string())?;
        Ok(())
    }

    async fn request_body_filter(&mut self, body: &mut Option<Bytes>, end: bool) -> Result<()> {
        self.response_body_filter(body, end)
    }

    async fn response_header_filter(&mut self, resp: &mut ResponseHeader, _: bool) -> Result<()> {
        resp.append_header("mark", self.letter.to_string())?;
        Ok(())
    }

    fn response_body_filter(&mut self, body: &mut Option<Bytes>, _: bool) -> Result<()> {
        if let Some(bytes) = body {
            *bytes = [&bytes[..], self.letter.to_string().as_bytes()]
                .concat()
                .into();
        }
        Ok(())
    }

    fn response_trailer_filter(
        &mut self,
        trailers: &mut Option<Box<HeaderMap>>,
    ) -> Result<Option<Bytes>> {
        if self.ends_with.is_some() {
            *trailers = None;
        }
        self.response_done_filter()
    }

    fn response_done_filter(&mut self) -> Result<Option<Bytes>> {
        Ok(self.ends_with.map(Bytes::from))
    }

    fn as_any(&self) -> &dyn Any {
        self
    }

    fn as_any_mut(&mut self) -> &mut dyn Any {
        self
    }
}

/// A module that overrides nothing.
struct Idle;

#[async_trait]
impl HttpModule for Idle {
    fn as_any(&self) -> &dyn Any {
        self
    }

    fn as_any_mut(&mut self) -> &mut dyn Any {
        self
    }
}

struct Builder {
    letter: char,
    order: i16,
    fails: bool,
    ends_with: Option<&'static str>,
}

impl HttpModuleBuilder for Builder {
    fn order(&self) -> i16 {
        self.order
    }

    fn init(&self) -> Module {
        Box::new(Marker {
            letter: self.letter,
            fails: self.fails,
            ends_with: self.ends_with,
        })
    }
}

struct IdleBuilder;

impl HttpModuleBuilder for IdleBuilder {
    fn init(&self) -> Module {
        Box::new(Idle)
    }
}

fn marker(letter: char, order: i16) -> ModuleBuilder {
    Box::new(Builder {
        letter,
        order,
        fails: false,
        ends_with: None,
    })
}

fn ending(letter: char, ends_with: &'static str) -> ModuleBuilder {
    Box::new(Builder {
        letter,
        order: 0,
        fails: false,
        ends_with: Some(ends_with),
    })
}

fn modules(builders: Vec<ModuleBuilder>) -> HttpModules {
    let mut modules = HttpModules::new();
    for builder in builders {
        modules.add_module(builder);
    }
    modules
}

fn marks(headers: &HeaderMap) -> String {
    let marks = headers.get_all("mark").into_iter();
    marks.map(|mark| mark.to_str().unwrap()).collect()
}

#[tokio::test]
async fn modules_run_by_order_and_then_as_added() {
    let modules = modules(vec![
        marker('c', 0),
        marker('e', i16::MIN),
        marker('a', i16::MAX),
        marker('d', 0),
        marker('b', 1),
    ]);
    let mut ctx = modules.build_ctx();

    let mut req = RequestHeader::build("GET", b"/", None).unwrap();
    ctx.request_header_filter(&mut req).await.unwrap();
    assert_eq!(marks(&req.headers), "abcde");

    let mut body = Some(Bytes::new());
    ctx.request_body_filter(&mut body, true).await.unwrap();
    assert_eq!(body.unwrap(), "abcde");

    let mut resp = ResponseHeader::build(200, None).unwrap();
    ctx.response_header_filter(&mut resp, false).await.unwrap();
    assert_eq!(marks(&resp.headers), "abcde");

    let mut body = Some(Bytes::new());
    ctx.response_body_filter(&mut body, true).unwrap();
    assert_eq!(body.unwrap(), "abcde");
}

#[tokio::test]
async fn an_error_stops_the_modules_after_it() {
    let mut modules = modules(vec![marker('a', 2), marker('c', 0)]);
    modules.add_module(Box::new(Builder {
        letter: 'b',
        order: 1,
        fails: true,
        ends_with: None,
    }));
    let mut req = RequestHeader::build("GET", b"/", None).unwrap();
    let error = modules
        .build_ctx()
        .request_header_filter(&mut req)
        .await
        .unwrap_err();
    assert_eq!(*error.etype(), ErrorType::HTTPStatus(418));
    assert_eq!(marks(&req.headers), "a");
}

#[test]
fn bytes_in_place_of_trailers_are_the_last_chunk_for_later_modules() {
    let modules = modules(vec![marker('a', 1), ending('b', "tail"), marker('c', -1)]);
    let mut ctx = modules.build_ctx();
    let mut trailers = Some(Box::new(HeaderMap::new()));
    let last = ctx.response_trailer_filter(&mut trailers).unwrap();
    assert_eq!(last.unwrap(), "tailc");
    assert_eq!(trailers, None);
    assert_eq!(ctx.response_done_filter().unwrap().unwrap(), "tailc");
}

#[test]
fn default_methods_pass_everything() {
    let mut ctx = modules(vec![Box::new(IdleBuilder)]).build_ctx();
    let mut req = RequestHeader::build("GET", b"/", None).unwrap();
    let mut resp = ResponseHeader::build(200, None).unwrap();
    let mut body = Some(Bytes::from_static(b"body"));
    let done = ctx.request_header_filter(&mut req).now_or_never();
    assert!(done.unwrap().is_ok());
    let done = ctx.request_body_filter(&mut body, false).now_or_never();
    assert!(done.unwrap().is_ok());
    let done = ctx.response_header_filter(&mut resp, true).now_or_never();
    assert!(done.unwrap().is_ok());
    assert!(ctx.response_body_filter(&mut body, true).is_ok());
    assert_eq!(ctx.response_trailer_filter(&mut None).unwrap(), None);
    assert_eq!(ctx.response_done_filter().unwrap(), None);
    assert_eq!(body.unwrap(), "body");
}

#[test]
fn default_methods_do_not_allocate() {
    let mut idle = Idle;
    let mut req = RequestHeader::build("GET", b"/", None).unwrap();
    let mut resp = ResponseHeader::build(200, None).unwrap();
    assert_eq!(size_of_val(&*idle.request_header_filter(&mut req)), 0);
    assert_eq!(size_of_val(&*idle.request_body_filter(&mut None, true)), 0);
    assert_eq!(
        size_of_val(&*idle.response_header_filter(&mut resp, true)),
        0
    );
}

#[test]
fn modules_are_found_by_type() {
    let mut empty = HttpModuleCtx::empty();
    assert!(empty.get::<Idle>().is_none());
    assert!(empty.get_mut::<Idle>().is_none());

    let mut ctx = modules(vec![Box::new(IdleBuilder), marker('b', 0), marker('a', 1)]).build_ctx();
    assert!(ctx.get::<Idle>().is_some());
    assert_eq!(ctx.get::<Marker>().unwrap().letter, 'a');
    ctx.get_mut::<Marker>().unwrap().letter = 'z';
    assert_eq!(ctx.get::<Marker>().unwrap().letter, 'z');
    assert!(ctx.get::<ResponseCompression>().is_none());
}

#[tokio::test]
async fn compression_is_off_until_it_is_turned_on() {
    let modules = modules(vec![ResponseCompressionBuilder::enable(0), marker('a', -1)]);
    for level in [0, 5] {
        let mut ctx = modules.build_ctx();
        let compression = ctx.get_mut::<ResponseCompression>().unwrap();
        assert!(!compression.is_enabled());
        compression.adjust_level(level);

        let mut req = RequestHeader::build("GET", b"/", None).unwrap();
        req.insert_header("accept-encoding", "gzip").unwrap();
        ctx.request_header_filter(&mut req).await.unwrap();
        let mut resp = ResponseHeader::build(200, None).unwrap();
        resp.insert_header("content-type", "text/plain").unwrap();
        ctx.response_header_filter(&mut resp, false).await.unwrap();

        let mut sent = Vec::new();
        let mut body = Some(Bytes::from_static(b"text"));
        ctx.response_body_filter(&mut body, false).unwrap();
        sent.extend(body.unwrap());
        let last = ctx.response_trailer_filter(&mut None).unwrap();
        assert_eq!(last.is_some(), level > 0);
        sent.extend(last.unwrap_or_default());
        assert_eq!(ctx.response_done_filter().unwrap(), None);

        // The marker runs before compression, so its mark is compressed.
        if level > 0 {
            let mut text = String::new();
            flate2::read::GzDecoder::new(&sent[..])
                .read_to_string(&mut text)
                .unwrap();
            assert_eq!(text, "texta");
        } else {
            assert_eq!(sent, b"texta");
        }
    }
}

#[tokio::test]
async fn grpc_web_is_bridged_when_asked_for() {
    let modules = modules(vec![Box::new(GrpcWeb)]);
    let mut ctx = modules.build_ctx();
    ctx.get_mut::<GrpcWebBridge>().unwrap().init();

    let mut req = RequestHeader::build("POST", b"/", None).unwrap();
    req.insert_header("content-type", "application/grpc-web")
        .unwrap();
    ctx.request_header_filter(&mut req).await.unwrap();
    assert_eq!(req.headers["content-type"], "application/grpc");

    let mut resp = ResponseHeader::build(200, None).unwrap();
    resp.insert_header("content-type", "application/grpc")
        .unwrap();
    ctx.response_header_filter(&mut resp, false).await.unwrap();
    assert_eq!(resp.headers["content-type"], "application/grpc-web");

    assert_eq!(ctx.response_trailer_filter(&mut None).unwrap(), None);
    let mut trailers = HeaderMap::new();
    trailers.insert("grpc-status", "0".parse().unwrap());
    let frame = ctx
        .response_trailer_filter(&mut Some(Box::new(trailers)))
        .unwrap();
    assert_eq!(&frame.unwrap()[5..], b"grpc-status: 0\r\n");
}

/// A module that is off is made when it is asked for, and sees what comes after that.
#[test]
fn a_module_that_is_off_sleeps_until_it_is_asked_for() {
    use super::compression::{ResponseCompression, ResponseCompressionBuilder};
    let mut modules = HttpModules::new();
    modules.add_module(ResponseCompressionBuilder::enable(0));
    let mut ctx = modules.build_ctx();
    assert!(ctx.is_dormant());
    assert!(!ctx.get::<ResponseCompression>().unwrap().is_enabled());
    ctx.get_mut::<ResponseCompression>()
        .unwrap()
        .adjust_level(6);
    assert!(ctx.get::<ResponseCompression>().unwrap().is_enabled());
    assert_eq!(ctx.awake().len(), 1);
    assert!(!ctx.is_dormant());

    let mut fresh = modules.build_ctx();
    fresh
        .get_mut::<ResponseCompression>()
        .unwrap()
        .adjust_level(6);
    assert_eq!(fresh.awake().len(), 1);

    let mut on = HttpModules::new();
    on.add_module(ResponseCompressionBuilder::enable(3));
    assert_eq!(on.build_ctx().awake().len(), 1);
}
