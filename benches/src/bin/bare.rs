//! The smallest proxy that these crates make: what a request costs through it is what the crates cost, and no policy.

use std::process::ExitCode;

use async_trait::async_trait;
use clap::Parser;
use edge::allocator::Allocator;
use edge::program::{self, Program};
use pingora_core::server::configuration::{Opt, ServerConf};
use pingora_core::upstreams::peer::HttpPeer;
use pingora_core::Result;
use pingora_proxy::{ProxyHttp, Session};

#[global_allocator]
static ALLOCATOR: Allocator = Allocator;

#[derive(Parser)]
#[command(about = "Passes every request to one server.")]
struct Args {
    /// Where to listen.
    #[arg(long, value_name = "ADDR")]
    listen: String,
    /// The server to pass requests to.
    #[arg(long, value_name = "ADDR")]
    upstream: String,
    /// Worker threads.
    #[arg(long, value_name = "N")]
    threads: usize,
}

struct Bare {
    upstream: HttpPeer,
}

#[async_trait]
impl ProxyHttp for Bare {
    type CTX = ();

    fn new_ctx(&self) {}

    async fn upstream_peer(&self, _: &mut Session, (): &mut ()) -> Result<Box<HttpPeer>> {
        Ok(Box::new(self.upstream.clone()))
    }
}

fn run(args: &Args) -> Result<(), String> {
    let conf = ServerConf {
        threads: args.threads,
        work_stealing: false,
        ..ServerConf::default()
    };
    let mut program = Program::with_conf(&args.listen, Opt::default(), conf)?;
    let upstream = program.upstream(Some(&args.upstream))?;
    program.run_proxy(Bare { upstream })
}

fn main() -> ExitCode {
    program::exit("bare", run(&Args::parse()))
}
