//! What is known of servers, and what follows from it.

use super::*;
use EndpointStatus::{CircuitOpen, Down, Drained, Ejected, SlowStart, Up};

const TWO: &str = "{to: ['127.0.0.1:1', '127.0.0.1:2']";

fn two(more: &str) -> String {
    format!("{TWO}{more}}}")
}

#[test]
fn requests_are_counted_by_worker_and_in_sum() {
    let mut scene = Scene::of(&two(""), 2);
    let open = [
        scene.pick(0).unwrap(),
        scene.pick(0).unwrap(),
        scene.pick(1).unwrap(),
    ];
    scene.request(1, 503).unwrap();
    let states = scene.states();
    let sum = |of: fn(&EndpointState) -> u64| states.iter().map(of).sum::<u64>();
    assert_eq!(sum(|state| state.open), 3);
    assert_eq!(
        (sum(|state| state.total), sum(|state| state.failed)),
        (4, 1)
    );
    let by_worker = |state: &EndpointState| state.workers.iter().map(|w| w.total).sum::<u64>();
    assert_eq!(
        sum(|state| state.total),
        states.iter().map(by_worker).sum::<u64>()
    );
    open.into_iter().for_each(|given| scene.end(given));
    assert!(scene.states().iter().all(|state| state.open == 0));
    let json = serde_json::to_value(&scene.states()[0]).unwrap();
    assert_eq!(json["server"], "127.0.0.1:1");
    assert_eq!(json["status"], "up");
}

#[test]
fn what_is_known_of_servers_stays_over_a_change_of_the_cluster() {
    let mut scene = Scene::of(&two(", balance: random"), 1);
    while scene.request(0, 200) != Ok(2) {}
    let mut given = scene.pick(0).unwrap();
    while given.port != 1 {
        scene.end(given);
        given = scene.pick(0).unwrap();
    }
    assert!(scene.fail(&mut given));
    let ejected = scene.statuses();
    assert!(ejected.contains(&Ejected) && ejected.contains(&Up));
    scene.cluster.drain("127.0.0.1:2", true);
    let before = scene.statuses();
    scene.reload("{to: ['127.0.0.1:3', '127.0.0.1:1', '127.0.0.1:2'], balance: least_requests}");
    assert_eq!(scene.statuses()[1..], before);
    // A request that began before is counted off where it was counted.
    assert_eq!(scene.pick(0).unwrap().port, 3);
    assert_eq!(
        scene.states().iter().map(|state| state.open).sum::<u64>(),
        2
    );
    let server = format!("127.0.0.1:{}", given.port);
    scene.end(given);
    let states = scene.states();
    let own = states.iter().find(|state| state.server == server);
    assert_eq!(own.unwrap().open, 0);
}

#[test]
fn a_server_stays_drained_or_down_where_a_cluster_is_split() {
    let checked = two(", health: {path: /}");
    let scene = Scene::of(&checked, 1);
    scene.cluster.drain("127.0.0.1:1", true);
    let (members, _) = scene.cluster.members();
    members[1].endpoint.went_down("told".into());
    let plan = compile_routes(&format!(
        "[{{path: /a, proxy: {checked}}},
          {{path: /b, proxy: {}}},
          {{path: /c, proxy: {{to: ['127.0.0.1:2', '127.0.0.1:1', '127.0.0.1:3']}}}}]",
        two(", health: {path: /}, timeouts: {read: 1s}")
    ));
    let made = clusters(&plan, std::slice::from_ref(&scene.cluster)).unwrap();
    let states = |n: usize| made[n].state(&plan.clusters[n]).endpoints;
    let statuses = |n: usize| {
        states(n)
            .iter()
            .map(|state| state.status)
            .collect::<Vec<_>>()
    };
    assert_eq!(statuses(0), [Drained, Down]);
    assert_eq!(statuses(1), [Drained, Down]);
    assert_eq!(states(1)[1].why, "told");
    // Nobody would find it up again where it is not checked.
    assert_eq!(statuses(2), [Up, Drained, Up]);
    // Each has a state of its own from then on.
    assert_eq!(made[1].drain("127.0.0.1:1", false), 1);
    assert_eq!(statuses(0), [Drained, Down]);
    assert_eq!(statuses(1), [Up, Down]);
}

#[test]
fn what_this_machine_lacks_is_no_failure_of_a_server() {
    let mut scene = Scene::of(&two(", passive_health: {max_fails: 1}"), 1);
    let mut given = scene.pick(0).unwrap();
    let first = given.port;
    let full = std::io::Error::from_raw_os_error(libc::EMFILE);
    let e = Error::because(SocketError, "making a socket", full).into_up();
    // It is tried elsewhere all the same.
    assert!(scene.fail_by(&mut given, &e));
    let given = scene.pick_again(given).unwrap();
    assert_ne!(given.port, first);
    assert_eq!(scene.statuses(), [Up, Up]);
    assert_eq!(
        scene.states().iter().map(|state| state.failed).sum::<u64>(),
        0
    );
}

/// As where the runtime moves tasks between threads.
#[test]
fn a_request_that_ends_on_another_thread_is_counted_off_where_it_was_counted() {
    let mut scene = Scene::of("{to: [{address: '127.0.0.1:1', max_requests: 2}]}", 2);
    scene
        .workers
        .iter_mut()
        .for_each(|worker| worker.slots = Slots::new(true));
    let open = |scene: &Scene| scene.states()[0].open;
    for _ in 0..3 {
        let here = scene.pick(0).unwrap();
        let mut there = scene.pick(0).unwrap();
        there.worker = 1;
        assert_eq!(scene.pick(1).err().as_deref(), Some("full"));
        assert_eq!(open(&scene), 2);
        scene.end(there);
        assert_eq!(open(&scene), 1);
        // One of a thread that knows no server.
        let mut lost = scene.pick(1).unwrap();
        lost.tried.release_elsewhere();
        scene.end(lost);
        scene.end(here);
        assert_eq!(open(&scene), 0);
    }
    let mut failed = scene.pick(0).unwrap();
    failed.worker = 1;
    scene.fail(&mut failed);
    scene.end(failed);
    let state = &scene.states()[0];
    assert_eq!((state.open, state.total, state.failed), (0, 10, 1));
}

#[test]
fn a_drained_server_gets_no_request_until_it_is_taken_back() {
    let mut scene = Scene::of(&two(""), 1);
    let running = scene.pick(0).unwrap();
    assert_eq!(scene.cluster.drain("127.0.0.1:1", true), 1);
    assert_eq!(scene.cluster.drain("127.0.0.1:9", true), 0);
    assert_eq!(scene.statuses(), [Drained, Up]);
    for _ in 0..10 {
        assert_eq!(scene.request(0, 200), Ok(2));
    }
    scene.answer(&running, 200);
    scene.end(running);
    scene.cluster.drain("127.0.0.1:2", true);
    assert_eq!(scene.request(0, 200), Err("HTTPStatus".into()));
    scene.cluster.drain("127.0.0.1:1", false);
    assert_eq!(scene.request(0, 200), Ok(1));
}

/// Sends requests of which those to the first server fail, until it is left alone.
fn break_first(scene: &mut Scene) {
    while scene.statuses()[0] == Up {
        let given = scene.pick(0).unwrap();
        scene.answer(&given, if given.port == 1 { 503 } else { 200 });
        scene.end(given);
    }
}

#[test]
fn a_server_is_left_alone_after_so_many_failures_and_comes_back_by_an_answer() {
    let health = ", passive_health: {max_fails: 3, eject_for: 1h, statuses: 503}";
    let mut scene = Scene::of(&two(health), 1);
    break_first(&mut scene);
    assert_eq!(scene.states()[0].failed, 3);
    assert_eq!(scene.states()[0].why, "it answered 503");
    assert_eq!(scene.statuses(), [Ejected, Up]);
    for _ in 0..10 {
        assert_eq!(scene.request(0, 200), Ok(2));
    }
    // When no other is left, it is tried all the same.
    scene.cluster.drain("127.0.0.1:2", true);
    assert_eq!(scene.request(0, 200), Ok(1));
    assert_eq!(scene.statuses(), [Up, Drained]);
}

#[test]
fn a_generation_that_is_not_taken_changes_no_server() {
    let health = ", passive_health: {eject_for: 1h, statuses: 503}";
    let mut scene = Scene::of(&two(health), 1);
    break_first(&mut scene);
    let plan = compile(&two(", passive_health: 0"));
    let made = clusters(&plan, std::slice::from_ref(&scene.cluster)).unwrap();
    assert_eq!(scene.statuses(), [Ejected, Up]);
    made[0].take_effect();
    assert_eq!(scene.statuses(), [Up, Up]);
}

#[test]
fn a_server_that_is_left_alone_gets_one_try_after_the_pause() {
    let health = ", passive_health: {eject_for: 100ms, statuses: 503}";
    let mut scene = Scene::of(&two(health), 2);
    break_first(&mut scene);
    clock::told::pass(Duration::from_millis(99));
    for _ in 0..10 {
        assert_eq!(scene.request(1, 200), Ok(2));
    }
    // The other worker sees it too.
    clock::told::pass(Duration::from_millis(1));
    assert!((0..2).any(|_| scene.request(1, 200) == Ok(1)));
    assert_eq!(scene.statuses(), [Up, Up]);
    break_first(&mut scene);
    clock::told::pass(Duration::from_millis(100));
    assert_eq!(scene.states()[0].tried_in_ms, Some(0));
    let ports: Vec<_> = (0..6).map(|_| scene.pick(0).unwrap().port).collect();
    assert_eq!(
        ports.iter().filter(|port| **port == 1).count(),
        1,
        "{ports:?}"
    );
}

#[test]
fn failures_further_apart_than_the_window_do_not_add_up() {
    let health = ", passive_health: {max_fails: 2, window: 1ms, statuses: 503}";
    let mut scene = Scene::of(&two(health), 1);
    for _ in 0..5 {
        scene.request(0, 503).unwrap();
        clock::told::pass(Duration::from_millis(5));
    }
    assert_eq!(scene.statuses(), [Up, Up]);
}

#[test]
fn backups_stand_in_for_the_others() {
    let proxy = "{to: ['127.0.0.1:1', {address: '127.0.0.1:2', backup: true}]}";
    let mut scene = Scene::of(proxy, 1);
    for _ in 0..10 {
        assert_eq!(scene.request(0, 200), Ok(1));
    }
    // For a request that the others have failed, too.
    let mut given = scene.pick(0).unwrap();
    assert!(scene.fail(&mut given));
    let given = scene.pick_again(given).unwrap();
    assert_eq!(given.port, 2);
    scene.answer(&given, 200);
    scene.end(given);
    assert_eq!(scene.statuses(), [Ejected, Up]);
    assert_eq!(scene.request(0, 200), Ok(2));
    scene.cluster.drain("127.0.0.1:2", true);
    assert_eq!(scene.request(0, 200), Ok(1));
    assert_eq!(scene.request(0, 200), Ok(1));
}

#[test]
fn the_share_of_a_server_that_comes_up_grows() {
    let mut scene = Scene::of(&two(", slow_start: 1h"), 1);
    assert_eq!(scene.statuses(), [Up, Up]);
    scene.cluster.drain("127.0.0.1:1", true);
    scene.cluster.drain("127.0.0.1:1", false);
    assert_eq!(scene.statuses(), [SlowStart, Up]);
    assert_eq!(scene.states()[0].share_percent, 10);
    let first = (0..20_000)
        .filter(|_| scene.request(0, 200) == Ok(1))
        .count();
    // A tenth beside the whole of the other, to within ten standard deviations.
    assert!(first.abs_diff(1818) < 410, "{first}");
    scene.reload(&two(", slow_start: 1ms"));
    clock::told::pass(Duration::from_millis(1));
    assert!((0..2).any(|_| scene.request(0, 200) == Ok(1)));
    let first = (0..1000).filter(|_| scene.request(0, 200) == Ok(1)).count();
    assert_eq!(first, 500);
}

#[test]
fn a_server_that_joins_begins_slowly_and_those_of_a_start_do_not() {
    let mut scene = Scene::of(&two(", slow_start: 1h"), 1);
    scene.reload("{to: ['127.0.0.1:1', '127.0.0.1:3'], slow_start: 1h}");
    assert_eq!(scene.statuses(), [Up, SlowStart]);
    // Names are found one after the other.
    let names = "['127.0.0.1:1', 'a.test:2', 'b.test:3']";
    let mut scene = Scene::of(&format!("{{to: {names}, slow_start: 1h}}"), 1);
    let spots = [vec![], vec![at(2)], vec![]];
    scene.cluster.place(&spots);
    let spots = [vec![], vec![at(2)], vec![at(3)]];
    scene.cluster.place(&spots);
    assert_eq!(scene.statuses(), [Up; 3]);
    let spots = [vec![], vec![at(2), at(4)], vec![at(3)]];
    scene.cluster.place(&spots);
    assert_eq!(scene.statuses(), [Up, Up, SlowStart, Up]);
    scene.reload("{to: ['127.0.0.1:1', 'c.test:5'], slow_start: 1h}");
    scene.cluster.place(&[vec![], vec![at(5)]]);
    assert_eq!(scene.statuses(), [Up, SlowStart]);
}

/// An address of a name.
fn at(port: u16) -> Spot {
    Spot {
        address: ([127, 0, 0, 1], port).into(),
        share: 1,
        rank: 0,
        weight: None,
    }
}

#[test]
fn a_server_is_blamed_and_pardoned_though_the_addresses_of_a_name_change_meanwhile() {
    let rules = "passive_health: {max_fails: 1, eject_for: 1s}";
    let mut scene = Scene::of(&format!("{{to: ['127.0.0.1:1', 'a.test:2'], {rules}}}"), 1);
    let other = |scene: &Scene, port| scene.cluster.place(&[vec![], vec![at(port)]]);
    other(&scene, 2);
    let mut given = scene.pick(0).unwrap();
    while given.port != 1 {
        scene.end(given);
        given = scene.pick(0).unwrap();
    }
    other(&scene, 3);
    assert!(scene.fail(&mut given));
    assert_eq!(scene.statuses(), [Ejected, Up]);
    let given = scene.pick_again(given).unwrap();
    assert_eq!(given.port, 3);
    scene.end(given);
    clock::told::pass(Duration::from_secs(1));
    let mut given = scene.pick(0).unwrap();
    while given.port != 1 {
        scene.end(given);
        given = scene.pick(0).unwrap();
    }
    other(&scene, 4);
    scene.answer(&given, 200);
    assert_eq!(scene.statuses(), [Up, Up]);
    // One that is gone is nobody's.
    scene.end(given);
    let mut given = scene.pick(0).unwrap();
    while given.port != 4 {
        scene.end(given);
        given = scene.pick(0).unwrap();
    }
    other(&scene, 5);
    assert!(scene.fail(&mut given));
    assert_eq!(scene.statuses(), [Up, Up]);
}

#[test]
fn what_began_before_a_server_was_left_alone_says_nothing_about_it_then() {
    let mut scene = Scene::of("{to: '127.0.0.1:1', passive_health: {eject_for: 10s}}", 1);
    let (members, _) = scene.cluster.members();
    let server = &members[0].endpoint;
    let (early, mut late) = (scene.pick(0).unwrap(), scene.pick(0).unwrap());
    server.leave_alone(endpoint::OPEN, 10_000, String::new());
    scene.answer(&early, 200);
    assert_eq!(scene.statuses(), [CircuitOpen]);
    clock::told::pass(Duration::from_secs(9));
    scene.fail(&mut late);
    clock::told::pass(Duration::from_secs(1));
    // The pause is over all the same.
    let one = scene.pick(0).unwrap();
    scene.answer(&early, 200);
    assert_eq!(scene.statuses(), [CircuitOpen]);
    scene.answer(&one, 200);
    assert_eq!(scene.statuses(), [Up]);
}

#[tokio::test(start_paused = true)]
async fn a_circuit_opens_by_the_share_of_failures_and_closes_by_an_answer() {
    let breaker = ", passive_health: 0, circuit_breaker: {error_rate: 50%, min_requests: 10, window: 10s, open_for: 1ms}";
    let mut scene = Scene::of(&two(breaker), 2);
    let (known, told) = tokio::sync::oneshot::channel();
    let task = tokio::spawn(watch(scene.cluster.clone(), known));
    told.await.unwrap();
    let second = || tokio::time::sleep(Duration::from_millis(1100));
    second().await;
    // Too few, then too rarely.
    let fails = |scene: &mut Scene, count: usize, status: u16| {
        for n in 0..2 * count {
            let given = scene.pick(n % 2).unwrap();
            scene.answer(&given, if given.port == 1 { status } else { 200 });
            scene.end(given);
        }
    };
    let count = |scene: &Scene| scene.states()[0].failed;
    while count(&scene) < 4 {
        fails(&mut scene, 1, 500);
    }
    second().await;
    assert_eq!(scene.statuses(), [Up, Up]);
    fails(&mut scene, 20, 200);
    second().await;
    assert_eq!(scene.statuses(), [Up, Up]);
    while count(&scene) < 40 {
        fails(&mut scene, 1, 500);
    }
    second().await;
    assert_eq!(scene.statuses(), [CircuitOpen, Up]);
    assert!(scene.states()[0].why.contains("requests failed within 10s"));
    // A failed try keeps it open, an answer closes it.
    clock::told::pass(Duration::from_millis(1));
    assert!((0..2).any(|_| scene.request(0, 200) == Ok(1)));
    assert_eq!(scene.statuses(), [Up, Up]);
    task.abort();
}

#[test]
fn an_open_circuit_takes_no_request_at_all() {
    let breaker = ", circuit_breaker: {error_rate: 50%, open_for: 1h}";
    let mut scene = Scene::of(&format!("{{to: '127.0.0.1:1'{breaker}}}"), 1);
    let (members, _) = scene.cluster.members();
    let pause = scene.cluster.rules.open_for;
    members[0]
        .endpoint
        .leave_alone(endpoint::OPEN, pause, "told".into());
    assert_eq!(scene.request(0, 200), Err("HTTPStatus".into()));
    // A reload without a breaker closes it.
    scene.reload("'127.0.0.1:1'");
    assert_eq!(scene.request(0, 200), Ok(1));
}
