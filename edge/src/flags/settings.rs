//! The settings: flags and the settings file together.

use std::time::Duration;

use crate::certificates::{self, Certificates};
use crate::forwarded::Forwarded;
use crate::upstreams::Health;
use crate::{program, HAS_TLS, WITHOUT_TLS};
use clap::ValueEnum;
use pingora_core::server::configuration::ServerConf;

use super::args::Flags;
use super::limits::Limit;

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

/// Settings that this program chooses better than the library's defaults, which must suit every
/// program. A settings file that names one of them is obeyed.
pub(super) const POOLED_CONNECTIONS: usize = 1024;

/// The settings of the proxy itself.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Settings {
    pub(super) access_log: Option<String>,
    pub(super) forwarded: Forwarded,
    pub(super) health: Health,
    pub(super) connect_timeout: Option<Duration>,
    pub(super) handshake_timeout: Option<Duration>,
    pub(super) response_timeout: Option<Duration>,
    pub(super) read_timeout: Option<Duration>,
    pub(super) write_timeout: Option<Duration>,
    pub(super) request_timeout: Option<Duration>,
}

/// A settings file.
struct File {
    /// What it is called in messages.
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

    /// What `read` makes of a key's value.
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

fn forwarded(text: &str) -> Result<Forwarded, String> {
    Forwarded::from_str(text, false).map_err(|_| "expected replace, append or pass".to_owned())
}

/// The settings of the server, and those of the proxy.
///
/// # Errors
/// In one line, which names the flag, or the file and the key.
pub(super) fn read(args: &Flags) -> Result<(ServerConf, Settings), String> {
    let file = File::read(args)?;
    let conf = server_conf(args, &file)?;
    file.warn_of_unknown_keys();
    let limit = |flag: Option<Limit>, key: &str, default: Limit| {
        let of_file = file.get(key, str::parse)?;
        Ok::<_, String>(flag.or(of_file).unwrap_or(default).0)
    };
    let number = |text: &str| {
        text.parse()
            .map_err(|_| "expected a whole number".to_owned())
    };
    let default = Health::default();
    let fail_timeout = limit(
        args.fail_timeout,
        "fail_timeout",
        Limit(Some(default.fail_timeout)),
    )?;
    let health = Health {
        max_fails: args
            .max_fails
            .or(file.get("max_fails", number)?)
            .unwrap_or(default.max_fails),
        fail_timeout: fail_timeout.unwrap_or_default(),
    };
    let settings = Settings {
        access_log: args
            .access_log
            .clone()
            .or(file.get("access_log", |text| Ok(text.to_owned()))?),
        forwarded: args
            .forwarded
            .or(file.get("forwarded", forwarded)?)
            .unwrap_or_default(),
        health,
        connect_timeout: limit(args.connect_timeout, "connect_timeout", Limit::seconds(5))?,
        handshake_timeout: limit(
            args.handshake_timeout,
            "handshake_timeout",
            Limit::seconds(5),
        )?,
        response_timeout: limit(
            args.response_timeout,
            "response_timeout",
            Limit::seconds(60),
        )?,
        read_timeout: limit(args.read_timeout, "read_timeout", Limit::seconds(60))?,
        write_timeout: limit(args.write_timeout, "write_timeout", Limit::seconds(60))?,
        request_timeout: limit(args.request_timeout, "request_timeout", Limit(None))?,
    };
    Ok((conf, settings))
}

fn server_conf(args: &Flags, file: &File) -> Result<ServerConf, String> {
    let defaults = ServerConf {
        work_stealing: false,
        upstream_keepalive_pool_size: POOLED_CONNECTIONS,
        threads: std::thread::available_parallelism().map_or(1, usize::from),
        ..ServerConf::default()
    };
    let conf = ServerConf::from_yaml_with_defaults(&file.text, &defaults);
    let mut conf = conf.map_err(|e| format!("{}: {e}", file.name))?;
    conf.work_stealing |= args.work_stealing;
    conf.daemon |= args.daemon;
    if let Some(strategy) = args.accept {
        conf.accept_strategy = strategy;
    }
    match args.threads {
        Some(0) => return Err("--threads must be at least 1".into()),
        Some(threads) => conf.threads = threads,
        None => (),
    }
    let said = |key: &str| conf.daemon || file.names(key);
    program::check_process(&conf, said)?;
    let trusted = match &args.upstream_ca {
        Some(ca) => Some((ca, "--upstream-ca".to_owned())),
        None => conf
            .ca_file
            .as_ref()
            .map(|ca| (ca, format!("{}: ca_file", file.name))),
    };
    if let Some((ca, said_by)) = trusted {
        let ca = ca.clone();
        match certificates::authorities(&ca) {
            _ if !HAS_TLS => return Err(format!("{said_by}: {WITHOUT_TLS}")),
            Ok(0) => return Err(format!("{said_by}: no certificate in {ca}")),
            Ok(_) => conf.ca_file = Some(ca),
            Err(e) => return Err(format!("{said_by}: cannot use {ca}: {e}")),
        }
    }
    Ok(conf)
}

/// The certificate to serve with; none for clear text.
///
/// # Errors
/// When it cannot be used.
pub(super) fn certificates(args: &Flags) -> Result<Option<std::sync::Arc<Certificates>>, String> {
    let (Some(cert), Some(key)) = (&args.tls_cert, &args.tls_key) else {
        return Ok(None);
    };
    let certificates = Certificates::load(cert, key);
    certificates
        .map(Some)
        .map_err(|e| format!("--tls-cert and --tls-key: {e}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;
    use pingora_core::listeners::AcceptStrategy;
    use std::io::Write;

    #[derive(Parser)]
    struct Command {
        #[command(flatten)]
        flags: Flags,
    }

    fn read(flags: &[&str], file: &str) -> Result<(ServerConf, Settings), String> {
        let mut conf = tempfile::NamedTempFile::new().map_err(|e| e.to_string())?;
        conf.write_all(file.as_bytes()).map_err(|e| e.to_string())?;
        let path = conf.path().to_string_lossy().into_owned();
        let args = [&["reverse-proxy", "--conf", &path], flags].concat();
        let command = Command::try_parse_from(args).map_err(|e| e.to_string())?;
        super::read(&command.flags)
    }

    fn conf(flags: &[&str], file: &str) -> Result<ServerConf, String> {
        read(flags, file).map(|(conf, _)| conf)
    }

    #[test]
    fn what_a_file_does_not_say_is_chosen_by_the_program() {
        let conf = conf(&[], "version: 1\n").expect("good settings");
        assert!(!conf.work_stealing);
        assert_eq!(conf.upstream_keepalive_pool_size, POOLED_CONNECTIONS);
        assert!(conf.threads >= 1);
    }

    #[test]
    fn a_file_wins_over_the_program_and_flags_win_over_the_file() {
        let file = "threads: 3\nwork_stealing: true\nupstream_keepalive_pool_size: 7\n";
        let of_file = conf(&[], file).expect("good settings");
        assert_eq!(of_file.threads, 3);
        assert!(of_file.work_stealing);
        assert_eq!(of_file.upstream_keepalive_pool_size, 7);
        let threads = conf(&["--threads", "5"], file).map(|conf| conf.threads);
        assert_eq!(threads, Ok(5));
        let accept = conf(&["--accept", "mutex"], "accept_strategy: reuseport\n");
        assert_eq!(
            accept.map(|conf| conf.accept_strategy),
            Ok(AcceptStrategy::Mutex)
        );
        assert!(conf(&["--accept", "best"], "").is_err_and(|e| e.contains("reuseport")));
        let stealing = conf(&["--work-stealing"], "work_stealing: false\n");
        assert_eq!(stealing.map(|conf| conf.work_stealing), Ok(true));
    }

    #[test]
    fn limits_are_nginxs_unless_said_otherwise() {
        let limits = |flags: &[&str], file: &str| read(flags, file).expect("good settings").1;
        let seconds = |n| Some(Duration::from_secs(n));
        let default = limits(&[], "");
        assert_eq!(default.connect_timeout, seconds(5));
        assert_eq!(default.handshake_timeout, seconds(5));
        assert_eq!(default.response_timeout, seconds(60));
        assert_eq!(default.read_timeout, seconds(60));
        assert_eq!(default.write_timeout, seconds(60));
        assert_eq!(default.request_timeout, None);
        assert_eq!(default.health, Health::default());
        assert_eq!(default.access_log, None);
        assert_eq!(default.forwarded, Forwarded::Replace);
        let file = "connect_timeout: 7\nread_timeout: off\nwrite_timeout: 500ms\nmax_fails: 3\n\
                    fail_timeout: 1m\nrequest_timeout: 1.5\naccess_log: /x\nforwarded: append\n";
        let of_file = limits(&[], file);
        assert_eq!(of_file.connect_timeout, seconds(7));
        assert_eq!(of_file.read_timeout, None);
        assert_eq!(of_file.write_timeout, Some(Duration::from_millis(500)));
        assert_eq!(of_file.request_timeout, Some(Duration::from_millis(1500)));
        assert_eq!(
            (
                of_file.health.max_fails,
                of_file.health.fail_timeout.as_secs()
            ),
            (3, 60)
        );
        assert_eq!(of_file.access_log.as_deref(), Some("/x"));
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
        assert_eq!(flags.health.max_fails, 0);
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
