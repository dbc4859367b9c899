//! The conditions of a route beside its path.

use http::{HeaderName, Method};

use super::request::Request;
use super::search::{Scratch, Search, Searches};
use crate::config::model;
use crate::config::section::{list, Scalar};
use crate::config::values::{self, Network};

/// A condition: all of a route's must hold.
#[derive(Debug)]
pub(super) enum Condition {
    Method(Vec<Method>),
    Header(HeaderName, Pattern),
    Query(String, Pattern),
    Cookie(String, Pattern),
    Client(Vec<Network>),
    TlsClient(Fact, Pattern),
}

/// A fact of the client's certificate.
#[derive(Clone, Copy, Debug)]
pub(super) enum Fact {
    Subject,
    San,
    Fingerprint,
}

/// A pattern of a value, and its form for people.
#[derive(Debug)]
pub(super) struct Pattern {
    test: Test,
    shown: String,
}

#[derive(Debug)]
enum Test {
    Present,
    Exact(String),
    Glob(String),
    Regex(Search),
}

impl Pattern {
    fn new(pattern: &values::TextPattern, searches: &mut Searches) -> Self {
        use values::TextTest as Written;
        let test = match &pattern.test {
            Written::Present => Test::Present,
            Written::Exact(text) => Test::Exact(text.clone()),
            Written::Glob(glob) => Test::Glob(glob.clone()),
            Written::Regex(regex) => Test::Regex(searches.add(regex)),
        };
        let shown = pattern.shown();
        Self { test, shown }
    }

    fn matches(&self, value: &[u8], scratch: &mut Scratch) -> bool {
        match &self.test {
            Test::Present => true,
            Test::Exact(text) => text.as_bytes() == value,
            Test::Glob(glob) => values::glob_matches(glob.as_bytes(), value),
            // A byte that is no UTF-8 is a character too: nothing hides behind one.
            Test::Regex(search) => {
                search.matches(String::from_utf8_lossy(value).as_bytes(), scratch)
            }
        }
    }
}

impl Condition {
    /// Makes the conditions of a route, the cheapest first.
    pub(super) fn all(route: &model::Route, searches: &mut Searches) -> Vec<Self> {
        let mut all = Vec::new();
        if !route.method.is_empty() {
            all.push(Self::Method(route.method.clone()));
        }
        if !route.client.is_empty() {
            all.push(Self::Client(route.client.clone()));
        }
        if let Some(client) = &route.tls_client {
            for (fact, pattern) in [
                (Fact::Fingerprint, &client.fingerprint),
                (Fact::Subject, &client.subject),
                (Fact::San, &client.san),
            ] {
                let pattern = pattern.as_ref();
                all.extend(pattern.map(|p| Self::TlsClient(fact, Pattern::new(p, searches))));
            }
        }
        for (name, pattern) in &route.header.0 {
            all.push(Self::Header(name.clone(), Pattern::new(pattern, searches)));
        }
        for (name, pattern) in &route.cookie.0 {
            all.push(Self::Cookie(name.clone(), Pattern::new(pattern, searches)));
        }
        for (name, pattern) in &route.query.0 {
            all.push(Self::Query(name.clone(), Pattern::new(pattern, searches)));
        }
        all
    }

    /// Makes the conditions of requests to bypass a cache: one that holds is enough.
    pub(super) fn bypass(bypass: &model::Bypass, searches: &mut Searches) -> Vec<Self> {
        let mut all = Vec::new();
        for (name, pattern) in &bypass.header.0 {
            all.push(Self::Header(name.clone(), Pattern::new(pattern, searches)));
        }
        for (name, pattern) in &bypass.cookie.0 {
            all.push(Self::Cookie(name.clone(), Pattern::new(pattern, searches)));
        }
        for (name, pattern) in &bypass.query.0 {
            all.push(Self::Query(name.clone(), Pattern::new(pattern, searches)));
        }
        all
    }

    pub(super) fn holds(&self, request: &Request, scratch: &mut Scratch) -> bool {
        match self {
            Self::Method(methods) => methods.contains(request.method),
            Self::Client(networks) => {
                let client = request.client;
                client.is_some_and(|ip| networks.iter().any(|network| network.contains(ip)))
            }
            Self::TlsClient(fact, pattern) => request.tls_client.is_some_and(|client| match fact {
                Fact::Subject => pattern.matches(client.subject.as_bytes(), scratch),
                Fact::Fingerprint => pattern.matches(client.fingerprint.as_bytes(), scratch),
                Fact::San => {
                    let mut names = client.san.iter();
                    names.any(|name| pattern.matches(name.as_bytes(), scratch))
                }
            }),
            Self::Header(name, pattern) => request
                .header(name)
                .any(|value| pattern.matches(&value, scratch)),
            Self::Cookie(name, pattern) => request
                .cookie(name)
                .any(|value| pattern.matches(value, scratch)),
            Self::Query(name, pattern) => request
                .param(name)
                .any(|value| pattern.matches(&value, scratch)),
        }
    }

    /// Names it as in the file.
    pub(super) fn show(&self) -> String {
        match self {
            Self::Method(methods) => {
                let names: Vec<_> = methods.iter().map(Method::as_str).collect();
                format!("method {}", list(&names))
            }
            Self::Client(networks) => {
                let names: Vec<_> = networks.iter().map(Scalar::show).collect();
                let names: Vec<_> = names.iter().map(String::as_str).collect();
                format!("client {}", list(&names))
            }
            Self::TlsClient(fact, pattern) => {
                let name = match fact {
                    Fact::Subject => "subject",
                    Fact::San => "san",
                    Fact::Fingerprint => "fingerprint",
                };
                format!("tls_client {name} `{}`", pattern.shown)
            }
            Self::Header(name, pattern) => format!("header `{name}: {}`", pattern.shown),
            Self::Cookie(name, pattern) => format!("cookie `{name}: {}`", pattern.shown),
            Self::Query(name, pattern) => format!("query `{name}: {}`", pattern.shown),
        }
    }
}
