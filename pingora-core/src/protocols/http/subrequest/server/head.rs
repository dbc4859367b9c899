//! The head of a subrequest, made of its parent's.

use bytes::{BufMut, Bytes, BytesMut};
use http::header::{CONTENT_LENGTH, COOKIE, HOST, TRANSFER_ENCODING};
use http::{HeaderValue, Method, Version};
use pingora_error::ErrorType::InvalidHTTPHeader;
use pingora_error::{Error, Result};
use pingora_http::RequestHeader;

use super::common;

/// Copies the head of a request. One that is not of HTTP/1.x becomes so, as far as it can be said there.
/// `bodiless` tells that it has no body unless a field says so; HTTP/2 and custom sessions may have one without a field.
pub(super) fn copy(request: &RequestHeader, bodiless: bool) -> Box<RequestHeader> {
    let mut copy = request.clone();
    let said = match request.version {
        _ if request.method == Method::CONNECT => Ok(()),
        Version::HTTP_11 if bodiless || asks_upgrade(request) => Ok(()),
        Version::HTTP_11 => frame(&mut copy),
        version if version > Version::HTTP_11 => say_in_http1(&mut copy, bodiless),
        _ => Ok(()),
    };
    // What cannot be said in HTTP/1.1 keeps its version, and is refused where it matters.
    if let Err(e) = said {
        log::debug!("a head that is not for HTTP/1.1: {e}");
        copy = request.clone();
    }
    Box::new(copy)
}

/// Has a body come in chunks, where no field says how long it is.
fn frame(request: &mut RequestHeader) -> Result<()> {
    let headers = &request.headers;
    if headers.contains_key(CONTENT_LENGTH) || headers.contains_key(TRANSFER_ENCODING) {
        return Ok(());
    }
    request.insert_header(TRANSFER_ENCODING, HeaderValue::from_static("chunked"))
}

fn say_in_http1(request: &mut RequestHeader, bodiless: bool) -> Result<()> {
    if !request.headers.contains_key(HOST) {
        if let Some(authority) = request.uri.authority() {
            let host = HeaderValue::from_str(authority.as_str())
                .map_err(|e| Error::because(InvalidHTTPHeader, "authority", e))?;
            request.insert_header(HOST, host)?;
        }
    }
    let target = request.raw_path().to_vec();
    request.set_raw_path(&target)?;
    // RFC 9113 section 8.2.3: the crumbs of Cookie are one field here.
    let crumbs = request.headers.get_all(COOKIE).iter();
    let crumbs: Vec<&[u8]> = crumbs.map(HeaderValue::as_bytes).collect();
    if crumbs.len() > 1 {
        let cookie = HeaderValue::from_bytes(&crumbs.join(&b"; "[..]))
            .map_err(|e| Error::because(InvalidHTTPHeader, "cookie", e))?;
        request.insert_header(COOKIE, cookie)?;
    }
    // A length that is told twice was compared already.
    if let Some(length) = request.headers.get(CONTENT_LENGTH).cloned() {
        request.insert_header(CONTENT_LENGTH, length)?;
    } else if !bodiless {
        frame(request)?;
    }
    request.set_version(Version::HTTP_11);
    Ok(())
}

/// The head as HTTP/1.1 would write it.
pub(super) fn wire(request: &RequestHeader) -> Bytes {
    let mut raw = BytesMut::with_capacity(512);
    raw.put_slice(request.method.as_str().as_bytes());
    raw.put_u8(b' ');
    raw.put_slice(request.raw_path());
    raw.put_slice(b" HTTP/1.1\r\n");
    request.header_to_h1_wire(&mut raw);
    raw.put_slice(common::CRLF);
    raw.freeze()
}

/// Returns whether the request asks to leave HTTP.
pub(super) fn asks_upgrade(request: &RequestHeader) -> bool {
    common::is_upgrade_req(request) || request.method == Method::CONNECT
}
