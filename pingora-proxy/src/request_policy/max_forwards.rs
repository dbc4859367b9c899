//! Max-Forwards: the number of hops that TRACE and OPTIONS go (RFC 9110 section 7.6.2).

use http::header::MAX_FORWARDS;
use http::Method;
use pingora_error::Result;
use pingora_http::RequestHeader;

use super::refusal::refusal;

/// Returns whether the request asks this proxy to answer in the place of the origin.
///
/// # Errors
/// `InvalidHTTPHeader` of the downstream when Max-Forwards is no number, or stands there more than once: it can be
/// neither checked nor counted, as this proxy must before it passes the request on.
#[inline]
pub(crate) fn is_last_hop(req: &RequestHeader) -> Result<bool> {
    Ok(hops_left(req)? == Some(0))
}

/// Takes this hop from those that are left to the copy of a request.
///
/// # Errors
/// As [`is_last_hop`].
#[inline]
pub(crate) fn count_hop(req: &mut RequestHeader) -> Result<()> {
    match hops_left(req)? {
        Some(left) => req.insert_header(MAX_FORWARDS, left.saturating_sub(1)),
        None => Ok(()),
    }
}

/// Returns how often the request may still be passed on; `None` for as often as needed. The field means nothing to
/// other methods.
#[inline]
fn hops_left(req: &RequestHeader) -> Result<Option<u64>> {
    match req.method {
        Method::TRACE | Method::OPTIONS => max_forwards(req),
        _ => Ok(None),
    }
}

fn max_forwards(req: &RequestHeader) -> Result<Option<u64>> {
    let mut values = req.headers.get_all(MAX_FORWARDS).iter();
    let Some(value) = values.next() else {
        return Ok(None);
    };
    let value = value.as_bytes().trim_ascii();
    if values.next().is_some() || value.is_empty() || !value.iter().all(u8::is_ascii_digit) {
        return Err(refusal("malformed Max-Forwards"));
    }
    // What is larger than can be counted becomes the largest number that can.
    let add = |n: u64, digit: &u8| n.saturating_mul(10).saturating_add((digit - b'0').into());
    Ok(Some(value.iter().fold(0, add)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(method: Method, values: &[&str]) -> RequestHeader {
        let mut req = RequestHeader::build(method, b"/", None).unwrap();
        for value in values {
            req.append_header("Max-Forwards", *value).unwrap();
        }
        req
    }

    #[test]
    fn hops_are_counted() {
        let largest = u64::MAX.to_string();
        let next = (u64::MAX - 1).to_string();
        for (value, last, passed_on) in [
            ("0", true, "0"),
            ("00", true, "0"),
            ("1", false, "0"),
            ("10", false, "9"),
            (&largest, false, &next),
            ("99999999999999999999999999", false, &next),
        ] {
            for method in [Method::TRACE, Method::OPTIONS] {
                let mut req = request(method, &[value]);
                assert_eq!(is_last_hop(&req).unwrap(), last, "{value}");
                count_hop(&mut req).unwrap();
                let values: Vec<_> = req.headers.get_all(MAX_FORWARDS).iter().collect();
                assert_eq!(values, [passed_on], "{value}");
            }
        }
    }

    #[test]
    fn what_cannot_be_counted_is_refused() {
        for values in [
            &[""][..],
            &["-1"],
            &["+1"],
            &["1, 2"],
            &["1", "1"],
            &["x"],
            &["0x1"],
        ] {
            let mut req = request(Method::OPTIONS, values);
            assert!(is_last_hop(&req).is_err(), "{values:?}");
            assert!(count_hop(&mut req).is_err(), "{values:?}");
        }
    }

    #[test]
    fn others_are_left_alone() {
        for mut req in [
            request(Method::GET, &["0"]),
            request(Method::GET, &["x"]),
            request(Method::TRACE, &[]),
        ] {
            let before = req.headers.clone();
            assert!(!is_last_hop(&req).unwrap());
            count_hop(&mut req).unwrap();
            assert_eq!(req.headers, before);
        }
    }
}
