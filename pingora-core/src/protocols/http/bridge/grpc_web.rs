//! gRPC-web to gRPC and back (<https://github.com/grpc/grpc/blob/master/doc/PROTOCOL-WEB.md>).
//!
//! A browser cannot read trailers, so gRPC-web sends them as the last frame of the body. Frames
//! of messages are the same in both, and pass as they are. The base64 form
//! (`application/grpc-web-text`) is not bridged.

use bytes::{BufMut, Bytes, BytesMut};
use http::header::{self, HeaderMap, HeaderValue};
use http::Version;
use pingora_error::{ErrorType, OrErr, Result};
use pingora_http::{RequestHeader, ResponseHeader};

const GRPC: &[u8] = b"application/grpc";
const GRPC_WEB: &[u8] = b"application/grpc-web";

/// The flag that tells a frame of trailers from one of a message.
const TRAILERS_FRAME: u8 = 0x80;

/// The state of the bridge in an exchange.
///
/// ```text
/// Disabled -- init() --> Init -- gRPC-web request --> Upgrade -- gRPC response --> Trailers -- trailers --> Done
///    ^                     |                             |
///    +-- other request ----+------- other response ------+
/// ```
#[derive(Debug, Default, PartialEq)]
pub enum GrpcWebCtx {
    /// Everything passes unchanged.
    #[default]
    Disabled,
    /// The request header is yet to be seen.
    Init,
    /// The request was gRPC-web and is gRPC now; the response header is yet to be seen.
    Upgrade,
    /// The response was gRPC and is gRPC-web now; its trailers are yet to be seen.
    Trailers,
    /// The trailers were sent.
    Done,
}

impl GrpcWebCtx {
    /// Turns the bridge on for the request that follows.
    pub fn init(&mut self) {
        *self = GrpcWebCtx::Init;
    }

    /// Makes a gRPC request of a gRPC-web request, and turns the bridge off for any other.
    pub fn request_header_filter(&mut self, req: &mut RequestHeader) {
        if *self != GrpcWebCtx::Init {
            return;
        }
        *self = GrpcWebCtx::Disabled;
        let Some(grpc) = converted(&req.headers, GRPC_WEB, GRPC) else {
            return;
        };
        // Only a full header map refuses; TE is first, as Content-Type takes no further place.
        let trailers = HeaderValue::from_static("trailers");
        if req.insert_header(header::TE, trailers).is_ok()
            && req.insert_header(header::CONTENT_TYPE, grpc).is_ok()
        {
            *self = GrpcWebCtx::Upgrade;
        }
    }

    /// Makes a gRPC-web response of a gRPC response, and turns the bridge off for any other, as
    /// is the page of a proxy in between. Informational responses are skipped.
    ///
    /// `Content-Length` goes, as the trailers make the body longer.
    pub fn response_header_filter(&mut self, resp: &mut ResponseHeader) {
        if *self != GrpcWebCtx::Upgrade || resp.status.is_informational() {
            return;
        }
        *self = GrpcWebCtx::Disabled;
        let Some(grpc_web) = converted(&resp.headers, GRPC, GRPC_WEB) else {
            return;
        };
        if resp.insert_header(header::CONTENT_TYPE, grpc_web).is_err() {
            return;
        }
        let had_length = resp.remove_header(&header::CONTENT_LENGTH).is_some();
        if had_length && resp.version == Version::HTTP_11 {
            let chunked = HeaderValue::from_static("chunked");
            // It takes the place of Content-Length, so there is room.
            let _ = resp.insert_header(header::TRANSFER_ENCODING, chunked);
        }
        *self = GrpcWebCtx::Trailers;
    }

    /// The frame that carries the trailers as the last bytes of the body; the trailers are left
    /// empty. `None` if the response is not bridged.
    ///
    /// # Errors
    ///
    /// `InternalError` if the trailers do not fit in a frame, whose length has 32 bits.
    pub fn response_trailer_filter(
        &mut self,
        resp_trailers: &mut HeaderMap,
    ) -> Result<Option<Bytes>> {
        if *self != GrpcWebCtx::Trailers {
            return Ok(None);
        }
        *self = GrpcWebCtx::Done;
        let length: usize = resp_trailers
            .iter()
            .map(|(name, value)| name.as_str().len() + value.len() + b": \r\n".len())
            .sum();
        let frame_length = u32::try_from(length)
            .or_err(ErrorType::InternalError, "gRPC trailers of more than 4 GiB")?;

        let mut frame = BytesMut::with_capacity(5 + length);
        frame.put_u8(TRAILERS_FRAME);
        frame.put_u32(frame_length);
        // Names in a header map are lower-case, as the protocol asks.
        for (name, value) in resp_trailers.iter() {
            frame.put_slice(name.as_str().as_bytes());
            frame.put_slice(b": ");
            frame.put_slice(value.as_bytes());
            frame.put_slice(b"\r\n");
        }
        resp_trailers.clear();
        Ok(Some(frame.freeze()))
    }
}

/// The content type with its prefix changed, `+proto` and parameters kept; `None` if it is
/// another type.
fn converted(headers: &HeaderMap, from: &[u8], to: &[u8]) -> Option<HeaderValue> {
    let value = headers.get(header::CONTENT_TYPE)?.as_bytes();
    let (prefix, rest) = value.split_at_checked(from.len())?;
    if !prefix.eq_ignore_ascii_case(from) || !matches!(rest, [] | [b'+' | b';' | b' ' | b'\t', ..])
    {
        return None;
    }
    HeaderValue::try_from([to, rest].concat()).ok()
}

#[cfg(test)]
mod tests;
