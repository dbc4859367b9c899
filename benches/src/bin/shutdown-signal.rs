//! What it costs each request that a shutdown may come.
//!
//! Three ways to let it know, each as often as threads can do it: a waiter registered and dropped for each
//! request on one `tokio::sync::Notify` that all threads share; the same with a `Notify` for each thread; and
//! a flag that is loaded before and after the read of a request.

use std::hint::black_box;
use std::pin::pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Barrier};
use std::time::{Duration, Instant};

use benches::{percentile, table};
use clap::Parser;
use nix::time::{clock_gettime, ClockId};
use tokio::sync::Notify;

#[derive(Parser)]
#[command(about = "Measures what it costs each request that a shutdown may come.")]
struct Args {
    /// Numbers of threads.
    #[arg(long, value_delimiter = ',', default_values_t = [1usize, 2, 4, 8, 16, 32, 64, 128])]
    threads: Vec<usize>,
    /// Nanoseconds of work between two signals of a thread: the rest of a request.
    #[arg(long, default_value_t = 0)]
    work: u64,
    /// Milliseconds for each figure.
    #[arg(long, default_value_t = 1000)]
    millis: u64,
}

/// On cache lines of its own: neighbours in one line would slow each other down.
#[repr(align(128))]
struct Shard(Notify);

/// How a request learns of a shutdown.
enum Way {
    Shared(Notify),
    Sharded(Vec<Shard>),
    Flag(AtomicBool),
}

impl Way {
    fn name(&self) -> &'static str {
        match self {
            Way::Shared(_) => "one Notify",
            Way::Sharded(_) => "a Notify per thread",
            Way::Flag(_) => "flag",
        }
    }

    fn all(threads: usize) -> [Way; 3] {
        [
            Way::Shared(Notify::new()),
            Way::Sharded((0..threads).map(|_| Shard(Notify::new())).collect()),
            Way::Flag(AtomicBool::new(false)),
        ]
    }

    /// What one request does.
    #[inline]
    fn request(&self, thread: usize) {
        match self {
            Way::Shared(notify) => wait_in_vain(notify),
            Way::Sharded(shards) => {
                if let Some(Shard(notify)) = shards.get(thread) {
                    wait_in_vain(notify);
                }
            }
            Way::Flag(flag) => {
                black_box(flag.load(Ordering::Acquire));
                black_box(flag.load(Ordering::Acquire));
            }
        }
    }
}

/// Registers a waiter, and drops it since the read was done first.
fn wait_in_vain(notify: &Notify) {
    let waiter = pin!(notify.notified());
    black_box(waiter.enable());
}

/// What one thread found.
struct Found {
    requests: u64,
    nanos: Vec<u64>,
    /// Neither running nor waiting for a processor: asleep, until another thread gives the lock free.
    blocked: Duration,
    wall: Duration,
}

fn run(way: &Way, thread: usize, begin: &Barrier, stop: &AtomicBool, work: Duration) -> Found {
    begin.wait();
    let (start, busy) = (Instant::now(), busy());
    let mut found = Found {
        requests: 0,
        nanos: Vec::with_capacity(1 << 16),
        blocked: Duration::ZERO,
        wall: Duration::ZERO,
    };
    while !stop.load(Ordering::Relaxed) {
        // One in 64 is timed, since the clock takes as long as what is measured.
        let before = Instant::now();
        way.request(thread);
        let after = Instant::now();
        if found.nanos.len() < found.nanos.capacity() {
            found.nanos.push((after - before).as_nanos() as u64);
        }
        for _ in 1..64 {
            way.request(thread);
            if !work.is_zero() {
                let until = Instant::now() + work;
                while Instant::now() < until {
                    std::hint::spin_loop();
                }
            }
        }
        found.requests += 64;
    }
    found.wall = start.elapsed();
    found.blocked = found.wall.saturating_sub(self::busy().saturating_sub(busy));
    found
}

/// How long the calling thread has run or waited for a processor.
fn busy() -> Duration {
    let ran =
        clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID).map_or(Duration::ZERO, Duration::from);
    ran + queued().unwrap_or_default()
}

/// How long the calling thread was ready and no processor was free. The kernel tells it in the second number.
fn queued() -> Option<Duration> {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").ok()?;
    let nanos = text.split_whitespace().nth(1)?.parse().ok()?;
    Some(Duration::from_nanos(nanos))
}

/// A row of the table.
fn measure(way: Way, threads: usize, args: &Args) -> Vec<String> {
    let name = way.name();
    let (way, stop) = (Arc::new(way), Arc::new(AtomicBool::new(false)));
    let begin = Arc::new(Barrier::new(threads + 1));
    let work = Duration::from_nanos(args.work);
    let running: Vec<_> = (0..threads)
        .map(|thread| {
            let (way, stop, begin) = (way.clone(), stop.clone(), begin.clone());
            std::thread::spawn(move || run(&way, thread, &begin, &stop, work))
        })
        .collect();
    begin.wait();
    let start = Instant::now();
    std::thread::sleep(Duration::from_millis(args.millis));
    stop.store(true, Ordering::Relaxed);
    let took = start.elapsed().as_secs_f64();
    let found: Vec<Found> = running
        .into_iter()
        .filter_map(|thread| thread.join().ok())
        .collect();
    let wall: f64 = found.iter().map(|f| f.wall.as_secs_f64()).sum();
    let blocked: f64 = found.iter().map(|f| f.blocked.as_secs_f64()).sum();
    let requests: u64 = found.iter().map(|f| f.requests).sum();
    let mut nanos: Vec<u64> = found.into_iter().flat_map(|f| f.nanos).collect();
    let rate = requests as f64 / took / 1e6;
    vec![
        name.to_owned(),
        threads.to_string(),
        format!("{rate:.2}"),
        percentile(&mut nanos, 0.5).to_string(),
        percentile(&mut nanos, 0.99).to_string(),
        format!("{:.1}", 100.0 * blocked / wall),
    ]
}

fn main() {
    let args = Args::parse();
    let mut rows = Vec::new();
    for &threads in args.threads.iter().filter(|n| **n > 0) {
        let ways = Way::all(threads).into_iter();
        rows.extend(ways.map(|way| measure(way, threads, &args)));
    }
    let header = [
        "way",
        "threads",
        "million/s",
        "p50 ns",
        "p99 ns",
        "blocked %",
    ];
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    println!(
        "{cores} cores, {} ns of work between two signals",
        args.work
    );
    print!("{}", table(&header, &rows));
}
