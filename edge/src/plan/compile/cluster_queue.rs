//! The queue of a cluster.

use super::Compiler;
use crate::config::model;

impl Compiler<'_> {
    pub(super) fn check_queue(&mut self, proxy: &model::Proxy) {
        let Some(queue) = &proxy.queue else { return };
        let served = proxy.to.iter().filter(|endpoint| endpoint.weight > 0);
        if served
            .clone()
            .any(|endpoint| endpoint.max_requests.is_none())
        {
            self.errors.at(
                queue.place,
                "no request would ever wait: a server has no `max_requests`, and so takes every one",
            );
        }
    }
}
