//! The compression of one response.

use std::time::Duration;

use bytes::Bytes;
use http::header::{HeaderMap, HeaderValue, ACCEPT_ENCODING};
use http::{Method, StatusCode};
use log::warn;
use pingora_error::{Error, Result};
use pingora_http::{RequestHeader, ResponseHeader};
use sfv::{BareItem, Parser};
use strum::EnumCount;

use super::accept::Accepted;
use super::codec::BoxedEncode;
use super::{header, Algorithm, Decompression, DictionaryData, COMPRESSION_ERROR};
use crate::protocols::http::HttpTask;

/// Compresses or decompresses one response, as its request asks for.
///
/// It is fed the request header, then the response header, then the body:
///
/// ```text
/// header phase -- response header --> body: compress | decompress | pass
///      ^                                                  |
///      +---- request header of another try ---------------+
/// ```
///
/// A response is compressed if the client accepts a coding of a level other than 0, the whole
/// body is at hand, and its type is worth it; and decompressed if that is enabled for its coding
/// and the client does not accept it. Making one allocates nothing, nor does using one in which
/// nothing is enabled.
///
/// Settings have an effect only before the response header; the codings that the client accepts
/// are looked at only if something is enabled when the request header comes.
pub struct ResponseCompressionCtx(Phase);

enum Phase {
    /// Nothing is transformed: not yet, or not at all.
    Plain(Settings),
    /// The settings are kept for the response to another try of the request.
    Coding(BoxedEncode, Pending, Box<Settings>),
    /// The body could not be transformed, and what is left of it is withheld.
    Failed,
}

/// The input that a step has left.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Pending {
    Nothing,
    /// More output, and whether it is the last.
    Output {
        end: bool,
    },
}

/// The knowledge of the response.
#[derive(Clone, Copy, PartialEq)]
enum Answer {
    /// It may have a body.
    Body,
    /// It is one to HEAD.
    NoBody,
    /// Its header was decided about, and its body passes. A phase of its own would make all of it larger.
    Passes,
}

#[derive(Clone)]
struct Settings {
    /// 0 is off.
    levels: [u8; Algorithm::COUNT],
    /// Algorithms, as bits.
    decompress: u8,
    preserve_etag: u8,
    /// Boxed, for hardly anybody changes them.
    limits: Option<Box<Decompression>>,
    answer: Answer,
    /// The weak entity tags of bodies that the client has, as those that were transformed have.
    weak_tags: Option<Box<HeaderValue>>,
    accepted: Accepted,
    dictionary: Option<Box<DictionaryData>>,
    /// The hash of the dictionary that the client has.
    available: Option<Box<[u8; 32]>>,
}

/// The treatment of a body.
#[derive(Debug, PartialEq)]
enum Action {
    Pass,
    Compress(Algorithm),
    Decompress(Algorithm),
}

const ALL: u8 = (1 << Algorithm::COUNT) - 1;

fn bits_of(enabled: bool) -> u8 {
    if enabled {
        ALL
    } else {
        0
    }
}

/// No algorithm has so many levels that the cut would be noticed.
fn level_of(level: u32) -> u8 {
    u8::try_from(level).unwrap_or(u8::MAX)
}

impl ResponseCompressionCtx {
    /// Compression with this level for all algorithms, 0 being off; decompression for all or
    /// none; and entity tags of transformed bodies left strong or made weak.
    pub fn new(compression_level: u32, decompress_enable: bool, preserve_etag: bool) -> Self {
        Self(Phase::Plain(Settings {
            levels: [level_of(compression_level); Algorithm::COUNT],
            decompress: bits_of(decompress_enable),
            preserve_etag: bits_of(preserve_etag),
            limits: None,
            answer: Answer::Body,
            weak_tags: None,
            accepted: Accepted::default(),
            dictionary: None,
            available: None,
        }))
    }

    fn settings(&mut self) -> Option<&mut Settings> {
        match &mut self.0 {
            Phase::Plain(settings) if !settings.passes() => Some(settings),
            _ => None,
        }
    }

    /// Returns whether the body is, or may yet be, transformed.
    #[inline]
    pub fn is_enabled(&self) -> bool {
        match &self.0 {
            Phase::Plain(settings) => !settings.passes() && settings.is_enabled(),
            Phase::Coding(..) | Phase::Failed => true,
        }
    }

    /// Returns whether the response header is yet to come, so that settings can be changed.
    pub fn is_header_phase(&self) -> bool {
        matches!(&self.0, Phase::Plain(settings) if !settings.passes())
    }

    /// Returns what [`Encode::stat`](super::Encode::stat) says of the body; `None` if it is not
    /// transformed.
    pub fn get_info(&self) -> Option<(&'static str, usize, usize, Duration)> {
        match &self.0 {
            Phase::Coding(encoder, ..) => Some(encoder.stat()),
            _ => None,
        }
    }

    /// Sets the level of all algorithms; 0 is off.
    pub fn adjust_level(&mut self, new_level: u32) {
        if let Some(settings) = self.settings() {
            settings.levels = [level_of(new_level); Algorithm::COUNT];
        }
    }

    /// Sets the level of one algorithm; 0 is off.
    pub fn adjust_algorithm_level(&mut self, algorithm: Algorithm, new_level: u32) {
        if let Some(settings) = self.settings() {
            settings.levels[algorithm.index()] = level_of(new_level);
        }
    }

    /// Enables or disables the decompression of all codings.
    pub fn adjust_decompression(&mut self, enabled: bool) {
        if let Some(settings) = self.settings() {
            settings.decompress = bits_of(enabled);
        }
    }

    /// Enables or disables the decompression of one coding.
    pub fn adjust_algorithm_decompression(&mut self, algorithm: Algorithm, enabled: bool) {
        if let Some(settings) = self.settings() {
            set_bit(&mut settings.decompress, algorithm, enabled);
        }
    }

    /// Sets how much a body may become when it is decompressed.
    pub fn set_decompression_limits(&mut self, limits: Decompression) {
        if let Some(settings) = self.settings() {
            settings.limits = Some(Box::new(limits));
        }
    }

    /// Leaves entity tags of transformed bodies as they are, or makes them weak.
    ///
    /// To leave a strong one claims that all codings of a body are the same byte for byte.
    pub fn adjust_preserve_etag(&mut self, enabled: bool) {
        if let Some(settings) = self.settings() {
            settings.preserve_etag = bits_of(enabled);
        }
    }

    /// The same for bodies that one algorithm transforms.
    pub fn adjust_algorithm_preserve_etag(&mut self, algorithm: Algorithm, enabled: bool) {
        if let Some(settings) = self.settings() {
            set_bit(&mut settings.preserve_etag, algorithm, enabled);
        }
    }

    /// Offers a dictionary with this SHA-256 hash.
    ///
    /// The response is in `dcz` if that has a level, and the client accepts it by name and says
    /// in `Available-Dictionary` that it has this dictionary (RFC 9842 section 2.2), whatever
    /// other codings it would rather have: they are larger.
    pub fn set_dictionary(&mut self, dictionary_bytes: Bytes, dictionary_hash: [u8; 32]) {
        if let Some(settings) = self.settings() {
            settings.dictionary = Some(Box::new(DictionaryData {
                bytes: dictionary_bytes,
                hash: dictionary_hash,
            }));
        }
    }

    /// Takes the dictionary back.
    pub fn clear_dictionary(&mut self) {
        if let Some(settings) = self.settings() {
            settings.dictionary = None;
        }
    }

    /// Returns whether a dictionary is offered.
    pub fn has_dictionary(&self) -> bool {
        matches!(&self.0, Phase::Plain(settings) if !settings.passes() && settings.dictionary.is_some())
    }

    /// Notes what the client accepts, if anything is enabled. A request that is tried again begins anew with it.
    pub fn request_filter(&mut self, req: &RequestHeader) {
        if let Phase::Coding(..) = self.0 {
            self.0 = match std::mem::replace(&mut self.0, Phase::Failed) {
                Phase::Coding(_, _, settings) => Phase::Plain(*settings),
                other => other,
            };
        }
        if let Phase::Plain(settings) = &mut self.0 {
            settings.answer = match req.method {
                Method::HEAD => Answer::NoBody,
                _ => Answer::Body,
            };
            if settings.is_enabled() {
                settings.accepted = Accepted::parse(&req.headers);
                settings.weak_tags = header::weak_tags(&req.headers).map(Box::new);
                settings.available = available_dictionary(&req.headers).map(Box::new);
            }
        }
    }

    /// Returns whether the body of this response would be decompressed.
    pub fn will_decompress(&self, resp: &ResponseHeader) -> bool {
        match &self.0 {
            Phase::Plain(settings) if !settings.passes() => {
                matches!(settings.action(resp, false), Action::Decompress(_))
            }
            _ => false,
        }
    }

    /// Decides what is done with the body, and changes the header accordingly. `end` says that
    /// there is no body. Informational headers pass.
    ///
    /// `Content-Length` goes, and HTTP/1.1 responses that had it become chunked; the fields of
    /// the old body that are no longer true go; the entity tag becomes weak. `Vary` says that
    /// the response depends on `Accept-Encoding`, also where this one stays as it is.
    pub fn response_header_filter(&mut self, resp: &mut ResponseHeader, end: bool) {
        // 101 ends the exchange as far as HTTP is concerned.
        if resp.status.is_informational() && resp.status != 101 {
            return;
        }
        let Some(settings) = self.settings() else {
            return;
        };
        let Some(coding) = settings.start(resp, end) else {
            settings.answer = Answer::Passes;
            return;
        };
        if let Phase::Plain(settings) = std::mem::replace(&mut self.0, Phase::Failed) {
            self.0 = Phase::Coding(coding, Pending::Nothing, Box::new(settings));
        }
    }

    /// Transforms a chunk of the body, the last one if `end`.
    ///
    /// `None` says that the chunk passes as it is. Else the returned bytes take its place, even
    /// if there are none. A body that cannot be transformed is withheld from there on;
    /// [`response_filter`](Self::response_filter) reports that instead.
    pub fn response_body_filter(&mut self, data: Option<&Bytes>, end: bool) -> Option<Bytes> {
        let result = self.transform(data, end)?;
        Some(result.unwrap_or_default())
    }

    /// As [`response_body_filter`](Self::response_body_filter), with its errors.
    pub(crate) fn transform(&mut self, data: Option<&Bytes>, end: bool) -> Option<Result<Bytes>> {
        let ran = self.run(data, end, |encoder, data, end| {
            Ok((encoder.encode(data, end)?, false))
        })?;
        Some(ran.map(|(output, _)| output))
    }

    /// As [`transform`](Self::transform), but a chunk that leads to much leads to it step by step. Says too whether the
    /// output ends the body: it does not while [`is_pending`](Self::is_pending).
    pub(crate) fn step(
        &mut self,
        data: Option<&Bytes>,
        end: bool,
    ) -> Option<Result<(Bytes, bool)>> {
        self.run(data, end, |encoder, data, end| {
            encoder.encode_step(data, end)
        })
    }

    fn run(
        &mut self,
        data: Option<&Bytes>,
        end: bool,
        run: impl FnOnce(&mut BoxedEncode, &[u8], bool) -> Result<(Bytes, bool)>,
    ) -> Option<Result<(Bytes, bool)>> {
        let (encoder, pending) = match &mut self.0 {
            Phase::Plain(_) => return None,
            Phase::Coding(encoder, pending, _) => (encoder, pending),
            Phase::Failed => return Some(Error::e_explain(COMPRESSION_ERROR, "failed before")),
        };
        let end = end || *pending == Pending::Output { end: true };
        let ran = run(encoder, data.map_or(&[], |data| data), end);
        Some(match ran {
            Ok((output, more)) => {
                *pending = if more {
                    Pending::Output { end }
                } else {
                    Pending::Nothing
                };
                Ok((output, end && !more))
            }
            Err(error) => {
                warn!("the body of a response is cut short: {error}");
                self.0 = Phase::Failed;
                Err(error)
            }
        })
    }

    /// Returns whether a step has left output that is to be asked for, by an empty body, before there is further input.
    #[inline]
    pub fn is_pending(&self) -> bool {
        matches!(self.0, Phase::Coding(_, Pending::Output { .. }, _))
    }

    /// Applies the filters above to one step of the response.
    ///
    /// A response in a coding may have bytes left at its end, and they take the place of
    /// trailers: the trailers are lost, but the body is whole. A body that cannot be transformed
    /// becomes [`HttpTask::Failed`].
    pub fn response_filter(&mut self, t: &mut HttpTask) {
        self.filter(t, false);
    }

    /// [`response_filter`](Self::response_filter), with the output of a piece of the body step by step: each
    /// [`HttpTask::Body`] without a piece yields the next one while [`is_pending`](Self::is_pending).
    pub fn response_filter_step(&mut self, t: &mut HttpTask) {
        self.filter(t, true);
    }

    fn filter(&mut self, t: &mut HttpTask, by_steps: bool) {
        if !self.is_enabled() {
            return;
        }
        let result = match t {
            HttpTask::Header(resp, end) => {
                self.response_header_filter(resp, *end);
                return;
            }
            HttpTask::Body(data, end) if by_steps => self.step(data.as_ref(), *end),
            HttpTask::Body(data, end) => {
                let output = self.transform(data.as_ref(), *end);
                output.map(|output| output.map(|output| (output, *end)))
            }
            HttpTask::Trailer(_) | HttpTask::Done => {
                let output = self.finish();
                output.map(|output| output.map(|output| (output, true)))
            }
            HttpTask::UpgradedBody(..) | HttpTask::Failed(_) => return,
        };
        match result {
            None => {}
            Some(Ok((bytes, end))) => {
                let bytes = Some(bytes).filter(|bytes| !bytes.is_empty());
                if matches!(t, HttpTask::Body(..)) || bytes.is_some() {
                    *t = HttpTask::Body(bytes, end);
                }
            }
            Some(Err(error)) => *t = HttpTask::Failed(error),
        }
    }

    /// The bytes that are left when the body ended without saying so.
    pub(crate) fn finish(&mut self) -> Option<Result<Bytes>> {
        self.transform(None, true)
    }
}

fn set_bit(bits: &mut u8, algorithm: Algorithm, enabled: bool) {
    let bit = 1 << algorithm.index();
    if enabled {
        *bits |= bit
    } else {
        *bits &= !bit
    }
}

fn available_dictionary(headers: &HeaderMap) -> Option<[u8; 32]> {
    let value = headers.get(header::AVAILABLE_DICTIONARY)?;
    match Parser::parse_item(value.as_bytes()).ok()?.bare_item {
        BareItem::ByteSeq(hash) => hash.try_into().ok(),
        _ => None,
    }
}

impl Settings {
    fn passes(&self) -> bool {
        self.answer == Answer::Passes
    }

    fn is_enabled(&self) -> bool {
        self.decompress != 0 || self.compresses()
    }

    fn compresses(&self) -> bool {
        self.levels != [0; Algorithm::COUNT]
    }

    fn level(&self, algorithm: Algorithm) -> u32 {
        self.levels[algorithm.index()].into()
    }

    fn decompresses(&self, algorithm: Algorithm) -> bool {
        self.decompress & (1 << algorithm.index()) != 0 && algorithm.can_decompress()
    }

    /// The dictionary, if the client has it and takes a response that uses it.
    fn shared_dictionary(&self) -> Option<&DictionaryData> {
        let dictionary = self.dictionary.as_deref()?;
        let available = self.available.as_deref()?;
        (*available == dictionary.hash
            && self.level(Algorithm::Dcz) > 0
            && self.accepted.names(Algorithm::Dcz))
        .then_some(dictionary)
    }

    fn action(&self, resp: &ResponseHeader, end: bool) -> Action {
        if end || self.answer == Answer::NoBody || !header::is_transformable(resp) {
            return Action::Pass;
        }
        match header::coding(&resp.headers) {
            Some(coding)
                if self.decompresses(coding)
                    && !self.accepted.accepts(coding)
                    && self.accepted.accepts_identity() =>
            {
                Action::Decompress(coding)
            }
            None if header::is_compressible(resp) => {
                if self.shared_dictionary().is_some() {
                    return Action::Compress(Algorithm::Dcz);
                }
                let usable = |algorithm| {
                    matches!(
                        algorithm,
                        Algorithm::Gzip | Algorithm::Brotli | Algorithm::Zstd
                    ) && self.level(algorithm) > 0
                };
                self.accepted
                    .best(usable)
                    .map_or(Action::Pass, Action::Compress)
            }
            _ => Action::Pass,
        }
    }

    /// Returns whether another request might have been answered otherwise.
    fn depends_on_request(&self, resp: &ResponseHeader) -> bool {
        header::is_transformable(resp)
            && match header::coding(&resp.headers) {
                Some(coding) => self.decompresses(coding),
                None => self.compresses() && header::is_compressible(resp),
            }
    }

    /// Returns whether this is a 304 for a body that was transformed when the client got it. The 304 has the fields by which
    /// a cache knows which of its bodies it confirms (RFC 9110 section 15.4.5).
    fn confirms_transformed(&self, resp: &ResponseHeader) -> bool {
        resp.status == StatusCode::NOT_MODIFIED
            && (self.weak_tags.as_deref()).is_some_and(|tags| header::is_weakly_in(resp, tags))
            && self.preserve_etag != ALL
            && header::coding(&resp.headers).is_none()
            && header::may_be_transformed(resp)
    }

    fn start(&self, resp: &mut ResponseHeader, end: bool) -> Option<BoxedEncode> {
        if !self.is_enabled() {
            return None;
        }
        if self.confirms_transformed(resp) {
            header::weaken_etag(resp);
            header::add_vary(resp, ACCEPT_ENCODING);
            return None;
        }
        let action = self.action(resp, end);
        if self.depends_on_request(resp) {
            header::add_vary(resp, ACCEPT_ENCODING);
            if self.dictionary.is_some() && self.level(Algorithm::Dcz) > 0 {
                header::add_vary(resp, header::AVAILABLE_DICTIONARY);
            }
        }
        match action {
            Action::Pass => None,
            Action::Compress(algorithm) => self.compress(algorithm, resp),
            Action::Decompress(algorithm) => self.decompress(algorithm, resp),
        }
    }

    fn compress(&self, algorithm: Algorithm, resp: &mut ResponseHeader) -> Option<BoxedEncode> {
        let level = self.level(algorithm);
        let encoder = match self.shared_dictionary() {
            Some(dictionary) => algorithm.maybe_compressor_with_dictionary(level, dictionary),
            None => algorithm.compressor(level),
        }?;
        header::set_coding(resp, algorithm).ok()?;
        header::adjust_to_new_body(resp, self.preserves_etag(algorithm));
        Some(encoder)
    }

    fn decompress(&self, algorithm: Algorithm, resp: &mut ResponseHeader) -> Option<BoxedEncode> {
        let limits = self.limits.as_deref().copied().unwrap_or_default();
        let decoder = algorithm.decoder(limits)?;
        header::remove_coding(resp);
        header::adjust_to_new_body(resp, self.preserves_etag(algorithm));
        Some(decoder)
    }

    fn preserves_etag(&self, algorithm: Algorithm) -> bool {
        self.preserve_etag & (1 << algorithm.index()) != 0
    }
}

#[cfg(test)]
mod tests;
