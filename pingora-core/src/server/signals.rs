//! The signals that stop a server.

use std::convert::Infallible;
use std::future::Future;
use std::pin::Pin;
use std::task::Poll;

use async_trait::async_trait;
use tokio::signal::unix::{signal, Signal, SignalKind};

/// The way a server stops.
#[derive(Debug)]
pub enum ShutdownSignal {
    /// Hand the listening sockets to a new process, then stop as for `GracefulTerminate`.
    GracefulUpgrade,
    /// Accept no more connections, and let those there are end.
    GracefulTerminate,
    /// Stop at once.
    FastShutdown,
}

/// A source of the signal that stops a server.
#[async_trait]
pub trait ShutdownSignalWatch {
    /// Waits for the signal. It is asked once: a server that could not hand its sockets over ends all the same,
    /// unless the signals of the process stop it, as [`UnixShutdownSignalWatch`] says.
    async fn recv(&self) -> ShutdownSignal;

    /// Returns whether the signals of the process mean what they mean to [`UnixShutdownSignalWatch`], so
    /// that further ones may cut a graceful stop short.
    fn is_process_signals(&self) -> bool {
        false
    }
}

/// Waits for SIGQUIT (graceful upgrade), SIGTERM (graceful stop) or SIGINT (stop at once).
///
/// When no new process takes the sockets of the server that got SIGQUIT, that goes on serving, and waits for the
/// next signal. SIGHUP and SIGUSR1 do nothing but a line in the log.
pub struct UnixShutdownSignalWatch;

#[async_trait]
impl ShutdownSignalWatch for UnixShutdownSignalWatch {
    async fn recv(&self) -> ShutdownSignal {
        let [mut quit, mut terminate, mut interrupt] = [
            SignalKind::quit(),
            SignalKind::terminate(),
            SignalKind::interrupt(),
        ]
        .map(listen);
        tokio::select! {
            // Of several that came during a hand-over, the last word first.
            biased;
            () = interrupt.recv() => ShutdownSignal::FastShutdown,
            () = terminate.recv() => ShutdownSignal::GracefulTerminate,
            () = quit.recv() => ShutdownSignal::GracefulUpgrade,
        }
    }

    fn is_process_signals(&self) -> bool {
        true
    }
}

/// The signal that stops the server next, which is listened for already.
pub(super) enum Next<'a> {
    Come(ShutdownSignal),
    Awaited(Pin<Box<dyn Future<Output = ShutdownSignal> + Send + 'a>>),
}

impl<'a> Next<'a> {
    pub(super) async fn of(watch: &'a dyn ShutdownSignalWatch) -> Self {
        let mut signal = watch.recv();
        // A future listens from the first time on that it is polled.
        match futures::poll!(&mut signal) {
            Poll::Ready(come) => Next::Come(come),
            Poll::Pending => Next::Awaited(signal),
        }
    }
}

/// The signals that a server listens for, from before its services start until it ends.
pub(super) struct Heard<'a> {
    pub(super) watch: &'a dyn ShutdownSignalWatch,
    pub(super) signal: Next<'a>,
    pub(super) unhandled: Pin<Box<dyn Future<Output = Infallible> + Send>>,
}

impl<'a> Heard<'a> {
    pub(super) async fn begin(watch: &'a dyn ShutdownSignalWatch) -> Self {
        Self {
            watch,
            signal: Next::of(watch).await,
            unhandled: if watch.is_process_signals() {
                Box::pin(unhandled())
            } else {
                Box::pin(std::future::pending())
            },
        }
    }
}

/// Waits for the signal that cuts a graceful stop short: a SIGINT, or a SIGTERM that is not the
/// first one.
///
/// Listens from the call on, not only when it is polled.
pub(super) fn second_thoughts(first: &ShutdownSignal) -> impl Future<Output = ()> {
    let mut terminate = listen(SignalKind::terminate());
    let mut interrupt = listen(SignalKind::interrupt());
    // A service manager may send SIGTERM to a process that is handing over already.
    let mut patience = usize::from(matches!(first, ShutdownSignal::GracefulUpgrade));
    async move {
        loop {
            tokio::select! {
                () = interrupt.recv() => return,
                () = terminate.recv() => match patience.checked_sub(1) {
                    Some(left) => patience = left,
                    None => return,
                },
            }
        }
    }
}

/// Keeps signals that mean something to other servers from ending the process, as they do by default.
///
/// Listens from the call on, not only when it is polled.
fn unhandled() -> impl Future<Output = Infallible> {
    let mut hangup = listen(SignalKind::hangup());
    let mut user = listen(SignalKind::user_defined1());
    async move {
        loop {
            let signal = tokio::select! {
                () = hangup.recv() => "SIGHUP (reload the settings)",
                () = user.recv() => "SIGUSR1 (open the logs anew)",
            };
            log::info!("the server does nothing on the signal {signal}; a service may");
        }
    }
}

/// A signal that is listened for. When the system refuses that, it keeps its default action and never comes here.
struct Listened(Option<Signal>);

fn listen(kind: SignalKind) -> Listened {
    let refused = |e| log::error!("cannot listen for signals: {e}");
    Listened(signal(kind).map_err(refused).ok())
}

impl Listened {
    async fn recv(&mut self) {
        match &mut self.0 {
            // None comes only when the runtime ends.
            Some(signal) => drop(signal.recv().await),
            None => std::future::pending().await,
        }
    }
}
