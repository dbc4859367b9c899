//! The load generators: what is asked of them, and what they tell.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use benches::percentile;

use crate::files::program;
use crate::process::run;
use crate::scenario::Seen;

/// What a load generator does. The numbers are of connections for each worker of the peer.
#[derive(Clone, Copy)]
pub(crate) enum Load {
    Get(usize),
    /// A response of 1 KiB.
    Hit(usize),
    Big(usize),
    Post(usize),
    Connect(usize),
    /// A hundred at a time.
    Handshakes,
    H2(usize),
}

/// A program that makes load.
#[derive(Clone, Copy, PartialEq)]
pub(crate) enum Tool {
    Wrk,
    H2load,
}

impl Tool {
    pub(crate) const ALL: [Tool; 2] = [Tool::Wrk, Tool::H2load];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Tool::Wrk => "wrk",
            Tool::H2load => "h2load",
        }
    }

    /// The package of Debian and Ubuntu that brings it.
    pub(crate) fn package(self) -> &'static str {
        match self {
            Tool::Wrk => "wrk",
            Tool::H2load => "nghttp2-client",
        }
    }
}

/// The load generators that are installed.
#[derive(Default)]
pub(crate) struct Tools {
    pub(crate) wrk: Option<PathBuf>,
    pub(crate) h2load: Option<PathBuf>,
}

impl Tools {
    pub(crate) fn find() -> Self {
        Tools {
            wrk: program(Tool::Wrk.name()),
            h2load: program(Tool::H2load.name()),
        }
    }

    pub(crate) fn of(&self, tool: Tool) -> Option<&Path> {
        match tool {
            Tool::Wrk => self.wrk.as_deref(),
            Tool::H2load => self.h2load.as_deref(),
        }
    }
}

/// Where the load goes, and from where.
pub(crate) struct Target<'a> {
    pub(crate) program: &'a Path,
    pub(crate) url: String,
    pub(crate) workers: usize,
    pub(crate) cores: &'a [usize],
    pub(crate) dir: &'a Path,
    pub(crate) secs: u64,
}

/// The body of `Load::Post`.
pub(crate) const POST: usize = 8192;
/// Handshakes at a time.
const BATCH: u64 = 100;

impl Load {
    pub(crate) fn tool(self) -> Tool {
        match self {
            Load::Handshakes | Load::H2(_) => Tool::H2load,
            _ => Tool::Wrk,
        }
    }

    /// What is asked for.
    pub(crate) fn path(self) -> &'static str {
        match self {
            Load::Big(_) => "/big",
            Load::Hit(_) => "/kib",
            _ => "/",
        }
    }

    /// The command of one run. What it needs stands in the folder.
    pub(crate) fn command(self, target: &Target<'_>) -> Result<Command, String> {
        let (threads, secs) = (target.cores.len(), target.secs);
        let mut command = Command::new(target.program);
        let connections = |n: usize| format!("-c{}", (n * target.workers).max(threads));
        match self {
            Load::Get(n) | Load::Hit(n) | Load::Big(n) | Load::Post(n) | Load::Connect(n) => {
                command.args([
                    format!("-t{threads}"),
                    connections(n),
                    format!("-d{secs}s"),
                    "--latency".into(),
                ]);
            }
            Load::Handshakes => {
                let threads = threads.min(BATCH as usize);
                command.args(["--h1".into(), format!("-t{threads}")]);
                command.args([format!("-n{BATCH}"), format!("-c{BATCH}")]);
            }
            Load::H2(n) => {
                command.args([format!("-t{threads}"), connections(n), "-m32".into()]);
                command.arg(format!("-D{secs}"));
                command.arg(format!("--log-file={}", log(target.dir).display()));
            }
        }
        match self {
            Load::Connect(_) => {
                command.args(["-H", "Connection: close"]);
            }
            Load::Post(_) => {
                let script = target.dir.join("post.lua");
                let text = format!("wrk.method = \"POST\"\nwrk.body = string.rep(\"x\", {POST})\n");
                std::fs::write(&script, text).map_err(|e| format!("{}: {e}", script.display()))?;
                command.arg("-s").arg(script);
            }
            _ => {}
        }
        command.arg(format!("{}{}", target.url, self.path()));
        Ok(command)
    }

    /// Makes the load for as long as was asked, and says what was seen and the processor time in seconds that the
    /// generator took.
    pub(crate) fn run(self, target: &Target<'_>) -> Result<(Seen, f64), String> {
        let limit = Duration::from_secs(target.secs + 30);
        let once = || run(&mut self.command(target)?, target.cores, target.dir, limit);
        let not_read = |output: &str| format!("cannot read what was measured: {output}");
        match self {
            Load::Handshakes => {
                let begin = std::time::Instant::now();
                let (mut sum, mut took, mut cpu) = (Seen::default(), 0.0, 0.0);
                while begin.elapsed() < Duration::from_secs(target.secs) {
                    let ended = once()?;
                    let seen = of_h2load(&ended.output).ok_or_else(|| not_read(&ended.output))?;
                    took += seen.per_second.map_or(0.0, |rate| seen.done as f64 / rate);
                    sum.done += seen.done;
                    sum.errors += seen.errors;
                    sum.agreed = seen.agreed;
                    cpu += ended.cpu;
                }
                sum.per_second = (took > 0.0).then(|| sum.done as f64 / took);
                Ok((sum, cpu))
            }
            Load::H2(_) => {
                // It appends to what is there.
                let _ = std::fs::remove_file(log(target.dir));
                let ended = once()?;
                let mut seen = of_h2load(&ended.output).ok_or_else(|| not_read(&ended.output))?;
                if !ended.output.contains("Application protocol: h2\n") {
                    return Err("HTTP/2 was not agreed on".into());
                }
                let log = std::fs::read_to_string(log(target.dir)).unwrap_or_default();
                let mut micros = micros_in(&log);
                if !micros.is_empty() {
                    let mut millis = |p| Some(percentile(&mut micros, p) as f64 / 1000.0);
                    (seen.p50, seen.p99) = (millis(0.5), millis(0.99));
                }
                Ok((seen, ended.cpu))
            }
            _ => {
                let ended = once()?;
                let seen = of_wrk(&ended.output).ok_or_else(|| not_read(&ended.output))?;
                Ok((seen, ended.cpu))
            }
        }
    }
}

fn log(dir: &Path) -> PathBuf {
    dir.join("h2load.log")
}

/// What wrk prints.
fn of_wrk(output: &str) -> Option<Seen> {
    let lines = || output.lines().map(str::trim);
    let after = |key: &str| lines().find_map(|line| line.strip_prefix(key));
    let done = lines().find_map(|line| line.split_once(" requests in ")?.0.parse().ok())?;
    let other = after("Non-2xx or 3xx responses:").map_or(Some(0), |n| n.trim().parse().ok())?;
    let sockets = after("Socket errors:").map_or(0, numbers);
    Some(Seen {
        done,
        errors: other + sockets,
        per_second: Some(after("Requests/sec:")?.trim().parse().ok()?),
        p50: Some(millis(after("50%")?)?),
        p99: Some(millis(after("99%")?)?),
        agreed: None,
    })
}

/// The sum of the numbers in a text like `connect 0, read 3, write 0, timeout 0`.
fn numbers(text: &str) -> u64 {
    let words = text.split(|c: char| !c.is_ascii_digit());
    words.flat_map(str::parse::<u64>).sum()
}

/// A time like `1.23ms`, in milliseconds.
fn millis(text: &str) -> Option<f64> {
    let text = text.trim();
    let units = [
        ("us", 1e-3),
        ("ms", 1.0),
        ("s", 1e3),
        ("m", 6e4),
        ("h", 3.6e6),
    ];
    let (number, unit) = text.split_at(text.find(|c: char| c.is_ascii_alphabetic())?);
    let factor = units.iter().find(|(name, _)| *name == unit)?.1;
    Some(number.parse::<f64>().ok()? * factor)
}

/// What h2load prints.
fn of_h2load(output: &str) -> Option<Seen> {
    let line = |key: &str| output.lines().find_map(|line| line.strip_prefix(key));
    let counts = line("requests: ")?;
    let count = |name: &str| -> Option<u64> {
        let counted = counts.split(", ").find_map(|part| part.strip_suffix(name));
        counted?.trim().parse().ok()
    };
    let (_, rate) = line("finished in ")?.split_once(", ")?;
    let agreed = ["TLS Protocol: ", "Cipher: ", "Server Temp Key: "].map(line);
    let agreed: Vec<&str> = agreed.into_iter().flatten().collect();
    let succeeded = count(" succeeded")?;
    Some(Seen {
        done: succeeded,
        // What has failed stands in three of them, in one of them each.
        errors: count(" failed")? + count(" errored")? + count(" timeout")?,
        per_second: Some(rate.split_once(" req/s")?.0.parse().ok()?),
        p50: None,
        p99: None,
        agreed: (!agreed.is_empty()).then(|| agreed.join(", ")),
    })
}

/// The microseconds of all requests, from the log of h2load: begin, status, microseconds.
fn micros_in(log: &str) -> Vec<u64> {
    let rows = log.lines().filter_map(|row| row.split('\t').nth(2));
    rows.flat_map(|micros| micros.trim().parse()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wrk_is_read() {
        let text = "Running 1s test @ https://127.0.0.1:18443/
  1 threads and 8 connections
  Thread Stats   Avg      Stdev     Max   +/- Stdev
    Latency     1.84ms  537.42us   8.42ms   89.12%
    Req/Sec     4.33k   455.05     4.58k    90.00%
  Latency Distribution
     50%  890.00us
     75%    2.03ms
     90%    2.13ms
     99%    1.50s
  4309 requests in 1.00s, 1.43MB read
  Socket errors: connect 1, read 20, write 0, timeout 3
  Non-2xx or 3xx responses: 100
Requests/sec:   4299.56
Transfer/sec:      1.43MB
";
        let seen = of_wrk(text).unwrap();
        let expected = Seen {
            done: 4309,
            errors: 124,
            per_second: Some(4299.56),
            p50: Some(0.89),
            p99: Some(1500.0),
            agreed: None,
        };
        assert_eq!(seen, expected);
        assert_eq!(
            of_wrk("unable to connect to 127.0.0.1:1 Connection refused"),
            None
        );
    }

    #[test]
    fn h2load_is_read() {
        let text = "TLS Protocol: TLSv1.3
Cipher: TLS_AES_128_GCM_SHA256
Server Temp Key: X25519 253 bits
Application protocol: h2

finished in 2.00s, 12640.50 req/s, 3.09MB/s
requests: 25281 total, 25537 started, 25281 done, 25270 succeeded, 5 failed, 6 errored, 2 timeout
status codes: 25281 2xx, 0 3xx, 0 4xx, 0 5xx
";
        let seen = of_h2load(text).unwrap();
        assert_eq!((seen.done, seen.errors), (25270, 13));
        assert_eq!(seen.per_second, Some(12640.5));
        assert_eq!(
            seen.agreed.unwrap(),
            "TLSv1.3, TLS_AES_128_GCM_SHA256, X25519 253 bits"
        );
        assert!(of_h2load("finished").is_none());
    }

    #[test]
    fn the_log_of_h2load_is_read() {
        assert_eq!(micros_in("17\t200\t44144\n18\t-1\t7\n\n"), [44144, 7]);
    }

    #[test]
    fn times_are_read() {
        assert_eq!(millis(" 2.00us"), Some(0.002));
        assert_eq!(millis("1.50m"), Some(90000.0));
        assert_eq!(millis("3"), None);
        assert_eq!(millis("3 parsecs"), None);
    }

    #[test]
    fn commands_fit_the_cores() {
        let target = Target {
            program: Path::new("x"),
            url: "http://h".into(),
            workers: 2,
            cores: &[4, 5, 6],
            dir: Path::new("d"),
            secs: 3,
        };
        let args = |load: Load| {
            let command = load.command(&target).unwrap();
            let args: Vec<String> = command
                .get_args()
                .map(|arg| arg.to_string_lossy().into_owned())
                .collect();
            args.join(" ")
        };
        assert_eq!(args(Load::Big(16)), "-t3 -c32 -d3s --latency http://h/big");
        assert_eq!(args(Load::Handshakes), "--h1 -t3 -n100 -c100 http://h/");
        let h2 = "-t3 -c3 -m32 -D3 --log-file=d/h2load.log http://h/";
        assert_eq!(args(Load::H2(1)), h2);
    }
}
