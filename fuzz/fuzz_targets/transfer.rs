//! The messages in which sockets travel to a new process: whatever comes is taken as it is or refused, no descriptor is
//! left open, and what is sent arrives.
#![no_main]

use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::net::UnixStream;

use libfuzzer_sys::arbitrary::{self, Arbitrary};
use libfuzzer_sys::fuzz_target;
use pingora_core::exchange::wire;

#[derive(Arbitrary, Debug)]
enum Input<'a> {
    /// A message of anybody.
    Foreign { payload: &'a str, fds: u8 },
    /// Messages of our own.
    Own(Vec<&'a str>),
}

/// What a message may have.
const SOCKETS: usize = 32;
const BYTES: usize = 2048;

fn open() -> usize {
    std::fs::read_dir("/proc/self/fd").expect("a list").count()
}

/// Takes what was received, and closes it.
fn close(fds: Vec<RawFd>) {
    for fd in fds {
        // SAFETY: it was received a moment ago, and is nobody else's.
        drop(unsafe { OwnedFd::from_raw_fd(fd) });
    }
}

fuzz_target!(|input: Input| {
    let (old, new) = UnixStream::pair().expect("sockets");
    new.set_nonblocking(true).expect("a socket");
    let before = open();
    match input {
        Input::Foreign { payload, fds } => {
            let fds = vec![old.as_raw_fd(); usize::from(fds) % 60];
            if wire::send_one(&old, payload, &fds).is_err() {
                return;
            }
            match wire::receive_one(&new) {
                Ok(Some((binds, received))) => {
                    assert_eq!((binds.len(), received.len()), (fds.len(), fds.len()));
                    assert!(binds
                        .iter()
                        .all(|bind| !bind.is_empty() && !bind.contains(' ')));
                    // A longer one is cut, so that its names and its sockets would not fit.
                    let cut = payload.len().min(BYTES);
                    assert_eq!(binds.join(" ").as_bytes(), &payload.as_bytes()[..cut]);
                    close(received);
                }
                Ok(None) => assert!(payload.is_empty()),
                Err(_) => {}
            }
        }
        Input::Own(binds) => {
            let binds: Vec<String> = binds.into_iter().map(str::to_owned).collect();
            let fds = vec![old.as_raw_fd(); binds.len()];
            let fits =
                |bind: &&String| !bind.is_empty() && !bind.contains(' ') && bind.len() <= BYTES;
            let expected: Vec<String> = binds.iter().filter(fits).cloned().collect();
            let mut arrived = Vec::new();
            for (payload, fds) in wire::messages(binds, fds) {
                assert!(payload.len() <= BYTES && fds.len() <= SOCKETS && !fds.is_empty());
                wire::send_one(&old, &payload, &fds).expect("a message of our own");
                let (binds, received) = wire::receive_one(&new)
                    .expect("a message of our own")
                    .expect("a message");
                assert_eq!(binds.len(), fds.len());
                close(received);
                arrived.extend(binds);
            }
            assert_eq!(arrived, expected);
        }
    }
    assert_eq!(open(), before, "descriptors that nobody closes");
});
