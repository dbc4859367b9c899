//! The fields of a response header that decide about compressing its body, and their values afterwards.

use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use http::{StatusCode, Version};
use pingora_error::Result;
use pingora_http::ResponseHeader;

use super::Algorithm;

/// Shorter bodies grow by compression, or nearly so.
const MIN_LENGTH: usize = 20;

/// Digests of what is transformed are wrong afterwards (RFC 9530, RFC 1864).
const DIGESTS: [&str; 4] = ["content-digest", "repr-digest", "digest", "content-md5"];

pub(super) const AVAILABLE_DICTIONARY: HeaderName = HeaderName::from_static("available-dictionary");

/// Returns whether the response has a body, and one that may be transformed: all of a representation
/// (RFC 9110 15.3.7 parts of one cannot be), without `no-transform` (RFC 9111 5.2.2.6).
pub(super) fn is_transformable(resp: &ResponseHeader) -> bool {
    let status = resp.status;
    let whole = !status.is_informational()
        && !matches!(
            status,
            StatusCode::NO_CONTENT
                | StatusCode::RESET_CONTENT
                | StatusCode::PARTIAL_CONTENT
                | StatusCode::NOT_MODIFIED
        );
    whole && !resp.headers.contains_key(header::CONTENT_RANGE) && may_be_transformed(resp)
}

/// Returns whether the origin allows another form of its body (RFC 9111 section 5.2.2.6).
pub(super) fn may_be_transformed(resp: &ResponseHeader) -> bool {
    !has_member(&resp.headers, header::CACHE_CONTROL, "no-transform")
}

/// Returns the condition of a request that has weak entity tags (RFC 9110 section 13.1.2).
pub(super) fn weak_tags(headers: &HeaderMap) -> Option<HeaderValue> {
    let mut tags = headers.get_all(header::IF_NONE_MATCH).into_iter();
    let weak = tags.find(|tags| tags.as_bytes().windows(3).any(|begin| begin == b"W/\""));
    weak.cloned()
}

/// Returns whether the strong entity tag of a response is a weak one of these.
pub(super) fn is_weakly_in(resp: &ResponseHeader, tags: &HeaderValue) -> bool {
    let Some(tag) = resp.headers.get(header::ETAG) else {
        return false;
    };
    let weak = [b"W/", tag.as_bytes()].concat();
    let mut found = tags.as_bytes().windows(weak.len());
    found.any(|one| one == weak)
}

/// Returns whether the body is worth compressing: of a type that has redundancy, not too short, and
/// without a content coding.
pub(super) fn is_compressible(resp: &ResponseHeader) -> bool {
    let headers = &resp.headers;
    if headers.contains_key(header::CONTENT_ENCODING) {
        return false;
    }
    let length = headers
        .get(header::CONTENT_LENGTH)
        .and_then(|length| length.to_str().ok()?.parse::<usize>().ok());
    if length.is_some_and(|length| length < MIN_LENGTH) {
        return false;
    }
    headers
        .get(header::CONTENT_TYPE)
        .and_then(|value| value.as_bytes().split(|&byte| byte == b';').next())
        .and_then(|media_type| std::str::from_utf8(media_type.trim_ascii()).ok())
        .is_some_and(is_compressible_type)
}

/// Types that Pingora 0.9.1 compresses, and few more: text, what applications define, and the images without a
/// compression of their own. gRPC frames and compresses its messages itself.
fn is_compressible_type(media_type: &str) -> bool {
    let media_type = media_type.to_ascii_lowercase();
    let Some((kind, subtype)) = media_type.split_once('/') else {
        return false;
    };
    match kind {
        "text" | "application" | "font" => {
            let grpc = kind == "application" && subtype.starts_with("grpc");
            !grpc && !subtype.contains("zip")
        }
        "image" => IMAGE_TYPES.contains(&subtype),
        "binary" => subtype == "octet-stream",
        // Structured syntax suffixes (RFC 6839, RFC 9512).
        _ => ["+json", "+xml", "+yaml"]
            .iter()
            .any(|suffix| subtype.ends_with(suffix)),
    }
}

const IMAGE_TYPES: [&str; 5] = ["bmp", "svg+xml", "vnd.microsoft.icon", "x-icon", "x-ms-bmp"];

/// The content coding; `None` if there is none or more than one.
pub(super) fn coding(headers: &HeaderMap) -> Option<Algorithm> {
    let mut values = headers.get_all(header::CONTENT_ENCODING).into_iter();
    let value = values.next()?;
    if values.next().is_some() {
        return None;
    }
    // A list of codings is no name of one, and so becomes `Other`.
    Some(Algorithm::from(value.to_str().ok()?.trim()))
}

/// Says that the body is in this coding now.
///
/// # Errors
///
/// If the header has no room; it is unchanged then.
pub(super) fn set_coding(resp: &mut ResponseHeader, coding: Algorithm) -> Result<()> {
    let name = HeaderValue::from_static(coding.as_str());
    resp.insert_header(header::CONTENT_ENCODING, name)
}

/// Says that the body is in no coding now.
pub(super) fn remove_coding(resp: &mut ResponseHeader) {
    resp.remove_header(&header::CONTENT_ENCODING);
}

/// Takes back what is no longer true of a transformed body: its length, its byte ranges, its
/// digests, and that it is byte for byte what the entity tag names (RFC 9110 8.8.1).
pub(super) fn adjust_to_new_body(resp: &mut ResponseHeader, preserve_etag: bool) {
    let had_length = resp.remove_header(&header::CONTENT_LENGTH).is_some();
    resp.remove_header(&header::ACCEPT_RANGES);
    for digest in DIGESTS {
        resp.remove_header(digest);
    }
    if had_length && resp.version == Version::HTTP_11 {
        // It takes the place of Content-Length, so there is room.
        let chunked = HeaderValue::from_static("chunked");
        let _ = resp.insert_header(header::TRANSFER_ENCODING, chunked);
    }
    if !preserve_etag {
        weaken_etag(resp);
    }
}

/// Makes an entity tag one that names no bytes.
pub(super) fn weaken_etag(resp: &mut ResponseHeader) {
    let Some(tag) = resp.headers.get(header::ETAG) else {
        return;
    };
    let weak = match tag.as_bytes() {
        [b'W', b'/', ..] => return,
        strong @ [b'"', ..] => HeaderValue::try_from([b"W/", strong].concat()).ok(),
        // What is no entity tag cannot be made a weak one.
        _ => None,
    };
    resp.remove_header(&header::ETAG);
    if let Some(weak) = weak {
        let _ = resp.insert_header(header::ETAG, weak);
    }
}

/// Says that the response depends on this field of the request (RFC 9110 12.5.5).
pub(super) fn add_vary(resp: &mut ResponseHeader, field: HeaderName) {
    if has_member(&resp.headers, header::VARY, field.as_str())
        || has_member(&resp.headers, header::VARY, "*")
    {
        return;
    }
    // Only a full header map refuses, and a cache serves what it has to anyone then; the client
    // of this response is not worse off.
    let _ = resp.append_header(header::VARY, HeaderValue::from(field));
}

/// Returns whether a list has a member, in any letter case.
fn has_member(headers: &HeaderMap, list: HeaderName, member: &str) -> bool {
    headers.get_all(list).into_iter().any(|line| {
        line.as_bytes()
            .split(|&byte| byte == b',')
            .any(|found| found.trim_ascii().eq_ignore_ascii_case(member.as_bytes()))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn response(fields: &[(&'static str, &str)]) -> ResponseHeader {
        let mut resp = ResponseHeader::build(200, None).unwrap();
        for (name, value) in fields {
            resp.append_header(*name, *value).unwrap();
        }
        resp
    }

    #[test]
    fn types() {
        for (media_type, expected) in [
            ("text/html", true),
            ("text/html; charset=utf-8", true),
            ("TEXT/CSS", true),
            ("text/event-stream", true),
            ("application/json", true),
            ("Application/JSON;charset=utf-8", true),
            ("application/problem+json", true),
            ("application/javascript", true),
            ("application/xml", true),
            ("application/atom+xml", true),
            ("image/svg+xml", true),
            ("model/gltf+json", true),
            ("application/wasm", true),
            ("application/vnd.ms-fontobject", true),
            ("font/ttf", true),
            ("font/otf", true),
            ("font/woff", true),
            ("font/woff2", true),
            ("image/x-icon", true),
            ("image/bmp", true),
            ("image/png", false),
            ("image/jpeg", false),
            ("video/mp4", false),
            ("application/zip", false),
            ("application/gzip", false),
            ("application/x-gzip", false),
            ("application/epub+zip", false),
            ("application/pdf", true),
            ("application/octet-stream", true),
            ("binary/octet-stream", true),
            ("application/json; profile=\"a/zip\"", true),
            ("application/grpc", false),
            ("application/grpc+proto", false),
            ("multipart/byteranges; boundary=x", false),
            ("text", false),
            ("", false),
        ] {
            let resp = response(&[("content-type", media_type)]);
            assert_eq!(is_compressible(&resp), expected, "{media_type}");
        }
        assert!(!is_compressible(&response(&[])));
    }

    #[test]
    fn lengths_and_codings() {
        let text = ("content-type", "text/plain");
        for (field, expected) in [
            (("content-length", "19"), false),
            (("content-length", "20"), true),
            (("content-length", "0"), false),
            (("content-length", "x"), true),
            (("content-encoding", "gzip"), false),
            (("content-encoding", "identity"), false),
        ] {
            assert_eq!(
                is_compressible(&response(&[text, field])),
                expected,
                "{field:?}"
            );
        }
    }

    #[test]
    fn whole_bodies_only() {
        for (status, expected) in [
            (100, false),
            (200, true),
            (203, true),
            (204, false),
            (205, false),
            (206, false),
            (304, false),
            (404, true),
            (500, true),
        ] {
            let resp = ResponseHeader::build(status, None).unwrap();
            assert_eq!(is_transformable(&resp), expected, "{status}");
        }
        for (field, expected) in [
            (("content-range", "bytes 0-1/2"), false),
            (("cache-control", "no-transform"), false),
            (("cache-control", "max-age=1, No-Transform"), false),
            (("cache-control", "max-age=1"), true),
        ] {
            assert_eq!(is_transformable(&response(&[field])), expected, "{field:?}");
        }
    }

    #[test]
    fn codings() {
        let coded = |values: &[&str]| {
            let fields: Vec<_> = values.iter().map(|v| ("content-encoding", *v)).collect();
            coding(&response(&fields).headers)
        };
        assert_eq!(coded(&[]), None);
        assert_eq!(coded(&["gzip"]), Some(Algorithm::Gzip));
        assert_eq!(coded(&[" BR "]), Some(Algorithm::Brotli));
        assert_eq!(coded(&["gzip, br"]), Some(Algorithm::Other));
        assert_eq!(coded(&["gzip", "br"]), None);
    }

    #[test]
    fn etags() {
        for (tag, preserve, expected) in [
            (r#""a""#, false, Some(r#"W/"a""#)),
            (r#"W/"a""#, false, Some(r#"W/"a""#)),
            (r#""a""#, true, Some(r#""a""#)),
            ("a", false, None),
        ] {
            let mut resp = response(&[("etag", tag)]);
            adjust_to_new_body(&mut resp, preserve);
            let found = resp.headers.get("etag").map(|tag| tag.to_str().unwrap());
            assert_eq!(found, expected, "{tag} {preserve}");
        }
    }

    #[test]
    fn fields_of_the_old_body_go() {
        let fields = [
            ("content-length", "100"),
            ("accept-ranges", "bytes"),
            ("content-digest", "sha-256=:AA==:"),
            ("repr-digest", "sha-256=:AA==:"),
            ("content-md5", "AA=="),
            ("content-type", "text/plain"),
        ];
        for (version, expected) in [
            (Version::HTTP_11, &["content-type", "transfer-encoding"][..]),
            (Version::HTTP_10, &["content-type"]),
            (Version::HTTP_2, &["content-type"]),
        ] {
            let mut resp = response(&fields);
            resp.set_version(version);
            adjust_to_new_body(&mut resp, false);
            let mut names: Vec<_> = resp.headers.keys().map(|name| name.as_str()).collect();
            names.sort_unstable();
            assert_eq!(names, expected);
        }
    }

    #[test]
    fn vary_is_added_once() {
        for (before, expected) in [
            (&[][..], &["accept-encoding"][..]),
            (&["origin"], &["origin", "accept-encoding"]),
            (&["Origin, Accept-Encoding"], &["Origin, Accept-Encoding"]),
            (&["*"], &["*"]),
        ] {
            let fields: Vec<_> = before.iter().map(|v| ("vary", *v)).collect();
            let mut resp = response(&fields);
            add_vary(&mut resp, header::ACCEPT_ENCODING);
            add_vary(&mut resp, header::ACCEPT_ENCODING);
            let found: Vec<_> = resp.headers.get_all("vary").into_iter().collect();
            assert_eq!(found, expected);
        }
    }
}
