//! Models, checked by loom in every order of events that the memory model allows.
//!
//! They are made of the files that the crates are built of. What those take from other crates stands in [`stand_ins`];
//! models that need the private parts of their file stand beside it, as `models.rs`.
//!
//! Not modelled, and why:
//!
//! - *The hand-over of listening sockets to a new process.* The two share no memory: what they share is the kernel's queue
//!   of each socket, from which a connection is taken once whoever accepts. A model of that would be one of the kernel. That
//!   no connection is lost or refused is tested with real processes (`pingora-core/src/listeners/accept/tests`,
//!   `conformance/soak`, 200 exchanges for each strategy).
//! - *Connections that two workers make to the same server.* They share none: a worker waits for its own alone.
#![cfg(loom)]

// The names by which the files call other crates.
extern crate self as parking_lot;
extern crate self as pingora_core;
extern crate self as spin;
extern crate self as tokio;

mod stand_ins;

pub use stand_ins::{mutex, runtime, sync, time, Mutex, Yield};

#[path = "../../pingora-core/src/shutdown/registry.rs"]
#[allow(dead_code)]
mod shutdown;

/// The way of `pingora_core` to its registry.
pub mod exchange {
    pub use crate::shutdown::{Registry, Stage};
}

#[path = "../../pingora-core/src/listeners/accept/word.rs"]
#[allow(dead_code)]
mod word;

#[path = "../../pingora-proxy/src/flow/shutdown_flag.rs"]
#[allow(dead_code)]
mod shutdown_flag;

#[path = "../../pingora-core/src/worker"]
#[allow(dead_code)]
mod worker {
    use std::cell::Cell;
    use std::future::Future;

    mod per_worker;
    pub(crate) use per_worker::PerWorker;

    loom::thread_local! {
        static INDEX: Cell<usize> = Cell::new(0);
        static HOUSEKEEPING: Cell<usize> = Cell::new(0);
    }

    /// The worker that the calling thread is.
    pub(crate) fn current() -> usize {
        INDEX.with(Cell::get)
    }

    /// Has the calling thread be a worker.
    pub(crate) fn act_as(worker: usize) {
        INDEX.with(|index| index.set(worker));
    }

    /// Counts the task, which a model runs by itself where it wants one.
    pub(crate) fn spawn_housekeeping(task: impl Future<Output = ()> + Send + 'static) {
        std::mem::forget(task);
        HOUSEKEEPING.with(|tasks| tasks.set(tasks.get() + 1));
    }

    /// The number of tasks that the calling thread has spawned.
    pub(crate) fn housekeeping() -> usize {
        HOUSEKEEPING.with(Cell::get)
    }
}

#[path = "../../pingora-core/src/connectors"]
#[allow(dead_code)]
mod connectors {
    use std::sync::Arc;
    use std::time::Duration;

    pub(crate) type PoolCallback = Arc<dyn Fn(Duration) + Send + Sync>;

    mod pool;

    /// No connection of these models is limited, so that none gives way.
    mod permit {
        use std::sync::Weak;

        pub(crate) struct Closing(pub(crate) Option<()>);

        pub(crate) trait IdleConnections: Send + Sync {
            fn close_oldest(&self, limit: u64) -> Option<Closing>;
        }

        pub(crate) fn register(_: Weak<dyn IdleConnections>) {}
    }

    mod http {
        mod v2 {
            mod pending_connects;
        }
    }
}

#[cfg(test)]
mod accept_tests;
#[cfg(test)]
mod flag_tests;
#[cfg(test)]
mod shutdown_tests;
