//! Another file while requests are served.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use super::tools::*;

/// The files, the threads and the memory of a process.
fn held(edge: &Edge) -> [usize; 3] {
    [
        edge.open_files(),
        edge.state("Threads"),
        edge.state("VmRSS"),
    ]
}

#[test]
fn a_thousand_reloads_lose_no_request_keep_connections_and_leak_nothing() {
    let origin = Origin::start("o");
    let address = free();
    // The routes, the servers and the listener change each time.
    let text = |n: usize| {
        format!(
            "listen: {{address: '{address}', max_connections: {}}}
sites:
  - routes: [{{path: /n, respond: {{body: 'n{n}'}}}}, {{path: /x, proxy: '127.0.0.1:{}'}}, {{proxy: '{}'}}]\n",
            1000 + n,
            1000 + n,
            origin.address
        )
    };
    let edge = Edge::start_whole(address, &text(0));
    let (ended, served) = (AtomicBool::new(false), AtomicUsize::new(0));
    let clients: Vec<_> = (0..2).map(|_| edge.connect()).collect();
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
        let mut looks = edge.connect();
        let mut reload = |n: usize| {
            edge.write_whole(&text(n));
            edge.hang_up();
            eventually("the file is taken", || {
                looks.ask("GET", "a", "/n", "").body == format!("n{n}")
            });
        };
        // What is kept for good is there after some.
        (1..=300).for_each(&mut reload);
        let [files, tasks, memory] = held(&edge);
        (301..=1000).for_each(&mut reload);
        let end_of = held(&edge);
        // Threads for blocking work come and go, but not one for each reload.
        const FEW: usize = 8;
        eventually("no file and no thread is left", || {
            let now = held(&edge);
            now[0] <= files + FEW && now[1] <= tasks + FEW
        });
        let grown = end_of[2].saturating_sub(memory);
        assert!(grown < 4096, "{grown} KiB more than {memory}");
        drop(end);
    });
    assert!(served.load(Ordering::Relaxed) > 0);
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
