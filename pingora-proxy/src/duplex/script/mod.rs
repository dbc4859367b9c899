//! An exchange without sockets, played as a list of operations, and what must hold of each.
//!
//! Client, origin, storage and filters are scripts over one [`World`]. The exchange is polled only when it was woken, so
//! that a lost wake-up is an exchange that does not end. Bytes count up in both directions, so that one that is lost,
//! sent twice or out of its place is seen.

mod ends;
mod filters;

use std::collections::VecDeque;
use std::future::Future;
use std::pin::pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Wake, Waker};
use std::time::Duration;

use bytes::Bytes;
use pingora_error::ErrorType::ReadTimedout;
use pingora_error::{BError, ErrorSource, Result};
use pingora_http::RequestHeader;

use super::{Duplex, Outcome};
use ends::{Client, Origin};
use filters::Filters;

/// The longest piece.
pub(crate) const PIECE: usize = 8 * 1024;

/// How a message of the response is treated.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Mode {
    #[default]
    Pass,
    /// The storage gets all, and so does the client.
    Copy,
    /// The storage gets all, and the client reads it from there.
    Keep,
    /// The client gets the head, and reads the body nowhere.
    Drop,
}

/// What the script is like.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Setup {
    pub(crate) mode: Mode,
    /// The pipeline goes on without the client.
    pub(crate) goes_on: bool,
    /// The client's connection tells that it has left.
    pub(crate) tells: bool,
    /// The origin answers by leaving HTTP.
    pub(crate) switches: bool,
    /// Each piece of the response becomes two, on the first or on the last step.
    pub(crate) halves: bool,
    pub(crate) halves_late: bool,
    /// Some pieces are delayed.
    pub(crate) delays: bool,
    /// The third message is the last one that anyone takes, if it is a piece of the body.
    pub(crate) cuts: bool,
    /// The filters wait themselves, now and then.
    pub(crate) waits: bool,
    /// Nothing is asked: the response is all there is.
    pub(crate) answers: bool,
    /// The content is complete when so many bytes have come, whatever ends it.
    pub(crate) length: Option<usize>,
    /// The client needs so many bytes only, a part of what is stored.
    pub(crate) enough: Option<usize>,
    /// The time for which nothing may pass a tunnel whose client has ended its direction.
    pub(crate) half_closed: Option<Duration>,
}

/// What happens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Op {
    /// The client sends so many bytes.
    Send(usize),
    /// It ends the request, or its direction of a tunnel.
    SendEnd,
    /// It takes so many bytes.
    Take(usize),
    Leave,
    /// Its connection has room, or none.
    Room(bool),
    /// The origin takes so many bytes.
    OriginTakes(usize),
    OriginTakesNoMore,
    Interim,
    /// The origin sends its head, or so many bytes.
    Answer(usize),
    AnswerEnd,
    AnswerFails,
    /// So many bytes of the storage can be read.
    Show(usize),
    StorageFails,
    /// A while passes.
    Time,
}

/// A message of the origin.
enum Step {
    Interim,
    Head(bool),
    Body(Bytes, bool),
    Fail,
}

/// One direction: bytes that count up, what of them has arrived, and whether their end has.
#[derive(Default)]
struct Flow {
    made: usize,
    arrived: usize,
    ended: bool,
}

impl Flow {
    fn make(&mut self, n: usize) -> Bytes {
        let piece: Vec<u8> = (self.made..self.made + n)
            .map(|at| (at % 251) as u8)
            .collect();
        self.made += n;
        piece.into()
    }

    /// Bytes have arrived: the next ones of those that were made.
    fn check(&mut self, piece: &[u8]) {
        assert!(piece.is_empty() || !self.ended, "bytes after the end");
        assert!(
            self.arrived + piece.len() <= self.made,
            "more than was sent"
        );
        for byte in piece {
            assert_eq!(
                usize::from(*byte),
                self.arrived % 251,
                "at {}",
                self.arrived
            );
            self.arrived += 1;
        }
    }

    fn end(&mut self) {
        assert!(!self.ended, "a second end");
        self.ended = true;
    }
}

/// All that there is.
#[derive(Default)]
struct World {
    setup: Setup,
    // What the client has sent, and the origin has taken.
    request: VecDeque<Bytes>,
    request_over: bool,
    request_read: bool,
    request_flow: Flow,
    asked: usize,
    taken_by_origin: usize,
    origin_takes: usize,
    deaf: bool,
    // What the origin has sent, and the client has taken.
    response: VecDeque<Step>,
    headed: bool,
    response_over: bool,
    response_read: bool,
    response_flow: Flow,
    queued: usize,
    heads: usize,
    client_takes: usize,
    left: bool,
    no_room: bool,
    origin_failed: bool,
    // What the storage has, and the client has read of it.
    kept: Vec<u8>,
    kept_head: bool,
    kept_over: bool,
    head_read: bool,
    read: usize,
    shown: usize,
    storage_failed: bool,
    tunnel: bool,
    cut: bool,
    wakers: Vec<Waker>,
}

impl World {
    /// Whoever waits is woken when something happens.
    fn wait<T>(&mut self, cx: &Context<'_>) -> Poll<T> {
        if !self.wakers.iter().any(|waker| waker.will_wake(cx.waker())) {
            self.wakers.push(cx.waker().clone());
        }
        Poll::Pending
    }

    fn wake(&mut self) {
        self.wakers.drain(..).for_each(Waker::wake);
    }

    fn happen(&mut self, op: Op) {
        match op {
            Op::Send(n) if !self.request_over => {
                let piece = self.request_flow.make(n.clamp(1, PIECE));
                self.request.push_back(piece);
            }
            Op::SendEnd => self.request_over = true,
            Op::Take(n) => self.client_takes = self.client_takes.saturating_add(n),
            Op::Leave => self.left = true,
            Op::Room(room) => self.no_room = !room,
            Op::OriginTakes(n) => self.origin_takes = self.origin_takes.saturating_add(n),
            Op::OriginTakesNoMore => self.deaf = true,
            Op::Interim if !self.headed => self.response.push_back(Step::Interim),
            Op::Answer(_) if !self.headed => self.head(false),
            Op::Answer(n) if !self.response_over => {
                let piece = self.response_flow.make(n.clamp(1, PIECE));
                self.response.push_back(Step::Body(piece, false));
            }
            Op::AnswerEnd if !self.response_over => {
                self.response_over = true;
                if !self.headed && !self.setup.switches {
                    self.head(true);
                } else {
                    if !self.headed {
                        self.head(false);
                    }
                    self.response.push_back(Step::Body(Bytes::new(), true));
                }
            }
            Op::AnswerFails if !self.response_over => {
                self.response_over = true;
                self.origin_failed = true;
                self.response.push_back(Step::Fail);
            }
            Op::Show(n) => self.shown = self.shown.saturating_add(n),
            Op::StorageFails => self.storage_failed = true,
            _ => return,
        }
        self.wake();
    }

    fn head(&mut self, end: bool) {
        self.headed = true;
        self.response.push_back(Step::Head(end));
    }

    fn check_bounds(&self) {
        let most = 16 * 1024 + 2 * PIECE;
        assert!(
            self.queued <= most,
            "{} bytes wait for the client",
            self.queued
        );
        let asked = self.asked - self.taken_by_origin;
        assert!(asked <= most, "{asked} bytes wait for the origin");
    }
}

/// The world, for all who are in it.
#[derive(Clone, Default)]
struct Shared(Arc<Mutex<World>>);

impl Shared {
    fn get(&self) -> MutexGuard<'_, World> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// How it went.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum End {
    Complete,
    /// The client was gone, and the response complete all the same.
    ClientGone,
    /// Someone's fault.
    Failed(ErrorSource),
}

/// What arrived.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Report {
    pub(crate) end: End,
    /// Bytes of the request that the origin has.
    pub(crate) request: usize,
    /// Bytes of the response that the client has.
    pub(crate) response: usize,
    /// Bytes of the response that the storage has.
    pub(crate) kept: usize,
    /// The storage has the end of the response.
    pub(crate) stored: bool,
    /// Heads of responses that the client has, those of 1xx with them.
    pub(crate) heads: usize,
}

/// Is set when the exchange is woken.
struct Flag(AtomicBool);

impl Wake for Flag {
    fn wake(self: Arc<Self>) {
        self.0.store(true, Ordering::Release);
    }
}

/// Plays `ops`, and then all that is needed for the exchange to end. Needs a runtime whose time is paused.
pub(crate) async fn play(setup: Setup, ops: &[Op]) -> Report {
    let shared = Shared::default();
    shared.get().setup = setup;
    let mut origin = Origin(shared.clone());
    let mut duplex = Duplex::new(Filters::new(shared.clone(), setup), &mut origin);
    if !setup.answers {
        let request = RequestHeader::build("GET", b"/", None);
        let asked = duplex.ask(Box::new(request.expect("a constant head")));
        assert!(asked.is_ok());
    }
    let mut exchange = pin!(duplex.run());
    let flag = Arc::new(Flag(AtomicBool::new(true)));
    let waker = Waker::from(flag.clone());
    let mut done = None;
    let rest = [
        &[Op::SendEnd, Op::Room(true), Op::OriginTakes(usize::MAX)][..],
        &[Op::Answer(1), Op::Take(usize::MAX), Op::Show(usize::MAX)],
        &[Op::AnswerEnd],
        // A delay for each piece.
        &[Op::Time; 1024],
    ];
    for (at, part) in std::iter::once(ops).chain(rest).enumerate() {
        for op in part {
            if done.is_some() {
                break;
            }
            if *op == Op::Time {
                tokio::time::advance(Duration::from_millis(10)).await;
            }
            shared.get().happen(*op);
            while done.is_none() && flag.0.swap(false, Ordering::AcqRel) {
                let polled = exchange.as_mut().poll(&mut Context::from_waker(&waker));
                shared.get().check_bounds();
                if let Poll::Ready(result) = polled {
                    done = Some(result);
                }
            }
        }
        if at == 1 && done.is_none() {
            shared.get().check_request();
        }
    }
    let done = done.expect("an exchange that does not end: a wake-up is lost");
    let world = shared.get();
    world.report(done)
}

impl World {
    /// The request is over, and the origin has taken all of it if it could.
    fn check_request(&self) {
        let cut = self.deaf || self.left || self.storage_failed || self.response_over || self.cut;
        if !cut && !self.setup.answers && !self.setup.switches {
            assert_eq!(self.taken_by_origin, self.request_flow.made);
            assert!(self.request_flow.ended, "the end of the request is lost");
        }
    }

    fn report(&self, done: Result<Outcome>) -> Report {
        let whole = self.response_flow.made;
        let end = match done {
            Ok(Outcome::Complete) => {
                assert!(
                    self.queued == 0,
                    "the end, and {} bytes have not left",
                    self.queued
                );
                if self.setup.enough.is_some() {
                    assert!(self.origin_failed, "the upstream is not read to its end");
                    return self.report_of(End::Complete);
                }
                if self.setup.mode != Mode::Drop {
                    assert!(self.response_flow.ended, "the end of the response is lost");
                }
                if self.setup.mode != Mode::Drop && !self.cut {
                    let length = self.setup.length.unwrap_or(whole);
                    assert_eq!(self.response_flow.arrived, length.min(whole));
                }
                self.check_storage();
                End::Complete
            }
            Ok(Outcome::ClientGone(_)) => {
                assert!(self.left || self.storage_failed, "a client that is there");
                assert!(self.setup.goes_on);
                self.check_storage();
                End::ClientGone
            }
            Err(e) => {
                self.check_error(&e);
                End::Failed(e.esource().clone())
            }
        };
        self.report_of(end)
    }

    fn report_of(&self, end: End) -> Report {
        Report {
            end,
            request: self.taken_by_origin,
            response: self.response_flow.arrived,
            kept: self.kept.len(),
            stored: self.kept_over,
            heads: self.heads,
        }
    }

    fn check_storage(&self) {
        if matches!(self.setup.mode, Mode::Copy | Mode::Keep) && !self.tunnel {
            assert!(self.kept_over, "the end does not reach the storage");
            let made = if self.cut {
                self.kept.len()
            } else {
                self.response_flow.made
            };
            assert_eq!(self.kept.len(), made);
        }
    }

    fn check_error(&self, e: &BError) {
        let silent = self.setup.half_closed.is_some() && *e.etype() == ReadTimedout;
        let why = silent || self.left || self.deaf || self.origin_failed || self.storage_failed;
        assert!(why, "an error out of nothing: {e}");
    }
}

/// Reads a script: the setup in the first two bytes, then two for each operation.
pub(crate) fn fuzz(data: &[u8]) {
    let [first, second, ops @ ..] = data else {
        return;
    };
    let bit = |byte: &u8, at: u8| byte & (1 << at) != 0;
    let setup = Setup {
        mode: [Mode::Pass, Mode::Copy, Mode::Keep, Mode::Drop][usize::from(first & 3)],
        goes_on: bit(first, 2),
        tells: bit(first, 3),
        switches: bit(first, 4) && first & 3 == 0,
        halves: bit(first, 5),
        halves_late: bit(first, 6),
        delays: bit(first, 7),
        waits: bit(second, 0),
        answers: bit(second, 1) && !bit(first, 4),
        cuts: bit(second, 2) && !bit(first, 4),
        length: None,
        enough: None,
        half_closed: None,
    };
    let ops: Vec<Op> = ops.chunks_exact(2).take(256).map(op).collect();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build();
    runtime.expect("a runtime").block_on(play(setup, &ops));
}

fn op(bytes: &[u8]) -> Op {
    let (&kind, &n) = match bytes {
        [kind, n] => (kind, n),
        _ => return Op::Time,
    };
    let n = usize::from(n) * 64;
    match kind % 24 {
        0..=2 => Op::Send(n),
        3 => Op::SendEnd,
        4..=7 => Op::Take(n),
        8 => Op::Leave,
        9 => Op::Room(n & 64 == 0),
        10..=12 => Op::OriginTakes(n),
        13 => Op::OriginTakesNoMore,
        14 => Op::Interim,
        15..=17 => Op::Answer(n),
        18 => Op::AnswerEnd,
        19 => Op::AnswerFails,
        20 | 21 => Op::Show(n),
        22 => Op::StorageFails,
        _ => Op::Time,
    }
}
