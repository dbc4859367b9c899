//! The text of a configuration that says what flags and settings say.

use std::collections::HashSet;
use std::net::SocketAddr;
use std::time::Duration;

use pingora_core::listeners::AcceptStrategy;

use super::args::{Flags, Forwarded};
use super::settings::Settings;
use crate::config;
use crate::config::section::Scalar;
use crate::config::values::{Address, TimeLimit};
use crate::data::Data;
use crate::upstream::Upstream;
use crate::{HAS_TLS, WITHOUT_TLS};

/// The demo's own admin interface.
const ADMIN: &str = "127.0.0.1:9900";
/// A line of the access log: Apache's and nginx's "combined", the seconds that the request took, and its server.
const LINE: &str = "{client_ip} - - [{time_local}] \"{method} {uri} {protocol}\" {status} {bytes} \
                    \"{header.referer}\" \"{header.user-agent}\" {duration} {upstream}";

/// The addresses that flags name.
pub(super) struct Wanted {
    listen: Vec<Address>,
    admin: Option<Address>,
    pub(super) upstreams: Vec<Upstream>,
}

impl Wanted {
    /// Reads them.
    ///
    /// # Errors
    ///
    /// Names the flag and its value, in one line.
    pub(super) fn of(flags: &Flags) -> Result<Self, String> {
        let mut listen: Vec<Address> = Vec::new();
        for text in flags.addresses() {
            let address = local(&text).map_err(|e| format!("--listen: {e}"))?;
            if listen.contains(&address) {
                let place = text.trim_start_matches("unix:");
                return Err(format!(
                    "--listen: cannot listen on {place}: it is given twice"
                ));
            }
            listen.push(address);
        }
        let admin = flags.admin.as_deref().map(local).transpose();
        let admin = admin.map_err(|e| format!("--admin: {e}"))?;
        let upstreams = flags.upstream.iter().map(|text| text.parse());
        let upstreams: Result<Vec<Upstream>, String> = upstreams.collect();
        let wanted = Self {
            listen,
            admin: admin.or_else(|| demo_admin(flags)),
            upstreams: upstreams.map_err(|e| format!("--upstream: {e}"))?,
        };
        wanted.check(flags)?;
        Ok(wanted)
    }

    fn check(&self, flags: &Flags) -> Result<(), String> {
        if let Some(address) = &self.admin {
            if self.listen.contains(address) {
                return Err(format!("--admin: {address} is listened on already"));
            }
            if let Address::Ip(ip) = address {
                if !ip.ip().to_canonical().is_loopback() {
                    let why = "other machines reach it; a configuration can set a token for it";
                    return Err(format!("--admin: bad address '{address}': {why}"));
                }
            }
        }
        let mut seen = HashSet::new();
        for Upstream { address, tls } in &self.upstreams {
            let tls = tls.unwrap_or(flags.upstream_tls);
            if tls && !HAS_TLS {
                return Err(format!("--upstream: {address}: {WITHOUT_TLS}"));
            }
            let nameless = matches!(address, Address::Unix(_)) && flags.upstream_sni.is_none();
            if tls && nameless {
                return Err(format!(
                    "--upstream: with TLS {address} needs --upstream-sni"
                ));
            }
            if seen.contains(&(address, !tls)) {
                return Err(format!(
                    "--upstream: {address} is given with TLS and without"
                ));
            }
            seen.insert((address, tls));
        }
        Ok(())
    }
}

/// Reads an address to listen on.
fn local(text: &str) -> Result<Address, String> {
    let bad = |why: &str| {
        format!("bad address '{text}': {why}; write IP:PORT, as in 127.0.0.1:8080, or unix:/PATH")
    };
    match Address::parse(text) {
        Ok(Address::Name(..)) => Err(bad("it is a name")),
        Ok(address) => Ok(address),
        Err(why) => Err(bad(&why)),
    }
}

fn demo_admin(flags: &Flags) -> Option<Address> {
    let nothing = flags.conf.is_none() && flags.beside_a_configuration().is_none();
    let address = || Address::parse(ADMIN).ok();
    nothing.then(address).flatten()
}

/// Returns the text.
pub(super) fn text(
    flags: &Flags,
    wanted: &Wanted,
    settings: &Settings,
    demo: Option<SocketAddr>,
) -> String {
    let tls = flags.tls_cert.as_ref().zip(flags.tls_key.as_ref());
    let tls = tls.map_or(Data::Null, |(cert, key)| {
        Data::map([("cert", Data::text(cert)), ("key", Data::text(key))])
    });
    let route = Data::map([("proxy", proxy(flags, wanted, settings, demo))]);
    let site = Data::map([("tls", tls), ("routes", Data::List(vec![route]))]);
    let (mode, trusted) = forwarded(settings.forwarded);
    let listen = wanted.listen.iter();
    let root = Data::map([
        (
            "listen",
            Data::List(listen.map(|at| listener(flags, settings, at)).collect()),
        ),
        (
            "admin",
            wanted
                .admin
                .as_ref()
                .map_or(Data::Null, |address| Data::Text(address.show())),
        ),
        ("trusted_proxies", trusted),
        ("forwarded", Data::text(mode)),
        ("access_log", access_log(settings)),
        ("sites", Data::List(vec![site])),
        ("server", settings.server.clone()),
    ]);
    config::escaped(root).to_yaml()
}

fn listener(flags: &Flags, settings: &Settings, address: &Address) -> Data {
    let unix = matches!(address, Address::Unix(_));
    let accept = match settings.accept {
        AcceptStrategy::Shared => "shared",
        AcceptStrategy::Exclusive => "exclusive",
        // A Unix socket cannot be shared so.
        AcceptStrategy::Reuseport if unix => "shared",
        AcceptStrategy::Reuseport => "reuseport",
        AcceptStrategy::Mutex => "mutex",
    };
    let tls = flags.tls_cert.is_some();
    Data::map([
        ("address", Data::Text(address.show())),
        ("tls", Data::Bool(tls)),
        ("accept", Data::text(accept)),
        // With TLS clients choose HTTP/2 anyway.
        ("h2c", Data::Bool(flags.h2c && !tls)),
    ])
}

/// Returns what servers are told of clients, and whose word is believed.
fn forwarded(mode: Forwarded) -> (&'static str, Data) {
    match mode {
        Forwarded::Replace => ("replace", Data::Null),
        Forwarded::Pass => ("off", Data::Null),
        Forwarded::Append => {
            let all = ["0.0.0.0/0", "::/0"].map(Data::text).to_vec();
            let trusted = Data::map([("networks", Data::List(all)), ("unix", Data::Bool(true))]);
            ("append", trusted)
        }
    }
}

fn access_log(settings: &Settings) -> Data {
    let to = |to: &String| match to.as_str() {
        "-" => Data::text("stdout"),
        file => Data::text(file),
    };
    settings.access_log.as_ref().map_or(Data::Null, |file| {
        Data::map([("to", to(file)), ("format", Data::text(LINE))])
    })
}

fn proxy(flags: &Flags, wanted: &Wanted, settings: &Settings, demo: Option<SocketAddr>) -> Data {
    let mut servers: Vec<(&Upstream, u64)> = Vec::new();
    for upstream in &wanted.upstreams {
        // Who is named twice has two turns.
        match servers
            .iter_mut()
            .find(|(of, _)| of.address == upstream.address)
        {
            Some((_, weight)) => *weight += 1,
            None => servers.push((upstream, 1)),
        }
    }
    let mut to: Vec<_> = servers
        .into_iter()
        .map(|(upstream, weight)| server(flags, upstream, weight))
        .collect();
    if let (true, Some(demo)) = (to.is_empty(), demo) {
        to.push(Data::Text(demo.to_string()));
    }
    let secure = |upstream: &Upstream| upstream.tls.unwrap_or(flags.upstream_tls);
    let tls = if wanted.upstreams.iter().any(secure) {
        let text = |of: &Option<String>| of.as_ref().map_or(Data::Null, Data::text);
        Data::map([
            ("enabled", Data::Bool(flags.upstream_tls)),
            ("name", text(&flags.upstream_sni)),
            ("ca", text(&flags.upstream_ca)),
        ])
    } else {
        Data::Null
    };
    Data::map([
        ("to", Data::List(to)),
        ("timeouts", timeouts(settings)),
        ("tls", tls),
        ("passive_health", passive_health(settings)),
    ])
}

fn server(flags: &Flags, upstream: &Upstream, weight: u64) -> Data {
    let tls = upstream.tls.unwrap_or(flags.upstream_tls);
    let protocol = match (flags.upstream_h2, tls) {
        (false, _) => "h1",
        (true, true) => "auto",
        (true, false) => "h2c",
    };
    Data::map([
        ("address", Data::Text(upstream.address.show())),
        ("weight", Data::Number(weight)),
        ("tls", upstream.tls.map_or(Data::Null, Data::Bool)),
        ("protocol", Data::text(protocol)),
    ])
}

fn timeouts(settings: &Settings) -> Data {
    let limit = |limit: Option<Duration>| Data::Text(TimeLimit(limit).show());
    Data::map([
        ("connect", limit(settings.connect_timeout)),
        ("handshake", limit(settings.handshake_timeout)),
        ("response", limit(settings.response_timeout)),
        ("read", limit(settings.read_timeout)),
        ("write", limit(settings.write_timeout)),
        ("request", limit(settings.request_timeout)),
    ])
}

fn passive_health(settings: &Settings) -> Data {
    // Left alone for no time at all is never.
    let Some(time) = settings.fail_timeout else {
        return Data::Number(0);
    };
    let time = Data::Text(time.show());
    Data::map([
        ("max_fails", Data::Number(u64::from(settings.max_fails))),
        ("window", time.clone()),
        ("eject_for", time),
    ])
}
