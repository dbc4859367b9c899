//! Files, and the order in which names are asked for. Servers are asked in `tests/serve/names.rs`.

use std::fs;
use std::path::Path;

use super::*;

fn name(text: &str) -> Name {
    Name::from_ascii(text).unwrap()
}

fn resolver(dir: &Path, hosts: &str, resolv_conf: &str) -> Resolver {
    let files = Files {
        hosts: dir.join("hosts"),
        resolv_conf: dir.join("resolv.conf"),
    };
    fs::write(&files.hosts, hosts).unwrap();
    fs::write(&files.resolv_conf, resolv_conf).unwrap();
    Resolver::with_files(&plan::Resolver::default(), files)
}

/// Nobody listens there.
const NOBODY: &str = "nameserver 127.255.255.254\noptions timeout:1 attempts:1\n";

#[tokio::test]
async fn the_hosts_file_answers_without_a_server_and_is_read_again_when_it_has_changed() {
    let dir = tempfile::tempdir().unwrap();
    let hosts = "192.0.2.1 app app.internal # one\n2001:db8::1 app\nnonsense\n192.0.2.2 App\n";
    let resolver = resolver(dir.path(), hosts, "");
    let found = resolver.look_up("app", &[]).await.unwrap();
    let shown: Vec<_> = found.addresses.iter().map(ToString::to_string).collect();
    assert_eq!(shown, ["192.0.2.1", "192.0.2.2", "2001:db8::1"]);
    assert_eq!(found.ttl, OF_FILE);
    let found = resolver.look_up("app.internal", &[]).await.unwrap();
    assert_eq!(found.addresses, [IpAddr::from([192, 0, 2, 1])]);

    fs::write(dir.path().join("hosts"), "192.0.2.77 app\n").unwrap();
    let found = resolver.look_up("app", &[]).await.unwrap();
    assert_eq!(found.addresses, [IpAddr::from([192, 0, 2, 77])]);
}

#[tokio::test]
async fn localhost_is_this_machine_whatever_the_servers_are() {
    let dir = tempfile::tempdir().unwrap();
    let resolver = resolver(dir.path(), "", &format!("search example.org\n{NOBODY}"));
    for local in ["localhost", "app.localhost"] {
        let found = resolver.look_up(local, &[]).await.unwrap();
        assert!(
            found.addresses.iter().all(IpAddr::is_loopback),
            "{local}: {found:?}"
        );
        assert_eq!(found.addresses.len(), 2, "{local}: {found:?}");
        assert_eq!(found.ttl, plan::Resolver::default().max_ttl);
    }
}

#[tokio::test]
async fn a_server_that_does_not_answer_is_no_answer() {
    let dir = tempfile::tempdir().unwrap();
    let resolver = resolver(dir.path(), "", NOBODY);
    let why = resolver.look_up("app.internal", &[]).await.unwrap_err();
    assert!(why.starts_with("asking for app.internal"), "{why}");
}

#[test]
fn a_name_is_asked_for_below_search_domains_as_its_dots_say() {
    let search = [name("a.test."), name("b.test.")];
    let asked = |text: &str, ndots| {
        let all = ask::candidates(&name(text), &search, ndots);
        let all = all.iter().map(ToString::to_string);
        all.collect::<Vec<_>>().join(" ")
    };
    assert_eq!(asked("app", 1), "app.a.test. app.b.test. app.");
    assert_eq!(asked("app.x", 1), "app.x. app.x.a.test. app.x.b.test.");
    assert_eq!(asked("app.x", 2), "app.x.a.test. app.x.b.test. app.x.");
    assert_eq!(asked("localhost", 1), "localhost.");
    assert_eq!(asked("app.localhost", 5), "app.localhost.");
    assert_eq!(asked("app.", 1), "app.");
}

#[test]
fn the_system_is_asked_as_it_says() {
    let dir = tempfile::tempdir().unwrap();
    let text =
        "search a.test b.test\nnameserver 192.0.2.53\noptions ndots:5 timeout:3 attempts:4\n";
    let current = resolver(dir.path(), "", text).current().unwrap();
    assert_eq!(current.search, [name("a.test."), name("b.test.")]);
    assert_eq!(current.ndots, 5);
    let options = current.client.options();
    assert_eq!(options.timeout, Duration::from_secs(3));
    assert_eq!(options.attempts, 3);

    // Without a server it is the one of this machine.
    let files = |text: &str| {
        let resolver = resolver(dir.path(), "", text);
        let (config, _) = resolver.files.resolv_conf();
        let first = config.name_servers().first().map(|server| server.ip);
        (first, config.search().len())
    };
    let own = Some(IpAddr::from([127, 0, 0, 1]));
    assert_eq!(files("search a.test\n"), (own, 1));
    assert_eq!(files("nameserver nonsense\n").0, own);
}

#[test]
fn told_servers_are_asked_in_place_of_those_of_the_system() {
    let dir = tempfile::tempdir().unwrap();
    let mut resolver = resolver(dir.path(), "", "search a.test\nnameserver 192.0.2.53\n");
    resolver.plan.servers = vec!["127.0.0.1:5353".parse().unwrap()];
    let current = resolver.current().unwrap();
    assert!(current.search.is_empty());
    assert_eq!(current.client.options().timeout, Duration::from_secs(2));
    assert_eq!(current.client.options().attempts, 1);
    resolver.plan.timeout = Some(Duration::from_millis(300));
    resolver.plan.attempts = Some(4);
    resolver.current = Mutex::default();
    let current = resolver.current().unwrap();
    assert_eq!(current.client.options().timeout, Duration::from_millis(300));
    assert_eq!(current.client.options().attempts, 3);
}
