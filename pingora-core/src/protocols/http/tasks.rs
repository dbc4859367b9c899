//! Responses that are written message by message, whatever version they are written in.

use std::future::poll_fn;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::HeaderMap;
use pingora_error::{BError, Result};
use pingora_http::ResponseHeader;

use super::HttpTask;

/// The outcome of the messages that were queued without a look at it; the next write tells it.
#[derive(Debug, Default)]
pub(crate) struct Outcome {
    /// A queued message ended the response.
    end: bool,
    error: Option<BError>,
}

impl Outcome {
    /// Returns whether an error waits to be told.
    pub(crate) fn has_failed(&self) -> bool {
        self.error.is_some()
    }
}

/// A response in one version of HTTP.
pub(crate) trait Response {
    /// Queues a head; `end` says that no body follows it.
    fn queue_head(&mut self, header: Box<ResponseHeader>, end: bool) -> Result<()>;

    /// Queues a piece of the body.
    fn queue_piece(&mut self, data: Bytes) -> Result<()>;

    /// Queues the end of the body; without effect where it is queued already.
    fn queue_last(&mut self, trailers: Option<Box<HeaderMap>>) -> Result<()>;

    /// Writes what is queued.
    fn poll_written(&mut self, cx: &mut Context<'_>) -> Poll<Result<()>>;

    fn outcome(&mut self) -> &mut Outcome;
}

/// Queues a message, and says whether it ends the response.
///
/// # Errors
/// Those of the response, and the one that a [`HttpTask::Failed`] carries.
pub(crate) fn queue(to: &mut impl Response, task: HttpTask) -> Result<bool> {
    let end = match task {
        HttpTask::Header(header, end) => {
            to.queue_head(header, end)?;
            end
        }
        HttpTask::Body(data, end) | HttpTask::UpgradedBody(data, end) => {
            if let Some(data) = data {
                to.queue_piece(data)?;
            }
            end
        }
        HttpTask::Trailer(trailers) => {
            to.queue_last(trailers)?;
            return Ok(true);
        }
        HttpTask::Done => true,
        HttpTask::Failed(e) => return Err(e),
    };
    if end {
        to.queue_last(None)?;
    }
    Ok(end)
}

/// Queues a message for [`write_sent`], which tells what became of it.
pub(crate) fn send(to: &mut impl Response, task: HttpTask) {
    match queue(to, task) {
        Ok(end) => to.outcome().end |= end,
        Err(e) => {
            to.outcome().error.get_or_insert(e);
        }
    }
}

/// Writes the messages that were sent, and says whether one of them ended the response.
///
/// # Errors
/// Those of the write, and the first one that a message met.
///
/// # Cancel safety
/// Messages that are not written stay queued.
pub(crate) async fn write_sent(to: &mut impl Response) -> Result<bool> {
    poll_fn(|cx| to.poll_written(cx)).await?;
    match to.outcome().error.take() {
        Some(e) => Err(e),
        None => Ok(to.outcome().end),
    }
}

/// Writes these messages, and says whether one of them ended the response.
///
/// # Errors
/// Those of [`queue`] and of the write.
pub(crate) async fn write_all(to: &mut impl Response, tasks: Vec<HttpTask>) -> Result<bool> {
    let mut end = false;
    for task in tasks {
        end |= queue(to, task)?;
    }
    poll_fn(|cx| to.poll_written(cx)).await?;
    Ok(end)
}
