//! Copies of requests for other servers.

use super::Compiler;
use crate::config::model;
use crate::plan::mirror::Mirror;

impl Compiler<'_> {
    /// Compiles the mirror of a route, if it has one.
    pub(super) fn mirror(&mut self, route: &model::Route) -> Option<Box<Mirror>> {
        let mirror = route.mirror.as_ref()?;
        if route.proxy.is_none() {
            let message = "`mirror` is for what goes upstream, and this route has no `proxy`";
            self.errors.at(mirror.place, message);
        }
        Some(Box::new(Mirror {
            cluster: self.side_cluster(&mirror.to),
            share: mirror.share,
            max_body: mirror.max_body.0,
            max_in_flight: mirror.max_in_flight.0,
            timeout: mirror.timeout,
        }))
    }
}
