//! The storage, the lock and the origin of a search, and the state of its present run.

use std::collections::BTreeSet;
use std::sync::{Mutex, MutexGuard};
use std::task::Poll;
use std::time::{Duration, SystemTime};

use futures::FutureExt;
use pingora_cache::lock::{CacheLock, LockStatus};
use pingora_cache::{CacheKey, CacheMeta, CachePhase, MemCache};
use pingora_http::ResponseHeader;
use tokio::task::Id;

use crate::choices::{Budget, Choices, Cost};
use crate::origin::Answer;
use crate::scenario::{Scenario, LOCK_AGE};

/// It is leaked, as the cache asks for a storage and a lock that live for ever.
pub struct World {
    pub scenario: Scenario,
    pub memory: MemCache,
    pub locks: CacheLock,
    state: Mutex<State>,
}

/// All of a run that is not a request.
pub struct State {
    pub scenario: Scenario,
    pub choices: Choices,
    /// The number of the run. It is in the key of all that the run stores.
    pub run: usize,
    /// The client that has, or had, the last turn.
    pub turn: usize,
    /// Whoever has its turn: a client, or after those a task in the background.
    pub running: usize,
    tasks: Vec<Id>,
    pub log: Vec<String>,
    pub failure: Option<String>,
    pub met: Vec<Met>,
    pub answers: Vec<Answer>,
    /// Write permits that are out.
    pub permits: usize,
    /// Waits that were over because the time of their writer was up. Another one may write beside it.
    pub aged: usize,
    /// What has gone wrong, and did not have to.
    pub faults: usize,
    /// Nothing was stored since the last purge.
    pub is_purged: bool,
    /// The ends of waits in all runs so far.
    pub ends: BTreeSet<String>,
}

/// What a request has met of the cache.
#[derive(Debug, Default)]
pub struct Met {
    pub lookups: usize,
    pub waits: Vec<LockStatus>,
    pub is_waiting: bool,
    /// A lookup has failed, after which a request goes upstream without the lock.
    pub no_lock: bool,
    /// The phase of the cache in which the request goes upstream.
    pub upstream: Option<CachePhase>,
}

impl World {
    pub fn new(scenario: Scenario) -> &'static World {
        let choices = Choices::first(Budget::NONE);
        Box::leak(Box::new(World {
            scenario,
            memory: MemCache::new(),
            locks: CacheLock::new(LOCK_AGE),
            state: Mutex::new(State::new(scenario, choices)),
        }))
    }

    /// Begins a run. Whatever an earlier one has stored has another key.
    pub fn begin(&'static self, choices: Choices) {
        {
            let mut state = self.state();
            let (run, ends) = (state.run + 1, std::mem::take(&mut state.ends));
            *state = State {
                run,
                ends,
                ..State::new(self.scenario, choices)
            };
        }
        if self.scenario.stale.is_some() {
            let (key, meta) = (self.key(), stale_meta());
            let stored = self.keep(&key, &meta, Answer::STALE.into());
            stored.now_or_never().unwrap().unwrap();
        }
    }

    fn key(&self) -> CacheKey {
        CacheKey::new(format!("/{}", self.state().run), "test")
    }

    /// The state, which knows by the task that asks for it whose turn it is.
    pub fn state(&self) -> MutexGuard<'_, State> {
        let mut state = self.state.lock().unwrap_or_else(|e| e.into_inner());
        state.running = match tokio::task::try_id() {
            None => state.turn,
            Some(id) => self.scenario.probe() + 1 + state.task(id),
        };
        state
    }

    pub fn note(&self, what: impl Into<String>) {
        self.state().note(what);
    }

    /// Chooses between the usual course of things, which is 0, and faults.
    pub fn fault(&self, what: &str, kinds: usize) -> usize {
        let mut costs = vec![Cost::Fault; kinds + 1];
        costs[0] = Cost::Usual;
        let mut state = self.state();
        let taken = state.choices.pick(&costs);
        if taken > 0 {
            state.faults += 1;
            state.note(format!("fault {taken} of {what}"));
        }
        taken
    }

    /// Lets another one have its turn, where the run is such.
    pub async fn pause(&self) {
        let mut paused = false;
        std::future::poll_fn(|cx| {
            if std::mem::replace(&mut paused, true) {
                return Poll::Ready(());
            }
            cx.waker().wake_by_ref();
            Poll::Pending
        })
        .await;
    }
}

impl State {
    fn new(scenario: Scenario, choices: Choices) -> Self {
        State {
            scenario,
            choices,
            run: 0,
            turn: 0,
            running: 0,
            tasks: Vec::new(),
            log: Vec::new(),
            failure: None,
            met: (0..=scenario.probe()).map(|_| Met::default()).collect(),
            answers: Vec::new(),
            permits: 0,
            aged: 0,
            faults: 0,
            is_purged: false,
            ends: BTreeSet::new(),
        }
    }

    /// The number of a task in the background.
    fn task(&mut self, id: Id) -> usize {
        let known = self.tasks.iter().position(|task| *task == id);
        known.unwrap_or_else(|| {
            self.tasks.push(id);
            self.met.push(Met::default());
            self.tasks.len() - 1
        })
    }

    pub fn note(&mut self, what: impl Into<String>) {
        let line = format!("{}: {}", self.running, what.into());
        self.log.push(line);
    }

    /// Has the run fail. What comes after the first failure does not count.
    pub fn fail(&mut self, what: impl Into<String>) {
        let line = format!("{}: {}", self.running, what.into());
        self.failure.get_or_insert(line);
    }

    pub fn met(&mut self) -> &mut Met {
        &mut self.met[self.running]
    }
}

/// What is kept of a response that is stale, and may be served while it is revalidated.
fn stale_meta() -> CacheMeta {
    const MINUTE: Duration = Duration::from_secs(60);
    let made = SystemTime::now() - MINUTE;
    let mut header = ResponseHeader::build(200, None).unwrap();
    let length = Answer::STALE.len();
    header.insert_header("Content-Length", length).unwrap();
    header.insert_header("ETag", "\"1\"").unwrap();
    CacheMeta::new(made, made, 3600, 0, header)
}
