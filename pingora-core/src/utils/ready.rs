//! Futures that are ready when they are made and cost no memory.
//!
//! A method that `#[async_trait]` declares returns a boxed future, and a boxed `async` block
//! allocates even when it has nothing to wait for. A box of a zero-sized type does not allocate,
//! so default bodies return one of these.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

use pingora_error::Result;

/// The boxed future that `#[async_trait]` makes of an `async fn`.
pub type Boxed<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// A zero-sized future that yields `Ok(())`.
#[derive(Debug, Clone, Copy)]
pub struct ReadyOk;

impl Future for ReadyOk {
    type Output = Result<()>;

    fn poll(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Self::Output> {
        Poll::Ready(Ok(()))
    }
}

struct Ready<F>(F);

impl<T, F: Fn() -> T + Unpin> Future for Ready<F> {
    type Output = T;

    fn poll(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<T> {
        Poll::Ready((self.0)())
    }
}

/// A future that yields what `value` returns. A `value` that captures anything does not compile,
/// as the box would allocate.
pub fn ready<'a, T, F>(value: F) -> Boxed<'a, T>
where
    F: Fn() -> T + Send + Unpin + 'a,
{
    const { assert!(size_of::<F>() == 0, "a ready value captures nothing") };
    Box::pin(Ready(value))
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures::FutureExt;

    #[test]
    fn futures_without_captures_are_zero_sized() {
        let futures: [Boxed<'_, Result<()>>; 2] = [Box::pin(ReadyOk), ready(|| Ok(()))];
        for mut future in futures {
            assert_eq!(size_of_val(&*future), 0);
            assert!(future.as_mut().now_or_never().unwrap().is_ok());
        }
    }

    #[test]
    fn the_value_is_the_one_that_was_asked_for() {
        assert_eq!(ready(|| 7).now_or_never(), Some(7));
        assert_eq!(ready(|| "text").now_or_never(), Some("text"));
    }
}
