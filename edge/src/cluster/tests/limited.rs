//! Servers that may have so many requests at a time.

use super::*;

fn full(result: Result<Given, String>) -> bool {
    matches!(result, Err(why) if why == "full")
}

#[test]
fn each_server_has_its_limit_over_all_workers() {
    for balance in [
        "round_robin",
        "random",
        "least_requests",
        "peak_ewma",
        "hash",
    ] {
        let proxy = format!(
            "{{to: [{{address: '127.0.0.1:1', max_requests: 2}}, {{address: '127.0.0.1:2', max_requests: 3}}], balance: {balance}}}"
        );
        let mut scene = Scene::of(&proxy, 3);
        let mut given: Vec<_> = (0..5).map(|n| scene.pick(n % 3).unwrap()).collect();
        let of = |port: u16| given.iter().filter(|given| given.port == port).count();
        assert_eq!((of(1), of(2)), (2, 3), "{balance}");
        assert!((0..3).all(|worker| full(scene.pick(worker))));
        let one = given.swap_remove(2);
        let port = one.port;
        scene.end(one);
        assert_eq!(scene.pick(2).unwrap().port, port);
        assert!(full(scene.pick(0)));
    }
}

#[test]
fn a_backup_takes_what_the_others_have_no_room_for() {
    let mut scene = Scene::of(
        "{to: [{address: '127.0.0.1:1', max_requests: 1}, {address: '127.0.0.1:2', backup: true, max_requests: 1}]}",
        1,
    );
    let given = [scene.pick(0).unwrap(), scene.pick(0).unwrap()];
    assert_eq!(given.map(|given| given.port), [1, 2]);
    assert!(full(scene.pick(0)));
}

#[test]
fn a_retry_goes_to_a_server_with_room_and_the_place_of_the_first_is_left() {
    let mut scene = Scene::of(
        "{to: [{address: '127.0.0.1:1', max_requests: 1}, {address: '127.0.0.1:2', max_requests: 1}], passive_health: 0}",
        1,
    );
    let mut given = scene.pick(0).unwrap();
    let first = given.port;
    assert!(scene.fail(&mut given));
    let given = scene.pick_again(given).unwrap();
    assert_ne!(given.port, first);
    let other = scene.pick(0).unwrap();
    assert_eq!(other.port, first);
    assert!(full(scene.pick(0)));
    // It has failed the one that is free, so none is left for it.
    let mut given = given;
    assert!(!scene.fail(&mut given));
    assert_eq!(scene.pick_again(given).err().unwrap(), "ConnectNoRoute");
}

#[test]
fn a_client_whose_server_is_full_goes_to_another() {
    let mut scene = Scene::of(
        "{to: [{address: '127.0.0.1:1', max_requests: 1}, {address: '127.0.0.1:2', max_requests: 1}], sticky: {cookie: c, secret: s}}",
        1,
    );
    let given = scene.pick(0).unwrap();
    let field = scene.with(0, |cluster, local, hands| {
        let by = HashBy::default();
        local.cookie(cluster, &given.tried, by, false, hands.slots)
    });
    let field = field.unwrap();
    let value = field["c=".len()..].split(';').next().unwrap().to_owned();
    let by = HashBy::default().kept_by(value.as_bytes());
    let other = scene.pick_by(0, by).unwrap();
    assert_ne!(other.port, given.port);
    scene.end(given);
    let back = scene.pick_by(0, by).unwrap();
    assert_ne!(back.port, other.port);
}

#[test]
fn a_server_that_is_left_alone_does_not_stand_in_for_one_without_room() {
    let mut scene = Scene::of(
        "{to: [{address: '127.0.0.1:1', max_requests: 1}, {address: '127.0.0.1:2', max_requests: 1}], queue: 5}",
        1,
    );
    let mut bad = scene.pick(0).unwrap();
    assert!(scene.fail(&mut bad));
    let bad_port = bad.port;
    scene.end(bad);
    let mut good = scene.pick(0).unwrap();
    assert_ne!(good.port, bad_port);
    assert!(full(scene.pick(0)));
    let (room, trial) = scene.with(0, |_, local, _| (local.has_room(), local.next_trial()));
    assert_eq!((room, trial), (false, Some(Duration::from_secs(10))));
    // After its pause one request tries it.
    clock::told::pass(Duration::from_secs(10));
    assert!(scene.with(0, |_, local, _| local.has_room()));
    let trial = scene.pick(0).unwrap();
    assert_eq!(trial.port, bad_port);
    // It has no place now, and says by itself when it has.
    assert_eq!(scene.with(0, |_, local, _| local.next_trial()), None);
    scene.end(trial);
    assert!(full(scene.pick(0)));
    // When all are left alone, they are tried all the same.
    scene.fail(&mut good);
    assert!(scene.with(0, |_, local, _| local.has_room()));
    assert_eq!(scene.pick(0).unwrap().port, bad_port);
    assert!(full(scene.pick(0)));
}

#[test]
fn a_request_adds_to_the_budget_of_retries_once() {
    let mut scene = Scene::of(
        "{to: [{address: '127.0.0.1:1', max_requests: 9}, {address: '127.0.0.1:2', max_requests: 9}], retries: {budget: 50%}}",
        1,
    );
    let may_retry = |scene: &mut Scene, tried: &Tried| {
        scene.with(0, |cluster, local, _| local.may_retry(cluster, tried))
    };
    let fresh = Tried::default();
    while may_retry(&mut scene, &fresh) {}
    let mut given = scene.pick(0).unwrap();
    scene.with(0, |_, local, hands| {
        local.got_no_connection(&mut given.tried, hands.slots);
    });
    let given = scene.pick_again(given).unwrap();
    assert!(!may_retry(&mut scene, &given.tried));
    scene.end(given);
    let second = scene.pick(0).unwrap();
    assert!(may_retry(&mut scene, &second.tried));
    assert!(!may_retry(&mut scene, &second.tried));
}

#[test]
fn servers_that_take_none_are_not_waited_for() {
    let mut scene = Scene::of(
        "{to: [{address: '127.0.0.1:1', max_requests: 1}], queue: 5}",
        1,
    );
    let given = scene.pick(0).unwrap();
    assert!(full(scene.pick(0)));
    scene.cluster.drain("127.0.0.1:1", true);
    assert_eq!(scene.pick(0).err().unwrap(), "HTTPStatus");
    scene.cluster.drain("127.0.0.1:1", false);
    assert!(full(scene.pick(0)));
    scene.end(given);
    assert!(scene.pick(0).is_ok());
}

#[test]
fn a_request_stands_behind_those_that_wait() {
    let mut scene = Scene::of(
        "{to: [{address: '127.0.0.1:1', max_requests: 1}], queue: 5}",
        2,
    );
    let ticket = scene.cluster.queue().enter(1, 5).unwrap();
    assert!(full(scene.pick(0)));
    // The one that has its turn.
    let mut tried = Tried::default();
    let pick = scene.with(1, |cluster, local, hands| {
        local.pick(cluster, &mut tried, HashBy::default(), true, hands)
    });
    assert!(matches!(pick, Ok(Pick::Peer(_))));
    drop(ticket);
    tried.release(&mut scene.workers[1].slots);
    assert!(scene.pick(0).is_ok());
}

#[test]
fn a_reload_changes_the_limit_of_a_server_that_has_requests() {
    let with = |max: u32| format!("{{to: [{{address: '127.0.0.1:1', max_requests: {max}}}]}}");
    let mut scene = Scene::of(&with(3), 2);
    let mut given: Vec<_> = (0..3).map(|n| scene.pick(n % 2).unwrap()).collect();
    scene.reload(&with(2));
    for left in [2, 1] {
        scene.end(given.pop().unwrap());
        let room = left < 2;
        assert_eq!(
            scene.pick(0).is_ok_and(|given| {
                scene.end(given);
                true
            }),
            room
        );
    }
    scene.reload(&with(4));
    let more: Vec<_> = (0..3).map(|n| scene.pick(n % 2).unwrap()).collect();
    assert!(full(scene.pick(0)));
    scene.reload("{to: '127.0.0.1:1'}");
    let free: Vec<_> = (0..9).map(|n| scene.pick(n % 2).unwrap()).collect();
    given
        .into_iter()
        .chain(more)
        .chain(free)
        .for_each(|given| scene.end(given));
    scene.reload(&with(1));
    let only = scene.pick(1).unwrap();
    assert!(full(scene.pick(0)));
    scene.end(only);
}
