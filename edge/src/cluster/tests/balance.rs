//! How even the shares of servers are over several workers, each of which knows of itself alone.

use super::*;

const WORKERS: usize = 4;
const REQUESTS: usize = 40_000;
/// The time that each answer takes.
const TOOK: Duration = Duration::from_millis(1);

/// Returns the most that the count of a server is off what its weight says, in requests.
fn error(proxy: &str, weights: &[usize]) -> usize {
    let mut scene = Scene::of(proxy, WORKERS);
    // Each worker has some requests open at a time, which end in the order that they began in.
    let mut open = std::collections::VecDeque::new();
    let mut counts = vec![0usize; weights.len()];
    for n in 0..REQUESTS {
        let given = scene
            .pick_by(n % WORKERS, HashBy::of(&n.to_be_bytes()))
            .unwrap();
        counts[usize::from(given.port) - 1] += 1;
        scene.answer_after(TOOK, &given);
        open.push_back(given);
        if open.len() > 8 * WORKERS {
            let given = open.pop_front().unwrap();
            scene.end(given);
        }
    }
    let sum: usize = weights.iter().sum();
    let off = counts.iter().zip(weights);
    let off = off.map(|(count, weight)| count.abs_diff(REQUESTS * weight / sum));
    off.max().unwrap()
}

const EQUAL: &str = "'127.0.0.1:1', '127.0.0.1:2', '127.0.0.1:3', '127.0.0.1:4'";
const WEIGHTED: &str = "{address: '127.0.0.1:1', weight: 5}, {address: '127.0.0.1:2', weight: 3}, '127.0.0.1:3', '127.0.0.1:4'";

#[test]
fn shares_are_even_over_workers() {
    // Turns are off by one for each worker at most; what is drawn, by ten standard deviations (87 requests).
    for (balance, most) in [
        ("round_robin", 2 * WORKERS),
        ("random", 900),
        ("least_requests", 900),
        ("peak_ewma", 900),
        ("hash", 900),
    ] {
        for (to, weights) in [(EQUAL, [1, 1, 1, 1]), (WEIGHTED, [5, 3, 1, 1])] {
            let off = error(&format!("{{to: [{to}], balance: {balance}}}"), &weights);
            println!("{balance}, weights {weights:?}: off by {off} of {REQUESTS}");
            assert!(off <= most, "{balance} {weights:?}: {off}");
        }
    }
}

#[test]
fn a_server_that_answers_late_gets_few_requests_and_is_tried_again() {
    let mut scene = Scene::of(&format!("{{to: [{EQUAL}], balance: peak_ewma}}"), 1);
    let mut counts = [0; 4];
    for _ in 0..1000 {
        let given = scene.pick(0).unwrap();
        counts[usize::from(given.port) - 1] += 1;
        let late = given.port == 1;
        scene.answer_after(if late { 5000 * TOOK } else { TOOK }, &given);
        scene.end(given);
    }
    assert!(counts[0] < 20, "{counts:?}");
    let state = &scene.states()[0];
    assert!(state.latency_us > Some(1_000_000.0), "{state:?}");
}

#[test]
fn a_server_whose_requests_fail_at_once_is_no_quick_one() {
    let proxy = "{to: ['127.0.0.1:1', '127.0.0.1:2'], balance: peak_ewma, passive_health: 0}";
    let mut scene = Scene::of(proxy, 1);
    let mut counts = [0; 2];
    for _ in 0..100 {
        let mut given = scene.pick(0).unwrap();
        counts[usize::from(given.port) - 1] += 1;
        if given.port == 1 {
            scene.fail(&mut given);
        } else {
            scene.answer_after(20 * TOOK, &given);
        }
        scene.end(given);
    }
    assert!(counts[0] < 5, "{counts:?}");
}

#[test]
fn what_was_slow_long_ago_is_expected_to_be_quicker() {
    let counts = counts::Counts::of(1);
    counts.note(1_000_000, 1);
    assert_eq!(counts.expected(1), 1_000_000.0);
    let later = counts.expected(20_000_001);
    assert!((130_000.0..140_000.0).contains(&later), "{later}");
    // One that takes longer counts at once, one that is quicker bit by bit.
    counts.note(2_000_000, 2);
    assert_eq!(counts.average(), 2_000_000.0);
    counts.note(1000, 1_000_002);
    assert!(counts.average() > 1_800_000.0, "{}", counts.average());
}

#[test]
fn a_cookie_keeps_a_client_at_its_server() {
    let proxy = format!("{{to: [{EQUAL}], sticky: {{cookie: s, secret: x}}}}");
    let mut scene = Scene::of(&proxy, 2);
    let given = scene.pick(0).unwrap();
    let cookie = |scene: &mut Scene, given: &Given, by: HashBy| {
        scene.with(given.worker, |cluster, local, hands| {
            local.cookie(cluster, &given.tried, by, false, hands.slots)
        })
    };
    let field = cookie(&mut scene, &given, HashBy::default()).unwrap();
    let (value, attributes) = field.strip_prefix("s=").unwrap().split_at(32);
    assert_eq!(attributes, "; Path=/; HttpOnly; SameSite=Lax");
    let by = HashBy::default().kept_by(value.as_bytes());
    // At every worker, and after a reload that adds a server: the secret is the same.
    for worker in [0, 1, 0, 1] {
        let again = scene.pick_by(worker, by).unwrap();
        assert_eq!(again.port, given.port);
        assert_eq!(cookie(&mut scene, &again, by), None);
    }
    scene.reload(&proxy.replace("to: [", "to: ['127.0.0.1:5', "));
    assert_eq!(scene.pick_by(0, by).unwrap().port, given.port);
    // What no server has is no cookie, and one that takes no requests keeps nobody.
    for bad in ["", "x", &"0".repeat(32), &"f".repeat(33)] {
        let by = HashBy::default().kept_by(bad.as_bytes());
        let other = scene.pick_by(0, by).unwrap();
        assert!(cookie(&mut scene, &other, by).is_some(), "{bad}");
    }
    scene
        .cluster
        .drain(&format!("127.0.0.1:{}", given.port), true);
    let other = scene.pick_by(0, by).unwrap();
    assert_ne!(other.port, given.port);
    assert!(cookie(&mut scene, &other, by).is_some());
}
