//! Sends each request where its path belongs.

use async_trait::async_trait;
use clap::Parser;
use edge::program::{self, Program};
use edge::upstream::Upstream;
use pingora_core::upstreams::peer::HttpPeer;
use pingora_core::{Error, HTTPStatus, Result};
use pingora_proxy::{ProxyHttp, Session};
use std::collections::BTreeMap;
use std::process::ExitCode;
use std::sync::atomic::{AtomicUsize, Ordering};

/// A gateway: the longest prefix of the path that has a route decides on the upstream.
///
/// Without any --route all goes to a demo origin.
#[derive(Parser)]
struct Args {
    /// Where to listen: IP:PORT or unix:/PATH
    #[arg(short, long, value_name = "ADDR", default_value = "127.0.0.1:8080")]
    listen: String,

    /// PREFIX=ADDR, as in /api=127.0.0.1:9001; may be given several times, and requests for the same prefix then
    /// take turns
    #[arg(long, value_name = "ROUTE")]
    route: Vec<String>,
}

struct Route {
    prefix: String,
    /// They take turns.
    peers: Vec<HttpPeer>,
    turn: AtomicUsize,
}

impl Route {
    /// The prefix and the peers that a route is written with.
    fn parse(text: &str) -> Result<(String, Vec<HttpPeer>), String> {
        let (prefix, address) = text
            .split_once('=')
            .filter(|(prefix, _)| prefix.starts_with('/'))
            .ok_or_else(|| format!("bad route '{text}': write /PREFIX=ADDR"))?;
        let upstream: Upstream = address.parse()?;
        Ok((prefix.trim_end_matches('/').into(), upstream.peers()?))
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

/// The place of the route that a request takes, and how many of its upstreams were tried, from which on.
#[derive(Default)]
struct Taken {
    route: usize,
    first: usize,
    tried: usize,
}

#[async_trait]
impl ProxyHttp for Gateway {
    type CTX = Taken;

    fn new_ctx(&self) -> Taken {
        Taken::default()
    }

    async fn upstream_peer(
        &self,
        session: &mut Session,
        taken: &mut Taken,
    ) -> Result<Box<HttpPeer>> {
        let path = session.req_header().uri.path();
        let Some(index) = self.routes.iter().position(|route| route.is_for(path)) else {
            return Error::e_explain(HTTPStatus(404), "no route for this path");
        };
        let route = &self.routes[index];
        if taken.tried == 0 {
            taken.route = index;
            taken.first = route.turn.fetch_add(1, Ordering::Relaxed);
        }
        let peer = taken.first.wrapping_add(taken.tried) % route.peers.len();
        taken.tried += 1;
        Ok(Box::new(route.peers[peer].clone()))
    }

    fn fail_to_connect(
        &self,
        _: &mut Session,
        _: &HttpPeer,
        taken: &mut Taken,
        mut e: Box<Error>,
    ) -> Box<Error> {
        // Nothing was sent, so each upstream may be tried once.
        e.set_retry(taken.tried < self.routes[taken.route].peers.len());
        e
    }
}

fn run(args: &Args) -> Result<(), String> {
    let mut program = Program::new(&args.listen)?;
    let mut servers: BTreeMap<String, Vec<HttpPeer>> = BTreeMap::new();
    for route in &args.route {
        let (prefix, peers) = Route::parse(route).map_err(|e| format!("--route: {e}"))?;
        servers.entry(prefix).or_default().extend(peers);
    }
    if servers.is_empty() {
        servers.insert(String::new(), vec![program.upstream(None)?]);
    }
    let route = |(prefix, peers)| Route {
        prefix,
        peers,
        turn: AtomicUsize::new(0),
    };
    let mut routes: Vec<Route> = servers.into_iter().map(route).collect();
    routes.sort_by_key(|route| std::cmp::Reverse(route.prefix.len()));
    program.run_proxy(Gateway { routes })
}

fn main() -> ExitCode {
    program::exit("gateway", run(&Args::parse()))
}
