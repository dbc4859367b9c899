//! One run: the turns of all that take part, until all are over.

use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::Arc;
use std::task::{Context, Poll, Wake};

use pingora_core::apps::HttpServerApp;
use pingora_core::protocols::http::ServerSession;
use pingora_core::server::configuration::ServerConf;
use pingora_proxy::{http_proxy, HttpProxy};
use tokio::runtime::Handle;
use tokio::sync::watch;

use crate::app::App;
use crate::choices::{Budget, Choices, Cost};
use crate::pipe::Pipe;
use crate::scenario::LOCK_AGE;
use crate::world::World;

/// More than any run has.
const MAX_STEPS: usize = 2_000;

/// Turns without an event, after which the background waits for somebody else.
const IDLE_TURNS: usize = 8;

/// The proxy, and the world that it is in.
pub struct Proxy {
    world: &'static World,
    http: Arc<HttpProxy<App>>,
    shutdown: watch::Receiver<bool>,
}

/// What may come next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    /// A request goes on until it waits.
    Client(usize),
    /// A task in the background goes on until it waits.
    Background,
    /// The origin does what is next on a connection.
    Origin(usize),
    /// A client leaves, as the proxy can see.
    Leave(usize),
    /// The task of a client's connection is dropped.
    Drop(usize),
    /// The time of those that wait is up.
    TimePasses,
}

/// Set when a request is woken.
struct Woken(AtomicBool);

impl Wake for Woken {
    fn wake(self: Arc<Self>) {
        self.0.store(true, Ordering::SeqCst);
    }
}

struct Client {
    pipe: Pipe,
    woken: Arc<Woken>,
    /// The task of its connection, until it is over.
    serving: Option<Pin<Box<dyn Future<Output = ()>>>>,
    /// It waits for a response no longer.
    is_gone: bool,
}

impl Proxy {
    pub fn new(world: &'static World) -> Self {
        let http = http_proxy(&Arc::new(ServerConf::default()), App::new(world));
        Proxy {
            world,
            http: Arc::new(http),
            shutdown: watch::channel(false).1,
        }
    }

    fn connect(&self, method: &str) -> Client {
        let pipe = Pipe::default();
        let path = self.world.state().run;
        pipe.send(&format!("{method} /{path} HTTP/1.1\r\nHost: a\r\n\r\n"));
        let session = ServerSession::new_http1(Box::new(pipe.stream()));
        let (http, shutdown) = (self.http.clone(), self.shutdown.clone());
        Client {
            pipe,
            woken: Arc::new(Woken(AtomicBool::new(true))),
            serving: Some(Box::pin(async move {
                drop(http.process_new_http(session, &shutdown).await);
            })),
            is_gone: false,
        }
    }

    /// Runs to the end, and returns the choices that were made.
    ///
    /// # Errors
    /// The rule that was broken, and all that led to it.
    pub async fn run(&self, choices: Choices) -> Result<Choices, String> {
        self.world.begin(choices);
        let scenario = self.world.scenario;
        let requests = (0..scenario.requests).map(|_| self.connect("GET"));
        let purge = scenario.purge.then(|| self.connect("PURGE"));
        let mut run = Run {
            proxy: self,
            clients: requests.chain(purge).collect(),
            last: Step::Client(0),
            background_waits: false,
        };
        run.finish().await;
        run.check();
        // One more finds whatever was not given back.
        self.world.state().choices.settle();
        run.clients.push(self.connect("GET"));
        run.finish().await;
        run.check();
        let mut state = self.world.state();
        let choices = std::mem::replace(&mut state.choices, Choices::first(Budget::NONE));
        let Some(failure) = state.failure.take() else {
            return Ok(choices);
        };
        let (taken, log) = (choices.taken(), state.log.join("\n"));
        Err(format!(
            "{failure}\nin {scenario:?}\nby the choices {taken:?}:\n{log}"
        ))
    }
}

struct Run<'a> {
    proxy: &'a Proxy,
    clients: Vec<Client>,
    /// Whoever has had the last turn.
    last: Step,
    /// Nothing came of the last turn of the background, and nothing has happened since.
    background_waits: bool,
}

impl Run<'_> {
    async fn finish(&mut self) {
        for _ in 0..MAX_STEPS {
            if self.is_over() {
                return;
            }
            let steps = self.steps();
            if steps.iter().all(|(cost, _)| *cost == Cost::Fault) {
                if self.settle_background().await {
                    continue;
                }
                self.fail("waits for ever");
                return;
            }
            let costs: Vec<_> = steps.iter().map(|(cost, _)| *cost).collect();
            let taken = self.proxy.world.state().choices.pick(&costs);
            self.take(steps[taken].1).await;
        }
        self.fail("goes on for ever");
    }

    fn is_over(&self) -> bool {
        self.clients.iter().all(|client| client.serving.is_none()) && tasks() == 0
    }

    /// Fails for the first that is not over.
    fn fail(&mut self, what: &str) {
        let open = self
            .clients
            .iter()
            .position(|client| client.serving.is_some());
        let mut state = self.proxy.world.state();
        state.fail(match open {
            Some(i) => format!("{i} {what}"),
            None => format!("the background {what}"),
        });
        drop(state);
        self.clients
            .iter_mut()
            .for_each(|client| client.serving = None);
    }

    /// What may come next. Whoever had the last turn goes on first, if it can.
    fn steps(&self) -> Vec<(Cost, Step)> {
        let mut steps = Vec::new();
        let mut faults = Vec::new();
        for (i, client) in self.clients.iter().enumerate() {
            if client.serving.is_none() {
                continue;
            }
            if client.woken.0.load(Ordering::SeqCst) {
                steps.push(Step::Client(i));
            }
            if !client.is_gone {
                faults.push(Step::Leave(i));
            }
            faults.push(Step::Drop(i));
        }
        if tasks() > 0 && !self.background_waits {
            steps.push(Step::Background);
        }
        let state = self.proxy.world.state();
        let answers = state.answers.iter().enumerate();
        let due = answers.filter(|(_, answer)| answer.is_due());
        steps.extend(due.map(|(number, _)| Step::Origin(number)));
        if let Some(last) = steps.iter().position(|step| *step == self.last) {
            steps[..=last].rotate_right(1);
        }
        if state.met.iter().any(|met| met.is_waiting) {
            faults.push(Step::TimePasses);
        }
        let costs = [Cost::Usual]
            .into_iter()
            .chain(std::iter::repeat(Cost::Order));
        let faults = faults.into_iter().map(|step| (Cost::Fault, step));
        costs.zip(steps).chain(faults).collect()
    }

    async fn take(&mut self, step: Step) {
        let world = self.proxy.world;
        self.background_waits &= step == Step::Background;
        match step {
            Step::Client(_) | Step::Background | Step::Origin(_) => self.last = step,
            Step::Leave(_) | Step::Drop(_) | Step::TimePasses => {
                world.state().faults += 1;
                world.note(format!("{step:?}"));
            }
        }
        match step {
            Step::Client(i) => self.poll(i),
            Step::Background => self.background_waits = !self.poll_background().await,
            Step::Origin(number) => world.answer(number),
            Step::Leave(i) => {
                self.clients[i].is_gone = true;
                self.clients[i].pipe.end();
            }
            Step::Drop(i) => {
                world.state().turn = i;
                self.clients[i].is_gone = true;
                self.clients[i].serving = None;
                world.state().met().is_waiting = false;
            }
            Step::TimePasses => {
                let time = world.scenario.wait_timeout.unwrap_or(LOCK_AGE);
                tokio::time::advance(time).await;
            }
        }
    }

    fn poll(&mut self, i: usize) {
        let client = &mut self.clients[i];
        let Some(serving) = &mut client.serving else {
            return;
        };
        self.proxy.world.state().turn = i;
        client.woken.0.store(false, Ordering::SeqCst);
        let waker = client.woken.clone().into();
        let mut cx = Context::from_waker(&waker);
        let poll = AssertUnwindSafe(|| serving.as_mut().poll(&mut cx));
        match std::panic::catch_unwind(poll) {
            Ok(Poll::Pending) => {}
            Ok(Poll::Ready(())) => client.serving = None,
            Err(_) => {
                client.serving = None;
                self.proxy
                    .world
                    .state()
                    .fail("a panic ends the task of a connection");
            }
        }
        if client.pipe.is_closed() {
            // The proxy, which sends no more, waits for that.
            client.pipe.end();
        }
    }

    /// Gives the background a turn. Returns whether anything came of it.
    async fn poll_background(&self) -> bool {
        let before = (self.proxy.world.state().log.len(), tasks());
        // The runtime, as it is built, polls one of its tasks between two polls of this one.
        tokio::task::yield_now().await;
        before != (self.proxy.world.state().log.len(), tasks())
    }

    async fn settle_background(&self) -> bool {
        for _ in 0..IDLE_TURNS {
            if self.poll_background().await {
                return true;
            }
        }
        false
    }

    fn check(&self) {
        let mut state = self.proxy.world.state();
        state.check_end();
        let purge = state.scenario.purge.then_some(state.scenario.requests);
        for (i, client) in self.clients.iter().enumerate() {
            if !client.is_gone && Some(i) != purge {
                state.check_response(i, &client.pipe.received());
            }
        }
    }
}

/// The tasks in the background that are not over.
fn tasks() -> usize {
    Handle::current().metrics().num_alive_tasks()
}
