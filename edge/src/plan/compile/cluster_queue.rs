//! The queue of a cluster, and the maximum of connections.

use super::Compiler;
use crate::config::{model, At};

impl Compiler<'_> {
    pub(super) fn check_queue(&mut self, proxy: &model::Proxy) {
        let Some(queue) = &proxy.queue else { return };
        let served = proxy.to.iter().filter(|endpoint| endpoint.weight > 0);
        if served
            .clone()
            .any(|endpoint| endpoint.max_requests.is_none() && endpoint.max_connections.is_none())
        {
            self.errors.at(
                queue.place,
                "no request would ever wait: a server has no `max_requests` and no `max_connections`, and so takes every one",
            );
        }
    }

    /// The connections of a server are those of the whole process, and so is their maximum.
    pub(super) fn check_connections(&mut self, proxy: &model::Proxy) {
        for endpoint in proxy.to.iter().filter(|endpoint| endpoint.weight > 0) {
            let At { place, value } = &endpoint.address;
            let max = endpoint.max_connections.map(|max| max.0);
            let first = self.connections.entry(value.clone());
            let (known, first) = *first.or_insert((max, *place));
            if known != max {
                let first = self.sources.name(first);
                self.errors.at(
                    *place,
                    format!("`max_connections` of the server `{value}` is another one, or none, at {first}, and holds for all of the process"),
                );
            }
        }
    }
}
