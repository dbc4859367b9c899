//! Another file while requests are served.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use super::tools::*;

#[test]
fn a_hundred_reloads_lose_no_request_and_keep_connections() {
    let origin = Origin::start("o");
    let sites = |n: usize| {
        format!(
            "  - routes: [{{path: /n, respond: {{body: 'n{n}'}}}}, {{proxy: '{}'}}]\n",
            origin.address
        )
    };
    let edge = Edge::start(&sites(0));
    let (ended, served) = (AtomicBool::new(false), AtomicUsize::new(0));
    let clients: Vec<_> = (0..4).map(|_| edge.connect()).collect();
    std::thread::scope(|threads| {
        for mut client in clients {
            let (ended, served) = (&ended, &served);
            threads.spawn(move || {
                while !ended.load(Ordering::Relaxed) {
                    let answer = client.ask("GET", "a", "/", "");
                    assert_eq!((answer.status, &*answer.body), (200, "o"));
                    served.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
        // A failure ends the clients too.
        let end = SetAtEnd(&ended);
        for n in 1..=100 {
            edge.write(&sites(n));
            edge.hang_up();
            eventually("the file is taken", || {
                edge.get("a", "/n").body == format!("n{n}")
            });
        }
        drop(end);
    });
    assert!(served.load(Ordering::Relaxed) > 100);
    // Each of two workers keeps its own; none was opened anew for a reload.
    let opened = origin.connections.load(Ordering::Relaxed);
    assert!(opened <= 4, "{opened} connections");
}

#[test]
fn a_changed_file_is_taken_without_a_signal() {
    let edge = Edge::start("  - routes: {respond: 201}\n");
    assert_eq!(edge.get("a", "/").status, 201);
    edge.write("  - routes: {respond: 202}\n");
    let mut client = edge.connect();
    eventually("the file is taken", || {
        client.ask("GET", "a", "/", "").status == 202
    });
}

#[test]
fn a_bad_file_changes_nothing_and_says_all_that_is_wrong() {
    let mut edge = Edge::start("  - routes: {respond: 201}\n");
    edge.write("  - routes: [{respond: 999}, {respnd: 200}]\n");
    edge.hang_up();
    let line = edge.wait_for_log("the configuration is not taken");
    assert!(line.contains("`999` is not a status"), "{line}");
    assert!(line.contains("did you mean `respond`?"), "{line}");
    assert_eq!(edge.get("a", "/").status, 201);
}
