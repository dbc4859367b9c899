//! Sends each request where its path belongs.

use async_trait::async_trait;
use clap::Parser;
use edge::program::{self, Program};
use edge::upstreams::target::Target;
use edge::upstreams::{Health, Tried, Upstreams};
use pingora_core::upstreams::peer::HttpPeer;
use pingora_core::{Error, HTTPStatus, Result};
use pingora_http::ResponseHeader;
use pingora_proxy::{ProxyHttp, Session};
use std::collections::BTreeMap;
use std::process::ExitCode;

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
    upstreams: Upstreams,
}

impl Route {
    /// The prefix and the peers that a route is written with.
    fn parse(text: &str) -> Result<(String, Vec<HttpPeer>), String> {
        let (prefix, address) = text
            .split_once('=')
            .filter(|(prefix, _)| prefix.starts_with('/'))
            .ok_or_else(|| format!("bad route '{text}': write /PREFIX=ADDR"))?;
        let target: Target = address.parse()?;
        if target.tls() == Some(true) {
            return Err(format!(
                "bad route '{text}': this example has no TLS to upstreams"
            ));
        }
        let addresses = target.addresses()?;
        let peers = addresses.iter().map(|address| target.peer(address, None));
        let prefix = prefix.trim_end_matches('/').into();
        Ok((prefix, peers.collect::<Result<_, _>>()?))
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

/// The place of the route that a request takes, and which of its upstreams were tried.
#[derive(Default)]
struct Taken {
    route: usize,
    tried: Tried,
}

impl Gateway {
    fn upstreams(&self, taken: &Taken) -> &Upstreams {
        &self.routes[taken.route].upstreams
    }
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
        let Some(route) = self.routes.iter().position(|route| route.is_for(path)) else {
            return Error::e_explain(HTTPStatus(404), "no route for this path");
        };
        taken.route = route;
        self.routes[route].upstreams.pick(&mut taken.tried)
    }

    fn fail_to_connect(
        &self,
        _: &mut Session,
        _: &HttpPeer,
        taken: &mut Taken,
        e: Box<Error>,
    ) -> Box<Error> {
        self.upstreams(taken).connect_failed(&mut taken.tried, e)
    }

    async fn upstream_response_filter(
        &self,
        _: &mut Session,
        _: &mut ResponseHeader,
        taken: &mut Taken,
    ) -> Result<()> {
        self.upstreams(taken).answered(&taken.tried);
        Ok(())
    }

    fn error_while_proxy(
        &self,
        peer: &HttpPeer,
        session: &mut Session,
        e: Box<Error>,
        taken: &mut Taken,
        reused: bool,
    ) -> Box<Error> {
        let upstreams = self.upstreams(taken);
        upstreams.exchange_failed(&mut taken.tried, session, peer, e, reused)
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
        upstreams: Upstreams::new(peers, Health::default()),
    };
    let mut routes: Vec<Route> = servers.into_iter().map(route).collect();
    routes.sort_by_key(|route| std::cmp::Reverse(route.prefix.len()));
    program.run_proxy(Gateway { routes })
}

fn main() -> ExitCode {
    program::exit("gateway", run(&Args::parse()))
}
