//! Self-observation: counters, and what is made of them.
//!
//! # Counting
//!
//! A [`Series`] is a set of counters with a block in each thread that counts; see there for why it costs a request no
//! shared write. There are series for
//!
//! - each route, and for requests that no route took ([`PlanSeries`], a part of the generation that runs):
//!   `running.series.route(site, route).with(|m| m.retries.add(1))`;
//! - each server of a cluster at each of its addresses;
//! - the workers: `observe::worker(|m| m.refused.add(1))`.
//!
//! Series live as long as somebody holds them: a reload keeps those of sites and routes that stay, by their names, and
//! the others go with the generation that they belong to.
//!
//! # Reading
//!
//! `Live::snapshot` adds all of it up into a [`Snapshot`], off the path of requests.

pub mod cell;
pub mod counts;
pub mod histogram;
pub(crate) mod log;
mod plan;
mod process;
pub mod prometheus;
pub mod series;
pub mod snapshot;
mod thread;
pub(crate) mod trace;

use std::sync::LazyLock;

pub use counts::{
    CacheUse, Class, EndpointCounts, Failure, HandshakeCounts, Limit, MirrorUse, RouteCounts,
    TlsVersion, WorkerCounts,
};
pub use plan::{PlanSeries, RouteSeries, SiteSeries};
pub use process::{add_accepts, reload_failed, reloaded};
pub use prometheus::prometheus;
pub use series::{Handle, Series};
pub use snapshot::Snapshot;

static WORKERS: LazyLock<Series<WorkerCounts>> = LazyLock::new(Series::default);
/// Apart from the workers, as handshakes may have threads of their own.
static HANDSHAKES: LazyLock<Series<HandshakeCounts>> = LazyLock::new(Series::default);

/// Lends the counters of the calling worker.
#[inline]
pub fn worker(count: impl Fn(&WorkerCounts)) {
    WORKERS.with(count);
}

/// Counts a handshake of TLS with a client.
pub fn handshake(version: TlsVersion, resumed: bool) {
    HANDSHAKES.with(|m| {
        m.handshakes.count(version);
        m.resumed.add(u64::from(resumed));
    });
}
