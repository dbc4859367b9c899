//! The keys of a settings file, and what may stand for each.

use std::net::{Ipv4Addr, Ipv6Addr};
use std::ops::RangeInclusive;

use pingora_error::{Error, ErrorType::ReadError, Result};
use serde_yaml_ng::{Mapping, Value};

/// What may stand for a key.
enum Kind {
    Bool,
    /// A whole number of at least so much.
    Number(u64),
    OptNumber(RangeInclusive<u64>),
    /// Text that is not empty.
    Text,
    OptText,
    Ipv4s,
    Ipv6s,
    Word(&'static [&'static str]),
    OptWord(&'static [&'static str]),
}

const ANY: RangeInclusive<u64> = 0..=u64::MAX;
const POSITIVE: RangeInclusive<u64> = 1..=u64::MAX;

/// Every key, in the order of the fields.
const KEYS: &[(&str, Kind)] = &[
    ("version", Kind::Number(0)),
    ("daemon", Kind::Bool),
    ("error_log", Kind::OptText),
    ("pid_file", Kind::Text),
    ("upgrade_sock", Kind::Text),
    ("user", Kind::OptText),
    ("group", Kind::OptText),
    ("working_directory", Kind::OptText),
    ("threads", Kind::Number(0)),
    ("listener_tasks_per_fd", Kind::Number(0)),
    ("work_stealing", Kind::Bool),
    ("runtime_enable_alt_timer", Kind::Bool),
    ("ca_file", Kind::OptText),
    ("grace_period_seconds", Kind::OptNumber(ANY)),
    ("graceful_shutdown_timeout_seconds", Kind::OptNumber(ANY)),
    ("client_bind_to_ipv4", Kind::Ipv4s),
    ("client_bind_to_ipv6", Kind::Ipv6s),
    ("upstream_keepalive_pool_size", Kind::Number(0)),
    ("upstream_connect_offload_threadpools", Kind::OptNumber(ANY)),
    (
        "upstream_connect_offload_thread_per_pool",
        Kind::OptNumber(ANY),
    ),
    ("downstream_tls_offload_threadpools", Kind::OptNumber(ANY)),
    (
        "downstream_tls_offload_thread_per_pool",
        Kind::OptNumber(ANY),
    ),
    ("upstream_debug_ssl_keylog", Kind::Bool),
    ("max_retries", Kind::Number(0)),
    (
        "upgrade_sock_connect_accept_max_retries",
        Kind::OptNumber(ANY),
    ),
    ("max_blocking_threads", Kind::OptNumber(POSITIVE)),
    ("blocking_threads_ttl_seconds", Kind::OptNumber(ANY)),
    (
        "fast_timeout_to_tokio_threshold_seconds",
        Kind::OptNumber(ANY),
    ),
    ("runtime_metrics_poll_time_histogram", Kind::Bool),
    (
        "runtime_metrics_poll_time_histogram_scale",
        Kind::OptWord(&["linear", "log"]),
    ),
    (
        "runtime_metrics_poll_time_histogram_resolution_micros",
        Kind::OptNumber(POSITIVE),
    ),
    (
        "runtime_metrics_poll_time_histogram_buckets",
        Kind::OptNumber(1..=1024),
    ),
    ("daemon_wait_for_ready", Kind::Bool),
    ("daemon_ready_timeout_seconds", Kind::OptNumber(POSITIVE)),
    ("daemon_notify_timeout_seconds", Kind::OptNumber(POSITIVE)),
    ("shutdown_policy", Kind::Word(&["finish", "strict"])),
    ("shutdown_read_timeout_seconds", Kind::Number(0)),
    ("shutdown_drain_seconds", Kind::OptNumber(ANY)),
    (
        "accept_strategy",
        Kind::Word(&["shared", "exclusive", "reuseport", "mutex"]),
    ),
    ("accept_mutex_delay_ms", Kind::Number(1)),
    ("worker_connections", Kind::OptNumber(POSITIVE)),
];

/// Checks the values of known keys, and warns of keys that look like a known one misspelt.
///
/// # Errors
/// `ReadError`, which names the key, its value and what may stand there.
pub(super) fn check(settings: &Mapping) -> Result<()> {
    for (key, value) in settings {
        let Some(key) = key.as_str() else { continue };
        match KEYS.iter().find(|(known, _)| *known == key) {
            Some((_, kind)) => {
                if let Some(expected) = refusal(kind, value) {
                    let value = show(value);
                    return Error::e_explain(
                        ReadError,
                        format!("{key}: {value}: expected {expected}"),
                    );
                }
            }
            None => {
                if let Some(known) = likely_meant(key) {
                    log::warn!("unknown setting {key}: is {known} meant?");
                }
            }
        }
    }
    Ok(())
}

/// What was expected, when `value` does not do.
fn refusal(kind: &Kind, value: &Value) -> Option<String> {
    let number = |range: &RangeInclusive<u64>| value.as_u64().is_some_and(|n| range.contains(&n));
    let word = |words: &[&str]| value.as_str().is_some_and(|w| words.contains(&w));
    let (good, expected) = match kind {
        Kind::Bool => (value.is_bool(), "true or false".to_string()),
        Kind::Number(least) => (
            number(&(*least..=u64::MAX)),
            format!("a whole number of at least {least}"),
        ),
        Kind::OptNumber(range) => {
            let numbers = if *range.end() == u64::MAX {
                format!("of at least {}", range.start())
            } else {
                format!("from {} to {}", range.start(), range.end())
            };
            (
                value.is_null() || number(range),
                format!("a whole number {numbers}, or null"),
            )
        }
        Kind::Text => (is_text(value), "text that is not empty".to_string()),
        Kind::OptText => (
            value.is_null() || is_text(value),
            "text that is not empty, or null".to_string(),
        ),
        Kind::Ipv4s => (
            all_are(value, |s| s.parse::<Ipv4Addr>().is_ok()),
            "a list of IPv4 addresses".to_string(),
        ),
        Kind::Ipv6s => (
            all_are(value, |s| s.parse::<Ipv6Addr>().is_ok()),
            "a list of IPv6 addresses".to_string(),
        ),
        Kind::Word(words) => (word(words), words.join(" or ")),
        Kind::OptWord(words) => (
            value.is_null() || word(words),
            format!("{}, or null", words.join(" or ")),
        ),
    };
    (!good).then_some(expected)
}

/// A number does for a text too: `user: 1000`.
fn is_text(value: &Value) -> bool {
    match value {
        // A NUL would end a path or a name early wherever it is handed to the system.
        Value::String(s) => !s.is_empty() && !s.contains('\0'),
        Value::Number(_) => true,
        _ => false,
    }
}

fn all_are(value: &Value, test: impl Fn(&str) -> bool) -> bool {
    value
        .as_sequence()
        .is_some_and(|items| items.iter().all(|item| item.as_str().is_some_and(&test)))
}

/// A value as an error message shows it: on one line, and not at length.
pub(super) fn show(value: &Value) -> String {
    const LONGEST: usize = 80;
    let text = match value {
        Value::Null => "null".to_string(),
        Value::Bool(b) => b.to_string(),
        Value::Number(n) => n.to_string(),
        Value::String(s) => format!("{s:?}"),
        Value::Sequence(items) => {
            let items: Vec<String> = items.iter().take(LONGEST).map(show).collect();
            format!("[{}]", items.join(", "))
        }
        Value::Mapping(_) => "a mapping".to_string(),
        Value::Tagged(tagged) => format!("a value with the tag {}", tagged.tag),
    };
    if text.chars().count() > LONGEST {
        text.chars().take(LONGEST).chain("...".chars()).collect()
    } else {
        text
    }
}

/// The known key that an unknown one most likely stands for.
pub(super) fn likely_meant(key: &str) -> Option<&'static str> {
    // A short word is a few letters away from many others; and so is anything from a long one.
    let most = (key.len() / 4).min(3);
    KEYS.iter()
        .filter(|(known, _)| known.len().abs_diff(key.len()) <= most)
        .map(|(known, _)| (distance(key, known), *known))
        .filter(|(d, _)| *d <= most)
        .min_by_key(|(d, _)| *d)
        .map(|(_, known)| known)
}

/// How many letters must be changed, added or removed to make `a` into `b` (Levenshtein).
fn distance(a: &str, b: &str) -> usize {
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.bytes().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, y) in b.bytes().enumerate() {
            let replaced = diagonal + usize::from(x != y);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
pub(super) fn names() -> impl Iterator<Item = &'static str> {
    KEYS.iter().map(|(name, _)| *name)
}
