//! The fields of a header: an [`HMap`] and, when it is kept, how their names were spelled.

use crate::case_header_name::{CaseHeaderName, IntoCaseHeaderName};
use crate::known::{self, Known};
use crate::HMap;
use bytes::BufMut;
use http::header::{AsHeaderName, HeaderName, HeaderValue};
use pingora_error::{ErrorType::InvalidHTTPHeader, OrErr, Result};
use std::ptr;

/// The name of a field as `map` of a header hands it out.
#[derive(Debug)]
pub enum HeaderNameVariant<'a> {
    /// The spelling that the name came with.
    Case(&'a CaseHeaderName),
    /// The spelling the name is written in because the header keeps none: "Content-Type" for standard
    /// names, lower case for all others.
    Titled(&'a str),
}

/// The spellings that differ from the usual one of their name.
///
/// What is looked up in the list follows from three rules, which [`CaseMap::append`] upholds:
/// a name that is not [`Known`] is listed; a name that is listed is listed once for each of its values,
/// in their order; the entries of a name stand next to each other. So a head of usual spellings has an
/// empty list, and the names of a header are mostly met in the order of the list.
#[derive(Clone, Debug, Default)]
pub(crate) struct CaseMap {
    listed: Vec<CaseHeaderName>,
    /// Bit `n % 64` is set when a name of length `n` was ever listed: most names that are not listed
    /// are told by it alone.
    lengths: u64,
}

fn length_bit(len: usize) -> u64 {
    1 << (len % 64)
}

impl CaseMap {
    fn may_list(&self, name: &HeaderName) -> bool {
        self.lengths & length_bit(name.as_str().len()) != 0
    }

    /// Notes how the newest value of `name` is spelled; `earlier` tells how many others it has.
    fn append(&mut self, name: &HeaderName, spelling: &[u8], earlier: impl FnOnce() -> usize) {
        let usual = Known::of(name).map(|known| &known.spelling);
        let end = self.end_of(name);
        if end.is_none() && usual.is_some_and(|usual| usual.as_slice() == spelling) {
            return;
        }
        self.lengths |= length_bit(spelling.len());
        let spelling = spelling.into();
        match (end, usual) {
            (Some(end), _) => self.listed.insert(end, spelling),
            (None, Some(usual)) => {
                self.listed.extend((0..earlier()).map(|_| usual.clone()));
                self.listed.push(spelling);
            }
            (None, None) => self.listed.push(spelling),
        }
    }

    /// Where the entries of `name` end, if it has any.
    fn end_of(&self, name: &HeaderName) -> Option<usize> {
        if !self.may_list(name) {
            return None;
        }
        let last = self.listed.iter().rposition(|s| s.spells(name))?;
        Some(last + 1)
    }

    fn remove(&mut self, name: &HeaderName) {
        if self.may_list(name) {
            self.listed.retain(|s| !s.spells(name));
        }
    }

    fn lookup(&self) -> Lookup<'_> {
        Lookup { map: self, next: 0 }
    }
}

/// Finds the spellings of a header's names, met in the order of its map.
struct Lookup<'a> {
    map: &'a CaseMap,
    next: usize,
}

impl<'a> Lookup<'a> {
    fn spelling(&mut self, name: &HeaderName) -> Option<&'a CaseHeaderName> {
        self.listed(name)
            .or_else(|| Known::of(name).map(|known| &known.spelling))
    }

    fn listed(&mut self, name: &HeaderName) -> Option<&'a CaseHeaderName> {
        if !self.map.may_list(name) {
            return None;
        }
        let listed = &self.map.listed;
        // A map yields the values of a name one after another, as they stand in the list: the next
        // entry is this name's next one, or it belongs to another name.
        let at = match listed.get(self.next) {
            Some(next) if next.spells(name) => self.next,
            _ => listed.iter().position(|s| s.spells(name))?,
        };
        self.next = at + 1;
        listed.get(at)
    }
}

/// Adds a field behind those of the same name; tells whether there were any.
pub(crate) fn append<N, V>(
    headers: &mut HMap,
    cases: &mut Option<CaseMap>,
    name: N,
    value: V,
) -> Result<bool>
where
    N: IntoCaseHeaderName,
    V: TryInto<HeaderValue>,
{
    let (name, spelling) = name
        .into_named()
        .or_err(InvalidHTTPHeader, "invalid header name")?;
    let value = value
        .try_into()
        .explain_err(InvalidHTTPHeader, |_| "invalid value while append")?;
    append_named(headers, cases, name, spelling.as_slice(), value)
}

/// Adds a received field; see [`append`].
pub(crate) fn append_raw(
    headers: &mut HMap,
    cases: &mut Option<CaseMap>,
    spelling: &[u8],
    value: HeaderValue,
) -> Result<bool> {
    let name = known::parse(spelling).or_err(InvalidHTTPHeader, "invalid header name")?;
    append_named(headers, cases, name, spelling, value)
}

pub(crate) fn append_named(
    headers: &mut HMap,
    cases: &mut Option<CaseMap>,
    name: HeaderName,
    spelling: &[u8],
    value: HeaderValue,
) -> Result<bool> {
    let Some(cases) = cases else {
        return headers
            .try_append(name, value)
            .or_err(InvalidHTTPHeader, "too many header fields");
    };
    let more = headers
        .try_append(name.clone(), value)
        .or_err(InvalidHTTPHeader, "too many header fields")?;
    cases.append(&name, spelling, || {
        headers.get_all(&name).iter().count().saturating_sub(1)
    });
    Ok(more)
}

/// Sets a field in place of all those of the same name.
pub(crate) fn insert<N, V>(
    headers: &mut HMap,
    cases: &mut Option<CaseMap>,
    name: N,
    value: V,
) -> Result<()>
where
    N: IntoCaseHeaderName,
    V: TryInto<HeaderValue>,
{
    let (name, spelling) = name
        .into_named()
        .or_err(InvalidHTTPHeader, "invalid header name")?;
    let value = value
        .try_into()
        .explain_err(InvalidHTTPHeader, |_| "invalid value while insert")?;
    let Some(cases) = cases else {
        headers
            .try_insert(name, value)
            .or_err(InvalidHTTPHeader, "too many header fields")?;
        return Ok(());
    };
    headers
        .try_insert(name.clone(), value)
        .or_err(InvalidHTTPHeader, "too many header fields")?;
    cases.remove(&name);
    cases.append(&name, spelling.as_slice(), || 0);
    Ok(())
}

/// Takes out all fields of a name and returns the value of the first.
pub(crate) fn remove<'a, N: ?Sized>(
    headers: &mut HMap,
    cases: &mut Option<CaseMap>,
    name: &'a N,
) -> Option<HeaderValue>
where
    &'a N: 'a + AsHeaderName,
{
    if let Some(cases) = cases.as_mut().filter(|cases| !cases.listed.is_empty()) {
        // `N` cannot be read as a name here, only looked up: the value found leads to the name.
        let first = headers.get(name)?;
        let found = headers.iter().find(|(_, value)| ptr::eq(*value, first));
        if let Some((name, _)) = found {
            cases.remove(name);
        }
    }
    headers.remove(name)
}

/// Calls `f` for each field.
pub(crate) fn map<F>(headers: &HMap, cases: Option<&CaseMap>, mut f: F) -> Result<()>
where
    F: FnMut(HeaderNameVariant<'_>, &HeaderValue) -> Result<()>,
{
    let mut lookup = cases.map(CaseMap::lookup);
    for (name, value) in headers {
        let spelling = lookup.as_mut().and_then(|lookup| lookup.spelling(name));
        match spelling {
            Some(spelling) => f(HeaderNameVariant::Case(spelling), value)?,
            None => f(HeaderNameVariant::Titled(titled(name)), value)?,
        }
    }
    Ok(())
}

/// Each field with its spelling; nothing when spellings are not kept.
pub(crate) fn case_iter<'a>(
    headers: &'a HMap,
    cases: Option<&'a CaseMap>,
) -> impl Iterator<Item = (&'a CaseHeaderName, &'a HeaderValue)> + 'a {
    cases.into_iter().flat_map(|cases| {
        let mut lookup = cases.lookup();
        headers.iter().filter_map(move |(name, value)| {
            // Every name has a spelling: those that are not known are listed.
            Some((lookup.spelling(name)?, value))
        })
    })
}

/// Writes each field as `Name: value` and CRLF.
pub(crate) fn write_h1(headers: &HMap, cases: Option<&CaseMap>, buf: &mut impl BufMut) {
    let mut lookup = cases.map(CaseMap::lookup);
    for (name, value) in headers {
        let spelling = lookup.as_mut().and_then(|lookup| lookup.spelling(name));
        buf.put_slice(match spelling {
            Some(spelling) => spelling.as_slice(),
            None => titled(name).as_bytes(),
        });
        buf.put_slice(b": ");
        buf.put_slice(value.as_bytes());
        buf.put_slice(b"\r\n");
    }
}

/// How a name is written that came without a spelling.
fn titled(name: &HeaderName) -> &str {
    Known::of(name).map_or(name.as_str(), |known| known.title)
}
