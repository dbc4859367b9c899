//! The requests that wait until a server of their cluster has room for one more.
//!
//! They stand in the order in which they came. What may make room (the end of a request, a server that comes back, a higher
//! limit) [calls](Queue::call) the first. It tries to be given to a server; whether it was or not, it says whom to call
//! next:
//!
//! ```text
//!   an event --> the first is called --> it leaves ------------------------> the next is called
//!                                   \--> it stays, and there is room -----> the next is called
//!                                    \-> it stays, and there is none -----> the next one of another generation
//! ```
//!
//! The second case is that of a request which the servers with room have failed; the third that of one from before a reload,
//! which knows other servers. A request that comes while others wait stands behind them.
//!
//! A request that has a place for its connection, or waits for the connection of another request, is not in the queue: the
//! others do not wait for the server that it tries. One that gets no connection after all [comes back](Ticket::come_back) to
//! where it was.
//!
//! No call is lost. Whoever makes room does that first and looks then whether anybody waits; whoever waits is in the queue
//! first and looks for room then.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::sync::atomic::{AtomicU32, Ordering::SeqCst};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

/// The requests that wait.
#[derive(Debug, Default)]
pub(crate) struct Queue {
    waiting: AtomicU32,
    line: Mutex<Line>,
}

#[derive(Debug, Default)]
struct Line {
    /// The number of the one that came last.
    last: u64,
    /// In the order of their numbers.
    waiters: VecDeque<Waiter>,
}

#[derive(Debug)]
struct Waiter {
    number: u64,
    /// Tells the generations of a cluster apart.
    generation: u64,
    called: bool,
    waker: Option<Waker>,
}

/// A place in the queue, which its drop leaves.
#[derive(Debug)]
pub(crate) struct Ticket {
    queue: Arc<Queue>,
    number: u64,
    generation: u64,
}

impl Line {
    fn find(&self, number: u64) -> Option<usize> {
        let found = self.waiters.binary_search_by_key(&number, |one| one.number);
        found.ok()
    }

    /// Calls the one at this place; returns how to wake it.
    fn call(&mut self, index: usize) -> Option<Waker> {
        let waiter = self.waiters.get_mut(index)?;
        waiter.called = true;
        waiter.waker.take()
    }
}

fn wake(waker: Option<Waker>) {
    if let Some(waker) = waker {
        waker.wake();
    }
}

impl Queue {
    /// Returns the number of requests that wait.
    #[inline]
    pub(crate) fn waiting(&self) -> u32 {
        self.waiting.load(SeqCst)
    }

    /// Tells those who wait that there may be room.
    #[inline]
    pub(super) fn call(&self) {
        if self.waiting() > 0 {
            self.call_first();
        }
    }

    #[cold]
    fn call_first(&self) {
        let waker = self.line().call(0);
        wake(waker);
    }

    /// Has a request of this generation wait behind the others; `None` when there are `size` already.
    pub(crate) fn enter(self: &Arc<Self>, generation: u64, size: u32) -> Option<Ticket> {
        let mut line = self.line();
        if line.waiters.len() >= size as usize {
            return None;
        }
        line.last += 1;
        let number = line.last;
        line.waiters.push_back(Waiter {
            number,
            generation,
            called: false,
            waker: None,
        });
        self.waiting.fetch_add(1, SeqCst);
        // Room may have been made before it stood there.
        let waker = line.call(0);
        drop(line);
        wake(waker);
        Some(Ticket {
            queue: self.clone(),
            number,
            generation,
        })
    }

    fn line(&self) -> MutexGuard<'_, Line> {
        self.line.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Ticket {
    /// Waits until it is called.
    ///
    /// # Cancel safety
    ///
    /// A call is not lost.
    pub(crate) async fn called(&self) {
        poll_fn(|cx| self.poll_called(cx)).await;
    }

    fn poll_called(&self, cx: &Context<'_>) -> Poll<()> {
        let mut line = self.queue.line();
        let Some(index) = line.find(self.number) else {
            return Poll::Ready(());
        };
        let waiter = &mut line.waiters[index];
        if std::mem::take(&mut waiter.called) {
            return Poll::Ready(());
        }
        waiter.waker = Some(cx.waker().clone());
        Poll::Pending
    }

    /// Calls the next one: any if there is room, else one that may know of other servers.
    pub(crate) fn pass(&self, room: bool) {
        let mut line = self.queue.line();
        let Some(index) = line.find(self.number) else {
            return;
        };
        let mut behind = index + 1..line.waiters.len();
        let next = behind.find(|index| room || line.waiters[*index].generation != self.generation);
        let waker = next.and_then(|index| line.call(index));
        drop(line);
        wake(waker);
    }

    /// Tells those who wait that there may be room.
    pub(crate) fn call_first(&self) {
        self.queue.call();
    }

    /// Waits again, in front of those that came later, if it has left.
    pub(crate) fn come_back(&self) {
        let mut line = self.queue.line();
        let index = line.waiters.partition_point(|one| one.number < self.number);
        if line
            .waiters
            .get(index)
            .is_some_and(|one| one.number == self.number)
        {
            return;
        }
        // It looks once more: it was not called for the room that was made meanwhile.
        let waiter = Waiter {
            number: self.number,
            generation: self.generation,
            called: true,
            waker: None,
        };
        line.waiters.insert(index, waiter);
        self.queue.waiting.fetch_add(1, SeqCst);
    }

    /// Leaves the queue, for the one that is next.
    pub(crate) fn leave(&self) {
        let mut line = self.queue.line();
        let Some(index) = line.find(self.number) else {
            return;
        };
        line.waiters.remove(index);
        self.queue.waiting.fetch_sub(1, SeqCst);
        // It may have been called, and more than one may have a place.
        let waker = line.call(index);
        drop(line);
        wake(waker);
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        self.leave();
    }
}

#[cfg(test)]
mod tests;
