//! The settings: flags and the settings file together.

use std::path::Path;
use std::time::Duration;

use clap::ValueEnum;
use pingora_core::listeners::AcceptStrategy;
use pingora_core::server::configuration::ServerConf;

use super::args::{Flags, Forwarded};
use super::limits::Limit;
use crate::cluster::authorities;
use crate::config::model;
use crate::data::Data;
use crate::{HAS_TLS, WITHOUT_TLS};

/// The keys that are this program's, and not the server's.
pub(super) const OWN_KEYS: [&str; 10] = [
    "access_log",
    "connect_timeout",
    "fail_timeout",
    "forwarded",
    "handshake_timeout",
    "max_fails",
    "read_timeout",
    "request_timeout",
    "response_timeout",
    "write_timeout",
];

/// Settings of the server that stand elsewhere in a configuration, or that say nothing.
const ELSEWHERE: [&str; 2] = ["accept_strategy", "version"];

/// The settings of the proxy.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Settings {
    pub(super) access_log: Option<String>,
    pub(super) forwarded: Forwarded,
    pub(super) max_fails: u32,
    pub(super) fail_timeout: Option<Duration>,
    pub(super) connect_timeout: Option<Duration>,
    pub(super) handshake_timeout: Option<Duration>,
    pub(super) response_timeout: Option<Duration>,
    pub(super) read_timeout: Option<Duration>,
    pub(super) write_timeout: Option<Duration>,
    pub(super) request_timeout: Option<Duration>,
    pub(super) accept: AcceptStrategy,
    /// Those of the process that the file names, as a configuration has them in `server`.
    pub(super) server: Data,
}

/// A settings file.
struct File {
    /// Its name in messages.
    name: String,
    text: String,
    entries: Vec<(String, Option<String>)>,
}

impl File {
    fn read(args: &Flags) -> Result<Self, String> {
        let (name, text) = match &args.conf {
            Some(file) => {
                let text = std::fs::read_to_string(file);
                let file = file.display().to_string();
                (
                    file.clone(),
                    text.map_err(|e| format!("--conf: cannot read {file}: {e}"))?,
                )
            }
            None => Default::default(),
        };
        let entries = ServerConf::entries(&text);
        Ok(File {
            name,
            text,
            entries,
        })
    }

    fn names(&self, key: &str) -> bool {
        self.entries.iter().any(|(named, _)| named == key)
    }

    /// The value that `read` makes of a key's.
    fn get<T>(
        &self,
        key: &str,
        read: impl Fn(&str) -> Result<T, String>,
    ) -> Result<Option<T>, String> {
        let mut entries = self.entries.iter();
        let text = match entries.find(|(named, _)| named == key) {
            None => return Ok(None),
            Some((_, None)) => {
                return Err(format!("{}: {key}: expected text or a number", self.name))
            }
            Some((_, Some(text))) if ["", "~", "null"].contains(&text.as_str()) => return Ok(None),
            Some((_, Some(text))) => text,
        };
        let read = read(text).map_err(|e| format!("{}: {key}: {e}", self.name))?;
        Ok(Some(read))
    }

    /// Warns of keys that nobody reads.
    fn warn_of_unknown_keys(&self) {
        for (key, meant) in ServerConf::unknown_keys(&self.text) {
            let name = &self.name;
            let flag = match key.as_str() {
                "listen" | "listener" | "listeners" => Some("--listen"),
                "upstream" | "upstreams" | "servers" | "backends" => Some("--upstream"),
                _ => None,
            };
            match (flag, meant) {
                _ if OWN_KEYS.contains(&key.as_str()) => {}
                (Some(flag), _) => log::warn!("{name}: unknown setting {key}: use the flag {flag}"),
                // The server warns of what looks like one of its own.
                (None, Some(_)) => {}
                (None, None) => log::warn!("{name}: unknown setting {key} is not heeded"),
            }
        }
    }
}

/// Tells whether a file names any setting, or what looks like one.
pub fn has_settings(text: &str) -> bool {
    let unknown = ServerConf::unknown_keys(text);
    let is_foreign = |key: &str| {
        let found = unknown.iter().find(|(other, _)| other == key);
        found.is_some_and(|(_, meant)| meant.is_none()) && !OWN_KEYS.contains(&key)
    };
    let entries = ServerConf::entries(text);
    entries.iter().any(|(key, _)| !is_foreign(key))
}

fn forwarded(text: &str) -> Result<Forwarded, String> {
    Forwarded::from_str(text, false).map_err(|_| "expected replace, append or pass".to_owned())
}

/// Reads them.
///
/// # Errors
/// In one line, which names the flag, or the file and the key.
pub(super) fn read(args: &Flags) -> Result<Settings, String> {
    let file = File::read(args)?;
    let conf = ServerConf::from_yaml(&file.text).map_err(|e| format!("{}: {e}", file.name))?;
    check_authorities(args, &conf, &file)?;
    file.warn_of_unknown_keys();
    let limit = |flag: Option<Limit>, key: &str, default: Limit| {
        let of_file = file.get(key, str::parse)?;
        Ok::<_, String>(flag.or(of_file).unwrap_or(default).0)
    };
    let number = |text: &str| {
        text.parse()
            .map_err(|_| "expected a whole number".to_owned())
    };
    let (five, sixty, off) = (Limit::seconds(5), Limit::seconds(60), Limit(None));
    Ok(Settings {
        access_log: access_log(args, &file)?,
        forwarded: args
            .forwarded
            .or(file.get("forwarded", forwarded)?)
            .unwrap_or_default(),
        max_fails: args
            .max_fails
            .or(file.get("max_fails", number)?)
            .unwrap_or(1),
        fail_timeout: limit(args.fail_timeout, "fail_timeout", Limit::seconds(10))?,
        connect_timeout: limit(args.connect_timeout, "connect_timeout", five)?,
        handshake_timeout: limit(args.handshake_timeout, "handshake_timeout", five)?,
        response_timeout: limit(args.response_timeout, "response_timeout", sixty)?,
        read_timeout: limit(args.read_timeout, "read_timeout", sixty)?,
        write_timeout: limit(args.write_timeout, "write_timeout", sixty)?,
        request_timeout: limit(args.request_timeout, "request_timeout", off)?,
        accept: args.accept.unwrap_or(conf.accept_strategy),
        server: server(args, &conf, &file),
    })
}

/// Returns the access log: `-`, or the whole path of a file, as a daemon runs in another folder.
fn access_log(args: &Flags, file: &File) -> Result<Option<String>, String> {
    let of_file = file.get("access_log", |text| Ok(text.to_owned()))?;
    let Some(log) = args.access_log.clone().or(of_file) else {
        return Ok(None);
    };
    if log == "-" {
        return Ok(Some(log));
    }
    let path = std::path::absolute(&log);
    let path = path.map_err(|e| format!("--access-log: cannot write to {log}: {e}"))?;
    Ok(Some(path.to_string_lossy().into_owned()))
}

/// Checks the certificates to trust in upstreams.
fn check_authorities(args: &Flags, conf: &ServerConf, file: &File) -> Result<(), String> {
    let of_file = conf.ca_file.as_ref();
    let trusted = match &args.upstream_ca {
        Some(ca) => Some((ca, "--upstream-ca".to_owned())),
        None => of_file.map(|ca| (ca, format!("{}: ca_file", file.name))),
    };
    let Some((ca, said_by)) = trusted else {
        return Ok(());
    };
    match authorities(Path::new(ca)) {
        _ if !HAS_TLS => Err(format!("{said_by}: {WITHOUT_TLS}")),
        Ok(0) => Err(format!("{said_by}: no certificate in {ca}")),
        Ok(_) => Ok(()),
        Err(e) => Err(format!("{said_by}: cannot use {ca}: {e}")),
    }
}

/// Returns what the file says of the process.
fn server(args: &Flags, conf: &ServerConf, file: &File) -> Data {
    let addresses = |list: &[String]| Data::List(list.iter().map(Data::text).collect());
    let mut server = Vec::new();
    let written = ServerConf::entries(&conf.to_yaml());
    for (key, value) in written.into_iter().filter(|(key, _)| file.names(key)) {
        let value = match (key.as_str(), value) {
            (key, _) if !model::Server::KEYS.contains(&key) => {
                if !ELSEWHERE.contains(&key) {
                    log::warn!("{}: {key} has no effect in this program", file.name);
                }
                continue;
            }
            ("client_bind_to_ipv4", _) => addresses(&conf.client_bind_to_ipv4),
            ("client_bind_to_ipv6", _) => addresses(&conf.client_bind_to_ipv6),
            (_, Some(text)) if text != "null" => Data::Text(text),
            _ => continue,
        };
        server.push((key, value));
    }
    if args.work_stealing {
        server.retain(|(key, _)| key != "work_stealing");
        server.push(("work_stealing".to_owned(), Data::Bool(true)));
    }
    if server.is_empty() {
        Data::Null
    } else {
        Data::Map(server)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;
    use std::io::Write;

    #[derive(Parser)]
    struct Command {
        #[command(flatten)]
        flags: Flags,
    }

    fn read(flags: &[&str], file: &str) -> Result<Settings, String> {
        let mut conf = tempfile::NamedTempFile::new().map_err(|e| e.to_string())?;
        conf.write_all(file.as_bytes()).map_err(|e| e.to_string())?;
        let path = conf.path().to_string_lossy().into_owned();
        let args = [&["reverse-proxy", "--conf", &path], flags].concat();
        let command = Command::try_parse_from(args).map_err(|e| e.to_string())?;
        super::read(&command.flags)
    }

    fn server(flags: &[&str], file: &str) -> String {
        read(flags, file).unwrap().server.to_yaml()
    }

    #[test]
    fn a_file_says_what_process_there_is_and_flags_win_over_it() {
        let named = "threads: 3\nwork_stealing: true\nupstream_keepalive_pool_size: 7\nuser: \"65534\"\n\
                     client_bind_to_ipv4: [127.0.0.2]\nversion: 1\npid_file: /run/a\nca_file: null\n";
        let same = "pid_file: /run/a\nuser: 65534\nthreads: 3\nwork_stealing: \"true\"\n";
        let said = server(&[], named);
        for line in same.lines() {
            assert!(said.contains(line), "{line} in {said}");
        }
        assert!(
            said.contains("client_bind_to_ipv4:\n  - 127.0.0.2\n"),
            "{said}"
        );
        assert!(
            !said.contains("version") && !said.contains("ca_file"),
            "{said}"
        );
        assert_eq!(read(&[], "version: 1\n").unwrap().server, Data::Null);
        let stealing = server(&["--work-stealing"], "work_stealing: false\n");
        assert_eq!(stealing, "work_stealing: true\n");
        let accept = |flags: &[&str], file: &str| read(flags, file).map(|settings| settings.accept);
        let file = "accept_strategy: reuseport\n";
        assert_eq!(accept(&[], file), Ok(AcceptStrategy::Reuseport));
        let mutex = accept(&["--accept", "mutex"], file);
        assert_eq!(mutex, Ok(AcceptStrategy::Mutex));
        assert!(accept(&["--accept", "best"], "").is_err_and(|e| e.contains("reuseport")));
    }

    #[test]
    fn limits_are_nginxs_unless_said_otherwise() {
        let limits = |flags: &[&str], file: &str| read(flags, file).expect("good settings");
        let seconds = |n| Some(Duration::from_secs(n));
        let default = limits(&[], "");
        assert_eq!(default.connect_timeout, seconds(5));
        assert_eq!(default.handshake_timeout, seconds(5));
        assert_eq!(default.response_timeout, seconds(60));
        assert_eq!(default.read_timeout, seconds(60));
        assert_eq!(default.write_timeout, seconds(60));
        assert_eq!(default.request_timeout, None);
        assert_eq!((default.max_fails, default.fail_timeout), (1, seconds(10)));
        assert_eq!(default.access_log, None);
        assert_eq!(default.forwarded, Forwarded::Replace);
        let file = "connect_timeout: 7\nread_timeout: off\nwrite_timeout: 500ms\nmax_fails: 3\n\
                    fail_timeout: 1m\nrequest_timeout: 1.5\naccess_log: /tmp/x\nforwarded: append\n";
        let of_file = limits(&[], file);
        assert_eq!(of_file.connect_timeout, seconds(7));
        assert_eq!(of_file.read_timeout, None);
        assert_eq!(of_file.write_timeout, Some(Duration::from_millis(500)));
        assert_eq!(of_file.request_timeout, Some(Duration::from_millis(1500)));
        assert_eq!((of_file.max_fails, of_file.fail_timeout), (3, seconds(60)));
        assert_eq!(of_file.access_log.as_deref(), Some("/tmp/x"));
        assert_eq!(of_file.forwarded, Forwarded::Append);
        let flags = limits(
            &[
                "--connect-timeout",
                "1",
                "--max-fails",
                "0",
                "--access-log",
                "-",
            ],
            file,
        );
        assert_eq!(flags.connect_timeout, seconds(1));
        assert_eq!(flags.max_fails, 0);
        assert_eq!(flags.access_log.as_deref(), Some("-"));
        for (file, names) in [
            (
                "connect_timeout: soon\n",
                "connect_timeout: bad time 'soon'",
            ),
            ("max_fails: -1\n", "max_fails: expected a whole number"),
            (
                "read_timeout: [1]\n",
                "read_timeout: expected text or a number",
            ),
            (
                "forwarded: 3\n",
                "forwarded: expected replace, append or pass",
            ),
        ] {
            assert!(read(&[], file).is_err_and(|e| e.contains(names)), "{file}");
        }
    }

    /// Every key stands in a table of docs/configuration.md, with the default of the library or of the program.
    #[test]
    fn the_guide_has_every_setting_and_its_default() {
        let guide = include_str!("../../../docs/configuration.md");
        let rows: Vec<Vec<&str>> = guide
            .lines()
            .filter(|line| line.starts_with("| `"))
            .map(|line| line.split('|').map(str::trim).collect())
            .collect();
        let find = |key: &str| {
            let name = format!("`{key}`");
            let mut found = rows.iter().filter(|row| row[1] == name);
            let row = found.next().unwrap_or_else(|| panic!("no row for {key}"));
            assert!(found.next().is_none(), "two rows for {key}");
            row
        };
        let defaults = ServerConf::entries(&ServerConf::default().to_yaml());
        let mut keys: Vec<&str> = OWN_KEYS.to_vec();
        for key in ServerConf::keys() {
            keys.push(key);
            let (_, default) = defaults.iter().find(|(k, _)| k == key).expect("every key");
            let default = match default.as_deref() {
                Some("null") => "none".to_owned(),
                None => "`[]`".to_owned(),
                Some(value) => format!("`{value}`"),
            };
            assert_eq!(find(key)[2], default, "the default of {key}");
        }
        for key in OWN_KEYS {
            let flag = format!("`--{}`", key.replace('_', "-"));
            assert_eq!(find(key)[2], flag, "the flag of {key}");
        }
        for row in &rows {
            let key = row[1].trim_matches('`');
            assert!(
                row[1].contains('-') || keys.contains(&key),
                "{key} is no setting"
            );
        }
    }
}
