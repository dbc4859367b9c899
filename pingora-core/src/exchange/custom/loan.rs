//! A value that futures work with, one at a time.
//!
//! A method of a session borrows it for as long as its future lives, which would forbid to keep both in one struct. So the
//! value moves into the future, and comes back when that is ready or is dropped.

use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{ready, Context, Poll};

type Work<R> = Pin<Box<dyn Future<Output = R> + Send>>;

/// The owner of a value.
pub(super) struct Loan<T, R> {
    /// The value, unless a future has it.
    here: Option<T>,
    home: Home<T>,
    /// In a mutex that is never locked: it makes a future shareable that only its owner polls.
    work: Option<Mutex<Work<R>>>,
}

type Home<T> = Arc<Mutex<Option<T>>>;

impl<T, R> Loan<T, R> {
    pub(super) fn new(value: T) -> Self {
        Loan {
            here: Some(value),
            home: Arc::default(),
            work: None,
        }
    }

    /// The value; `None` while a future has it.
    pub(super) fn get(&self) -> Option<&T> {
        self.here.as_ref()
    }

    /// As [`Loan::get`].
    pub(super) fn get_mut(&mut self) -> Option<&mut T> {
        self.here.as_mut()
    }

    /// Returns whether a future has the value.
    pub(super) fn is_out(&self) -> bool {
        self.work.is_some()
    }

    /// Gives the value to a future, after it was taken from the one before.
    pub(super) fn start<F>(&mut self, work: impl FnOnce(Lent<T>) -> F)
    where
        F: Future<Output = R> + Send + 'static,
    {
        self.take_back();
        let lent = Lent {
            value: self.here.take(),
            home: self.home.clone(),
        };
        self.work = Some(Mutex::new(Box::pin(work(lent))));
    }

    /// Polls the future. When it is ready, the value is back. Without a future it is pending.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<R> {
        let Some(work) = &mut self.work else {
            return Poll::Pending;
        };
        let work = work.get_mut().unwrap_or_else(PoisonError::into_inner);
        let done = ready!(work.as_mut().poll(cx));
        self.take_back();
        Poll::Ready(done)
    }

    /// Drops the future, if there is one.
    pub(super) fn take_back(&mut self) {
        if self.work.take().is_some() {
            self.here = lock(&self.home).take();
        }
    }

    /// The value, taken from the future if one has it.
    pub(super) fn into_inner(mut self) -> Option<T> {
        self.take_back();
        self.here
    }
}

/// The value in the hands of a future. It goes home when it is dropped.
pub(super) struct Lent<T> {
    value: Option<T>,
    home: Home<T>,
}

impl<T> Lent<T> {
    pub(super) fn get_mut(&mut self) -> Option<&mut T> {
        self.value.as_mut()
    }
}

impl<T> Drop for Lent<T> {
    fn drop(&mut self) {
        *lock(&self.home) = self.value.take();
    }
}

/// Held for a move only, so that nothing can have panicked meanwhile.
fn lock<T>(home: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    home.lock().unwrap_or_else(PoisonError::into_inner)
}
