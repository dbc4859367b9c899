//! Both directions of an exchange, in one loop on one task.
//!
//! Nothing is spawned and no channel is made. Each direction reads only when what it read before has been taken at the
//! other end, so that a slow reader stops its sender and memory is bounded.
//!
//! ```text
//!            poll_body            request()            queue_*
//! Downstream ----------> Duplex ----------> Pipeline ----------> Upstream
//!            <---------- Duplex <---------- Pipeline <----------
//!              queue              response(), emit()   poll_task
//! ```
//!
//! The loop knows the two traits of [`pingora_core::exchange`], its own state and a [`Pipeline`], and nothing of the
//! application.
//!
//! # What a cache does here
//! - **A hit** has no request to send: [`Duplex::run`] without [`Duplex::ask`], over a
//!   [`Stored`](crate::upstream::Stored), which makes an `Upstream` of it. Its messages pass [`Pipeline::response`] like an
//!   upstream's; a pipeline of hits leaves out what is for upstreams only.
//! - **A fill that the client follows** needs nothing: the pipeline writes what passes it to the storage.
//! - **A fill whose client reads from the storage**: [`Pipeline::response`] returns [`Fate::Kept`] for what it has stored,
//!   and [`Pipeline::source`] then has the source that feeds the client. Its messages pass [`Pipeline::stored`]. The upstream
//!   is read on at its own speed. A fate of `Kept` without a source leaves the client without that message, as a 304 does
//!   after which the stored response is served as a hit.
//! - **A fill that goes on when the client is gone**: [`Pipeline::goes_on_without_client`] says so, once, for the error that
//!   ended the client's side. Nothing is read from or sent to it any longer, [`Pipeline::response`] still gets all that
//!   comes, and the exchange returns [`Outcome::ClientGone`].
//! - **A response that is not stored, whose client needs no more of it**: [`Fate::Last`] ends the exchange before the
//!   upstream's end. The upstream is left in the middle of its response.
//!
//! An exchange that fails returns its error, and a fill is then not complete, whatever the client has been sent.

mod apart;
mod custom;
mod driver;
mod idle;
#[cfg(any(test, fuzzing))]
pub(crate) mod script;
mod state;
#[cfg(test)]
mod tests;

use std::future::Future;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::HeaderMap;
use pingora_core::exchange::Downstream;
use pingora_core::protocols::http::HttpTask;
use pingora_error::{BError, Error, Result};

pub(crate) use driver::Duplex;

/// Processes each message on its way through the proxy. It does no I/O, and lends out the client's side.
pub(crate) trait Pipeline: Send {
    /// The client's side.
    type Downstream: Downstream;

    fn downstream(&self) -> &Self::Downstream;

    fn downstream_mut(&mut self) -> &mut Self::Downstream;

    /// Returns whether the request is a CONNECT, which a success makes a tunnel.
    fn asks_for_tunnel(&self) -> bool;

    /// The time for which nothing may pass a tunnel, of which the client's direction may have ended.
    fn tunnel_idle_timeout(&self, client_ended: bool) -> Option<Duration>;

    /// The beginning of the request body that is there when an exchange begins, and whether it is all of it: nothing
    /// for a request without a body, or what an earlier try has read.
    fn kept_request(&mut self) -> Option<(Option<Bytes>, bool)>;

    /// Filters a piece of the request body.
    fn request<'b>(
        &'b mut self,
        body: &'b mut Option<Bytes>,
        end: bool,
    ) -> impl Future<Output = Result<()>> + Send;

    /// The trailers of a request whose body is read.
    fn request_trailers(&mut self) -> Option<HeaderMap>;

    /// Filters a message of the upstream's response, if nothing has to be waited for. `None`: [`response`](Self::response)
    /// does.
    fn response_now(&mut self, task: &mut HttpTask) -> Option<Result<Fate>> {
        let _ = task;
        None
    }

    /// Filters a message of the upstream's response.
    fn response<'b>(
        &'b mut self,
        task: &'b mut HttpTask,
    ) -> impl Future<Output = Result<Fate>> + Send;

    /// Returns whether [`response`](Self::response) makes more of the last message, one step for each empty piece.
    fn has_more(&self) -> bool;

    /// Returns whether [`emit`](Self::emit) changes anything.
    fn emits(&mut self) -> bool;

    /// Filters a message on the last step before the client.
    fn emit<'b>(&'b mut self, task: &'b mut HttpTask) -> impl Future<Output = Result<()>> + Send;

    /// Returns whether [`emit`](Self::emit) makes more of the last message, one step for each empty piece.
    fn emits_more(&self) -> bool;

    /// Ready when a custom message has come, which the next [`message`](Self::message) is about. What was passed before
    /// is sent meanwhile.
    fn poll_message(&mut self, cx: &mut Context<'_>) -> Poll<Result<()>> {
        let _ = cx;
        Poll::Pending
    }

    /// Filters the custom message that has come, and passes it on.
    fn message(&mut self) -> impl Future<Output = Result<()>> + Send {
        async { Ok(()) }
    }

    /// Ready when the custom messages that were passed on are sent.
    fn poll_messages_sent(&mut self, cx: &mut Context<'_>) -> Poll<Result<()>> {
        let _ = cx;
        Poll::Ready(Ok(()))
    }

    /// Returns whether the upstream may be read on while a source feeds the client.
    fn takes(&self) -> bool {
        true
    }

    /// Returns the source that feeds the client in place of messages that were kept.
    fn source(&mut self) -> Option<&mut dyn Source> {
        None
    }

    /// Filters a message of the [`source`](Self::source).
    fn stored<'b>(
        &'b mut self,
        task: &'b mut HttpTask,
    ) -> impl Future<Output = Result<Fate>> + Send {
        let _ = task;
        async { Ok(Fate::Pass) }
    }

    /// Returns whether the response is read to its end for another reason than this client, whose side ended by `e`.
    /// Asked once. The source is not polled after a `true`.
    fn goes_on_without_client(&mut self, e: &Error) -> bool {
        let _ = e;
        false
    }
}

/// The place of a message of the response after the filters.
pub(crate) enum Fate {
    /// It goes to the client.
    Pass,
    /// It goes to the client after a while.
    Later(Duration),
    /// It goes to the client, and after a while another one follows.
    Then(Box<(Duration, HttpTask)>),
    /// It does not go to the client. The upstream is read on after a while, if one is given.
    Kept(Option<Duration>),
    /// As the one inside, and nobody takes more of the response: the upstream is not read on.
    Last(Box<Fate>),
}

/// Messages of a response that do not come from an upstream.
pub(crate) trait Source: Send {
    /// The next message. One that waits keeps the future that it waits for.
    fn poll_task(&mut self, cx: &mut Context<'_>) -> Poll<Result<HttpTask>>;
}

/// The way in which an exchange has succeeded.
#[derive(Debug)]
pub(crate) enum Outcome {
    /// The response is complete and has left.
    Complete,
    /// The response is complete, and the client was gone before it had all of it.
    ClientGone(BError),
}
