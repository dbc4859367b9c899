//! The encoders behind [`Encode`]: one adapter over what the libraries have in common.

use std::io::{self, Write};
use std::time::{Duration, Instant};

use bytes::Bytes;
use flate2::write::GzEncoder;
use pingora_error::{OrErr, Result};
use zstd::zstd_safe::CParameter;

use super::{DictionaryData, Encode, COMPRESSION_ERROR, DCZ_HEADER_SIZE, DCZ_MAGIC};

pub(super) type BoxedEncode = Box<dyn Encode + Send + Sync>;

/// The most that one chunk may become. A few bytes of an encoded body can stand for gigabytes.
/// (Tests are not built to get through that in a moment.)
pub(super) const MAX_OUTPUT_PER_CHUNK: usize = if cfg!(test) { 8 << 20 } else { 128 << 20 };

/// Buffer between brotli and the sink.
const BROTLI_BUFFER: usize = 16 << 10;

/// The window of brotli's command line tool for streams: 4 MiB.
const BROTLI_WINDOW_LOG: u32 = 22;

/// 8 MiB, which every decoder of the content coding has (RFC 9659, RFC 9842 section 5), and no
/// more.
pub(super) const ZSTD_WINDOW_LOG: u32 = 23;

/// The highest level whose window is not larger than that by itself.
const ZSTD_LAST_LEVEL_OF_WINDOW: i32 = 19;

/// The first bytes of a dictionary in zstd's own format, which zstd does not take as raw content.
const ZSTD_DICTIONARY_MAGIC: [u8; 4] = [0x37, 0xa4, 0x30, 0xec];

pub(super) fn gzip(level: u32) -> BoxedEncode {
    let level = flate2::Compression::new(level.clamp(1, 9));
    Metered::boxed("gzip", GzEncoder::new(Sink::default(), level))
}

pub(super) fn brotli(level: u32) -> BoxedEncode {
    let level = level.clamp(1, 11);
    let writer =
        brotli::CompressorWriter::new(Sink::default(), BROTLI_BUFFER, level, BROTLI_WINDOW_LOG);
    Metered::boxed("brotli", BrotliEncoder::Writing(writer))
}

/// `None` if zstd cannot be set up, which is for want of memory.
pub(super) fn zstd(level: u32) -> Option<BoxedEncode> {
    let encoder = zstd_encoder(Sink::default(), level, &[]).ok()?;
    Some(Metered::boxed("zstd", encoder))
}

/// `None` if the dictionary cannot be used as raw content, or if zstd cannot be set up.
pub(super) fn dcz(level: u32, dictionary: &DictionaryData) -> Option<BoxedEncode> {
    if dictionary.bytes.starts_with(&ZSTD_DICTIONARY_MAGIC) {
        return None;
    }
    let mut header = Vec::with_capacity(DCZ_HEADER_SIZE);
    header.extend_from_slice(&DCZ_MAGIC);
    header.extend_from_slice(&dictionary.hash);
    let encoder = zstd_encoder(Sink(header), level, &dictionary.bytes).ok()?;
    Some(Metered::boxed("dcz", encoder))
}

fn zstd_encoder(
    sink: Sink,
    level: u32,
    dictionary: &[u8],
) -> io::Result<zstd::stream::write::Encoder<'static, Sink>> {
    let max = zstd::compression_level_range().end().to_owned();
    let level = i32::try_from(level).unwrap_or(max).clamp(1, max);
    let mut encoder = zstd::stream::write::Encoder::with_dictionary(sink, level, dictionary)?;
    // Lower levels have a window of up to 2 MiB, and a dictionary is reached through the window.
    if level > ZSTD_LAST_LEVEL_OF_WINDOW || dictionary.len() > 1 << 20 {
        encoder.set_parameter(CParameter::WindowLog(ZSTD_WINDOW_LOG))?;
    }
    Ok(encoder)
}

/// The output of a codec.
#[derive(Default)]
struct Sink(Vec<u8>);

impl Write for Sink {
    fn write(&mut self, data: &[u8]) -> io::Result<usize> {
        if data.len() > MAX_OUTPUT_PER_CHUNK - self.0.len() {
            return Err(io::Error::other("too much output for one chunk"));
        }
        self.0.extend_from_slice(data);
        Ok(data.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

trait Codec: Write {
    /// Ends the stream, and fails if what was written is not a whole one.
    fn end(&mut self) -> io::Result<()>;
    fn sink(&mut self) -> &mut Sink;
}

/// A codec that counts.
struct Metered<C> {
    codec: C,
    name: &'static str,
    total_in: usize,
    total_out: usize,
    spent: Duration,
    ended: bool,
}

impl<C: Codec + Send + Sync + 'static> Metered<C> {
    fn boxed(name: &'static str, codec: C) -> BoxedEncode {
        Box::new(Self {
            codec,
            name,
            total_in: 0,
            total_out: 0,
            spent: Duration::ZERO,
            ended: false,
        })
    }
}

impl<C: Codec> Metered<C> {
    fn step(&mut self, input: &[u8], end: bool) -> io::Result<()> {
        if self.ended {
            return if input.is_empty() {
                Ok(())
            } else {
                Err(io::Error::other("data after the end"))
            };
        }
        if !input.is_empty() {
            self.codec.write_all(input)?;
            self.total_in += input.len();
        }
        if end {
            self.ended = true;
            return self.codec.end();
        }
        if !input.is_empty() {
            // What the origin has sent shall arrive, however little it is.
            self.codec.flush()?;
        }
        Ok(())
    }
}

impl<C: Codec> Encode for Metered<C> {
    fn encode(&mut self, input: &[u8], end: bool) -> Result<Bytes> {
        let start = Instant::now();
        self.step(input, end).or_err(COMPRESSION_ERROR, self.name)?;
        let output = Bytes::from(std::mem::take(&mut self.codec.sink().0));
        self.total_out += output.len();
        self.spent += start.elapsed();
        Ok(output)
    }

    fn stat(&self) -> (&'static str, usize, usize, Duration) {
        (self.name, self.total_in, self.total_out, self.spent)
    }
}

impl Codec for GzEncoder<Sink> {
    fn end(&mut self) -> io::Result<()> {
        self.try_finish()
    }

    fn sink(&mut self) -> &mut Sink {
        self.get_mut()
    }
}

impl Codec for zstd::stream::write::Encoder<'static, Sink> {
    fn end(&mut self) -> io::Result<()> {
        self.do_finish()
    }

    fn sink(&mut self) -> &mut Sink {
        self.get_mut()
    }
}

/// Brotli's writer can be ended only by being taken apart.
#[allow(clippy::large_enum_variant)] // it lives in a box
enum BrotliEncoder {
    Writing(brotli::CompressorWriter<Sink>),
    Ended(Sink),
}

impl Write for BrotliEncoder {
    fn write(&mut self, data: &[u8]) -> io::Result<usize> {
        match self {
            Self::Writing(writer) => writer.write(data),
            Self::Ended(_) => Err(io::Error::other("data after the end")),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            Self::Writing(writer) => writer.flush(),
            Self::Ended(_) => Ok(()),
        }
    }
}

impl Codec for BrotliEncoder {
    fn end(&mut self) -> io::Result<()> {
        // An error of the sink would be lost in `into_inner`, but it takes what is left: a full
        // window is far from its limit.
        if let Self::Writing(writer) = std::mem::replace(self, Self::Ended(Sink::default())) {
            *self = Self::Ended(writer.into_inner());
        }
        Ok(())
    }

    fn sink(&mut self) -> &mut Sink {
        match self {
            Self::Writing(writer) => writer.get_mut(),
            Self::Ended(sink) => sink,
        }
    }
}
