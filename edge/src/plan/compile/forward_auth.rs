//! Another service that decides about requests.

use super::Compiler;
use crate::config::model;
use crate::config::At;
use crate::plan::forward_auth::ForwardAuth;

impl Compiler<'_> {
    pub(super) fn forward_auth(&mut self, auth: &model::ForwardAuth) -> Option<ForwardAuth> {
        if !auth.enabled {
            return None;
        }
        let Some(to) = &auth.to else {
            let message = "`forward_auth` needs `to`, the servers of the service";
            self.errors.at(auth.place, message);
            return None;
        };
        let path = auth.path.as_ref().map_or("/", |path| &path.0);
        for At { place, value } in &auth.upstream_headers {
            self.check_header(value, *place);
        }
        Some(ForwardAuth {
            cluster: self.side_cluster(to),
            host: to.to.first().map_or_else(String::new, host),
            path: path.to_owned(),
            request: auth.request_headers.clone(),
            upstream: auth
                .upstream_headers
                .iter()
                .map(|name| name.value.clone())
                .collect(),
            response: auth.response_headers.clone(),
            timeout: auth.timeout,
        })
    }

    /// Returns the index of the cluster of requests that are the proxy's own.
    pub(super) fn side_cluster(&mut self, to: &model::Proxy) -> usize {
        let mut wrong = |what: &str, place| {
            let message = format!("`{what}` is for the requests of a route");
            self.errors.at(place, message);
        };
        if let Some(cache) = &to.cache {
            wrong("cache", cache.place);
        }
        if let Some(sticky) = &to.sticky {
            wrong("sticky", sticky.place);
        }
        if let Some(retries) = &to.retries {
            wrong("retries", retries.place);
        }
        if let Some(queue) = &to.queue {
            wrong("queue", queue.place);
        }
        if let Some(hash_by) = &to.hash_by {
            wrong("hash_by", hash_by.place);
        }
        self.cluster(to)
    }
}

/// Returns the value of Host for a server.
fn host(server: &model::Endpoint) -> String {
    server.address.value.host()
}
