//! Who gets a request.

use super::origins::*;
use crate::tools::*;

fn named(name: &'static str) -> Script {
    Script::start(move |_, _| Act::Answer(200, name.into()))
}

#[test]
fn a_cookie_keeps_clients_at_their_servers() {
    let (a, b) = (named("a"), named("b"));
    let edge = Edge::start(&format!(
        "  - routes: {{proxy: {{to: ['{}', '{}'], sticky: {{cookie: server, ttl: 1h}}}}}}\n",
        a.address, b.address
    ));
    let mut client = edge.connect();
    let first = client.ask("GET", "a", "/", "");
    let field = first.field("set-cookie").unwrap().to_owned();
    assert!(
        field.contains("; Max-Age=3600; HttpOnly; SameSite=Lax"),
        "{field}"
    );
    let cookie = format!("Cookie: x=1; {}\r\n", field.split(';').next().unwrap());
    // On connections of either worker.
    for _ in 0..20 {
        let again = edge.connect().ask("GET", "a", "/", &cookie);
        assert_eq!(
            (again.body, again.head.contains("et-cookie")),
            (first.body.clone(), false)
        );
    }
    let mut bodies: Vec<_> = (0..20)
        .map(|_| client.ask("GET", "a", "/", "").body)
        .collect();
    bodies.sort();
    bodies.dedup();
    assert_eq!(bodies, ["a", "b"]);
}

#[test]
fn the_server_that_answers_sooner_is_preferred() {
    let slow = Script::start(|_, _| {
        std::thread::sleep(std::time::Duration::from_secs(2));
        Act::Answer(200, "slow".into())
    });
    let quick = named("quick");
    let edge = Edge::start(&format!(
        "  - routes: {{proxy: {{to: ['{}', '{}'], balance: peak_ewma}}}}\n",
        slow.address, quick.address
    ));
    let mut client = edge.connect();
    (0..100).for_each(|_| assert_eq!(client.ask("GET", "a", "/", "").status, 200));
    assert!(slow.count() < 20 && quick.count() > 80, "{}", slow.count());
}
