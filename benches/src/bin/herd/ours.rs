//! The strategies, by a service as a server runs it: on workers that share nothing.

use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::Arc;
use std::thread::JoinHandle;

use async_trait::async_trait;
use pingora_core::apps::ServerApp;
use pingora_core::exchange::{current_worker, Workers};
use pingora_core::listeners::{AcceptCounts, AcceptStrategy, Listeners};
use pingora_core::protocols::Stream;
use pingora_core::server::ShutdownWatch;
use pingora_core::services::listening::Service;
use pingora_core::services::Service as _;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::runtime::{Builder, Handle};
use tokio::sync::watch;

use crate::Counts;

/// Says a byte, and closes or keeps the connection.
struct Hello {
    hold: bool,
    /// Connections by thread.
    served: Box<[Own]>,
}

#[repr(align(128))]
#[derive(Default)]
struct Own(AtomicU64);

/// More threads than this program ever starts.
const THREADS: usize = 1 << 14;

#[async_trait]
impl ServerApp for Hello {
    async fn process_new(
        self: &Arc<Self>,
        mut session: Stream,
        _shutdown: &ShutdownWatch,
    ) -> Option<Stream> {
        if let Some(Own(served)) = self.served.get(current_worker()) {
            served.fetch_add(1, Ordering::Relaxed);
        }
        session.write_all(b"x").await.ok()?;
        session.flush().await.ok()?;
        if self.hold {
            // Until the client has gone.
            session.read_exact(&mut [0]).await.ok()?;
        }
        None
    }
}

#[async_trait]
impl ServerApp for Shared {
    async fn process_new(
        self: &Arc<Self>,
        session: Stream,
        shutdown: &ShutdownWatch,
    ) -> Option<Stream> {
        self.0.process_new(session, shutdown).await
    }
}

/// The application, of which this program keeps a share.
struct Shared(Arc<Hello>);

pub(crate) struct Server {
    pub(crate) address: SocketAddr,
    app: Arc<Hello>,
    counts: AcceptCounts,
    shutdown: watch::Sender<bool>,
    ended: watch::Sender<bool>,
    service: tokio::task::JoinHandle<()>,
    threads: Vec<JoinHandle<()>>,
}

impl Server {
    pub(crate) fn start(
        strategy: AcceptStrategy,
        workers: usize,
        hold: bool,
    ) -> Result<Self, String> {
        let failed = |e: std::io::Error| format!("cannot start a server: {e}");
        let (ended, end) = watch::channel(false);
        let (mut handles, mut threads) = (Vec::new(), Vec::new());
        for _ in 0..workers {
            let (handle, thread) = worker(end.clone()).map_err(failed)?;
            handles.push(handle);
            threads.push(thread);
        }
        // Free a moment ago, and nothing else runs.
        let address = TcpListener::bind("127.0.0.1:0")
            .and_then(|listener| listener.local_addr())
            .map_err(failed)?;
        let app = Arc::new(Hello {
            hold,
            served: (0..THREADS).map(|_| Own::default()).collect(),
        });
        let mut listeners = Listeners::tcp(&address.to_string());
        listeners.set_accept_strategy(strategy);
        let mut service = Service::with_listeners("herd".into(), listeners, Shared(app.clone()));
        let counts = service.accept_counts();
        let (shutdown, watch) = watch::channel(false);
        let first = handles[0].clone();
        let run = async move { service.start_service(None, watch, 1).await };
        let service = first.spawn(Workers::new(handles).scope(run));
        while TcpStream::connect(address).is_err() {
            if service.is_finished() {
                return Err("the service ended".into());
            }
            std::thread::yield_now();
        }
        Ok(Server {
            address,
            app,
            counts,
            shutdown,
            ended,
            service,
            threads,
        })
    }

    pub(crate) fn counts(&self) -> Counts {
        let counts = self.counts.per_worker();
        Counts {
            woken: counts.iter().map(|worker| worker.woken).sum(),
            idle: counts.iter().map(|worker| worker.idle).sum(),
            accepted: counts.iter().map(|worker| worker.accepted).sum(),
            served: {
                let served = self.app.served.iter();
                served.map(|Own(n)| n.load(Ordering::Relaxed)).collect()
            },
        }
    }

    pub(crate) fn stop(self) -> Result<(), String> {
        self.shutdown.send_replace(true);
        while !self.service.is_finished() {
            std::thread::yield_now();
        }
        self.ended.send_replace(true);
        for thread in self.threads {
            thread.join().map_err(|_| "a worker panicked")?;
        }
        Ok(())
    }
}

/// A runtime of one thread, as each worker has one.
fn worker(mut end: watch::Receiver<bool>) -> std::io::Result<(Handle, JoinHandle<()>)> {
    let runtime = Builder::new_current_thread().enable_all().build()?;
    let handle = runtime.handle().clone();
    let thread = std::thread::Builder::new().spawn(move || {
        runtime.block_on(async move {
            // An error says that nobody is left to tell.
            let _ = end.wait_for(|on| *on).await;
        })
    })?;
    Ok((handle, thread))
}
