//! The endpoints of a service while it runs.
//!
//! ```text
//!            bind                    start
//! config ----------> Prepared ----------------> Served: acceptors, and what ends them
//!          new: a socket that listens                |            |
//!          there already: checked only               | HandBack   | Close
//!                                                    v            v
//!                            the sockets, to other acceptors    what waits is served, then they close
//! ```

use std::os::fd::AsRawFd;
use std::sync::{Arc, Weak};

use socket2::Socket;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;

use super::accept::{start, Connect, End, Limits, Settings, WorkerPool};
use super::bound::Telling;
use super::config::{Common, ListenerConfig};
use super::endpoint::{Endpoint, Successor};
use super::entrance::Entrance;
use super::fds::ListenFds;
use super::handle::Command;
use super::l4::{remove_closed, Listening};
use crate::protocols::l4::socket::SocketAddr;
use crate::shutdown::watch::ShutdownWatch;

/// The endpoints of a service that runs; `M` makes of an entrance what serves its connections.
pub(crate) struct Serving<M> {
    common: Common,
    fds: Option<ListenFds>,
    pool: Arc<WorkerPool>,
    settings: Settings,
    /// Tasks that accept at one socket, where workers share it.
    tasks: usize,
    make: M,
    served: Vec<Served>,
    bound: Telling,
    commands: Option<mpsc::Receiver<Command>>,
    /// Those of endpoints that are gone too, while they have connections that have not come to the application.
    entrances: Vec<Weak<Entrance>>,
    begun: usize,
}

/// What a service starts with.
pub(crate) struct Parts {
    pub(super) endpoints: Vec<ListenerConfig>,
    pub(super) common: Common,
    pub(super) bound: Telling,
    pub(super) commands: Option<mpsc::Receiver<Command>>,
}

/// An endpoint at which connections are accepted.
struct Served {
    /// The address that it was added with.
    bind: String,
    address: Option<SocketAddr>,
    unix: bool,
    /// The first one.
    socket: Arc<Socket>,
    limits: Limits,
    entrance: Arc<Entrance>,
    end: watch::Sender<Option<End>>,
    ended: JoinHandle<Option<Listening>>,
}

/// An endpoint that can be started.
pub(super) enum Prepared {
    New(Box<Endpoint>),
    Successor(String, Box<Successor>),
}

impl<M, C> Serving<M>
where
    M: Fn(Arc<Entrance>) -> C,
    C: Connect,
{
    /// Listens at all endpoints, and begins to accept there.
    ///
    /// # Errors
    /// One line that names the endpoint and what is in the way.
    pub(crate) async fn begin(
        parts: Parts,
        fds: Option<ListenFds>,
        pool: Arc<WorkerPool>,
        tasks: usize,
        make: M,
    ) -> Result<Self, String> {
        let mut serving = Serving {
            common: parts.common,
            fds,
            pool,
            settings: Settings::current(),
            tasks,
            make,
            served: Vec::new(),
            bound: parts.bound,
            commands: parts.commands,
            entrances: Vec::new(),
            begun: 0,
        };
        let mut opened = Vec::new();
        for config in parts.endpoints {
            opened.push(serving.open(config, false).await?);
        }
        for endpoint in opened {
            serving.accept_at(endpoint)?;
        }
        serving.tell();
        Ok(serving)
    }

    /// Serves until the shutdown, and closes all endpoints; returns at once when there are none, and nobody is left who
    /// may add one.
    pub(crate) async fn until(&mut self, mut shutdown: ShutdownWatch) {
        loop {
            let next = async {
                match &mut self.commands {
                    Some(commands) => commands.recv().await,
                    None => std::future::pending().await,
                }
            };
            let command = tokio::select! {
                biased;
                // An error says that the server is gone.
                _ = shutdown.wait_for(|on| *on) => break,
                command = next => command,
            };
            match command {
                Some(command) => self.execute(command).await,
                None if self.served.is_empty() => break,
                None => self.commands = None,
            }
        }
        // Who asks from now on is told that it is too late.
        self.commands = None;
        let served = std::mem::take(&mut self.served);
        served.iter().for_each(|one| one.tell(End::Close));
        for one in served {
            one.ended().await;
        }
    }

    /// Sends away the connections that have not begun to say something, once idle ones are, and has the others hurry.
    pub(crate) fn close_entrances(&self) {
        let there = self.entrances.iter().filter_map(Weak::upgrade);
        there.for_each(|entrance| entrance.close());
    }

    async fn execute(&mut self, command: Command) {
        // Not while the sockets are handed to a new process: it must get what is listed, and the list is locked.
        let gate = self.fds.as_ref().map(|fds| fds.lock().gate());
        let _changing = match &gate {
            Some(gate) => Some(gate.lock().await),
            None => None,
        };
        // An error says that nobody waits for the answer; an endpoint that was bound for it closes with it.
        match command {
            Command::Bind(config, answer) => drop(answer.send(self.prepare(*config).await)),
            Command::Start(prepared, answer) => drop(answer.send(self.start(prepared).await)),
            Command::Remove(address, answer) => drop(answer.send(self.remove(&address).await)),
        }
    }

    async fn prepare(&self, config: ListenerConfig) -> Result<Prepared, String> {
        let bind = config.address.as_ref().to_owned();
        // Each is another port.
        let any_port = bind.ends_with(":0");
        let there = self.served.iter().find(|one| one.bind == bind && !any_port);
        let Some(there) = there else {
            let endpoint = self.open(config, true).await?;
            return Ok(Prepared::New(Box::new(endpoint)));
        };
        if there.unix != config.is_unix() {
            return Err(format!("cannot listen on {bind}: it is of another kind"));
        }
        let before = (&*there.socket, &there.limits, &*there.entrance);
        let with = (&self.pool, &self.settings);
        let successor = Successor::of(config, &self.common, with, before)?;
        Ok(Prepared::Successor(bind, Box::new(successor)))
    }

    async fn open(&self, config: ListenerConfig, at_once: bool) -> Result<Endpoint, String> {
        let with = (&self.pool, &self.settings);
        Endpoint::open(config, &self.common, self.fds.as_ref(), with, at_once).await
    }

    async fn start(&mut self, prepared: Prepared) -> Result<SocketAddr, String> {
        let (place, endpoint) = match prepared {
            Prepared::New(endpoint) => (self.served.len(), *endpoint),
            Prepared::Successor(bind, successor) => {
                let place = self.served.iter().position(|one| one.bind == bind);
                let gone = || format!("{bind} was removed meanwhile");
                let place = place.ok_or_else(gone)?;
                let before = self.served.remove(place);
                before.tell(End::HandBack);
                let listening = before.ended().await.ok_or_else(gone)?;
                (place, successor.take_over(listening, self.pool.len()))
            }
        };
        let started = self.accept_at(endpoint);
        if let Err(e) = &started {
            log::error!("{e}: the endpoint is closed");
        } else if let Some(last) = self.served.pop() {
            self.served.insert(place, last);
        }
        self.tell();
        let address = started?;
        address.ok_or_else(|| "the system does not tell the address that was bound".to_owned())
    }

    async fn remove(&mut self, address: &str) -> Result<(), String> {
        let is_it = |one: &Served| {
            let bound = one.address.as_ref().map(ToString::to_string);
            one.bind == address || bound.as_deref() == Some(address)
        };
        let Some(place) = self.served.iter().position(is_it) else {
            return Err(format!("nothing listens on {address} here"));
        };
        let one = self.served.remove(place);
        self.tell();
        one.tell(End::Close);
        let path = one.unix.then(|| one.bind.clone());
        one.ended().await;
        if let Some(path) = path {
            remove_closed(&path);
        }
        Ok(())
    }

    /// Begins to accept at an endpoint that listens; it is the last one then.
    fn accept_at(&mut self, endpoint: Endpoint) -> Result<Option<SocketAddr>, String> {
        let listening = &endpoint.listening;
        let socket = listening.socket.clone();
        let address = SocketAddr::from_raw_fd(socket.as_raw_fd(), false);
        let (bind, unix) = (listening.bind.clone(), listening.unix);
        let (entrance, limits) = (endpoint.entrance.clone(), endpoint.limits.clone());
        let (end, until) = watch::channel(None);
        let connect = (self.make)(entrance.clone());
        let with = (self.pool.clone(), self.settings);
        let accepting = start(endpoint, self.begun, self.tasks, with, until, connect)?;
        self.begun += 1;
        self.entrances.retain(|one| one.strong_count() > 0);
        self.entrances.push(Arc::downgrade(&entrance));
        self.served.push(Served {
            bind,
            address: address.clone(),
            unix,
            socket,
            limits,
            entrance,
            end,
            ended: tokio::spawn(accepting.ended()),
        });
        Ok(address)
    }

    fn tell(&self) {
        let addresses = self.served.iter().filter_map(|one| one.address.clone());
        self.bound.tell(addresses.collect());
    }
}

impl Served {
    fn tell(&self, end: End) {
        self.end.send_replace(Some(end));
    }

    /// Waits until its acceptors have ended; returns the sockets that they hand back.
    async fn ended(self) -> Option<Listening> {
        let Served {
            bind,
            ended,
            socket,
            ..
        } = self;
        // One that is closed is to be closed.
        drop(socket);
        let ended = ended.await;
        ended.unwrap_or_else(|e| {
            log::error!("{bind}: accepting has failed: {e}");
            None
        })
    }
}
