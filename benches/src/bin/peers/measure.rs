//! The measurement: every peer, every load, round by round.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};

use crate::cores::{self, Division};
use crate::fetch;
use crate::files::Dir;
use crate::load::{Load, Target, Tools};
use crate::origin;
use crate::peer::{Peer, Place};
use crate::process::{free_address, limit_files, Process};
use crate::scenario::{Reading, Scenario, Shares};

/// What is to be measured.
pub(crate) struct Bench {
    pub(crate) scenarios: Vec<&'static Scenario>,
    pub(crate) peers: Vec<Peer>,
    pub(crate) workers: Vec<usize>,
    pub(crate) cores: Vec<usize>,
    pub(crate) tools: Tools,
    pub(crate) rounds: usize,
    pub(crate) secs: u64,
    pub(crate) idle: usize,
    /// What the reader is to know of it.
    pub(crate) notes: Vec<String>,
}

/// A number of workers, a scenario and a peer, by their places in the lists of the bench.
pub(crate) type Which = (usize, usize, usize);

#[derive(Default)]
pub(crate) struct Results {
    pub(crate) readings: BTreeMap<Which, Vec<Reading>>,
    /// Commands, with names in place of addresses and the folder, in the order in which they came first.
    pub(crate) commands: Vec<String>,
    /// Files of the folder, with the same names in them.
    pub(crate) files: BTreeMap<String, String>,
    /// What went wrong, in words.
    pub(crate) failures: Vec<String>,
}

/// What runs, where.
struct Stage<'a> {
    dir: &'a Dir,
    division: Division,
    workers: usize,
    origin: Process,
    place: Place<'a>,
}

impl Bench {
    pub(crate) fn run(&mut self) -> Result<Results, String> {
        let files = limit_files()?;
        // The pass-through has two connections for each, and the libraries have some files of their own.
        let idle = self.idle.min((files.saturating_sub(1000) / 2) as usize);
        if idle < self.idle {
            let note = format!(
                "{idle} connections are idle and not {}: no more than {files} files can be open.",
                self.idle
            );
            eprintln!("{note}");
            self.notes.push(note);
            self.idle = idle;
        }
        let dir = Dir::with_certificate()?;
        let mut results = Results::default();
        // Round by round, so that what else the machine does hits all alike.
        for round in 1..=self.rounds {
            for (w, workers) in self.workers.iter().enumerate() {
                let mut stage = self.stage(&dir, *workers, files, &mut results)?;
                for (p, peer) in self.peers.iter().enumerate() {
                    eprintln!("round {round}, {workers} workers, {}", peer.kind.name());
                    self.measure_peer(&mut stage, peer, (w, p), &mut results);
                }
            }
        }
        Ok(results)
    }

    fn stage<'a>(
        &self,
        dir: &'a Dir,
        workers: usize,
        files: u64,
        results: &mut Results,
    ) -> Result<Stage<'a>, String> {
        let division = Division::new(&self.cores, workers);
        let address = free_address()?;
        let mut command = Command::new(std::env::current_exe().map_err(|e| e.to_string())?);
        command.args(["--serve", &address.to_string()]);
        command.args(["--workers", &division.origin.len().to_string()]);
        let origin = Process::start(&mut command, &division.origin, dir.path(), address)?;
        let place = Place {
            listen: address,
            origin: address,
            workers,
            tls: false,
            cached: false,
            dir: dir.path(),
            files,
        };
        results.command(&command, &division.origin, &place);
        Ok(Stage {
            dir,
            division,
            workers,
            origin,
            place,
        })
    }

    /// A process for plain connections, one for idle ones, one for hits and one for TLS; a failure ends what it hits.
    fn measure_peer(
        &self,
        stage: &mut Stage<'_>,
        peer: &Peer,
        (w, p): (usize, usize),
        results: &mut Results,
    ) {
        let groups = [
            |s: &Scenario| !s.tls && !s.cached && s.load.is_some(),
            |s: &Scenario| s.load.is_none(),
            |s: &Scenario| s.cached,
            |s: &Scenario| s.tls,
        ];
        for group in groups {
            let scenarios: Vec<usize> = (0..self.scenarios.len())
                .filter(|s| group(self.scenarios[*s]) && peer.can(self.scenarios[*s]))
                .collect();
            let Some(first) = scenarios.first() else {
                continue;
            };
            stage.place.tls = self.scenarios[*first].tls;
            stage.place.cached = self.scenarios[*first].cached;
            let process = match start(stage, peer, results) {
                Ok(process) => process,
                Err(e) => {
                    results.failed(peer, "start", &e);
                    continue;
                }
            };
            for s in scenarios {
                let scenario = self.scenarios[s];
                let reading = match scenario.load {
                    Some(load) => self.load(stage, &process, scenario, load, results),
                    None => self.idle(stage, &process),
                };
                match reading {
                    Ok(reading) => results.readings.entry((w, s, p)).or_default().push(reading),
                    Err(e) => results.failed(peer, scenario.name, &e),
                }
            }
        }
    }

    fn load(
        &self,
        stage: &Stage<'_>,
        process: &Process,
        scenario: &Scenario,
        load: Load,
        results: &mut Results,
    ) -> Result<Reading, String> {
        let place = &stage.place;
        if !scenario.tls {
            let expected = match load.path() {
                "/big" => origin::BIG,
                "/kib" => origin::KIB,
                _ => origin::SMALL.len(),
            };
            let length = fetch::get(place.listen, load.path()).map_err(|e| e.to_string())?;
            if length != expected {
                return Err(format!("an answer has {length} bytes and not {expected}"));
            }
        }
        let program = self.tools.of(load.tool()).ok_or("no load generator")?;
        let scheme = if scenario.tls { "https" } else { "http" };
        let mut target = Target {
            program,
            url: format!("{scheme}://{}", place.listen),
            workers: stage.workers,
            cores: &stage.division.load,
            dir: stage.dir.path(),
            secs: 1,
        };
        load.run(&target)?;
        target.secs = self.secs;
        results.command(&load.command(&target)?, &stage.division.load, place);
        let all = stage.division.all();
        let before = (process.cpu()?, stage.origin.cpu()?, cores::busy(&all)?);
        let begin = Instant::now();
        let (seen, load_cpu) = load.run(&target)?;
        let took = begin.elapsed().as_secs_f64();
        let peer_cpu = process.cpu()? - before.0;
        let origin_cpu = stage.origin.cpu()? - before.1;
        let busy = cores::busy(&all)? - before.2;
        if seen.done == 0 {
            return Err(format!("no request succeeded: {}", process.output()));
        }
        let of = |cpu: f64, cores: &[usize]| cpu / took / cores.len() as f64;
        let foreign = busy - peer_cpu - origin_cpu - load_cpu;
        Ok(Reading {
            cost: peer_cpu * 1e6 / seen.done as f64,
            shares: Some(Shares {
                peer: of(peer_cpu, &stage.division.peer),
                load: of(load_cpu, &stage.division.load),
                origin: of(origin_cpu, &stage.division.origin),
                foreign: of(foreign.max(0.0), &all),
            }),
            seen,
        })
    }

    fn idle(&self, stage: &Stage<'_>, process: &Process) -> Result<Reading, String> {
        let listen = stage.place.listen;
        // What is made once is there, and what it has for some connections at a time.
        drop(fetch::idle(listen, 64.min(self.idle))?);
        let before = settled(process)?;
        let open = cores::on(&stage.division.load, || fetch::idle(listen, self.idle))??;
        let after = settled(process)?;
        let grown = after.saturating_sub(before);
        Ok(Reading {
            cost: grown as f64 / open.len() as f64,
            ..Reading::default()
        })
    }
}

fn start(stage: &mut Stage<'_>, peer: &Peer, results: &mut Results) -> Result<Process, String> {
    let mut last = String::new();
    // Another program may have taken the port.
    for _ in 0..3 {
        stage.place.listen = free_address()?;
        let place = &stage.place;
        let mut command = peer.command(place)?;
        match Process::start(&mut command, &stage.division.peer, place.dir, place.listen) {
            Ok(process) => {
                results.command(&command, &stage.division.peer, place);
                results.file(peer.conf(), place);
                return Ok(process);
            }
            Err(e) => last = e,
        }
    }
    Err(last)
}

/// Bytes of memory, as soon as they stay the same for a second; after ten seconds, those of then.
fn settled(process: &Process) -> Result<u64, String> {
    let mut last = process.resident()?;
    for _ in 0..10 {
        std::thread::sleep(Duration::from_secs(1));
        let now = process.resident()?;
        if now == last {
            break;
        }
        last = now;
    }
    Ok(last)
}

impl Results {
    fn failed(&mut self, peer: &Peer, what: &str, e: &str) {
        let failure = format!("{}, {what}: {e}", peer.kind.name());
        eprintln!("{failure}");
        if !self.failures.contains(&failure) {
            self.failures.push(failure);
        }
    }

    fn command(&mut self, command: &Command, cores: &[usize], place: &Place<'_>) {
        let program = PathBuf::from(command.get_program());
        let program = program.file_name().unwrap_or_default().to_string_lossy();
        let list: Vec<String> = cores.iter().map(usize::to_string).collect();
        let mut line = format!("taskset -c {} {program}", list.join(","));
        for arg in command.get_args() {
            let arg = arg.to_string_lossy();
            let quote = if arg.contains(' ') { "'" } else { "" };
            line += &format!(" {quote}{arg}{quote}");
        }
        let line = anonymous(&line, place);
        if !self.commands.contains(&line) {
            self.commands.push(line);
        }
    }

    fn file(&mut self, name: Option<&str>, place: &Place<'_>) {
        let Some(name) = name else {
            return;
        };
        let text = std::fs::read_to_string(place.dir.join(name)).unwrap_or_default();
        let kind = match place {
            Place { tls: true, .. } => " with TLS",
            Place { cached: true, .. } => " with a cache",
            _ => "",
        };
        let title = format!("{name}{kind}");
        self.files
            .entry(title)
            .or_insert_with(|| anonymous(&text, place));
    }
}

/// With names in place of what differs from start to start.
fn anonymous(text: &str, place: &Place<'_>) -> String {
    let text = text.replace(&place.origin.to_string(), "ORIGIN");
    let text = text.replace(&place.listen.to_string(), "PEER");
    text.replace(&place.dir.display().to_string(), "DIR")
}
