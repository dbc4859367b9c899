//! Questions of the proxy to a session besides its public API and the exchange itself.

use std::sync::Arc;
use std::task::Context;
use std::time::Duration;

use http::HeaderMap;
use log::debug;
use pingora_error::{Error, Result};

use super::{refusal_status, RefusedRequest, ReusableHttpStream, Session};
use crate::exchange::custom::{driver, driver_of, Driver};
use crate::exchange::ServerHooks;
use crate::protocols::http::client::HttpSession;
use crate::shutdown::Registry;

impl ServerHooks for Session {
    fn wait_in(&mut self, registry: &Arc<Registry>, read_timeout: Duration) {
        match self {
            Session::H1(s) => s.wait_in(registry, read_timeout),
            Session::Custom(s) => drop(driver(s)),
            Session::H2(_) | Session::Subrequest(_) => {}
        }
    }

    fn swap_timer<S>(&mut self, upstream: &mut HttpSession<S>) {
        let own = match self {
            Session::H1(s) => s.timer(),
            Session::H2(s) => s.timer(),
            Session::Subrequest(s) => s.timer(),
            Session::Custom(_) => return,
        };
        match upstream {
            HttpSession::H1(s) => std::mem::swap(own, s.timer()),
            HttpSession::H2(s) => std::mem::swap(own, s.timer()),
            HttpSession::Custom(_) => {}
        }
    }

    #[inline]
    fn check_host(&self) -> Result<()> {
        h1!(self, s => s.check_host(), else Ok(()))
    }

    fn is_shutting_down(&self) -> bool {
        Session::is_shutting_down(self)
    }

    fn is_reused(&self) -> bool {
        match self {
            Session::H1(s) => s.is_reused(),
            Session::H2(_) => true,
            Session::Subrequest(_) | Session::Custom(_) => false,
        }
    }

    fn has_begun(&self) -> bool {
        h1!(self, s => s.has_begun(), else true)
    }

    fn poll_has_request(&mut self, cx: &mut Context<'_>) -> bool {
        h1!(self, s => s.poll_has_request(cx), else true)
    }

    fn finish_at_once(self) -> std::result::Result<ReusableHttpStream, Self> {
        match self {
            Session::H1(s) => s.reuse_at_once().map_err(Session::H1),
            other => Err(other),
        }
    }

    fn is_extended_connect(&self) -> bool {
        match self {
            Session::H2(s) => s.is_extended_connect(),
            Session::H1(_) | Session::Subrequest(_) | Session::Custom(_) => false,
        }
    }

    fn is_request_broken(&self) -> bool {
        match self {
            Session::H1(s) => s.is_request_broken(),
            Session::H2(s) => s.is_request_broken(),
            Session::Subrequest(s) => s.is_request_broken(),
            Session::Custom(_) => false,
        }
    }

    fn request_trailers(&self) -> Option<&HeaderMap> {
        match self {
            Session::H1(s) => s.request_trailers(),
            Session::H2(s) => s.request_trailers(),
            Session::Subrequest(s) => s.request_trailers(),
            Session::Custom(_) => None,
        }
    }

    fn note_failure(&mut self, e: &Error) {
        match self {
            Session::H1(s) => s.note_failure(e),
            Session::H2(s) => s.note_failure(e),
            Session::Subrequest(_) | Session::Custom(_) => {}
        }
    }

    async fn refuse(&mut self, e: &Error, tell: impl FnOnce(&mut RefusedRequest<'_>)) {
        let Some(status) = refusal_status(e) else {
            debug!("connection closed: {e}");
            return;
        };
        debug!("request refused with {status}: {e}");
        let answer = RefusedRequest::of_session(e, self, status).told(tell);
        let Some((head, body)) = answer.into_response() else {
            return;
        };
        if let Err(e) = self.write_error_response(head, body).await {
            debug!("cannot tell the client: {e}");
        }
    }

    async fn close(mut self) {
        match self {
            Session::H1(s) => s.close().await,
            Session::H2(mut s) => {
                if s.is_within_response() {
                    // With a reset `h2` forgets what it has not written. Its turn comes first, so that the client is told
                    // what there was, and not only that there is no more.
                    tokio::task::yield_now().await;
                }
                s.shutdown();
            }
            Session::Custom(mut s)
                if driver_of(s.as_ref()).is_some_and(Driver::has_whole_response) =>
            {
                if let Err(e) = s.finish().await {
                    debug!("the end of a custom session: {e}");
                }
            }
            _ => self.shutdown().await,
        }
    }
}
