//! The making of a line.

use std::cell::RefCell;
use std::fmt::Display;
use std::io::Write as _;
use std::net::IpAddr;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use http::Version;
use pingora_core::Error;
use pingora_http::RequestHeader;

use super::escape;
use crate::calendar::Utc;
use crate::config::values::{Fact, LogPart, LogVariable};
use crate::plan::cookie_of_many;
use crate::plan::observe::AccessLog;
use crate::text;

/// The status of a request whose client left before there was one, as nginx has it.
pub(super) const CLIENT_LEFT: u16 = 499;
/// The time for which one reading of the time of day does.
const READ_FOR: Duration = Duration::from_secs(1);
/// Memory of ended requests that a worker keeps.
const SPARE: usize = 256;
/// The most bytes of one of them.
const SPARE_BYTES: usize = 4096;

/// The facts of a request when it comes.
pub(crate) struct Start<'a> {
    pub(crate) head: &'a RequestHeader,
    pub(crate) client: Option<IpAddr>,
    pub(crate) secure: bool,
}

/// The facts of a request at its end.
#[derive(Default)]
pub(crate) struct End<'a> {
    /// The end of the request; now if unset.
    pub(crate) at: Option<Instant>,
    /// 0 for none.
    pub(crate) status: u16,
    pub(crate) bytes: usize,
    pub(crate) bytes_in: usize,
    pub(crate) duration: Duration,
    pub(crate) upstream_duration: Option<Duration>,
    pub(crate) tries: u32,
    pub(crate) cache: &'a str,
    pub(crate) site: &'a str,
    pub(crate) route: &'a str,
    pub(crate) request_id: &'a str,
    pub(crate) trace_id: &'a str,
    pub(crate) tls_version: &'a str,
    pub(crate) error: Option<&'a Error>,
}

/// The values of a request from before it was changed, in the order of the line's parts.
#[derive(Debug, Default)]
pub(crate) struct Captured {
    bytes: Vec<u8>,
    ends: Vec<usize>,
    /// The address of the server that was asked last.
    upstream: Vec<u8>,
}

thread_local! {
    /// Memory of ended requests.
    #[allow(clippy::vec_box, reason = "a request has the box, which is handed on as it is")]
    static CAPTURED: RefCell<Vec<Box<Captured>>> = const { RefCell::new(Vec::new()) };
    /// The line that is being made.
    static LINE: RefCell<(Vec<u8>, Times)> = const { RefCell::new((Vec::new(), Times::NONE)) };
}

impl Captured {
    /// Takes the values that these parts tell.
    pub(super) fn of(parts: &[LogPart], start: &Start<'_>) -> Box<Self> {
        let mut own = CAPTURED.with_borrow_mut(Vec::pop).unwrap_or_default();
        for part in parts {
            if let LogPart::Variable(variable) = part {
                if start.write(variable, &mut own.bytes) {
                    own.ends.push(own.bytes.len());
                }
            }
        }
        own
    }

    /// Notes the server that is asked.
    pub(crate) fn set_upstream(&mut self, address: &dyn Display) {
        self.upstream.clear();
        // Writing to memory does not fail.
        let _ = write!(self.upstream, "{address}");
    }

    /// Leaves its memory to another request.
    pub(crate) fn keep(mut self: Box<Self>) {
        if self.bytes.capacity() > SPARE_BYTES {
            return;
        }
        self.bytes.clear();
        self.ends.clear();
        self.upstream.clear();
        // A thread that ends keeps none.
        let _ = CAPTURED.try_with(|all| {
            if let Ok(mut all) = all.try_borrow_mut() {
                if all.len() < SPARE {
                    all.push(self);
                }
            }
        });
    }
}

impl Start<'_> {
    /// Writes the value of a variable, and tells whether it is one that is known now.
    fn write(&self, variable: &LogVariable, to: &mut Vec<u8>) -> bool {
        let fact = match variable {
            LogVariable::Header(name) => {
                match cookie_of_many(&self.head.headers, name) {
                    Some(whole) => to.extend_from_slice(&whole),
                    None => {
                        let value = self.head.headers.get(name);
                        to.extend_from_slice(value.map_or(b"", |value| value.as_bytes()));
                    }
                }
                return true;
            }
            LogVariable::Plain(fact) => fact,
        };
        let uri = || {
            let raw = self.head.raw_path();
            let query = raw.iter().position(|b| *b == b'?');
            query.map_or((raw, &b""[..]), |at| (&raw[..at], &raw[at + 1..]))
        };
        match fact {
            Fact::ClientIp => {
                if let Some(ip) = self.client {
                    text::ip(ip.to_canonical(), to);
                }
            }
            Fact::Method => to.extend_from_slice(self.head.method.as_str().as_bytes()),
            Fact::Host => to.extend_from_slice(self.host()),
            Fact::Uri => to.extend_from_slice(self.head.raw_path()),
            Fact::Path => to.extend_from_slice(uri().0),
            Fact::Query => to.extend_from_slice(uri().1),
            Fact::Scheme => to.extend_from_slice(if self.secure { b"https" } else { b"http" }),
            Fact::Protocol => to.extend_from_slice(protocol(self.head.version)),
            _ => return false,
        }
        true
    }

    fn host(&self) -> &[u8] {
        match self.head.uri.authority() {
            Some(authority) => authority.as_str().as_bytes(),
            None => {
                let host = self.head.headers.get(http::header::HOST);
                host.map_or(b"", |host| host.as_bytes())
            }
        }
    }
}

fn protocol(version: Version) -> &'static [u8] {
    match version {
        Version::HTTP_10 => b"HTTP/1.0",
        Version::HTTP_11 => b"HTTP/1.1",
        Version::HTTP_2 => b"HTTP/2.0",
        Version::HTTP_3 => b"HTTP/3.0",
        _ => b"HTTP/0.9",
    }
}

/// Makes a line, and lends it.
pub(super) fn with(plan: &AccessLog, captured: &Captured, end: &End<'_>, f: impl FnOnce(&[u8])) {
    LINE.with_borrow_mut(|(line, times)| {
        line.clear();
        times.set(end.at.unwrap_or_else(Instant::now));
        write(plan, captured, end, times, line);
        f(line);
    });
}

fn write(plan: &AccessLog, captured: &Captured, end: &End<'_>, times: &Times, line: &mut Vec<u8>) {
    let (mut from, mut ends) = (0, captured.ends.iter());
    // All values at once, as they are short.
    let harmless = escape::is_harmless(&captured.bytes);
    for part in &plan.parts {
        let variable = match part {
            LogPart::Text(text) => {
                line.extend_from_slice(text.as_bytes());
                continue;
            }
            LogPart::Variable(variable) => variable,
        };
        let mut value = |value: &[u8]| match (plan.json, value.is_empty()) {
            (true, true) => line.extend_from_slice(b"null"),
            (true, false) => escape::json(value, line),
            (false, _) => escape::plain(value, line),
        };
        match variable {
            LogVariable::Plain(fact) if !is_of_start(*fact) => match fact {
                Fact::Time => {
                    if plan.json {
                        line.push(b'"');
                    }
                    line.extend_from_slice(&times.iso);
                    text::digits::<3>(times.millis, line);
                    line.extend_from_slice(if plan.json { b"Z\"" } else { b"Z" });
                }
                Fact::TimeLocal => value(times.local.as_bytes()),
                Fact::Upstream => value(&captured.upstream),
                Fact::Cache => value(end.cache.as_bytes()),
                Fact::Site => value(end.site.as_bytes()),
                Fact::Route => value(end.route.as_bytes()),
                Fact::RequestId => value(end.request_id.as_bytes()),
                Fact::TraceId => value(end.trace_id.as_bytes()),
                Fact::TlsVersion => value(end.tls_version.as_bytes()),
                Fact::Error => match end.error {
                    Some(e) => value(e.to_string().as_bytes()),
                    None => value(b""),
                },
                fact => number(*fact, end, plan.json, line),
            },
            // It was taken when the request came.
            _ => {
                let to = ends.next().copied().unwrap_or(from);
                let bytes = &captured.bytes[from..to];
                if harmless && !plan.json && !bytes.is_empty() {
                    line.extend_from_slice(bytes);
                } else {
                    value(bytes);
                }
                from = to;
            }
        }
    }
}

/// Tells whether a fact is known when a request comes.
fn is_of_start(fact: Fact) -> bool {
    use Fact::*;
    matches!(
        fact,
        ClientIp | Method | Host | Uri | Path | Query | Scheme | Protocol
    )
}

fn number(fact: Fact, end: &End<'_>, json: bool, line: &mut Vec<u8>) {
    match fact {
        Fact::Status if end.status == 0 => text::number(CLIENT_LEFT, line),
        Fact::Status => text::number(end.status, line),
        Fact::Bytes => text::number(end.bytes, line),
        Fact::BytesIn => text::number(end.bytes_in, line),
        Fact::Tries => text::number(end.tries, line),
        Fact::Duration => text::seconds(end.duration, line),
        _ => match end.upstream_duration {
            Some(time) => text::seconds(time, line),
            None => line.extend_from_slice(if json { b"null" } else { b"-" }),
        },
    }
}

/// The present second in print, which the lines of one second share.
struct Times {
    /// A moment by both clocks, of which one is read for a request.
    read: Option<(Instant, SystemTime)>,
    /// Seconds since the beginning of 1970.
    unix: u64,
    millis: u32,
    /// `2026-11-27T13:17:04.`
    iso: [u8; 20],
    local: String,
}

impl Times {
    const NONE: Self = Self {
        read: None,
        unix: 0,
        millis: 0,
        iso: [b'.'; 20],
        local: String::new(),
    };

    fn set(&mut self, at: Instant) {
        let now = self.read(at).duration_since(UNIX_EPOCH);
        let now = now.unwrap_or_default();
        self.millis = now.subsec_millis();
        if now.as_secs() == self.unix && !self.local.is_empty() {
            return;
        }
        self.unix = now.as_secs();
        let utc = Utc::at(i64::try_from(self.unix).unwrap_or(0));
        self.local = utc.common_log().to_string();
        // Without fractions, `2026-11-27T13:17:04Z`.
        let text = utc.to_string();
        let second = text.as_bytes().get(..19).unwrap_or(&[b'0'; 19]);
        self.iso[..19].copy_from_slice(second);
    }

    /// Returns the time of day at a moment. The clock that people set is read again after a second.
    fn read(&mut self, at: Instant) -> SystemTime {
        if let Some((then, time)) = self.read {
            match at.checked_duration_since(then) {
                Some(later) if later < READ_FOR => return time + later,
                _ => {}
            }
        }
        let now = SystemTime::now();
        self.read = Some((Instant::now(), now));
        now
    }
}
