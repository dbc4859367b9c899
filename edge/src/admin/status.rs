//! The state of the process as one document.

use std::time::{SystemTime, UNIX_EPOCH};

use serde_json::{json, Value};

use super::Admin;
use crate::live::{Outcome, Reload, Running};

impl Admin {
    /// Returns all that the dashboard shows. Counts only grow: rates are differences between two documents.
    pub(super) fn status(&self, running: &Running) -> Value {
        let (taken, refused) = self.reloader.history().counts();
        json!({
            "version": env!("CARGO_PKG_VERSION"),
            "process": std::process::id(),
            "now_ms": milliseconds(SystemTime::now()),
            "started_ms": milliseconds(self.since),
            "uptime_ms": u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX),
            "draining": self.live.is_draining(),
            "listeners": running.plan.listeners.iter().map(|listener| json!({
                "address": listener.address.to_string(),
                "tls": listener.tls,
            })).collect::<Vec<_>>(),
            "workers": self.workers(),
            "configuration": {
                "file": self.reloader.file().map(|file| file.to_string_lossy()),
                "generation": running.generation,
                "taken": taken,
                "refused": refused,
                "reloads": self.reloader.history().last().iter().map(|r| reload(r)).collect::<Vec<_>>(),
            },
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
            "file": self.reloader.file().map(|file| file.to_string_lossy()),
            "generation": running.generation,
            "yaml": &*running.shown,
        })
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
