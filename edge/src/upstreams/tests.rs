#![allow(clippy::unwrap_used)]

use std::cell::Cell;
use std::collections::HashMap;

use pingora_core::ErrorSource;
use pingora_core::ErrorType::ConnectRefused;

use super::*;
use std::time::Duration;

/// Some servers, of which some are down, and a clock that goes when it is told to.
struct Scene {
    upstreams: Upstreams,
    down: Vec<u16>,
    now: Cell<u64>,
    /// How often each server was asked.
    asked: HashMap<u16, usize>,
}

impl Scene {
    fn new(ports: &[u16], down: &[u16], health: Health) -> Self {
        Scene {
            upstreams: Upstreams::new(peers(ports), health),
            down: down.to_vec(),
            now: Cell::new(0),
            asked: HashMap::new(),
        }
    }

    /// One request from its first try on; the port that answered it.
    fn request(&mut self) -> Option<u16> {
        self.go_on(&mut Tried::default())
    }

    fn go_on(&mut self, tried: &mut Tried) -> Option<u16> {
        loop {
            let again = self.attempt(tried);
            match again {
                Ok(port) => return Some(port),
                Err(true) => {}
                Err(false) => return None,
            }
        }
    }

    /// The port that answered, or whether another try may follow.
    fn attempt(&mut self, tried: &mut Tried) -> Result<u16, bool> {
        let peer = self.upstreams.pick_at(tried, || self.now.get());
        let peer = peer.map_err(|_| false)?;
        let port = port(&peer);
        *self.asked.entry(port).or_default() += 1;
        if self.down.contains(&port) {
            return Err(self.upstreams.failed(tried, self.now.get()));
        }
        self.upstreams.answered(tried);
        Ok(port)
    }

    fn asked(&self, port: u16) -> usize {
        self.asked.get(&port).copied().unwrap_or(0)
    }
}

fn peers(ports: &[u16]) -> Vec<HttpPeer> {
    let peer = |port: &u16| HttpPeer::new(("127.0.0.1", *port), false, String::new());
    ports.iter().map(peer).collect()
}

fn port(peer: &HttpPeer) -> u16 {
    peer._address.as_inet().unwrap().port()
}

const NEVER_OUT: Health = Health {
    max_fails: 0,
    fail_timeout: Duration::from_secs(10),
};

#[test]
fn turns_are_taken_in_order_and_begin_anew() {
    let mut scene = Scene::new(&[1, 2, 3], &[], Health::default());
    let turns: Vec<_> = (0..7).filter_map(|_| scene.request()).collect();
    assert_eq!(turns, [1, 2, 3, 1, 2, 3, 1]);
}

#[test]
fn two_lists_do_not_disturb_each_other() {
    let mut a = Scene::new(&[1, 2], &[], Health::default());
    let mut b = Scene::new(&[3, 4], &[], Health::default());
    for (of_a, of_b) in [(1, 3), (2, 4), (1, 3)] {
        assert_eq!((a.request(), b.request()), (Some(of_a), Some(of_b)));
    }
}

/// Requests that run at the same time move the turn that they share.
#[test]
fn a_request_meets_a_dead_server_once_whatever_others_do() {
    let mut scene = Scene::new(&[1, 2], &[1], NEVER_OUT);
    for between in 0..4 {
        let mut tried = Tried::default();
        while scene.attempt(&mut tried) != Err(true) {
            tried = Tried::default();
        }
        for _ in 0..between {
            assert_eq!(scene.request(), Some(2));
        }
        assert_eq!(scene.go_on(&mut tried), Some(2));
    }
}

#[test]
fn each_server_is_tried_once_and_then_the_request_fails() {
    let many: Vec<u16> = (1..=70).collect();
    for ports in [&[1][..], &[1, 2, 3], &many] {
        let mut scene = Scene::new(ports, ports, Health::default());
        for requests in 1..=3 {
            // Although all of them are out after the first request.
            assert_eq!(scene.request(), None);
            for port in ports {
                assert_eq!(scene.asked(*port), requests);
            }
        }
    }
}

#[test]
fn a_dead_server_is_left_alone_for_a_while() {
    let mut scene = Scene::new(&[1, 2], &[1], Health::default());
    let many = |scene: &mut Scene| {
        for _ in 0..100 {
            assert_eq!(scene.request(), Some(2));
        }
        scene.asked(1)
    };
    assert_eq!(many(&mut scene), 1);
    scene.now.set(9_999);
    assert_eq!(many(&mut scene), 1);
    scene.now.set(10_000);
    assert_eq!(many(&mut scene), 2, "one request tries it");
    scene.now.set(19_999);
    assert_eq!(many(&mut scene), 2);
    scene.down.clear();
    scene.now.set(20_000);
    let by: Vec<_> = (0..100).filter_map(|_| scene.request()).collect();
    assert!(by.iter().filter(|port| **port == 1).count() >= 49);
}

#[test]
fn one_request_at_a_time_tries_a_server_that_was_down() {
    let mut scene = Scene::new(&[1, 2], &[1], Health::default());
    assert_eq!(scene.request(), Some(2));
    scene.now.set(10_000);
    let mut picked: Vec<_> = (0..10)
        .map(|_| {
            scene
                .upstreams
                .pick_at(&mut Tried::default(), || scene.now.get())
        })
        .map(|peer| port(&peer.unwrap()))
        .collect();
    picked.sort_unstable();
    assert_eq!(picked, [1, 2, 2, 2, 2, 2, 2, 2, 2, 2]);
}

#[test]
fn several_failures_close_together_are_needed_where_that_is_set() {
    let health = Health {
        max_fails: 3,
        fail_timeout: Duration::from_secs(1),
    };
    let mut scene = Scene::new(&[1, 2], &[1], health);
    for failures in 1..=5 {
        // Each a pause after the one before: none counts together with another.
        scene.now.set(failures * 2_000);
        while scene.asked(1) < failures as usize {
            assert_eq!(scene.request(), Some(2));
        }
    }
    let before = scene.asked(1);
    scene.now.set(20_000);
    for _ in 0..20 {
        assert_eq!(scene.request(), Some(2));
    }
    assert_eq!(scene.asked(1), before + 3);
}

#[test]
fn a_new_list_is_used_and_what_stays_keeps_its_health() {
    let mut scene = Scene::new(&[1, 2], &[1], Health::default());
    assert_eq!(scene.request(), Some(2));
    assert_eq!(scene.asked(1), 1);
    let mut begun = Tried::default();
    scene.upstreams.pick_at(&mut begun, || 0).unwrap();
    scene.upstreams.replace(peers(&[3, 1]));
    for _ in 0..4 {
        assert_eq!(scene.request(), Some(3));
    }
    assert_eq!(scene.asked(1), 1);
    // What failed was of the old list.
    assert!(scene.upstreams.failed(&mut begun, 0));
    assert_eq!(scene.go_on(&mut begun), Some(3));
}

#[test]
fn without_servers_the_reason_is_told() {
    let none = Upstreams::new(Vec::new(), Health::default());
    let e = none.pick(&mut Tried::default()).unwrap_err();
    assert_eq!(e.etype, ConnectNoRoute);
    assert_eq!(e.esource(), &ErrorSource::Upstream);
    assert!(e.to_string().contains("no upstream is known"), "{e}");
}

#[test]
fn a_failed_connect_asks_for_another_try_while_there_is_a_server() {
    let upstreams = Upstreams::new(peers(&[1, 2]), Health::default());
    let mut tried = Tried::default();
    for again in [true, false] {
        upstreams.pick(&mut tried).unwrap();
        let e = upstreams.connect_failed(&mut tried, Error::new_up(ConnectRefused));
        assert_eq!(e.retry(), again);
    }
}
