//! Passes WebSockets through, and refuses those that a foreign page opened.
//!
//! A proxy needs nothing special for a WebSocket: the upgrade is forwarded, and once the upstream
//! said 101 the bytes flow both ways as they are. What is worth knowing:
//!
//! - Only `Upgrade: websocket` passes unless the peer says otherwise
//!   (`peer.options.http_upstream_request_policy`).
//! - A WebSocket may be silent for hours. `peer.options.read_timeout` would end it, and is not
//!   set unless you set it.
//! - Browsers let any page open a WebSocket to any site, with the user's cookies. The `Origin`
//!   field is the only defence, and a gateway is a good place for it.
//! - `request_body_filter` and `response_body_filter` see the raw bytes after the upgrade.

use async_trait::async_trait;
use clap::Parser;
use edge::program::{self, Program};
use http::header;
use pingora_core::upstreams::peer::HttpPeer;
use pingora_core::{Error, Result};
use pingora_proxy::{ProxyHttp, Session};
use std::process::ExitCode;

/// A proxy for WebSockets, and for other requests too.
#[derive(Parser)]
struct Args {
    /// Where to listen: IP:PORT or unix:/PATH
    #[arg(short, long, value_name = "ADDR", default_value = "127.0.0.1:8080")]
    listen: String,

    /// The server to pass requests to [default: a demo origin, which knows no WebSocket]
    #[arg(long, value_name = "ADDR")]
    upstream: Option<String>,

    /// A web origin, SCHEME://HOST, whose pages may open WebSockets; may be given several times
    /// [default: all]
    #[arg(long, value_name = "ORIGIN")]
    allow_origin: Vec<String>,
}

struct WebSocket {
    upstream: HttpPeer,
    allowed: Vec<String>,
}

impl WebSocket {
    /// Programs send no Origin: they carry no user's cookies and may pass.
    fn may_upgrade(&self, session: &Session) -> bool {
        let origin = session.get_header(header::ORIGIN);
        self.allowed.is_empty()
            || origin.is_none_or(|origin| self.allowed.iter().any(|a| a.as_bytes() == origin))
    }
}

#[async_trait]
impl ProxyHttp for WebSocket {
    type CTX = ();

    fn new_ctx(&self) {}

    async fn request_filter(&self, session: &mut Session, _: &mut ()) -> Result<bool> {
        if session.is_upgrade_req() && !self.may_upgrade(session) {
            session.respond_error(403).await?;
            return Ok(true);
        }
        Ok(false)
    }

    async fn upstream_peer(&self, _: &mut Session, _: &mut ()) -> Result<Box<HttpPeer>> {
        Ok(Box::new(self.upstream.clone()))
    }

    async fn logging(&self, session: &mut Session, e: Option<&Error>, _: &mut ()) {
        log::info!(
            "{}: {} bytes from the client, {} bytes to it{}",
            session.request_summary(),
            session.body_bytes_read(),
            session.body_bytes_sent(),
            e.map(|e| format!(", {e}")).unwrap_or_default(),
        );
    }
}

fn run(args: &Args) -> Result<(), String> {
    let mut program = Program::new(&args.listen)?;
    let upstream = program.upstream(args.upstream.as_deref())?;
    program.run_proxy(WebSocket {
        upstream,
        allowed: args.allow_origin.clone(),
    })
}

fn main() -> ExitCode {
    program::exit("websocket", run(&Args::parse()))
}
