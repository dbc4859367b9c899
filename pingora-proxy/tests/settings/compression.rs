//! `Session::upstream_compression`: it knows the request as it goes upstream.

use super::*;
use bytes::Bytes;
use h2_origin::*;
use http::Request;
use pingora_core::protocols::http::compression::Algorithm;
use pingora_core::{Error, ErrorType};
use pingora_http::{RequestHeader, ResponseHeader};
use std::sync::atomic::{AtomicUsize, Ordering};
use tokio::net::UnixStream;

const TEXT: &str =
    "text that is long enough for it to be worth some compression, and then some more of it";

/// An origin whose content is in this coding.
fn origin(coding: Option<Algorithm>) -> Origin {
    let (field, content) = match coding {
        None => (String::new(), TEXT.as_bytes().to_vec()),
        Some(coding) => {
            let mut encoder = coding.compressor(5).unwrap();
            let field = format!("Content-Encoding: {}\r\n", coding.as_str());
            (field, encoder.encode(TEXT.as_bytes(), true).unwrap().into())
        }
    };
    let head = format!(
        "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\n{field}Content-Length: {}\r\n\r\n",
        content.len()
    );
    Origin::scripted(move |mut wire, _| {
        while wire.has_more() {
            let request = wire.read_message();
            wire.send(&head);
            if !request.head.starts_with("HEAD") {
                wire.send(&content);
            }
        }
    })
}

/// The content of a body in a coding.
fn decoded(coding: Option<&str>, body: &[u8]) -> String {
    let content = match coding {
        None => Bytes::copy_from_slice(body),
        Some(coding) => {
            let mut decoder = Algorithm::from(coding).decompressor(true).unwrap();
            decoder.encode(body, true).unwrap()
        }
    };
    String::from_utf8(content.into()).unwrap()
}

#[test]
fn it_compresses_for_clients_that_take_it() {
    let origin = origin(None);
    let proxy = setting(forward_to(origin.path()).peer, |session| {
        session.upstream_compression.adjust_level(6)
    });
    let mut client = proxy.connect();
    for (accepts, coding) in [
        ("Accept-Encoding: gzip\r\n", Some("gzip")),
        ("Accept-Encoding: br;q=1, gzip;q=0.5\r\n", Some("br")),
        (
            "Accept-Encoding: zstd\r\nAccept-Encoding: x\r\n",
            Some("zstd"),
        ),
        ("Accept-Encoding: gzip;q=0\r\n", None),
        ("Accept-Encoding: identity\r\n", None),
        ("", None),
    ] {
        let response = get(&mut client, accepts);
        assert_eq!(response.field("Content-Encoding"), coding, "{accepts}");
        assert_eq!(decoded(coding, &response.body), TEXT, "{accepts}");
        assert_eq!(response.field("Vary"), Some("accept-encoding"));
        let length = response.field("Content-Length").is_some();
        assert_eq!(length, coding.is_none(), "{accepts}");
    }
    // What has no body is not coded.
    client.send("HEAD / HTTP/1.1\r\nHost: a\r\nAccept-Encoding: gzip\r\n\r\n");
    let head = client.read_response_to_head();
    assert_eq!(head.field("Content-Encoding"), None);
    let length = TEXT.len().to_string();
    assert_eq!(head.field("Content-Length"), Some(length.as_str()));
}

#[test]
fn it_decompresses_for_clients_that_do_not_take_it() {
    let origin = origin(Some(Algorithm::Gzip));
    let proxy = setting(forward_to(origin.path()).peer, |session| {
        session.upstream_compression.adjust_decompression(true)
    });
    let mut client = proxy.connect();
    for (accepts, coding) in [
        ("Accept-Encoding: gzip\r\n", Some("gzip")),
        ("Accept-Encoding: br, *\r\n", Some("gzip")),
        ("Accept-Encoding: br\r\n", None),
        ("", None),
    ] {
        let response = get(&mut client, accepts);
        assert_eq!(response.field("Content-Encoding"), coding, "{accepts}");
        assert_eq!(decoded(coding, &response.body), TEXT, "{accepts}");
    }
}

#[tokio::test]
async fn with_http2_on_both_sides_too() {
    let origin = H2Origin::streams(|_, mut respond, _| async move {
        let mut head = status(200);
        let text = "text/plain".parse().unwrap();
        head.headers_mut().insert("content-type", text);
        let mut body = respond.send_response(head, false).unwrap();
        body.send_data(Bytes::from(TEXT), true).unwrap();
    });
    let proxy = setting(h2_peer(&origin.path()), |session| {
        session.upstream_compression.adjust_level(6)
    });
    let stream = UnixStream::connect(proxy.path()).await.unwrap();
    let (client, connection) = h2::client::handshake(stream).await.unwrap();
    tokio::spawn(async { drop(connection.await) });
    for (accepts, coding) in [("gzip", Some("gzip")), ("deflate", None)] {
        let request = Request::get("http://origin.test/").header("accept-encoding", accepts);
        let mut client = client.clone().ready().await.unwrap();
        let (response, _) = client
            .send_request(request.body(()).unwrap(), true)
            .unwrap();
        let response = response.await.unwrap();
        let found = response.headers().get("content-encoding").cloned();
        let mut body = Vec::new();
        let mut stream = response.into_body();
        while let Some(piece) = stream.data().await {
            body.extend(piece.unwrap());
        }
        assert_eq!(found.as_ref().map(|c| c.to_str().unwrap()), coding);
        assert_eq!(decoded(coding, &body), TEXT);
    }
}

/// Sends the first of two tries' answers back, and says upstream what it takes itself.
struct Twice {
    peer: HttpPeer,
    tries: AtomicUsize,
    accepts: Option<&'static str>,
}

#[async_trait]
impl ProxyHttp for Twice {
    type CTX = ();

    fn new_ctx(&self) {}

    async fn upstream_peer(&self, session: &mut Session, _: &mut ()) -> Result<Box<HttpPeer>> {
        if self.tries.load(Ordering::SeqCst) == 0 {
            session.upstream_compression.adjust_level(6);
        }
        Ok(Box::new(self.peer.clone()))
    }

    async fn upstream_request_filter(
        &self,
        _: &mut Session,
        request: &mut RequestHeader,
        _: &mut (),
    ) -> Result<()> {
        match self.accepts {
            Some(accepts) => request.insert_header("Accept-Encoding", accepts),
            None => {
                request.remove_header("Accept-Encoding");
                Ok(())
            }
        }
    }

    async fn upstream_response_filter(
        &self,
        _: &mut Session,
        _: &mut ResponseHeader,
        _: &mut (),
    ) -> Result<()> {
        match self.tries.fetch_add(1, Ordering::SeqCst) {
            0 => {
                let mut again = Error::explain(ErrorType::Custom("again"), "not this one");
                again.set_retry(true);
                Err(again)
            }
            _ => Ok(()),
        }
    }
}

/// As in Pingora 0.9.1 it is the request for the upstream that counts, which the application may have changed; and each
/// try begins anew.
#[test]
fn the_request_of_the_last_try_counts() {
    for accepts in [Some("gzip"), None] {
        let origin = origin(None);
        let proxy = Proxy::start(Twice {
            peer: forward_to(origin.path()).peer,
            tries: AtomicUsize::new(0),
            accepts,
        });
        let response = get(&mut proxy.connect(), "Accept-Encoding: br\r\n");
        assert_eq!(response.status(), 200);
        assert_eq!(response.field("Content-Encoding"), accepts);
        assert_eq!(decoded(accepts, &response.body), TEXT);
    }
}
