//! The HTTP reverse proxy.
//!
//! An application implements [`ProxyHttp`]: where a request goes, and what happens to it on the way.
//! [`http_proxy_service`] makes a service of it.
//!
//! | module | what is in it |
//! |---|---|
//! | `proxy`, `service` | the proxy as an application, and how it is built |
//! | `flow` | the life of a request: its phases in order, retry, the end, shutdown |
//! | `pipeline` | what filters and modules make of each message |
//! | `duplex` | both directions of an exchange, in one loop |
//! | `upstream` | what answers a request, where it is more than a session |
//! | `subrequest` | requests that the proxy makes to itself on behalf of another one |
//! | `request_policy`, `range`, `error_status` | rules, without I/O |

#![cfg_attr(test, allow(clippy::unwrap_used))]

mod duplex;
mod error_status;
mod flow;
mod pipeline;
mod proxy;
mod proxy_trait;
mod range;
mod request_policy;
mod service;
mod session;
pub mod subrequest;
mod upstream;

pub use error_status::error_status;
pub use proxy::{http_proxy, HttpProxy, ProcessCustomSession};
pub use proxy_trait::{FailToProxy, ProxyHttp, ProxyWarnLogContext, PurgeStatus};
pub use range::{range_header_filter, MultiRangeInfo, RangeType};
pub use service::{
    http_proxy_service, http_proxy_service_with_name, http_proxy_service_with_name_custom,
    ProxyServiceBuilder,
};
pub use session::Session;
pub use subrequest::spawner::{PreparedSubrequest, Subrequest, SubrequestSpawner};

/// The imports of most proxies.
pub mod prelude {
    pub use crate::{http_proxy, http_proxy_service, ProxyHttp, ProxyWarnLogContext, Session};
}

/// Entry points for fuzz targets alone.
#[cfg(fuzzing)]
pub mod fuzzing {
    /// Plays an exchange without sockets by a script, and panics when a byte or a wake-up is lost.
    pub fn duplex(script: &[u8]) {
        crate::duplex::script::fuzz(script);
    }
}
