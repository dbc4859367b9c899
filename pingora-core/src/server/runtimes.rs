//! The runtimes that services run on.

use std::io;
use std::panic::{catch_unwind, AssertUnwindSafe};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::Arc;
use std::time::Duration;

use pingora_runtime::{BlockingPoolOpts, Runtime, RuntimeBuilder, RuntimeOpts};
use tokio::runtime::Handle;

use super::configuration::{ServerConf, MAX_THREADS};
use crate::worker::housekeeping_tasks;

/// A service's runtime: one of several threads, or several of one thread.
pub(super) struct ServiceRuntime {
    runtime: Runtime,
    handles: Vec<Handle>,
}

impl ServiceRuntime {
    /// The runtime of a service that wants so many threads; the configuration's number when it does not say.
    ///
    /// # Errors
    /// One line, when these are too many for anybody, or for the system.
    pub(super) fn new(
        name: &str,
        wanted: Option<usize>,
        conf: &ServerConf,
        opts: RuntimeOpts,
    ) -> Result<Self, String> {
        let threads = wanted.unwrap_or(conf.threads).max(1);
        let setting = match wanted {
            Some(_) => format!("the service {name} wants {threads} threads"),
            None => format!("threads: {threads}"),
        };
        if threads > MAX_THREADS {
            return Err(format!(
                "{setting}: expected a whole number from 0 to {MAX_THREADS}"
            ));
        }
        probe(threads, conf.work_stealing).map_err(|(started, e)| {
            format!(
                "{setting}: the system allows no more than {started} for the service {name} ({e}): lower the number, \
                 or raise the limits on processes (ulimit -u) and open files (ulimit -n)"
            )
        })?;
        let builder = RuntimeBuilder::new(threads, &name.replace('\0', " "))
            .work_steal(conf.work_stealing)
            .runtime_opts(opts)
            .blocking_pool_opts(BlockingPoolOpts {
                max_threads: conf.max_blocking_threads,
                thread_keep_alive: conf.blocking_threads_ttl_seconds.map(Duration::from_secs),
            });
        let start = || {
            let runtime = builder.build();
            let handles = match &runtime {
                Runtime::NoSteal(pool) => (0..threads)
                    .map(|i| pool.get_runtime_at(i).clone())
                    .collect(),
                steal => vec![steal.get_handle().clone()],
            };
            ServiceRuntime { runtime, handles }
        };
        // The builder panics when the system refuses now what it allowed a moment ago.
        catch_unwind(AssertUnwindSafe(start))
            .map_err(|_| format!("{setting}: the system refuses them for the service {name}"))
    }

    /// One handle for each runtime, the first one for the service itself.
    pub(super) fn handles(&self) -> &[Handle] {
        &self.handles
    }

    /// Returns whether no task is left but housekeeping of its own.
    pub(super) fn is_idle(&self) -> bool {
        self.handles.iter().all(|handle| {
            let housekeeping = housekeeping_tasks(handle);
            handle.metrics().num_alive_tasks() <= housekeeping
        })
    }

    /// Drops the tasks, and waits so long for blocking work to end.
    pub(super) fn shut_down(self, timeout: Duration) {
        self.runtime.shutdown_timeout(timeout);
    }
}

/// Starts what so many workers need, and ends it again. The builder of runtimes does not tell when the system
/// refuses it: it panics, or leaves workers out.
///
/// # Errors
/// The number of workers that there can be, and why no more.
fn probe(threads: usize, work_stealing: bool) -> Result<(), (usize, io::Error)> {
    let over = Arc::new(AtomicBool::new(false));
    let (mut started, mut reactors) = (Vec::new(), Vec::new());
    let mut start = || -> io::Result<()> {
        let over = over.clone();
        started.push(std::thread::Builder::new().spawn(move || {
            while !over.load(Ordering::Acquire) {
                std::thread::park();
            }
        })?);
        // Threads that share their work share a reactor too.
        if !work_stealing || reactors.is_empty() {
            reactors.push(
                tokio::runtime::Builder::new_current_thread()
                    .enable_all()
                    .build()?,
            );
        }
        Ok(())
    };
    let probed = (0..threads).try_for_each(|n| start().map_err(|e| (n, e)));
    over.store(true, Ordering::Release);
    started.iter().for_each(|thread| thread.thread().unpark());
    for thread in started {
        // It has nothing in it that panics.
        let _ = thread.join();
    }
    probed
}

/// Warns of settings that this build cannot act upon.
pub(super) fn warn_of_idle_settings(conf: &ServerConf) {
    for (setting, why) in idle_settings(conf) {
        log::warn!("the setting {setting} has no effect: it {why}");
    }
}

/// The settings that are set and have no effect, and why.
#[allow(unexpected_cfgs)] // Tokio's, set by the user for the whole build.
fn idle_settings(conf: &ServerConf) -> Vec<(&'static str, &'static str)> {
    let unstable = cfg!(tokio_unstable);
    let histogram = conf.runtime_metrics_poll_time_histogram;
    let details = conf.runtime_metrics_poll_time_histogram_scale.is_some()
        || conf
            .runtime_metrics_poll_time_histogram_resolution_micros
            .is_some()
        || conf.runtime_metrics_poll_time_histogram_buckets.is_some();
    let offload = conf.downstream_tls_offload_threadpool().is_some();
    let daemon = conf.daemon;
    let all = [
        ("version", conf.version > 1, "is read as version 1"),
        (
            "runtime_enable_alt_timer",
            conf.runtime_enable_alt_timer && !(unstable && conf.work_stealing),
            "needs a build with --cfg tokio_unstable, and work_stealing",
        ),
        (
            "runtime_metrics_poll_time_histogram",
            histogram && !unstable,
            "needs a build with --cfg tokio_unstable",
        ),
        (
            "runtime_metrics_poll_time_histogram_*",
            details && !histogram,
            "needs runtime_metrics_poll_time_histogram",
        ),
        (
            "ca_file",
            conf.ca_file.is_some() && !cfg!(feature = "any_tls"),
            "needs a build with a TLS feature",
        ),
        (
            "upstream_debug_ssl_keylog",
            conf.upstream_debug_ssl_keylog && !cfg!(feature = "any_tls"),
            "needs a build with a TLS feature",
        ),
        (
            "downstream_tls_offload_threadpools",
            offload && !cfg!(feature = "any_tls"),
            "needs a build with a TLS feature",
        ),
        (
            "error_log",
            conf.error_log.is_some() && !daemon,
            "needs daemon",
        ),
        ("user", conf.user.is_some() && !daemon, "needs daemon"),
        ("group", conf.group.is_some() && !daemon, "needs daemon"),
        (
            "working_directory",
            conf.working_directory.is_some() && !daemon,
            "needs daemon",
        ),
        (
            "daemon_wait_for_ready",
            conf.daemon_wait_for_ready && !daemon,
            "needs daemon",
        ),
    ];
    let idle = all.into_iter().filter(|(_, set, _)| *set);
    idle.map(|(setting, _, why)| (setting, why)).collect()
}

#[cfg(test)]
mod tests;
