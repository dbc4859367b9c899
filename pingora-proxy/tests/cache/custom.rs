//! Clients and upstreams that speak a protocol of the tests' own, in frames.

use crate::aborts::{in_halves, stored_now};
use crate::common::custom::custom_peer;
use crate::common::*;
use crate::fixture::*;
use pingora_cache::CachePhase;
use std::io::{Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};

const FRESH: &str = "Cache-Control: max-age=60\r\n";

fn setup(tasks: bool) -> Setup {
    let mut setup = Setup::default();
    setup.options.force_custom = true;
    setup.custom_tasks = tasks;
    setup
}

struct Frames(UnixStream);

impl Frames {
    /// Asks for /a.
    fn begin(proxy: &Proxy) -> Self {
        let mut client = Frames(UnixStream::connect(proxy.path()).unwrap());
        client.0.set_read_timeout(Some(PATIENCE)).unwrap();
        client.send(b'H', b"GET /a\nhost: a\n");
        client.send(b'E', b"");
        client
    }

    fn send(&mut self, kind: u8, payload: &[u8]) {
        let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
        let frame = [&[kind][..], &length, payload].concat();
        self.0.write_all(&frame).unwrap();
    }

    fn next(&mut self) -> (u8, Vec<u8>) {
        let mut head = [0; 5];
        self.0.read_exact(&mut head).unwrap();
        let length = u32::from_be_bytes(head[1..].try_into().unwrap());
        let mut payload = vec![0; length as usize];
        self.0.read_exact(&mut payload).unwrap();
        (head[0], payload)
    }

    /// The rest of a response.
    fn body(&mut self) -> Vec<u8> {
        let mut body = Vec::new();
        loop {
            match self.next() {
                (b'D', data) => body.extend(data),
                (b'E', _) => return body,
                (kind, _) => panic!("a frame {}", kind as char),
            }
        }
    }
}

#[test]
fn a_client_that_takes_nothing_does_not_hold_the_fill_back() {
    const SIZE: usize = 4 << 20;
    for tasks in [false, true] {
        let origin = Counting::answering(|_, _| ok(FRESH, &"x".repeat(SIZE)));
        let app = Caching::to(&origin.origin);
        let (storage, log) = (app.storage, app.seen());
        let proxy = Proxy::start_with(setup(tasks), app);
        let mut slow = Frames::begin(&proxy);
        eventually("the response is stored", || {
            stored_now(storage, "/a").is_some_and(|body| body.len() == SIZE)
        });
        assert_eq!(slow.next().0, b'H');
        assert!(slow.body() == vec![b'x'; SIZE]);
        let seen = log.last(1);
        assert_eq!((seen.path.as_str(), seen.error), ("/a", None));
        assert_eq!(origin.count(), 1);
    }
}

#[test]
fn a_fill_goes_on_when_the_custom_messages_of_its_client_fail() {
    let (origin, rest) = in_halves();
    let app = Caching::to(&origin.origin);
    let (storage, log) = (app.storage, app.seen());
    let proxy = Proxy::start_with(setup(false), app);
    let mut client = Frames::begin(&proxy);
    assert_eq!(client.next().0, b'H');
    client.send(b'X', b"");
    // However long it takes: a fill that ended with its client would be logged at once.
    for _ in 0..200 {
        assert!(log.wait_for(0).is_empty(), "the fill has ended");
        std::thread::sleep(std::time::Duration::from_millis(1));
    }
    rest.wait();
    eventually("the response is stored", || {
        stored_now(storage, "/a").is_some_and(|body| body == b"the whole")
    });
    log.wait_for(1);
}

/// Answers requests one after the other: by two pieces of a body, or by the first and then not at all.
fn answer(listener: &UnixListener, whole: &[bool]) {
    for &whole in whole {
        let (stream, _) = listener.accept().unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let mut proxy = Frames(stream);
        while proxy.next().0 != b'E' {}
        proxy.send(b'H', b"200\ncache-control: max-age=60\n");
        proxy.send(b'D', b"the ");
        if whole {
            proxy.send(b'D', b"whole");
            proxy.send(b'E', b"");
            // The proxy may keep the connection, and it may not.
            let _ = proxy.0.read(&mut [0]);
        }
    }
}

#[test]
fn what_a_custom_upstream_answers_is_stored_when_it_is_whole() {
    let dir = tempfile::TempDir::new().unwrap();
    let path = dir.path().join("origin");
    let listener = UnixListener::bind(&path).unwrap();
    let origin = std::thread::spawn(move || answer(&listener, &[false, true]));
    let unused = Counting::answering(|_, _| ok(FRESH, "another"));
    let mut app = Caching::to(&unused.origin);
    app.peer = custom_peer(&path);
    let (storage, log) = (app.storage, app.seen());
    let proxy = Proxy::start(app);

    let mut client = proxy.connect();
    client.send("GET /a HTTP/1.1\r\nHost: a\r\n\r\n");
    let cut = client.read_to_end();
    assert!(cut.starts_with(b"HTTP/1.1 200") && !cut.ends_with(b"0\r\n\r\n"));
    assert!(log.last(1).error.is_some());
    assert_eq!(stored_now(storage, "/a"), None);

    let mut client = proxy.connect();
    for (requests, phase) in [(2, CachePhase::Miss), (3, CachePhase::Hit)] {
        assert_eq!(get(&mut client, "/a", "").text(), "the whole");
        assert_eq!(log.last(requests).phase, phase);
    }
    drop(proxy);
    origin.join().unwrap();
    assert_eq!(unused.count(), 0);
}
