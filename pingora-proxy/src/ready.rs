//! The answer of a phase that nobody overrode: there at the first poll, and made without the
//! allocator.

use std::future::poll_fn;
use std::task::Poll;

use futures::future::BoxFuture;

/// A boxed future that is ready with `value()` when it is polled first.
///
/// A box of a type without size is a pointer and no allocation, which is why a `value` that
/// captures anything does not compile.
pub(crate) fn ready<'a, T, F>(mut value: F) -> BoxFuture<'a, T>
where
    F: FnMut() -> T + Send + 'a,
{
    const {
        assert!(
            size_of::<F>() == 0,
            "the value of a default captures nothing"
        )
    };
    Box::pin(poll_fn(move |_| Poll::Ready(value())))
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures::FutureExt;

    #[test]
    fn is_ready_at_once_and_has_no_size() {
        let future = ready(|| Some(7));
        assert_eq!(size_of_val(&*future), 0);
        assert_eq!(future.now_or_never(), Some(Some(7)));
    }
}
