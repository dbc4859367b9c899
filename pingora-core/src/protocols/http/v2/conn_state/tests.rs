use std::sync::atomic::Ordering::SeqCst;
use std::sync::Arc;
use std::task::Wake;

use super::*;

/// Counts how often it was woken.
#[derive(Default)]
struct Woken(AtomicUsize);

impl Wake for Woken {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, SeqCst);
    }
}

impl Woken {
    fn count(&self) -> usize {
        self.0.load(SeqCst)
    }
}

fn waker() -> (Arc<Woken>, Waker) {
    let woken = Arc::new(Woken::default());
    (woken.clone(), Waker::from(woken))
}

/// A stream that asks for room.
struct Stream {
    woken: Arc<Woken>,
    waker: Waker,
    place: Option<Place>,
}

impl Stream {
    fn new() -> Self {
        let (woken, waker) = waker();
        Stream {
            woken,
            waker,
            place: None,
        }
    }

    fn waits(&mut self, state: &ConnState) -> bool {
        let mut cx = Context::from_waker(&self.waker);
        state.poll_room(&mut self.place, &mut cx).is_pending()
    }
}

/// Holds so many bytes before a socket that takes nothing.
fn blocked(bytes: usize) -> ConnState {
    let state = ConnState::new(1000);
    state.queued(bytes);
    state.handed_over(bytes);
    state.set_blocked(true);
    state
}

#[test]
fn a_stream_waits_while_nothing_is_taken_and_is_woken_by_room() {
    let state = blocked(1000);
    let mut stream = Stream::new();
    assert!(stream.waits(&state));
    state.settle();
    assert_eq!(stream.woken.count(), 0, "nothing has changed");
    state.written(400);
    state.settle();
    assert_eq!(stream.woken.count(), 0, "more than half is still there");
    state.written(100);
    state.settle();
    assert_eq!(stream.woken.count(), 1);
    assert!(!stream.waits(&state));
    state.settle();
    assert_eq!(stream.woken.count(), 1, "nobody waits");
}

#[test]
fn below_the_limit_nobody_waits() {
    let state = blocked(999);
    assert!(!Stream::new().waits(&state));
    state.queued(1);
    assert!(Stream::new().waits(&state));
    state.dropped(1);
    assert!(!Stream::new().waits(&state));
}

#[test]
fn a_limit_of_nothing_lets_one_piece_pass_at_a_time() {
    let state = ConnState::new(0);
    assert!(!Stream::new().waits(&state));
    state.queued(10);
    state.set_blocked(true);
    assert!(Stream::new().waits(&state));
}

/// Their client may never open the windows of the others.
#[test]
fn what_waits_for_windows_holds_up_nobody_while_the_socket_takes() {
    let state = ConnState::new(1000);
    state.queued(5000);
    let mut stream = Stream::new();
    assert!(!stream.waits(&state));
    state.set_blocked(true);
    assert!(stream.waits(&state));
    state.set_blocked(false);
    state.settle();
    assert_eq!(stream.woken.count(), 1);
    assert!(!stream.waits(&state));
}

/// A slow client reads what its windows have room for.
#[test]
fn a_client_that_reads_lets_more_come_and_one_whose_socket_has_room_does_not() {
    let state = ConnState::new(1000);
    let begun = state.progress();
    state.written(100);
    state.set_blocked(true);
    state.set_blocked(true);
    assert_eq!(state.progress(), begun);
    state.set_blocked(false);
    assert_ne!(state.progress(), begun);
    let read = state.progress();
    state.set_blocked(false);
    assert_eq!(state.progress(), read);
    state.set_opened(1);
    assert_ne!(state.progress(), read);
}

/// What a stream handed over before it was reset is never written.
#[test]
fn a_count_that_never_comes_down_by_itself_is_put_right() {
    let state = blocked(5000);
    let mut stream = Stream::new();
    assert!(stream.waits(&state));
    state.set_blocked(false);
    state.settle();
    assert_eq!(stream.woken.count(), 1);
    state.set_blocked(true);
    assert!(!stream.waits(&state));
}

#[test]
fn a_stream_that_asks_again_has_one_place() {
    let state = blocked(1000);
    let (mut one, mut other) = (Stream::new(), Stream::new());
    for _ in 0..10 {
        assert!(one.waits(&state) && other.waits(&state));
    }
    assert_eq!(state.waiting.lock().streams.len(), 2);
    state.leave(&mut other.place);
    state.written(1000);
    state.settle();
    assert_eq!((one.woken.count(), other.woken.count()), (1, 0));
    // A place of an earlier round is nobody else's.
    state.queued(1000);
    let mut third = Stream::new();
    assert!(third.waits(&state));
    state.leave(&mut one.place);
    state.dropped(1000);
    state.settle();
    assert_eq!(third.woken.count(), 1);
}

/// It may have looked for waiting streams just before, on another thread.
#[test]
fn the_driver_is_told_of_a_stream_that_begins_to_wait() {
    let state = blocked(1000);
    let (driver, waker) = waker();
    state.set_driver(&waker);
    let mut stream = Stream::new();
    assert!(stream.waits(&state) && stream.waits(&state));
    assert_eq!(driver.count(), 1);
}

#[test]
fn its_own_shutdown_and_field_block() {
    let state = ConnState::new(0);
    assert!(!state.is_leaving());
    state.set_leaving();
    assert!(state.is_leaving());
    assert_eq!(state.field_block(), 0);
    state.set_field_block(3);
    assert_eq!(state.field_block(), 3);
}
