//! The comparison of an answer with what was asked for.

use std::time::Duration;

use http_body_util::BodyExt;
use hyper::body::{Body as _, Incoming};
use hyper::header::{HeaderMap, CONTENT_LENGTH};
use hyper::{Method, Response};

use super::line::{whole, PATIENCE};
use super::raw;
use crate::ask::{receipt_of, Ask, Framing};
use crate::ledger::End;
use crate::random::{Checked, Random};
use crate::world::Floor;

/// The answer that is expected.
pub struct Expected<'a> {
    pub method: &'a Method,
    pub id: &'a str,
    pub ask: Ask,
    /// True if it may be another request's answer to the same question.
    pub cached: bool,
    pub floor: Floor,
}

pub fn number(headers: &HeaderMap, name: &str) -> Option<u64> {
    headers.get(name)?.to_str().ok()?.parse().ok()
}

/// The origin that has answered.
pub fn origin(headers: &HeaderMap) -> Option<usize> {
    Some(number(headers, "x-origin")? as usize)
}

/// Looks at the head of an answer.
///
/// # Errors
///
/// The end of the request, when the answer is not that of an origin to it.
pub fn head(headers: &HeaderMap, status: u16, expected: &Expected<'_>) -> Result<(), End> {
    let wrong = |what: String| Err(End::Wrong(what));
    if origin(headers).is_none() && status >= 500 {
        return Err(End::Status(status));
    }
    if status != 200 {
        return wrong(format!("status {status}, {headers:?}"));
    }
    let id = headers.get("x-id").map(|id| id.as_bytes());
    if !expected.cached && id != Some(expected.id.as_bytes()) {
        return wrong(format!("the answer is for {:?}", headers.get("x-id")));
    }
    let Floor { generation, epoch } = expected.floor;
    match number(headers, "x-generation") {
        Some(number) if number >= generation => {}
        number => {
            return wrong(format!(
                "by the file {number:?}, and {generation} was taken"
            ))
        }
    }
    if expected.cached {
        match number(headers, "x-epoch") {
            Some(number) if number >= epoch => {}
            number => return wrong(format!("of {number:?}, which was purged before {epoch}")),
        }
    }
    Ok(())
}

/// Reads an answer and compares it. A slow reader rests between two pieces.
pub async fn check(
    answer: Response<Incoming>,
    expected: &Expected<'_>,
    mut slow: Option<&mut Random>,
) -> End {
    let (parts, mut body) = answer.into_parts();
    if let Err(end) = head(&parts.headers, parts.status.as_u16(), expected) {
        return end;
    }
    let mut ask = expected.ask;
    if expected.cached {
        ask.seed ^= number(&parts.headers, "x-epoch").unwrap_or(0) << 32;
    }
    if let Err(end) = length(&parts.headers, &ask) {
        return end;
    }
    if expected.method == Method::HEAD {
        return if body.is_end_stream() || body.frame().await.is_none() {
            End::Whole
        } else {
            End::Wrong("a body after HEAD".to_owned())
        };
    }
    let mut checked = Checked::new(ask.seed);
    let mut trailer = None;
    loop {
        let frame = match tokio::time::timeout(PATIENCE, body.frame()).await {
            Err(_) => return End::Late,
            Ok(None) => break,
            Ok(Some(Err(e))) => {
                return End::Cut(format!("{} after {} bytes", whole(&e), checked.len))
            }
            Ok(Some(Ok(frame))) => frame,
        };
        if let Some(data) = frame.data_ref() {
            if let Err(offset) = checked.take(data) {
                return End::Wrong(format!("byte {offset} is not the one that was sent"));
            }
        } else if let Ok(fields) = frame.into_trailers() {
            trailer = fields.get("x-sum").cloned();
        }
        if let Some(random) = &mut slow {
            let most = if random.chance(30) { 60 } else { 1 };
            tokio::time::sleep(random.pause(0..most)).await;
        }
    }
    ended(
        &ask,
        expected.cached,
        checked.len,
        trailer.as_ref().map(|value| value.as_bytes()),
    )
}

/// Looks at the length that a head tells.
fn length(headers: &HeaderMap, ask: &Ask) -> Result<(), End> {
    let told = number(headers, CONTENT_LENGTH.as_str());
    let missing = ask.framing == Framing::Length && told.is_none();
    if missing || told.is_some_and(|told| told != ask.size) {
        return Err(End::Wrong(format!(
            "Content-Length is {told:?} and not {}",
            ask.size
        )));
    }
    Ok(())
}

/// Compares an answer that was read by hand, to a request whose answer is never a stored one.
///
/// # Errors
///
/// The end of the request, unless it is the right one.
pub fn compare(headers: &HeaderMap, body: Option<&raw::Body>, ask: &Ask) -> Result<(), End> {
    length(headers, ask)?;
    let Some(body) = body else {
        return Ok(());
    };
    let mut checked = Checked::new(ask.seed);
    if let Err(offset) = checked.take(&body.bytes) {
        let what = format!("byte {offset} is not the one that was sent");
        return Err(End::Wrong(what));
    }
    let trailer = body.trailers.get("x-sum").map(|value| value.as_bytes());
    match ended(ask, false, checked.len, trailer) {
        End::Whole => Ok(()),
        end => Err(end),
    }
}

/// Compares what an origin says it got with what was sent.
pub fn compare_receipt(said: &[u8], seed: u64, size: u64) -> End {
    let right = receipt_of(seed, size);
    if said == right.as_bytes() {
        return End::Whole;
    }
    let said = String::from_utf8_lossy(said);
    End::Wrong(format!("the origin got {said:?} in place of {right}"))
}

/// The end of a body that ended in order.
fn ended(ask: &Ask, cached: bool, len: u64, trailer: Option<&[u8]>) -> End {
    if len < ask.size {
        return End::Short(len);
    }
    if len > ask.size {
        return End::Wrong(format!("{len} bytes in place of {}", ask.size));
    }
    match trailer {
        Some(trailer) if trailer != ask.trailer().as_bytes() && !cached => {
            End::Wrong("the field after the body is another one's".to_owned())
        }
        _ => End::Whole,
    }
}

/// Reads what is left of an answer whose content does not count, for so long at most.
pub async fn some(answer: Response<Incoming>, pieces: u64, most: Duration) {
    let mut body = answer.into_body();
    let read = async {
        for _ in 0..pieces {
            if body.frame().await.is_none() {
                break;
            }
        }
    };
    let _ = tokio::time::timeout(most, read).await;
}
