//! Why a message is refused.

use std::fmt;

/// The fault of a message that was received.
///
/// The status is the one for a *request*; an origin's broken response is always a 502.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// A line that ends in LF alone, or a CR that no LF follows (RFC 9112 section 2.2).
    BareLineEnd,
    /// The request line is not `method SP target SP version` (section 3).
    RequestLine,
    /// The status line is not `version SP code SP reason` (section 4).
    StatusLine,
    /// A version other than 1.0 and 1.1.
    Version,
    /// The request target, or the whole first line, is longer than allowed.
    TargetTooLong,
    /// The head is longer than allowed.
    HeadTooLarge,
    /// The head has more fields than allowed.
    TooManyFields,
    /// A field name that is not a token, with white space around it, or continued on a next line.
    FieldName,
    /// A field value with a control character.
    FieldValue,
    /// A Content-Length that is not a plain decimal number (section 6.3).
    ContentLength,
    /// Content-Length fields that contradict each other.
    ContentLengthDiffers,
    /// Content-Length and Transfer-Encoding in one message: which one counts is what smuggling plays with.
    LengthAndCoding,
    /// A transfer coding that is not implemented (section 6.1).
    UnknownCoding,
    /// The last transfer coding is not chunked, or chunked is applied twice.
    CodingOrder,
    /// A transfer coding in HTTP/1.0, which has none.
    CodingInHttp10,
    /// HTTP/1.1 without a Host, with several, or with one that is no host (section 3.2).
    Host,
    /// A chunk's size line that is not one.
    ChunkSize,
    /// More chunk extensions than allowed.
    ChunkExtension,
    /// A chunk whose data is not followed by CR LF.
    ChunkEnd,
    /// A trailer section that is malformed or too large.
    Trailer,
    /// A 101 that no request asked for.
    UnaskedUpgrade,
}

impl Refusal {
    /// The status with which a request is refused.
    pub fn status(self) -> u16 {
        match self {
            Refusal::TargetTooLong => 414,
            Refusal::HeadTooLarge | Refusal::TooManyFields => 431,
            Refusal::UnknownCoding => 501,
            Refusal::Version => 505,
            _ => 400,
        }
    }

    /// The reason in words, for logs.
    pub fn reason(self) -> &'static str {
        match self {
            Refusal::BareLineEnd => "a line does not end in CR LF",
            Refusal::RequestLine => "malformed request line",
            Refusal::StatusLine => "malformed status line",
            Refusal::Version => "unsupported HTTP version",
            Refusal::TargetTooLong => "request target too long",
            Refusal::HeadTooLarge => "head too large",
            Refusal::TooManyFields => "too many header fields",
            Refusal::FieldName => "malformed field name",
            Refusal::FieldValue => "malformed field value",
            Refusal::ContentLength => "malformed Content-Length",
            Refusal::ContentLengthDiffers => "contradicting Content-Length fields",
            Refusal::LengthAndCoding => "both Content-Length and Transfer-Encoding",
            Refusal::UnknownCoding => "unknown transfer coding",
            Refusal::CodingOrder => "chunked is not the one last transfer coding",
            Refusal::CodingInHttp10 => "Transfer-Encoding in HTTP/1.0",
            Refusal::Host => "missing, repeated or malformed Host",
            Refusal::ChunkSize => "malformed chunk size",
            Refusal::ChunkExtension => "chunk extensions too long",
            Refusal::ChunkEnd => "chunk data without its line end",
            Refusal::Trailer => "malformed trailer section",
            Refusal::UnaskedUpgrade => "101 without a request for it",
        }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.reason())
    }
}

impl std::error::Error for Refusal {}
