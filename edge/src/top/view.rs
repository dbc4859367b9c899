//! The lines that are shown.

use serde_json::Value;

use super::figures::{amount, duration, figures, percent, span, Figures};

/// The look of a part of a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Look {
    Plain,
    Title,
    Dim,
    Good,
    Bad,
}

/// A line: parts, each with its look.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Line(pub(super) Vec<(Look, String)>);

impl Line {
    fn of(look: Look, text: impl Into<String>) -> Self {
        Self(vec![(look, text.into())])
    }

    fn and(mut self, look: Look, text: impl Into<String>) -> Self {
        self.0.push((look, text.into()));
        self
    }

    /// Returns the text without its looks.
    pub(super) fn plain(&self) -> String {
        let parts: String = self.0.iter().map(|(_, text)| text.as_str()).collect();
        parts.trim_end().to_owned()
    }
}

/// Columns of figures, each so wide.
const COLUMNS: [(&str, usize); 5] = [
    ("req/s", 9),
    ("failed", 9),
    ("p50", 9),
    ("p99", 9),
    ("open", 7),
];

/// Returns a line that says what is wrong.
pub(super) fn alarm(why: &str) -> Line {
    Line::of(Look::Bad, tame(why))
}

/// Returns the lines for a terminal of so many columns and lines. `before` is an earlier document.
pub(super) fn lines(
    now: &Value,
    before: Option<&Value>,
    (width, height): (usize, usize),
) -> Vec<Line> {
    let view = View::new(now, before, width);
    let mut lines = view.top();
    lines.push(Line::default());
    let sites = view.sites();
    let (workers, servers) = (view.workers(), view.servers());
    // What does not fit is left out of the longest part.
    let room = height.saturating_sub(lines.len() + workers.len() + 3);
    let for_sites = sites
        .len()
        .min((room / 2).max(room.saturating_sub(servers.len())));
    let for_servers = servers.len().min(room.saturating_sub(for_sites));
    for part in [
        shortened(sites, for_sites),
        shortened(servers, for_servers),
        workers,
    ] {
        lines.extend(part);
        lines.push(Line::default());
    }
    lines.pop();
    lines
}

fn shortened(mut lines: Vec<Line>, most: usize) -> Vec<Line> {
    if lines.len() > most {
        lines.truncate(most.saturating_sub(1));
        lines.push(Line::of(Look::Dim, "  ..."));
    }
    lines
}

struct View<'a> {
    now: &'a Value,
    before: &'a Value,
    seconds: f64,
    /// The width of names.
    names: usize,
}

impl<'a> View<'a> {
    fn new(now: &'a Value, before: Option<&'a Value>, width: usize) -> Self {
        let columns: usize = COLUMNS.iter().map(|(_, width)| width).sum();
        let before = before.unwrap_or(&Value::Null);
        // Another process has begun to count anew.
        let before = if before["started_ms"] == now["started_ms"] {
            before
        } else {
            now
        };
        let time = |status: &Value| status["now_ms"].as_f64().unwrap_or(0.0);
        Self {
            now,
            before,
            seconds: (time(now) - time(before)) / 1000.0,
            names: width.saturating_sub(columns + 16).clamp(16, 48),
        }
    }

    fn figures(&self, now: &Value, before: &Value) -> Figures {
        figures(now, before, self.seconds, &self.now["duration_bounds"])
    }

    fn top(&self) -> Vec<Line> {
        let now = self.now;
        let total = self.figures(&now["total"], &self.before["total"]);
        let draining = now["draining"] == true;
        let (look, state) = if draining {
            (Look::Bad, "draining")
        } else {
            (Look::Good, "serving")
        };
        let up = now["uptime_ms"].as_u64().unwrap_or(0) / 1000;
        let configuration = &now["configuration"];
        let last = &configuration["reloads"][0];
        let first = Line::of(Look::Title, "reverse-proxy ")
            .and(Look::Plain, format!("{} ", text(&now["version"])))
            .and(look, state)
            .and(
                Look::Dim,
                format!("  process {}, up {}", now["pid"], span(up)),
            );
        let second = Line::of(Look::Title, format!("{} req/s", amount(total.rate)))
            .and(Look::Plain, "   failed ")
            .and(failed_look(total.failed), percent(total.failed))
            .and(
                Look::Plain,
                format!(
                    "   p50 {}   p99 {}",
                    duration(total.p50),
                    duration(total.p99)
                ),
            )
            .and(
                Look::Plain,
                format!(
                    "   open {}   connections {}",
                    total.open, now["snapshot"]["process"]["connections"]
                ),
            );
        let (look, outcome) = if last["ok"] == false {
            (Look::Bad, "refused")
        } else {
            (Look::Plain, "taken")
        };
        let third = Line::of(
            Look::Dim,
            format!(
                "configuration {}: last ",
                tame(configuration["file"].as_str().unwrap_or("built in"))
            ),
        )
        .and(look, outcome)
        .and(
            Look::Dim,
            format!(
                ", {} taken, {} refused",
                configuration["taken"], configuration["refused"]
            ),
        );
        vec![first, second, third]
    }

    fn head(&self, what: &str, more: &str) -> Line {
        let mut line = format!("{what:<width$}", width = self.names);
        for (name, width) in COLUMNS {
            line.push_str(&format!("{name:>width$}"));
        }
        line.push_str(more);
        Line::of(Look::Dim, line)
    }

    fn row(&self, name: &str, figures: Figures) -> Line {
        let cells = [
            (Look::Plain, amount(figures.rate)),
            (failed_look(figures.failed), percent(figures.failed)),
            (Look::Plain, duration(figures.p50)),
            (Look::Plain, duration(figures.p99)),
            (Look::Plain, figures.open.to_string()),
        ];
        let name = short(&tame(name), self.names - 1);
        let line = Line::of(Look::Plain, format!("{name:<width$}", width = self.names));
        let cells = cells.into_iter().zip(COLUMNS);
        cells.fold(line, |line, ((look, text), (_, width))| {
            line.and(look, format!("{text:>width$}"))
        })
    }

    fn sites(&self) -> Vec<Line> {
        let earlier = &self.before["snapshot"]["sites"];
        let mut rows: Vec<_> = list(&self.now["snapshot"]["sites"])
            .map(|site| {
                let before = list(earlier).find(|before| before["name"] == site["name"]);
                let before = before.map_or(&Value::Null, |before| &before["total"]);
                (text(&site["name"]), self.figures(&site["total"], before))
            })
            .collect();
        rows.sort_by(|(_, a), (_, b)| b.rate.total_cmp(&a.rate));
        let rows = rows
            .into_iter()
            .map(|(name, figures)| self.row(&name, figures));
        std::iter::once(self.head("SITE", "")).chain(rows).collect()
    }

    fn servers(&self) -> Vec<Line> {
        let mut lines = vec![self.head("SERVER", "  state")];
        let mut all = Vec::new();
        for cluster in list(&self.now["clusters"]) {
            for endpoint in list(&cluster["endpoints"]) {
                let same = |one: &&Value| {
                    one["cluster"] == cluster["name"] && one["address"] == endpoint["address"]
                };
                let find = |status: &'a Value| {
                    list(&status["snapshot"]["endpoints"])
                        .find(same)
                        .unwrap_or(&Value::Null)
                };
                let figures = self.figures(find(self.now), find(self.before));
                all.push((endpoint, figures));
            }
        }
        all.sort_by(|(_, a), (_, b)| b.rate.total_cmp(&a.rate));
        for (endpoint, figures) in all {
            let state = text(&endpoint["status"]).replace('_', " ");
            let look = match &*state {
                "up" => Look::Good,
                "drained" | "no weight" => Look::Dim,
                _ => Look::Bad,
            };
            let line = self.row(&text(&endpoint["server"]), figures);
            lines.push(line.and(look, format!("  {}", tame(&state))));
        }
        lines
    }

    fn workers(&self) -> Vec<Line> {
        let earlier = &self.before["snapshot"]["workers"];
        let mut lines = vec![Line::of(
            Look::Dim,
            format!("{:<8}{:>9}{:>9}{:>9}", "WORKER", "req/s", "open", "cpu"),
        )];
        for worker in list(&self.now["snapshot"]["workers"]) {
            let before = list(earlier).find(|before| before["index"] == worker["index"]);
            let since = |key: &str| {
                let before = before.and_then(|before| before[key].as_f64());
                let now = worker[key].as_f64()?;
                Some((now - before.unwrap_or(now)).max(0.0) / self.seconds.max(1e-3))
            };
            let line = format!(
                "{:<8}{:>9}{:>9}{:>9}",
                worker["index"].to_string(),
                amount(since("requests").unwrap_or(0.0)),
                worker["open_requests"].to_string(),
                percent(since("cpu_seconds")),
            );
            lines.push(Line::of(Look::Plain, line));
        }
        lines
    }
}

fn failed_look(failed: Option<f64>) -> Look {
    if failed.is_some_and(|failed| failed > 0.0) {
        Look::Bad
    } else {
        Look::Plain
    }
}

fn list(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().into_iter().flatten()
}

fn text(value: &Value) -> String {
    tame(value.as_str().unwrap_or("-"))
}

/// Has a text do nothing to a terminal.
fn tame(text: &str) -> String {
    text.chars()
        .map(|c| if c.is_control() { '?' } else { c })
        .collect()
}

fn short(text: &str, most: usize) -> String {
    if text.chars().count() <= most {
        return text.to_owned();
    }
    let mut short: String = text.chars().take(most.saturating_sub(1)).collect();
    short.push('…');
    short
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn status(requests: u64) -> Value {
        let traffic = json!({"requests": {"2xx": requests}, "open": 1, "durations": {"buckets": [[0, requests]]}});
        json!({
            "version": "1.0", "pid": 7, "uptime_ms": 61_000, "now_ms": requests * 10, "started_ms": 1,
            "draining": false, "total": traffic, "duration_bounds": [0.01],
            "configuration": {"file": "a.yaml\u{1b}[2J", "taken": 2, "refused": 1, "reloads": [{"ok": false}]},
            "clusters": [{"name": "c", "endpoints": [{"server": "10.0.0.1:1", "address": "10.0.0.1:1", "status": "slow_start"}]}],
            "snapshot": {
                "process": {"connections": 3},
                "sites": [{"name": "x".repeat(200), "total": traffic}],
                "endpoints": [{"cluster": "c", "address": "10.0.0.1:1", "responses": {"2xx": requests}, "failures": {"connect": requests}, "open": 0}],
                "workers": [{"index": 0, "requests": requests, "open_requests": 1, "cpu_seconds": 0.5}],
            },
        })
    }

    #[test]
    fn the_main_figures_are_there() {
        let lines = lines(&status(200), Some(&status(100)), (100, 50));
        let all: Vec<_> = lines.iter().map(Line::plain).collect();
        assert_eq!(all[0], "reverse-proxy 1.0 serving  process 7, up 1m 1s");
        assert!(
            all[1].starts_with("100 req/s   failed 0%   p50 "),
            "{all:#?}"
        );
        assert_eq!(
            all[2],
            "configuration a.yaml?[2J: last refused, 2 taken, 1 refused"
        );
        let server = all
            .iter()
            .find(|line| line.starts_with("10.0.0.1:1"))
            .unwrap();
        assert!(
            server.contains("200   50.00%") && server.ends_with("slow start"),
            "{server}"
        );
        assert!(all
            .iter()
            .any(|line| line.starts_with("xxxxx") && line.contains('…')));
        assert!(all.last().unwrap().starts_with("0 "), "{all:#?}");
    }

    #[test]
    fn little_room_and_odd_documents_do_no_harm() {
        for size in [(0, 0), (10, 5), (80, 24), (300, usize::MAX)] {
            for odd in [
                json!(null),
                json!({"snapshot": [], "clusters": 5}),
                status(5),
            ] {
                assert!(!lines(&odd, None, size).is_empty());
                assert!(!lines(&odd, Some(&status(3)), size).is_empty());
            }
        }
        let many: Vec<_> = (0..100)
            .map(|n| json!({"name": n.to_string(), "total": {}}))
            .collect();
        let mut status = status(5);
        status["snapshot"]["sites"] = json!(many);
        assert!(lines(&status, None, (80, 24)).len() <= 24);
    }
}
