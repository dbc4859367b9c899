//! The context of a trace, as W3C's Trace Context (Level 1) has it.

use std::fmt::Write as _;

/// The longest `tracestate` that is passed on (section 3.3.1.5 asks for 512 at least).
const STATE: usize = 512;
/// The most members of one (section 3.3.1.1).
const MEMBERS: usize = 32;
/// A member that is longer is the first to go (section 3.3.1.5).
const LONG: usize = 128;

/// The place of a request in a trace: what `traceparent` says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Trace {
    id: u128,
    /// The span that asks.
    span: u64,
    sampled: bool,
}

impl Trace {
    /// Begins a trace. Numbers that are 0, which no id may be, are replaced by 1.
    pub(crate) fn begin(id: u128, span: u64, sampled: bool) -> Self {
        Self {
            id: id.max(1),
            span: span.max(1),
            sampled,
        }
    }

    /// Reads `traceparent` (section 3.2); `None` when it is not valid.
    pub(crate) fn parse(value: &[u8]) -> Option<Self> {
        let (known, rest) = value.split_at_checked(55)?;
        let [version, id, span, flags] = [0..2, 3..35, 36..52, 53..55].map(|part| &known[part]);
        let dashes = [2, 35, 52].map(|at| known[at]);
        let version = hex(version)?;
        // Later versions may have more after a dash; 255 is none.
        let ends = rest.is_empty() || (version > 0 && rest[0] == b'-');
        if dashes != *b"---" || version == 0xff || !ends {
            return None;
        }
        let (id, span, flags) = (hex(id)?, hex(span)?, hex(flags)?);
        // 16 digits and no more.
        let span = span as u64;
        (id != 0 && span != 0).then_some(Self {
            id,
            span,
            sampled: flags & 1 == 1,
        })
    }

    /// Returns it with another span: that of this proxy, for the server.
    #[must_use]
    pub(crate) fn with_span(self, span: u64) -> Self {
        Self {
            span: span.max(1),
            ..self
        }
    }

    /// Returns the value of `traceparent`.
    pub(crate) fn header(&self) -> String {
        let flags = u8::from(self.sampled);
        format!("00-{:032x}-{:016x}-{flags:02x}", self.id, self.span)
    }

    /// Writes the id of the trace.
    pub(crate) fn write_id(&self, to: &mut String) {
        // Writing to memory does not fail.
        let _ = write!(to, "{:032x}", self.id);
    }
}

/// Reads lower-case digits.
fn hex(text: &[u8]) -> Option<u128> {
    text.iter().try_fold(0, |number, digit| {
        let digit = match digit {
            b'0'..=b'9' => digit - b'0',
            b'a'..=b'f' => digit - b'a' + 10,
            _ => return None,
        };
        Some(number << 4 | u128::from(digit))
    })
}

/// Joins the fields of `tracestate` (section 3.3), and shortens what is too long; `None` when there is nothing to pass on,
/// or they are not valid.
pub(crate) fn state<'v>(fields: impl Iterator<Item = &'v [u8]>) -> Option<String> {
    let mut members = Vec::new();
    for field in fields {
        for member in std::str::from_utf8(field).ok()?.split(',') {
            let member = member.trim_matches([' ', '\t']);
            if member.is_empty() {
                continue;
            }
            if members.len() == MEMBERS || !is_member(member) {
                return None;
            }
            members.push(member);
        }
    }
    let keys = members.iter().map(|member| key(member));
    let repeated = |(index, key): (usize, &str)| keys.clone().skip(index + 1).any(|k| k == key);
    if keys.clone().enumerate().any(repeated) {
        return None;
    }
    while members.iter().map(|member| member.len() + 1).sum::<usize>() > STATE + 1 {
        let long = members.iter().rposition(|member| member.len() > LONG);
        members.remove(long.unwrap_or(members.len() - 1));
    }
    (!members.is_empty()).then(|| members.join(","))
}

fn key(member: &str) -> &str {
    member.split_once('=').map_or(member, |(key, _)| key)
}

/// Tells whether a member has the form of sections 3.3.1.3.
fn is_member(member: &str) -> bool {
    let Some((key, value)) = member.split_once('=') else {
        return false;
    };
    let letter = |b: u8| b.is_ascii_lowercase();
    let begins = |text: &str, digits: bool| {
        let first = text.bytes().next();
        first.is_some_and(|b| letter(b) || (digits && b.is_ascii_digit()))
    };
    let plain = |text: &str, most: usize| {
        let all = text
            .bytes()
            .all(|b| letter(b) || b.is_ascii_digit() || b"_-*/".contains(&b));
        all && text.len() <= most
    };
    let key = match key.split_once('@') {
        None => begins(key, false) && plain(key, 256),
        Some((tenant, system)) => {
            begins(tenant, true) && plain(tenant, 241) && begins(system, false) && plain(system, 14)
        }
    };
    let visible = |b: u8| (b' '..=b'~').contains(&b) && b != b'=';
    key && (1..=256).contains(&value.len()) && value.bytes().all(visible)
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: &str = "0af7651916cd43dd8448eb211c80319c";
    const SPAN: &str = "b7ad6b7169203331";

    #[test]
    fn parents_are_taken_as_the_specification_says() {
        let taken = Some(Trace::begin(
            0x0af7651916cd43dd8448eb211c80319c,
            0xb7ad6b7169203331,
            true,
        ));
        let unsampled = taken.map(|trace| Trace {
            sampled: false,
            ..trace
        });
        for (value, parsed) in [
            (format!("00-{ID}-{SPAN}-01"), taken),
            (format!("00-{ID}-{SPAN}-00"), unsampled),
            // Other flags say nothing here (3.2.2.5).
            (format!("00-{ID}-{SPAN}-ff"), taken),
            (format!("00-{ID}-{SPAN}-02"), unsampled),
            // A later version is read as this one, and may have more (3.2.4).
            (format!("cc-{ID}-{SPAN}-01"), taken),
            (format!("cc-{ID}-{SPAN}-01-what-else"), taken),
            (format!("cc-{ID}-{SPAN}-01."), None),
            (format!("cc-{ID}-{SPAN}-0"), None),
            (format!("ff-{ID}-{SPAN}-01"), None),
            (format!("00-{ID}-{SPAN}-01-more"), None),
            (format!("00-{ID}-{SPAN}-01 "), None),
            (format!("00-{}-{SPAN}-01", "0".repeat(32)), None),
            (format!("00-{ID}-{}-01", "0".repeat(16)), None),
            (format!("00-{}-{SPAN}-01", ID.to_uppercase()), None),
            (format!("00-{ID}-{SPAN}-0x"), None),
            (format!("00-{ID}-{SPAN}"), None),
            (format!("00_{ID}-{SPAN}-01"), None),
            (format!("0-{ID}-{SPAN}-01"), None),
            (format!(".0-{ID}-{SPAN}-01"), None),
            (String::new(), None),
        ] {
            assert_eq!(Trace::parse(value.as_bytes()), parsed, "{value}");
        }
    }

    #[test]
    fn what_is_written_is_read_again() {
        let trace = Trace::begin(7, 8, true).with_span(9);
        let header = trace.header();
        assert_eq!(header, format!("00-{:032x}-{:016x}-01", 7, 9));
        assert_eq!(Trace::parse(header.as_bytes()), Some(trace));
        assert!(Trace::parse(Trace::begin(0, 0, false).header().as_bytes()).is_some());
        let mut id = String::new();
        trace.write_id(&mut id);
        assert_eq!(id, format!("{:032x}", 7));
    }

    #[test]
    fn states_are_joined_and_kept_within_limits() {
        let joined = |fields: &[&str]| state(fields.iter().map(|field| field.as_bytes()));
        let many = |n: usize| {
            (0..n)
                .map(|n| format!("k{n}=v"))
                .collect::<Vec<_>>()
                .join(",")
        };
        let long = format!("long={}", "x".repeat(200));
        for (fields, passed) in [
            (vec!["a=1"], Some("a=1".to_owned())),
            (vec!["a=1,b=2", "c=3"], Some("a=1,b=2,c=3".to_owned())),
            (vec!["a=1 , \tb=2,,"], Some("a=1,b=2".to_owned())),
            (vec!["t@s=1,0x@s=a b"], Some("t@s=1,0x@s=a b".to_owned())),
            (vec![""], None),
            (vec!["a"], None),
            (vec!["a="], None),
            (vec!["A=1"], None),
            (vec!["0=1"], None),
            (vec!["a=b=c"], None),
            (vec!["a=\u{e9}"], None),
            (vec!["t@=1"], None),
            (vec!["@s=1"], None),
            (vec!["t@waytoolongsystem=1"], None),
            (vec!["a=1,b=2,a=3"], None),
            (vec![&many(32)], Some(many(32))),
            (vec![&many(33)], None),
            (vec![&format!("a=1,{long},{long}2")], None),
            (vec![&format!("a=1,{long}")], Some(format!("a=1,{long}"))),
        ] {
            assert_eq!(joined(&fields), passed, "{fields:?}");
        }
        let short = (0..20)
            .map(|n| format!("k{n}={}", "y".repeat(20)))
            .collect::<Vec<_>>();
        let both = format!("{long},{}", short.join(","));
        let passed = joined(&[&both]).unwrap();
        assert!(
            passed.len() <= STATE && passed.starts_with("k0="),
            "the long one goes first: {passed}"
        );
    }
}
