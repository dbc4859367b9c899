//! Faults and their times, by the numbers of a seed.

use std::fs;
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::faults::Fault;
use crate::origin::State;
use crate::proxy::{has_ended, STATUS};
use crate::random::Random;
use crate::world::World;

/// Lets one origin after another die or hang, and come back.
pub async fn origins(world: Arc<World>) {
    let mut random = Random::of(world.seed, "origins", 0);
    while world.runs() {
        world.pause(random.pause(1000..5000)).await;
        if random.chance(15) {
            mirror(&world, &mut random).await;
            continue;
        }
        let origin = &world.origins.each[random.index(world.origins.each.len())];
        let (fault, state, name) = if random.chance(60) {
            (
                Fault::Down(origin.number),
                State::Down,
                "origin dies and comes back",
            )
        } else {
            (
                Fault::Hung(origin.number),
                State::Hung,
                "origin hangs and comes back",
            )
        };
        world.faults.begin(fault);
        origin.set(state);
        world.pause(random.pause(500..6000)).await;
        origin.set(State::Up);
        world.faults.end(fault);
        world.ledger.count("fault", name);
    }
}

/// Lets the origin of copies die or hang, and come back. No request may suffer from that.
async fn mirror(world: &Arc<World>, random: &mut Random) {
    let states = [State::Down, State::Hung];
    let origin = &world.mirror.each[0];
    origin.set(states[random.index(states.len())]);
    world.pause(random.pause(500..6000)).await;
    origin.set(State::Up);
    world
        .ledger
        .count("fault", "mirror dies or hangs, and comes back");
}

/// An act on the proxy.
#[derive(Clone, Copy)]
enum Event {
    Reload,
    BadFile,
    Certificate,
    Purge,
    Upgrade,
    Descriptors,
}

const EVENTS: [Event; 9] = [
    Event::Reload,
    Event::Reload,
    Event::Reload,
    Event::BadFile,
    Event::Certificate,
    Event::Purge,
    Event::Purge,
    Event::Upgrade,
    Event::Descriptors,
];

impl Event {
    fn name(self) -> &'static str {
        match self {
            Self::Reload => "file changes",
            Self::BadFile => "file has an error",
            Self::Certificate => "certificate changes",
            Self::Purge => "cache is purged",
            Self::Upgrade => "binary is exchanged",
            Self::Descriptors => "descriptors run out",
        }
    }
}

/// Does one thing after another to the proxy. The binary is exchanged in the first half alone, so that the second one is
/// that of a single process.
pub async fn proxy(world: Arc<World>, half: Instant) {
    let mut director = Director::new(world);
    loop {
        let mut deck = EVENTS;
        director.random.shuffle(&mut deck);
        for event in deck {
            let pause = director.random.pause(500..4000);
            director.world.pause(pause).await;
            if !director.world.runs() {
                return;
            }
            if matches!(event, Event::Upgrade) && Instant::now() > half {
                continue;
            }
            director.make(event).await;
        }
    }
}

/// Exchanges the binary so many times, each time as soon as the old process has ended, and then ends the run.
pub async fn upgrades(world: Arc<World>, times: u64) {
    let mut director = Director::new(world);
    for _ in 0..times {
        let pause = director.random.pause(0..1000);
        director.world.pause(pause).await;
        if !director.world.runs() {
            return;
        }
        director.make(Event::Upgrade).await;
    }
    if let Err(why) = director.wait_for_old().await {
        director.world.ledger.violation(format_args!("{why}"));
    }
    director.world.running.send_replace(false);
}

struct Director {
    world: Arc<World>,
    random: Random,
    generation: u64,
    /// The process before the present one, and when it was exchanged.
    old: Option<(i32, Instant)>,
}

/// The time for all that the proxy does by itself.
const LIMIT: Duration = Duration::from_secs(30);
/// The time that an old process has to finish its requests: more than the longest one takes, and `grace_period_seconds`.
const OLD: Duration = Duration::from_secs(90);

impl Director {
    fn new(world: Arc<World>) -> Self {
        Self {
            random: Random::of(world.seed, "proxy", 0),
            generation: 1,
            old: None,
            world,
        }
    }

    /// Makes an event, and takes it down.
    async fn make(&mut self, event: Event) {
        self.look_for_old();
        let name = event.name();
        match self.try_to_make(event).await {
            Ok(()) => self.world.ledger.count("fault", name),
            Err(why) => self.world.ledger.violation(format_args!("{name}: {why}")),
        }
    }

    async fn try_to_make(&mut self, event: Event) -> Result<(), String> {
        match event {
            Event::Reload => self.reload().await,
            Event::BadFile => self.bad_file().await,
            Event::Certificate => self.certificate().await,
            Event::Purge => self.purge().await,
            Event::Upgrade => self.upgrade().await,
            Event::Descriptors => self.descriptors().await,
        }
    }

    fn write(&self, name: &str, text: &str) -> Result<(), String> {
        // At once, as whoever cares for his file does.
        let files = &self.world.proxy.files;
        let (path, aside) = (files.path(name), files.path("aside"));
        let written = fs::write(&aside, text).and_then(|()| fs::rename(&aside, path));
        written.map_err(|e| format!("{name}: {e}"))
    }

    /// Waits until what the proxy tells at a path of its admin interface is so.
    async fn until(&self, path: &str, wanted: impl Fn(&Value) -> bool) -> Result<(), String> {
        let begun = Instant::now();
        loop {
            let told = self.world.proxy.told(path).await?;
            if wanted(&told) {
                return Ok(());
            }
            if begun.elapsed() > LIMIT {
                return Err(format!("not within {LIMIT:?}: {told}"));
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// Changes the file, and has it read by a signal, by request, or by itself.
    async fn reload(&mut self) -> Result<(), String> {
        let proxy = &self.world.proxy;
        self.generation += 1;
        self.write("edge.yaml", &proxy.files.text(self.generation))?;
        match self.random.index(3) {
            0 => proxy.reload_by_signal()?,
            1 => {
                let (status, body) = proxy.admin("POST", "/api/reload", "").await?;
                if status != 200 {
                    return Err(format!("a good file: {status}: {body:?}"));
                }
            }
            _ => {}
        }
        // Not the number of reloads: one for a certificate may have begun with the file before.
        let line = format!("x-generation: {}\n", self.generation);
        let has = |now: &Value| {
            now["yaml"]
                .as_str()
                .is_some_and(|yaml| yaml.contains(&line))
        };
        self.until("/api/config", has).await?;
        self.world.taken.generation(self.generation);
        Ok(())
    }

    async fn bad_file(&mut self) -> Result<(), String> {
        let proxy = &self.world.proxy;
        let refused = |status: &Value| status["configuration"]["refused"].as_u64();
        let before = refused(&proxy.told(STATUS).await?);
        let good = proxy.files.text(self.generation);
        let bad = match self.random.index(3) {
            0 => good.replace("sites:", "sides:"),
            1 => good[..good.len() / 2].to_owned(),
            _ => good.replace("cert.pem", "absent.pem"),
        };
        self.write("edge.yaml", &bad)?;
        proxy.reload_by_signal()?;
        self.until(STATUS, |now| refused(now) > before).await?;
        self.write("edge.yaml", &good)?;
        proxy.reload_by_signal()
    }

    /// Exchanges the certificate and then, a moment later, its key.
    async fn certificate(&mut self) -> Result<(), String> {
        let (certificate, key) = self
            .world
            .proxy
            .files
            .certificate()
            .map_err(|e| e.to_string())?;
        self.world.tls.changes_to(&certificate);
        self.write("cert.pem", &certificate)?;
        self.world.pause(self.random.pause(0..500)).await;
        self.write("key.pem", &key)
    }

    /// Has the origins answer anew, and what is stored removed.
    async fn purge(&mut self) -> Result<(), String> {
        let epoch = self.world.origins.shared.next_epoch();
        let body = format!("{{\"prefix\": \"{}/cached/\"}}", crate::origin::HOST);
        let purged = self.world.proxy.admin("POST", "/api/cache/purge", &body);
        let (status, said) = purged.await?;
        if status != 200 {
            return Err(format!("{status}: {said:?}"));
        }
        self.world.taken.epoch(epoch);
        Ok(())
    }

    async fn upgrade(&mut self) -> Result<(), String> {
        self.wait_for_old().await?;
        self.world.faults.begin(Fault::Upgrade);
        self.world.taken.upgrade();
        let old = self.world.proxy.upgrade().await?;
        self.world.taken.upgrade();
        self.old = Some((old, Instant::now()));
        let new = self.world.proxy.pid();
        let begun = Instant::now();
        while self
            .world
            .proxy
            .told(STATUS)
            .await
            .map(|status| status["pid"].as_i64())
            != Ok(Some(new.into()))
        {
            if begun.elapsed() > LIMIT {
                return Err(format!("process {new} does not serve the admin interface"));
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        Ok(())
    }

    /// Notes whether the old process has ended.
    fn look_for_old(&mut self) {
        if self.old.is_some_and(|(old, _)| has_ended(old)) {
            self.old = None;
            self.world.faults.end(Fault::Upgrade);
        }
    }

    async fn wait_for_old(&mut self) -> Result<(), String> {
        loop {
            self.look_for_old();
            match self.old {
                None => return Ok(()),
                Some((old, since)) if since.elapsed() > OLD => {
                    return Err(format!(
                        "the old process {old} has not ended within {OLD:?}"
                    ));
                }
                Some(_) => tokio::time::sleep(Duration::from_millis(100)).await,
            }
        }
    }

    /// Leaves the proxy few descriptors for a while.
    async fn descriptors(&mut self) -> Result<(), String> {
        let open = fs::read_dir(format!("/proc/{}/fd", self.world.proxy.pid()));
        let open = open.map_err(|e| e.to_string())?.count() as u64;
        self.world.faults.begin(Fault::Descriptors);
        let before = self.world.proxy.limit_descriptors(open / 2);
        self.world.pause(self.random.pause(500..3000)).await;
        if let Ok(before) = &before {
            self.world.proxy.limit_descriptors(*before)?;
        }
        self.world.faults.end(Fault::Descriptors);
        before.map(drop)
    }
}
