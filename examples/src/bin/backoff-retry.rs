//! Asks again, after a while that doubles, when the upstream cannot be reached.

use async_trait::async_trait;
use clap::Parser;
use edge::program::{self, Program};
use pingora_core::upstreams::peer::HttpPeer;
use pingora_core::{Error, Result};
use pingora_proxy::{ProxyHttp, Session};
use std::process::ExitCode;
use std::time::Duration;

/// A proxy that waits for an upstream which is away for a moment, as one that restarts is.
#[derive(Parser)]
struct Args {
    /// Where to listen: IP:PORT or unix:/PATH
    #[arg(short, long, value_name = "ADDR", default_value = "127.0.0.1:8080")]
    listen: String,

    /// The server to pass requests to [default: a demo origin]
    #[arg(long, value_name = "ADDR")]
    upstream: Option<String>,

    /// How often to try again; the server setting max_retries (16) is the most there can be
    #[arg(long, value_name = "N", default_value_t = 5)]
    retries: u32,

    /// Milliseconds before the second try; each further wait is twice as long
    #[arg(long, value_name = "MS", default_value_t = 50)]
    backoff: u64,
}

struct BackoffRetry {
    upstream: HttpPeer,
    retries: u32,
    backoff: Duration,
}

#[async_trait]
impl ProxyHttp for BackoffRetry {
    /// Tries that failed for this request.
    type CTX = u32;

    fn new_ctx(&self) -> u32 {
        0
    }

    async fn upstream_peer(&self, _: &mut Session, failed: &mut u32) -> Result<Box<HttpPeer>> {
        if let Some(doublings) = failed.checked_sub(1) {
            let wait = self.backoff.saturating_mul(1 << doublings.min(16));
            log::warn!("{} is away, trying again in {wait:?}", self.upstream);
            // The request waits, and nothing but the request: its worker serves others.
            tokio::time::sleep(wait).await;
        }
        Ok(Box::new(self.upstream.clone()))
    }

    /// Nothing of the request was sent when a connection could not be made, so to try again is
    /// safe for every method.
    fn fail_to_connect(
        &self,
        _: &mut Session,
        _: &HttpPeer,
        failed: &mut u32,
        mut e: Box<Error>,
    ) -> Box<Error> {
        *failed += 1;
        e.set_retry(*failed <= self.retries);
        e
    }
}

fn run(args: &Args) -> Result<(), String> {
    let mut program = Program::new(&args.listen)?;
    let upstream = program.upstream(args.upstream.as_deref())?;
    let backoff = Duration::from_millis(args.backoff);
    program.run_proxy(BackoffRetry {
        upstream,
        retries: args.retries,
        backoff,
    })
}

fn main() -> ExitCode {
    program::exit("backoff-retry", run(&Args::parse()))
}
