use super::*;

/// The bytes of a frame.
fn frame(kind: u8, flags: u8, id: u32, payload: &[u8]) -> Vec<u8> {
    let mut frame = (payload.len() as u32).to_be_bytes()[1..].to_vec();
    frame.extend([kind, flags]);
    frame.extend(id.to_be_bytes());
    frame.extend(payload);
    frame
}

const WHOLE: u8 = END_HEADERS | END_STREAM;
const GET: &[u8] = &[0x82, 0x86, 0x84];

fn begun() -> Frames {
    let mut frames = Frames::new();
    frames.received(&mut [b'p'; PREFACE]).unwrap();
    frames
}

/// What is said to these frames, in one piece and byte by byte.
fn said(frames: &[Vec<u8>]) -> [Option<Reason>; 2] {
    let mut at_once = begun();
    let mut whole = frames.concat();
    let first = at_once.received(&mut whole).err();
    let mut in_bytes = begun();
    let second = frames
        .concat()
        .chunks_mut(1)
        .find_map(|byte| in_bytes.received(byte).err());
    [first, second]
}

#[test]
fn what_ends_a_connection() {
    let get = frame(HEADERS, WHOLE, 1, GET);
    let post = frame(HEADERS, END_HEADERS, 1, GET);
    let large = [0, 4, 0x80, 0, 0, 0];
    let second_large = [[0, 3, 0, 0, 0, 9], large].concat();
    type Case = (&'static str, Vec<Vec<u8>>, Option<Reason>);
    let cases: Vec<Case> = vec![
        (
            "settings",
            vec![frame(SETTINGS, 0, 0, &[0, 4, 0x7f, 0xff, 0xff, 0xff])],
            None,
        ),
        (
            "settings of 5 bytes",
            vec![frame(SETTINGS, 0, 0, &[0; 5])],
            Some(Reason::FRAME_SIZE_ERROR),
        ),
        (
            "acknowledged with values",
            vec![frame(SETTINGS, ACK, 0, &[0; 6])],
            Some(Reason::FRAME_SIZE_ERROR),
        ),
        (
            "a large window",
            vec![frame(SETTINGS, 0, 0, &large)],
            Some(Reason::FLOW_CONTROL_ERROR),
        ),
        (
            "a large window, second",
            vec![frame(SETTINGS, 0, 0, &second_large)],
            Some(Reason::FLOW_CONTROL_ERROR),
        ),
        (
            "ping of 7 bytes",
            vec![frame(PING, 0, 0, &[0; 7])],
            Some(Reason::FRAME_SIZE_ERROR),
        ),
        (
            "window update of 3",
            vec![frame(WINDOW_UPDATE, 0, 0, &[0; 3])],
            Some(Reason::FRAME_SIZE_ERROR),
        ),
        (
            "reset of 5",
            vec![get.clone(), frame(RST_STREAM, 0, 1, &[0; 5])],
            Some(Reason::FRAME_SIZE_ERROR),
        ),
        (
            "priority of 4",
            vec![frame(PRIORITY, 0, 1, &[0; 4])],
            Some(Reason::FRAME_SIZE_ERROR),
        ),
        (
            "push",
            vec![frame(PUSH_PROMISE, END_HEADERS, 1, &[0; 4])],
            Some(Reason::PROTOCOL_ERROR),
        ),
        (
            "two requests",
            vec![get.clone(), frame(HEADERS, WHOLE, 3, GET)],
            None,
        ),
        (
            "head twice",
            vec![get.clone(), get.clone()],
            Some(Reason::STREAM_CLOSED),
        ),
        (
            "data after the end",
            vec![get.clone(), frame(DATA, 0, 1, b"x")],
            Some(Reason::STREAM_CLOSED),
        ),
        (
            "a body and trailers",
            vec![
                post.clone(),
                frame(DATA, 0, 1, b"x"),
                frame(HEADERS, WHOLE, 1, &[]),
            ],
            None,
        ),
        (
            "data after a reset",
            vec![
                post.clone(),
                frame(RST_STREAM, 0, 1, &[0; 4]),
                frame(DATA, 0, 1, b"x"),
            ],
            Some(Reason::STREAM_CLOSED),
        ),
        (
            "data on a stream that never was",
            vec![frame(HEADERS, WHOLE, 5, GET), frame(DATA, 0, 3, b"x")],
            None,
        ),
        (
            "a frame within a head",
            vec![frame(HEADERS, 0, 1, GET), frame(PING, 0, 0, &[0; 8])],
            Some(Reason::PROTOCOL_ERROR),
        ),
        (
            "continuation of nothing",
            vec![frame(CONTINUATION, 0, 1, &[])],
            Some(Reason::PROTOCOL_ERROR),
        ),
        (
            "a head in pieces",
            vec![
                frame(HEADERS, END_STREAM, 1, &[0x82, 0x40, 0x01]),
                frame(CONTINUATION, END_HEADERS, 1, b"a\x01b"),
            ],
            None,
        ),
        (
            "a cut block",
            vec![frame(HEADERS, WHOLE, 1, &[0x40])],
            Some(Reason::COMPRESSION_ERROR),
        ),
        (
            "index 0",
            vec![frame(HEADERS, WHOLE, 1, &[0x80])],
            Some(Reason::COMPRESSION_ERROR),
        ),
        (
            "padding and priority",
            vec![frame(
                HEADERS,
                WHOLE | PADDED | WITH_PRIORITY,
                1,
                &[2, 0, 0, 0, 0, 9, 0x82, 0x40, 0x40],
            )],
            None,
        ),
        (
            "padding",
            vec![frame(HEADERS, WHOLE | PADDED, 1, &[1, 0x82, 0x40])],
            None,
        ),
    ];
    for (name, frames, reason) in cases {
        assert_eq!(said(&frames), [reason; 2], "{name}");
    }
}

#[test]
fn trailers_with_a_pseudo_field_lose_the_end_of_their_stream() {
    let mut frames = begun();
    let mut bytes = [
        frame(HEADERS, END_HEADERS, 1, GET),
        frame(HEADERS, WHOLE, 1, &[0x84]),
    ]
    .concat();
    let before = bytes.clone();
    frames.received(&mut bytes).unwrap();
    let changed: Vec<usize> = (0..bytes.len())
        .filter(|n| bytes[*n] != before[*n])
        .collect();
    assert_eq!(changed, [HEAD + GET.len() + FLAGS]);
    assert_eq!(bytes[changed[0]], END_HEADERS);
    // The head was passed on already: nothing can be changed.
    let trailers = frame(HEADERS, WHOLE, 3, &[0x84]);
    for cut in [1, 5, 9] {
        let mut frames = begun();
        frames
            .received(&mut frame(HEADERS, END_HEADERS, 3, GET))
            .unwrap();
        let (mut first, mut second) = (trailers[..cut].to_vec(), trailers[cut..].to_vec());
        frames.received(&mut first).unwrap();
        let outcome = frames.received(&mut second);
        let expected = if cut <= FLAGS {
            Ok(())
        } else {
            Err(Reason::PROTOCOL_ERROR)
        };
        assert_eq!(outcome, expected, "{cut}");
    }
}

/// As clients of gRPC do that measure their line.
#[test]
fn a_ping_for_each_small_piece_of_a_response_is_free_and_one_for_its_answer_is_not() {
    const ANSWER: usize = 17;
    let mut frames = begun();
    let ping = |frames: &mut Frames, written: usize| {
        frames.sent(written);
        let taken = frames.received(&mut frame(PING, 0, 0, &[0; 8]));
        frames.sent(ANSWER);
        taken
    };
    for n in 0..5000 {
        assert_eq!(ping(&mut frames, 30), Ok(()), "{n}");
    }
    let flood = (0..1000).find(|_| ping(&mut frames, 0).is_err());
    assert!(flood.is_some_and(|n| n < 300), "{flood:?}");
}

#[test]
fn a_window_of_cancelled_requests_is_let_pass_and_a_flood_of_them_is_not() {
    let mut frames = begun();
    let mut passed = 0;
    for n in 0..1000 {
        let id = 2 * n + 1;
        frames
            .received(&mut frame(HEADERS, END_HEADERS, id, GET))
            .unwrap();
        match frames.received(&mut frame(RST_STREAM, 0, id, &[0; 4])) {
            Ok(()) => passed += 1,
            Err(reason) => {
                assert_eq!(reason, Reason::ENHANCE_YOUR_CALM);
                break;
            }
        }
    }
    assert!((200..400).contains(&passed), "{passed}");
    frames.sent(1024 * 100);
    for n in 0..50 {
        let reset = frames.received(&mut frame(RST_STREAM, 0, 2 * n + 1, &[0; 4]));
        assert_eq!(reset, Ok(()), "what was sent gives credit: {n}");
    }
}
