use super::*;

/// All that a body comes to: its bytes, the trailers, and what follows it in the input.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Whole {
    body: Vec<u8>,
    trailers: Option<Vec<(String, Vec<u8>)>>,
    rest: Vec<u8>,
}

/// Decodes pieces; `None` when they end before the body does.
fn decode(decoder: &mut Decoder, pieces: &[&[u8]]) -> Result<Option<Whole>, Refusal> {
    let (mut body, mut input) = (Vec::new(), BytesMut::new());
    let mut pieces = pieces.iter();
    loop {
        match decoder.decode(&mut input)? {
            Decoded::Data(data) => {
                assert!(!data.is_empty());
                body.extend_from_slice(&data);
            }
            Decoded::NeedMore => match pieces.next() {
                Some(piece) => input.extend_from_slice(piece),
                None => return Ok(None),
            },
            Decoded::End(trailers) => {
                assert!(decoder.is_done());
                let trailers = trailers.map(|t| {
                    let field = |(n, v): (&http::HeaderName, &http::HeaderValue)| {
                        (n.as_str().to_owned(), v.as_bytes().to_vec())
                    };
                    t.iter().map(field).collect()
                });
                let mut rest = input.to_vec();
                pieces.for_each(|piece| rest.extend_from_slice(piece));
                return Ok(Some(Whole {
                    body,
                    trailers,
                    rest,
                }));
            }
        }
    }
}

fn chunked(lenient: bool) -> Decoder {
    Decoder::new(Framing::Chunked, lenient)
}

fn one_shot(input: &[u8], lenient: bool) -> Result<Option<Whole>, Refusal> {
    decode(&mut chunked(lenient), &[input])
}

/// In one piece, in single bytes, and in two pieces for every cut: always the same.
fn every_cut(input: &[u8], lenient: bool) -> Result<Option<Whole>, Refusal> {
    let whole = one_shot(input, lenient);
    let bytes: Vec<&[u8]> = input.chunks(1).collect();
    let name = input.escape_ascii();
    assert_eq!(
        decode(&mut chunked(lenient), &bytes),
        whole,
        "bytes of {name}"
    );
    for cut in 0..=input.len() {
        let (a, b) = input.split_at(cut);
        assert_eq!(
            decode(&mut chunked(lenient), &[a, b]),
            whole,
            "{name} cut at {cut}"
        );
    }
    whole
}

fn body_of(input: &[u8], lenient: bool) -> Result<Option<Vec<u8>>, Refusal> {
    every_cut(input, lenient).map(|whole| whole.map(|w| w.body))
}

#[test]
fn chunked_bodies() {
    let rows: &[(&[u8], &[u8], &[u8])] = &[
        (b"0\r\n\r\n", b"", b""),
        (b"5\r\nhello\r\n0\r\n\r\n", b"hello", b""),
        (
            b"5\r\nhello\r\n1\r\n \r\n5\r\nworld\r\n0\r\n\r\nGET /",
            b"hello world",
            b"GET /",
        ),
        (b"A\r\n0123456789\r\n00\r\n\r\n", b"0123456789", b""),
        (b"a\r\n0123456789\r\n0\r\n\r\n\r\n", b"0123456789", b"\r\n"),
        (
            b"0000000000000005\r\nhello\r\n0000000000000000\r\n\r\n",
            b"hello",
            b"",
        ),
        (b"5;a\r\nhello\r\n0;b=c\r\n\r\n", b"hello", b""),
        (b"5;a=\"x\ty\xff\"; q\r\nhello\r\n0\r\n\r\n", b"hello", b""),
        (b"5;\r\nhello\r\n0\r\n\r\n", b"hello", b""),
        (
            b"5 ;a=b\r\nhello\r\n0\t ; a\t= \"b\" ;c\r\n\r\n",
            b"hello",
            b"",
        ),
        (b"2\r\n\r\n\r\n0\r\n\r\n", b"\r\n", b""),
    ];
    for (input, body, rest) in rows {
        let want = Whole {
            body: body.to_vec(),
            trailers: None,
            rest: rest.to_vec(),
        };
        for lenient in [false, true] {
            let got = every_cut(input, lenient);
            assert_eq!(got, Ok(Some(want.clone())), "{}", input.escape_ascii());
        }
        // Every part of it is a body that is cut short.
        let end = input.len() - rest.len();
        for cut in 0..end {
            let mut decoder = chunked(false);
            assert_eq!(decode(&mut decoder, &[&input[..cut]]), Ok(None));
            assert_eq!(decoder.eof(), Err(Truncated));
            assert!(!decoder.is_done());
        }
    }
}

#[test]
fn malformed_chunks() {
    use Refusal::*;
    let rows: &[(&[u8], Refusal)] = &[
        (b"\r\n", ChunkSize),
        (b";\r\n", ChunkSize),
        (b"x\r\n", ChunkSize),
        (b"-1\r\n", ChunkSize),
        (b"+1\r\n", ChunkSize),
        (b"0x1\r\n", ChunkSize),
        (b" 1\r\n", ChunkSize),
        (b"1_0\r\n", ChunkSize),
        (b"1,2\r\n", ChunkSize),
        (b"1\n", ChunkSize),
        (b"1;a\n", BareLineEnd),
        (b"1;a\0\r\n", ChunkSize),
        (b"1;a\x7f\r\n", ChunkSize),
        (b"1\rx", BareLineEnd),
        (b"1\r\r\n", BareLineEnd),
        (b"1;a\rb\r\n", BareLineEnd),
        (b"1\r\nxy\r\n", ChunkEnd),
        (b"1\r\nx\n0\r\n", ChunkEnd),
        (b"1\r\nx\r0\r\n", ChunkEnd),
        (b"1\r\nx0\r\n", ChunkEnd),
        (b"1\r\nx\r\n\r\n", ChunkSize),
        (b"00000000000000001\r\nx\r\n", ChunkSize),
        (b"10000000000000000\r\nx\r\n", ChunkSize),
        (b"FFFFFFFFFFFFFFFFF\r\nx\r\n", ChunkSize),
        (b"0\r\n\n", BareLineEnd),
        (b"0\r\nX: y\n\r\n", BareLineEnd),
        (b"0\r\nX\r\n\r\n", Trailer),
        (b"0\r\nX : y\r\n\r\n", Trailer),
        (b"0\r\nX: y\r\n z\r\n\r\n", Trailer),
        (b"0\r\nX: \0\r\n\r\n", Trailer),
        (b"0\r\nX: a\rb\r\n\r\n", Trailer),
    ];
    for (input, want) in rows {
        for lenient in [false, true] {
            let got = body_of(input, lenient);
            assert_eq!(got, Err(*want), "{} {lenient}", input.escape_ascii());
        }
    }
}

/// White space behind the size: a few origins pad the number with it. What it must not do is hide another.
#[test]
fn lenient_sizes() {
    let rows: &[(&[u8], bool)] = &[
        (b"5 \r\nhello\r\n0 \r\n\r\n", true),
        (b"5 \t  \r\nhello\r\n0\t\r\n\r\n", true),
        (b"5 6\r\nhello\r\n0\r\n\r\n", false),
        (b"5  x\r\nhello\r\n0\r\n\r\n", false),
        (b"5 \nhello\r\n0\r\n\r\n", false),
    ];
    for (input, passes) in rows {
        let name = input.escape_ascii();
        assert_eq!(body_of(input, false), Err(Refusal::ChunkSize), "{name}");
        let want = if *passes {
            Ok(Some(b"hello".to_vec()))
        } else {
            Err(Refusal::ChunkSize)
        };
        assert_eq!(body_of(input, true), want, "{name}");
    }
}

#[test]
fn the_largest_chunk() {
    let mut decoder = chunked(false);
    let mut input = BytesMut::from(&b"FFFFFFFFFFFFFFFF\r\nxy"[..]);
    assert!(matches!(decoder.decode(&mut input), Ok(Decoded::Data(d)) if d == "xy"));
    assert_eq!(decoder.remaining(), u64::MAX - 2);
    assert_eq!(decoder.eof(), Err(Truncated));
}

#[test]
fn extensions_are_limited_over_the_whole_body() {
    let one = |n: usize| format!("1;{}\r\nx\r\n", "e".repeat(n));
    let chunks = |chunks: usize, n: usize| format!("{}0\r\n\r\n", one(n).repeat(chunks));
    let got = one_shot(chunks(1, LIMITS.chunk_extension_bytes).as_bytes(), false);
    assert!(matches!(got, Ok(Some(_))));
    for (n, bytes) in [
        (1, LIMITS.chunk_extension_bytes + 1),
        (128, 129),
        (LIMITS.chunk_extension_bytes + 1, 1),
    ] {
        let got = one_shot(chunks(n, bytes).as_bytes(), false);
        assert_eq!(got, Err(Refusal::ChunkExtension), "{n} times {bytes}");
    }
    let spaces = format!("1{}\r\n", " ".repeat(LIMITS.chunk_extension_bytes + 2));
    for lenient in [false, true] {
        let got = one_shot(spaces.as_bytes(), lenient);
        assert_eq!(got, Err(Refusal::ChunkExtension));
    }
}

#[test]
fn trailers() {
    let whole = every_cut(
        b"3\r\nabc\r\n0\r\nX-Sum: 1\r\nx-sum:2\r\nY:\r\n\r\nnext",
        false,
    );
    let field = |n: &str, v: &[u8]| (n.to_owned(), v.to_vec());
    let want = Whole {
        body: b"abc".to_vec(),
        trailers: Some(vec![
            field("x-sum", b"1"),
            field("x-sum", b"2"),
            field("y", b""),
        ]),
        rest: b"next".to_vec(),
    };
    assert_eq!(whole, Ok(Some(want)));

    let sized = |n: usize| format!("0\r\nX: {}\r\n\r\n", "y".repeat(n - 7));
    let got = one_shot(sized(LIMITS.trailer_bytes).as_bytes(), false);
    assert!(matches!(got, Ok(Some(_))));
    let large = sized(LIMITS.trailer_bytes + 1);
    assert_eq!(one_shot(large.as_bytes(), false), Err(Refusal::Trailer));
    let cut = [&large.as_bytes()[..100], &large.as_bytes()[100..]];
    assert_eq!(decode(&mut chunked(false), &cut), Err(Refusal::Trailer));
    let endless = format!("0\r\n{}", "y".repeat(LIMITS.trailer_bytes + 1));
    assert_eq!(one_shot(endless.as_bytes(), false), Err(Refusal::Trailer));
}

#[test]
fn bodies_of_a_length() {
    for cut in 0..=8 {
        let input = b"helloGET";
        let mut decoder = Decoder::new(Framing::Length(5), false);
        assert_eq!(decoder.remaining(), 5);
        let whole = decode(&mut decoder, &[&input[..cut], &input[cut..]]);
        let want = Whole {
            body: b"hello".to_vec(),
            trailers: None,
            rest: b"GET".to_vec(),
        };
        assert_eq!(whole, Ok(Some(want)));
        assert_eq!(decoder.eof(), Ok(()));
    }
    let mut short = Decoder::new(Framing::Length(5), false);
    assert_eq!(decode(&mut short, &[b"hell"]), Ok(None));
    assert_eq!(short.remaining(), 1);
    assert_eq!(short.eof(), Err(Truncated));
    assert!(!short.is_done());

    let mut huge = Decoder::new(Framing::Length(u64::MAX), false);
    assert_eq!(decode(&mut huge, &[b"x"]), Ok(None));
    assert_eq!(huge.remaining(), u64::MAX - 1);
}

#[test]
fn no_body_takes_nothing() {
    for framing in [Framing::Empty, Framing::Length(0)] {
        let mut decoder = Decoder::new(framing, false);
        assert!(decoder.is_done());
        let mut input = BytesMut::from(&b"GET"[..]);
        assert!(matches!(decoder.decode(&mut input), Ok(Decoded::End(None))));
        assert_eq!(input, "GET");
        assert_eq!(decoder.eof(), Ok(()));
    }
}

#[test]
fn bodies_until_the_end_of_the_connection() {
    let mut decoder = Decoder::new(Framing::UntilClose, false);
    assert_eq!(decode(&mut decoder, &[b"he", b"llo"]), Ok(None));
    assert!(!decoder.is_done());
    assert_eq!(decoder.eof(), Ok(()));
    assert!(decoder.is_done());
}

#[test]
fn data_is_not_copied() {
    let mut input = BytesMut::from(&b"5\r\nhello\r\n0\r\n\r\n"[..]);
    let range = input.as_ptr_range();
    let Ok(Decoded::Data(data)) = chunked(false).decode(&mut input) else {
        panic!("no data");
    };
    assert!(range.contains(&data.as_ptr()));
}
