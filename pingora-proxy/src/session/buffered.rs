//! A request body that is read before an upstream is chosen.

use bytes::{Bytes, BytesMut};
use http::header::CONTENT_LENGTH;
use log::debug;
use pingora_core::protocols::http::v1::common::is_expect_continue_req;
use pingora_error::ErrorType::{HTTPStatus, InternalError};
use pingora_error::{BError, Error, Result};

use super::Session;

/// Bytes that room is made for before they came, whatever Content-Length says of them.
const EXPECTED: usize = 64 * 1024;

/// Bytes that pass the filters at once.
const PIECE: usize = 64 * 1024;

/// The bytes of a request body that were read so far, and have still to be sent.
#[derive(Default)]
pub(crate) struct Buffered {
    reading: BytesMut,
    /// The bytes that were read, when the reading is over: the body, or the beginning of one that is too long.
    read: Bytes,
    /// The bytes of it that the upstream of this try has not been sent.
    to_send: Bytes,
    /// True if what was read is the whole body.
    whole: bool,
}

impl Session {
    /// Reads the whole request body, so that a phase can look at it before the request goes upstream:
    /// `request_filter` to check a signature, `request_cache_filter` to name it in the cache, `upstream_peer` to choose
    /// by it.
    ///
    /// The upstream gets it all the same, after it has passed the body filters, and so does the upstream of each
    /// further try: a body that is kept can be sent again however long it is, where others are up to 64 KiB. A client
    /// that waits for it is told to go on (100 Continue). A second call returns the same bytes.
    ///
    /// # Errors
    /// `HTTPStatus(413)`, at once if Content-Length tells it, when the body is longer than `limit` bytes. To pass it on
    /// answers the client with this status. An application that does not has the body streamed as without this call:
    /// what was read of it goes first.
    ///
    /// `InternalError` when a part of the body was read already and not kept; those of the read.
    ///
    /// # Cancel safety
    /// Nothing is lost: the next call goes on.
    pub async fn buffer_request_body(&mut self, limit: usize) -> Result<Bytes> {
        if let Some(body) = self.buffered_request_body() {
            return match body.len() > limit {
                true => Err(too_long(limit)),
                false => Ok(body.clone()),
            };
        }
        // What was announced as too long need not be read for that to be said.
        let announced = self.get_header(CONTENT_LENGTH);
        let announced = announced.and_then(|n| n.to_str().ok()?.parse::<u64>().ok());
        if announced.is_some_and(|n| n > limit as u64) {
            return Err(too_long(limit));
        }
        self.begin_to_buffer(announced)?;
        if is_expect_continue_req(self.req_header())
            && self.body_bytes_read() == 0
            && !self.is_body_done()
        {
            self.downstream_session.write_continue_response().await?;
        }
        loop {
            let buffered = self.buffered.get_or_insert_default();
            if buffered.reading.len() > limit {
                buffered.stop();
                return Err(too_long(limit));
            }
            match self.downstream_session.read_request_body().await {
                Ok(Some(data)) => buffered.reading.extend_from_slice(&data),
                Ok(None) => {
                    buffered.stop();
                    buffered.whole = true;
                    return Ok(buffered.read.clone());
                }
                Err(e) => return Err(e.into_down()),
            }
        }
    }

    /// The request body, if [`Session::buffer_request_body`] has read all of it.
    pub fn buffered_request_body(&self) -> Option<&Bytes> {
        let buffered = self.buffered.as_ref().filter(|buffered| buffered.whole)?;
        Some(&buffered.read)
    }

    /// Returns true if more of the request body was read than is kept, so that there can be no further try.
    pub fn retry_buffer_truncated(&self) -> bool {
        match &self.buffered {
            Some(buffered) => self.body_bytes_read() > buffered.len(),
            None => self.downstream_session.retry_buffer_truncated(),
        }
    }

    /// Has what was read ahead be sent to the upstream of a try; `false` when nothing was.
    pub(crate) fn begin_to_send_buffered(&mut self) -> bool {
        let Some(buffered) = &mut self.buffered else {
            return false;
        };
        buffered.stop();
        buffered.to_send = buffered.read.clone();
        true
    }

    /// Returns true if some of it is still to be sent, before what comes from the client.
    pub(crate) fn has_buffered_to_send(&self) -> bool {
        let buffered = self.buffered.as_ref();
        buffered.is_some_and(|buffered| !buffered.to_send.is_empty())
    }

    /// Returns true if nothing of the request body is still to come, neither from what was read ahead nor from the
    /// client.
    pub(crate) fn is_request_sent_off(&mut self) -> bool {
        !self.has_buffered_to_send() && self.downstream_session.is_body_done()
    }

    /// The next piece of it.
    pub(crate) fn next_buffered(&mut self) -> Option<Bytes> {
        let left = &mut self.buffered.as_mut()?.to_send;
        Some(left.split_to(left.len().min(PIECE)))
    }

    /// Goes on with what was read before.
    fn begin_to_buffer(&mut self, announced: Option<u64>) -> Result<()> {
        if let Some(buffered) = &mut self.buffered {
            if buffered.reading.is_empty() {
                buffered.reading = BytesMut::from(std::mem::take(&mut buffered.read));
            }
            return Ok(());
        }
        let kept = match self.body_bytes_read() {
            0 => Bytes::new(),
            read => {
                let kept = self.downstream_session.get_retry_buffer();
                let kept = kept.filter(|kept| kept.len() == read);
                kept.ok_or_else(|| {
                    let why = "a part of the request body was read already, and is not kept";
                    Error::explain(InternalError, why)
                })?
            }
        };
        let announced = announced.and_then(|n| usize::try_from(n).ok());
        let mut reading = BytesMut::with_capacity(announced.unwrap_or(0).min(EXPECTED));
        reading.extend_from_slice(&kept);
        debug!(
            "buffering a request body, of which {} bytes are there",
            kept.len()
        );
        self.buffered = Some(Box::new(Buffered {
            reading,
            ..Buffered::default()
        }));
        Ok(())
    }
}

impl Buffered {
    fn stop(&mut self) {
        if !self.reading.is_empty() {
            self.read = self.reading.split().freeze();
        }
    }

    fn len(&self) -> usize {
        self.read.len() + self.reading.len()
    }
}

fn too_long(limit: usize) -> BError {
    let why = format!("the request body is longer than the {limit} bytes that are read ahead");
    Error::explain(HTTPStatus(413), why).into_down()
}
