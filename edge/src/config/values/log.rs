//! Lines of access logs.

use std::path::PathBuf;

use http::HeaderName;

use super::braces;
use crate::config::section::{closest, did_you_mean, list, Scalar};

/// The place that an access log is written to.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum LogTarget {
    /// Standard output.
    Stdout,
    /// A file.
    File(PathBuf),
}

impl Scalar for LogTarget {
    const WHAT: &'static str = "a place for a log";
    const ALLOWED: &'static str =
        "`stdout` or the path of a file with a `/`, such as `/var/log/access.log`";

    fn parse(text: &str) -> Result<Self, String> {
        match text {
            "stdout" => Ok(Self::Stdout),
            _ if text.contains('/') && !text.contains('\0') => Ok(Self::File(text.into())),
            _ => Err(did_you_mean(text, &["stdout"])),
        }
    }

    fn show(&self) -> String {
        match self {
            Self::Stdout => "stdout".to_owned(),
            Self::File(path) => path.to_string_lossy().into_owned(),
        }
    }
}

/// A variable of a line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LogVariable {
    /// One of those without a parameter.
    Plain(Fact),
    /// A header of the request.
    Header(HeaderName),
}

/// Declares the variables without a parameter.
macro_rules! facts {
    ($($(#[doc = $doc:literal])* $fact:ident = $name:literal),* $(,)?) => {
        /// Facts that a line can tell of each request.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum Fact {
            $($(#[doc = $doc])* $fact,)*
        }

        impl Fact {
            /// All of them, with their names and what they are.
            pub const ALL: &'static [(Self, &'static str, &'static str)] =
                &[$((Self::$fact, $name, concat!($($doc),*))),*];
        }
    };
}

facts! {
    /// The time of the end of the request, such as `2026-11-27T13:17:04.250Z`.
    Time = "time",
    /// The same as `27/Nov/2026:13:17:04 +0000`.
    TimeLocal = "time_local",
    /// The address of the client.
    ClientIp = "client_ip",
    /// The method.
    Method = "method",
    /// The host that was asked for.
    Host = "host",
    /// Path and query as they were received.
    Uri = "uri",
    /// The path as it was received.
    Path = "path",
    /// The query, without `?`.
    Query = "query",
    /// `http` or `https`.
    Scheme = "scheme",
    /// The version of HTTP, such as `HTTP/1.1`.
    Protocol = "protocol",
    /// The version of TLS, such as `TLSv1.3`.
    TlsVersion = "tls_version",
    /// The status of the answer; 499 when the client left before there was one.
    Status = "status",
    /// Bytes of the body of the answer.
    Bytes = "bytes",
    /// Bytes of the body of the request.
    BytesIn = "bytes_in",
    /// Seconds from the head of the request to the end of the answer.
    Duration = "duration",
    /// The address of the server that was asked last.
    Upstream = "upstream",
    /// Seconds from the choice of that server to the head of its answer.
    UpstreamDuration = "upstream_duration",
    /// The number of servers that were asked, one after another.
    Tries = "tries",
    /// The part of the cache, where the route has one: `hit`, `stale`, `revalidated`, `expired`, `miss` or `bypass`.
    Cache = "cache",
    /// The name of the site.
    Site = "site",
    /// The name of the route.
    Route = "route",
    /// The id of the request.
    RequestId = "request_id",
    /// The id of the trace.
    TraceId = "trace_id",
    /// The error that ended the request.
    Error = "error",
}

impl Scalar for LogVariable {
    const WHAT: &'static str = "a variable of a log";
    const ALLOWED: &'static str = "a name such as `status` or `header.user-agent`";

    fn parse(name: &str) -> Result<Self, String> {
        if let Some((fact, ..)) = Fact::ALL.iter().find(|(_, known, _)| *known == name) {
            return Ok(Self::Plain(*fact));
        }
        if let Some(("header", header)) = name.split_once('.') {
            let header = HeaderName::from_bytes(header.as_bytes());
            return header
                .map(Self::Header)
                .map_err(|_| "what stands after `header.` is no name of a header".to_owned());
        }
        let mut names: Vec<_> = Fact::ALL.iter().map(|(_, name, _)| *name).collect();
        if let Some(meant) = closest(name, &names) {
            return Err(format!("did you mean `{meant}`?"));
        }
        names.push("header.NAME");
        Err(format!("there are {}", list(&names)))
    }

    fn show(&self) -> String {
        match self {
            Self::Header(name) => format!("header.{name}"),
            Self::Plain(fact) => {
                let found = Fact::ALL.iter().find(|(known, ..)| known == fact);
                found.map_or("", |(_, name, _)| name).to_owned()
            }
        }
    }
}

/// The form of a line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LogFormat {
    /// The Common Log Format.
    Common,
    /// The same with Referer and User-Agent.
    Combined,
    /// A JSON object.
    Json,
    /// A text with variables.
    Template(Vec<LogPart>),
}

/// A part of a line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LogPart {
    /// This text.
    Text(String),
    /// The value of a variable.
    Variable(LogVariable),
}

const WORDS: [&str; 3] = ["common", "combined", "json"];
const COMMON: &str =
    "{client_ip} - - [{time_local}] \"{method} {uri} {protocol}\" {status} {bytes}";
const MORE: &str = " \"{header.referer}\" \"{header.user-agent}\"";

impl LogFormat {
    /// Returns the parts of a line; `None` for JSON.
    pub fn parts(&self) -> Option<Vec<LogPart>> {
        match self {
            Self::Json => None,
            Self::Common => parts(COMMON).ok(),
            Self::Combined => parts(&format!("{COMMON}{MORE}")).ok(),
            Self::Template(parts) => Some(parts.clone()),
        }
    }
}

fn parts(text: &str) -> Result<Vec<LogPart>, String> {
    braces::split(text, LogPart::Text, |name| {
        let variable = LogVariable::parse(name);
        let unknown = |why| format!("there is no variable {{{name}}}; {why}");
        variable.map(LogPart::Variable).map_err(unknown)
    })
}

impl Scalar for LogFormat {
    const WHAT: &'static str = "a form of a log";
    const ALLOWED: &'static str =
        "`common`, `combined`, `json`, or a text with variables such as `{client_ip} {status}`";

    fn parse(text: &str) -> Result<Self, String> {
        match text {
            "common" => Ok(Self::Common),
            "combined" => Ok(Self::Combined),
            "json" => Ok(Self::Json),
            _ if !text.contains('{') => Err(did_you_mean(text, &WORDS)),
            _ if text.chars().any(|c| c.is_control() && c != '\t') => {
                Err("it holds a control character".to_owned())
            }
            _ => parts(text).map(Self::Template),
        }
    }

    fn show(&self) -> String {
        let part = |part: &LogPart| match part {
            LogPart::Text(text) => braces::plain(text),
            LogPart::Variable(variable) => format!("{{{}}}", variable.show()),
        };
        match self {
            Self::Common => "common".to_owned(),
            Self::Combined => "combined".to_owned(),
            Self::Json => "json".to_owned(),
            Self::Template(parts) => parts.iter().map(part).collect(),
        }
    }
}
