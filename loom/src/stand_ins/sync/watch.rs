//! A value that is watched: what is used of `tokio::sync::watch`.

use std::future::poll_fn;
use std::ops::Deref;
use std::sync::Arc;
use std::task::{Poll, Waker};

use loom::sync::{Mutex, MutexGuard};

struct State<T> {
    value: T,
    /// True if the sender is gone.
    closed: bool,
    waiting: Vec<Waker>,
}

pub struct Sender<T>(Arc<Mutex<State<T>>>);

pub struct Receiver<T>(Arc<Mutex<State<T>>>);

pub struct Ref<'a, T>(MutexGuard<'a, State<T>>);

/// The sender is gone.
#[derive(Debug)]
pub struct RecvError;

pub fn channel<T>(value: T) -> (Sender<T>, Receiver<T>) {
    let state = Arc::new(Mutex::new(State {
        value,
        closed: false,
        waiting: Vec::new(),
    }));
    (Sender(state.clone()), Receiver(state))
}

impl<T> Sender<T> {
    pub fn subscribe(&self) -> Receiver<T> {
        Receiver(self.0.clone())
    }

    pub fn send_replace(&self, value: T) -> T {
        self.change(|state| std::mem::replace(&mut state.value, value))
    }

    fn change<R>(&self, change: impl FnOnce(&mut State<T>) -> R) -> R {
        let mut state = self.0.lock().unwrap();
        let changed = change(&mut state);
        let waiting = std::mem::take(&mut state.waiting);
        drop(state);
        waiting.into_iter().for_each(Waker::wake);
        changed
    }
}

impl<T> Drop for Sender<T> {
    fn drop(&mut self) {
        self.change(|state| state.closed = true);
    }
}

impl<T> Clone for Receiver<T> {
    fn clone(&self) -> Self {
        Receiver(self.0.clone())
    }
}

impl<T> Receiver<T> {
    pub fn same_channel(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }

    pub async fn wait_for(&mut self, is_it: impl Fn(&T) -> bool) -> Result<Ref<'_, T>, RecvError> {
        let state = &*self.0;
        poll_fn(move |cx| {
            let mut state = state.lock().unwrap();
            if is_it(&state.value) {
                return Poll::Ready(Ok(Ref(state)));
            }
            if state.closed {
                return Poll::Ready(Err(RecvError));
            }
            state.waiting.push(cx.waker().clone());
            Poll::Pending
        })
        .await
    }
}

impl<T> Deref for Ref<'_, T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.0.value
    }
}
