//! Replaces itself by a new process without losing a connection.
//!
//! 1. Start it, and leave it running: `graceful-upgrade`
//! 2. Start the new one: `graceful-upgrade --upgrade`. It waits for the sockets.
//! 3. Tell the old one to hand them over: `kill -QUIT PID`. For a few seconds both accept, then
//!    the old one finishes the requests it has and exits.
//!
//! `X-Served-By` in each answer names the process that gave it.

use async_trait::async_trait;
use clap::Parser;
use edge::program::{self, Program};
use pingora_core::server::configuration::{Opt, ServerConf};
use pingora_core::upstreams::peer::HttpPeer;
use pingora_core::Result;
use pingora_http::ResponseHeader;
use pingora_proxy::{ProxyHttp, Session};
use std::process::ExitCode;

/// A proxy that can be replaced while it runs.
#[derive(Parser)]
struct Args {
    /// Where to listen: IP:PORT or unix:/PATH
    #[arg(short, long, value_name = "ADDR", default_value = "127.0.0.1:8080")]
    listen: String,

    /// The server to pass requests to [default: a demo origin]
    #[arg(long, value_name = "ADDR")]
    upstream: Option<String>,

    /// The socket over which the processes meet; the same for both
    #[arg(
        long,
        value_name = "PATH",
        default_value = "/tmp/graceful-upgrade.sock"
    )]
    upgrade_sock: String,

    /// Seconds that the old process gives to requests under way
    #[arg(long, value_name = "SECONDS", default_value_t = 60)]
    grace_period: u64,

    /// Take over from the running process
    #[arg(short, long)]
    upgrade: bool,
}

struct Tagged {
    upstream: HttpPeer,
}

#[async_trait]
impl ProxyHttp for Tagged {
    type CTX = ();

    fn new_ctx(&self) {}

    async fn upstream_peer(&self, _: &mut Session, _: &mut ()) -> Result<Box<HttpPeer>> {
        Ok(Box::new(self.upstream.clone()))
    }

    async fn response_filter(
        &self,
        _: &mut Session,
        response: &mut ResponseHeader,
        _: &mut (),
    ) -> Result<()> {
        response.insert_header("X-Served-By", std::process::id().to_string())
    }
}

fn run(args: &Args) -> Result<(), String> {
    let opt = Opt {
        upgrade: args.upgrade,
        ..Opt::default()
    };
    let conf = ServerConf {
        work_stealing: false,
        upgrade_sock: args.upgrade_sock.clone(),
        grace_period_seconds: Some(args.grace_period),
        ..ServerConf::default()
    };
    let mut program = Program::with_conf(&args.listen, opt, conf)?;
    let upstream = program.upstream(args.upstream.as_deref())?;
    program::say(format_args!("process {}", std::process::id()));
    program.run_proxy(Tagged { upstream })
}

fn main() -> ExitCode {
    program::exit("graceful-upgrade", run(&Args::parse()))
}
