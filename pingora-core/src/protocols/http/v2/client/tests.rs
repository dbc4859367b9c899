//! Conversations with an origin in memory, with a clock that jumps.

use h2::server::SendResponse;
use http::{HeaderValue, Request, Response, Version};
use pingora_error::ErrorType;
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};

use super::*;
use crate::connectors::http::v2::{handshake, H2HandshakeSettings};

/// A connection, and its other end.
async fn connect(settings: H2HandshakeSettings) -> (ConnectionRef, DuplexStream) {
    let (origin, client) = tokio::io::duplex(1 << 20);
    let conn = handshake(Box::new(client), settings).await.unwrap();
    (conn, origin)
}

type Accepted = (Request<RecvStream>, SendResponse<Bytes>);

/// Serves a connection in the background, and hands out its streams.
fn serve(origin: DuplexStream) -> tokio::sync::mpsc::UnboundedReceiver<Accepted> {
    let (accepted, accepts) = tokio::sync::mpsc::unbounded_channel();
    tokio::spawn(async move {
        let mut connection = h2::server::handshake(origin).await.unwrap();
        while let Some(Ok(stream)) = connection.accept().await {
            if accepted.send(stream).is_err() {
                break;
            }
        }
    });
    accepts
}

/// A session on a connection to an origin whose streams are handed out.
async fn opened() -> (
    ConnectionRef,
    Http2Session,
    tokio::sync::mpsc::UnboundedReceiver<Accepted>,
) {
    let (conn, origin) = connect(H2HandshakeSettings::new()).await;
    let streams = serve(origin);
    let session = conn.spawn_stream().await.unwrap().unwrap();
    (conn, session, streams)
}

fn post(fields: &[(&'static str, &str)]) -> Box<RequestHeader> {
    let mut request = RequestHeader::build("POST", b"/path?query", None).unwrap();
    request.insert_header("Host", "origin.test").unwrap();
    for (name, value) in fields {
        request.append_header(*name, *value).unwrap();
    }
    Box::new(request)
}

fn ok() -> Response<()> {
    Response::new(())
}

#[tokio::test]
async fn an_exchange_by_hand() {
    let (conn, origin) = connect(H2HandshakeSettings::new()).await;
    let mut streams = serve(origin);
    let mut session = conn.spawn_stream().await.unwrap().unwrap();
    assert!(!session.check_response_end_or_error().unwrap());
    assert!(session.take_request_body_writer().is_none());
    let request = post(&[
        ("Connection", "close"),
        ("TE", "gzip, trailers"),
        ("X-Mine", "1"),
    ]);
    session.write_request_header(request, false).unwrap();
    assert_eq!(session.request_header().unwrap().headers["x-mine"], "1");
    session
        .write_request_body("hello ".into(), false)
        .await
        .unwrap();
    session
        .write_request_body("world".into(), false)
        .await
        .unwrap();
    session.finish_request_body().unwrap();

    let (request, mut respond) = streams.recv().await.unwrap();
    assert_eq!(request.uri(), "http://origin.test/path?query");
    assert_eq!(request.version(), Version::HTTP_2);
    let fields = request.headers();
    assert_eq!((fields.len(), &fields["te"], &fields["x-mine"]), {
        static TRAILERS: HeaderValue = HeaderValue::from_static("trailers");
        static ONE: HeaderValue = HeaderValue::from_static("1");
        (2, &TRAILERS, &ONE)
    });
    let mut body = request.into_body();
    let mut received = Vec::new();
    while let Some(data) = body.data().await {
        received.extend_from_slice(&data.unwrap());
    }
    assert_eq!(received, b"hello world");

    respond
        .send_informational(Response::builder().status(103).body(()).unwrap())
        .unwrap();
    let mut stream = respond.send_response(ok(), false).unwrap();
    stream.send_data("answer".into(), false).unwrap();
    let mut trailers = HeaderMap::new();
    trailers.insert("x-sum", HeaderValue::from_static("7"));
    stream.send_trailers(trailers).unwrap();

    session.read_response_header().await.unwrap();
    assert_eq!(session.response_header().unwrap().status, 200);
    assert!(!session.response_finished());
    assert_eq!(
        session.read_response_body().await.unwrap().unwrap(),
        "answer"
    );
    assert_eq!(session.read_response_body().await.unwrap(), None);
    assert_eq!(
        session.read_trailers().await.unwrap().unwrap()["x-sum"],
        "7"
    );
    assert!(session.response_finished());
    assert!(session.check_response_end_or_error().unwrap());
    assert_eq!(
        (session.body_bytes_sent(), session.body_bytes_received()),
        (11, 6)
    );
    assert!(!conn.is_idle());
    drop(session);
    assert!(conn.is_idle());
}

#[tokio::test]
async fn the_writer_can_be_taken() {
    let (conn, origin) = connect(H2HandshakeSettings::new()).await;
    let mut streams = serve(origin);
    let mut session = conn.spawn_stream().await.unwrap().unwrap();
    session.write_request_header(post(&[]), false).unwrap();
    let mut writer = session.take_request_body_writer().unwrap();
    assert!(session.take_request_body_writer().is_none());
    super::super::write_body(&mut writer, "hello".into(), true, None)
        .await
        .unwrap();
    let (mut request, _respond) = streams.recv().await.unwrap();
    let data = request.body_mut().data().await.unwrap().unwrap();
    assert_eq!(data, "hello");
}

/// What the settings say, and what is added to the window of the connection.
async fn windows(settings: H2HandshakeSettings) -> (u32, u32, u32) {
    let (_conn, mut origin) = connect(settings).await;
    let mut preface = [0; 24];
    origin.read_exact(&mut preface).await.unwrap();
    let (mut push, mut stream, mut connection) = (1, 65_535, 65_535);
    for _ in 0..2 {
        let mut head = [0; 9];
        origin.read_exact(&mut head).await.unwrap();
        let mut payload = vec![0; u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize];
        origin.read_exact(&mut payload).await.unwrap();
        if head[3] == 8 {
            connection += u32::from_be_bytes(payload.try_into().unwrap());
            continue;
        }
        for setting in payload.chunks(6) {
            let value = u32::from_be_bytes(setting[2..].try_into().unwrap());
            match setting[1] {
                2 => push = value,
                4 => stream = value,
                _ => {}
            }
        }
    }
    (push, stream, connection)
}

#[tokio::test]
async fn windows_are_wide_or_as_asked_for() {
    const MIB: u32 = 1024 * 1024;
    let one = windows(H2HandshakeSettings::new()).await;
    assert_eq!(one, (0, 2 * MIB, MIB / 8));
    let mut settings = H2HandshakeSettings::new();
    settings.max_streams = 2;
    assert_eq!(windows(settings).await, (0, 2 * MIB, 8 * MIB));
    let mut settings = H2HandshakeSettings::new();
    settings.stream_window_size = Some(100_000);
    settings.connection_window_size = Some(u32::MAX);
    assert_eq!(windows(settings).await, (0, 100_000, (1 << 31) - 1));
}

/// Has an origin send without end, and gives what it sent and what was taken of it.
async fn endless() -> (Http2Session, std::sync::Arc<std::sync::atomic::AtomicUsize>) {
    let (conn, origin) = connect(H2HandshakeSettings::new()).await;
    let mut streams = serve(origin);
    let mut session = conn.spawn_stream().await.unwrap().unwrap();
    session.write_request_header(post(&[]), true).unwrap();
    let (_request, mut respond) = streams.recv().await.unwrap();
    let mut stream = respond.send_response(ok(), false).unwrap();
    let sent = std::sync::Arc::new(std::sync::atomic::AtomicUsize::new(0));
    let count = sent.clone();
    tokio::spawn(async move {
        let _open = streams;
        loop {
            stream.reserve_capacity(1 << 20);
            let n = std::future::poll_fn(|cx| stream.poll_capacity(cx)).await;
            let Some(Ok(n)) = n else { return };
            stream.send_data(vec![b'x'; n].into(), false).unwrap();
            count.fetch_add(n, std::sync::atomic::Ordering::SeqCst);
        }
    });
    session.read_response_header().await.unwrap();
    (session, sent)
}

/// What a client does not take fills the memory with little, and one that takes it is not held up.
#[tokio::test]
async fn the_window_of_a_single_stream_grows_as_it_is_taken_from() {
    let (mut session, sent) = endless().await;
    let settle = || async {
        // All tasks run until there is nothing more for them to do.
        for _ in 0..1000 {
            tokio::task::yield_now().await;
        }
    };
    settle().await;
    let sent = || sent.load(std::sync::atomic::Ordering::SeqCst);
    assert_eq!(sent(), 128 * 1024);
    let mut taken = 0;
    while taken < 16 << 20 {
        taken += session.read_response_body().await.unwrap().unwrap().len();
    }
    settle().await;
    let ahead = sent() - taken;
    // The last piece has not opened the window again.
    assert!((1 << 20..=2 << 20).contains(&ahead), "{ahead}");
}

#[tokio::test]
async fn what_is_not_asked_for_stays_with_the_origin() {
    let mut settings = H2HandshakeSettings::new();
    settings.stream_window_size = Some(100_000);
    let (conn, origin) = connect(settings).await;
    let mut streams = serve(origin);
    let mut session = conn.spawn_stream().await.unwrap().unwrap();
    session.write_request_header(post(&[]), true).unwrap();
    let (_request, mut respond) = streams.recv().await.unwrap();
    let mut stream = respond.send_response(ok(), false).unwrap();
    let sent = std::sync::Arc::new(std::sync::atomic::AtomicUsize::new(0));
    let count = sent.clone();
    tokio::spawn(async move {
        let mut left = 1_000_000;
        while left > 0 {
            stream.reserve_capacity(left);
            let n = std::future::poll_fn(|cx| stream.poll_capacity(cx)).await;
            let n = n.unwrap().unwrap().min(left);
            left -= n;
            stream.send_data(vec![b'x'; n].into(), left == 0).unwrap();
            count.fetch_add(n, std::sync::atomic::Ordering::SeqCst);
        }
    });
    let sent = || sent.load(std::sync::atomic::Ordering::SeqCst);
    session.read_response_header().await.unwrap();
    // All tasks run until there is nothing more for them to do.
    for _ in 0..1000 {
        tokio::task::yield_now().await;
    }
    assert_eq!(sent(), 100_000);
    let mut received = session.read_response_body().await.unwrap().unwrap().len();
    for _ in 0..1000 {
        tokio::task::yield_now().await;
    }
    assert_eq!(
        sent(),
        100_000,
        "a piece that was given out may still be with its reader"
    );
    while let Some(piece) = session.read_response_body().await.unwrap() {
        received += piece.len();
    }
    assert_eq!(received, 1_000_000);
}

#[tokio::test(start_paused = true)]
async fn an_origin_has_its_time() {
    let (conn, origin) = connect(H2HandshakeSettings::new()).await;
    let mut streams = serve(origin);
    let mut session = conn.spawn_stream().await.unwrap().unwrap();
    session.read_timeout = Some(Duration::from_secs(3));
    session.write_timeout = Some(Duration::from_secs(5));
    session.write_request_header(post(&[]), false).unwrap();
    let began = tokio::time::Instant::now();
    let e = session.read_response_header().await.unwrap_err();
    assert_eq!(e.etype, ErrorType::ReadTimedout);
    assert_eq!(began.elapsed().as_secs(), 3);
    let _stream = streams.recv().await.unwrap();
    // The window of the origin is 65,535 bytes, and it takes nothing.
    let e = session
        .write_request_body(vec![0; 70_000].into(), true)
        .await;
    assert_eq!(e.unwrap_err().etype, ErrorType::WriteTimedout);
    assert_eq!(began.elapsed().as_secs(), 8);
}

/// HTTP/1.1 closes a connection on which a request timed out. Here others may go on, but no more come.
#[tokio::test(start_paused = true)]
async fn a_connection_that_was_silent_takes_no_more_requests() {
    for reads in [true, false] {
        let (conn, mut session, mut streams) = opened().await;
        session.read_timeout = Some(Duration::from_secs(3));
        session.write_timeout = Some(Duration::from_secs(3));
        session.write_request_header(post(&[]), reads).unwrap();
        let _stream = streams.recv().await.unwrap();
        assert!(!conn.is_shutting_down());
        if reads {
            session.read_response_header().await.unwrap_err();
        } else {
            let more = vec![0; 70_000].into();
            session.write_request_body(more, true).await.unwrap_err();
        }
        assert!(conn.is_shutting_down());
        assert!(conn.spawn_stream().await.unwrap().is_none());
    }
}

/// As servers send them that flush each line.
#[tokio::test]
async fn many_small_pieces_are_no_fault() {
    let (_conn, mut session, mut streams) = opened().await;
    session.write_request_header(post(&[]), true).unwrap();
    let (_request, mut respond) = streams.recv().await.unwrap();
    let mut stream = respond.send_response(ok(), false).unwrap();
    for n in 1..=2000 {
        let line = Bytes::from_static(b"ten bytes\n");
        stream.send_data(line, n == 2000).unwrap();
    }
    session.read_response_header().await.unwrap();
    // All of it has come before anything of it is taken.
    for _ in 0..1000 {
        tokio::task::yield_now().await;
    }
    let mut received = 0;
    while let Some(piece) = session.read_response_body().await.unwrap() {
        received += piece.len();
    }
    assert_eq!(received, 20_000);
}

/// A server by hand: it sends DATA for each stream that was reset, as what was on its way, and answers the stream `last`.
async fn late(mut origin: DuplexStream, last: u32) {
    const DATA: u8 = 0;
    const HEADERS: u8 = 1;
    const RST_STREAM: u8 = 3;
    const SETTINGS: u8 = 4;
    let frame = |kind: u8, flags: u8, id: u32, payload: &[u8]| {
        let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
        let id = id.to_be_bytes();
        [&length[1..], &[kind, flags], &id, payload].concat()
    };
    let mut preface = [0; 24];
    origin.read_exact(&mut preface).await.unwrap();
    origin.write_all(&frame(SETTINGS, 0, 0, b"")).await.unwrap();
    let mut head = [0; 9];
    while origin.read_exact(&mut head).await.is_ok() {
        let [a, b, c, kind, flags, id @ ..] = head;
        let mut payload = vec![0; u32::from_be_bytes([0, a, b, c]) as usize];
        origin.read_exact(&mut payload).await.unwrap();
        let id = u32::from_be_bytes(id);
        let answer = match kind {
            SETTINGS if flags == 0 => frame(SETTINGS, 1, 0, b""),
            RST_STREAM => frame(DATA, 0, id, b"late"),
            // `:status 200`, and the end of fields and stream.
            HEADERS if id == last => frame(HEADERS, 5, id, b"\x88"),
            _ => continue,
        };
        origin.write_all(&answer).await.unwrap();
    }
}

/// RFC 9113 section 5.1: what comes for a stream that was reset is ignored.
#[tokio::test]
async fn clients_that_leave_do_not_end_the_connection() {
    const LEAVE: u32 = 1100;
    let mut settings = H2HandshakeSettings::new();
    settings.max_streams = 100;
    let (conn, origin) = connect(settings).await;
    tokio::spawn(late(origin, 2 * LEAVE + 1));
    for _ in 0..LEAVE / 100 {
        let mut leaving = Vec::new();
        for _ in 0..100 {
            let mut session = conn.spawn_stream().await.unwrap().unwrap();
            session.write_request_header(post(&[]), true).unwrap();
            leaving.push(session);
        }
        for _ in 0..1000 {
            tokio::task::yield_now().await;
        }
        drop(leaving);
        for _ in 0..1000 {
            tokio::task::yield_now().await;
        }
    }
    let mut session = conn.spawn_stream().await.unwrap().unwrap();
    session.write_request_header(post(&[]), true).unwrap();
    session.read_response_header().await.unwrap();
}

/// The wait for a 100 is over once the body is sent all the same: the head has its time after it.
#[tokio::test(start_paused = true)]
async fn the_time_of_a_head_begins_with_the_end_of_the_request() {
    let (_conn, mut session, mut streams) = opened().await;
    session.response_header_timeout = Some(Duration::from_secs(3));
    let head = post(&[("Expect", "100-continue")]);
    session.write_request_header(head, false).unwrap();
    let _stream = streams.recv().await.unwrap();
    for (seconds, last) in [(2, false), (100, true)] {
        let time = Duration::from_secs(seconds);
        let read = tokio::time::timeout(time, session.read_response_header()).await;
        assert!(read.is_err(), "{read:?}");
        let body = Bytes::from_static(b"x");
        session.write_request_body(body, last).await.unwrap();
    }
    let began = tokio::time::Instant::now();
    let e = session.read_response_header().await.unwrap_err();
    assert_eq!(e.etype, ErrorType::ReadTimedout);
    assert_eq!(began.elapsed().as_secs(), 3);
}

#[tokio::test(start_paused = true)]
async fn a_ping_that_is_not_answered_ends_the_connection() {
    let mut settings = H2HandshakeSettings::new();
    settings.ping_interval = Some(Duration::from_secs(10));
    let (conn, mut origin) = connect(settings).await;
    // It speaks HTTP/2, and then says nothing more.
    origin
        .write_all(&[0, 0, 0, 4, 0, 0, 0, 0, 0])
        .await
        .unwrap();
    let mut session = conn.spawn_stream().await.unwrap().unwrap();
    session.write_request_header(post(&[]), true).unwrap();
    let began = tokio::time::Instant::now();
    let e = session.read_response_header().await.unwrap_err();
    assert_eq!(e.etype, PING_TIMEDOUT);
    assert_eq!(began.elapsed().as_secs(), 15);
    assert!(conn.ping_timedout());
    tokio::task::yield_now().await;
    assert!(conn.is_closed());
    assert!(conn.spawn_stream().await.unwrap().is_none());
}

#[tokio::test]
async fn a_body_keeps_to_the_length_that_was_promised() {
    let (conn, origin) = connect(H2HandshakeSettings::new()).await;
    let mut streams = serve(origin);
    let mut session = conn.spawn_stream().await.unwrap().unwrap();
    let request = post(&[("Content-Length", "5")]);
    session.write_request_header(request, false).unwrap();
    session
        .write_request_body("hello world".into(), true)
        .await
        .unwrap();
    let (mut request, _respond) = streams.recv().await.unwrap();
    assert_eq!(request.body_mut().data().await.unwrap().unwrap(), "hello");
    drop(session);

    let mut session = conn.spawn_stream().await.unwrap().unwrap();
    let request = post(&[("Content-Length", "5")]);
    session.write_request_header(request, false).unwrap();
    session
        .write_request_body("hell".into(), false)
        .await
        .unwrap();
    let e = session.finish_request_body().unwrap_err();
    assert_eq!(e.etype, ErrorType::WriteError);
    let (mut request, _respond) = streams.recv().await.unwrap();
    while let Some(Ok(_)) = request.body_mut().data().await {}
    assert!(
        !request.body().is_end_stream(),
        "it was reset and is not whole"
    );
}

#[tokio::test]
async fn a_length_is_told_once_or_refused() {
    for (lengths, told) in [(["5", "5"], true), (["5", "6"], false)] {
        let (conn, origin) = connect(H2HandshakeSettings::new()).await;
        let mut streams = serve(origin);
        let mut session = conn.spawn_stream().await.unwrap().unwrap();
        session.write_request_header(post(&[]), true).unwrap();
        let (_request, mut respond) = streams.recv().await.unwrap();
        let mut response = ok();
        for length in lengths {
            let length = HeaderValue::from_static(length);
            response.headers_mut().append("content-length", length);
        }
        let mut body = respond.send_response(response, false).unwrap();
        body.send_data("hello".into(), true).unwrap();
        let read = session.read_response_header().await;
        assert_eq!(read.is_ok(), told, "{lengths:?}");
        if told {
            let head = session.response_header().unwrap();
            assert_eq!(head.headers.get_all("content-length").iter().count(), 1);
        } else {
            assert!(session.read_response_body().await.is_err());
        }
    }
}

#[tokio::test]
async fn what_a_failure_means_is_said() {
    use pingora_error::RetryType::{Decided, ReusedOnly};
    let cases = [
        (
            Some(Reason::REFUSED_STREAM),
            ErrorType::H2Error,
            Decided(true),
            true,
        ),
        (
            Some(Reason::HTTP_1_1_REQUIRED),
            ErrorType::H2Downgrade,
            Decided(true),
            false,
        ),
        (
            Some(Reason::INTERNAL_ERROR),
            ErrorType::H2Error,
            Decided(false),
            false,
        ),
        (None, ErrorType::ConnectionClosed, ReusedOnly, false),
    ];
    for (reason, etype, retry, untouched) in cases {
        let (conn, origin) = connect(H2HandshakeSettings::new()).await;
        let mut session = conn.spawn_stream().await.unwrap().unwrap();
        session.write_request_header(post(&[]), true).unwrap();
        match reason {
            Some(reason) => {
                let mut streams = serve(origin);
                let (_, mut respond) = streams.recv().await.unwrap();
                respond.send_reset(reason);
                let e = session.read_response_header().await.unwrap_err();
                assert_eq!((&e.etype, e.retry), (&etype, retry), "{e}");
                assert_eq!(was_not_processed(&e), untouched, "{e}");
            }
            None => {
                drop(origin);
                let e = session.read_response_header().await.unwrap_err();
                assert_eq!((&e.etype, e.retry), (&etype, retry), "{e}");
            }
        }
    }
}

/// Reads what a client begins with, up to the head of its first request.
async fn until_headers(origin: &mut DuplexStream) {
    const HEADERS: u8 = 1;
    origin.read_exact(&mut [0; 24]).await.unwrap();
    loop {
        let mut head = [0; 9];
        origin.read_exact(&mut head).await.unwrap();
        let length = usize::from(head[1]) * 256 + usize::from(head[2]);
        origin.read_exact(&mut vec![0; length]).await.unwrap();
        if head[3] == HEADERS {
            return;
        }
    }
}

/// Whether a peer speaks HTTP/2 is known by what it has answered before.
#[tokio::test]
async fn a_protocol_error_tells_of_the_version_only_before_any_answer() {
    for answered in [false, true] {
        let settings = H2HandshakeSettings::new();
        let (conn, mut origin) = connect(settings).await;
        // SETTINGS, and an answer of 200 to the first stream.
        origin
            .write_all(&[0, 0, 0, 4, 0, 0, 0, 0, 0])
            .await
            .unwrap();
        if answered {
            let mut session = conn.spawn_stream().await.unwrap().unwrap();
            session.write_request_header(post(&[]), true).unwrap();
            until_headers(&mut origin).await;
            let answer = [0, 0, 1, 1, 5, 0, 0, 0, 1, 0x88];
            origin.write_all(&answer).await.unwrap();
            session.read_response_header().await.unwrap();
        }
        let mut session = conn.spawn_stream().await.unwrap().unwrap();
        session.write_request_header(post(&[]), true).unwrap();
        // A PING of the wrong length, or on a stream, is an error of the connection.
        origin
            .write_all(&[0, 0, 1, 6, 0, 0, 0, 0, 0, 1])
            .await
            .unwrap();
        let e = session.read_response_header().await.unwrap_err();
        let (etype, retry) = if answered {
            (ErrorType::H2Error, false)
        } else {
            (ErrorType::InvalidH2, true)
        };
        assert_eq!((&e.etype, e.retry()), (&etype, retry), "{e}");
    }
}
