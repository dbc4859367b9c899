//! Another generation, on SIGHUP or when a file has changed.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use pingora_core::server::ShutdownWatch;
use pingora_core::services::background::BackgroundService;
use pingora_core::services::ServiceReadyNotifier;
use tokio::signal::unix::{signal, Signal, SignalKind};
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;
use tokio::time::MissedTickBehavior;

use super::history::difference;
use super::watch::Watch;
use super::{load, History, Live, LoadError, Loaded, Outcome, Reload, Source};

use crate::cluster::{watch, Cluster};
use crate::config::Watched;
use crate::lifecycle::{early, Notifier};
use crate::listen::Addresses;
use crate::observe;

/// The time between two looks at the files.
const PERIOD: Duration = Duration::from_secs(1);
/// The longest time for which new names of servers are waited for before they are used.
const NAMES: Duration = Duration::from_secs(2);

/// Keeps a [`Live`] at its configuration, and the names of its servers looked up.
pub struct Reloader {
    live: Arc<Live>,
    addresses: Addresses,
    source: Arc<dyn Source>,
    watch: Mutex<Watch>,
    notifier: Option<Arc<Notifier>>,
    history: History,
    /// Those who wait for a reload that they have asked for, on their way to the service.
    asked: mpsc::Sender<Answer>,
    /// Its other end, until the service has started.
    questions: Mutex<Option<mpsc::Receiver<Answer>>>,
}

/// Tells somebody what came of a reload.
type Answer = oneshot::Sender<Arc<Reload>>;

/// Reloads that may be asked for at the same time.
const ASKED: usize = 16;

/// Nothing was tried: the process ends, or others wait for reloads already.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Busy;

impl Reloader {
    /// Keeps `live` at the configuration that it was loaded from, whose change is known by the files `watched`, and
    /// `addresses` at those that it names.
    pub fn new(
        live: Arc<Live>,
        addresses: Addresses,
        source: Arc<dyn Source>,
        watched: Watched,
    ) -> Self {
        let (asked, questions) = mpsc::channel(ASKED);
        let history = History::default();
        let diff = String::new();
        history.add("start", Duration::ZERO, Outcome::Taken { diff });
        Self {
            live,
            addresses,
            source,
            watch: Mutex::new(Watch::new(watched)),
            notifier: None,
            history,
            asked,
            questions: Mutex::new(Some(questions)),
        }
    }

    /// Has the service manager told of reloads.
    pub(crate) fn notify(&mut self, notifier: Arc<Notifier>) {
        self.notifier = Some(notifier);
    }

    /// Returns the reloads so far.
    pub fn history(&self) -> &History {
        &self.history
    }

    /// Returns what the configuration is read from.
    pub fn source(&self) -> &dyn Source {
        &*self.source
    }

    /// Has the configuration read again now, and returns what came of it.
    ///
    /// # Errors
    ///
    /// When nothing was tried.
    ///
    /// # Cancel safety
    ///
    /// A reload that was asked for is done, whether its result is waited for or not.
    pub async fn ask(&self) -> Result<Arc<Reload>, Busy> {
        let (answer, told) = oneshot::channel();
        let sent = self.asked.try_send(answer);
        sent.map_err(|_| Busy)?;
        told.await.map_err(|_| Busy)
    }

    /// Returns the end where questions come in, once.
    fn questions(&self) -> Option<mpsc::Receiver<Answer>> {
        let questions = self.questions.lock();
        questions.unwrap_or_else(PoisonError::into_inner).take()
    }

    fn watch<T>(&self, f: impl FnOnce(&mut Watch) -> T) -> T {
        f(&mut self.watch.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Loads the configuration; looks at the disk, so it blocks.
    fn load(&self) -> Result<Loaded, LoadError> {
        let before = self.watch(|watch| watch.state());
        let loaded = load(self.source(), Some(&self.live.current()));
        let watched = match &loaded {
            Ok(loaded) => loaded.watched.clone(),
            Err(e) => e.watched.clone(),
        };
        self.watch(|watch| watch.next(watched, &before));
        loaded
    }
}

/// The tasks beside the requests of clusters, by the ids of those.
#[derive(Default)]
struct Followed(HashMap<u64, Task>);

/// A task that ends when it is dropped.
struct Task(JoinHandle<()>);

impl Drop for Task {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl Followed {
    /// Begins the tasks of clusters that have none yet, and waits until each of their names was looked up once, but not
    /// for long.
    async fn add(&mut self, clusters: &[Arc<Cluster>]) {
        let mut first = Vec::new();
        for cluster in clusters.iter().filter(|cluster| cluster.is_watched()) {
            self.0.entry(cluster.id()).or_insert_with(|| {
                let (known, told) = oneshot::channel();
                first.push(told);
                Task(tokio::spawn(watch(cluster.clone(), known)))
            });
        }
        // What takes longer is down until it is known.
        let _ = tokio::time::timeout(NAMES, futures::future::join_all(first)).await;
    }

    /// Ends the tasks of all other clusters.
    fn keep(&mut self, clusters: &[Arc<Cluster>]) {
        let ids: HashSet<_> = clusters.iter().map(|cluster| cluster.id()).collect();
        self.0.retain(|id, _| ids.contains(id));
    }
}

impl Reloader {
    /// Loads the configuration and publishes what it says. Returns what came of it.
    async fn reload(self: &Arc<Self>, why: &'static str, followed: &mut Followed) -> Arc<Reload> {
        let began = Instant::now();
        if let Some(notifier) = &self.notifier {
            notifier.reloading();
        }
        let this = self.clone();
        let loaded = tokio::task::spawn_blocking(move || this.load()).await;
        let problems = match loaded {
            Ok(Ok(loaded)) => match self.take(loaded, followed).await {
                Ok(diff) => {
                    log::info!("{why}: the configuration is taken");
                    if let Some(notifier) = &self.notifier {
                        notifier.ready_again(false);
                    }
                    let outcome = Outcome::Taken { diff };
                    return self.history.add(why, began.elapsed(), outcome);
                }
                Err(problems) => problems,
            },
            Ok(Err(e)) => e.problems,
            Err(e) => vec![e.to_string()],
        };
        let (count, all) = (problems.len(), problems.join("; "));
        let errors = if count == 1 { "error" } else { "errors" };
        observe::reload_failed(&all);
        if let Some(notifier) = &self.notifier {
            notifier.ready_again(true);
        }
        log::error!(
            "{why}: the configuration is not taken, the old one stays in use; {count} {errors}: {all}"
        );
        let outcome = Outcome::Refused { problems };
        self.history.add(why, began.elapsed(), outcome)
    }

    /// Publishes a generation, and returns how it differs from the one before.
    ///
    /// # Errors
    ///
    /// Every address that cannot be listened on. Nothing has changed then.
    async fn take(&self, loaded: Loaded, followed: &mut Followed) -> Result<String, Vec<String>> {
        let running = loaded.running;
        let current = self.live.current();
        // Bound first: what cannot be had changes nothing.
        let (old, new) = (&current.plan.listeners, &running.plan.listeners);
        let change = self.addresses.prepare(old, new).await?;
        let (before, after) = (current.shown.clone(), running.shown.clone());
        let diff = tokio::task::spawn_blocking(move || difference(&before, &after));
        followed.add(&running.clusters).await;
        let clusters = running.clusters.clone();
        self.live.publish(running);
        followed.keep(&clusters);
        self.addresses.apply(change).await;
        observe::reloaded();
        Ok(diff.await.unwrap_or_default())
    }

    /// Looks whether the files have changed.
    async fn look(self: &Arc<Self>) -> bool {
        let this = self.clone();
        let looked = tokio::task::spawn_blocking(move || this.watch(Watch::look)).await;
        looked.unwrap_or(false)
    }
}

/// The service that runs a [`Reloader`].
pub struct Reloading(pub Arc<Reloader>);

#[async_trait]
impl BackgroundService for Reloading {
    async fn start_with_ready_notifier(
        &self,
        mut shutdown: ShutdownWatch,
        ready: ServiceReadyNotifier,
    ) {
        self.run(&mut shutdown, ready).await;
        // The process ends when no task is left.
        for cluster in &self.0.live.current().clusters {
            cluster.forget_names();
        }
    }
}

impl Reloading {
    async fn run(&self, shutdown: &mut ShutdownWatch, ready: ServiceReadyNotifier) {
        let mut followed = Followed::default();
        let hangup = signal(SignalKind::hangup());
        let mut hangup = hangup
            .map_err(|e| log::error!("SIGHUP will not reload the configuration: {e}"))
            .ok();
        followed.add(&self.0.live.current().clusters).await;
        ready.notify_ready();
        if early::hung_up() {
            self.0.reload("SIGHUP", &mut followed).await;
        }
        let mut looks = tokio::time::interval(PERIOD);
        looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut questions = self.0.questions();
        while !*shutdown.borrow() {
            tokio::select! {
                // An error means that nobody is left to say so.
                changed = shutdown.changed() => if changed.is_err() { return },
                () = hung_up(&mut hangup) => drop(self.0.reload("SIGHUP", &mut followed).await),
                answer = asked(&mut questions) => {
                    // Who has asked may have left.
                    let _ = answer.send(self.0.reload("admin", &mut followed).await);
                }
                _ = looks.tick() => {
                    if self.0.look().await {
                        self.0.reload("a file has changed", &mut followed).await;
                    }
                }
            }
        }
    }
}

/// Waits for somebody who asks for a reload, for ever where nobody can.
async fn asked(questions: &mut Option<mpsc::Receiver<Answer>>) -> Answer {
    if let Some(questions) = questions {
        if let Some(answer) = questions.recv().await {
            return answer;
        }
    }
    std::future::pending().await
}

/// Waits for a SIGHUP, for ever where it cannot be listened for.
async fn hung_up(signal: &mut Option<Signal>) {
    if let Some(signal) = signal {
        if signal.recv().await.is_some() {
            return;
        }
    }
    std::future::pending().await
}
