//! Who is called, and that nobody waits for ever.

use std::sync::atomic::AtomicU32;
use std::task::Wake;
use std::time::{Duration, Instant};

use super::super::counts::Counts;
use super::super::places::Places;
use super::*;

fn is_called(ticket: &Ticket) -> bool {
    let cx = Context::from_waker(Waker::noop());
    ticket.poll_called(&cx).is_ready()
}

fn wait(queue: &Arc<Queue>, generation: u64) -> Ticket {
    let ticket = queue.enter(generation, 10).unwrap();
    // The look that everybody has first.
    while is_called(&ticket) {}
    ticket
}

#[test]
fn the_first_is_called_and_calls_the_next_when_it_leaves() {
    let queue = Arc::new(Queue::default());
    queue.call();
    let (one, two, three) = (wait(&queue, 1), wait(&queue, 1), wait(&queue, 1));
    // The second and the third have had the first look again.
    assert!(is_called(&one));
    one.pass(false);
    assert!(!is_called(&two));
    queue.call();
    queue.call();
    assert!(is_called(&one) && !is_called(&one) && !is_called(&two));
    drop(one);
    assert!(is_called(&two) && !is_called(&three));
    two.pass(false);
    assert!(!is_called(&three));
    two.pass(true);
    assert!(is_called(&three));
    drop(three);
    assert!(!is_called(&two));
    assert_eq!(queue.waiting(), 1);
}

#[test]
fn one_that_leaves_while_it_is_called_passes_that_on() {
    let queue = Arc::new(Queue::default());
    let (one, two) = (wait(&queue, 1), wait(&queue, 1));
    queue.call();
    drop(one);
    assert!(is_called(&two));
}

#[test]
fn one_that_comes_back_has_the_place_that_it_left() {
    let queue = Arc::new(Queue::default());
    let (one, two, three) = (wait(&queue, 1), wait(&queue, 1), wait(&queue, 1));
    while is_called(&one) {}
    two.leave();
    two.leave();
    assert!(is_called(&three) && queue.waiting() == 2);
    // It does not stand in the way of the others, wherever it was.
    queue.call();
    assert!(is_called(&one));
    one.leave();
    assert!(is_called(&three));
    queue.call();
    assert!(is_called(&three));
    two.come_back();
    two.come_back();
    assert_eq!(queue.waiting(), 2);
    assert!(is_called(&two) && !is_called(&two));
    queue.call();
    assert!(is_called(&two) && !is_called(&three));
    drop(two);
    assert!(is_called(&three) && queue.waiting() == 1);
}

#[test]
fn requests_from_before_a_reload_are_passed_over() {
    let queue = Arc::new(Queue::default());
    let (old, older, new) = (wait(&queue, 1), wait(&queue, 1), wait(&queue, 2));
    assert!(is_called(&old));
    old.pass(false);
    assert!(is_called(&new) && !is_called(&older));
}

#[test]
fn it_is_bounded() {
    let queue = Arc::new(Queue::default());
    assert!(queue.enter(1, 0).is_none());
    let one = queue.enter(1, 1).unwrap();
    assert!(queue.enter(1, 1).is_none());
    drop(one);
    assert!(queue.enter(1, 1).is_some());
}

struct Thread(std::thread::Thread);

impl Wake for Thread {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

/// Waits until it is called; `false` if that takes so long that a call was lost.
fn block_on(ticket: &Ticket) -> bool {
    let waker = Waker::from(Arc::new(Thread(std::thread::current())));
    let began = Instant::now();
    while ticket
        .poll_called(&Context::from_waker(&waker))
        .is_pending()
    {
        std::thread::park_timeout(Duration::from_secs(60));
        if began.elapsed() > Duration::from_secs(50) {
            return false;
        }
    }
    true
}

/// More threads than places: each waits for one, has it, leaves it, and comes again; some go away while they wait.
#[test]
fn no_call_is_lost_among_threads() {
    const THREADS: u64 = 6;
    let (queue, places) = (&Arc::new(Queue::default()), &Places::default());
    let counts = (0..THREADS).map(|worker| Arc::new(Counts::of(worker)));
    let all = &Mutex::new(counts.collect::<Vec<_>>());
    places.set_max(Some(2), all);
    let open = &AtomicU32::new(0);
    std::thread::scope(|scope| {
        for thread in 0..THREADS {
            scope.spawn(move || {
                let own = all.lock().unwrap()[thread as usize].clone();
                for round in 0..2_000 {
                    if queue.waiting() > 0 || !places.take(&own, all) {
                        let ticket = queue.enter(thread % 2, 100).unwrap();
                        if (round + thread) % 5 == 0 {
                            // Its client has gone, called or not.
                            continue;
                        }
                        loop {
                            assert!(block_on(&ticket), "a call was lost");
                            if places.take(&own, all) {
                                break;
                            }
                            ticket.pass(places.has_room(all));
                        }
                    }
                    assert!(open.fetch_add(1, SeqCst) < 2);
                    std::thread::yield_now();
                    open.fetch_sub(1, SeqCst);
                    places.leave(&own);
                    queue.call();
                }
            });
        }
    });
    assert_eq!(queue.waiting(), 0);
}
