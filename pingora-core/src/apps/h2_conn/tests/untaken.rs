//! Responses that are whole, and whose client opens no window for them.

use std::pin::pin;

use futures::poll;
use pingora_http::ResponseHeader;
use tokio::io::DuplexStream;

use super::*;

const SIZE: usize = 5;

/// Queues a body whatever the windows say after a while, and ends, or has another task do so; a second stream stays for
/// so long.
#[derive(Clone)]
struct Hasty {
    options: HttpServerOptions,
    write_timeout: Option<Duration>,
    answers_after: Duration,
    hands_on: bool,
    second_stays: Duration,
}

#[async_trait::async_trait]
impl HttpServerApp for Hasty {
    async fn process_new_http(
        self: &Arc<Self>,
        mut session: Session,
        _: &ShutdownWatch,
    ) -> Option<ReusedHttpStream> {
        if session.req_header().uri.path() != "/" {
            tokio::time::sleep(self.second_stays).await;
            return None;
        }
        let hasty = Hasty::clone(self);
        let answering = async move {
            session.set_write_timeout(hasty.write_timeout);
            tokio::time::sleep(hasty.answers_after).await;
            let Session::H2(stream) = &mut session else {
                return;
            };
            let head = ResponseHeader::build(200, None).unwrap();
            stream.write_response_header(Box::new(head), false).unwrap();
            let body = Bytes::from_static(&[b'x'; SIZE]);
            let _ = poll!(pin!(stream.write_body(body, false)));
            stream.finish().unwrap();
        };
        match self.hands_on {
            true => drop(tokio::spawn(answering)),
            false => answering.await,
        }
        None
    }

    fn server_options(&self) -> Option<&HttpServerOptions> {
        Some(&self.options)
    }
}

/// SETTINGS that close the windows of all streams.
const CLOSED: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\x06\x04\0\0\0\0\0\0\x04\0\0\0\0";
/// GET / on the first stream.
const FIRST: &[u8] = b"\0\0\x06\x01\x05\0\0\0\x01\x82\x84\x86\x41\x01a";
/// GET /index.html on the second one.
const SECOND: &[u8] = b"\0\0\x06\x01\x05\0\0\0\x03\x82\x85\x86\x41\x01a";
/// SETTINGS that leave them as they are.
const OPEN: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";

/// WINDOW_UPDATE of so many bytes for the first stream, each time so many seconds are over.
#[derive(Clone, Copy)]
struct Opens {
    seconds: u64,
    bytes: u8,
}

impl Opens {
    fn update(self) -> [u8; 13] {
        [0, 0, 4, 8, 0, 0, 0, 0, 1, 0, 0, 0, self.bytes]
    }
}

/// What a client got.
#[derive(Debug, Default)]
struct Got {
    data: usize,
    ended: bool,
    goodbyes: Vec<u8>,
    seconds: u64,
}

/// Reads until the connection ends and answers PINGs.
async fn client(mut stream: DuplexStream, says: &[&[u8]], opens: Option<Opens>) -> Got {
    let started = Instant::now();
    let mut got = Got::default();
    stream.write_all(&says.concat()).await.unwrap();
    let mut head = [0; 9];
    let mut have = 0;
    let period = opens.map(|opens| Duration::from_secs(opens.seconds));
    let mut next = period.map(|period| started + period);
    loop {
        let opening = async {
            match next {
                Some(next) => tokio::time::sleep_until(next).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            read = stream.read(&mut head[have..]) => match read.unwrap() {
                0 => break,
                read => have += read,
            },
            () = opening => {
                if let Some(opens) = opens {
                    let _ = stream.write_all(&opens.update()).await;
                }
                next = next.zip(period).map(|(next, period)| next + period);
            }
        }
        if have < head.len() {
            continue;
        }
        have = 0;
        let len = u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize;
        let mut payload = vec![0; len];
        stream.read_exact(&mut payload).await.unwrap();
        match (head[3], head[4]) {
            (0, flags) => {
                got.data += len;
                got.ended |= flags & 1 != 0;
            }
            (6, 0) => {
                let answer = [&[0, 0, 8, 6, 1, 0, 0, 0, 0], &payload[..]].concat();
                let _ = stream.write_all(&answer).await;
            }
            (7, _) => got.goodbyes.push(payload[7]),
            _ => {}
        }
    }
    got.seconds = started.elapsed().as_secs();
    got
}

async fn serve_one(app: Hasty, says: &[&[u8]], opens: Option<Opens>) -> Got {
    let (_stops, shutdown) = tokio::sync::watch::channel(false);
    let (stream, peer) = tokio::io::duplex(4096);
    let app = Arc::new(app);
    let served = serve(&app, Box::new(stream), &shutdown);
    tokio::join!(client(peer, says, opens), served).0
}

fn hasty() -> Hasty {
    Hasty {
        options: HttpServerOptions {
            h2_idle_timeout: Some(Duration::from_secs(30)),
            ..Default::default()
        },
        write_timeout: None,
        answers_after: Duration::ZERO,
        hands_on: false,
        second_stays: Duration::ZERO,
    }
}

const CANCEL: u8 = 8;

#[tokio::test(start_paused = true)]
async fn a_client_that_opens_no_window_is_sent_away() {
    let default = LIMITS.client_write.as_secs();
    for (write_timeout, limit) in [(None, default), (Some(Duration::from_secs(200)), 200)] {
        let app = Hasty {
            write_timeout,
            ..hasty()
        };
        let got = serve_one(app, &[CLOSED, FIRST], None).await;
        assert_eq!(got.goodbyes, [CANCEL], "{got:?}");
        assert!(got.data == 0 && !got.ended, "{got:?}");
        // Its end, and the time in which the client can still read.
        assert!((limit..=limit + 2).contains(&got.seconds), "{got:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn one_that_opens_it_now_and_then_gets_all() {
    let opens = Opens {
        seconds: 50,
        bytes: 1,
    };
    let got = serve_one(hasty(), &[CLOSED, FIRST], Some(opens)).await;
    assert!(got.data == SIZE && got.ended, "{got:?}");
    // It is let go for being idle.
    assert_eq!(got.goodbyes, [0, 0], "{got:?}");
}

#[tokio::test(start_paused = true)]
async fn its_time_begins_when_the_application_has_ended() {
    let app = Hasty {
        write_timeout: Some(Duration::from_secs(10)),
        answers_after: Duration::from_secs(15),
        ..hasty()
    };
    let opens = Opens {
        seconds: 20,
        bytes: SIZE as u8,
    };
    let got = serve_one(app, &[CLOSED, FIRST], Some(opens)).await;
    assert!(got.data == SIZE && got.ended, "{got:?}");
    assert_eq!(got.goodbyes, [0, 0], "{got:?}");
}

#[tokio::test(start_paused = true)]
async fn an_application_may_hand_its_stream_to_another_task() {
    let app = Hasty {
        answers_after: Duration::from_secs(1000),
        hands_on: true,
        ..hasty()
    };
    let got = serve_one(app, &[OPEN, FIRST], None).await;
    assert!(got.data == SIZE && got.ended, "{got:?}");
    assert_eq!(got.goodbyes, [0, 0], "{got:?}");
}

#[tokio::test(start_paused = true)]
async fn nobody_is_sent_away_while_another_request_is_served() {
    let app = Hasty {
        second_stays: Duration::from_secs(1000),
        ..hasty()
    };
    let got = serve_one(app, &[CLOSED, FIRST, SECOND], None).await;
    assert_eq!(got.goodbyes, [CANCEL], "{got:?}");
    assert!((1000..=1000 + 62).contains(&got.seconds), "{got:?}");
}
