//! Compression in the phases of a request.
//!
//! The cache stores what a server has sent, and a server whose responses may be stored is asked for what is in no coding:
//! one stored response serves all clients, each in the coding that it accepts.

use bytes::Bytes;
use http::header::{ACCEPT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE, IF_NONE_MATCH};
use http::{HeaderValue, StatusCode};
use pingora_core::modules::http::compression::ResponseCompression;
use pingora_core::protocols::http::compression::Algorithm;
use pingora_core::Result;
use pingora_http::{RequestHeader, ResponseHeader};
use pingora_proxy::Session;

use super::headers::Head;
use crate::config::model::Coding;
use crate::plan::compress::CompressRule;

/// Has a request ask for what is in no coding. Returns what the client accepts.
///
/// # Errors
///
/// Too many fields.
pub(super) fn ask_plainly(head: &mut RequestHeader) -> Result<Option<HeaderValue>> {
    let lines: Vec<_> = head.headers.get_all(ACCEPT_ENCODING).iter().collect();
    let lines: Vec<_> = lines.iter().map(|line| line.as_bytes()).collect();
    let accepted = (!lines.is_empty()).then(|| lines.join(&b','));
    head.remove(&ACCEPT_ENCODING);
    head.add(&ACCEPT_ENCODING, b"identity")?;
    Ok(accepted.and_then(|accepted| HeaderValue::from_maybe_shared(Bytes::from(accepted)).ok()))
}

/// Turns compression on for a response that is worth it, and for a 304, which tells no type: the client's condition says
/// whether what it has was compressed. `accepted` is what the client accepts, where its request does
/// not say so any more.
///
/// # Errors
///
/// Those of a header.
pub(super) fn prepare(
    session: &mut Session,
    rule: &CompressRule,
    head: &ResponseHeader,
    accepted: Option<&Option<HeaderValue>>,
) -> Result<()> {
    let content_type = head.headers.get(CONTENT_TYPE);
    let length = head.headers.get(CONTENT_LENGTH);
    let length = length.and_then(|length| length.to_str().ok()?.parse().ok());
    let fits = content_type.is_some_and(|content_type| rule.fits(content_type.as_bytes(), length));
    if !fits && head.status != StatusCode::NOT_MODIFIED {
        return Ok(());
    }
    let Session {
        downstream_session,
        downstream_modules_ctx,
        ..
    } = session;
    let Some(module) = downstream_modules_ctx.get_mut::<ResponseCompression>() else {
        return Ok(());
    };
    let request = downstream_session.req_header();
    let Some(accepted) = accepted else {
        let fields = request.headers.get_all(ACCEPT_ENCODING).iter();
        let fields: Vec<_> = fields.map(HeaderValue::as_bytes).collect();
        turn_on(module, rule, fields.into_iter());
        module.request_filter(request);
        return Ok(());
    };
    let fields = accepted.iter().map(HeaderValue::as_bytes);
    turn_on(module, rule, fields);
    let mut asked = RequestHeader::build_no_case(request.method.clone(), b"/", None)?;
    for tags in request.headers.get_all(IF_NONE_MATCH) {
        asked.append_header(IF_NONE_MATCH, tags.clone())?;
    }
    if let Some(accepted) = accepted {
        asked.insert_header(ACCEPT_ENCODING, accepted.clone())?;
    }
    module.request_filter(&asked);
    Ok(())
}

/// Gives the chosen coding its level; all of them where none is chosen, so that the response says what it depends on.
fn turn_on<'a>(
    module: &mut ResponseCompression,
    rule: &CompressRule,
    accepted: impl Iterator<Item = &'a [u8]> + Clone,
) {
    let mut set = |(coding, level): (Coding, u32)| {
        let algorithm = match coding {
            Coding::Zstd => Algorithm::Zstd,
            Coding::Brotli => Algorithm::Brotli,
            Coding::Gzip => Algorithm::Gzip,
        };
        module.adjust_algorithm_level(algorithm, level);
    };
    match rule.choose(accepted) {
        Some(chosen) => set(chosen),
        None => rule.codings.iter().copied().for_each(set),
    }
}
