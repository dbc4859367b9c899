//! Answers 429 to whoever asks too often.

use async_trait::async_trait;
use bytes::Bytes;
use clap::Parser;
use edge::program::{self, Program};
use http::StatusCode;
use pingora_core::upstreams::peer::HttpPeer;
use pingora_core::Result;
use pingora_http::ResponseHeader;
use pingora_limits::rate::Rate;
use pingora_proxy::{ProxyHttp, Session};
use std::net::IpAddr;
use std::process::ExitCode;
use std::time::Duration;

/// A proxy that lets each client have only so many requests in a second.
#[derive(Parser)]
struct Args {
    /// Where to listen: IP:PORT or unix:/PATH
    #[arg(short, long, value_name = "ADDR", default_value = "127.0.0.1:8080")]
    listen: String,

    /// The server to pass requests to [default: a demo origin]
    #[arg(long, value_name = "ADDR")]
    upstream: Option<String>,

    /// Requests that a client may send in a second
    #[arg(long, value_name = "N", default_value_t = 10)]
    limit: u32,
}

struct RateLimiter {
    upstream: HttpPeer,
    limit: u32,
    /// One count for all workers, since a client's connections are spread over them. Its atomics
    /// are the one thing that workers share here: the price of a limit that is exact.
    rate: Rate,
}

#[async_trait]
impl ProxyHttp for RateLimiter {
    type CTX = ();

    fn new_ctx(&self) {}

    async fn request_filter(&self, session: &mut Session, _: &mut ()) -> Result<bool> {
        // Clients of a Unix socket have no address and share one count.
        let client: Option<IpAddr> = session
            .client_addr()
            .and_then(|addr| addr.as_inet())
            .map(|addr| addr.ip());
        if self.rate.observe(&client, 1) <= self.limit as isize {
            return Ok(false);
        }
        let page = Bytes::from_static(b"too many requests\n");
        let mut refusal = ResponseHeader::build(StatusCode::TOO_MANY_REQUESTS, Some(3))?;
        refusal.insert_header("Content-Length", page.len())?;
        refusal.insert_header("Retry-After", "1")?;
        refusal.insert_header("X-Rate-Limit", self.limit.to_string())?;
        session
            .write_response_header(Box::new(refusal), false)
            .await?;
        session.write_response_body(Some(page), true).await?;
        Ok(true)
    }

    async fn upstream_peer(&self, _: &mut Session, _: &mut ()) -> Result<Box<HttpPeer>> {
        Ok(Box::new(self.upstream.clone()))
    }
}

fn run(args: &Args) -> Result<(), String> {
    let mut program = Program::new(&args.listen)?;
    let upstream = program.upstream(args.upstream.as_deref())?;
    let rate = Rate::new(Duration::from_secs(1));
    program.run_proxy(RateLimiter {
        upstream,
        limit: args.limit,
        rate,
    })
}

fn main() -> ExitCode {
    program::exit("rate-limiter", run(&Args::parse()))
}
