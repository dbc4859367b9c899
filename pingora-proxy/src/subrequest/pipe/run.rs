//! Both directions between a subrequest and the client of its parent, in one loop.

use std::task::{Context, Poll};

use pingora_core::exchange::Downstream;
use pingora_core::protocols::http::subrequest::server::SubrequestHandle;
use pingora_core::protocols::http::HttpTask;
use pingora_error::ErrorType::ConnectionClosed;
use pingora_error::{BError, Error, Result};
use tokio::sync::{mpsc, oneshot};

use super::input::Input;
use super::{InputBodyType, PipeSubrequestError, PipeSubrequestState, SavedBody};
use crate::subrequest::spawner::PreparedSubrequest;
use crate::Session;

/// Bytes that are gathered before they are written.
const SMALL: usize = 16 * 1024;

/// Runs a subrequest in a task of its own, and has its response answer the client of `session`.
///
/// Each message of the response passes `task_filter`, which may change it, or return `None` to leave it out; then the
/// downstream modules. The subrequest gets its body once it asks for it. No side runs ahead of the other: a client that
/// does not read stops the subrequest, and the other way round.
///
/// It returns when the subrequest has ended, its `logging` included. A response that a filter left without its end, or
/// altogether, is up to the caller.
///
/// # Errors
/// [`from_subreq`](PipeSubrequestError::from_subreq) tells the subrequest's own error, after all that it has sent, from
/// one of the client, the modules or `task_filter`. The state has what is left: while it is kept, the subrequest goes
/// on; dropped, its receiver ends the subrequest.
///
/// # Cancel safety
/// Dropped, it ends the subrequest, and the response of the client stays cut short.
///
/// # Panics
/// Outside of a tokio runtime.
pub async fn pipe_subrequest<F>(
    session: &mut Session,
    subrequest: PreparedSubrequest,
    subrequest_handle: SubrequestHandle,
    task_filter: F,
    input_body: InputBodyType,
) -> std::result::Result<PipeSubrequestState, PipeSubrequestError>
where
    F: FnMut(HttpTask) -> Result<Option<HttpTask>>,
{
    let SubrequestHandle {
        tx,
        rx,
        subreq_wants_body,
        subreq_proxy_error,
    } = subrequest_handle;
    let saved_body = match &input_body {
        InputBodyType::Preset(_) => None,
        InputBodyType::SaveBody(most) => Some(SavedBody::new(*most)),
    };
    let mut pipe = Pipe {
        session,
        filter: task_filter,
        input: Input::new(input_body, tx, subreq_wants_body),
        rx,
        proxy_error: subreq_proxy_error,
        ended: false,
        state: PipeSubrequestState {
            join_handle: Some(tokio::spawn(subrequest.run())),
            saved_body,
            ..PipeSubrequestState::default()
        },
    };
    match pipe.run().await {
        Ok(()) => Ok(pipe.state),
        Err(Broken { error, from_subreq }) => {
            pipe.state.pipe_rx = Some(pipe.rx);
            let state = pipe.state.snapshot_for_error();
            Err(PipeSubrequestError::new(error, from_subreq, state))
        }
    }
}

struct Pipe<'a, F> {
    session: &'a mut Session,
    filter: F,
    input: Input,
    rx: mpsc::Receiver<HttpTask>,
    proxy_error: oneshot::Receiver<BError>,
    /// True if the response has come to its end.
    ended: bool,
    state: PipeSubrequestState,
}

/// Why the piping has ended early.
struct Broken {
    error: BError,
    from_subreq: bool,
}

fn of_parent(error: BError) -> Broken {
    Broken {
        error,
        from_subreq: false,
    }
}

fn of_subrequest(error: BError) -> Broken {
    Broken {
        error,
        from_subreq: true,
    }
}

impl<F> Pipe<'_, F>
where
    F: FnMut(HttpTask) -> Result<Option<HttpTask>>,
{
    async fn run(&mut self) -> std::result::Result<(), Broken> {
        while let Some(task) = self.next().await.map_err(of_parent)? {
            self.pass(task).await?;
        }
        self.input.stop();
        let downstream = &mut self.session.downstream_session;
        let flushed = std::future::poll_fn(|cx| downstream.poll_flush(cx)).await;
        // One that gave up its response tells why a while later, and one that succeeded never does.
        if let Ok(error) = (&mut self.proxy_error).await {
            return Err(of_subrequest(error));
        }
        if !self.ended {
            let why = "the subrequest ended before its response was complete";
            return Err(of_subrequest(Error::explain(ConnectionClosed, why)));
        }
        flushed.map_err(|e| of_parent(e.into_down()))
    }

    /// The next message of the response; `None` when the subrequest has ended.
    async fn next(&mut self) -> Result<Option<HttpTask>> {
        std::future::poll_fn(|cx| self.poll_next(cx)).await
    }

    fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Result<Option<HttpTask>>> {
        loop {
            let saved = &mut self.state.saved_body;
            self.input.poll(self.session, saved, cx)?;
            // A head leaves with the beginning of its body.
            if self.session.queued() < SMALL {
                if let Poll::Ready(task) = self.rx.poll_recv(cx) {
                    return Poll::Ready(Ok(task));
                }
            }
            let downstream = &mut self.session.downstream_session;
            let wrote = !downstream.is_flushed();
            if let Poll::Ready(written) = downstream.poll_flush(cx) {
                written.map_err(Error::into_down)?;
            }
            // A custom session is read again after a write, and there is room for more.
            if !(wrote && downstream.is_flushed()) {
                break;
            }
        }
        let downstream = &mut self.session.downstream_session;
        // A read of the body that waits notices a client that leaves, and is not to be disturbed.
        if self.ended || self.input.reads_client() {
            return Poll::Pending;
        }
        // One of HTTP/1.1 whose body is not read can only be seen to leave by a read of it, and in a tunnel it may have
        // ended one direction only.
        let tells = downstream.is_http2()
            || downstream.is_subrequest()
            || (downstream.is_body_done() && !self.input.is_raw());
        if tells {
            if let Poll::Ready(e) = downstream.poll_gone(cx) {
                return Poll::Ready(Err(e.into_down()));
            }
        }
        Poll::Pending
    }

    /// Has a message answer the client.
    async fn pass(&mut self, task: HttpTask) -> std::result::Result<(), Broken> {
        match task {
            HttpTask::Failed(error) => return Err(of_subrequest(error)),
            HttpTask::Header(ref header, _) if !is_interim(header.status) => {
                self.state.header_received = true;
            }
            _ => {}
        }
        self.ended |= task.is_end();
        if self.ended && !self.input.is_raw() {
            self.input.stop();
        }
        let Some(mut task) = (self.filter)(task).map_err(of_parent)? else {
            return Ok(());
        };
        self.session
            .filter_task(&mut task)
            .await
            .map_err(of_parent)?;
        let downstream = &mut self.session.downstream_session;
        let queued = downstream.queue(task);
        queued.map_err(|e| of_parent(e.into_down()))?;
        if downstream.was_upgraded() {
            self.input.become_raw();
        }
        Ok(())
    }
}

fn is_interim(status: http::StatusCode) -> bool {
    status.is_informational() && status != http::StatusCode::SWITCHING_PROTOCOLS
}
