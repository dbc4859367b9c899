//! Workers: the threads that own connections.
//!
//! A connection is accepted for one worker and stays there; so do the upstream connections that its
//! requests use. Whatever is kept per worker is indexed by [`current`].

mod per_worker;

use std::cell::Cell;
use std::future::Future;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::runtime::{Handle, Id};
use tokio::task::JoinHandle;

pub(crate) use per_worker::PerWorker;

thread_local! {
    static INDEX: Cell<Option<usize>> = const { Cell::new(None) };
}

/// The index of the calling thread: small, dense, and the same for the thread's whole life.
pub fn current() -> usize {
    static NEXT: AtomicUsize = AtomicUsize::new(0);
    INDEX.with(|index| match index.get() {
        Some(i) => i,
        None => {
            let i = NEXT.fetch_add(1, Ordering::Relaxed);
            index.set(Some(i));
            i
        }
    })
}

/// The runtimes among which a service spreads its connections.
#[derive(Clone, Debug)]
pub struct Workers(Arc<[Handle]>);

tokio::task_local! {
    static WORKERS: Workers;
}

impl Workers {
    /// Workers with one runtime each; a single work-stealing runtime is a list of one.
    pub fn new(handles: Vec<Handle>) -> Self {
        Workers(handles.into())
    }

    /// Runs a service's root future so that [`Workers::current`] finds these workers in it.
    pub async fn scope<F: Future>(self, service: F) -> F::Output {
        WORKERS.scope(self, service).await
    }

    /// The workers of the running service, or the calling runtime alone when nobody named any.
    ///
    /// # Panics
    /// When called outside a tokio runtime.
    pub fn current() -> Self {
        WORKERS
            .try_with(Workers::clone)
            .unwrap_or_else(|_| Workers::new(vec![Handle::current()]))
    }

    /// One handle for each worker.
    pub fn handles(&self) -> &[Handle] {
        &self.0
    }
}

/// The number of tasks that serve no connection, for each runtime that has some.
static HOUSEKEEPING: Mutex<Vec<(Id, usize)>> = Mutex::new(Vec::new());

/// Spawns a task that serves no connection, so that a server which waits for its connections to end
/// need not wait for it.
pub(crate) fn spawn_housekeeping<F>(task: F) -> JoinHandle<()>
where
    F: Future<Output = ()> + Send + 'static,
{
    tokio::spawn(async move {
        // Counted from its first poll to its end: never while its runtime does not count it as a task.
        let _counted = Counted::on(Handle::current().id());
        task.await
    })
}

/// Returns how many tasks spawned by [`spawn_housekeeping`] are alive on a runtime.
pub(crate) fn housekeeping_tasks(runtime: &Handle) -> usize {
    let id = runtime.id();
    let counts = HOUSEKEEPING.lock();
    let of_it = counts.iter().find(|(known, _)| *known == id);
    of_it.map_or(0, |(_, count)| *count)
}

/// A task of the runtime, while it is counted.
struct Counted(Id);

impl Counted {
    fn on(runtime: Id) -> Self {
        let mut counts = HOUSEKEEPING.lock();
        match counts.iter_mut().find(|(known, _)| *known == runtime) {
            Some((_, count)) => *count += 1,
            None => counts.push((runtime, 1)),
        }
        Counted(runtime)
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        let mut counts = HOUSEKEEPING.lock();
        if let Some(at) = counts.iter().position(|(known, _)| *known == self.0) {
            counts[at].1 -= 1;
            // Its number may come to be that of another runtime.
            if counts[at].1 == 0 {
                counts.swap_remove(at);
            }
        }
    }
}
