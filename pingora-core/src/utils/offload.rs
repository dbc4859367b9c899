//! Handshakes on threads of their own, so that they do not delay requests.

use std::future::Future;
use std::sync::OnceLock;

use pingora_error::{Error, ErrorType::InternalError, OrErr, Result};
use tokio::runtime::{Builder, Runtime};
use tokio::task::JoinHandle;

/// Some small runtimes; work with the same key is always done by the same one.
pub(crate) struct Offload {
    name: &'static str,
    /// Started on first use: a server may still fork after its connectors are made.
    pools: Box<[OnceLock<Runtime>]>,
    threads: usize,
}

/// Ends the task when nobody waits for it any more.
struct AbortOnDrop<T>(JoinHandle<T>);

impl<T> Drop for AbortOnDrop<T> {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl Offload {
    /// `pools` runtimes of `threads` threads each, at least one of either; the threads are named after `name`.
    pub(crate) fn new(name: &'static str, pools: usize, threads: usize) -> Self {
        Offload {
            name,
            pools: (0..pools.max(1)).map(|_| OnceLock::new()).collect(),
            threads: threads.max(1),
        }
    }

    fn runtime(&self, key: u64) -> Result<&Runtime> {
        let index = (key % self.pools.len() as u64) as usize;
        let slot = &self.pools[index];
        if slot.get().is_none() {
            let runtime = Builder::new_multi_thread()
                .worker_threads(self.threads)
                .thread_name(format!("{}-{index}", self.name))
                .enable_all()
                .build()
                .or_err(InternalError, "starting threads for handshakes")?;
            if let Err(unused) = slot.set(runtime) {
                // Another thread was faster.
                unused.shutdown_background();
            }
        }
        slot.get()
            .ok_or_else(|| Error::explain(InternalError, "no threads for handshakes"))
    }

    /// Runs `work` on the threads for `key`, and ends it when this future is dropped.
    pub(crate) async fn run<T: Send + 'static>(
        &self,
        key: u64,
        work: impl Future<Output = Result<T>> + Send + 'static,
    ) -> Result<T> {
        let mut task = AbortOnDrop(self.runtime(key)?.spawn(work));
        (&mut task.0)
            .await
            .or_err(InternalError, "working on another thread")?
    }
}

impl Drop for Offload {
    fn drop(&mut self) {
        for pool in &mut self.pools {
            if let Some(runtime) = pool.take() {
                // Waiting for its threads is not allowed where a connector may be dropped.
                runtime.shutdown_background();
            }
        }
    }
}
