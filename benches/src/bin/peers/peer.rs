//! The proxies: where they are, and how each is started under the same conditions.
//!
//! One worker for each core, connections to the origin kept (up to 1,024 for each worker), no log of requests, no
//! limit of requests for a connection; TLS 1.3 with the first cipher that the client offers, and no session resumed.
//! Everything else is as each comes.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::files::program;
use crate::load::Load;
use crate::scenario::Scenario;

#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Kind {
    Floor,
    Ours,
    /// The bench `cached`: hits from `MemCache`.
    MemCache,
    Nginx,
    Haproxy,
    Upstream,
    /// With `work_stealing: false`.
    UpstreamLocal,
}

impl Kind {
    pub(crate) const ALL: [Kind; 7] = [
        Kind::Floor,
        Kind::Ours,
        Kind::MemCache,
        Kind::Nginx,
        Kind::Haproxy,
        Kind::Upstream,
        Kind::UpstreamLocal,
    ];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Kind::Floor => "floor",
            Kind::Ours => "ours",
            Kind::MemCache => "memcache",
            Kind::Nginx => "nginx",
            Kind::Haproxy => "haproxy",
            Kind::Upstream => "upstream",
            Kind::UpstreamLocal => "upstream-local",
        }
    }
}

/// Programs that were built before, in place of ones that are built now.
pub(crate) struct Built {
    pub(crate) ours: Option<PathBuf>,
    pub(crate) upstream: Option<PathBuf>,
}

/// A proxy that can be started.
pub(crate) struct Peer {
    pub(crate) kind: Kind,
    program: PathBuf,
    pub(crate) version: String,
}

/// Where and how it is to run.
pub(crate) struct Place<'a> {
    pub(crate) listen: SocketAddr,
    pub(crate) origin: SocketAddr,
    pub(crate) workers: usize,
    pub(crate) tls: bool,
    /// It is to answer from its cache.
    pub(crate) cached: bool,
    pub(crate) dir: &'a Path,
    /// How many files it may open.
    pub(crate) files: u64,
}

impl Peer {
    /// Finds or builds it.
    pub(crate) fn find(kind: Kind, built: &Built) -> Result<Self, String> {
        let installed = |name: &str, package: &str| {
            program(name).ok_or_else(|| format!("not installed (Debian: {package})"))
        };
        let program = match kind {
            Kind::Floor => std::env::current_exe().map_err(|e| e.to_string())?,
            Kind::Ours => match &built.ours {
                Some(path) => given(path)?,
                None => build("edge", "reverse-proxy")?,
            },
            Kind::MemCache => build("benches", "cached")?,
            Kind::Nginx => installed("nginx", "nginx-light")?,
            Kind::Haproxy => installed("haproxy", "haproxy")?,
            Kind::Upstream | Kind::UpstreamLocal => match &built.upstream {
                Some(path) => given(path)?,
                None => build_upstream()?,
            },
        };
        if !program.is_file() {
            return Err(format!("there is no {}", program.display()));
        }
        let version = match kind {
            Kind::Floor => "a bare pass-through on epoll, in this program".into(),
            Kind::Ours if built.ours.is_some() => first_line(&program, "--version"),
            Kind::Ours => format!("{}{}", first_line(&program, "--version"), commit()),
            Kind::MemCache => "the bench `cached`, a proxy over `MemCache`".into(),
            Kind::Nginx | Kind::Haproxy => first_line(&program, "-v"),
            Kind::Upstream => "pingora-proxy 0.9.1 as published, rustls".into(),
            Kind::UpstreamLocal => "the same with `work_stealing: false`".into(),
        };
        Ok(Peer {
            kind,
            program,
            version,
        })
    }

    /// Returns whether this can be asked of it. The pass-through has no TLS, and is no floor where others keep connections
    /// to the origin of which it makes a new one.
    ///
    /// Of the caches of others only nginx's may be compared with ours.
    pub(crate) fn can(&self, scenario: &Scenario) -> bool {
        let connects = matches!(scenario.load, Some(Load::Connect(_)));
        match self.kind {
            Kind::Ours | Kind::Nginx => true,
            Kind::MemCache => scenario.cached,
            Kind::Floor => !scenario.cached && !scenario.tls && !connects,
            Kind::Haproxy | Kind::Upstream | Kind::UpstreamLocal => !scenario.cached,
        }
    }

    /// The command that runs it there. What it needs is written into the folder.
    pub(crate) fn command(&self, at: &Place<'_>) -> Result<Command, String> {
        let mut command = Command::new(&self.program);
        let (listen, origin) = (at.listen.to_string(), at.origin.to_string());
        let workers = at.workers.to_string();
        let write = |name: &str, text: String| {
            let path = at.dir.join(name);
            std::fs::write(&path, text).map_err(|e| format!("{}: {e}", path.display()))?;
            Ok::<_, String>(path)
        };
        match self.kind {
            Kind::Floor => {
                command.args(["--floor", &listen, "--origin", &origin]);
                command.args(["--workers", &workers]);
            }
            Kind::MemCache => {
                command.args(["--listen", &listen, "--upstream", &origin]);
                command.args(["--threads", &workers]);
            }
            Kind::Ours if at.cached => {
                command.arg("-c").arg(write("ours.yaml", cached(at))?);
            }
            Kind::Ours => {
                let conf = write("ours.yaml", OURS.into())?;
                command.args(["--listen", &listen, "--upstream", &origin]);
                command.args(["--threads", &workers, "--conf"]).arg(conf);
                if at.tls {
                    command.arg("--tls-cert").arg(at.dir.join("cert.pem"));
                    command.arg("--tls-key").arg(at.dir.join("key.pem"));
                }
            }
            Kind::Nginx => {
                let conf = write("nginx.conf", nginx(at))?;
                command.arg("-p").arg(at.dir).arg("-c").arg(conf);
            }
            Kind::Haproxy => {
                let conf = write("haproxy.cfg", haproxy(at))?;
                command.arg("-db").arg("-f").arg(conf);
            }
            Kind::Upstream | Kind::UpstreamLocal => {
                let stealing = match self.kind {
                    Kind::Upstream => "steal",
                    _ => "nosteal",
                };
                command.args([&listen, &origin, &workers, stealing]);
                if at.tls {
                    command.arg(at.dir);
                }
            }
        }
        Ok(command)
    }

    /// The file in the folder that configures it, if one does.
    pub(crate) fn conf(&self) -> Option<&'static str> {
        match self.kind {
            Kind::Ours => Some("ours.yaml"),
            Kind::Nginx => Some("nginx.conf"),
            Kind::Haproxy => Some("haproxy.cfg"),
            _ => None,
        }
    }
}

const OURS: &str = "---\nversion: 1\nupstream_keepalive_pool_size: 1024\n";

/// The file of `reverse-proxy` with a cache, where answers are fresh for as long as in that of nginx.
fn cached(at: &Place<'_>) -> String {
    let Place {
        listen,
        origin,
        workers,
        ..
    } = at;
    format!(
        "listen: \"{listen}\"
server: {{threads: {workers}}}
sites:
  - routes:
      - proxy: {{to: \"{origin}\", cache: {{ttl: 1h}}}}
"
    )
}

fn nginx(at: &Place<'_>) -> String {
    let Place {
        listen,
        origin,
        workers,
        ..
    } = at;
    let dir = at.dir.display();
    let files = at.files.saturating_sub(100);
    let (kind, tls) = match at.tls {
        true => (
            " ssl http2",
            format!(
                "\n    ssl_certificate {dir}/cert.pem;\n    ssl_certificate_key {dir}/key.pem;\n    \
                 ssl_protocols TLSv1.2 TLSv1.3;\n    ssl_session_tickets off;\n    ssl_session_cache off;"
            ),
        ),
        false => ("", String::new()),
    };
    // The folder lies in the page cache of the kernel, as a cache that is used does.
    let (store, cache) = match at.cached {
        true => (
            format!("  proxy_cache_path {dir}/nginx-cache keys_zone=cache:10m;\n"),
            "\n      proxy_cache cache;\n      proxy_cache_valid 200 1h;",
        ),
        false => (String::new(), ""),
    };
    let temps = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"];
    let temps: Vec<String> = temps
        .iter()
        .map(|of| format!("  {of}_temp_path {dir}/nginx-{of};\n"))
        .collect();
    let temps = temps.concat();
    format!(
        "worker_processes {workers};
daemon off;
pid {dir}/nginx.pid;
error_log stderr crit;
events {{
  worker_connections {files};
}}
http {{
  access_log off;
  keepalive_requests 100000000;
  keepalive_timeout 300s;
{temps}{store}  upstream origin {{
    server {origin};
    keepalive 1024;
    keepalive_requests 100000000;
  }}
  server {{
    listen {listen}{kind} backlog=4096;{tls}
    location / {{
      proxy_pass http://origin;
      proxy_http_version 1.1;
      proxy_set_header Connection \"\";{cache}
    }}
  }}
}}
"
    )
}

fn haproxy(at: &Place<'_>) -> String {
    let Place {
        listen,
        origin,
        workers,
        ..
    } = at;
    let dir = at.dir.display();
    let tls = match at.tls {
        true => {
            format!(" ssl crt {dir}/both.pem alpn h2,http/1.1 prefer-client-ciphers no-tls-tickets")
        }
        false => String::new(),
    };
    format!(
        "global
  nbthread {workers}
  tune.ssl.cachesize 0
defaults
  mode http
  timeout connect 5s
  timeout client 300s
  timeout server 300s
  timeout http-keep-alive 300s
  option http-keep-alive
  http-reuse always
frontend clients
  bind {listen} backlog 4096{tls}
  default_backend origin
backend origin
  server origin {origin} pool-max-conn {}
",
        1024 * at.workers
    )
}

/// The first line that a program prints about itself.
pub(crate) fn first_line(program: &Path, flag: &str) -> String {
    let Ok(output) = Command::new(program).arg(flag).output() else {
        return "version unknown".into();
    };
    let text = [output.stdout, output.stderr].concat();
    let text = String::from_utf8_lossy(&text).into_owned();
    text.lines()
        .next()
        .unwrap_or("version unknown")
        .trim()
        .to_owned()
}

fn given(path: &Path) -> Result<PathBuf, String> {
    path.canonicalize()
        .map_err(|e| format!("{}: {e}", path.display()))
}

/// The root of this repository.
pub(crate) fn root() -> PathBuf {
    let benches = Path::new(env!("CARGO_MANIFEST_DIR"));
    benches.parent().unwrap_or(benches).to_owned()
}

/// Which state of the repository is built from it, if that is known.
fn commit() -> String {
    let mut git = Command::new("git");
    git.arg("-C")
        .arg(root())
        .args(["describe", "--always", "--dirty"]);
    let said = git.output().ok().filter(|output| output.status.success());
    let name = said.map(|output| String::from_utf8_lossy(&output.stdout).trim().to_owned());
    name.map_or(String::new(), |name| format!(", commit {name}"))
}

fn build(package: &str, bin: &str) -> Result<PathBuf, String> {
    // Next to this program, so that what was built for it is used again.
    let exe = std::env::current_exe().map_err(|e| e.to_string())?;
    let target = exe
        .ancestors()
        .nth(2)
        .ok_or("no folder of built programs")?;
    let mut cargo = cargo(target);
    cargo.args(["-p", package, "--bin", bin]);
    cargo.arg("--manifest-path").arg(root().join("Cargo.toml"));
    finish(cargo)?;
    Ok(target.join("release").join(bin))
}

fn build_upstream() -> Result<PathBuf, String> {
    let target = root().join("target/upstream-0.9.1");
    let mut cargo = cargo(&target);
    cargo.args(["--bin", "peer", "--features", "rustls"]);
    let project = root().join("examples/upstream-0.9.1/Cargo.toml");
    cargo.arg("--manifest-path").arg(project);
    finish(cargo)?;
    Ok(target.join("release/peer"))
}

fn cargo(target: &Path) -> Command {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = Command::new(cargo);
    command.args(["build", "--release", "--locked", "--target-dir"]);
    command.arg(target);
    command
}

fn finish(mut cargo: Command) -> Result<(), String> {
    let status = cargo
        .status()
        .map_err(|e| format!("cannot run cargo: {e}"))?;
    match status.success() {
        true => Ok(()),
        false => Err("cargo could not build it".into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(tls: bool) -> Place<'static> {
        Place {
            listen: ([127, 0, 0, 1], 81).into(),
            origin: ([127, 0, 0, 1], 82).into(),
            workers: 3,
            tls,
            cached: false,
            dir: Path::new("/d"),
            files: 1000,
        }
    }

    #[test]
    fn configurations_say_where_and_how_many() {
        let plain = nginx(&place(false));
        assert!(plain.contains("worker_processes 3;") && plain.contains("listen 127.0.0.1:81 b"));
        assert!(plain.contains("server 127.0.0.1:82;") && !plain.contains("ssl"));
        assert!(!plain.contains("cache"));
        let mut cached = place(false);
        cached.cached = true;
        let cached = nginx(&cached);
        assert!(
            cached.contains("proxy_cache_path /d/nginx-cache")
                && cached.contains("proxy_cache cache;")
        );
        let ours = self::cached(&place(false));
        assert!(ours.contains("listen: \"127.0.0.1:81\"\nserver: {threads: 3}"));
        assert!(ours.contains("to: \"127.0.0.1:82\", cache: {ttl: 1h}"));
        let tls = nginx(&place(true));
        assert!(tls.contains(":81 ssl http2 backlog") && tls.contains("/d/key.pem;"));
        let plain = haproxy(&place(false));
        assert!(
            plain.contains("nbthread 3\n") && plain.contains("bind 127.0.0.1:81 backlog 4096\n")
        );
        assert!(plain.contains("server origin 127.0.0.1:82 pool-max-conn 3072\n"));
        assert!(haproxy(&place(true)).contains("ssl crt /d/both.pem alpn h2,http/1.1"));
    }
}
