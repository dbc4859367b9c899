//! Mutated bytes on both sides of a proxy, and what must be true of each whatever they are.

use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use crate::client::{exchange, responses, Then};
use crate::mutate::{answer, mutate, request, Random};
use crate::origin::{after, echo, told, After, Answer, Origin, Seen};
use crate::proxies::{haproxy, nginx, ours, Proxy};
use crate::{h2, strict};

/// The proxy and the origin, which all cases have in common.
pub struct Bench {
    pub proxy: Proxy,
    pub origin: Origin,
    /// The answer of the origin to `/raw/...`.
    raw: Arc<Mutex<(Vec<u8>, After)>>,
}

#[derive(Default)]
struct Counts {
    cases: usize,
    /// Requests that a strict reader finds in what was sent, and those that the origin was sent.
    right: usize,
    passed: usize,
}

/// Runs cases for so long. The seed is told, so that a run can be repeated.
pub fn run(dir: &Path, binary: &Path, seconds: u64, seed: Option<u64>) -> Result<(), String> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    let seed = seed.unwrap_or(now.map_or(1, |now| now.as_secs()));
    let raw = Arc::new(Mutex::new((Vec::new(), After::Closes)));
    let origin = {
        let raw = raw.clone();
        Origin::answering(move |request| respond(request, &raw))
    };
    let origin = origin.map_err(|e| e.to_string())?;
    // To see that the checks can fail.
    let proxy = match binary.to_str() {
        Some("nginx") => nginx(dir, origin.address())?,
        Some("haproxy") => haproxy(dir, origin.address())?,
        _ => ours(dir, binary, origin.address())?,
    };
    let speaks_h2 = proxy.name == "ours";
    let bench = Bench { proxy, origin, raw };
    let end = Instant::now() + Duration::from_secs(seconds);
    let mut counts = Counts::default();
    while Instant::now() < end {
        let number = counts.cases;
        // Each case has numbers of its own, so that it can be repeated alone.
        let mut random = Random::new(seed.wrapping_add(number as u64));
        let done = match number % 4 {
            0 | 1 => requests(&bench, &mut random, number, &mut counts),
            2 => answers(&bench, &mut random, number),
            _ if speaks_h2 => h2::streams(&bench, &mut random, number),
            _ => Ok(()),
        };
        done.map_err(|why| format!("case {number} of seed {seed}: {why}"))?;
        counts.cases += 1;
    }
    let Counts {
        cases,
        right,
        passed,
    } = counts;
    println!("{cases} cases of seed {seed}: of {right} requests that a strict reader finds, {passed} went upstream, nothing else did");
    // A proxy that refuses all would pass every check.
    match passed * 2 > right || cases < 100 {
        true => Ok(()),
        false => Err("most of the requests that are right were refused".into()),
    }
}

fn respond(request: &strict::Request, raw: &Mutex<(Vec<u8>, After)>) -> Answer {
    if request.target.contains("/raw/") {
        let (bytes, then) = raw.lock().unwrap_or_else(|e| e.into_inner()).clone();
        return Answer { bytes, then };
    }
    Answer {
        bytes: echo(request),
        then: after(request),
    }
}

/// Mutated requests, each third followed by one that is right.
fn requests(
    bench: &Bench,
    random: &mut Random,
    number: usize,
    counts: &mut Counts,
) -> Result<(), String> {
    let mut bytes = request(random, number);
    let untouched = random.one_in(16);
    if !untouched {
        mutate(random, &mut bytes);
    }
    if random.one_in(3) {
        bytes.extend(request(random, number + 1));
    }
    let (expected, _) = strict::requests(&bytes);
    let shown = || bytes.escape_ascii();
    let mut why = String::new();
    // What came late for the case before is not held against this one.
    for _ in 0..3 {
        bench.origin.take();
        let got = exchange(&bench.proxy.socket, &bytes, Then::Closes).map_err(|e| e.to_string())?;
        if !got.closed {
            return Err(format!("the connection stays open: {}", shown()));
        }
        let seen = bench.origin.take();
        match judge(&expected, &seen, &got.bytes) {
            Ok(()) => {
                counts.right += expected.len();
                counts.passed += seen.len();
                if untouched && seen.len() != expected.len() {
                    return Err(format!(
                        "{} of {} that are right went upstream: {}: the answer is {}",
                        seen.len(),
                        expected.len(),
                        shown(),
                        got.bytes.escape_ascii()
                    ));
                }
                return Ok(());
            }
            Err(e) => why = e,
        }
        std::thread::sleep(Duration::from_millis(100));
    }
    Err(format!("{why}: {}", shown()))
}

/// Nothing goes upstream but what a strict reader finds, in its order; each answer is that of a request that did.
fn judge(expected: &[strict::Request], seen: &[Seen], got: &[u8]) -> Result<(), String> {
    let mut left = expected.iter();
    let mut bodies = Vec::new();
    for seen in seen {
        let request = match seen {
            Seen::Request(request) => request,
            Seen::Malformed(why, bytes) => {
                return Err(format!("upstream was sent {}: {why}", bytes.escape_ascii()))
            }
        };
        if !left.any(|wanted| is_same(wanted, request)) {
            let found: Vec<_> = expected.iter().map(told).collect();
            return Err(format!(
                "upstream was sent {:?}, of {found:?}",
                told(request)
            ));
        }
        bodies.push(told(request));
    }
    if expected.iter().any(|request| request.method == "HEAD") {
        return Ok(());
    }
    let mut bodies = bodies.iter();
    for response in responses(got)? {
        let body = String::from_utf8_lossy(&response.body);
        if response.status == 200 && !bodies.any(|told| *told == body) {
            return Err(format!("an answer that is nobody's: {body:?}"));
        }
    }
    Ok(())
}

pub fn is_same(wanted: &strict::Request, sent: &strict::Request) -> bool {
    let target = match (plain(&wanted.target), plain(&sent.target)) {
        (Some(wanted), Some(sent)) => wanted == sent,
        // What is not plain may be written in another way.
        _ => true,
    };
    wanted.method == sent.method && wanted.body == sent.body && target
}

/// The path, if nothing in it could be written otherwise.
fn plain(target: &str) -> Option<&str> {
    let path = match target.strip_prefix("http://") {
        Some(rest) => &rest[rest.find('/')?..],
        None => target,
    };
    let is_plain = |b: u8| b.is_ascii_alphanumeric() || b == b'/';
    (path.starts_with('/') && !path.contains("//") && path.bytes().all(is_plain)).then_some(path)
}

/// A mutated answer for one client, and a right one for the next.
fn answers(bench: &Bench, random: &mut Random, number: usize) -> Result<(), String> {
    let mut bytes = answer(random);
    if !random.one_in(16) {
        mutate(random, &mut bytes);
    }
    let then = match random.one_in(2) {
        true => After::Closes,
        false => After::Lingers,
    };
    *bench.raw.lock().unwrap_or_else(|e| e.into_inner()) = (bytes.clone(), then);
    let shown = || bytes.escape_ascii();
    let method = random.of(&["GET", "GET", "POST"]);
    let ask = |method: &str, path: &str| {
        let length = if method == "POST" {
            "Content-Length: 0\r\n"
        } else {
            ""
        };
        let request =
            format!("{method} {path} HTTP/1.1\r\nHost: x\r\n{length}Connection: close\r\n\r\n");
        exchange(&bench.proxy.socket, request.as_bytes(), Then::Closes).map_err(|e| e.to_string())
    };
    ask(method, &format!("/raw/{number}"))?;
    let path = format!("/r/{number}");
    let got = ask("GET", &path)?;
    let wanted = told(&strict::Request::get(&path));
    match responses(&got.bytes) {
        Ok(all) if matches!(&all[..], [one] if one.status == 200 && one.body == wanted.as_bytes()) => {
            Ok(())
        }
        _ => Err(format!(
            "after the answer {} the next client got {}",
            shown(),
            got.bytes.escape_ascii()
        )),
    }
}
