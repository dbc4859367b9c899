//! How many requests a number of cores can serve when they share cache lines and locks.
//!
//! A core works on one request at a time: `busy` by itself, and then at places where one core is at a time, a lock
//! that is held or a cache line that moves. That is a closed network of queues, for which mean value analysis
//! gives throughput and waiting exactly, as long as times are exponential and queues are first come, first served.

/// Where the cores stand, and what it costs to write a line that another one wrote last.
#[derive(Clone, Copy, Debug)]
pub struct Machine {
    /// Cores in one socket.
    pub per_socket: usize,
    /// Nanoseconds for a line from a core of the same socket.
    pub local: f64,
    /// Nanoseconds for a line from another socket.
    pub remote: f64,
}

impl Machine {
    /// Nanoseconds a core waits for a shared line, on average, when each of `cores` is as likely as the others to have
    /// written it last. Its own line costs nothing.
    pub fn move_nanos(&self, cores: usize) -> f64 {
        let all = cores.max(1) as f64;
        let sockets = (all / self.per_socket.max(1) as f64).ceil();
        let near = all / sockets;
        ((near - 1.0) * self.local + (all - near) * self.remote) / all
    }
}

/// A mutex that every request takes.
#[derive(Clone, Copy, Debug)]
pub struct Lock {
    /// Nanoseconds for which a request holds it, all times together, when nobody else wants it.
    pub alone: f64,
    /// Lines that come to a request while it holds it, all times together.
    pub moves: f64,
}

/// What a request of a proxy does.
#[derive(Clone, Copy, Debug)]
pub struct Request {
    /// Nanoseconds of processor time when one core serves alone.
    pub busy: f64,
    /// Writes to shared lines, each of which waits for its line.
    pub writes: f64,
    /// Those of them that go to the one line that gets the most.
    pub hottest: f64,
    /// The mutex, where there is one.
    pub lock: Option<Lock>,
}

/// What the model says of a number of cores.
#[derive(Clone, Copy, Debug)]
pub struct Outcome {
    /// Requests in a second.
    pub per_second: f64,
    /// Nanoseconds for which a request waits for the mutex, without the time it holds it.
    pub lock_wait: f64,
}

impl Request {
    /// What `cores` reach together. `away` are the nanoseconds for which a request, or the core that would serve the
    /// next one, is off the processor for other reasons.
    pub fn run(&self, machine: &Machine, cores: usize, away: f64) -> Outcome {
        let moving = machine.move_nanos(cores);
        let alone = self.busy + (self.writes - self.hottest) * moving + away;
        let held = self
            .lock
            .map_or(0.0, |lock| lock.alone + lock.moves * moving);
        let (rate, times) = throughput(cores, alone, [self.hottest * moving, held]);
        Outcome {
            per_second: rate * 1e9,
            lock_wait: times[1] - held,
        }
    }

    /// The part, 0 to 1, that waiting for the mutex has of all time off the processor.
    pub fn share_of_waiting(&self, machine: &Machine, cores: usize, away: f64) -> f64 {
        let wait = self.run(machine, cores, away).lock_wait;
        wait / (wait + away)
    }

    /// The `away` with which waiting for the mutex has the part `share` (above 0, below 1) of all time off the
    /// processor.
    pub fn away_for_share(&self, machine: &Machine, cores: usize, share: f64) -> f64 {
        // The share falls from 1 to 0 as `away` grows, so halving an interval finds the place.
        let (mut low, mut high) = (0.0, 1e9);
        for _ in 0..100 {
            let middle = (low + high) / 2.0;
            if self.share_of_waiting(machine, cores, middle) > share {
                low = middle;
            } else {
                high = middle;
            }
        }
        high
    }
}

/// Mean value analysis: `customers` spend `alone` by themselves and then `demands[k]` at each place k, where one of
/// them is served at a time. How many rounds are done in a unit of time, and how long a round spends at each
/// place, with the waiting.
pub fn throughput<const PLACES: usize>(
    customers: usize,
    alone: f64,
    demands: [f64; PLACES],
) -> (f64, [f64; PLACES]) {
    let mut rate = 0.0;
    let mut times = demands;
    for n in 1..=customers {
        // Who arrives finds what one customer less would leave there on average.
        for (time, demand) in times.iter_mut().zip(demands) {
            let before = if n == 1 { 0.0 } else { rate * *time };
            *time = demand * (1.0 + before);
        }
        rate = n as f64 / (alone + times.iter().sum::<f64>());
    }
    (rate, times)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MACHINE: Machine = Machine {
        per_socket: 64,
        local: 15.0,
        remote: 120.0,
    };

    fn near(a: f64, b: f64) {
        assert!((a - b).abs() <= 1e-9 * b.abs().max(1.0), "{a} is not {b}");
    }

    #[test]
    fn a_line_comes_from_whoever_wrote_last() {
        near(MACHINE.move_nanos(0), 0.0);
        near(MACHINE.move_nanos(1), 0.0);
        near(MACHINE.move_nanos(2), 7.5);
        near(MACHINE.move_nanos(64), 15.0 * 63.0 / 64.0);
        near(
            MACHINE.move_nanos(128),
            (63.0 * 15.0 + 64.0 * 120.0) / 128.0,
        );
        near(
            MACHINE.move_nanos(256),
            (63.0 * 15.0 + 192.0 * 120.0) / 256.0,
        );
    }

    /// Erlang's formula for machines and one repairman: the chance that all run is 1 / sum of n!/(n-k)! (d/z)^k.
    fn one_repairman(machines: usize, alone: f64, demand: f64) -> f64 {
        let mut term = 1.0;
        let mut sum = 1.0;
        for k in 0..machines {
            term *= (machines - k) as f64 * demand / alone;
            sum += term;
        }
        (1.0 - 1.0 / sum) / demand
    }

    #[test]
    fn one_place_is_the_repairman_of_the_textbooks() {
        for (machines, alone, demand) in [(1, 10.0, 1.0), (5, 10.0, 1.0), (64, 40.0, 0.5)] {
            let (rate, _) = throughput(machines, alone, [demand]);
            near(rate, one_repairman(machines, alone, demand));
        }
    }

    #[test]
    fn throughput_has_its_two_bounds() {
        let (rate, times) = throughput(1, 7.0, [2.0, 1.0]);
        near(rate, 0.1);
        assert_eq!(times, [2.0, 1.0]);
        let (rate, times) = throughput(10_000, 7.0, [2.0, 1.0]);
        assert!(rate <= 0.5 && rate > 0.499, "{rate}");
        // All the others are in the queue of the slowest place.
        assert!((times[0] - 20_000.0).abs() < 30.0, "{}", times[0]);
        near(throughput(100, 5.0, []).0, 20.0);
        near(throughput(100, 5.0, [0.0]).0, 20.0);
    }

    #[test]
    fn who_shares_nothing_scales_with_the_cores() {
        let request = Request {
            busy: 20_000.0,
            writes: 0.0,
            hottest: 0.0,
            lock: None,
        };
        for cores in [1, 16, 256] {
            let outcome = request.run(&MACHINE, cores, 0.0);
            near(outcome.per_second, cores as f64 * 50_000.0);
            near(outcome.lock_wait, 0.0);
        }
    }

    #[test]
    fn writes_cost_their_lines_and_the_hottest_is_a_bound() {
        let mut request = Request {
            busy: 20_000.0,
            writes: 100.0,
            hottest: 0.0,
            lock: None,
        };
        let moving = MACHINE.move_nanos(128);
        let spread = 128e9 / (20_000.0 + 100.0 * moving);
        near(request.run(&MACHINE, 128, 0.0).per_second, spread);
        request.hottest = 10.0;
        let hot = request.run(&MACHINE, 128, 0.0).per_second;
        let bound = 1e9 / (10.0 * moving);
        assert!(hot > 0.99 * bound && hot < 1.000_001 * bound, "{hot}");
        assert!(hot < 0.5 * spread, "{hot}");
    }

    #[test]
    fn the_share_of_waiting_is_found_again() {
        let request = Request {
            busy: 30_000.0,
            writes: 0.0,
            hottest: 0.0,
            lock: Some(Lock {
                alone: 20.0,
                moves: 5.0,
            }),
        };
        for share in [0.1, 0.5, 0.9] {
            let away = request.away_for_share(&MACHINE, 128, share);
            assert!((request.share_of_waiting(&MACHINE, 128, away) - share).abs() < 1e-6);
        }
        // One core waits for nobody.
        near(request.share_of_waiting(&MACHINE, 1, 100.0), 0.0);
    }
}
