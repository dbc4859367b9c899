//! The spawner by which a request makes further requests.

use std::sync::Arc;

use async_trait::async_trait;
use pingora_core::protocols::http::subrequest::server::{HttpSession, SubrequestHandle};
use pingora_core::protocols::http::ServerSession;
use tokio::task::JoinHandle;

use super::{BodyMode, Ctx};

/// An application that serves subrequests, as [`HttpProxy`](crate::HttpProxy) does.
#[async_trait]
pub trait Subrequest {
    /// Serves a subrequest, to the end of its response.
    async fn process_subrequest(
        self: Arc<Self>,
        session: Box<ServerSession>,
        sub_req_ctx: Box<Ctx>,
    );
}

/// Makes subrequests: requests that pass through all phases of the application as one of a client does, but have no
/// connection. They run on the worker of the request that makes them.
pub struct SubrequestSpawner {
    /// Boxed, as every request has room for a spawner and few have one.
    app: Box<Arc<dyn Subrequest + Send + Sync>>,
}

/// A subrequest that does not run yet.
pub struct PreparedSubrequest {
    app: Arc<dyn Subrequest + Send + Sync>,
    session: Box<ServerSession>,
    ctx: Box<Ctx>,
}

impl SubrequestSpawner {
    /// A spawner of subrequests that `app` serves.
    pub fn new(app: Arc<dyn Subrequest + Send + Sync>) -> SubrequestSpawner {
        SubrequestSpawner { app: Box::new(app) }
    }

    /// Prepares a subrequest with a copy of the head of `session`'s request, to be changed and run. The handle receives
    /// its response; [`pipe_subrequest`](super::pipe::pipe_subrequest) does so for a client.
    pub fn create_subrequest(
        &self,
        session: &ServerSession,
        ctx: Ctx,
    ) -> (PreparedSubrequest, SubrequestHandle) {
        let (mut session, handle) = HttpSession::new_from_session(session);
        if ctx.body_mode() == BodyMode::NoBody {
            session.clear_request_body_headers();
        }
        let prepared = PreparedSubrequest {
            app: Arc::clone(&self.app),
            session: Box::new(ServerSession::new_subrequest(session)),
            ctx: Box::new(ctx),
        };
        (prepared, handle)
    }

    /// Runs a subrequest in a task of its own, whose response nobody sees. It outlives the request of `session`, and
    /// has no body.
    ///
    /// # Panics
    /// Outside of a tokio runtime.
    pub fn spawn_background_subrequest(&self, session: &ServerSession, ctx: Ctx) -> JoinHandle<()> {
        let (mut prepared, handle) = self.create_subrequest(session, ctx);
        // It is not to keep the buffer that its parent was received in.
        prepared.session.req_header_mut().detach();
        tokio::spawn(async move {
            let SubrequestHandle { mut rx, .. } = handle;
            let drain = async { while rx.recv().await.is_some() {} };
            tokio::join!(prepared.run(), drain);
        })
    }
}

impl PreparedSubrequest {
    /// Serves the subrequest, to the end of its response. Its response has to be received meanwhile, or it waits.
    ///
    /// # Cancel safety
    /// Dropped, it ends the subrequest: whoever receives the response sees it cut short.
    pub async fn run(self) {
        self.app.process_subrequest(self.session, self.ctx).await
    }

    /// The session of the subrequest.
    pub fn session(&self) -> &ServerSession {
        &self.session
    }

    /// The session of the subrequest, to change its request.
    pub fn session_mut(&mut self) -> &mut ServerSession {
        &mut self.session
    }
}
