//! The addresses that clients connect to.

use std::collections::HashMap;
use std::time::Duration;

use super::Compiler;
use crate::config::model::{self, Accept};
use crate::config::values::Address;
use crate::config::{At, Place};
use crate::plan::listener::{Balancers, ClientTimeouts, Listener, Probes};

impl Compiler<'_> {
    pub(super) fn listeners(&mut self, root: &model::Root) -> Vec<Listener> {
        let certificates = root.sites.iter().any(|site| !site.tls.is_empty());
        let mut seen: HashMap<&Address, Place> = HashMap::new();
        for listen in &root.listen {
            let At { place, value } = &listen.address;
            if let Some(first) = seen.insert(value, *place) {
                let first = self.sources.name(first);
                self.errors.at(
                    *place,
                    format!("`{value}` is listened on already, by {first}"),
                );
            }
            if matches!(value, Address::Name(..)) {
                self.errors.at(
                    *place,
                    format!("`{value}` is a name; a listener has an IP address"),
                );
            }
            if listen.tls == Some(true) && !certificates {
                self.errors.at(
                    listen.place,
                    "clients cannot speak TLS here: no site has a certificate (`tls`)",
                );
            }
        }
        self.part_of_others(root);
        if root.listen.is_empty() {
            self.errors.at(root.place, "`listen` names no address");
        }
        let listeners = root.listen.iter();
        let made: Vec<_> = listeners
            .map(|listen| self.listener(listen, certificates))
            .collect();
        // Unless a listener says that it speaks none.
        let is_unsaid = root.listen.iter().all(|listen| listen.tls.is_none());
        let mut files = root.sites.iter().flat_map(|site| site.tls.files());
        let first = files.next().filter(|_| is_unsaid);
        if let (Some(first), false) = (first, made.iter().any(|listener| listener.tls)) {
            let message =
                "no listener shows this certificate: set `tls: true` at one, or listen on port 443";
            self.errors.at(first.place, message);
        }
        made
    }

    /// Reports addresses that could not be bound beside another one.
    fn part_of_others(&mut self, root: &model::Root) {
        let shares = |listen: &model::Listen| listen.accept == Accept::Reuseport;
        let wide = |listen: &&model::Listen| listen.address.value.is_unspecified();
        let wide: Vec<_> = root.listen.iter().filter(wide).collect();
        for listen in &root.listen {
            let At { place, value } = &listen.address;
            let mut wide = wide.iter().filter(|all| all.address.value.includes(value));
            if let Some(all) = wide.find(|all| !shares(all) || !shares(listen)) {
                let message = self.is_part(value, &all.address);
                self.errors.at(*place, message);
            }
        }
    }

    /// Returns why an address cannot be bound beside another one.
    pub(super) fn is_part(&self, value: &Address, all: &At<Address>) -> String {
        let first = self.sources.name(all.place);
        format!(
            "`{value}` is a part of `{}`, which is listened on by {first}",
            all.value
        )
    }

    fn listener(&mut self, listen: &model::Listen, certificates: bool) -> Listener {
        let address = listen.address.value.clone();
        let on_443 = certificates && address.port() == Some(443);
        let tls = listen.tls.unwrap_or(on_443);
        self.fits(listen, &address, tls);
        Listener {
            tls,
            accept: listen.accept,
            backlog: self.positive("backlog", &listen.backlog),
            max_connections: self.count("max_connections", &listen.max_connections),
            max_connections_per_client: self.count(
                "max_connections_per_client",
                &listen.max_connections_per_client,
            ),
            timeouts: self.client_timeouts(listen.timeouts.as_ref()),
            h2c: listen.h2c,
            fast_open: listen
                .tcp
                .as_ref()
                .and_then(|tcp| self.positive("fast_open", &tcp.fast_open)),
            keepalive: self.probes(listen.tcp.as_ref()),
            proxy_protocol: listen.proxy_protocol.as_ref().map(balancers),
            mode: listen.mode.as_ref().map(|mode| mode.value),
            address,
        }
    }

    /// Reports keys that mean nothing at an address of this kind.
    fn fits(&mut self, listen: &model::Listen, address: &Address, tls: bool) {
        let unix = matches!(address, Address::Unix(_));
        if let (false, Some(mode)) = (unix, &listen.mode) {
            let message = format!("`mode` is for Unix sockets, and `{address}` is none");
            self.errors.at(mode.place, message);
        }
        if let (true, Some(tcp)) = (unix, &listen.tcp) {
            self.errors
                .at(tcp.place, "`tcp` has no effect on a Unix socket");
        }
        if unix && listen.accept == Accept::Reuseport {
            let message = "`accept: reuseport` is for TCP; a Unix socket cannot be shared so";
            self.errors.at(listen.place, message);
        }
        if unix && listen.max_connections_per_client.is_some() {
            let message = "`max_connections_per_client` has no effect here: the clients of a Unix socket have no address \
                           of their own";
            if listen.proxy_protocol.is_none() {
                self.errors.at(listen.place, message);
            }
        }
        if tls && listen.h2c {
            let message =
                "`h2c` is HTTP/2 without TLS, and clients speak TLS here; they have HTTP/2 anyway";
            self.errors.at(listen.place, message);
        }
    }

    fn positive(&mut self, key: &str, number: &Option<At<u32>>) -> Option<u32> {
        let At { place, value } = number.as_ref()?;
        if *value == 0 {
            self.errors
                .at(*place, format!("`{key}` is 0; expected 1 or more"));
        }
        Some(*value)
    }

    fn count(&mut self, key: &str, number: &Option<At<u32>>) -> Option<usize> {
        self.positive(key, number).map(|number| number as usize)
    }

    fn client_timeouts(&mut self, of: Option<&model::ClientTimeouts>) -> Option<ClientTimeouts> {
        let of = of?;
        if of.idle < Duration::from_secs(1) {
            self.errors
                .at(of.place, "`idle` is less than 1s, the least that it can be");
        }
        Some(ClientTimeouts {
            idle: of.idle,
            read: of.read,
            handshake: of.handshake,
        })
    }

    /// The system counts these in whole seconds.
    fn probes(&mut self, of: Option<&model::Tcp>) -> Option<Probes> {
        let of = of?.keepalive.as_ref()?;
        for (key, time) in [("idle", of.idle), ("interval", of.interval)] {
            if !(1..=32_767).contains(&time.as_secs()) {
                let message = format!("`{key}` is not within 1s to 32767s");
                self.errors.at(of.place, message);
            }
        }
        if !(1..=127).contains(&of.count) {
            self.errors.at(of.place, "`count` is not within 1 to 127");
        }
        Some(Probes {
            idle: of.idle,
            interval: of.interval,
            count: of.count,
        })
    }
}

fn balancers(of: &model::ProxyProtocol) -> Balancers {
    Balancers {
        trusted: of.trusted.clone(),
        timeout: of.timeout,
    }
}
