use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::*;
use crate::apps::{HttpServerOptions, ReusedHttpStream};

mod untaken;

/// Serves nothing.
#[derive(Default)]
struct Nothing(HttpServerOptions);

#[async_trait::async_trait]
impl HttpServerApp for Nothing {
    async fn process_new_http(
        self: &Arc<Self>,
        _: Session,
        _: &ShutdownWatch,
    ) -> Option<ReusedHttpStream> {
        None
    }

    fn server_options(&self) -> Option<&HttpServerOptions> {
        Some(&self.0)
    }
}

/// It knows then which of its requests were served, and the connection does not wait for it.
#[tokio::test(start_paused = true)]
async fn a_client_that_answers_no_goodbye_gets_the_last_one() {
    let (_stops, shutdown) = tokio::sync::watch::channel(false);
    let (stream, mut client) = tokio::io::duplex(1024);
    let app = Arc::new(Nothing(HttpServerOptions {
        h2_idle_timeout: Some(Duration::from_secs(1)),
        ..Default::default()
    }));
    let started = Instant::now();
    let heard = async {
        client.write_all(HELLO).await.unwrap();
        let mut heard = Vec::new();
        client.read_to_end(&mut heard).await.unwrap();
        (heard, started.elapsed().as_secs())
    };
    let ((heard, took), ()) = tokio::join!(heard, serve(&app, Box::new(stream), &shutdown));
    let mut goodbyes = Vec::new();
    let mut rest = &heard[..];
    while let [a, b, c, kind, _, _, _, _, _, behind @ ..] = rest {
        let (payload, next) = behind.split_at(u32::from_be_bytes([0, *a, *b, *c]) as usize);
        if *kind == 7 {
            goodbyes.push(payload.to_vec());
        }
        rest = next;
    }
    let [first, last] = &goodbyes[..] else {
        panic!("{goodbyes:?}");
    };
    assert_eq!(first[..], [0x7f, 0xff, 0xff, 0xff, 0, 0, 0, 0]);
    assert_eq!(
        last[..],
        [0; 8],
        "no stream was served, and nothing is wrong"
    );
    assert_eq!(took, 1 + LIMITS.h2_client_last_words.as_secs());
}

const HELLO: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";

/// Reads frames until the connection ends, answers PINGs, and gives the error codes of the GOAWAYs.
async fn goodbyes(client: &mut tokio::io::DuplexStream) -> Vec<u8> {
    let mut codes = Vec::new();
    let mut head = [0; 9];
    while client.read_exact(&mut head).await.is_ok() {
        let mut payload = vec![0; usize::from(u16::from_be_bytes([head[1], head[2]]))];
        client.read_exact(&mut payload).await.unwrap();
        match (head[3], head[4]) {
            (6, 0) => {
                let answer = [&[0, 0, 8, 6, 1, 0, 0, 0, 0], &payload[..]].concat();
                client.write_all(&answer).await.unwrap();
            }
            (7, _) => codes.push(payload[7]),
            _ => {}
        }
    }
    codes
}

#[tokio::test(start_paused = true)]
async fn an_idle_client_that_answers_is_let_go_all_the_same() {
    let (_stops, shutdown) = tokio::sync::watch::channel(false);
    let (stream, mut client) = tokio::io::duplex(1024);
    let app = Arc::new(Nothing(HttpServerOptions {
        h2_idle_timeout: Some(super::super::H2_IDLE_TIMEOUT),
        h2_ping_interval: Some(Duration::from_secs(7)),
        ..Default::default()
    }));
    let started = Instant::now();
    let heard = async {
        client.write_all(HELLO).await.unwrap();
        (goodbyes(&mut client).await, started.elapsed().as_secs())
    };
    let ((codes, took), ()) = tokio::join!(heard, serve(&app, Box::new(stream), &shutdown));
    assert_eq!(codes, [0, 0]);
    assert_eq!(took, 60);
}

/// A head that goes on and on, a byte now and then, is no sign of life.
#[tokio::test(start_paused = true)]
async fn a_field_block_without_an_end_ends_the_connection() {
    let (_stops, shutdown) = tokio::sync::watch::channel(false);
    let (stream, client) = tokio::io::duplex(1024);
    let app = Arc::new(Nothing::default());
    let started = Instant::now();
    let (mut reader, mut writer) = tokio::io::split(client);
    let trickle = async {
        writer.write_all(HELLO).await.unwrap();
        // HEADERS with room for a hundred bytes, and without END_HEADERS.
        let head = [0, 0, 100, 1, 0, 0, 0, 0, 1];
        writer.write_all(&head).await.unwrap();
        while writer.write_all(&[0x82]).await.is_ok() {
            tokio::time::sleep(Duration::from_secs(5)).await;
        }
    };
    let heard = async {
        let mut heard = Vec::new();
        reader.read_to_end(&mut heard).await.unwrap();
        (heard, started.elapsed().as_secs())
    };
    let served = async { tokio::join!(heard, serve(&app, Box::new(stream), &shutdown)).0 };
    let (heard, took) = tokio::select! {
        served = served => served,
        () = trickle => unreachable!("the connection ends first"),
    };
    let calm = [0, 0, 8, 7, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 11];
    assert_eq!(heard[heard.len() - calm.len()..], calm);
    // Its end, and the time in which the client can still read.
    assert!((60..=62).contains(&took), "{took} s");
}

/// An idle connection keeps both for as long as it lasts.
#[tokio::test]
async fn what_waits_is_small() {
    let (_stops, shutdown) = tokio::sync::watch::channel(false);
    let (stream, _client) = tokio::io::duplex(64);
    let app = Arc::new(Nothing::default());
    let serving = serve(&app, Box::new(stream), &shutdown);
    let size = size_of_val(&serving);
    assert!(size <= 96, "{size} bytes");
    let conn = size_of::<Connection<Stream, Bytes>>();
    let own = size_of::<Driver<Nothing>>() - conn;
    assert!(own <= 328, "{own} bytes besides the {conn} of h2");
}
