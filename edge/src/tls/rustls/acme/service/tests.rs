use tempfile::TempDir;

use super::super::storage::identity;
use super::super::tests::{acme, pem};
use super::*;
use crate::config::section::Scalar;
use crate::config::values::HostPattern;

/// The work of a process with these settings, which has begun nothing.
struct Scene {
    work: Work,
    automatic: Arc<Automatic>,
    generation: u64,
    dir: TempDir,
}

impl Scene {
    fn new(change: impl FnOnce(&mut Acme)) -> Self {
        let mut scene = Self {
            work: Work::default(),
            automatic: Arc::default(),
            generation: 0,
            dir: TempDir::new().unwrap(),
        };
        scene.reload(change);
        scene
    }

    /// Has other settings be taken.
    fn reload(&mut self, change: impl FnOnce(&mut Acme)) {
        let mut acme = acme(self.dir.path());
        change(&mut acme);
        self.generation += 1;
        self.work
            .follow(self.generation, Some(&acme), &self.automatic);
    }

    /// Begins a try, which ends as it is told.
    async fn try_with(&mut self, host: &str, on_demand: bool, outcome: Outcome) -> Ended {
        let task = self.work.tries.spawn(async { outcome });
        let begun = Try {
            host: host.to_owned(),
            now: self.work.now.clone().unwrap(),
            on_demand,
        };
        self.work.under_way.insert(task.id(), begun);
        self.work.tries.join_next_with_id().await.unwrap()
    }

    fn course(&self, host: &str) -> Option<Course> {
        lock(&self.automatic.courses).get(host).cloned()
    }

    fn wait(&self, name: &str) -> tokio::sync::watch::Receiver<()> {
        self.automatic.demand(name).unwrap()
    }

    /// Has a certificate be kept that is valid until a year.
    fn keep(&self, name: &str, until: i32, course: Course) {
        let storage = &self.work.now.as_ref().unwrap().storage;
        self.automatic
            .keep(name, had(name, until), storage, Some(10));
        lock(&self.automatic.courses).insert(name.to_owned(), course);
    }
}

type Ended = Result<(Id, Outcome), JoinError>;

fn had(name: &str, until: i32) -> Arc<crate::tls::backend::identity::Identity> {
    Arc::new(identity(pem(name, until).as_bytes()).unwrap())
}

fn issued(name: &str) -> Outcome {
    Outcome::Have {
        identity: had(name, 2090),
        issued: true,
        unsaved: None,
    }
}

/// Only names of `b.test` are allowed.
fn without_a(acme: &mut Acme) {
    let rules = acme.on_demand.as_mut().unwrap();
    rules.allow = vec![HostPattern::parse("*.b.test").unwrap()];
}

#[tokio::test]
async fn a_name_that_a_reload_has_forbidden_gets_no_certificate() {
    let mut scene = Scene::new(|_| {});
    // It is renewed, or had for the first time.
    for is_known in [false, true] {
        scene.reload(|_| {});
        if is_known {
            scene.keep("x.a.test", 2080, Course::default());
        }
        let forbidden = scene.try_with("x.a.test", true, issued("x.a.test")).await;
        let allowed = scene.try_with("x.b.test", true, issued("x.b.test")).await;
        scene.reload(without_a);
        scene.work.ended(forbidden);
        scene.work.ended(allowed);
        assert!(scene.automatic.certificate("x.a.test").is_none());
        assert_eq!(scene.course("x.a.test"), None);
        assert!(scene.automatic.certificate("x.b.test").is_some());
    }
    let last = scene.try_with("x.b.test", true, issued("x.b.test")).await;
    scene.reload(|acme| acme.on_demand = None);
    scene.work.ended(last);
    assert!(scene.automatic.certificate("x.b.test").is_none());
}

#[tokio::test]
async fn a_try_of_other_settings_counts_for_nothing() {
    let mut scene = Scene::new(|acme| acme.hosts = vec!["c.test".to_owned()]);
    let old = scene.try_with("c.test", false, issued("c.test")).await;
    scene.reload(|acme| {
        acme.hosts = vec!["c.test".to_owned()];
        acme.directory = "https://127.0.0.1:9/other".to_owned();
    });
    scene.work.ended(old);
    assert!(scene.automatic.certificate("c.test").is_none());
    assert_eq!(scene.course("c.test").unwrap().next, 0, "it is due");
}

/// A handshake waits for a name on demand while it is ordered as a host of its own, and the other way round.
#[tokio::test]
async fn a_wait_ends_with_the_try_that_was_begun_before_a_reload() {
    for was_on_demand in [false, true] {
        let host = |is: bool| {
            move |acme: &mut Acme| {
                if is {
                    acme.hosts = vec!["x.a.test".to_owned()];
                }
            }
        };
        let mut scene = Scene::new(host(!was_on_demand));
        let ended = scene
            .try_with("x.a.test", was_on_demand, issued("x.a.test"))
            .await;
        scene.reload(host(was_on_demand));
        let wait = scene.wait("x.a.test");
        scene.work.look();
        assert_eq!(scene.work.under_way.len(), 1, "there is no second try");
        assert!(wait.has_changed().is_ok());
        scene.work.ended(ended);
        assert!(wait.has_changed().is_err(), "the wait is over");
        assert!(scene.automatic.certificate("x.a.test").is_some());
        let demanded = scene.automatic.demanded_names();
        assert_eq!(demanded.is_empty(), was_on_demand);
    }
    // Nor does one wait for ever that nothing is begun for.
    let mut scene = Scene::new(|_| {});
    let wait = scene.wait("x.a.test");
    scene.reload(without_a);
    scene.work.look();
    assert!(wait.has_changed().is_err());
}

#[tokio::test]
async fn other_rules_of_names_on_demand_forgive_no_other_host() {
    let hosts = |acme: &mut Acme| acme.hosts = vec!["c.test".to_owned()];
    let mut scene = Scene::new(hosts);
    let refused = Outcome::Failed(Failure::refused("no"));
    let ended = scene.try_with("c.test", false, refused).await;
    scene.work.ended(ended);
    let denied = Outcome::Failed(Failure::denied("no"));
    let ended = scene.try_with("x.b.test", true, denied).await;
    scene.work.ended(ended);
    let failed = scene.course("c.test").unwrap();
    assert_eq!(failed.failures, 1);
    assert!(scene.automatic.demand("x.b.test").is_none());
    scene.reload(|acme| {
        hosts(acme);
        without_a(acme);
    });
    scene.work.look();
    assert_eq!(scene.course("c.test"), Some(failed));
    assert!(scene.automatic.demand("x.b.test").is_some());
}

#[tokio::test]
async fn tries_that_fail_count_when_a_certificate_is_over() {
    let mut scene = Scene::new(|_| {});
    // It ends while it is to be renewed.
    scene.keep("x.a.test", 2001, Course::default());
    let refused = Outcome::Failed(Failure::refused("no"));
    let ended = scene.try_with("x.a.test", true, refused).await;
    scene.work.ended(ended);
    assert!(scene.automatic.demand("x.a.test").is_none(), "it waits");
    let failed = scene.automatic.on_demand.course("x.a.test").unwrap();
    assert_eq!(failed.failures, 1);
    // It ends after a try that failed.
    scene.keep("x.b.test", 2001, failed.clone());
    let wait = scene.wait("x.b.test");
    scene.work.look();
    assert!(wait.has_changed().is_err() && scene.work.under_way.is_empty());
    assert_eq!(scene.automatic.on_demand.course("x.b.test"), Some(failed));
    // While it is valid, what has failed is no reason to refuse it.
    scene.keep("y.a.test", 2090, Course::default());
    let refused = Outcome::Failed(Failure::refused("no"));
    let ended = scene.try_with("y.a.test", true, refused).await;
    scene.work.ended(ended);
    assert_eq!(scene.course("y.a.test").unwrap().failures, 1);
    assert!(scene.automatic.demanded("y.a.test").is_some());
}

/// The course of a failure that was noted while the clock was ahead, by ten years.
fn of_later() -> Course {
    Course {
        next: now() + 10 * 365 * 86_400,
        failures: 1,
        error: Some("no".to_owned()),
        ..Course::default()
    }
}

#[tokio::test]
async fn a_wait_from_a_clock_that_was_ahead_is_over_after_a_start() {
    let hosts = |acme: &mut Acme| acme.hosts = vec!["c.test".to_owned()];
    let mut scene = Scene::new(hosts);
    let storage = &scene.work.now.as_ref().unwrap().storage;
    storage.prepare().unwrap();
    storage.write_course("c.test", &of_later());
    assert!(storage.course("c.test", of_later().next).is_some());
    scene.work = Work::default();
    lock(&scene.automatic.courses).clear();
    scene.reload(hosts);
    let course = scene.course("c.test").unwrap();
    assert!(course.next <= now() + 86_400, "{course:?}");
    // Nor does another process adopt it.
    let (work, current) = (&scene.work, scene.work.now.clone().unwrap());
    let attempt = Attempt {
        automatic: scene.automatic.clone(),
        accounts: work.accounts.clone(),
        acme: current.acme.clone(),
        storage: current.storage.clone(),
        host: "c.test".to_owned(),
        course,
        limits: None,
    };
    let outcome = attempt.run().await;
    assert!(matches!(outcome, Outcome::Failed(_)), "it is tried");
}

#[tokio::test]
async fn waits_begin_anew_when_the_clock_is_set_back() {
    let hosts = |acme: &mut Acme| acme.hosts = vec!["c.test".to_owned()];
    let mut scene = Scene::new(hosts);
    lock(&scene.automatic.courses).insert("c.test".to_owned(), of_later());
    let demand = &scene.automatic.on_demand;
    demand.remember("x.a.test", of_later(), now());
    assert!(scene.automatic.demand("x.a.test").is_none());
    scene.work.last_look = now() - 1;
    scene.work.look();
    assert_eq!(scene.course("c.test"), Some(of_later()), "it goes on");
    scene.work.last_look = of_later().next;
    scene.work.look();
    assert_eq!(scene.course("c.test").unwrap().next, 0);
    assert!(scene.work.is_busy("c.test"));
    assert!(scene.automatic.demand("x.a.test").is_some());
}

#[tokio::test]
async fn a_certificate_that_is_due_when_it_comes_is_not_ordered_again_at_once() {
    let scene = Scene::new(|_| {});
    for until in [2001, 2030] {
        let outcome = Outcome::Have {
            identity: had("c.test", until),
            issued: true,
            unsaved: None,
        };
        let mut course = Course::default();
        let current = scene.work.now.clone().unwrap();
        current.note("c.test", &mut course, outcome, None);
        assert!(course.next > now(), "{until}: {course:?}");
        let window = Outcome::Window {
            window: Some((0, 1)),
            again: Duration::ZERO,
        };
        current.note("c.test", &mut course, window, None);
        assert!(course.next > now(), "{until}: {course:?}");
    }
}
