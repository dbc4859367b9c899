//! The length of a body (RFC 9112 section 6), and the persistence of the connection (section 9.3).

use http::header::{HeaderMap, HeaderName, CONNECTION, CONTENT_LENGTH, TRANSFER_ENCODING};
use http::{Method, StatusCode, Version};
use pingora_http::internal::{decimal, ConnectionOption, Index, MessageHead, Names};
use pingora_http::{RequestHeader, ResponseHeader};

use super::Refusal;

/// The fields of a message. A head knows some things of them without a look-up.
pub trait Fields {
    /// The fields.
    fn fields(&self) -> &HeaderMap;

    /// Returns what is known without a look-up.
    fn index(&self) -> Option<&Index> {
        None
    }
}

impl Fields for HeaderMap {
    fn fields(&self) -> &HeaderMap {
        self
    }
}

impl Fields for RequestHeader {
    fn fields(&self) -> &HeaderMap {
        &self.headers
    }

    fn index(&self) -> Option<&Index> {
        Some(MessageHead::index(self))
    }
}

impl Fields for ResponseHeader {
    fn fields(&self) -> &HeaderMap {
        &self.headers
    }

    fn index(&self) -> Option<&Index> {
        Some(MessageHead::index(self))
    }
}

fn may_have(message: &impl Fields, names: Names) -> bool {
    message.index().is_none_or(|index| index.has_any(names))
}

/// The members of a field that is a list, white space around them removed (RFC 9110 section 5.6.1).
pub(crate) fn members(headers: &HeaderMap, name: HeaderName) -> impl Iterator<Item = &[u8]> {
    let lines = headers.get_all(name).into_iter();
    lines
        .flat_map(|line| line.as_bytes().split(|b| *b == b','))
        .map(<[u8]>::trim_ascii)
}

fn is_coded(message: &impl Fields) -> bool {
    may_have(message, Names::TRANSFER_ENCODING) && message.fields().contains_key(TRANSFER_ENCODING)
}

/// The framing of a body: the way its end is found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Framing {
    /// There is no body, whatever the fields say: a response to HEAD, a 204, a 304.
    Empty,
    /// So many bytes.
    Length(u64),
    /// Chunks, then a trailer section.
    Chunked,
    /// Everything until the sender closes.
    UntilClose,
}

/// The framing of a request that was received.
#[inline]
pub fn request(version: Version, message: &impl Fields) -> Result<Framing, Refusal> {
    if is_coded(message) {
        coded_request(version, message.fields())
    } else {
        Ok(Framing::Length(content_length(message)?.unwrap_or(0)))
    }
}

fn coded_request(version: Version, headers: &HeaderMap) -> Result<Framing, Refusal> {
    if version < Version::HTTP_11 {
        return Err(Refusal::CodingInHttp10);
    }
    if headers.contains_key(CONTENT_LENGTH) {
        return Err(Refusal::LengthAndCoding);
    }
    match coding(headers) {
        Coding::Chunked => Ok(Framing::Chunked),
        Coding::Unknown => Err(Refusal::UnknownCoding),
        Coding::NotFinal | Coding::Malformed => Err(Refusal::CodingOrder),
    }
}

/// The kind of request that a response answers, as far as its framing depends on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answered {
    /// HEAD: the response has the fields of a body and no body.
    Head,
    /// CONNECT: a 2xx has no body, and what follows is a tunnel.
    Connect,
    /// Any other method.
    Other,
}

impl From<&Method> for Answered {
    fn from(method: &Method) -> Self {
        match *method {
            Method::HEAD => Answered::Head,
            Method::CONNECT => Answered::Connect,
            _ => Answered::Other,
        }
    }
}

/// The framing of a response that was received.
///
/// With `lenient_length`, a Content-Length that cannot be understood counts as absent.
pub fn response(
    answered: Answered,
    status: StatusCode,
    version: Version,
    message: &impl Fields,
    lenient_length: bool,
) -> Result<Framing, Refusal> {
    if bodiless(answered, status) {
        return Ok(Framing::Empty);
    }
    if is_coded(message) {
        if version < Version::HTTP_11 {
            return Err(Refusal::CodingInHttp10);
        }
        return match coding(message.fields()) {
            Coding::Chunked => Ok(Framing::Chunked),
            // RFC 9112 section 6.3 has it end with the connection, but nobody here decodes it, nobody asked for it by
            // TE, and to pass it on without its name would change what the body says.
            Coding::NotFinal | Coding::Unknown => Err(Refusal::UnknownCoding),
            Coding::Malformed => Err(Refusal::CodingOrder),
        };
    }
    match content_length(message) {
        Ok(Some(n)) => Ok(Framing::Length(n)),
        Ok(None) => Ok(Framing::UntilClose),
        Err(_) if lenient_length => Ok(Framing::UntilClose),
        Err(e) => Err(e),
    }
}

/// Returns whether a response has no body whatever its fields say (RFC 9110 section 6.4.1).
pub fn bodiless(answered: Answered, status: StatusCode) -> bool {
    answered == Answered::Head
        || status.is_informational()
        || status == StatusCode::NO_CONTENT
        || status == StatusCode::NOT_MODIFIED
        || (answered == Answered::Connect && status.is_success())
}

/// Returns how a message that is to be *sent* is framed by the fields it carries.
///
/// `None`: they do not tell.
pub fn outgoing(message: &impl Fields) -> Option<Framing> {
    if is_coded(message) {
        return match coding(message.fields()) {
            Coding::Chunked => Some(Framing::Chunked),
            _ => None,
        };
    }
    match content_length(message) {
        Ok(Some(n)) => Some(Framing::Length(n)),
        _ => None,
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Coding {
    Chunked,
    /// Registered codings, the last of which is not chunked.
    NotFinal,
    /// A coding that is not implemented comes before chunked, or is no registered one.
    Unknown,
    Malformed,
}

fn coding(headers: &HeaderMap) -> Coding {
    let mut chunked = 0;
    let mut others = false;
    let mut last_is_chunked = false;
    for name in members(headers, TRANSFER_ENCODING) {
        last_is_chunked = name.eq_ignore_ascii_case(b"chunked");
        if last_is_chunked {
            chunked += 1;
        } else if name.is_empty() {
            return Coding::Malformed;
        } else if REGISTERED.iter().any(|c| name.eq_ignore_ascii_case(c)) {
            others = true;
        } else {
            return Coding::Unknown;
        }
    }
    match (chunked, last_is_chunked) {
        (1, true) if !others => Coding::Chunked,
        (1, true) => Coding::Unknown,
        (0, _) => Coding::NotFinal,
        _ => Coding::Malformed,
    }
}

/// Transfer codings of the IANA registry other than chunked.
const REGISTERED: [&[u8]; 5] = [b"gzip", b"x-gzip", b"deflate", b"compress", b"x-compress"];

/// The one Content-Length of a message; identical repeats count as one.
#[inline]
pub fn content_length(message: &impl Fields) -> Result<Option<u64>, Refusal> {
    if let Some(index) = message.index() {
        let plain = index.content_length();
        if plain.is_some() || !index.has_any(Names::CONTENT_LENGTH) {
            return Ok(plain);
        }
    }
    stated_length(message.fields())
}

fn stated_length(headers: &HeaderMap) -> Result<Option<u64>, Refusal> {
    let mut length = None;
    for value in members(headers, CONTENT_LENGTH) {
        let n = decimal(value).ok_or(Refusal::ContentLength)?;
        if *length.get_or_insert(n) != n {
            return Err(Refusal::ContentLengthDiffers);
        }
    }
    Ok(length)
}

/// Returns whether the length is stated more than once.
pub fn length_is_repeated(message: &impl Fields) -> bool {
    let maybe = message
        .index()
        .is_none_or(|index| index.may_list(Names::CONTENT_LENGTH));
    maybe && members(message.fields(), CONTENT_LENGTH).nth(1).is_some()
}

/// The persistence of the connection after a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Persistence {
    /// Another message may follow.
    KeepAlive,
    /// The connection ends with this exchange.
    Close,
}

/// RFC 9112 section 9.3: HTTP/1.1 persists unless told not to, HTTP/1.0 only when told to.
#[inline]
pub fn persistence(version: Version, message: &impl Fields) -> Persistence {
    match message.index().and_then(Index::connection) {
        Some(ConnectionOption::Close) => Persistence::Close,
        Some(ConnectionOption::KeepAlive) => Persistence::KeepAlive,
        None if version >= Version::HTTP_11 && !may_have(message, Names::CONNECTION) => {
            Persistence::KeepAlive
        }
        None => asked_persistence(version, message.fields()),
    }
}

fn asked_persistence(version: Version, headers: &HeaderMap) -> Persistence {
    let mut keep = version >= Version::HTTP_11;
    for option in members(headers, CONNECTION) {
        if option.eq_ignore_ascii_case(b"close") {
            return Persistence::Close;
        }
        keep |= option.eq_ignore_ascii_case(b"keep-alive");
    }
    if keep {
        Persistence::KeepAlive
    } else {
        Persistence::Close
    }
}

#[cfg(test)]
mod tests;
