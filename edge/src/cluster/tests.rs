//! Clusters and workers, without sockets.

#![allow(clippy::unwrap_used)]

mod balance;
mod flapping;
mod limited;
mod state;

use std::path::Path;
use std::time::Duration;

use http::StatusCode;
use pingora_core::Error;
use pingora_core::ErrorType::{ConnectionClosed, SocketError};

use super::*;
use crate::config::{self, OneFile};
use crate::plan::Plan;

/// A cluster, and workers that know it. No chance is in it: the clock goes when [`told`](clock::told), and what is drawn is
/// the same each time.
struct Scene {
    plan: Plan,
    cluster: Arc<Cluster>,
    workers: Vec<Worker>,
    _stopped: clock::told::Stopped,
}

struct Worker {
    local: Option<Local>,
    random: Random,
    slots: Slots,
}

/// A request, and the server that it was given.
struct Given {
    worker: usize,
    port: u16,
    tried: Tried,
}

fn compile(proxy: &str) -> Plan {
    compile_routes(&format!("{{proxy: {proxy}}}"))
}

fn compile_routes(routes: &str) -> Plan {
    let text = format!("listen: 127.0.0.1:80\nsites: {{routes: {routes}}}\n");
    let config = config::load(Path::new("edge.yaml"), &OneFile(text)).unwrap();
    Plan::compile(&config).unwrap()
}

impl Scene {
    /// Makes a cluster of a `proxy` action.
    fn of(proxy: &str, workers: usize) -> Self {
        let plan = compile(proxy);
        let stopped = clock::told::stop();
        let cluster = clusters(&plan, &[]).unwrap().remove(0);
        let worker = |n| Worker {
            local: None,
            random: Random::seeded(n as u64),
            slots: Slots::default(),
        };
        let workers = (0..workers).map(worker).collect();
        Self {
            plan,
            cluster,
            workers,
            _stopped: stopped,
        }
    }

    /// Has another `proxy` action take its place, as a reload does.
    fn reload(&mut self, proxy: &str) {
        self.plan = compile(proxy);
        let before = [self.cluster.clone()];
        self.cluster = clusters(&self.plan, &before).unwrap().remove(0);
        self.cluster.take_effect();
        for worker in &mut self.workers {
            if let Some(local) = worker.local.take() {
                local.leave(&mut worker.slots);
            }
        }
    }

    fn with<T>(
        &mut self,
        worker: usize,
        f: impl FnOnce(&Cluster, &mut Local, &mut Hands<'_>) -> T,
    ) -> T {
        let Worker {
            local,
            random,
            slots,
        } = &mut self.workers[worker];
        let mut hands = Hands { random, slots };
        let local = local.get_or_insert_with(|| Local::of(&self.cluster, &mut hands));
        local.refresh(&self.cluster, &mut hands);
        f(&self.cluster, local, &mut hands)
    }

    /// Has a worker give a request to a server; the status when none takes it.
    fn pick(&mut self, worker: usize) -> Result<Given, String> {
        self.pick_again(Given {
            worker,
            port: 0,
            tried: Tried::default(),
        })
    }

    fn pick_by(&mut self, worker: usize, by: HashBy) -> Result<Given, String> {
        let given = Given {
            worker,
            port: 0,
            tried: Tried::default(),
        };
        self.give(given, by)
    }

    fn pick_again(&mut self, given: Given) -> Result<Given, String> {
        self.give(given, HashBy::default())
    }

    fn give(&mut self, mut given: Given, by: HashBy) -> Result<Given, String> {
        let picked = self.with(given.worker, |cluster, local, hands| {
            local.pick(cluster, &mut given.tried, by, false, hands)
        });
        let Pick::Peer(peer) = picked.map_err(|e| e.etype.as_str().to_owned())? else {
            return Err("full".to_owned());
        };
        given.port = peer._address.as_inet().unwrap().port();
        Ok(given)
    }

    /// Has the server of a request answer, so long after the clock was put forward last.
    fn answer_after(&mut self, took: Duration, given: &Given) {
        clock::told::pass(took);
        self.answer(given, 200);
    }

    fn answer(&mut self, given: &Given, status: u16) {
        let status = StatusCode::from_u16(status).unwrap();
        self.with(given.worker, |cluster, local, hands| {
            local.answered(cluster, &given.tried, status, hands.slots);
        });
    }

    fn fail(&mut self, given: &mut Given) -> bool {
        self.fail_by(given, &Error::new_up(ConnectionClosed))
    }

    fn fail_by(&mut self, given: &mut Given, e: &Error) -> bool {
        self.with(given.worker, |cluster, local, hands| {
            local.failed(cluster, &mut given.tried, hands.slots, e)
        })
    }

    fn end(&mut self, mut given: Given) {
        given.tried.release(&mut self.workers[given.worker].slots);
    }

    /// Has a worker give a request to a server that answers with this status, and returns the port of that.
    fn request(&mut self, worker: usize, status: u16) -> Result<u16, String> {
        let given = self.pick(worker)?;
        self.answer(&given, status);
        let port = given.port;
        self.end(given);
        Ok(port)
    }

    fn states(&self) -> Vec<EndpointState> {
        self.cluster.state(&self.plan.clusters[0]).endpoints
    }

    fn statuses(&self) -> Vec<EndpointStatus> {
        self.states().iter().map(|state| state.status).collect()
    }
}
