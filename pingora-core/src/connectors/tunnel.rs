//! The way through an HTTP proxy: CONNECT (RFC 9110 section 9.3.6).

use bytes::Bytes;
use http::header::{HeaderName, HeaderValue, HOST};
use http::request::Parts;
use http::uri::Uri;
use http::{Method, Version};
use pingora_error::{
    Error,
    ErrorType::{ConnectProxyFailure, ConnectionClosed, InvalidHTTPHeader, ReadError, WriteError},
    OrErr, Result,
};
use pingora_http::ResponseHeader;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::limits::LIMITS;
use crate::protocols::http::v1::proto::head;
use crate::protocols::raw_connect::{ConnectProxyError, ProxyDigest};
use crate::protocols::Stream;
use crate::upstreams::peer::Peer;

/// The CONNECT request for `host` and `port` with `headers`, and with `Host` if they have none.
///
/// # Errors
/// `InvalidHTTPHeader` when the host or a field is not valid.
pub fn generate_connect_header<'a, H, S>(host: &str, port: u16, headers: H) -> Result<Box<Parts>>
where
    S: AsRef<[u8]>,
    H: Iterator<Item = (S, &'a Vec<u8>)>,
{
    // An IPv6 address has colons of its own (RFC 3986 section 3.2.2).
    let authority = if host.contains(':') && !host.starts_with('[') {
        format!("[{host}]:{port}")
    } else {
        format!("{host}:{port}")
    };
    let uri = Uri::builder()
        .authority(authority.as_str())
        .build()
        .or_err_with(InvalidHTTPHeader, || format!("CONNECT to {authority:?}"))?;
    let (mut parts, ()) = http::Request::new(()).into_parts();
    parts.method = Method::CONNECT;
    parts.uri = uri;
    parts.version = Version::HTTP_11;
    for (name, value) in headers {
        let name = HeaderName::from_bytes(name.as_ref())
            .or_err(InvalidHTTPHeader, "a field name for CONNECT")?;
        let value = HeaderValue::from_bytes(value)
            .or_err(InvalidHTTPHeader, "a field value for CONNECT")?;
        parts.headers.append(name, value);
    }
    if !parts.headers.contains_key(HOST) {
        // Required in every request of HTTP/1.1 (RFC 9112 section 3.2).
        let host =
            HeaderValue::from_str(&authority).or_err(InvalidHTTPHeader, "Host for CONNECT")?;
        parts.headers.insert(HOST, host);
    }
    Ok(Box::new(parts))
}

/// Asks the proxy at the other end of `stream` for a tunnel by `request_header`, and returns the stream, now
/// the tunnel, with the proxy's answer.
///
/// # Errors
/// `ConnectProxyFailure` when the proxy refuses, with a [`ConnectProxyError`] as its cause, or answers what is
/// not HTTP; `WriteError`, `ReadError` and `ConnectionClosed` when it cannot be asked.
///
/// # Cancel safety
/// Not safe: the stream is lost.
pub async fn connect<P>(
    mut stream: Stream,
    request_header: &Parts,
    peer: &P,
) -> Result<(Stream, ProxyDigest)>
where
    P: Peer,
{
    let request = to_wire(request_header);
    stream
        .write_all(&request)
        .await
        .or_err(WriteError, "sending CONNECT")?;
    stream.flush().await.or_err(WriteError, "sending CONNECT")?;

    let response = loop {
        let response = read_response(&mut stream).await?;
        // Others of 1xx only announce the answer (RFC 9110 section 15.2).
        if !response.status.is_informational() || response.status.as_u16() == 101 {
            break response;
        }
    };
    if !response.status.is_success() {
        return Err(Error::because(
            ConnectProxyFailure,
            "the proxy refused",
            ConnectProxyError::boxed_new(response),
        ));
    }
    let user_data = peer
        .proxy_digest_user_data_hook()
        .and_then(|hook| hook(request_header, &response));
    Ok((stream, ProxyDigest::new(response, user_data)))
}

fn to_wire(request: &Parts) -> Vec<u8> {
    let mut wire = Vec::with_capacity(256);
    wire.extend_from_slice(format!("{} {} HTTP/1.1\r\n", request.method, request.uri).as_bytes());
    for (name, value) in &request.headers {
        wire.extend_from_slice(name.as_ref());
        wire.extend_from_slice(b": ");
        wire.extend_from_slice(value.as_bytes());
        wire.extend_from_slice(b"\r\n");
    }
    wire.extend_from_slice(b"\r\n");
    wire
}

async fn read_response(stream: &mut Stream) -> Result<Box<ResponseHeader>> {
    let mut head = Vec::with_capacity(512);
    // One by one, because what follows the head belongs to the tunnel. Our streams read ahead below.
    while !head.ends_with(b"\r\n\r\n") {
        if head.len() == LIMITS.upstream_proxy_head_bytes {
            return Error::e_explain(
                ConnectProxyFailure,
                format!(
                    "the proxy's answer is longer than {} bytes",
                    LIMITS.upstream_proxy_head_bytes
                ),
            );
        }
        match stream.read_u8().await {
            Ok(byte) => head.push(byte),
            Err(e) if e.kind() == std::io::ErrorKind::UnexpectedEof => {
                return Error::e_explain(
                    ConnectionClosed,
                    format!("the proxy's answer ends after {} bytes", head.len()),
                )
            }
            Err(e) => return Error::e_because(ReadError, "waiting for the proxy's answer", e),
        }
    }
    parse(&head)
}

fn parse(answer: &[u8]) -> Result<Box<ResponseHeader>> {
    head::parse_response(&Bytes::copy_from_slice(answer))
        .or_err(ConnectProxyFailure, "the proxy's answer is not HTTP/1")
}

#[cfg(test)]
mod tests;
