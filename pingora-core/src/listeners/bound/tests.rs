use std::net::TcpStream;
use std::os::unix::net::UnixStream;
use std::sync::Arc;

use super::super::tests::{exchange, runtime_of, Dir, Echo, Running};
use crate::listeners::fds::ListenFds;
use crate::listeners::{accepting, AcceptStrategy, Listeners};
use crate::services::listening::Service;

#[test]
fn what_the_system_chose_is_told() {
    let dir = Dir::new("bound");
    let path = dir.path("sock");
    for strategy in [AcceptStrategy::Shared, AcceptStrategy::Reuseport] {
        let mut listeners = Listeners::tcp("127.0.0.1:0");
        listeners.add_uds(&path, None);
        listeners.add_tcp("[::1]:0");
        listeners.set_accept_strategy(strategy);
        let app = Arc::new(Echo::default());
        let service = Service::with_listeners("echo".into(), listeners, app);
        let mut bound = service.bound_addresses();
        assert_eq!(bound.get(), None);
        let workers = vec![runtime_of(1), runtime_of(1)];
        let settings = accepting::Settings::default();
        let running = Running::with(service, workers, 1, ListenFds::default(), settings);
        let all = running.workers[0].block_on(bound.wait()).unwrap();
        assert_eq!(bound.get().as_ref(), Some(&all));
        let [v4, unix, v6] = &all[..] else {
            panic!("{all:?}");
        };
        for address in [v4, v6] {
            exchange(TcpStream::connect(address).unwrap(), b"a");
        }
        assert_eq!(unix.to_string(), path);
        exchange(UnixStream::connect(&path).unwrap(), b"b");
        running.stop();
        assert_eq!(bound.get(), Some(all));
    }
}

#[tokio::test]
async fn a_service_that_cannot_listen_tells_so() {
    let mut listeners = Listeners::tcp("127.0.0.1:0");
    listeners.add_tcp("not an address");
    let mut bound = listeners.bound_addresses();
    assert!(listeners.listen(None, 1).await.is_err());
    assert_eq!(bound.get(), None);
    drop(listeners);
    assert_eq!(bound.wait().await, None);
}
