//! Endpoints that come and go while their service runs, and limits of connections.

use std::net::IpAddr;

use super::*;
use crate::listeners::{BoundAddresses, EndpointHandle, PendingEndpoint, ProxyProtocol};

/// A service that runs, what changes its endpoints, and what tells them.
struct Live {
    running: Running,
    endpoints: EndpointHandle,
    bound: BoundAddresses,
}

impl Live {
    fn start(service: Service<Arc<Echo>>, strategy: AcceptStrategy, workers: Vec<Runtime>) -> Self {
        let (endpoints, bound) = (service.endpoint_handle(), service.bound_addresses());
        let running = Running::with(
            service,
            workers,
            1,
            ListenFds::default(),
            settings(strategy),
        );
        Live {
            running,
            endpoints,
            bound,
        }
    }

    fn block_on<T>(&self, work: impl Future<Output = T>) -> T {
        self.running.workers[0].block_on(work)
    }

    fn add(&self, config: ListenerConfig) -> pingora_error::Result<SocketAddr> {
        let added = self.block_on(self.endpoints.add(config))?;
        Ok(*added.as_inet().unwrap())
    }

    fn bind(&self, config: ListenerConfig) -> PendingEndpoint {
        self.block_on(self.endpoints.bind(config)).unwrap()
    }

    fn remove(&self, address: impl ToString) -> pingora_error::Result<()> {
        self.block_on(self.endpoints.remove(&address.to_string()))
    }

    fn addresses(&self) -> Vec<String> {
        let bound = self.bound.get().unwrap();
        bound.iter().map(ToString::to_string).collect()
    }

    fn refused(&self) -> u64 {
        let counts = self.running.counts.per_worker();
        counts.iter().map(|worker| worker.refused).sum()
    }

    fn open(&self) -> u64 {
        let counts = self.running.counts.per_worker();
        counts.iter().map(|worker| worker.open).sum()
    }
}

fn nothing(app: &Arc<Echo>) -> Service<Arc<Echo>> {
    Service::new("echo".into(), app.clone())
}

fn any_port() -> ListenerConfig {
    ListenerConfig::tcp(own_address())
}

#[track_caller]
fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let end = Instant::now() + Duration::from_secs(60);
    while !holds() {
        assert!(Instant::now() < end, "did not happen: {what}");
        std::thread::yield_now();
    }
}

#[test]
fn endpoints_are_added_and_removed() {
    each_way(|strategy, stealing| {
        let app = Arc::new(Echo::default());
        let live = Live::start(nothing(&app), strategy, workers(2, stealing));
        assert_eq!(live.addresses(), Vec::<String>::new());
        let one = live.add(any_port()).unwrap();
        let two = live.add(any_port()).unwrap();
        assert_eq!(live.addresses(), [one.to_string(), two.to_string()]);
        let stays = TcpStream::connect(one).unwrap();
        exchange(&stays, b"1");
        exchange(TcpStream::connect(two).unwrap(), b"1");
        live.remove(one).unwrap();
        assert_eq!(live.addresses(), [two.to_string()]);
        let refused = TcpStream::connect(one).unwrap_err();
        assert_eq!(refused.kind(), io::ErrorKind::ConnectionRefused);
        exchange(&stays, b"1");
        exchange(TcpStream::connect(two).unwrap(), b"1");
        // The same address once more, at once.
        assert_eq!(live.add(ListenerConfig::tcp(one.to_string())).unwrap(), one);
        exchange(TcpStream::connect(one).unwrap(), b"1");
        assert!(live.remove("127.0.0.1:1").is_err());
        let endpoints = live.endpoints.clone();
        let rt = live.running.stop();
        let late = rt[0].block_on(endpoints.add(any_port())).unwrap_err();
        assert!(
            late.to_string().contains("does not listen any more"),
            "{late}"
        );
        assert!(TcpStream::connect(two).is_err());
    });
}

/// Clients that ask for an endpoint without a pause lose nothing while others come and go, and while it becomes another
/// one.
#[test]
fn nothing_is_lost_while_endpoints_change() {
    each_way(|strategy, stealing| {
        let app = Arc::new(Echo::default());
        let live = Live::start(nothing(&app), strategy, workers(2, stealing));
        let address = live.add(any_port()).unwrap();
        // Under the name by which it is changed.
        live.remove(address).unwrap();
        let config = || ListenerConfig::tcp(address.to_string());
        live.add(config()).unwrap();
        let storm = ends::Storm::new();
        storm.during(address, || {
            for other in AcceptStrategy::ALL {
                let new = live.add(any_port()).unwrap();
                exchange(TcpStream::connect(new).unwrap(), b"1");
                live.add(config().accept_strategy(other).backlog(1000))
                    .unwrap();
                storm.more(20);
                live.remove(new).unwrap();
            }
            storm.finish();
            live.remove(address).unwrap();
        });
        live.running.stop();
    });
}

#[test]
fn what_is_bound_waits_until_it_is_started() {
    let app = Arc::new(Echo::default());
    let live = Live::start(nothing(&app), AcceptStrategy::Shared, workers(1, false));
    let free = live.add(any_port()).unwrap();
    live.remove(free).unwrap();
    let config = || ListenerConfig::tcp(free.to_string());
    let pending = live.bind(config());
    let mut early = TcpStream::connect(free).unwrap();
    early.write_all(b"1").unwrap();
    assert_eq!((live.open(), live.addresses().len()), (0, 0));
    live.block_on(pending.start()).unwrap();
    early.read_exact(&mut [0]).unwrap();
    live.remove(free).unwrap();
    drop(live.bind(config()));
    assert!(TcpStream::connect(free).is_err());
    // What is taken is an error, and changes nothing.
    let taken = std::net::TcpListener::bind(free).unwrap();
    let error = live.add(config()).unwrap_err().to_string();
    assert!(
        error.contains(&format!("cannot listen on {free}")),
        "{error}"
    );
    drop(taken);
    assert_eq!(live.addresses(), Vec::<String>::new());
    live.running.stop();
}

/// Linux lets one more wait than the backlog says, and drops the segments of others.
#[cfg(target_os = "linux")]
#[test]
fn a_backlog_is_set() {
    let app = Arc::new(Echo::default());
    let live = Live::start(nothing(&app), AcceptStrategy::Shared, workers(1, false));
    let free = live.add(any_port()).unwrap();
    live.remove(free).unwrap();
    let pending = live.bind(ListenerConfig::tcp(free.to_string()).backlog(1));
    let waiting = [(); 2].map(|()| TcpStream::connect(free).unwrap());
    assert!(TcpStream::connect_timeout(&free, Duration::from_millis(50)).is_err());
    live.block_on(pending.start()).unwrap();
    waiting.iter().for_each(|client| exchange(client, b"1"));
    live.running.stop();
}

#[test]
fn a_unix_socket_comes_and_goes() {
    let dir = Dir::new("live");
    let path = dir.path("sock");
    let app = Arc::new(Echo::default());
    let live = Live::start(nothing(&app), AcceptStrategy::Reuseport, workers(2, false));
    let config = |mode| {
        use std::os::unix::fs::PermissionsExt;
        let permissions = std::fs::Permissions::from_mode(mode);
        ListenerConfig::uds(path.clone()).permissions(permissions)
    };
    let mode = || {
        use std::os::unix::fs::PermissionsExt;
        std::fs::metadata(&path).unwrap().permissions().mode() & 0o777
    };
    live.block_on(live.endpoints.add(config(0o600))).unwrap();
    exchange(UnixStream::connect(&path).unwrap(), b"1");
    assert_eq!(mode(), 0o600);
    let stays = UnixStream::connect(&path).unwrap();
    exchange(&stays, b"1");
    live.block_on(live.endpoints.add(config(0o660))).unwrap();
    assert_eq!(mode(), 0o660);
    exchange(UnixStream::connect(&path).unwrap(), b"1");
    live.remove(&path).unwrap();
    assert!(!std::path::Path::new(&path).exists());
    exchange(&stays, b"1");
    live.running.stop();
}

/// A new process gets the endpoints that are there at that moment.
#[test]
fn an_upgrade_hands_over_what_is_there() {
    let app = Arc::new(Echo::default());
    let live = Live::start(nothing(&app), AcceptStrategy::Reuseport, workers(2, false));
    let (goes, stays) = (live.add(any_port()).unwrap(), live.add(any_port()).unwrap());
    live.remove(goes).unwrap();
    live.remove(stays).unwrap();
    live.add(ListenerConfig::tcp(stays.to_string())).unwrap();
    let fds = live.running.fds.clone();
    assert_eq!(fds.lock().serialize().0, [stays.to_string()]);
    assert_eq!(sockets_of(&fds, &stays.to_string()), 2);
    // While they are handed on, nothing changes.
    let gate = fds.lock().gate();
    let handing = live.block_on(gate.lock());
    let mut adding = Box::pin(live.endpoints.add(any_port()));
    live.block_on(async { assert!(futures::poll!(&mut adding).is_pending()) });
    eventually("the command is taken", || {
        live.block_on(async {
            let polled = futures::poll!(&mut adding);
            assert!(polled.is_pending());
            true
        })
    });
    assert_eq!(fds.lock().serialize().0.len(), 1);
    drop(handing);
    live.block_on(adding).unwrap();
    assert_eq!(fds.lock().serialize().0.len(), 2);
    live.running.stop();
}

#[test]
fn connections_beyond_the_limit_are_closed_and_counted() {
    each_way(|strategy, stealing| {
        let app = Arc::new(Echo::default());
        let live = Live::start(nothing(&app), strategy, workers(2, stealing));
        let address = live.add(any_port().max_connections(4)).unwrap();
        let free = live.add(any_port()).unwrap();
        let mut clients: Vec<_> = (0..4)
            .map(|_| {
                let client = TcpStream::connect(address).unwrap();
                exchange(&client, b"1");
                client
            })
            .collect();
        assert!(is_closed(TcpStream::connect(address).unwrap()));
        assert_eq!((live.open(), live.refused()), (4, 1));
        exchange(TcpStream::connect(free).unwrap(), b"1");
        clients.pop();
        eventually("it has ended", || live.open() == 3);
        exchange(TcpStream::connect(address).unwrap(), b"1");
        drop(clients);
        eventually("they have ended", || live.open() == 0);
        live.running.stop();
    });
}

/// The connections that are there count when an endpoint becomes another one.
#[test]
fn another_limit_counts_what_is_there() {
    let app = Arc::new(Echo::default());
    let live = Live::start(nothing(&app), AcceptStrategy::Shared, workers(2, false));
    let address = live.add(any_port()).unwrap();
    live.remove(address).unwrap();
    let plain = || ListenerConfig::tcp(address.to_string());
    let config = |most| {
        plain()
            .max_connections(most)
            .max_connections_per_client(most)
    };
    // Those that came without a limit count too.
    live.add(plain()).unwrap();
    let one = TcpStream::connect(address).unwrap();
    exchange(&one, b"1");
    live.add(plain().max_connections(1)).unwrap();
    assert!(is_closed(TcpStream::connect(address).unwrap()));
    live.add(config(2)).unwrap();
    let two = TcpStream::connect(address).unwrap();
    exchange(&two, b"1");
    assert!(is_closed(TcpStream::connect(address).unwrap()));
    live.add(config(3)).unwrap();
    let three = TcpStream::connect(address).unwrap();
    exchange(&three, b"1");
    assert!(is_closed(TcpStream::connect(address).unwrap()));
    live.running.stop();
}

#[test]
fn a_service_has_a_limit_of_all_its_endpoints() {
    let app = Arc::new(Echo::default());
    let mut service = nothing(&app);
    service.set_max_connections(2);
    let live = Live::start(service, AcceptStrategy::Shared, workers(2, false));
    let (one, two) = (live.add(any_port()).unwrap(), live.add(any_port()).unwrap());
    let clients = [one, two].map(|to| TcpStream::connect(to).unwrap());
    clients.iter().for_each(|client| exchange(client, b"1"));
    for to in [one, two] {
        assert!(is_closed(TcpStream::connect(to).unwrap()));
    }
    assert_eq!(live.refused(), 2);
    live.running.stop();
}

#[test]
fn a_client_has_a_limit_of_its_own() {
    let app = Arc::new(Echo::default());
    let live = Live::start(nothing(&app), AcceptStrategy::Shared, workers(2, false));
    let balancers = ProxyProtocol::from_sources(["127.0.0.9"]).unwrap();
    let config = any_port().max_connections_per_client(1);
    let address = live.add(config.proxy_protocol(balancers)).unwrap();
    let one = connect_from("127.0.0.2", address);
    exchange(&one, b"1");
    assert!(is_closed(connect_from("127.0.0.2", address)));
    assert_eq!(live.running.counts.clients_refused(), 1);
    exchange(connect_from("127.0.0.3", address), b"1");
    // By the address that the balancer tells.
    let told = |ip: &str| {
        let ip: IpAddr = ip.parse().unwrap();
        let mut client = connect_from("127.0.0.9", address);
        let header = format!("PROXY TCP4 {ip} 127.0.0.1 1000 80\r\n");
        client.write_all(header.as_bytes()).unwrap();
        client
    };
    let proxied = told("127.0.0.4");
    exchange(&proxied, b"1");
    exchange(told("127.0.0.5"), b"1");
    assert!(is_closed(told("127.0.0.4")));
    drop(one);
    eventually("its place is free", || {
        let mut again = connect_from("127.0.0.2", address);
        let mut byte = [0];
        again.write_all(b"1").is_ok() && again.read_exact(&mut byte).is_ok()
    });
    live.running.stop();
}
