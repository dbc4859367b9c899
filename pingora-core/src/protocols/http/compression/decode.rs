//! Decoders that give out a little at a time: a few bytes of an encoded body can stand for gigabytes.

use std::io;
use std::time::{Duration, Instant};

use brotli::enc::StandardAlloc;
use brotli::{BrotliDecompressStream, BrotliResult, BrotliState};
use bytes::Bytes;
use flate2::{Decompress, FlushDecompress, Status};
use pingora_error::{OrErr, Result};
use zstd::stream::raw::{Decoder as RawZstd, Operation};
use zstd::zstd_safe::DParameter;

use super::codec::{BoxedEncode, MAX_OUTPUT_PER_CHUNK, ZSTD_WINDOW_LOG};
use super::{Decompression, Encode, COMPRESSION_ERROR};

/// Bytes that one step gives out at most: about what one read of a body brings.
const STEP: usize = 64 * 1024;

/// The largest window of a gzip member.
const GZIP_WINDOW_BITS: u8 = 15;

pub(super) fn gzip(limits: Decompression) -> BoxedEncode {
    let member = Decompress::new_gzip(GZIP_WINDOW_BITS);
    let codec = Gzip {
        member,
        ended: false,
    };
    Decoder::boxed("de-gzip", codec, limits)
}

pub(super) fn brotli(limits: Decompression) -> BoxedEncode {
    let alloc = StandardAlloc::default;
    let mut state = BrotliState::new(alloc(), alloc(), alloc());
    // The content coding has windows of up to 16 MiB (RFC 7932 section 9.1); the larger ones of the library are another
    // format.
    state.large_window = false;
    let codec = Brotli {
        state: Box::new(state),
        ended: false,
        total_out: 0,
    };
    Decoder::boxed("de-brotli", codec, limits)
}

/// `None` if zstd cannot be set up, which is for want of memory.
pub(super) fn zstd(limits: Decompression) -> Option<BoxedEncode> {
    let mut frames = RawZstd::new().ok()?;
    frames
        .set_parameter(DParameter::WindowLogMax(ZSTD_WINDOW_LOG))
        .ok()?;
    let codec = Zstd {
        frames,
        ended: false,
    };
    Some(Decoder::boxed("de-zstd", codec, limits))
}

/// The result of one call of a codec.
struct Ran {
    read: usize,
    written: usize,
}

trait Codec {
    /// Decodes from `input` until it is used up or `output` is full.
    fn run(&mut self, input: &[u8], output: &mut [u8]) -> io::Result<Ran>;

    /// Returns whether what was read is whole: nothing of it is missing at its end.
    fn is_whole(&self) -> bool;
}

/// A decoder, and the input that it has not come to.
struct Decoder<C> {
    codec: C,
    name: &'static str,
    limits: Decompression,
    input: Vec<u8>,
    /// Up to where the input is used up.
    at: usize,
    /// The last step was full, so that the codec may have more without input.
    full: bool,
    ended: bool,
    total_in: usize,
    total_out: usize,
    spent: Duration,
}

impl<C: Codec + Send + Sync + 'static> Decoder<C> {
    fn boxed(name: &'static str, codec: C, limits: Decompression) -> BoxedEncode {
        Box::new(Decoder {
            codec,
            name,
            limits,
            input: Vec::new(),
            at: 0,
            full: false,
            ended: false,
            total_in: 0,
            total_out: 0,
            spent: Duration::ZERO,
        })
    }
}

impl<C: Codec> Decoder<C> {
    fn take(&mut self, input: &[u8]) -> io::Result<()> {
        if input.is_empty() {
            return Ok(());
        }
        if self.ended {
            return Err(io::Error::other("data after the end"));
        }
        if self.at == self.input.len() {
            self.input.clear();
            self.at = 0;
        }
        self.input.extend_from_slice(input);
        self.total_in += input.len();
        Ok(())
    }

    fn has_more(&self) -> bool {
        self.full || self.at < self.input.len()
    }

    /// One step.
    fn step(&mut self, end: bool) -> io::Result<Vec<u8>> {
        let mut output = Vec::new();
        while self.has_more() && output.len() < STEP {
            let begun = output.len();
            // Most bodies are no bombs: what they become is a few times as much.
            let likely = (self.input.len() - self.at).saturating_mul(4);
            output.resize(begun + likely.max(1024).min(STEP - begun), 0);
            let ran = self
                .codec
                .run(&self.input[self.at..], &mut output[begun..])?;
            self.full = begun + ran.written == output.len();
            output.truncate(begun + ran.written);
            self.at += ran.read;
            self.total_out += ran.written;
            if ran.read == 0 && ran.written == 0 {
                if self.at < self.input.len() {
                    return Err(io::Error::other("data that leads nowhere"));
                }
                self.full = false;
            }
        }
        if !self.has_more() {
            // An idle body keeps no buffer.
            (self.input, self.at) = (Vec::new(), 0);
        }
        self.keep_to_limits()?;
        if end && !self.has_more() && !self.ended {
            self.ended = true;
            if self.total_in > 0 && !self.codec.is_whole() {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
        Ok(output)
    }

    fn keep_to_limits(&self) -> io::Result<()> {
        let Decompression {
            max_size,
            max_ratio,
            ratio_from,
        } = self.limits;
        let out = self.total_out as u64;
        if max_size.is_some_and(|max| out > max) {
            return Err(io::Error::other("larger than is allowed"));
        }
        let used = (self.total_in - (self.input.len() - self.at)).max(1) as u64;
        if out > ratio_from && max_ratio.is_some_and(|max| out / used > u64::from(max)) {
            return Err(io::Error::other("too many times the size of its coding"));
        }
        Ok(())
    }
}

impl<C: Codec> Encode for Decoder<C> {
    fn encode(&mut self, input: &[u8], end: bool) -> Result<Bytes> {
        let (first, mut more) = self.encode_step(input, end)?;
        if !more {
            return Ok(first);
        }
        let mut all = Vec::from(first);
        while more {
            let (next, goes_on) = self.encode_step(&[], end)?;
            if next.len() > MAX_OUTPUT_PER_CHUNK - all.len() {
                let e = io::Error::other("too much output for one chunk");
                return Err(e).or_err(COMPRESSION_ERROR, self.name);
            }
            all.extend_from_slice(&next);
            more = goes_on;
        }
        Ok(all.into())
    }

    fn encode_step(&mut self, input: &[u8], end: bool) -> Result<(Bytes, bool)> {
        let start = Instant::now();
        let output = self.take(input).and_then(|()| self.step(end));
        self.spent += start.elapsed();
        let output = output.or_err(COMPRESSION_ERROR, self.name)?;
        Ok((output.into(), self.has_more()))
    }

    fn stat(&self) -> (&'static str, usize, usize, Duration) {
        (self.name, self.total_in, self.total_out, self.spent)
    }
}

struct Gzip {
    member: Decompress,
    /// True if the member is over; another one may follow.
    ended: bool,
}

impl Codec for Gzip {
    fn run(&mut self, input: &[u8], output: &mut [u8]) -> io::Result<Ran> {
        if self.ended && !input.is_empty() {
            self.member = Decompress::new_gzip(GZIP_WINDOW_BITS);
            self.ended = false;
        }
        if self.ended {
            return Ok(Ran {
                read: 0,
                written: 0,
            });
        }
        let (read, written) = (self.member.total_in(), self.member.total_out());
        let status = self
            .member
            .decompress(input, output, FlushDecompress::None)?;
        self.ended = status == Status::StreamEnd;
        // Neither is more than what was lent.
        Ok(Ran {
            read: (self.member.total_in() - read) as usize,
            written: (self.member.total_out() - written) as usize,
        })
    }

    fn is_whole(&self) -> bool {
        self.ended
    }
}

struct Brotli {
    state: Box<BrotliState<StandardAlloc, StandardAlloc, StandardAlloc>>,
    ended: bool,
    total_out: usize,
}

impl Codec for Brotli {
    fn run(&mut self, input: &[u8], output: &mut [u8]) -> io::Result<Ran> {
        if self.ended {
            return if input.is_empty() {
                Ok(Ran {
                    read: 0,
                    written: 0,
                })
            } else {
                Err(io::Error::other("data after the end"))
            };
        }
        let (mut left, mut read) = (input.len(), 0);
        let (mut room, mut written) = (output.len(), 0);
        let result = BrotliDecompressStream(
            &mut left,
            &mut read,
            input,
            &mut room,
            &mut written,
            output,
            &mut self.total_out,
            &mut self.state,
        );
        match result {
            BrotliResult::ResultSuccess => self.ended = true,
            BrotliResult::NeedsMoreInput | BrotliResult::NeedsMoreOutput => {}
            BrotliResult::ResultFailure => return Err(io::ErrorKind::InvalidData.into()),
        }
        Ok(Ran { read, written })
    }

    fn is_whole(&self) -> bool {
        self.ended
    }
}

struct Zstd {
    frames: RawZstd<'static>,
    /// True if a frame is over, and no other one has begun.
    ended: bool,
}

impl Codec for Zstd {
    fn run(&mut self, input: &[u8], output: &mut [u8]) -> io::Result<Ran> {
        if self.ended && input.is_empty() {
            return Ok(Ran {
                read: 0,
                written: 0,
            });
        }
        let status = self.frames.run_on_buffers(input, output)?;
        self.ended = status.remaining == 0;
        Ok(Ran {
            read: status.bytes_read,
            written: status.bytes_written,
        })
    }

    fn is_whole(&self) -> bool {
        self.ended
    }
}

#[cfg(test)]
mod tests;
