use super::super::Algorithm;
use super::*;

const CODERS: [Algorithm; 3] = [Algorithm::Gzip, Algorithm::Brotli, Algorithm::Zstd];

fn limits() -> Decompression {
    Decompression::default()
}

/// So many MiB of zeros, in a coding.
fn zeros(algorithm: Algorithm, mib: usize) -> Vec<u8> {
    let mut encoder = algorithm.compressor(3).unwrap();
    let piece = vec![0; 1 << 20];
    let mut wire = Vec::new();
    for n in 1..=mib {
        wire.extend(encoder.encode(&piece, n == mib).unwrap());
    }
    wire
}

/// Decodes it as one chunk, step by step; says how many bytes there were, or that it failed after so many.
fn steps(decoder: &mut BoxedEncode, wire: &[u8]) -> (usize, bool) {
    let mut input = wire;
    let mut size = 0;
    loop {
        let Ok((output, more)) = decoder.encode_step(input, true) else {
            return (size, false);
        };
        assert!(output.len() <= STEP);
        assert!(!more || !output.is_empty(), "a step that leads to nothing");
        assert!(output.iter().all(|byte| *byte == 0));
        size += output.len();
        input = &[];
        if !more {
            return (size, true);
        }
    }
}

#[test]
fn a_chunk_that_becomes_much_does_so_step_by_step() {
    for algorithm in CODERS {
        let wire = zeros(algorithm, 12);
        let mut decoder = algorithm.decoder(limits()).unwrap();
        assert_eq!(
            steps(&mut decoder, &wire),
            (12 << 20, true),
            "{algorithm:?}"
        );
        assert_eq!(decoder.stat().1, wire.len());
        assert_eq!(decoder.stat().2, 12 << 20);
    }
}

#[test]
fn a_body_may_be_so_large() {
    for algorithm in CODERS {
        let wire = zeros(algorithm, 2);
        for (max, whole) in [(2 << 20, true), ((2 << 20) - 1, false), (0, false)] {
            let limits = Decompression {
                max_size: Some(max),
                ..limits()
            };
            let mut decoder = algorithm.decoder(limits).unwrap();
            let (size, decoded) = steps(&mut decoder, &wire);
            assert_eq!(decoded, whole, "{algorithm:?} {max}");
            assert!(size as u64 <= max);
        }
    }
}

#[test]
fn a_body_may_become_so_many_times_as_large() {
    for algorithm in CODERS {
        let wire = zeros(algorithm, 4);
        for (max_ratio, ratio_from, whole) in [
            (Some(10), 1 << 20, false),
            (Some(10), 4 << 20, true),
            (Some(1_000_000), 0, true),
            (None, 0, true),
        ] {
            let limits = Decompression {
                max_ratio,
                ratio_from,
                ..limits()
            };
            let mut decoder = algorithm.decoder(limits).unwrap();
            let (size, decoded) = steps(&mut decoder, &wire);
            assert_eq!(decoded, whole, "{algorithm:?} {max_ratio:?} {ratio_from}");
            assert!(whole || size as u64 <= ratio_from + STEP as u64);
        }
    }
}

/// By the limits that are there unless others are set.
#[test]
fn a_bomb_goes_off_in_the_decoder() {
    for algorithm in [Algorithm::Brotli, Algorithm::Zstd] {
        let wire = zeros(algorithm, 40);
        assert!(wire.len() < (40 << 20) / 1100);
        let mut decoder = algorithm.decoder(limits()).unwrap();
        let (size, decoded) = steps(&mut decoder, &wire);
        assert!(
            !decoded && size <= (16 << 20) + STEP,
            "{algorithm:?} {size}"
        );
    }
}

/// The library takes them for brotli, with windows of up to a gigabyte.
#[test]
fn large_windows_are_no_brotli() {
    let mut decoder = Algorithm::Brotli.decoder(limits()).unwrap();
    // WBITS 0b0010001 announces a large window; 30 bits of it.
    assert!(decoder.encode(&[0x11, 0x1e, 0, 0, 0, 0], false).is_err());
}

#[test]
fn an_idle_body_keeps_no_input() {
    let mut encoder = Algorithm::Gzip.compressor(1).unwrap();
    let wire = encoder.encode(&[7; 100_000], false).unwrap();
    let member = Decompress::new_gzip(GZIP_WINDOW_BITS);
    let mut decoder = Decoder {
        codec: Gzip {
            member,
            ended: false,
        },
        name: "",
        limits: limits(),
        input: Vec::new(),
        at: 0,
        full: false,
        ended: false,
        total_in: 0,
        total_out: 0,
        spent: Duration::ZERO,
    };
    let output = decoder.encode(&wire, false).unwrap();
    assert_eq!(output.len(), 100_000);
    assert_eq!(decoder.input.capacity(), 0);
}
