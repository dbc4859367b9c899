//! Sends each request where its path belongs.

use async_trait::async_trait;
use clap::Parser;
use examples::address::Address;
use examples::program::{self, Program};
use pingora_core::upstreams::peer::HttpPeer;
use pingora_core::{Error, HTTPStatus, Result};
use pingora_proxy::{ProxyHttp, Session};
use std::process::ExitCode;

/// A gateway: the longest prefix of the path that has a route decides on the upstream.
///
/// Without any --route all goes to a demo origin.
#[derive(Parser)]
struct Args {
    /// Where to listen: IP:PORT or unix:/PATH
    #[arg(short, long, value_name = "ADDR", default_value = "127.0.0.1:8080")]
    listen: String,

    /// PREFIX=ADDR, as in /api=127.0.0.1:9001; may be given several times
    #[arg(long, value_name = "ROUTE")]
    route: Vec<String>,
}

struct Route {
    prefix: String,
    upstream: HttpPeer,
}

impl Route {
    fn parse(text: &str) -> Result<Self, String> {
        let (prefix, address) = text
            .split_once('=')
            .filter(|(prefix, _)| prefix.starts_with('/'))
            .ok_or_else(|| format!("bad route '{text}': write /PREFIX=ADDR"))?;
        let upstream = address.parse::<Address>()?.peer()?;
        Ok(Route {
            prefix: prefix.trim_end_matches('/').into(),
            upstream,
        })
    }

    /// `/api` is for `/api` and `/api/users`, and not for `/apiary`.
    fn is_for(&self, path: &str) -> bool {
        path.strip_prefix(&self.prefix)
            .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    }
}

struct Gateway {
    /// The longest prefix first.
    routes: Vec<Route>,
}

#[async_trait]
impl ProxyHttp for Gateway {
    type CTX = ();

    fn new_ctx(&self) {}

    async fn upstream_peer(&self, session: &mut Session, _: &mut ()) -> Result<Box<HttpPeer>> {
        let path = session.req_header().uri.path();
        match self.routes.iter().find(|route| route.is_for(path)) {
            Some(route) => Ok(Box::new(route.upstream.clone())),
            None => Error::e_explain(HTTPStatus(404), "no route for this path"),
        }
    }
}

fn run(args: &Args) -> Result<(), String> {
    let mut program = Program::new(&args.listen)?;
    let mut routes = args
        .route
        .iter()
        .map(|r| Route::parse(r))
        .collect::<Result<Vec<_>, _>>()?;
    if routes.is_empty() {
        routes.push(Route {
            prefix: String::new(),
            upstream: program.upstream(None)?,
        });
    }
    routes.sort_by_key(|route| std::cmp::Reverse(route.prefix.len()));
    program.run_proxy(Gateway { routes })
}

fn main() -> ExitCode {
    program::exit("gateway", run(&Args::parse()))
}
