//! The state of the process as one document.

use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use serde_json::{json, Value};

use super::Admin;
use crate::cache;
use crate::live::{Outcome, Reload, Running};
use crate::observe::histogram;
use crate::observe::snapshot::{Snapshot, Traffic};

/// Sites, and routes of each, that a document tells of: those with the most requests.
const MOST: usize = 200;

impl Admin {
    /// Returns all that the dashboard shows. Counts only grow: rates are differences between two documents.
    pub(super) fn status(&self, running: &Running) -> Value {
        let mut snapshot = self.live.snapshot();
        let total = total(&snapshot);
        shorten(&mut snapshot);
        json!({
            "version": env!("CARGO_PKG_VERSION"),
            "pid": std::process::id(),
            "now_ms": milliseconds(SystemTime::now()),
            "started_ms": milliseconds(self.since),
            "uptime_ms": u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX),
            "draining": self.live.is_draining(),
            "token": running.plan.admin.as_ref().is_some_and(|admin| admin.token.is_some()),
            "listeners": running.plan.listeners.iter().map(|listener| json!({
                "address": listener.address.to_string(),
                "tls": listener.tls,
            })).collect::<Vec<_>>(),
            "workers": self.workers(),
            "cache": cached(),
            "total": total,
            "duration_bounds": histogram::seconds().collect::<Vec<_>>(),
            "clusters": running.cluster_states(),
            "snapshot": snapshot,
            "configuration": self.configuration(running),
        })
    }

    fn configuration(&self, running: &Running) -> Value {
        let history = self.reloader.history();
        let (taken, refused) = history.counts();
        json!({
            "file": self.reloader.source().file().map(Path::to_string_lossy),
            "generation": running.generation,
            "taken": taken,
            "refused": refused,
            "reloads": history.last().iter().map(|one| reload(one)).collect::<Vec<_>>(),
        })
    }

    fn workers(&self) -> Vec<Value> {
        let workers = self.workers.per_worker();
        let of = |worker: &pingora_core::listeners::WorkerCounts| {
            json!({
                "connections": worker.open,
                "accepted": worker.accepted,
                "refused": worker.failed,
            })
        };
        workers.iter().map(of).collect()
    }

    /// Returns the effective configuration, without its secrets.
    pub(super) fn config(&self, running: &Running) -> Value {
        json!({
            "file": self.reloader.source().file().map(Path::to_string_lossy),
            "generation": running.generation,
            "yaml": &*running.shown,
        })
    }
}

/// Returns the size of the cache; nothing where no route uses it.
fn cached() -> Value {
    let figures = cache::figures();
    if figures.limit == 0 {
        return Value::Null;
    }
    json!({
        "bytes": figures.bytes,
        "max_bytes": figures.limit,
        "entries": figures.entries,
        "evictions": figures.evictions,
    })
}

/// Returns the requests of all sites, and those of none.
fn total(snapshot: &Snapshot) -> Traffic {
    let mut total = snapshot.no_site.clone();
    for site in &snapshot.sites {
        total.add(&site.total);
    }
    total
}

/// Leaves out what nobody would find among so much.
fn shorten(snapshot: &mut Snapshot) {
    let requests = |traffic: &Traffic| std::cmp::Reverse(traffic.requests.sum());
    if snapshot.sites.len() > MOST {
        snapshot.sites.sort_by_key(|site| requests(&site.total));
        snapshot.sites.truncate(MOST);
    }
    for site in &mut snapshot.sites {
        site.routes.retain(|route| route.traffic.requests.sum() > 0);
        if site.routes.len() > MOST {
            site.routes.sort_by_key(|route| requests(&route.traffic));
            site.routes.truncate(MOST);
        }
    }
}

/// Returns what came of a reload.
pub(super) fn reload(reload: &Reload) -> Value {
    let (diff, problems) = match &reload.outcome {
        Outcome::Taken { diff } => (Some(diff), &[][..]),
        Outcome::Refused { problems } => (None, &problems[..]),
    };
    json!({
        "number": reload.number,
        "time_ms": milliseconds(reload.time),
        "trigger": reload.trigger,
        "took_us": u64::try_from(reload.took.as_micros()).unwrap_or(u64::MAX),
        "ok": reload.outcome.is_taken(),
        "diff": diff,
        "errors": problems,
    })
}

fn milliseconds(time: SystemTime) -> u64 {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}
