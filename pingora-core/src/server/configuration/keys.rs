//! The keys of a settings file, and what may stand for each.

use std::net::{Ipv4Addr, Ipv6Addr};
use std::ops::RangeInclusive;

use pingora_error::{Error, ErrorType::ReadError, Result};
use serde_json::{Map, Value};

use super::yaml::{quoted, Node, Plain};
use super::MAX_THREADS;

/// The values that a key may have.
enum Kind {
    Bool,
    /// A whole number of at least so much.
    Number(u64),
    /// A whole number.
    Range(RangeInclusive<u64>),
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
/// Numbers of threads, or of pools of them.
const THREADS: RangeInclusive<u64> = 0..=MAX_THREADS as u64;

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
    ("threads", Kind::Range(THREADS)),
    ("listener_tasks_per_fd", Kind::Number(0)),
    ("work_stealing", Kind::Bool),
    ("runtime_enable_alt_timer", Kind::Bool),
    ("ca_file", Kind::OptText),
    ("grace_period_seconds", Kind::OptNumber(ANY)),
    ("graceful_shutdown_timeout_seconds", Kind::OptNumber(ANY)),
    ("client_bind_to_ipv4", Kind::Ipv4s),
    ("client_bind_to_ipv6", Kind::Ipv6s),
    ("upstream_keepalive_pool_size", Kind::Number(0)),
    (
        "upstream_connect_offload_threadpools",
        Kind::OptNumber(THREADS),
    ),
    (
        "upstream_connect_offload_thread_per_pool",
        Kind::OptNumber(THREADS),
    ),
    (
        "downstream_tls_offload_threadpools",
        Kind::OptNumber(THREADS),
    ),
    (
        "downstream_tls_offload_thread_per_pool",
        Kind::OptNumber(THREADS),
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

/// The values of known keys, as the fields of [`ServerConf`](super::ServerConf) are read from them; warns of keys that
/// look like a known one misspelt.
///
/// # Errors
/// `ReadError`, which names the key, its value and what may stand there.
pub(super) fn check(settings: &[(String, Node)]) -> Result<Map<String, Value>> {
    let mut values = Map::new();
    for (key, node) in settings {
        match KEYS.iter().find(|(known, _)| *known == key) {
            Some((_, kind)) => {
                let value = kind.value(node).ok_or_else(|| {
                    let (found, expected) = (show(node), kind.expected());
                    let why = format!("{key}: {found}: expected {expected}");
                    Error::explain(ReadError, why)
                })?;
                values.insert(key.clone(), value);
            }
            None => {
                if let Some(known) = likely_meant(key) {
                    log::warn!("unknown setting {key}: is {known} meant?");
                }
            }
        }
    }
    Ok(values)
}

impl Kind {
    /// The value that a node is for a key of this kind; `None` when it does not do.
    fn value(&self, node: &Node) -> Option<Value> {
        let plain = node.plain();
        let null = (plain == Some(Plain::Null)).then_some(Value::Null);
        let number = |range: RangeInclusive<u64>| match plain {
            Some(Plain::Whole(n)) if range.contains(&n) => Some(Value::from(n)),
            _ => None,
        };
        let word = |words: &[&str]| text(node).filter(|text| words.contains(text));
        match self {
            Kind::Bool => match plain? {
                Plain::Bool(on) => Some(Value::from(on)),
                _ => None,
            },
            Kind::Number(least) => number(*least..=u64::MAX),
            Kind::Range(range) => number(range.clone()),
            Kind::OptNumber(range) => null.or_else(|| number(range.clone())),
            Kind::Text => nonempty(node).map(Value::from),
            Kind::OptText => null.or_else(|| nonempty(node).map(Value::from)),
            Kind::Ipv4s => all_are(node, |s| s.parse::<Ipv4Addr>().is_ok()),
            Kind::Ipv6s => all_are(node, |s| s.parse::<Ipv6Addr>().is_ok()),
            Kind::Word(words) => word(words).map(Value::from),
            Kind::OptWord(words) => null.or_else(|| word(words).map(Value::from)),
        }
    }

    fn expected(&self) -> String {
        match self {
            Kind::Bool => "true or false".to_string(),
            Kind::Number(least) => format!("a whole number of at least {least}"),
            Kind::Range(range) => {
                format!("a whole number from {} to {}", range.start(), range.end())
            }
            Kind::OptNumber(range) if *range.end() == u64::MAX => {
                format!("a whole number of at least {}, or null", range.start())
            }
            Kind::OptNumber(range) => {
                let (least, most) = (range.start(), range.end());
                format!("a whole number from {least} to {most}, or null")
            }
            Kind::Text => "text that is not empty".to_string(),
            Kind::OptText => "text that is not empty, or null".to_string(),
            Kind::Ipv4s => "a list of IPv4 addresses".to_string(),
            Kind::Ipv6s => "a list of IPv6 addresses".to_string(),
            Kind::Word(words) => words.join(" or "),
            Kind::OptWord(words) => format!("{}, or null", words.join(" or ")),
        }
    }
}

/// The text of a scalar that is no number, no truth and not null.
fn text(node: &Node) -> Option<&str> {
    match (node, node.plain()) {
        (Node::Scalar { text, .. }, Some(Plain::Text)) => Some(text),
        _ => None,
    }
}

/// A number does for a text too: `user: 1000`.
fn nonempty(node: &Node) -> Option<&str> {
    let (Node::Scalar { text, .. }, Some(plain)) = (node, node.plain()) else {
        return None;
    };
    // A NUL would end a path or a name early wherever it is handed to the system.
    let good = match plain {
        Plain::Text => !text.is_empty() && !text.contains('\0'),
        Plain::Whole(_) | Plain::Number => true,
        Plain::Null | Plain::Bool(_) => false,
    };
    good.then_some(text)
}

fn all_are(node: &Node, test: impl Fn(&str) -> bool) -> Option<Value> {
    let Node::Sequence(items) = node else {
        return None;
    };
    let texts = items.iter().map(|item| text(item).filter(|s| test(s)));
    texts.collect::<Option<Vec<&str>>>().map(Value::from)
}

/// A value as an error message shows it: on one line, and not at length.
pub(super) fn show(node: &Node) -> String {
    const LONGEST: usize = 80;
    let text = match (node, node.plain()) {
        (Node::Scalar { .. }, Some(Plain::Null)) => "null".to_string(),
        (Node::Scalar { text, .. }, Some(Plain::Text) | None) => format!("{text:?}"),
        (Node::Scalar { text, .. }, _) => text.clone(),
        (Node::Sequence(items), _) => {
            let items: Vec<String> = items.iter().take(LONGEST).map(show).collect();
            format!("[{}]", items.join(", "))
        }
        (Node::Mapping(_), _) => "a mapping".to_string(),
        (Node::Tagged(tag), _) => format!("a value with the tag {tag}"),
    };
    if text.chars().count() > LONGEST {
        text.chars().take(LONGEST).chain("...".chars()).collect()
    } else {
        text
    }
}

/// The settings as a document with every key, in the order of the fields.
pub(super) fn write(settings: &Map<String, Value>) -> String {
    let mut document = String::new();
    for (key, value) in KEYS
        .iter()
        .filter_map(|(key, _)| Some((key, settings.get(*key)?)))
    {
        let text = match value {
            Value::String(text) => format!(" {}", quoted(text)),
            Value::Array(items) if !items.is_empty() => {
                let texts = items.iter().filter_map(Value::as_str);
                texts.map(|text| format!("\n- {}", quoted(text))).collect()
            }
            other => format!(" {other}"),
        };
        document.push_str(&format!("{key}:{text}\n"));
    }
    document
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

/// Returns how many letters must be changed, added or removed to make `a` into `b` (Levenshtein).
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

pub(super) fn names() -> impl Iterator<Item = &'static str> {
    KEYS.iter().map(|(name, _)| *name)
}
