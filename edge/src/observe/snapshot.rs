//! The counts at one moment: plain data, to be printed, shown, and compared with those of another moment.

use std::time::SystemTime;

use serde::ser::SerializeMap;
use serde::{Serialize, Serializer};

use super::histogram::Durations;
use super::{
    process, CacheUse, Class, EndpointCounts, Failure, Limit, MirrorUse, PlanSeries, RouteCounts,
};

/// Everything that was counted.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Snapshot {
    /// The time, in seconds since the beginning of 1970.
    pub time: f64,
    /// The process.
    pub process: Process,
    /// Its workers, in the order in which they began to count.
    pub workers: Vec<Worker>,
    /// The sites, in the order of the file.
    pub sites: Vec<Site>,
    /// Requests for hosts that no site has.
    pub no_site: Traffic,
    /// The queues of clusters that have one.
    pub queues: Vec<Queue>,
    /// The names of servers.
    pub names: Vec<Name>,
    /// The servers that requests go to.
    pub endpoints: Vec<Endpoint>,
    /// The certificates of sites.
    pub certificates: Vec<Certificate>,
}

/// The process as a whole.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Process {
    /// The version of the program.
    pub version: &'static str,
    /// The number of the process.
    pub pid: u32,
    /// The time of its start, in seconds since the beginning of 1970.
    pub started: f64,
    /// Its memory, where the system tells.
    pub resident_bytes: Option<u64>,
    /// Its open files and sockets, where the system tells.
    pub open_files: Option<u64>,
    /// Connections of clients that were accepted.
    pub accepted: u64,
    /// Connections of clients that are open.
    pub connections: u64,
    /// Requests that have ended.
    pub requests: u64,
    /// Requests under way.
    pub open_requests: u64,
    /// Requests that were refused before a route was looked for.
    pub refused: u64,
    /// Handshakes of TLS with clients, by version.
    pub handshakes: Counts,
    /// Those of them that took up an earlier session.
    pub resumed: u64,
    /// Handshakes that failed, by kind.
    pub handshake_failures: Counts,
    /// Tries for automatic certificates, by result.
    pub orders: Counts,
    /// Lines of the access log that were dropped, since it was opened.
    pub log_dropped: u64,
    /// Reloads of the configuration.
    pub reloads: Reloads,
}

/// Reloads of the configuration.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Reloads {
    /// Those that were taken.
    pub taken: u64,
    /// Those that were not.
    pub failed: u64,
    /// The time of the last one that was taken, in seconds since the beginning of 1970.
    pub last_taken: Option<f64>,
    /// The time of the last one that was not.
    pub last_failed: Option<f64>,
    /// The errors of the last one, if it was not taken.
    pub failing: Option<String>,
}

impl Reloads {
    /// Before the first one.
    pub(super) const NONE: Self = Self {
        taken: 0,
        failed: 0,
        last_taken: None,
        last_failed: None,
        failing: None,
    };
}

/// A thread that serves requests.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Worker {
    /// Its place among the workers.
    pub index: usize,
    /// The number that the system has for it, where there is one.
    pub thread: Option<u32>,
    /// Requests that have ended.
    pub requests: u64,
    /// Requests under way.
    pub open_requests: u64,
    /// The time for which it has run on a processor, where the system tells.
    pub cpu_seconds: Option<f64>,
}

/// A site.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Site {
    /// Its name: its first host.
    pub name: String,
    /// All of its requests.
    pub total: Traffic,
    /// Those of each route, in the order of the file.
    pub routes: Vec<Route>,
    /// Those that no route took.
    pub no_route: Traffic,
}

/// A route.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Route {
    /// Its name: its number in the site and its paths.
    pub name: String,
    /// Its requests.
    #[serde(flatten)]
    pub traffic: Traffic,
}

/// Requests.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Traffic {
    /// Those that have ended, by class of their status.
    pub requests: Counts,
    /// Those that have ended with an error, by its kind.
    pub failures: Counts,
    /// Bytes of the bodies of requests.
    pub bytes_in: u64,
    /// Bytes of the bodies of responses.
    pub bytes_out: u64,
    /// Those under way.
    pub open: u64,
    /// Further tries.
    pub retries: u64,
    /// The part of the cache.
    pub cache: Counts,
    /// Those that a limit or rule has kept from being served.
    pub limited: Counts,
    /// Those that have waited for a server with room.
    pub queued: u64,
    /// The nanoseconds for which they have waited.
    pub queued_ns: u64,
    /// Copies for other servers, by their ends.
    pub mirrored: Counts,
    /// From the head of the request to the end of the response.
    pub durations: Durations,
}

/// The requests that wait for the servers of a cluster.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Queue {
    /// The name of the cluster.
    pub cluster: String,
    /// The requests that wait.
    pub waiting: u32,
    /// Those that may wait.
    pub size: u32,
}

/// A name of a server, which is looked up.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Name {
    /// The name of the cluster.
    pub cluster: String,
    /// The server as in the file.
    pub server: String,
    /// Look-ups that have ended, by result.
    pub lookups: Counts,
    /// The reason for which the last look-up failed, if it did.
    pub error: Option<String>,
    /// The seconds since the last answer; `None` while there was none.
    pub age: Option<f64>,
}

/// A server.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Endpoint {
    /// The name of the cluster.
    pub cluster: String,
    /// The address as in the file.
    pub server: String,
    /// The address that it stands for now; the same unless the file has a name.
    pub address: String,
    /// Its share of requests, beside the weights of the others of the cluster.
    pub weight: u64,
    /// The requests that it may have at a time, if that is told.
    pub max_requests: Option<u32>,
    /// The connections that may be open to it at a time, if that is told.
    pub max_connections: Option<u32>,
    /// Those that are open, if their maximum is told.
    pub connections: Option<u32>,
    /// True if requests go there.
    pub up: bool,
    /// Tries that were answered, by class of the status.
    pub responses: Counts,
    /// Tries that failed, by kind of the error.
    pub failures: Counts,
    /// Tries under way.
    pub open: u64,
    /// From the choice of the server to the head of its response.
    pub durations: Durations,
}

/// A certificate.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Certificate {
    /// The name of the site.
    pub site: String,
    /// The names that it is for, or is to be for.
    pub names: Vec<String>,
    /// The end of its time, in seconds since the beginning of 1970; `None` while there is none.
    pub not_after: Option<i64>,
    /// True if it is had and renewed by ACME.
    pub automatic: bool,
    /// The last error on the way to a new one.
    pub error: Option<String>,
    /// The time of the next try for a new one, in seconds since the beginning of 1970.
    pub next_try: Option<i64>,
}

/// Counts by name; in JSON, a map of those that are not 0.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Counts(pub Vec<(&'static str, u64)>);

impl Serialize for Counts {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        for (name, count) in self.0.iter().filter(|(_, count)| *count > 0) {
            map.serialize_entry(name, count)?;
        }
        map.end()
    }
}

/// In JSON, their number, sum and quantiles, all in seconds, and the buckets with any: the index of each in
/// [`seconds`](super::histogram::seconds), and the number.
impl Serialize for Durations {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("count", &self.count())?;
        map.serialize_entry("sum", &self.seconds())?;
        for (name, share) in [("p50", 0.5), ("p90", 0.9), ("p99", 0.99)] {
            map.serialize_entry(name, &self.quantile(share))?;
        }
        map.serialize_entry("buckets", &self.counted().collect::<Vec<_>>())?;
        map.end()
    }
}

impl Counts {
    /// Names counts.
    pub fn of<const N: usize>(names: &[&'static str], counts: [u64; N]) -> Self {
        Self(names.iter().copied().zip(counts).collect())
    }

    /// Returns the count of a name; 0 when there is no such name.
    pub fn get(&self, name: &str) -> u64 {
        let found = self.0.iter().find(|(known, _)| *known == name);
        found.map_or(0, |(_, count)| *count)
    }

    /// Returns the sum of all.
    pub fn sum(&self) -> u64 {
        self.0.iter().map(|(_, count)| count).sum()
    }

    fn add(&mut self, other: &Self) {
        if self.0.is_empty() {
            self.0.clone_from(&other.0);
            return;
        }
        for ((_, own), (_, other)) in self.0.iter_mut().zip(&other.0) {
            *own += other;
        }
    }

    fn since(&mut self, before: &Self) {
        for ((_, own), (_, before)) in self.0.iter_mut().zip(&before.0) {
            since(own, *before);
        }
    }
}

/// Takes an earlier count away. One that has begun anew stays as it is.
fn since(own: &mut u64, before: u64) {
    *own = own.checked_sub(before).unwrap_or(*own);
}

impl Traffic {
    /// Reads the counters of a route.
    pub fn of(counts: &RouteCounts) -> Self {
        Self {
            requests: Counts::of(Class::NAMES, counts.requests.get()),
            failures: Counts::of(Failure::NAMES, counts.failures.get()),
            bytes_in: counts.bytes_in.get(),
            bytes_out: counts.bytes_out.get(),
            open: counts.open.get(),
            retries: counts.retries.get(),
            cache: Counts::of(CacheUse::NAMES, counts.cache.get()),
            limited: Counts::of(Limit::NAMES, counts.limited.get()),
            queued: counts.queued.get(),
            queued_ns: counts.queued_ns.get(),
            mirrored: Counts::of(MirrorUse::NAMES, counts.mirrored.get()),
            durations: counts.durations.read(),
        }
    }

    /// Adds other requests.
    pub fn add(&mut self, other: &Self) {
        self.requests.add(&other.requests);
        self.failures.add(&other.failures);
        self.bytes_in += other.bytes_in;
        self.bytes_out += other.bytes_out;
        self.open += other.open;
        self.retries += other.retries;
        self.cache.add(&other.cache);
        self.limited.add(&other.limited);
        self.queued += other.queued;
        self.queued_ns += other.queued_ns;
        self.mirrored.add(&other.mirrored);
        self.durations.add(&other.durations);
    }

    fn since(&mut self, before: &Self) {
        self.requests.since(&before.requests);
        self.failures.since(&before.failures);
        since(&mut self.bytes_in, before.bytes_in);
        since(&mut self.bytes_out, before.bytes_out);
        since(&mut self.retries, before.retries);
        self.cache.since(&before.cache);
        self.limited.since(&before.limited);
        since(&mut self.queued, before.queued);
        since(&mut self.queued_ns, before.queued_ns);
        self.mirrored.since(&before.mirrored);
        self.durations.since(&before.durations);
    }
}

impl Endpoint {
    /// Reads the counters of a server.
    pub fn count(&mut self, counts: &EndpointCounts) {
        self.responses = Counts::of(Class::NAMES, counts.responses.get());
        self.failures = Counts::of(Failure::NAMES, counts.failures.get());
        self.open = counts.open.get();
        self.durations = counts.durations.read();
    }

    fn since(&mut self, before: &Self) {
        self.responses.since(&before.responses);
        self.failures.since(&before.failures);
        self.durations.since(&before.durations);
    }
}

impl Site {
    fn of(series: &super::SiteSeries) -> Self {
        let route = |route: &super::RouteSeries| Route {
            name: route.name.clone(),
            traffic: Traffic::of(&route.series.sum()),
        };
        let mut site = Self {
            name: series.name.clone(),
            total: Traffic::default(),
            routes: series.routes.iter().map(route).collect(),
            no_route: Traffic::of(&series.none.sum()),
        };
        site.total.add(&site.no_route);
        for route in &site.routes {
            site.total.add(&route.traffic);
        }
        site
    }

    fn since(&mut self, before: &Self) {
        self.total.since(&before.total);
        self.no_route.since(&before.no_route);
        each_since(
            &mut self.routes,
            &before.routes,
            |a, b| a.name == b.name,
            |own, before| own.traffic.since(&before.traffic),
        );
    }
}

/// Takes away from each the one before that is `same`.
fn each_since<T>(
    own: &mut [T],
    before: &[T],
    same: impl Fn(&T, &T) -> bool,
    since: impl Fn(&mut T, &T),
) {
    for (index, own) in own.iter_mut().enumerate() {
        // Most stand where they stood.
        let there = before.get(index).filter(|before| same(own, before));
        if let Some(before) = there.or_else(|| before.iter().find(|before| same(own, before))) {
            since(own, before);
        }
    }
}

impl Snapshot {
    /// Adds up what the process and the routes of a plan have counted. Endpoints and certificates are for others to fill
    /// in.
    pub fn of(series: &PlanSeries) -> Self {
        let (process, workers) = process::read();
        Self {
            time: process::unix(SystemTime::now()),
            process,
            workers,
            sites: series.sites.iter().map(Site::of).collect(),
            no_site: Traffic::of(&series.none.sum()),
            ..Self::default()
        }
    }

    /// Returns what was counted since an earlier snapshot, whose time is `before.time`: a rate is such a count by the
    /// difference of the times. Present numbers, such as those of open requests, stay.
    #[must_use]
    pub fn since(&self, before: &Self) -> Self {
        let mut own = self.clone();
        let (process, earlier) = (&mut own.process, &before.process);
        since(&mut process.accepted, earlier.accepted);
        since(&mut process.requests, earlier.requests);
        since(&mut process.refused, earlier.refused);
        since(&mut process.resumed, earlier.resumed);
        since(&mut process.log_dropped, earlier.log_dropped);
        process.handshakes.since(&earlier.handshakes);
        process
            .handshake_failures
            .since(&earlier.handshake_failures);
        process.orders.since(&earlier.orders);
        let same = |a: &Worker, b: &Worker| a.thread == b.thread;
        each_since(&mut own.workers, &before.workers, same, |own, before| {
            since(&mut own.requests, before.requests);
            let times = own.cpu_seconds.zip(before.cpu_seconds);
            own.cpu_seconds = times.map(|(own, before)| (own - before).max(0.0));
        });
        let same = |a: &Site, b: &Site| a.name == b.name;
        each_since(&mut own.sites, &before.sites, same, Site::since);
        own.no_site.since(&before.no_site);
        let same = |a: &Name, b: &Name| (&a.cluster, &a.server) == (&b.cluster, &b.server);
        each_since(&mut own.names, &before.names, same, |own, before| {
            own.lookups.since(&before.lookups);
        });
        let same =
            |a: &Endpoint, b: &Endpoint| (&a.cluster, &a.address) == (&b.cluster, &b.address);
        each_since(&mut own.endpoints, &before.endpoints, same, Endpoint::since);
        own
    }
}
