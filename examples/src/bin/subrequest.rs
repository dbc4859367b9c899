//! Puts a page together from two origins: `<!--include /PATH-->` in an HTML page is replaced by what the origin of the
//! parts has at that path.

use async_trait::async_trait;
use clap::Parser;
use edge::program::{self, Program};
use http::header::{
    ACCEPT_ENCODING, CONTENT_TYPE, ETAG, IF_MODIFIED_SINCE, IF_NONE_MATCH, LAST_MODIFIED, RANGE,
};
use http::Method;
use log::warn;
use pingora_core::protocols::http::HttpTask;
use pingora_core::upstreams::peer::HttpPeer;
use pingora_core::{Error, HTTPStatus, Result};
use pingora_http::{RequestHeader, ResponseHeader};
use pingora_proxy::subrequest::pipe::{pipe_subrequest, InputBody, InputBodyType};
use pingora_proxy::subrequest::Ctx;
use pingora_proxy::{ProxyHttp, Session};
use std::process::ExitCode;

/// Bytes of a page or of a part.
const LONGEST: usize = 1 << 20;
const BEGIN: &str = "<!--include ";
const END: &str = "-->";

/// A proxy that puts pages together.
#[derive(Parser)]
struct Args {
    /// Where to listen: IP:PORT or unix:/PATH
    #[arg(short, long, value_name = "ADDR", default_value = "127.0.0.1:8080")]
    listen: String,

    /// The server of the pages [default: a demo origin]
    #[arg(long, value_name = "ADDR")]
    upstream: Option<String>,

    /// The server of the parts [default: that of the pages]
    #[arg(long, value_name = "ADDR")]
    parts: Option<String>,
}

struct Pages {
    pages: HttpPeer,
    parts: HttpPeer,
}

/// Tells the subrequest for a part from that for a page.
struct IsPart;

#[async_trait]
impl ProxyHttp for Pages {
    type CTX = ();

    fn new_ctx(&self) {}

    fn allow_spawning_subrequest(&self, session: &Session, _: &()) -> bool {
        !session.is_subrequest() && session.req_header().method == Method::GET
    }

    async fn request_filter(&self, session: &mut Session, _: &mut ()) -> Result<bool> {
        if session.subrequest_spawner.is_none() {
            return Ok(false);
        }
        let path = session.req_header().raw_path().to_vec();
        let Some((mut header, page)) = fetch(session, &path, false).await? else {
            return Ok(true);
        };
        let mut whole = String::with_capacity(page.len());
        let mut rest = page.as_str();
        while let Some((before, path, after)) = include(rest) {
            whole.push_str(before);
            match fetch(session, path.as_bytes(), true).await {
                Ok(Some((header, part))) if header.status == 200 => whole.push_str(&part),
                // A page without a part is better than none.
                Ok(_) => warn!("{path}: no such part"),
                Err(e) => warn!("{path}: {e}"),
            }
            rest = after;
        }
        whole.push_str(rest);
        // They say when the page has changed, and not when a part has.
        header.remove_header(&ETAG);
        header.remove_header(&LAST_MODIFIED);
        header.set_content_length(whole.len())?;
        session.write_response_header(header, false).await?;
        session
            .write_response_body(Some(whole.into()), true)
            .await?;
        Ok(true)
    }

    async fn upstream_peer(&self, session: &mut Session, _: &mut ()) -> Result<Box<HttpPeer>> {
        let ctx = session.subrequest_ctx.as_ref().and_then(|c| c.user_ctx());
        Ok(Box::new(match ctx {
            Some(ctx) if ctx.is::<IsPart>() => self.parts.clone(),
            _ => self.pages.clone(),
        }))
    }
}

/// The first include: what is before it, its path, and what follows.
fn include(page: &str) -> Option<(&str, &str, &str)> {
    let (before, rest) = page.split_once(BEGIN)?;
    let (path, after) = rest.split_once(END)?;
    Some((before, path.trim(), after))
}

/// Fetches a page or a part. A page that is not HTML goes to the client as it is, and `None` comes back.
async fn fetch(
    session: &mut Session,
    path: &[u8],
    part: bool,
) -> Result<Option<(Box<ResponseHeader>, String)>> {
    let Some(spawner) = &session.subrequest_spawner else {
        return Ok(None);
    };
    let mut ctx = Ctx::builder();
    if part {
        ctx = ctx.user_ctx(Box::new(IsPart));
    }
    let (mut subrequest, handle) = spawner.create_subrequest(session.as_downstream(), ctx.build());
    ask_for_whole(subrequest.session_mut().req_header_mut(), path)?;
    let (mut header, mut body, mut passes) = (None, Vec::new(), false);
    let collect = |task| {
        match task {
            HttpTask::Header(head, end) if !head.status.is_informational() => {
                if !part && !is_html(&head) {
                    passes = true;
                    return Ok(Some(HttpTask::Header(head, end)));
                }
                header = Some(head);
            }
            task if passes => return Ok(Some(task)),
            HttpTask::Body(Some(data), _) => {
                if body.len() + data.len() > LONGEST {
                    return Error::e_explain(HTTPStatus(502), "a page that is too long");
                }
                body.extend_from_slice(&data);
            }
            _ => {}
        }
        Ok(None)
    };
    let no_body = InputBodyType::Preset(InputBody::NoBody);
    pipe_subrequest(session, subrequest, handle, collect, no_body)
        .await
        .map_err(|e| e.error)?;
    let text = |header| (header, String::from_utf8_lossy(&body).into_owned());
    Ok(header.map(text))
}

/// Asks for all of it, in letters, whatever the client has and takes.
fn ask_for_whole(request: &mut RequestHeader, path: &[u8]) -> Result<()> {
    for name in [ACCEPT_ENCODING, IF_MODIFIED_SINCE, IF_NONE_MATCH, RANGE] {
        request.remove_header(&name);
    }
    request.set_raw_path(path)
}

fn is_html(header: &ResponseHeader) -> bool {
    let content = header.headers.get(CONTENT_TYPE);
    content.is_some_and(|content| content.as_bytes().starts_with(b"text/html"))
}

fn run(args: &Args) -> Result<(), String> {
    let mut program = Program::new(&args.listen)?;
    let pages = program.upstream(args.upstream.as_deref())?;
    let parts = match &args.parts {
        Some(parts) => program.upstream(Some(parts))?,
        None => pages.clone(),
    };
    program.run_proxy(Pages { pages, parts })
}

fn main() -> ExitCode {
    program::exit("subrequest", run(&Args::parse()))
}
