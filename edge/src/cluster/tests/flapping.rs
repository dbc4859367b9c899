//! Many servers, of which one goes and comes all the time.

use super::*;
use EndpointStatus::{Down, Up};

/// Whatever a server does is written to its own state: no list is made anew, and no worker has anything to do about it.
#[test]
fn a_server_that_flaps_among_a_thousand_touches_nothing_but_itself() {
    const SERVERS: u16 = 1000;
    let to: Vec<_> = (1..=SERVERS)
        .map(|port| format!("'127.0.0.1:{port}'"))
        .collect();
    let mut scene = Scene::of(&format!("{{to: [{}]}}", to.join(", ")), 2);
    let port = |scene: &mut Scene, worker: usize| scene.request(worker, 200).unwrap();
    // Each worker begins at a place of its own.
    let mut last = [0, 1].map(|worker| port(&mut scene, worker));
    let before = scene.cluster.members();
    let slots = |scene: &Scene| {
        let all = |worker: &Worker| {
            let local = worker.local.as_ref().unwrap();
            local
                .servers
                .iter()
                .map(|server| server.slot)
                .collect::<Vec<_>>()
        };
        scene.workers.iter().map(all).collect::<Vec<_>>()
    };
    let slots_before = slots(&scene);
    let flaps = &before.0[499].endpoint;
    for round in 0..100 {
        let down = round % 2 == 0;
        if down {
            flaps.went_down("a check failed".to_owned());
        } else {
            flaps.is_well(&scene.cluster.rules);
        }
        // The turns of all others stay as they were.
        for n in 0..100 {
            let worker = n % 2;
            let next = |port: u16| port % SERVERS + 1;
            let mut due = next(last[worker]);
            if down && due == 500 {
                due = next(due);
            }
            last[worker] = port(&mut scene, worker);
            assert_eq!(last[worker], due);
        }
        let others = scene.statuses();
        let of = |status| others.iter().filter(|own| **own == status).count();
        assert_eq!(
            (of(Down), of(Up)),
            (usize::from(down), 1000 - usize::from(down))
        );
    }
    let after = scene.cluster.members();
    assert!(Arc::ptr_eq(&before.0, &after.0) && before.1 == after.1);
    assert_eq!(slots(&scene), slots_before);
}
