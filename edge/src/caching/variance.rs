//! Which stored response a request selects (RFC 9111 section 4.1).

use http::{header, HeaderName};
use pingora_cache::key::HashBinary;
use pingora_cache::{CacheMeta, VarianceBuilder};
use pingora_http::{RequestHeader, ResponseHeader};

/// Names in Vary, in lower case.
fn selecting(response: &ResponseHeader) -> impl Iterator<Item = String> + '_ {
    response
        .headers
        .get_all(header::VARY)
        .iter()
        .flat_map(|line| line.as_bytes().split(|byte| *byte == b','))
        .map(|name| String::from_utf8_lossy(name).trim().to_ascii_lowercase())
        .filter(|name| !name.is_empty())
}

/// Returns whether a response can be selected by no later request.
pub(super) fn varies_by_anything(response: &ResponseHeader) -> bool {
    selecting(response).any(|name| name == "*" || name.parse::<HeaderName>().is_err())
}

/// Returns the variant of a stored response that a request selects: a hash of the request's fields that Vary names,
/// `None` without any.
///
/// Lines of a field are joined and white space around commas does not count. In the fields that negotiate content, the
/// case and the order of members of the same weight do not count either.
pub fn variance(meta: &CacheMeta, request: &RequestHeader) -> Option<HashBinary> {
    let mut builder = VarianceBuilder::new();
    for name in selecting(meta.response_header()) {
        let value = match name.parse::<HeaderName>() {
            Ok(field) => normalized(request, &field),
            Err(_) => Vec::new(),
        };
        builder.add_owned_name_value(name, value);
    }
    builder.finalize()
}

/// The value of a field in one form; nothing for a field that is absent, which is not the same as one that is empty.
fn normalized(request: &RequestHeader, name: &HeaderName) -> Vec<u8> {
    let lines: Vec<&[u8]> = request.values_of(name).collect();
    if lines.is_empty() {
        return Vec::new();
    }
    // A request in the background has the lines of Cookie as one (RFC 9113 section 8.2.3).
    let separator: &[u8] = if *name == header::COOKIE { b"; " } else { b"," };
    let joined = lines.join(separator);
    let mut members: Vec<Vec<u8>> = joined
        .split(|byte| *byte == b',')
        .map(|member| member.trim_ascii().to_vec())
        .collect();
    if [
        header::ACCEPT_ENCODING,
        header::ACCEPT_LANGUAGE,
        header::ACCEPT_CHARSET,
    ]
    .contains(name)
    {
        for member in &mut members {
            member.make_ascii_lowercase();
            member.retain(|byte| !byte.is_ascii_whitespace());
        }
        members.retain(|member| !member.is_empty());
        // Their weights, which stay in the members, say the order.
        members.sort();
    }
    let mut value = b"=".to_vec();
    value.extend(members.join(&b','));
    value
}
