//! Changes the header on its way: tells the upstream who asked, hides from the client who
//! answered.

use async_trait::async_trait;
use clap::Parser;
use edge::program::{self, Program};
use pingora_core::upstreams::peer::HttpPeer;
use pingora_core::Result;
use pingora_http::{RequestHeader, ResponseHeader};
use pingora_proxy::{ProxyHttp, Session};
use std::process::ExitCode;

/// A proxy that changes header fields in both directions.
#[derive(Parser)]
struct Args {
    /// Where to listen: IP:PORT or unix:/PATH
    #[arg(short, long, value_name = "ADDR", default_value = "127.0.0.1:8080")]
    listen: String,

    /// The server to pass requests to [default: a demo origin]
    #[arg(long, value_name = "ADDR")]
    upstream: Option<String>,
}

struct ModifyHeaders {
    upstream: HttpPeer,
}

#[async_trait]
impl ProxyHttp for ModifyHeaders {
    type CTX = ();

    fn new_ctx(&self) {}

    async fn upstream_peer(&self, _: &mut Session, _: &mut ()) -> Result<Box<HttpPeer>> {
        Ok(Box::new(self.upstream.clone()))
    }

    async fn upstream_request_filter(
        &self,
        session: &mut Session,
        request: &mut RequestHeader,
        _: &mut (),
    ) -> Result<()> {
        // What a client claims here is not to be believed: the field is replaced.
        match session.client_addr().and_then(|addr| addr.as_inet()) {
            Some(addr) => request.insert_header("X-Forwarded-For", addr.ip().to_string())?,
            None => drop(request.remove_header("X-Forwarded-For")),
        }
        request.insert_header("X-Forwarded-Proto", "http")
    }

    async fn response_filter(
        &self,
        _: &mut Session,
        response: &mut ResponseHeader,
        _: &mut (),
    ) -> Result<()> {
        response.remove_header("Server");
        response.remove_header("X-Powered-By");
        response.insert_header("X-Content-Type-Options", "nosniff")
    }
}

fn run(args: &Args) -> Result<(), String> {
    let mut program = Program::new(&args.listen)?;
    let upstream = program.upstream(args.upstream.as_deref())?;
    program.run_proxy(ModifyHeaders { upstream })
}

fn main() -> ExitCode {
    program::exit("modify-headers", run(&Args::parse()))
}
