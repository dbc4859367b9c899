use std::future::poll_fn;
use std::sync::{Arc, Mutex};
use std::task::Poll;
use std::time::Duration;

use bytes::Bytes;
use pingora_error::{Error, ErrorType, Result};
use tokio::sync::{Notify, Semaphore};
use tokio_test::task::spawn;

use super::loan::Loan;
use super::*;

mod downstream;
mod messages;
mod upstream;

/// What a session waits for before it reads or writes.
#[derive(Clone)]
enum Wait {
    Nothing,
    /// Wakes only those that wait already.
    Notify(Arc<Notify>),
    Mutex(Arc<tokio::sync::Mutex<()>>),
    Time(Duration),
    Turn(Arc<Semaphore>),
    Forever,
}

impl Wait {
    async fn over(&self) -> Result<()> {
        match self {
            Wait::Nothing => {}
            Wait::Notify(notify) => notify.notified().await,
            Wait::Mutex(mutex) => drop(mutex.lock().await),
            Wait::Time(limit) => {
                let never = std::future::pending::<()>();
                let _ = tokio::time::timeout(*limit, never).await;
                return Error::e_explain(ErrorType::ReadTimedout, "as the session says");
            }
            Wait::Turn(turns) => turns.acquire().await.unwrap().forget(),
            Wait::Forever => std::future::pending().await,
        }
        Ok(())
    }
}

/// What was done, in its order.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<String>>>);

impl Log {
    fn add(&self, what: impl Into<String>) {
        self.0.lock().unwrap().push(what.into());
    }

    fn take(&self) -> Vec<String> {
        std::mem::take(&mut *self.0.lock().unwrap())
    }
}

fn bytes(text: &'static str) -> Bytes {
    Bytes::from_static(text.as_bytes())
}

#[tokio::test]
async fn what_is_lent_comes_back_in_every_case() {
    let mut loan = Loan::new(7);
    loan.start(|mut lent| async move {
        *lent.get_mut().unwrap() += 1;
    });
    assert!(loan.get().is_none() && loan.is_out());
    poll_fn(|cx| loan.poll(cx)).await;
    assert_eq!(loan.get(), Some(&8));

    // Given up before it was polled, and after.
    for polled in [false, true] {
        loan.start(|mut lent| async move {
            std::future::pending::<()>().await;
            lent.get_mut();
        });
        if polled {
            assert!(spawn(poll_fn(|cx| loan.poll(cx))).poll().is_pending());
        }
        loan.take_back();
        assert_eq!(loan.get(), Some(&8));
    }

    loan.start(|mut lent| async move {
        assert!(lent.get_mut().is_none(), "a test wants it");
    });
    let panics = std::panic::AssertUnwindSafe(|| spawn(poll_fn(|cx| loan.poll(cx))).poll());
    assert!(std::panic::catch_unwind(panics).is_err());
    loan.take_back();
    assert_eq!(loan.into_inner(), Some(8));
}

#[test]
fn one_that_is_leaked_is_missed() {
    let mut loan = Loan::new(7);
    loan.start(|lent| async move { std::mem::forget(lent) });
    assert_eq!(spawn(poll_fn(|cx| loan.poll(cx))).poll(), Poll::Ready(()));
    assert_eq!(loan.into_inner(), None);
}
