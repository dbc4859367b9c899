//! The fields of a header: an [`HMap`] and, when it is kept, how their names were spelled.

use crate::case_header_name::CaseHeaderName;
use crate::into_case_header_name::IntoCaseHeaderName;
use crate::known::{KnownName, Name};
use crate::names::{Index, Names};
use crate::{wire, HMap};
use bytes::BufMut;
use http::header::{AsHeaderName, HeaderName, HeaderValue};
use pingora_error::{ErrorType::InvalidHTTPHeader, OrErr, Result};
use std::ptr;

const TOO_MANY: &str = "too many header fields";

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
/// Lookups in the list rely on three rules, which all changes uphold:
/// a name that is not [`KnownName`] is listed; a name that is listed is listed once for each of its values,
/// in their order; the entries of a name stand next to each other. So a head of usual spellings has an
/// empty list, and the names of a header are mostly met in the order of the list.
#[derive(Clone, Debug, Default)]
pub(crate) struct CaseMap {
    listed: Vec<CaseHeaderName>,
    /// Bit `n % 64` is set when a name of length `n` was ever listed: most names that are not listed
    /// are told by it alone.
    lengths: u64,
}

impl CaseMap {
    #[inline]
    pub(crate) fn clear(&mut self) {
        if self.lengths != 0 {
            *self = CaseMap::default();
        }
    }

    /// Returns whether a name of this length may be listed.
    fn may_list(&self, name: &[u8]) -> bool {
        self.lengths & length_bit(name) != 0
    }

    /// Notes the spelling of a name that had no value before.
    #[inline(always)]
    fn start<S>(&mut self, is_usual: bool, spelling: S)
    where
        S: AsRef<[u8]> + Into<CaseHeaderName>,
    {
        if !is_usual {
            self.lengths |= length_bit(spelling.as_ref());
            self.listed.push(spelling.into());
        }
    }

    /// Notes the spelling of one more value of a name; `earlier` counts the others.
    fn extend<S>(
        &mut self,
        known: Option<&KnownName>,
        is_usual: bool,
        spelling: S,
        earlier: impl FnOnce() -> usize,
    ) where
        S: AsRef<[u8]> + Into<CaseHeaderName>,
    {
        let raw = spelling.as_ref();
        let last = if self.may_list(raw) {
            self.listed.iter().rposition(|s| s.spells(raw))
        } else {
            None
        };
        match (last, known) {
            (Some(last), _) => self.listed.insert(last + 1, spelling.into()),
            (None, Some(known)) if !is_usual => {
                let usual = (0..earlier()).map(|_| known.spelling.clone());
                self.listed.extend(usual);
                self.start(false, spelling);
            }
            (None, _) => self.start(is_usual, spelling),
        }
    }

    fn remove(&mut self, name: &[u8]) {
        if self.may_list(name) {
            self.listed.retain(|s| !s.spells(name));
        }
    }
}

fn length_bit(name: &[u8]) -> u64 {
    1 << (name.len() % 64)
}

/// The place of the spelling of a field's name.
pub(crate) enum Spelling<'a> {
    Listed(&'a CaseHeaderName),
    Usual(&'static KnownName),
    /// Neither listed nor known: that does not occur where spellings are kept.
    Lower,
}

/// Finds the spellings of a header's names, met in the order of its map.
pub(crate) struct Lookup<'a> {
    cases: Option<&'a CaseMap>,
    index: &'a Index,
    /// The number of fields that were met.
    met: usize,
    next: usize,
}

impl<'a> Lookup<'a> {
    pub(crate) fn new(cases: Option<&'a CaseMap>, index: &'a Index) -> Self {
        Lookup {
            cases: cases.filter(|cases| !cases.listed.is_empty()),
            index,
            met: 0,
            next: 0,
        }
    }

    #[inline(always)]
    pub(crate) fn spelling(&mut self, name: &HeaderName) -> Spelling<'a> {
        let place = self.met;
        self.met += 1;
        let listed = |cases: &CaseMap| cases.may_list(name.as_str().as_bytes());
        if !self.cases.is_some_and(listed) {
            if let Some(known) = self.index.known_at(place, name) {
                return Spelling::Usual(known);
            }
        }
        self.look_up(name)
    }

    /// The spelling of a name that is not where it was put, or may be listed.
    #[inline(never)]
    fn look_up(&mut self, name: &HeaderName) -> Spelling<'a> {
        match self.listed(name.as_str().as_bytes()) {
            Some(spelling) => Spelling::Listed(spelling),
            None => KnownName::of(name).map_or(Spelling::Lower, Spelling::Usual),
        }
    }

    fn listed(&mut self, name: &[u8]) -> Option<&'a CaseHeaderName> {
        let cases = self.cases.filter(|cases| cases.may_list(name))?;
        // A map yields the values of a name one after another, as they stand in the list: the next
        // entry is this name's next one, or it belongs to another name.
        let at = match cases.listed.get(self.next) {
            Some(next) if next.spells(name) => self.next,
            _ => cases.listed.iter().position(|s| s.spells(name))?,
        };
        self.next = at + 1;
        cases.listed.get(at)
    }
}

/// Adds a field behind those of the same name; tells whether there were any.
pub(crate) fn append<N, V>(
    headers: &mut HMap,
    index: &mut Index,
    cases: &mut Option<CaseMap>,
    name: N,
    value: V,
) -> Result<bool>
where
    N: IntoCaseHeaderName,
    V: TryInto<HeaderValue>,
{
    let (name, spelling) = named(name)?;
    let value = checked(value)?;
    append_named(headers, index, cases, name, spelling, value)
}

/// The fields of a header, to which received ones are added.
pub struct RawFields<'a> {
    pub(crate) headers: &'a mut HMap,
    pub(crate) index: &'a mut Index,
    pub(crate) cases: &'a mut Option<CaseMap>,
}

impl RawFields<'_> {
    /// Adds a field as it was received: a name in any letter case, and a checked value, which may be a slice of the
    /// received head. Tells whether there were others of its name.
    ///
    /// # Errors
    ///
    /// `InvalidHTTPHeader` when the name is not valid, or when there are too many fields.
    #[inline]
    pub fn append(&mut self, spelling: &[u8], value: HeaderValue) -> Result<bool> {
        let RawFields {
            headers,
            index,
            cases,
        } = self;
        // As nearly all fields are: nothing about the name has to be made or kept.
        if let Some((known, true)) = KnownName::find(spelling) {
            if known.is_indexed() {
                index.append(known.names, &value);
            }
            let more = headers
                .try_append(&known.name, value)
                .or_err(InvalidHTTPHeader, TOO_MANY)?;
            if more {
                note_more(headers, cases, Some(known), true, spelling)
            } else {
                index.place(headers.len() - 1, known.number)
            }
            return Ok(more);
        }
        let name = Name::parse(spelling).or_err(InvalidHTTPHeader, "invalid header name")?;
        append_named(headers, index, cases, name, spelling, value)
    }

    /// Adds a field of this name, in its usual spelling. Unlike a clone of the name, it counts no references.
    ///
    /// # Errors
    ///
    /// `InvalidHTTPHeader` when there are too many fields.
    pub fn append_named(&mut self, name: &HeaderName, value: HeaderValue) -> Result<bool> {
        // What received fields are added by is compiled in one place.
        let spelling = KnownName::of(name).map_or(name.as_str(), |known| known.title());
        self.append(spelling.as_bytes(), value)
    }
}

fn append_named<S>(
    headers: &mut HMap,
    index: &mut Index,
    cases: &mut Option<CaseMap>,
    name: Name,
    spelling: S,
    value: HeaderValue,
) -> Result<bool>
where
    S: AsRef<[u8]> + Into<CaseHeaderName>,
{
    let Name {
        name,
        known,
        is_usual,
    } = name;
    if let Some(known) = known {
        index.append(known.names, &value);
    }
    let more = headers
        .try_append(name, value)
        .or_err(InvalidHTTPHeader, TOO_MANY)?;
    match cases {
        _ if more => note_more(headers, cases, known, is_usual, spelling),
        Some(cases) => cases.start(is_usual, spelling),
        None => {}
    }
    Ok(more)
}

/// Notes the spelling of one more value of a name, which is in `headers` already.
fn note_more<S>(
    headers: &HMap,
    cases: &mut Option<CaseMap>,
    known: Option<&KnownName>,
    is_usual: bool,
    spelling: S,
) where
    S: AsRef<[u8]> + Into<CaseHeaderName>,
{
    if let Some(cases) = cases {
        cases.extend(known, is_usual, spelling, || {
            let values = known.map(|known| headers.get_all(&known.name).iter().count());
            values.unwrap_or(1) - 1
        });
    }
}

/// Sets a field in place of all those of the same name.
pub(crate) fn insert<N, V>(
    headers: &mut HMap,
    index: &mut Index,
    cases: &mut Option<CaseMap>,
    name: N,
    value: V,
) -> Result<()>
where
    N: IntoCaseHeaderName,
    V: TryInto<HeaderValue>,
{
    let (name, spelling) = named(name)?;
    let value = checked(value)?;
    if let Some(known) = name.known {
        index.insert(known.names, &value);
    }
    let replaced = headers
        .try_insert(name.name, value)
        .or_err(InvalidHTTPHeader, TOO_MANY)?;
    if let Some(cases) = cases {
        if replaced.is_some() {
            cases.remove(spelling.as_slice());
        }
        cases.start(name.is_usual, spelling);
    }
    Ok(())
}

fn named(name: impl IntoCaseHeaderName) -> Result<(Name, CaseHeaderName)> {
    name.into_named()
        .or_err(InvalidHTTPHeader, "invalid header name")
}

fn checked(value: impl TryInto<HeaderValue>) -> Result<HeaderValue> {
    value
        .try_into()
        .explain_err(InvalidHTTPHeader, |_| "invalid header value")
}

/// Takes out all fields of a name and returns the value of the first.
pub(crate) fn remove<'a, N: ?Sized>(
    headers: &mut HMap,
    index: &mut Index,
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
            cases.remove(name.as_str().as_bytes());
        }
    }
    let removed = headers.remove(name);
    if removed.is_some() {
        index.look(headers);
    }
    removed
}

/// Takes out all fields of a name that is one: it need not be looked for, and tells what else is known of it.
pub(crate) fn remove_named(
    headers: &mut HMap,
    index: &mut Index,
    cases: &mut Option<CaseMap>,
    name: &HeaderName,
) -> bool {
    let removed = headers.remove(name).is_some();
    if removed {
        index.forget(Names::only(name));
        if let Some(cases) = cases {
            cases.remove(name.as_str().as_bytes());
        }
    }
    removed
}

/// Takes out all fields of these names.
pub(crate) fn remove_any(
    headers: &mut HMap,
    index: &mut Index,
    cases: &mut Option<CaseMap>,
    names: Names,
) {
    for name in index.take(names) {
        headers.remove(name);
        if let Some(cases) = cases {
            cases.remove(name.as_str().as_bytes());
        }
    }
}

/// Calls `f` for each field.
pub(crate) fn map<F>(headers: &HMap, index: &Index, cases: Option<&CaseMap>, mut f: F) -> Result<()>
where
    F: FnMut(HeaderNameVariant<'_>, &HeaderValue) -> Result<()>,
{
    let mut lookup = Lookup::new(cases, index);
    for (name, value) in headers {
        let name = match lookup.spelling(name) {
            Spelling::Listed(spelling) => HeaderNameVariant::Case(spelling),
            Spelling::Usual(known) if cases.is_some() => HeaderNameVariant::Case(&known.spelling),
            Spelling::Usual(known) => HeaderNameVariant::Titled(known.title()),
            Spelling::Lower => HeaderNameVariant::Titled(name.as_str()),
        };
        f(name, value)?;
    }
    Ok(())
}

/// Each field with its spelling; nothing when spellings are not kept.
pub(crate) fn case_iter<'a>(
    headers: &'a HMap,
    index: &'a Index,
    cases: Option<&'a CaseMap>,
) -> impl Iterator<Item = (&'a CaseHeaderName, &'a HeaderValue)> + 'a {
    cases.into_iter().flat_map(|cases| {
        let mut lookup = Lookup::new(Some(cases), index);
        let fields = headers.iter();
        fields.filter_map(move |(name, value)| match lookup.spelling(name) {
            Spelling::Listed(spelling) => Some((spelling, value)),
            Spelling::Usual(known) => Some((&known.spelling, value)),
            Spelling::Lower => None,
        })
    })
}

/// Writes each field as `Name: value` and CRLF.
pub(crate) fn write_h1(
    headers: &HMap,
    index: &Index,
    cases: Option<&CaseMap>,
    buf: &mut impl BufMut,
) {
    let mut lookup = Lookup::new(cases, index);
    for (name, value) in headers {
        let spelling = match lookup.spelling(name) {
            Spelling::Usual(known) => {
                wire::put_line(buf, known.line.as_bytes(), value.as_bytes());
                continue;
            }
            Spelling::Listed(spelling) => spelling.as_slice(),
            Spelling::Lower => name.as_str().as_bytes(),
        };
        wire::put_parts(buf, &[spelling, b": ", value.as_bytes(), b"\r\n"]);
    }
}

#[cfg(test)]
mod tests;
