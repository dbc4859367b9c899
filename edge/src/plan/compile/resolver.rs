//! The servers that are asked for names.

use std::time::Duration;

use super::Compiler;
use crate::config::model::Root;
use crate::config::section::Scalar;
use crate::plan::Resolver;

/// The shortest time between two questions for the same name.
const SHORTEST: Duration = Duration::from_secs(1);

impl Compiler<'_> {
    /// Compiles how names are looked up.
    pub(super) fn resolver(&mut self, root: &Root) -> Resolver {
        let Some(resolver) = &root.resolver else {
            return Resolver::default();
        };
        let (min_ttl, max_ttl) = (resolver.min_ttl, resolver.max_ttl);
        if min_ttl < SHORTEST {
            let message = format!("`min_ttl` is {}, and at least 1s", min_ttl.show());
            self.errors.at(resolver.place, message);
        }
        if max_ttl < min_ttl {
            let (min, max) = (min_ttl.show(), max_ttl.show());
            let message = format!("`max_ttl` is {max}, which is shorter than `min_ttl`, {min}");
            self.errors.at(resolver.place, message);
        }
        Resolver {
            servers: resolver.servers.iter().map(|server| server.0).collect(),
            timeout: resolver.timeout,
            attempts: resolver.attempts.map(|attempts| attempts.0),
            min_ttl,
            max_ttl,
        }
    }
}
