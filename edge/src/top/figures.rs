//! Figures made of two documents, whose counts only grow.

use serde_json::Value;

/// Requests between two documents.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Figures {
    /// Requests a second.
    pub(super) rate: f64,
    /// The share of those that failed, if there were any.
    pub(super) failed: Option<f64>,
    /// Seconds that half of them took at most.
    pub(super) p50: Option<f64>,
    /// Seconds that 99 of 100 took at most.
    pub(super) p99: Option<f64>,
    /// Requests under way.
    pub(super) open: u64,
}

/// Compares what a document says of requests with what an earlier one says.
pub(super) fn figures(now: &Value, before: &Value, seconds: f64, bounds: &Value) -> Figures {
    let tries = now["responses"].is_object();
    let key = if tries { "responses" } else { "requests" };
    let answers = |kind: Option<&str>| counted(&now[key], &before[key], kind);
    // Of a server, what was not answered counts beside what was.
    let broken = if tries {
        counted(&now["failures"], &before["failures"], None)
    } else {
        0
    };
    let all = answers(None) + broken;
    let failed = answers(Some("5xx")) + answers(Some("none")) + broken;
    let buckets = buckets(
        &now["durations"]["buckets"],
        &before["durations"]["buckets"],
    );
    Figures {
        rate: all as f64 / seconds.max(1e-3),
        failed: (all > 0).then(|| failed as f64 / all as f64),
        p50: quantile(&buckets, bounds, 0.5),
        p99: quantile(&buckets, bounds, 0.99),
        open: now["open"].as_u64().unwrap_or(0),
    }
}

/// Returns the difference; a count that has begun anew stands for itself.
fn since(now: u64, before: u64) -> u64 {
    now.checked_sub(before).unwrap_or(now)
}

fn counted(now: &Value, before: &Value, kind: Option<&str>) -> u64 {
    let Some(now) = now.as_object() else { return 0 };
    let wanted = now
        .iter()
        .filter(|(name, _)| kind.is_none_or(|kind| kind == *name));
    let difference = |(name, now): (&String, &Value)| {
        since(
            now.as_u64().unwrap_or(0),
            before[name.as_str()].as_u64().unwrap_or(0),
        )
    };
    wanted.map(difference).sum()
}

fn pairs(buckets: &Value) -> impl Iterator<Item = (u64, u64)> + '_ {
    let all = buckets.as_array().into_iter().flatten();
    all.filter_map(|pair| Some((pair[0].as_u64()?, pair[1].as_u64()?)))
}

fn buckets(now: &Value, before: &Value) -> Vec<(u64, u64)> {
    let before: std::collections::HashMap<_, _> = pairs(before).collect();
    let all =
        pairs(now).map(|(index, n)| (index, since(n, before.get(&index).copied().unwrap_or(0))));
    all.filter(|(_, n)| *n > 0).collect()
}

fn quantile(buckets: &[(u64, u64)], bounds: &Value, share: f64) -> Option<f64> {
    let all: u64 = buckets.iter().map(|(_, n)| n).sum();
    let rank = ((all as f64 * share).ceil() as u64).max(1);
    let bound = |index: u64| bounds.get(usize::try_from(index).ok()?)?.as_f64();
    let mut below = 0;
    for (index, n) in buckets {
        if below + n >= rank {
            let from = index.checked_sub(1).and_then(bound).unwrap_or(0.0);
            let to = bound(*index).unwrap_or(from);
            return Some(from + (to - from) * (rank - below) as f64 / *n as f64);
        }
        below += n;
    }
    None
}

/// Writes a rate with the digits that count.
pub(super) fn amount(value: f64) -> String {
    match value {
        value if value >= 1e6 => format!("{:.1}M", value / 1e6),
        value if value >= 1e5 => format!("{:.0}k", value / 1e3),
        value if value >= 100.0 || value == 0.0 => format!("{value:.0}"),
        value => format!("{value:.1}"),
    }
}

/// Writes a share of 1 in percent.
pub(super) fn percent(share: Option<f64>) -> String {
    match share {
        None => "-".into(),
        Some(0.0) => "0%".into(),
        Some(share) => format!("{:.2}%", share * 100.0),
    }
}

/// Writes a duration, given in seconds.
pub(super) fn duration(seconds: Option<f64>) -> String {
    match seconds {
        None => "-".into(),
        Some(s) if s < 1e-3 => format!("{:.0}us", s * 1e6),
        Some(s) if s < 0.1 => format!("{:.1}ms", s * 1e3),
        Some(s) if s < 1.0 => format!("{:.0}ms", s * 1e3),
        Some(s) => format!("{s:.2}s"),
    }
}

/// Writes a long time, given in seconds.
pub(super) fn span(seconds: u64) -> String {
    let (days, hours, minutes) = (seconds / 86400, seconds / 3600 % 24, seconds / 60 % 60);
    match (days, hours, minutes) {
        (0, 0, 0) => format!("{seconds}s"),
        (0, 0, m) => format!("{m}m {}s", seconds % 60),
        (0, h, m) => format!("{h}h {m}m"),
        (d, h, _) => format!("{d}d {h}h"),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn rates_shares_and_quantiles_are_those_of_the_difference() {
        let bounds = json!([0.01, 0.02, 0.04]);
        let before = json!({"requests": {"2xx": 10}, "durations": {"buckets": [[0, 10]]}});
        let now = json!({
            "requests": {"2xx": 100, "5xx": 9, "none": 1},
            "durations": {"buckets": [[0, 60], [1, 48], [2, 2]]},
            "open": 3,
        });
        let made = figures(&now, &before, 2.0, &bounds);
        assert_eq!((made.rate, made.failed, made.open), (50.0, Some(0.1), 3));
        assert_eq!(made.p50, Some(0.01));
        assert_eq!(made.p99, Some(0.03));
        let anew = figures(&before, &now, 1.0, &bounds);
        assert_eq!((anew.rate, anew.failed), (10.0, Some(0.0)));
    }

    #[test]
    fn what_is_no_document_has_no_figures() {
        for odd in [
            json!(null),
            json!([1]),
            json!({"requests": 5, "durations": {"buckets": [[1], "x"]}}),
        ] {
            let made = figures(&odd, &odd, 0.0, &odd);
            assert_eq!(made, Figures::default(), "{odd}");
        }
        let over = json!({"requests": {"2xx": 1}, "durations": {"buckets": [[u64::MAX, 1]]}});
        assert_eq!(figures(&over, &json!({}), 1.0, &json!([1])).p99, Some(0.0));
    }

    #[test]
    fn figures_are_short() {
        assert_eq!(amount(0.0), "0");
        assert_eq!(amount(9.96), "10.0");
        assert_eq!(amount(123_456.0), "123k");
        assert_eq!(amount(2.5e6), "2.5M");
        assert_eq!(percent(Some(0.0123)), "1.23%");
        assert_eq!(duration(Some(0.000_25)), "250us");
        assert_eq!(duration(Some(0.25)), "250ms");
        assert_eq!(span(59), "59s");
        assert_eq!(span(3600 * 25), "1d 1h");
    }
}
