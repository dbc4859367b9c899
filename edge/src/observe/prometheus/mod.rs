//! A snapshot as text for Prometheus, in version 0.0.4 of its format.

mod table;
#[cfg(test)]
mod tests;

use std::fmt::{Display, Write as _};

use super::histogram::Durations;
use super::snapshot::{Counts, Endpoint, Name, Queue, Traffic};
use super::Snapshot;
pub use table::{Metric, METRICS};

/// The type of the text, for `Content-Type`.
pub const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// The bounds of buckets that are printed, in nanoseconds: every fourth or so of those that are counted.
const UP_TO: [(u64, &str); 19] = [
    (100_000, "0.0001"),
    (250_000, "0.00025"),
    (500_000, "0.0005"),
    (1_000_000, "0.001"),
    (2_500_000, "0.0025"),
    (5_000_000, "0.005"),
    (10_000_000, "0.01"),
    (25_000_000, "0.025"),
    (50_000_000, "0.05"),
    (100_000_000, "0.1"),
    (250_000_000, "0.25"),
    (500_000_000, "0.5"),
    (1_000_000_000, "1"),
    (2_500_000_000, "2.5"),
    (5_000_000_000, "5"),
    (10_000_000_000, "10"),
    (25_000_000_000, "25"),
    (50_000_000_000, "50"),
    (100_000_000_000, "100"),
];

/// Prints a snapshot. Routes and servers appear with their first request, kinds of errors with their first error.
pub fn prometheus(snapshot: &Snapshot) -> String {
    let mut text = Text::default();
    routes(&mut text, &traffic(snapshot));
    endpoints(&mut text, &snapshot.endpoints);
    queues(&mut text, &snapshot.queues);
    names(&mut text, &snapshot.names);
    process(&mut text, snapshot);
    text.out
}

/// The labels of a series.
type Labels<'a> = [(&'static str, &'a str)];

/// The text so far.
#[derive(Default)]
struct Text {
    out: String,
    /// The metrics that were begun.
    begun: usize,
}

impl Text {
    /// Begins a metric; they come in the order of the table.
    fn begin(&mut self, name: &'static str) -> Family<'_> {
        let metric = METRICS.get(self.begun).filter(|metric| metric.name == name);
        debug_assert!(metric.is_some(), "{name} has no place in the table here");
        self.begun += 1;
        if let Some(Metric { kind, help, .. }) = metric {
            let _ = write!(self.out, "# HELP {name} {help}\n# TYPE {name} {kind}\n");
        }
        Family {
            name,
            out: &mut self.out,
        }
    }
}

/// A metric that is being printed.
struct Family<'t> {
    name: &'static str,
    out: &'t mut String,
}

impl Family<'_> {
    fn sample(&mut self, labels: &Labels<'_>, value: impl Display) -> &mut Self {
        self.line("", labels, None, value)
    }

    /// Prints those that are not 0.
    fn counts(&mut self, labels: &Labels<'_>, kind: &'static str, counts: &Counts) -> &mut Self {
        for (name, count) in counts.0.iter().filter(|(_, count)| *count > 0) {
            self.line("", labels, Some((kind, name)), count);
        }
        self
    }

    fn histogram(&mut self, labels: &Labels<'_>, durations: &Durations) -> &mut Self {
        let bounds = UP_TO.map(|(bound, _)| bound);
        for ((_, bound), count) in UP_TO.iter().zip(durations.up_to(&bounds)) {
            self.line("_bucket", labels, Some(("le", bound)), count);
        }
        let count = durations.count();
        self.line("_bucket", labels, Some(("le", "+Inf")), count);
        self.line("_sum", labels, None, durations.seconds());
        self.line("_count", labels, None, count)
    }

    fn line(
        &mut self,
        suffix: &str,
        labels: &Labels<'_>,
        last: Option<(&'static str, &str)>,
        value: impl Display,
    ) -> &mut Self {
        self.out.push_str(self.name);
        self.out.push_str(suffix);
        let mut open = '{';
        for (name, value) in labels.iter().copied().chain(last) {
            self.out.push(open);
            open = ',';
            self.out.push_str(name);
            self.out.push_str("=\"");
            escape(value, self.out);
            self.out.push('"');
        }
        if open == ',' {
            self.out.push('}');
        }
        // Writing to memory does not fail.
        let _ = writeln!(self.out, " {value}");
        self
    }
}

/// Writes the value of a label.
fn escape(value: &str, out: &mut String) {
    for c in value.chars() {
        match c {
            '\\' => out.push_str("\\\\"),
            '"' => out.push_str("\\\""),
            '\n' => out.push_str("\\n"),
            c => out.push(c),
        }
    }
}

/// Returns the traffic of each route that has had a request, with the names of its site and of itself. Where there is no
/// site or no route, that name is empty.
fn traffic(snapshot: &Snapshot) -> Vec<(&str, &str, &Traffic)> {
    let of_site = snapshot.sites.iter().flat_map(|site| {
        let routes = site.routes.iter();
        let routes = routes.map(|route| (&*site.name, &*route.name, &route.traffic));
        routes.chain([(&*site.name, "", &site.no_route)])
    });
    let all = of_site.chain([("", "", &snapshot.no_site)]);
    let met = |(_, _, traffic): &(_, _, &Traffic)| traffic.open > 0 || traffic.requests.sum() > 0;
    all.filter(met).collect()
}

fn routes(text: &mut Text, all: &[(&str, &str, &Traffic)]) {
    let mut each = |name, print: &dyn Fn(&mut Family<'_>, &Labels<'_>, &Traffic)| {
        let mut family = text.begin(name);
        for (site, route, traffic) in all {
            print(&mut family, &[("site", site), ("route", route)], traffic);
        }
    };
    each("edge_requests_total", &|family, labels, traffic| {
        family.counts(labels, "status", &traffic.requests);
    });
    each("edge_request_failures_total", &|family, labels, traffic| {
        family.counts(labels, "kind", &traffic.failures);
    });
    each(
        "edge_request_duration_seconds",
        &|family, labels, traffic| {
            family.histogram(labels, &traffic.durations);
        },
    );
    each("edge_requests_open", &|family, labels, traffic| {
        family.sample(labels, traffic.open);
    });
    each(
        "edge_request_body_bytes_total",
        &|family, labels, traffic| {
            family.sample(labels, traffic.bytes_in);
        },
    );
    each(
        "edge_response_body_bytes_total",
        &|family, labels, traffic| {
            family.sample(labels, traffic.bytes_out);
        },
    );
    each("edge_retries_total", &|family, labels, traffic| {
        family.sample(labels, traffic.retries);
    });
    each("edge_cache_requests_total", &|family, labels, traffic| {
        family.counts(labels, "result", &traffic.cache);
    });
    each("edge_limited_requests_total", &|family, labels, traffic| {
        family.counts(labels, "limit", &traffic.limited);
    });
    each("edge_queued_requests_total", &|family, labels, traffic| {
        family.sample(labels, traffic.queued);
    });
    each("edge_queue_seconds_total", &|family, labels, traffic| {
        family.sample(labels, traffic.queued_ns as f64 / 1e9);
    });
    each(
        "edge_mirrored_requests_total",
        &|family, labels, traffic| {
            family.counts(labels, "result", &traffic.mirrored);
        },
    );
}

fn endpoints(text: &mut Text, all: &[Endpoint]) {
    let mut each = |name, print: &dyn Fn(&mut Family<'_>, &Labels<'_>, &Endpoint)| {
        let mut family = text.begin(name);
        for endpoint in all {
            let labels = [
                ("cluster", &*endpoint.cluster),
                ("server", &*endpoint.server),
                ("address", &*endpoint.address),
            ];
            print(&mut family, &labels, endpoint);
        }
    };
    let met = |endpoint: &Endpoint| endpoint.responses.sum() > 0;
    each(
        "edge_upstream_responses_total",
        &|family, labels, endpoint| {
            family.counts(labels, "status", &endpoint.responses);
        },
    );
    each(
        "edge_upstream_failures_total",
        &|family, labels, endpoint| {
            family.counts(labels, "kind", &endpoint.failures);
        },
    );
    each(
        "edge_upstream_response_seconds",
        &|family, labels, endpoint| {
            if met(endpoint) {
                family.histogram(labels, &endpoint.durations);
            }
        },
    );
    each(
        "edge_upstream_requests_open",
        &|family, labels, endpoint| {
            family.sample(labels, endpoint.open);
        },
    );
    each("edge_upstream_requests_max", &|family, labels, endpoint| {
        if let Some(max) = endpoint.max_requests {
            family.sample(labels, max);
        }
    });
    each(
        "edge_upstream_connections_open",
        &|family, labels, endpoint| {
            if let Some(open) = endpoint.connections {
                family.sample(labels, open);
            }
        },
    );
    each(
        "edge_upstream_connections_max",
        &|family, labels, endpoint| {
            if let Some(max) = endpoint.max_connections {
                family.sample(labels, max);
            }
        },
    );
    each("edge_upstream_up", &|family, labels, endpoint| {
        family.sample(labels, u8::from(endpoint.up));
    });
}

fn queues(text: &mut Text, all: &[Queue]) {
    let mut each = |name, of: fn(&Queue) -> u32| {
        let mut family = text.begin(name);
        for queue in all {
            family.sample(&[("cluster", &queue.cluster)], of(queue));
        }
    };
    each("edge_upstream_queue_length", |queue| queue.waiting);
    each("edge_upstream_queue_max", |queue| queue.size);
}

fn names(text: &mut Text, all: &[Name]) {
    let mut each = |name, print: &dyn Fn(&mut Family<'_>, &Labels<'_>, &Name)| {
        let mut family = text.begin(name);
        for name in all {
            let labels = [("cluster", &*name.cluster), ("server", &*name.server)];
            print(&mut family, &labels, name);
        }
    };
    each(
        "edge_upstream_name_lookups_total",
        &|family, labels, name| {
            family.counts(labels, "result", &name.lookups);
        },
    );
    each("edge_upstream_name_failing", &|family, labels, name| {
        family.sample(labels, u8::from(name.error.is_some()));
    });
    each("edge_upstream_name_age_seconds", &|family, labels, name| {
        if let Some(age) = name.age {
            family.sample(labels, age);
        }
    });
}

fn process(text: &mut Text, snapshot: &Snapshot) {
    let process = &snapshot.process;
    let mut one = |name, value: u64| {
        text.begin(name).sample(&[], value);
    };
    one("edge_connections_total", process.accepted);
    one("edge_connections_open", process.connections);
    text.begin("edge_tls_handshakes_total")
        .counts(&[], "version", &process.handshakes);
    text.begin("edge_tls_resumed_total")
        .sample(&[], process.resumed);
    text.begin("edge_tls_handshake_failures_total").counts(
        &[],
        "kind",
        &process.handshake_failures,
    );
    text.begin("edge_refused_requests_total")
        .sample(&[], process.refused);
    workers(text, snapshot);
    text.begin("edge_access_log_dropped_lines_total")
        .sample(&[], process.log_dropped);
    let reloads = &process.reloads;
    text.begin("edge_reloads_total")
        .sample(&[("result", "taken")], reloads.taken)
        .sample(&[("result", "failed")], reloads.failed);
    let mut times = text.begin("edge_reload_timestamp_seconds");
    for (result, time) in [
        ("taken", reloads.last_taken),
        ("failed", reloads.last_failed),
    ] {
        if let Some(time) = time {
            times.sample(&[("result", result)], time);
        }
    }
    text.begin("edge_reload_failing")
        .sample(&[], u8::from(reloads.failing.is_some()));
    certificates(text, snapshot);
    text.begin("edge_build_info")
        .sample(&[("version", process.version)], 1);
    text.begin("process_start_time_seconds")
        .sample(&[], process.started);
    for (name, value) in [
        ("process_resident_memory_bytes", process.resident_bytes),
        ("process_open_fds", process.open_files),
    ] {
        let mut family = text.begin(name);
        if let Some(value) = value {
            family.sample(&[], value);
        }
    }
}

/// Prints the certificates: those of a site stand together.
fn certificates(text: &mut Text, snapshot: &Snapshot) {
    let all = &snapshot.certificates;
    let sites = || all.chunk_by(|a, b| a.site == b.site);
    let mut ends = text.begin("edge_certificate_expiry_timestamp_seconds");
    for of_site in sites() {
        // Of several, the one that ends first.
        if let Some(end) = of_site.iter().filter_map(|one| one.not_after).min() {
            ends.sample(&[("site", &of_site[0].site)], end);
        }
    }
    let mut orders = text.begin("edge_certificate_orders_total");
    for (result, count) in &snapshot.process.orders.0 {
        orders.sample(&[("result", result)], count);
    }
    let mut failing = text.begin("edge_certificate_failing");
    for of_site in sites().filter(|of_site| of_site[0].automatic) {
        let count = of_site.iter().filter(|one| one.error.is_some()).count();
        failing.sample(&[("site", &of_site[0].site)], count);
    }
}

fn workers(text: &mut Text, snapshot: &Snapshot) {
    let indices: Vec<_> = snapshot
        .workers
        .iter()
        .map(|worker| worker.index.to_string())
        .collect();
    let all = || snapshot.workers.iter().zip(&indices);
    let mut requests = text.begin("edge_worker_requests_total");
    for (worker, index) in all() {
        requests.sample(&[("worker", index)], worker.requests);
    }
    let mut open = text.begin("edge_worker_requests_open");
    for (worker, index) in all() {
        open.sample(&[("worker", index)], worker.open_requests);
    }
    let mut times = text.begin("edge_worker_cpu_seconds_total");
    for (worker, index) in all() {
        if let Some(seconds) = worker.cpu_seconds {
            times.sample(&[("worker", index)], seconds);
        }
    }
}
