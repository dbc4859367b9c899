use super::*;

/// Watches for signals from the first time on that it is polled, and is a service that notes whether somebody does.
#[derive(Clone, Default)]
struct Watched(Arc<Lock<(bool, Vec<bool>)>>, Arc<Notify>);

#[async_trait]
impl ShutdownSignalWatch for Watched {
    async fn recv(&self) -> ShutdownSignal {
        self.0.lock().0 = true;
        self.1.notified().await;
        ShutdownSignal::FastShutdown
    }
}

#[async_trait]
impl BackgroundService for Watched {
    async fn start(&self, _: ShutdownWatch) {
        let mut noted = self.0.lock();
        let watched = noted.0;
        noted.1.push(watched);
        self.1.notify_one();
    }
}

#[test]
fn signals_are_listened_for_before_a_service_starts() {
    for _ in 0..20 {
        let watched = Watched::default();
        let mut server = server(no_steal(1));
        server.add_service(background_service("b", watched.clone()));
        server.run(RunArgs {
            shutdown_signal: Box::new(watched.clone()),
        });
        assert_eq!(watched.0.lock().1, [true]);
    }
}
