//! Names of servers, by a server of names that is not ours.

use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use super::dns::Dns;
use super::tools::*;
use super::upstreams::origins::{Act, Script};

/// A server that answers with its name.
pub fn origin(address: SocketAddr, name: &'static str) -> Script {
    let listener = TcpListener::bind(address).unwrap();
    Script::start_at(listener, move |_, _| Act::Answer(200, name.into()))
}

/// An address with the port of another one.
fn beside(other: SocketAddr) -> SocketAddr {
    SocketAddr::new(free().ip(), other.port())
}

/// A proxy that asks a server of names.
pub struct Scene {
    pub edge: Edge,
    admin: SocketAddr,
}

fn whole(address: SocketAddr, admin: SocketAddr, resolver: &str, routes: &str) -> String {
    format!(
        "listen: '{address}'\nadmin: '{admin}'\nresolver: {resolver}\nsites:\n  - routes: {routes}\n"
    )
}

impl Scene {
    pub fn of(dns: &Dns, proxy: &str) -> Self {
        let resolver = format!("'{}'", dns.address);
        Self::with(&resolver, &format!("{{proxy: {proxy}}}"))
    }

    fn with(resolver: &str, routes: &str) -> Self {
        let (address, admin) = (free(), free());
        let edge = Edge::start_whole(address, &whole(address, admin, resolver, routes));
        eventually("its admin interface listens", || {
            TcpStream::connect(admin).is_ok()
        });
        Self { edge, admin }
    }

    pub fn reload(&mut self, resolver: &str, routes: &str) {
        let text = whole(self.edge.address, self.admin, resolver, routes);
        self.edge.write_whole(&text);
        self.edge.hang_up();
        self.edge.wait_for_log("the configuration is taken");
    }

    fn asked(&self, path: &str) -> String {
        let mut client = self.edge.connect_to(self.admin);
        client.ask("GET", "localhost", path, "").body
    }

    pub fn metric(&self, start: &str) -> Option<f64> {
        let text = self.asked("/metrics");
        let line = text.lines().find(|line| line.starts_with(start))?;
        line.rsplit(' ').next().unwrap().parse().ok()
    }

    /// Has so many requests answered, and returns the names of the servers in order.
    pub fn bodies(&self, count: usize) -> Vec<String> {
        let mut client = self.edge.connect();
        let mut ask = || {
            let answer = client.ask("GET", "a", "/", "");
            assert_eq!(answer.status, 200, "{answer:?}");
            answer.body
        };
        (0..count).map(|_| ask()).collect()
    }

    /// Waits until all requests are answered by this server.
    #[track_caller]
    pub fn wait_for(&self, name: &str) {
        eventually("it answers all", || {
            self.bodies(8).iter().all(|body| body == name)
        });
    }
}

#[test]
fn a_name_moves_to_another_address_when_its_time_is_over_and_no_request_is_lost() {
    let first = free();
    let second = beside(first);
    let (_one, _two) = (origin(first, "one"), origin(second, "two"));
    let dns = Dns::start(&[]);
    dns.set_hosts(&format!("{} app.test\n", first.ip()));
    eventually("it has the name", || dns.log().contains("hosts - 1"));
    let mut scene = Scene::of(&dns, &format!("'app.test:{}'", first.port()));
    scene.wait_for("one");
    let (end, answered) = (AtomicBool::new(false), AtomicUsize::new(0));
    std::thread::scope(|scope| {
        let _end = SetAtEnd(&end);
        let clients: Vec<_> = (0..2)
            .map(|_| {
                scope.spawn(|| {
                    let mut client = scene.edge.connect();
                    while !end.load(Ordering::Relaxed) {
                        let answer = client.ask("GET", "a", "/", "");
                        assert_eq!(answer.status, 200, "{answer:?}");
                        answered.fetch_add(1, Ordering::Relaxed);
                    }
                })
            })
            .collect();
        for (to, name) in [(second, "two"), (first, "one")] {
            dns.set_hosts(&format!("{} app.test\n", to.ip()));
            scene.wait_for(name);
        }
        end.store(true, Ordering::Relaxed);
        clients
            .into_iter()
            .for_each(|client| client.join().unwrap());
    });
    assert!(answered.load(Ordering::Relaxed) > 0);
    let lookups = "edge_upstream_name_lookups_total{";
    assert!(scene.metric(lookups).unwrap() >= 3.0);
    // Long before `grace_period_seconds`: nothing is left of its questions.
    scene.edge.terminate();
    scene.edge.wait_for_end();
}

#[test]
fn the_last_answer_stays_while_the_server_of_names_is_away() {
    let address = free();
    let _origin = origin(address, "one");
    let record = format!("host-record=app.test,{},1", address.ip());
    let mut dns = Dns::start(&[&record]);
    let resolver = format!(
        "{{servers: '{}', timeout: 100ms, attempts: 1}}",
        dns.address
    );
    let proxy = format!("{{proxy: 'app.test:{}'}}", address.port());
    let mut scene = Scene::with(&resolver, &proxy);
    // By a time limit that a busy machine may miss.
    eventually("it is found", || scene.edge.get("a", "/").status == 200);
    assert_eq!(scene.bodies(1), ["one"]);
    assert_eq!(scene.metric("edge_upstream_name_failing{"), Some(0.0));
    dns.stop();
    let line = scene.edge.wait_for_log("the last known addresses stay");
    assert!(line.contains("asking for app.test."), "{line}");
    assert_eq!(scene.metric("edge_upstream_name_failing{"), Some(1.0));
    assert!(scene.metric("edge_upstream_name_age_seconds{").unwrap() > 0.0);
    let status = scene.asked("/api/status");
    assert!(
        status.contains("\"name_error\":\"asking for app.test."),
        "{status}"
    );
    let failed = "edge_upstream_name_lookups_total{cluster=\"app.test:";
    let failures = |scene: &Scene| {
        let text = scene.asked("/metrics");
        let mut lines = text.lines().filter(|line| line.starts_with(failed));
        let line = lines.find(|line| line.contains("failed")).unwrap();
        line.rsplit(' ').next().unwrap().parse::<u64>().unwrap()
    };
    eventually("it is asked again", || failures(&scene) > 1);
    assert_eq!(scene.bodies(8), ["one"; 8]);
    // A reload that changes the cluster keeps what is known, too.
    let other = format!(
        "{{proxy: {{to: 'app.test:{}', balance: random}}}}",
        address.port()
    );
    scene.reload(&resolver, &other);
    assert_eq!(scene.bodies(8), ["one"; 8]);
    dns.restart(&[&record]);
    eventually("it is found again", || {
        scene.metric("edge_upstream_name_failing{") == Some(0.0)
    });
    assert_eq!(scene.bodies(1), ["one"]);
}

#[test]
fn a_name_that_does_not_exist_yet_gets_requests_when_it_does() {
    let address = free();
    let _origin = origin(address, "one");
    let dns = Dns::start(&[]);
    let mut scene = Scene::of(&dns, &format!("'late.test:{}'", address.port()));
    let line = scene.edge.wait_for_log("it gets no request");
    assert!(line.contains("late.test. does not exist"), "{line}");
    assert_eq!(scene.edge.get("a", "/").status, 502);
    let status = scene.asked("/api/status");
    assert!(status.contains("\"unresolved\""), "{status}");
    dns.set_hosts(&format!("{} late.test\n", address.ip()));
    eventually("it is found", || scene.edge.get("a", "/").status == 200);
    scene.wait_for("one");
}

#[test]
fn each_name_is_asked_for_when_its_own_time_is_over() {
    let address = free();
    let _origin = origin(address, "one");
    let (ip, port) = (address.ip(), address.port());
    let records = [
        format!("host-record=short.test,{ip},1"),
        format!("host-record=long.test,{ip},3600"),
        format!("host-record=bounded.test,{ip},1"),
        format!("host-record=often.test,{ip},3600"),
    ];
    let dns = Dns::start(&records.each_ref().map(|record| &**record));
    let scene = Scene::of(&dns, &format!("['short.test:{port}', 'long.test:{port}']"));
    let bounded = format!("{{servers: '{}', min_ttl: 1h, max_ttl: 1h}}", dns.address);
    let other = Scene::with(&bounded, &format!("{{proxy: 'bounded.test:{port}'}}"));
    let often = format!("{{servers: '{}', max_ttl: 1s}}", dns.address);
    let third = Scene::with(&often, &format!("{{proxy: 'often.test:{port}'}}"));
    eventually("they are asked several times", || {
        dns.asked("query[A] short.test") >= 4 && dns.asked("query[A] often.test") >= 3
    });
    assert_eq!(dns.asked("query[A] long.test"), 1);
    assert_eq!(dns.asked("query[A] bounded.test"), 1);
    assert_eq!(
        [scene.bodies(1), other.bodies(1), third.bodies(1)],
        [["one"], ["one"], ["one"]]
    );
}

#[test]
fn another_server_of_names_takes_a_reload() {
    let first = free();
    let second = beside(first);
    let (_one, _two) = (origin(first, "one"), origin(second, "two"));
    let [old, new] =
        [first, second].map(|at| Dns::start(&[&format!("host-record=app.test,{},3600", at.ip())]));
    let proxy = format!("{{proxy: 'app.test:{}'}}", first.port());
    let mut scene = Scene::with(&format!("'{}'", old.address), &proxy);
    assert_eq!(scene.bodies(4), ["one"; 4]);
    scene.reload(&format!("'{}'", new.address), &proxy);
    assert_eq!(scene.bodies(4), ["two"; 4]);
}

#[test]
fn names_take_no_threads() {
    let address = free();
    let _origin = origin(address, "one");
    let records: Vec<_> = (0..40)
        .map(|n| format!("host-record=app{n}.test,{},1", address.ip()))
        .collect();
    let records: Vec<_> = records.iter().map(|record| &**record).collect();
    let dns = Dns::start(&records);
    let names: Vec<_> = (0..40)
        .map(|n| format!("'app{n}.test:{}'", address.port()))
        .collect();
    let scene = Scene::of(&dns, &format!("[{}]", names.join(", ")));
    let without = Scene::of(&dns, &format!("'{address}'"));
    eventually("each is asked for again", || {
        (0..40).all(|n| dns.asked(&format!("query[A] app{n}.test")) > 1)
    });
    let threads = |scene: &Scene| scene.edge.state("Threads");
    // One that looks at files may come and go.
    eventually("both have as many threads", || {
        threads(&scene) == threads(&without)
    });
}

/// Checks a file, and returns whether it is good and what is said of it.
fn check(text: &str, flags: &[&str]) -> (bool, String) {
    let dir = tempfile::TempDir::new().unwrap();
    std::fs::write(dir.path().join("edge.yaml"), text).unwrap();
    let mut command = std::process::Command::new(BINARY);
    let command = command.current_dir(dir.path()).args(flags);
    let output = command.args(["-c", "edge.yaml"]).output().unwrap();
    let stderr = String::from_utf8(output.stderr).unwrap();
    (output.status.success(), stderr)
}

#[test]
fn a_strict_check_refuses_names_that_are_not_found() {
    let dns = Dns::start(&["host-record=app.test,192.0.2.1,60"]);
    let text = format!(
        "listen: 127.0.0.1:80
resolver: '{}'
sites:
  - routes:
      - proxy: ['app.test:80', 'none.test:80', 'localhost:80', '192.0.2.2:80']
        mirror: other.test:81
",
        dns.address
    );
    assert_eq!(check(&text, &["-t"]), (true, String::new()));
    let (good, said) = check(&text, &["-t", "--strict"]);
    assert!(!good);
    for error in [
        "edge.yaml:5:32: the server `none.test:80` is not found by its name: none.test. does not exist\n",
        "edge.yaml:6:17: the server `other.test:81` is not found by its name: other.test. does not exist\n",
    ] {
        assert!(said.contains(error), "{said}");
    }
    assert_eq!(said.matches("is not found").count(), 2, "{said}");
    let good = text
        .replace("none.test", "app.test")
        .replace("other.test", "app.test");
    let good = good.replace(
        "['app.test:80', 'app.test:80'",
        "['app.test:80', 'app.test:82'",
    );
    assert_eq!(check(&good, &["-t", "--strict"]), (true, String::new()));
    let (good, said) = check(&text, &["--strict"]);
    assert!(!good && said.contains("--test"), "{said}");
}

#[cfg(feature = "rustls")]
#[test]
fn a_strict_check_refuses_certificates_that_have_expired() {
    use super::certs::{Authority, Leaf};
    let authority = Authority::new();
    let names = &["a.test"];
    let files = |years| {
        let pair = authority.issue(
            "a",
            &Leaf {
                names,
                years,
                ..Leaf::default()
            },
        );
        format!("{{cert: {}, key: {}}}", pair.cert, pair.key)
    };
    let text = |tls: &str| {
        format!("listen: 127.0.0.1:443\nsites:\n  - hosts: a.test\n    tls: {tls}\n    routes: {{respond: 204}}\n")
    };
    let old = text(&files((2000, 2001)));
    assert!(check(&old, &["-t"]).0);
    let (good, said) = check(&old, &["-t", "--strict"]);
    let line = said.lines().find(|line| line.contains("edge.yaml:4:"));
    let line = line.unwrap_or_else(|| panic!("{said}"));
    assert!(
        !good && line.contains("has expired on 2001-01-01"),
        "{said}"
    );
    assert!(check(&text(&files((2000, 2090))), &["-t", "--strict"]).0);
}

/// The records of a service with these servers: name, address, priority and weight.
fn service(servers: &[(&str, SocketAddr, u16, u16)]) -> Vec<String> {
    let records = servers.iter().flat_map(|(name, at, priority, weight)| {
        let (ip, port) = (at.ip(), at.port());
        [
            format!("host-record={name}.test,{ip},1"),
            format!("srv-host=_http._tcp.app.test,{name}.test,{port},{priority},{weight}"),
        ]
    });
    records.collect()
}

fn strs(all: &[String]) -> Vec<&str> {
    all.iter().map(|one| &**one).collect()
}

fn count(bodies: &[String], name: &str) -> usize {
    bodies.iter().filter(|body| *body == name).count()
}

#[test]
fn a_service_has_servers_with_weights_and_priorities_that_come_and_go() {
    let [one, two, three] = [(); 3].map(|()| free());
    let _origins =
        [(one, "one"), (two, "two"), (three, "three")].map(|(address, name)| origin(address, name));
    let first = service(&[
        ("one", one, 5, 30),
        ("two", two, 5, 10),
        ("three", three, 9, 100),
    ]);
    let mut dns = Dns::start(&strs(&first));
    let scene = Scene::of(&dns, "'srv:_http._tcp.App.test'");
    let bodies = scene.bodies(40);
    let counted = ["one", "two", "three"].map(|name| count(&bodies, name));
    assert_eq!(counted, [30, 10, 0]);
    let status = scene.asked("/api/status");
    assert!(
        status.contains("\"server\":\"srv:_http._tcp.app.test\""),
        "{status}"
    );
    assert!(
        ["30", "10", "100"]
            .iter()
            .all(|weight| status.contains(&format!("\"weight\":{weight},"))),
        "{status}"
    );
    assert!(status.matches("\"backup\":true").count() == 1, "{status}");
    let answered = format!(
        "edge_upstream_responses_total{{cluster=\"srv:_http._tcp.app.test\",server=\"srv:_http._tcp.app.test\",address=\"{one}\""
    );
    let before = scene.metric(&answered).unwrap();
    assert!(before > 0.0);

    let second = service(&[("one", one, 5, 1), ("three", three, 5, 1)]);
    dns.restart(&strs(&second));
    eventually("the third takes the place of the second", || {
        let bodies = scene.bodies(8);
        count(&bodies, "two") == 0 && count(&bodies, "three") == 4
    });
    // What is counted of the one that stays goes on.
    assert!(scene.metric(&answered).unwrap() > before);
    dns.stop();
    assert_eq!(count(&scene.bodies(8), "one"), 4);
}

#[test]
fn servers_of_a_higher_priority_stand_in_for_those_that_fail() {
    let [nobody, noone, three, four] = [(); 4].map(|()| free());
    let _origins = (origin(three, "three"), origin(four, "four"));
    let records = service(&[
        ("four", four, 40, 1),
        ("nobody", nobody, 1, 1),
        ("three", three, 3, 1),
        ("noone", noone, 2, 1),
    ]);
    let dns = Dns::start(&strs(&records));
    let scene = Scene::of(&dns, "'srv:_http._tcp.app.test'");
    // The fourth has nothing to do while the third can take all.
    assert_eq!(scene.bodies(8), ["three"; 8]);
}

#[test]
fn a_service_serves_on_without_a_server_whose_name_is_not_found() {
    let one = free();
    let _origin = origin(one, "one");
    let mut records = service(&[("one", one, 1, 1)]);
    records.push("srv-host=_http._tcp.app.test,none.test,80,0,1".to_owned());
    let mut dns = Dns::start(&strs(&records));
    let mut scene = Scene::of(&dns, "'srv:_http._tcp.app.test'");
    let line = scene
        .edge
        .wait_for_log("the name of a part of it is not found");
    assert!(line.contains("none.test. does not exist"), "{line}");
    assert_eq!(scene.bodies(4), ["one"; 4]);
    assert_eq!(scene.metric("edge_upstream_name_failing{"), Some(1.0));
    // A service that is gone leaves its last servers.
    dns.restart(&[]);
    eventually("it is gone", || {
        scene
            .asked("/api/status")
            .contains("_http._tcp.app.test. does not exist")
    });
    assert_eq!(scene.bodies(4), ["one"; 4]);
    dns.restart(&strs(&service(&[("one", one, 1, 1)])));
    eventually("all of it is found", || {
        scene.metric("edge_upstream_name_failing{") == Some(0.0)
    });
    let text = format!(
        "listen: 127.0.0.1:80\nresolver: '{}'\nsites: {{routes: {{proxy: ['srv:_http._tcp.app.test', 'srv:_x._tcp.app.test']}}}}\n",
        dns.address
    );
    let (good, said) = check(&text, &["-t", "--strict"]);
    assert!(!good);
    assert_eq!(
        said.matches("is not found by its name").count(),
        1,
        "{said}"
    );
    assert!(
        said.contains("the server `srv:_x._tcp.app.test` is not found"),
        "{said}"
    );
}
