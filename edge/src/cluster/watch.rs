//! The task beside the requests of a cluster: names are looked up, servers checked, and circuit breakers
//! opened.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::oneshot;

use super::endpoint::{Endpoint, OPEN};
use super::{check, names, Cluster};
use crate::config::model::CircuitBreaker;

/// The looks at the counts in one window of a circuit breaker.
const LOOKS: u32 = 10;

/// Does what is to be done for a cluster, for as long as the future is polled. `known` is told when all names were looked
/// up once, with whatever result.
pub(crate) async fn watch(cluster: Arc<Cluster>, known: oneshot::Sender<()>) {
    let names = async {
        if cluster.has_names() {
            names::follow(&cluster, known).await;
        } else {
            // Who waited may have given up.
            let _ = known.send(());
        }
    };
    let breaker = async {
        if let Some(breaker) = &cluster.breaker {
            judge(&cluster, breaker).await;
        }
    };
    let checks = async {
        if let Some(health) = &cluster.health {
            check::follow(&cluster, health).await;
        }
    };
    futures::future::join3(names, breaker, checks).await;
}

/// The counts of a server at the looks of the last window, the oldest first.
struct Seen {
    endpoint: Arc<Endpoint>,
    counts: VecDeque<(u64, u64)>,
    /// The last look at which it was there.
    at: u64,
}

/// Opens the circuit breakers of servers whose requests fail.
async fn judge(cluster: &Cluster, breaker: &CircuitBreaker) {
    let mut looks = tokio::time::interval((breaker.window / LOOKS).max(Duration::from_millis(1)));
    looks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    // By their places in memory, which they keep as long as they are here.
    let mut seen: HashMap<usize, Seen> = HashMap::new();
    for at in 0u64.. {
        looks.tick().await;
        let (members, _) = cluster.members();
        for member in members.iter() {
            let place = Arc::as_ptr(&member.endpoint).addr();
            let seen = seen.entry(place).or_insert_with(|| Seen {
                endpoint: member.endpoint.clone(),
                counts: VecDeque::new(),
                at,
            });
            seen.at = at;
            if let Some((failed, total)) = seen.look(breaker) {
                let pause = cluster.rules.open_for;
                let why = format!(
                    "{failed} of {total} requests failed within {:?}",
                    breaker.window
                );
                if let Some(pause) = member.endpoint.leave_alone(OPEN, pause, why.clone()) {
                    let address = &member.address;
                    log::warn!("server {address}: the circuit breaker opens for {pause:?}: {why}");
                }
            }
        }
        seen.retain(|_, seen| seen.at == at);
    }
}

impl Seen {
    /// Looks at the counts; returns the failed and all requests of the window if they are too many.
    fn look(&mut self, breaker: &CircuitBreaker) -> Option<(u64, u64)> {
        let sum = self
            .endpoint
            .counts()
            .iter()
            .fold((0u64, 0u64), |sum, counts| {
                (
                    sum.0.wrapping_add(counts.failed()),
                    sum.1.wrapping_add(counts.total()),
                )
            });
        if self.endpoint.flags() & OPEN != 0 {
            // What was before counts no more when it is closed.
            self.counts.clear();
        }
        self.counts.push_back(sum);
        if self.counts.len() > LOOKS as usize + 1 {
            self.counts.pop_front();
        }
        let first = self.counts.front()?;
        let (failed, total) = (sum.0.wrapping_sub(first.0), sum.1.wrapping_sub(first.1));
        // A request that began before the window may fail within it.
        let judged = total.max(failed);
        let too_many = failed > 0
            && judged >= u64::from(breaker.min_requests)
            && failed.saturating_mul(10_000)
                >= judged.saturating_mul(u64::from(breaker.error_rate.value.hundredths()));
        too_many.then_some((failed, judged))
    }
}
