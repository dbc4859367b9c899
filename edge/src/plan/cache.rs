//! The requests and responses of a route that the cache takes part in, and the URLs of what is stored.

use std::net::IpAddr;
use std::time::Duration;

use crate::caching::Policy;
use http::HeaderName;

use super::condition::Condition;
use super::request::{decoded, Request};
use super::search::Scratch;
use super::{path, Plan, Site};
use crate::config::values::Network;

/// The memory of the cache.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CacheSize {
    /// The bytes of all responses.
    pub memory: usize,
    /// The bytes of one response.
    pub max_object: usize,
}

impl Default for CacheSize {
    fn default() -> Self {
        Self {
            memory: 256 << 20,
            max_object: 16 << 20,
        }
    }
}

/// The cache of a route.
#[derive(Debug)]
pub struct CacheRule {
    /// Tells what goes upstream from that of other routes, whose responses for the same URL may be others.
    pub id: u64,
    /// The judgement of requests and responses.
    pub policy: Policy,
    /// The part of the query that counts.
    pub query: QueryKey,
    /// Headers that count beside the URL.
    pub headers: Vec<HeaderName>,
    /// Cookies that count beside the URL.
    pub cookies: Vec<String>,
    /// The requests after which a response is stored.
    pub min_uses: u32,
    /// The time for which a request waits for another one's fill.
    pub lock: Duration,
    /// The clients that may purge.
    pub purge: Vec<Network>,
    /// Conditions of which none may hold.
    pub(super) bypass: Vec<Condition>,
}

/// The part of a query that counts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum QueryKey {
    /// All of it, as it is.
    All,
    /// None of it.
    Nothing,
    /// These parameters, in this order.
    Only(Vec<String>),
}

impl QueryKey {
    /// Appends what counts of a query, with its `?`.
    fn write(&self, query: Option<&str>, out: &mut Vec<u8>) {
        let Some(query) = query else { return };
        match self {
            Self::Nothing => {}
            Self::All => {
                out.push(b'?');
                out.extend_from_slice(query.as_bytes());
            }
            Self::Only(names) => {
                let mut separator = b'?';
                for name in names {
                    let pairs = query.split('&');
                    // As servers read them: `%71=a` is a value of `q`, and often the one that counts.
                    let same = |pair: &&str| {
                        let own = pair.split('=').next().unwrap_or("");
                        *decoded(own.as_bytes()) == *name.as_bytes()
                    };
                    for pair in pairs.filter(same) {
                        out.push(separator);
                        out.extend_from_slice(pair.as_bytes());
                        separator = b'&';
                    }
                }
            }
        }
    }
}

impl CacheRule {
    /// Appends the URL of a request: host, path, and what counts of the query.
    pub(crate) fn url(&self, host: &str, path: &str, query: Option<&str>, out: &mut Vec<u8>) {
        out.extend_from_slice(host.as_bytes());
        out.extend_from_slice(path.as_bytes());
        self.query.write(query, out);
    }

    /// Tells whether it has conditions under which requests go past it.
    pub(crate) fn has_bypass(&self) -> bool {
        !self.bypass.is_empty()
    }

    /// Tells whether a client may purge.
    pub(crate) fn may_purge(&self, client: Option<IpAddr>) -> bool {
        client.is_some_and(|ip| self.purge.iter().any(|network| network.contains(ip)))
    }
}

impl Site {
    /// Returns the URLs under which responses for an address may be stored: one for each way in which routes see queries.
    pub(crate) fn cached_urls(&self, host: &str, path: &str, query: Option<&str>) -> Vec<Vec<u8>> {
        let mut urls = Vec::new();
        for rule in self
            .routes
            .iter()
            .filter_map(|route| route.cache.as_deref())
        {
            let mut url = Vec::new();
            rule.url(host, path, query, &mut url);
            if !urls.contains(&url) {
                urls.push(url);
            }
        }
        urls
    }
}

impl Plan {
    /// Tells whether a request goes past the cache of its route.
    pub(crate) fn bypasses(
        &self,
        rule: &CacheRule,
        request: &Request<'_>,
        scratch: &mut Scratch,
    ) -> bool {
        scratch.prepare(self.id, self.searches);
        let mut conditions = rule.bypass.iter();
        conditions.any(|condition| condition.holds(request, scratch))
    }

    /// Tells whether any route uses the cache.
    pub fn caches(&self) -> bool {
        self.sites.iter().any(|site| site.caches)
    }

    /// Returns the URLs under which responses for an address may be stored. `address` is `http://HOST/PATH?QUERY` or
    /// `HOST/PATH?QUERY`.
    ///
    /// # Errors
    ///
    /// The reason why it is none, in a line.
    pub fn cached_urls(&self, address: &str) -> Result<Vec<Vec<u8>>, String> {
        let (host, target) = parts_of(address)?;
        let site = self.site(&host).ok_or("no site has this host")?;
        let (path, query) = match target.split_once('?') {
            Some((path, query)) => (path, Some(path::normal_query(query.as_bytes()))),
            None => (target, None),
        };
        let path = path::normalise(path.as_bytes()).map_err(|e| e.to_string())?;
        Ok(self.sites[site].cached_urls(&host, path.as_str(), query.as_deref()))
    }

    /// Returns the beginning of the URLs of responses whose addresses begin so. `prefix` is `HOST/PATH`, where the path
    /// may end anywhere.
    ///
    /// # Errors
    ///
    /// The reason why it is none, in a line.
    pub fn cached_prefix(&self, prefix: &str) -> Result<Vec<u8>, String> {
        let (host, target) = parts_of(prefix)?;
        self.site(&host).ok_or("no site has this host")?;
        let path = path::normalise(target.as_bytes()).map_err(|e| e.to_string())?;
        if path.as_str() != target {
            return Err(format!("URLs are stored in the form `{}`", path.as_str()));
        }
        Ok([host.as_bytes(), target.as_bytes()].concat())
    }
}

/// Returns the host of an address in its normal form, and what follows it.
fn parts_of(address: &str) -> Result<(String, &str), String> {
    let rest = address
        .strip_prefix("http://")
        .or_else(|| address.strip_prefix("https://"))
        .unwrap_or(address);
    let at = rest.find('/').ok_or("it has no path; expected HOST/PATH")?;
    let (host, target) = rest.split_at(at);
    let host = super::host::normalise(host).filter(|host| !host.is_empty());
    let host = host.ok_or("it has no host; expected HOST/PATH")?;
    Ok((host.into_owned(), target))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(names: &[&str], query: &str) -> String {
        let names = names.iter().map(|name| (*name).to_owned()).collect();
        let mut out = Vec::new();
        QueryKey::Only(names).write(Some(query), &mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn a_parameter_counts_however_its_name_is_encoded() {
        for (query, expected) in [
            ("q=shoes&x=1", "?q=shoes"),
            ("q=shoes&%71=evil", "?q=shoes&%71=evil"),
            ("%71", "?%71"),
            ("%2571=evil&Q=1&qq=2", ""),
        ] {
            assert_eq!(key(&["q"], query), expected, "{query}");
        }
        assert_eq!(
            key(&["b", "a a"], "a+a=1&b=2&a%20a=3"),
            "?b=2&a+a=1&a%20a=3"
        );
    }
}
