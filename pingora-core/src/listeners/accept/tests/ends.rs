//! Nothing is lost when sockets close, or go to another process.

use std::net::TcpListener;
use std::os::fd::{AsRawFd, IntoRawFd};
use std::os::unix::net::UnixListener;

use super::*;

/// Connects and exchanges a byte, over and over, on several threads.
pub(super) struct Storm {
    served: AtomicUsize,
    lost: AtomicUsize,
    /// From when on a client may be refused, and ends then.
    ending: AtomicBool,
}

impl Storm {
    pub(super) fn new() -> Self {
        Storm {
            served: AtomicUsize::new(0),
            lost: AtomicUsize::new(0),
            ending: AtomicBool::new(false),
        }
    }

    fn client(&self, address: SocketAddr) {
        loop {
            let ending = self.ending.load(Ordering::SeqCst);
            let client = match TcpStream::connect(address) {
                Ok(client) => client,
                Err(e) if e.kind() == io::ErrorKind::ConnectionRefused && ending => return,
                Err(e) => {
                    // It may have been said while this connection was tried.
                    if self.ending.load(Ordering::SeqCst) {
                        continue;
                    }
                    eprintln!("not connected: {e}");
                    self.lost.fetch_add(1, Ordering::SeqCst);
                    return;
                }
            };
            match exchanged(&client) {
                Ok(()) => self.served.fetch_add(1, Ordering::SeqCst),
                Err(e) => {
                    eprintln!("not served: {e}");
                    self.lost.fetch_add(1, Ordering::SeqCst)
                }
            };
        }
    }

    /// Runs clients while `act` does something to the server, and until they are refused.
    pub(super) fn during(&self, address: SocketAddr, act: impl FnOnce()) {
        std::thread::scope(|threads| {
            for _ in 0..4 {
                threads.spawn(|| self.client(address));
            }
            self.more(50);
            act();
        });
        assert_eq!(self.lost.load(Ordering::SeqCst), 0, "connections were lost");
    }

    /// Waits until so many more were served.
    pub(super) fn more(&self, n: usize) {
        let enough = self.served.load(Ordering::SeqCst) + n;
        while self.served.load(Ordering::SeqCst) < enough {
            assert_eq!(self.lost.load(Ordering::SeqCst), 0, "connections were lost");
            std::thread::yield_now();
        }
    }

    /// Ends the clients after what they are about.
    pub(super) fn finish(&self) {
        self.ending.store(true, Ordering::SeqCst);
    }

    fn stop(&self, running: Running) -> Vec<Runtime> {
        self.ending.store(true, Ordering::SeqCst);
        running.stop()
    }
}

fn exchanged(mut client: &TcpStream) -> io::Result<()> {
    client.write_all(b"x")?;
    client.read_exact(&mut [0])
}

#[test]
fn nothing_is_lost_in_a_shutdown() {
    each_way(|strategy, stealing| {
        let app = Arc::new(Echo::default());
        let running = start(&app, strategy, workers(3, stealing));
        let storm = Storm::new();
        let address = running.address();
        let mut left = Vec::new();
        storm.during(address, || left = storm.stop(running));
    });
}

/// Connections that were complete before the listener closed are served, and no more come.
#[test]
fn what_waits_in_the_queue_is_served_by_each() {
    for strategy in AcceptStrategy::ALL {
        let dir = Dir::new(&format!("rest-{strategy}"));
        let path = dir.path("sock");
        let rt = runtime_of(2);
        rt.block_on(settings(strategy).scope(async {
            let mut listeners = Listeners::tcp(&own_address());
            listeners.add_uds(&path, None);
            let endpoints = listeners.listen(None, 4).await.unwrap();
            let address = endpoints[0].listening.socket.local_addr().unwrap();
            let address = address.as_socket().unwrap();
            let tcp: Vec<_> = (0..100)
                .map(|_| TcpStream::connect(address).unwrap())
                .collect();
            let unix: Vec<_> = (0..100)
                .map(|_| UnixStream::connect(&path).unwrap())
                .collect();
            let (_sender, stopped) = tokio::sync::watch::channel(true);
            let app = Arc::new(Echo::default());
            for endpoint in endpoints {
                let (app, watch) = (app.clone(), stopped.clone());
                let entrance = endpoint.entrance.clone();
                let connect = move |accepted| {
                    let (entrance, app, watch) = (entrance.clone(), app.clone(), watch.clone());
                    async move {
                        let stream = entrance.pass(accepted).await.unwrap();
                        Service::handle_event(stream, app, watch).await
                    }
                };
                close(endpoint, connect).await;
            }
            assert!(TcpStream::connect(address).is_err());
            assert!(UnixStream::connect(&path).is_err());
            tcp.iter().for_each(|client| exchange(client, b"ab"));
            unix.iter().for_each(|client| exchange(client, b"ab"));
        }));
    }
}

/// Hands the sockets of `old` to another table, as a process does that has been told to.
fn hand_on(old: &ListenFds, receive: impl FnOnce(&str) -> Fds + Send) -> ListenFds {
    static NEXT: AtomicUsize = AtomicUsize::new(0);
    let dir = Dir::new(&format!("on-{}", NEXT.fetch_add(1, Ordering::SeqCst)));
    let path = dir.path("sock");
    let patience = Patience {
        retries: 3000,
        pause: Duration::from_millis(10),
    };
    let received = std::thread::scope(|threads| {
        let receiving = threads.spawn(|| receive(&path));
        Fds::hand_on(old, path.as_str(), &patience, &Trust::default()).unwrap();
        receiving.join().unwrap()
    });
    Arc::new(Mutex::new(received))
}

fn receive(path: &str) -> Fds {
    let patience = Patience {
        retries: 3000,
        pause: Duration::from_millis(10),
    };
    let mut fds = Fds::new();
    fds.receive(path, &patience, &Trust::default()).unwrap();
    fds
}

fn receive_as_original(path: &str) -> Fds {
    let mut fds = Fds::new();
    fds.receive_as_original(path);
    fds
}

/// One process follows another: the sockets that the new one listens on.
fn upgrade(
    from: (AcceptStrategy, usize),
    to: (AcceptStrategy, usize),
    receive: fn(&str) -> Fds,
) -> usize {
    let app = Arc::new(Echo::default());
    let old = start(&app, from.0, workers(from.1, false));
    let storm = Storm::new();
    let mut sockets = 0;
    let mut left = Vec::new();
    storm.during(old.address(), || {
        let fds = hand_on(&old.fds, receive);
        let new = Arc::new(Echo::default());
        let (service, workers) = (tcp_service(&new), workers(to.1, false));
        let new = Running::with(service, workers, 1, fds.clone(), settings(to.0));
        sockets = sockets_of(&fds, &own_address());
        // Both accept.
        storm.more(50);
        left.extend(old.stop());
        storm.more(50);
        left.extend(storm.stop(new));
    });
    sockets
}

#[test]
fn nothing_is_lost_in_an_upgrade() {
    for strategy in AcceptStrategy::ALL {
        let sockets = upgrade((strategy, 2), (strategy, 2), receive);
        let several = strategy == AcceptStrategy::Reuseport;
        assert_eq!(sockets, if several { 2 } else { 1 });
    }
}

/// From each strategy to another one, with more workers and with fewer.
#[test]
fn a_new_process_may_do_it_another_way() {
    use AcceptStrategy::{Exclusive, Mutex, Reuseport, Shared};
    for (from, to, sockets) in [
        ((Shared, 2), (Reuseport, 3), 3),
        ((Reuseport, 4), (Reuseport, 2), 4),
        ((Reuseport, 2), (Reuseport, 4), 4),
        ((Reuseport, 3), (Shared, 1), 3),
        ((Reuseport, 3), (Exclusive, 2), 3),
        ((Reuseport, 3), (Mutex, 2), 3),
        ((Mutex, 2), (Exclusive, 2), 1),
        ((Exclusive, 2), (Shared, 2), 1),
    ] {
        assert_eq!(upgrade(from, to, receive), sockets, "{from:?} to {to:?}");
    }
}

/// A process of the original implementation takes one socket: the others are served to their end by the old one.
#[test]
fn nothing_is_lost_to_a_process_that_takes_one_socket() {
    for strategy in AcceptStrategy::ALL {
        let new = (AcceptStrategy::Shared, 2);
        assert_eq!(upgrade((strategy, 4), new, receive_as_original), 1);
    }
}

/// The same, and then to one that makes more of it again.
#[test]
fn connections_are_spread_again_after_they_were_steered() {
    let app = Arc::new(Echo::default());
    let old = start(&app, AcceptStrategy::Reuseport, workers(4, false));
    let address = old.address();
    let fds = hand_on(&old.fds, receive_as_original);
    for _ in 0..20 {
        exchange(TcpStream::connect(address).unwrap(), b"a");
    }
    // All that came since then were the first one's.
    assert_eq!(accepted(&old), [20, 0, 0, 0]);
    let table = settings(AcceptStrategy::Reuseport);
    let new = Running::with(tcp_service(&app), workers(4, false), 1, fds, table);
    old.stop();
    for _ in 0..400 {
        exchange(TcpStream::connect(address).unwrap(), b"a");
    }
    let accepted = accepted(&new);
    assert!(accepted.iter().all(|&n| n > 0), "{accepted:?}");
    new.stop();
}

/// A new process that listens elsewhere gives up what it got: the old one serves those that wait there.
#[test]
fn what_the_new_process_does_not_want_is_drained() {
    for strategy in AcceptStrategy::ALL {
        let rt = runtime_of(2);
        let fds = ListenFds::default();
        rt.block_on(settings(strategy).scope(async {
            let mut listeners = Listeners::tcp(&own_address());
            let mut endpoints = listeners.listen(Some(&fds), 4).await.unwrap();
            let endpoint = endpoints.remove(0);
            let address = endpoint.listening.socket.local_addr().unwrap();
            let address = address.as_socket().unwrap();
            let clients: Vec<_> = (0..100)
                .map(|_| TcpStream::connect(address).unwrap())
                .collect();
            let new = hand_on(&fds, receive);
            assert_eq!(endpoint.listening.own().count(), 0);
            let closed = new.lock().close_unclaimed(&Default::default());
            assert_eq!(closed, [own_address()]);
            let (_sender, stopped) = tokio::sync::watch::channel(true);
            let (entrance, watch) = (endpoint.entrance.clone(), stopped.clone());
            let app = Arc::new(Echo::default());
            let connect = move |accepted| {
                let (entrance, app, watch) = (entrance.clone(), app.clone(), watch.clone());
                async move {
                    let stream = entrance.pass(accepted).await.unwrap();
                    Service::handle_event(stream, app, watch).await
                }
            };
            close(endpoint, connect).await;
            assert!(TcpStream::connect(address).is_err());
            clients.iter().for_each(|client| exchange(client, b"ab"));
        }));
    }
}

/// Connections that waited at a socket that nobody else has are served, though its process has handed others on.
#[test]
fn what_was_not_taken_is_drained() {
    let app = Arc::new(Echo::default());
    let rt = runtime_of(2);
    let fds = ListenFds::default();
    rt.block_on(settings(AcceptStrategy::Reuseport).scope(async {
        let mut listeners = Listeners::tcp(&own_address());
        listeners.set_accept_strategy(AcceptStrategy::Reuseport);
        let mut endpoints = listeners.listen(Some(&fds), 4).await.unwrap();
        let endpoint = endpoints.remove(0);
        let address = endpoint.listening.socket.local_addr().unwrap();
        let address = address.as_socket().unwrap();
        let clients: Vec<_> = (0..200)
            .map(|_| TcpStream::connect(address).unwrap())
            .collect();
        let own = endpoint.listening.own().count();
        assert_eq!(own, 4);
        let dir = Dir::new("not-taken");
        let path = dir.path("sock");
        let taken = std::thread::scope(|threads| {
            let receiving = threads.spawn(|| receive_as_original(&path));
            let patience = Patience {
                retries: 3000,
                pause: Duration::from_millis(10),
            };
            Fds::hand_on(&fds, path.as_str(), &patience, &Trust::default()).unwrap();
            receiving.join().unwrap()
        });
        assert_eq!(endpoint.listening.own().count(), 3);
        let (_sender, stopped) = tokio::sync::watch::channel(true);
        let entrance = endpoint.entrance.clone();
        let watch = stopped.clone();
        let connect = move |accepted| {
            let (entrance, app, watch) = (entrance.clone(), app.clone(), watch.clone());
            async move {
                let stream = entrance.pass(accepted).await.unwrap();
                Service::handle_event(stream, app, watch).await
            }
        };
        close(endpoint, connect).await;
        // What waits at the one that was taken is the new process' now.
        let table = Arc::new(Mutex::new(taken));
        let mut new = Listeners::tcp(&own_address());
        let mut new = new.listen(Some(&table), 1).await.unwrap();
        let socket = &new.remove(0).listening.socket;
        let mut others = 0;
        while accept(socket).is_ok() {
            others += 1;
        }
        let served = clients.iter().filter(|client| exchanged(client).is_ok());
        assert_eq!(served.count(), 200 - others);
        assert!(others < 200);
    }));
}

/// As a process that was started with its sockets, or is to be the next one, sees the end of an endpoint.
fn end_of(fds: &ListenFds, bind: &str, strategy: AcceptStrategy) {
    let rt = runtime_of(2);
    rt.block_on(settings(strategy).scope(async {
        let mut listeners = Listeners::new();
        if bind.starts_with('/') {
            listeners.add_uds(bind, None);
        } else {
            listeners.add_tcp(bind);
        }
        let endpoint = listeners.listen(Some(fds), 2).await.unwrap().remove(0);
        close(endpoint, |_| std::future::ready(())).await;
    }));
}

/// Such as a service manager, or whoever has lent them: the next process is to serve what waits there.
#[test]
fn sockets_that_somebody_keeps_are_left_as_they_were() {
    let dir = Dir::new("kept");
    for strategy in [AcceptStrategy::Shared, AcceptStrategy::Mutex] {
        for lent in [false, true] {
            let tcp = TcpListener::bind("127.0.0.1:0").unwrap();
            let path = dir.path(&format!("{strategy}-{lent}"));
            let unix = UnixListener::bind(&path).unwrap();
            let address = tcp.local_addr().unwrap();
            let binds = vec![address.to_string(), path.clone()];
            let fds = ListenFds::default();
            if lent {
                let mut fds = fds.lock();
                fds.add(binds[0].clone(), tcp.as_raw_fd());
                fds.add(binds[1].clone(), unix.as_raw_fd());
            } else {
                let tcp = tcp.try_clone().unwrap().into_raw_fd();
                let unix = unix.try_clone().unwrap().into_raw_fd();
                fds.lock().deserialize(binds.clone(), vec![tcp, unix]);
            }
            // After an upgrade as before one.
            let fds = if lent { fds } else { hand_on(&fds, receive) };
            assert!(binds.iter().all(|bind| fds.lock().kept(bind) == 1));
            end_of(&fds, &binds[0], strategy);
            end_of(&fds, &binds[1], strategy);
            let client = TcpStream::connect_timeout(&address, Duration::from_secs(60)).unwrap();
            tcp.set_nonblocking(false).unwrap();
            unix.set_nonblocking(false).unwrap();
            assert_eq!(tcp.accept().unwrap().1, client.local_addr().unwrap());
            let _client = UnixStream::connect(&path).unwrap();
            unix.accept().unwrap();
        }
    }
}

/// The sockets that a process opens beside a kept one are its own, and are those of the next one.
#[test]
fn further_sockets_are_nobody_elses() {
    let tcp = TcpListener::bind("127.0.0.1:0").unwrap();
    let bind = tcp.local_addr().unwrap().to_string();
    let lent = ListenFds::default();
    lent.lock().add(bind.clone(), tcp.as_raw_fd());
    assert_eq!(lent.lock().kept(&bind), 1);
    // Whoever has lent it ends with its process.
    assert_eq!(hand_on(&lent, receive).lock().kept(&bind), 0);

    let mut fds = ListenFds::default();
    let of_manager = tcp.into_raw_fd();
    fds.lock().deserialize(vec![bind.clone()], vec![of_manager]);
    let rt = runtime_of(2);
    rt.block_on(settings(AcceptStrategy::Reuseport).scope(async {
        for _ in 0..3 {
            let mut listeners = Listeners::tcp(&bind);
            let mut endpoints = listeners.listen(Some(&fds), 4).await.unwrap();
            let endpoint = endpoints.remove(0);
            assert_eq!(endpoint.listening.sockets().count(), 4);
            assert_eq!(endpoint.listening.own().count(), 3);
            let new = hand_on(&fds, receive);
            drop(endpoint);
            fds = new;
        }
    }));
}

/// An upgrade that fails leaves the sockets to the old process, however the new one ends.
#[test]
fn a_new_process_that_ends_leaves_the_sockets_to_the_old_one() {
    let dir = Dir::new("left");
    for strategy in AcceptStrategy::ALL {
        let tcp = TcpListener::bind("127.0.0.1:0").unwrap();
        let path = dir.path(&strategy.to_string());
        let unix = UnixListener::bind(&path).unwrap();
        let address = tcp.local_addr().unwrap();
        let binds = [address.to_string(), path.clone()];
        let old = ListenFds::default();
        old.lock().add_owned(&binds[0], tcp.as_raw_fd());
        old.lock().add_owned(&binds[1], unix.as_raw_fd());
        let new = hand_on(&old, receive);
        // Of another process, which runs.
        new.lock().set_giver(nix::unistd::Pid::parent());
        end_of(&new, &binds[0], strategy);
        end_of(&new, &binds[1], strategy);
        let client = TcpStream::connect_timeout(&address, Duration::from_secs(60)).unwrap();
        tcp.set_nonblocking(false).unwrap();
        unix.set_nonblocking(false).unwrap();
        while tcp.accept().unwrap().1 != client.local_addr().unwrap() {}
        let _client = UnixStream::connect(&path).unwrap();
        unix.accept().unwrap();
    }
}
