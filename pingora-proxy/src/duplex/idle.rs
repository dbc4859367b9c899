//! The time for which a tunnel carries nothing.

use std::future::Future;
use std::pin::Pin;
use std::task::{ready, Context, Poll};
use std::time::Duration;

use tokio::time::{Instant, Sleep};

/// Further away than any limit needs to be, and still a time that can be told.
const FAR: Duration = Duration::from_secs(365 * 24 * 3600);

/// Since when a tunnel has been idle, and the end of that.
pub(super) struct Idle {
    limit: Duration,
    since: Instant,
    /// Set again only when it rings: a byte that passes costs no more than a look at the clock.
    sleep: Pin<Box<Sleep>>,
}

impl Idle {
    pub(super) fn new(limit: Duration) -> Self {
        let (limit, since) = (limit.min(FAR), Instant::now());
        Idle {
            limit,
            since,
            sleep: Box::pin(tokio::time::sleep_until(since + limit)),
        }
    }

    pub(super) fn limit(&self) -> Duration {
        self.limit
    }

    /// Something has passed.
    pub(super) fn passed(&mut self) {
        self.since = Instant::now();
    }

    /// Ready when nothing has passed for the limit.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        loop {
            ready!(self.sleep.as_mut().poll(cx));
            let due = self.since + self.limit;
            if Instant::now() >= due {
                return Poll::Ready(());
            }
            self.sleep.as_mut().reset(due);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn whatever_passes_gives_the_whole_time_again() {
        let mut idle = Idle::new(Duration::from_secs(10));
        let begun = Instant::now();
        for _ in 0..3 {
            let late = tokio::time::timeout(
                Duration::from_secs(7),
                std::future::poll_fn(|cx| idle.poll(cx)),
            );
            assert!(late.await.is_err());
            idle.passed();
        }
        std::future::poll_fn(|cx| idle.poll(cx)).await;
        assert_eq!(begun.elapsed().as_secs(), 31);
    }
}
