use std::time::Duration;

use pingora_error::Result;

use super::*;
use flate2::read::MultiGzDecoder;
use proptest::prelude::*;
use std::io::Read;

const CODERS: [Algorithm; 3] = [Algorithm::Gzip, Algorithm::Brotli, Algorithm::Zstd];

const ALL: [Algorithm; 7] = [
    Algorithm::Any,
    Algorithm::Gzip,
    Algorithm::Brotli,
    Algorithm::Zstd,
    Algorithm::Dcb,
    Algorithm::Dcz,
    Algorithm::Other,
];

fn text(len: usize) -> Vec<u8> {
    let words = b"the quick brown fox jumps over the lazy dog, and again: ";
    words.iter().copied().cycle().take(len).collect()
}

/// What does not compress.
fn noise(len: usize) -> Vec<u8> {
    let mut state = 0x2545_f491_4f6c_dd1d_u64;
    std::iter::repeat_with(|| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state as u8
    })
    .take(len)
    .collect()
}

fn feed(encoder: &mut dyn Encode, chunks: &[&[u8]]) -> Result<Vec<u8>> {
    let mut output = Vec::new();
    for chunk in chunks {
        output.extend(encoder.encode(chunk, false)?);
    }
    output.extend(encoder.encode(&[], true)?);
    Ok(output)
}

fn compress(algorithm: Algorithm, level: u32, input: &[u8]) -> Vec<u8> {
    let mut encoder = algorithm.compressor(level).unwrap();
    encoder.encode(input, true).unwrap().to_vec()
}

fn decompress(algorithm: Algorithm, input: &[u8]) -> Result<Vec<u8>> {
    feed(&mut *algorithm.decompressor(true).unwrap(), &[input])
}

/// By the libraries' own readers, to check against something else than our decompressors.
fn reference(algorithm: Algorithm, input: &[u8]) -> Vec<u8> {
    let mut output = Vec::new();
    match algorithm {
        Algorithm::Gzip => MultiGzDecoder::new(input).read_to_end(&mut output),
        Algorithm::Brotli => brotli::Decompressor::new(input, 4096).read_to_end(&mut output),
        Algorithm::Zstd => zstd::Decoder::new(input).unwrap().read_to_end(&mut output),
        other => panic!("no reference for {other:?}"),
    }
    .unwrap();
    output
}

#[test]
fn names() {
    assert_eq!(ALL.len(), Algorithm::COUNT);
    for (index, algorithm) in ALL.into_iter().enumerate() {
        assert_eq!(algorithm.index(), index);
        assert_eq!(Algorithm::from(algorithm.as_str()), algorithm);
        let shouted = algorithm.as_str().to_ascii_uppercase();
        assert_eq!(Algorithm::from(&shouted[..]), algorithm);
    }
    for (name, algorithm) in [
        ("x-gzip", Algorithm::Gzip),
        ("brotli", Algorithm::Other),
        ("identity", Algorithm::Other),
        ("deflate", Algorithm::Other),
        ("", Algorithm::Other),
    ] {
        assert_eq!(Algorithm::from(name), algorithm, "{name}");
    }
}

#[test]
fn what_can_be_made() {
    for algorithm in ALL {
        let coder = CODERS.contains(&algorithm);
        assert_eq!(algorithm.can_decompress(), coder);
        assert_eq!(algorithm.compressor(1).is_some(), coder);
        assert_eq!(algorithm.decompressor(true).is_some(), coder);
        assert!(algorithm.compressor(0).is_none());
        assert!(algorithm.decompressor(false).is_none());
    }
}

#[test]
fn every_level_is_lossless() {
    let input = [text(3000), noise(500)].concat();
    for algorithm in CODERS {
        for level in (1..=23).chain([u32::MAX]) {
            let output = compress(algorithm, level, &input);
            assert!(output.len() < input.len());
            assert_eq!(
                reference(algorithm, &output),
                input,
                "{algorithm:?} {level}"
            );
        }
    }
}

#[test]
fn an_empty_body_has_a_form_in_every_coding() {
    for algorithm in CODERS {
        let output = compress(algorithm, 3, b"");
        assert!(!output.is_empty());
        assert_eq!(reference(algorithm, &output), b"");
        assert_eq!(decompress(algorithm, &output).unwrap(), b"");
        // And an origin that sends nothing at all meant an empty body too.
        assert_eq!(decompress(algorithm, b"").unwrap(), b"");
    }
}

#[test]
fn each_chunk_can_be_decoded_when_it_is_out() {
    for algorithm in CODERS {
        let mut encoder = algorithm.compressor(4).unwrap();
        let mut decoder = algorithm.decompressor(true).unwrap();
        for chunk in [&b"first"[..], b"second", &noise(100_000), b"x"] {
            let wire = encoder.encode(chunk, false).unwrap();
            let out = decoder.encode(&wire, false).unwrap();
            assert!(
                out == chunk,
                "{algorithm:?}: {} of {}",
                out.len(),
                chunk.len()
            );
        }
        let wire = encoder.encode(b"last", true).unwrap();
        assert_eq!(decoder.encode(&wire, true).unwrap(), "last");
    }
}

#[test]
fn a_body_cut_short_is_an_error() {
    for algorithm in CODERS {
        let wire = compress(algorithm, 5, &text(1000));
        for len in 1..wire.len() {
            let result = decompress(algorithm, &wire[..len]);
            let error = result.expect_err(&format!("{algorithm:?} {len}"));
            assert_eq!(*error.etype(), COMPRESSION_ERROR);
        }
    }
}

#[test]
fn a_malformed_body_is_an_error() {
    for algorithm in CODERS {
        assert!(
            decompress(algorithm, &[0xff; 100]).is_err(),
            "{algorithm:?}"
        );
    }
    // The checksum of gzip is looked at.
    let mut wire = compress(Algorithm::Gzip, 5, &text(1000));
    let at = wire.len() - 6;
    wire[at] ^= 1;
    assert!(decompress(Algorithm::Gzip, &wire).is_err());
}

#[test]
fn nothing_follows_the_end() {
    for algorithm in CODERS {
        let mut encoder = algorithm.compressor(1).unwrap();
        encoder.encode(b"all", true).unwrap();
        assert_eq!(encoder.encode(b"", true).unwrap(), "");
        assert!(encoder.encode(b"more", false).is_err());

        let mut wire = compress(algorithm, 1, b"all");
        wire.extend_from_slice(b"trailing garbage");
        assert!(decompress(algorithm, &wire).is_err(), "{algorithm:?}");
    }
}

#[test]
fn members_and_frames_are_concatenated() {
    for algorithm in [Algorithm::Gzip, Algorithm::Zstd] {
        let wire = [
            compress(algorithm, 1, b"one, "),
            compress(algorithm, 9, b"two"),
        ]
        .concat();
        assert_eq!(decompress(algorithm, &wire).unwrap(), b"one, two");
    }
}

#[test]
fn a_bomb_is_an_error() {
    for algorithm in CODERS {
        let mut encoder = algorithm.compressor(1).unwrap();
        let zeros = vec![0; 1 << 20];
        let wire: Vec<u8> = (0..9)
            .flat_map(|_| encoder.encode(&zeros, false).unwrap())
            .collect();
        assert!(wire.len() < 1 << 17);
        let mut decoder = algorithm.decompressor(true).unwrap();
        assert!(decoder.encode(&wire, false).is_err(), "{algorithm:?}");
    }
}

#[test]
fn what_was_done_is_counted() {
    let input = text(5000);
    for (algorithm, compresses, decompresses) in [
        (Algorithm::Gzip, "gzip", "de-gzip"),
        (Algorithm::Brotli, "brotli", "de-brotli"),
        (Algorithm::Zstd, "zstd", "de-zstd"),
    ] {
        let mut encoder = algorithm.compressor(5).unwrap();
        let wire = feed(&mut *encoder, &[&input[..100], &input[100..]]).unwrap();
        let (name, total_in, total_out, spent) = encoder.stat();
        assert_eq!((name, total_in, total_out), (compresses, 5000, wire.len()));
        assert!(spent > Duration::ZERO);

        let mut decoder = algorithm.decompressor(true).unwrap();
        feed(&mut *decoder, &[&wire]).unwrap();
        let (name, total_in, total_out, _) = decoder.stat();
        assert_eq!(
            (name, total_in, total_out),
            (decompresses, wire.len(), 5000)
        );
    }
}

/// RFC 9659: the window of the `zstd` coding is at most 8 MiB.
#[test]
fn zstd_windows_are_bounded() {
    let mut writer = zstd::Encoder::new(Vec::new(), 1).unwrap();
    writer.window_log(24).unwrap();
    std::io::Write::write_all(&mut writer, b"text").unwrap();
    let wire = writer.finish().unwrap();
    assert!(decompress(Algorithm::Zstd, &wire).is_err());

    let mut encoder = Algorithm::Zstd.compressor(22).unwrap();
    let wire = feed(&mut *encoder, &[b"text"]).unwrap();
    assert_eq!(decompress(Algorithm::Zstd, &wire).unwrap(), b"text");
}

fn dictionary(bytes: Vec<u8>) -> DictionaryData {
    DictionaryData {
        bytes: bytes.into(),
        hash: std::array::from_fn(|at| at as u8),
    }
}

fn undo_dcz(dictionary: &DictionaryData, wire: &[u8]) -> Vec<u8> {
    let (header, body) = wire.split_at(DCZ_HEADER_SIZE);
    assert_eq!(header[..8], DCZ_MAGIC);
    assert_eq!(header[8..], dictionary.hash);
    let mut output = Vec::new();
    zstd::Decoder::with_dictionary(body, &dictionary.bytes)
        .unwrap()
        .read_to_end(&mut output)
        .unwrap();
    output
}

#[test]
fn dcz_uses_the_dictionary() {
    // The large one exceeds the window that zstd would choose. Low levels do not look that far
    // back, but what they make has to be right as well.
    for (size, level, finds) in [
        (300, 1, true),
        (300, 3, true),
        (300, 22, true),
        (3 << 20, 1, false),
        (3 << 20, 19, true),
        (3 << 20, 22, true),
    ] {
        let shared = dictionary(noise(size));
        let input = &shared.bytes[10..210];
        let mut encoder = Algorithm::Dcz
            .maybe_compressor_with_dictionary(level, &shared)
            .unwrap();
        let wire = feed(&mut *encoder, &[&input[..50], &input[50..]]).unwrap();
        assert_eq!(undo_dcz(&shared, &wire), input);
        let found = wire.len() < DCZ_HEADER_SIZE + 80;
        assert_eq!(found, finds, "{size} {level}: {} bytes", wire.len());
    }
}

#[test]
fn what_takes_a_dictionary() {
    let plain = dictionary(text(100));
    for algorithm in ALL {
        let made = algorithm.maybe_compressor_with_dictionary(3, &plain);
        assert_eq!(made.is_some(), algorithm == Algorithm::Dcz, "{algorithm:?}");
        let off = algorithm.maybe_compressor_with_dictionary(0, &plain);
        assert!(off.is_none());
    }
    let own_format = dictionary([&[0x37, 0xa4, 0x30, 0xec][..], &text(100)].concat());
    let made = Algorithm::Dcz.maybe_compressor_with_dictionary(3, &own_format);
    assert!(made.is_none());
}

fn chunked(body: &[u8], cuts: &[prop::sample::Index]) -> Vec<Vec<u8>> {
    let mut at: Vec<usize> = cuts.iter().map(|cut| cut.index(body.len() + 1)).collect();
    at.extend([0, body.len()]);
    at.sort_unstable();
    at.windows(2)
        .map(|pair| body[pair[0]..pair[1]].to_vec())
        .collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn any_body_survives_any_chunking(
        body in prop_oneof![
            prop::collection::vec(any::<u8>(), 0..2000),
            (0usize..200_000).prop_map(text),
            (0usize..100_000).prop_map(noise),
        ],
        cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..8),
        wire_cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..8),
        coder in prop::sample::select(&CODERS[..]),
        level in 1u32..8,
    ) {
        let chunks = chunked(&body, &cuts);
        let chunks: Vec<&[u8]> = chunks.iter().map(|chunk| &chunk[..]).collect();
        let wire = feed(&mut *coder.compressor(level).unwrap(), &chunks).unwrap();
        prop_assert_eq!(&reference(coder, &wire), &body);

        let chunks = chunked(&wire, &wire_cuts);
        let chunks: Vec<&[u8]> = chunks.iter().map(|chunk| &chunk[..]).collect();
        let back = feed(&mut *coder.decompressor(true).unwrap(), &chunks).unwrap();
        prop_assert_eq!(back, body);
    }

    #[test]
    fn any_input_is_survived(
        wire in prop::collection::vec(any::<u8>(), 0..300),
        at in any::<prop::sample::Index>(),
        coder in prop::sample::select(&CODERS[..]),
    ) {
        let _ = decompress(coder, &wire);
        // Most of these get further than the first byte.
        let mut damaged = compress(coder, 3, &wire);
        let at = at.index(damaged.len());
        damaged[at] = damaged[at].wrapping_add(1);
        let _ = decompress(coder, &damaged);
    }

    #[test]
    fn any_dictionary_serves_any_body(
        known in prop::collection::vec(any::<u8>(), 0..500),
        body in prop::collection::vec(any::<u8>(), 0..500),
        level in 1u32..20,
    ) {
        let shared = dictionary(known);
        if let Some(mut encoder) = Algorithm::Dcz.maybe_compressor_with_dictionary(level, &shared) {
            let wire = feed(&mut *encoder, &[&body]).unwrap();
            prop_assert_eq!(undo_dcz(&shared, &wire), body);
        }
    }
}
