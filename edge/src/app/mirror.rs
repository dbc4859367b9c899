//! Copies of requests for other servers.
//!
//! The part of the body that a copy needs is kept as it passes, without another copy in memory. It is sent when the request has
//! ended, by a task of the same worker, so that the request waits for nothing.

use std::cell::RefCell;
use std::collections::HashMap;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::sync::{Arc, OnceLock};

use bytes::{Bytes, BytesMut};
use http::header::{
    CONNECTION, EXPECT, PROXY_AUTHORIZATION, TE, TRAILER, TRANSFER_ENCODING, UPGRADE,
};
use http::{HeaderName, Method};
use pingora_core::connectors::http::Connector;
use pingora_core::Result;
use pingora_http::RequestHeader;
use pingora_proxy::Session;

use super::exchange::Exchange;
use super::headers::join_cookies;
use super::Ctx;
use crate::live::{Lease, Live};
use crate::observe::{Handle, MirrorUse, RouteCounts};
use crate::plan::asks_for_websocket;
use crate::plan::mirror::Mirror;
use crate::plan::observe::is_in;

/// Bytes of the answer to a copy that are read, so that its connection can be kept; it is closed after more.
const ANSWER: usize = 256 << 10;

/// Fields of the connection of the request.
const OF_CONNECTION: [HeaderName; 9] = [
    CONNECTION,
    EXPECT,
    PROXY_AUTHORIZATION,
    TE,
    TRAILER,
    TRANSFER_ENCODING,
    UPGRADE,
    HeaderName::from_static("keep-alive"),
    HeaderName::from_static("proxy-connection"),
];

thread_local! {
    /// The copies under way, by the id of their cluster.
    static IN_FLIGHT: RefCell<HashMap<u64, Arc<AtomicU32>>> = RefCell::default();
    /// This worker's own reference to what its tasks share: counting it writes nothing that others do.
    static OWN: RefCell<Option<Arc<Side>>> = const { RefCell::new(None) };
}

/// The state that tasks beside requests need.
struct Side {
    live: Arc<Live>,
    connector: Arc<OnceLock<Connector>>,
}

impl Side {
    fn own(live: &Arc<Live>, connector: &Arc<OnceLock<Connector>>) -> Arc<Self> {
        OWN.with_borrow_mut(|own| match own {
            Some(own) if Arc::ptr_eq(&own.live, live) => own.clone(),
            _ => {
                let (live, connector) = (live.clone(), connector.clone());
                own.insert(Arc::new(Self { live, connector })).clone()
            }
        })
    }
}

/// The body of a request that is copied.
#[derive(Default)]
pub(super) struct Copied {
    parts: Vec<Bytes>,
    size: u64,
}

impl Copied {
    /// Decides whether a request is copied.
    pub(super) fn begin(mirror: &Mirror, live: &Live, session: &Session) -> Option<Box<Self>> {
        let head = session.req_header();
        // Other upgrades are not passed on: `curl --http2` offers one with each request.
        let websocket = asks_for_websocket(&head.headers);
        let tunnel = head.method == Method::CONNECT || (websocket && session.is_upgrade_req());
        let number = live.with(|worker| worker.random.next());
        (!tunnel && is_in(Some(mirror.share), number)).then(Box::default)
    }

    /// Keeps a part of the body, as long as all of it is not too long.
    pub(super) fn add(&mut self, part: &Option<Bytes>, most: u64) {
        let Some(part) = part else { return };
        self.size = self.size.saturating_add(part.len() as u64);
        if self.size > most {
            self.parts = Vec::new();
        } else {
            self.parts.push(part.clone());
        }
    }

    /// Begins anew, for another try of the request, whose body passes again.
    pub(super) fn restart(&mut self) {
        *self = Self::default();
    }

    fn join(mut self) -> Option<Bytes> {
        match self.parts.len() {
            0 => None,
            1 => self.parts.pop(),
            _ => {
                let mut whole = BytesMut::new();
                self.parts
                    .iter()
                    .for_each(|part| whole.extend_from_slice(part));
                Some(whole.freeze())
            }
        }
    }
}

/// A place among the copies under way. The runtime may end one on another thread (`work_stealing`).
struct CopyPermit(Arc<AtomicU32>);

impl CopyPermit {
    fn of(cluster: u64, most: u32) -> Option<Self> {
        IN_FLIGHT.with_borrow_mut(|all| {
            if !all.contains_key(&cluster) {
                // Those of a reload ago.
                all.retain(|_, open| Arc::strong_count(open) > 1);
            }
            let open = all.entry(cluster).or_default();
            if open.load(Relaxed) >= most {
                return None;
            }
            open.fetch_add(1, Relaxed);
            Some(Self(open.clone()))
        })
    }
}

impl Drop for CopyPermit {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Relaxed);
    }
}

/// Sends the copy of a request that has ended, if it is whole and has a place. It is counted in any case.
pub(super) fn send(
    live: &Arc<Live>,
    connector: &Arc<OnceLock<Connector>>,
    session: &mut Session,
    ctx: &mut Ctx,
) {
    let Some(copied) = ctx.copied.take() else {
        return;
    };
    let (site, route) = ctx.at;
    let Some(mirror) = ctx.running.plan.sites[site].routes[route].mirror.as_ref() else {
        return;
    };
    let counts = ctx.counting.route();
    let whole = session.is_body_done() && session.body_bytes_read() as u64 == copied.size;
    let place = CopyPermit::of(
        ctx.running.clusters[mirror.cluster].id(),
        mirror.max_in_flight,
    );
    let head = head(session.req_header(), copied.size);
    let (true, Some(place), Ok(head)) = (whole && copied.size <= mirror.max_body, place, head)
    else {
        counts.with(|m| m.mirrored.count(MirrorUse::Dropped));
        return;
    };
    let running = if live.is_current(&ctx.running) {
        live.lease()
    } else {
        Lease::of(ctx.running.share())
    };
    let (side, mirror) = (Side::own(live, connector), Mirror::clone(mirror));
    let body = copied.join();
    tokio::spawn(async move {
        let _held = place;
        copy(&side, &running, &mirror, &head, body, counts).await;
    });
}

async fn copy(
    side: &Side,
    running: &Lease,
    mirror: &Mirror,
    head: &RequestHeader,
    body: Option<Bytes>,
    counts: Handle<RouteCounts>,
) {
    let exchange = Exchange::once_only(&side.live, running, mirror.cluster);
    let connector = side.connector.get_or_init(|| Connector::new(None));
    let asked = exchange.ask(connector, head, body.as_ref(), ANSWER, mirror.timeout);
    let what = match asked.await {
        Ok(_) => MirrorUse::Sent,
        Err(e) => {
            log::debug!("mirror: {e}");
            MirrorUse::Failed
        }
    };
    counts.with(|m| m.mirrored.count(what));
}

/// Makes the head of a copy: that which went upstream, without what is of its connection.
fn head(head: &RequestHeader, size: u64) -> Result<RequestHeader> {
    let mut copy = head.clone();
    let named = copy.headers.get_all(CONNECTION).iter();
    let named = named.flat_map(|line| line.as_bytes().split(|b| *b == b','));
    let named = named.filter_map(|name| HeaderName::from_bytes(name.trim_ascii()).ok());
    let named: Vec<_> = named.collect();
    for name in named.iter().chain(&OF_CONNECTION) {
        copy.remove_header(name);
    }
    if size > 0 {
        copy.insert_header(http::header::CONTENT_LENGTH, size)?;
    }
    join_cookies(&mut copy)?;
    copy.set_version(http::Version::HTTP_11);
    if !copy.headers.contains_key(http::header::HOST) {
        if let Some(authority) = head.uri.authority() {
            copy.insert_header(http::header::HOST, authority.as_str())?;
        }
    }
    Ok(copy)
}
