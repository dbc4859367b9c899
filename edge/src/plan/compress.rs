//! Which responses are compressed, and how.

use crate::config::model::Coding;
use crate::config::values::glob_matches;

/// Compression of a route's responses.
#[derive(Debug)]
pub struct CompressRule {
    /// The codings by preference, each with its level.
    pub codings: Vec<(Coding, u32)>,
    /// Patterns of types, in lower case.
    pub types: Vec<String>,
    /// The bytes from which on a response is compressed.
    pub min_size: u64,
}

impl CompressRule {
    /// Tells whether a response of this type, with this length if that is known, is compressed for whoever accepts it.
    pub fn fits(&self, content_type: &[u8], length: Option<u64>) -> bool {
        if length.is_some_and(|length| length < self.min_size) {
            return false;
        }
        let media_type = content_type.split(|b| *b == b';').next().unwrap_or(b"");
        let media_type = media_type.trim_ascii().to_ascii_lowercase();
        // Its events are to come at once.
        media_type != b"text/event-stream"
            && self
                .types
                .iter()
                .any(|pattern| glob_matches(pattern.as_bytes(), &media_type))
    }

    /// Returns the coding that a client would rather have by its Accept-Encoding, and its level; among those that it
    /// accepts alike, the first of the route (RFC 9110 section 12.5.3).
    pub fn choose<'a>(
        &self,
        accepted: impl Iterator<Item = &'a [u8]> + Clone,
    ) -> Option<(Coding, u32)> {
        let mut best: Option<(u32, (Coding, u32))> = None;
        for (coding, level) in &self.codings {
            let weight = weight(*coding, accepted.clone());
            if weight > best.map_or(0, |(best, _)| best) {
                best = Some((weight, (*coding, *level)));
            }
        }
        best.map(|(_, chosen)| chosen)
    }
}

/// Returns the weight of a coding in thousandths; 0 when it is not accepted.
fn weight<'a>(coding: Coding, accepted: impl Iterator<Item = &'a [u8]>) -> u32 {
    let names: &[&str] = match coding {
        Coding::Zstd => &["zstd"],
        Coding::Brotli => &["br"],
        Coding::Gzip => &["gzip", "x-gzip"],
    };
    let mut any = 0;
    for member in accepted.flat_map(|line| line.split(|b| *b == b',')) {
        let mut parts = member.split(|b| *b == b';').map(<[u8]>::trim_ascii);
        let name = parts.next().unwrap_or(b"");
        let q = parts.find_map(|part| {
            let q = part
                .strip_prefix(b"q=")
                .or_else(|| part.strip_prefix(b"Q="))?;
            let q: f32 = std::str::from_utf8(q).ok()?.parse().ok()?;
            Some((q.clamp(0.0, 1.0) * 1000.0) as u32)
        });
        let q = q.unwrap_or(1000);
        if names
            .iter()
            .any(|known| name.eq_ignore_ascii_case(known.as_bytes()))
        {
            return q;
        }
        if name == b"*" {
            any = q;
        }
    }
    any
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rule() -> CompressRule {
        CompressRule {
            codings: vec![(Coding::Zstd, 3), (Coding::Brotli, 4), (Coding::Gzip, 5)],
            types: vec!["text/*".into(), "application/*+json".into()],
            min_size: 100,
        }
    }

    #[test]
    fn the_clients_weight_counts_and_then_the_routes_order() {
        let choose = |field: &'static str| {
            let chosen = rule().choose([field.as_bytes()].into_iter());
            chosen.map(|(coding, _)| coding)
        };
        assert_eq!(choose("gzip, deflate, br, zstd"), Some(Coding::Zstd));
        assert_eq!(choose("gzip, br;q=0.9"), Some(Coding::Gzip));
        assert_eq!(choose("x-GZIP"), Some(Coding::Gzip));
        assert_eq!(choose("zstd;q=0, *"), Some(Coding::Brotli));
        assert_eq!(choose("identity"), None);
        assert_eq!(choose("gzip;q=0"), None);
        assert_eq!(choose(""), None);
        assert_eq!(choose("gzip;q=nan"), None);
    }

    #[test]
    fn types_and_sizes() {
        let rule = rule();
        for (content_type, length, fits) in [
            ("text/html; charset=utf-8", None, true),
            ("Text/CSS", Some(100), true),
            ("text/css", Some(99), false),
            ("application/problem+json", None, true),
            ("application/json", None, false),
            ("text/event-stream", None, false),
            ("", None, false),
        ] {
            let found = rule.fits(content_type.as_bytes(), length);
            assert_eq!(found, fits, "{content_type}");
        }
    }
}
