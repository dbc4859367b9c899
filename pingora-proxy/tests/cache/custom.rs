//! Clients that speak a protocol of the tests' own, in frames.

use crate::aborts::{in_halves, stored_now};
use crate::common::*;
use crate::fixture::*;
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;

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
