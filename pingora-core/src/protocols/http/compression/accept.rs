//! The codings that a client accepts (RFC 9110 12.5.3).

use http::header::{HeaderMap, ACCEPT_ENCODING};

use super::Algorithm;

/// The content codings that `Accept-Encoding` names, best first.
///
/// Weights count; codings of equal weight stay in the order of the client. Without the field
/// nothing is accepted but identity: RFC 9110 lets any coding be sent then, but clients that send
/// none decode none.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(super) struct Accepted {
    ranked: [Ranked; CODINGS],
    len: u8,
    /// Codings that were named, as bits; `*` stands for the others.
    named: u8,
    identity: Option<Weight>,
}

/// All but `Other`.
const CODINGS: usize = 6;

/// Thousandths.
type Weight = u16;

#[derive(Debug, Clone, Copy, Default, PartialEq)]
struct Ranked {
    algorithm: Option<Algorithm>,
    weight: Weight,
}

/// The codings that `*` may become: codings that a client may be thought to know, the most common first.
const FOR_ANY: [Algorithm; 3] = [Algorithm::Gzip, Algorithm::Brotli, Algorithm::Zstd];

impl Accepted {
    pub(super) fn parse(headers: &HeaderMap) -> Self {
        let mut accepted = Self::default();
        for line in headers.get_all(ACCEPT_ENCODING) {
            for member in line.as_bytes().split(|&byte| byte == b',') {
                accepted.add(member);
            }
        }
        accepted
    }

    /// A member that is malformed is not accepted, and the others are none the worse for it.
    fn add(&mut self, member: &[u8]) {
        let mut parts = member.split(|&byte| byte == b';').map(<[u8]>::trim_ascii);
        let Some(coding) = parts.next().and_then(|name| std::str::from_utf8(name).ok()) else {
            return;
        };
        let mut weight = 1000;
        for parameter in parts {
            match qvalue(parameter) {
                Some(value) => weight = value,
                None => return,
            }
        }
        if coding.eq_ignore_ascii_case("identity") {
            self.identity.get_or_insert(weight);
            return;
        }
        let algorithm = Algorithm::from(coding);
        let bit = 1 << algorithm.index();
        if algorithm == Algorithm::Other || self.named & bit != 0 {
            return;
        }
        self.named |= bit;
        self.insert(algorithm, weight);
    }

    fn insert(&mut self, algorithm: Algorithm, weight: Weight) {
        let len = usize::from(self.len);
        let at = self.ranked[..len]
            .iter()
            .position(|ranked| ranked.weight < weight)
            .unwrap_or(len);
        // Each of CODINGS comes once, so there is room for it.
        self.ranked[at..=len].rotate_right(1);
        self.ranked[at] = Ranked {
            algorithm: Some(algorithm),
            weight,
        };
        self.len += 1;
    }

    fn weighted(&self) -> impl Iterator<Item = (Algorithm, Weight)> + '_ {
        self.ranked[..usize::from(self.len)]
            .iter()
            .filter_map(|ranked| Some((ranked.algorithm?, ranked.weight)))
    }

    fn is_named(&self, algorithm: Algorithm) -> bool {
        self.named & (1 << algorithm.index()) != 0
    }

    fn weight_of(&self, algorithm: Algorithm) -> Weight {
        let sought = if self.is_named(algorithm) {
            algorithm
        } else {
            Algorithm::Any
        };
        self.weighted()
            .find_map(|(found, weight)| (found == sought).then_some(weight))
            .unwrap_or(0)
    }

    /// Returns whether a response in this coding may be sent.
    pub(super) fn accepts(&self, algorithm: Algorithm) -> bool {
        self.weight_of(algorithm) > 0
    }

    /// Returns whether this coding was named, and not refused.
    pub(super) fn names(&self, algorithm: Algorithm) -> bool {
        self.is_named(algorithm) && self.accepts(algorithm)
    }

    /// Returns whether a response without a coding may be sent.
    pub(super) fn accepts_identity(&self) -> bool {
        match self.identity {
            Some(weight) => weight > 0,
            None => !self.is_named(Algorithm::Any) || self.accepts(Algorithm::Any),
        }
    }

    /// The best coding among the usable ones; `None` if the client would rather have none.
    pub(super) fn best(&self, usable: impl Fn(Algorithm) -> bool) -> Option<Algorithm> {
        // Identity that is not named is as good as it gets only when nothing else is.
        let least = self.identity.unwrap_or(0).max(1);
        self.weighted()
            .take_while(|(_, weight)| *weight >= least)
            .find_map(|(algorithm, _)| match algorithm {
                Algorithm::Any => FOR_ANY
                    .into_iter()
                    .find(|&algorithm| !self.is_named(algorithm) && usable(algorithm)),
                algorithm => usable(algorithm).then_some(algorithm),
            })
    }
}

/// `q=` and its value in thousandths (RFC 9110 12.4.2).
fn qvalue(parameter: &[u8]) -> Option<Weight> {
    let ([b'q' | b'Q', b'='], value) = parameter.split_at_checked(2)? else {
        return None;
    };
    let (whole, decimals) = match value {
        [b'0'] => (0, &b""[..]),
        [b'1'] => (1000, &b""[..]),
        [b'0', b'.', decimals @ ..] => (0, decimals),
        [b'1', b'.', decimals @ ..] => (1000, decimals),
        _ => return None,
    };
    if decimals.len() > 3 || !decimals.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let fraction = [100, 10, 1]
        .iter()
        .zip(decimals)
        .map(|(scale, digit)| scale * Weight::from(digit - b'0'))
        .sum::<Weight>();
    Some(whole + fraction).filter(|weight| *weight <= 1000)
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::HeaderValue;
    use proptest::prelude::*;
    use Algorithm::*;

    fn parse(lines: &[&str]) -> Accepted {
        let mut headers = HeaderMap::new();
        for line in lines {
            headers.append(ACCEPT_ENCODING, HeaderValue::try_from(*line).unwrap());
        }
        Accepted::parse(&headers)
    }

    #[test]
    fn ranking() {
        for (lines, expected) in [
            (&[][..], &[][..]),
            (&[""], &[]),
            (&["gzip"], &[Gzip]),
            (&["GZip"], &[Gzip]),
            (&["x-gzip"], &[Gzip]),
            (&["gzip, deflate, br, zstd"], &[Gzip, Brotli, Zstd]),
            (&["br", "gzip"], &[Brotli, Gzip]),
            (&["gzip;q=0.5, br"], &[Brotli, Gzip]),
            (
                &["gzip;q=0.001,br;q=0.002 , zstd;q=0.01"],
                &[Zstd, Brotli, Gzip],
            ),
            (&["gzip ; q=0.5 , br ;q=1.000"], &[Brotli, Gzip]),
            (&["gzip;Q=0.5, br;q=0.51"], &[Brotli, Gzip]),
            (&["gzip;q=1., br;q=0."], &[Gzip]),
            (&["gzip;q=0"], &[]),
            (&["gzip;q=0.000, br"], &[Brotli]),
            (&["gzip;q=0, gzip"], &[]),
            (&["dcb, dcz"], &[Dcb, Dcz]),
            // Malformed members.
            (&["gzip;q=2, br"], &[Brotli]),
            (&["gzip;q=1.001, br"], &[Brotli]),
            (&["gzip;q=0.0001, br"], &[Brotli]),
            (&["gzip;q=-1, br"], &[Brotli]),
            (&["gzip;q=, br"], &[Brotli]),
            (&["gzip;q, br"], &[Brotli]),
            (&["gzip;x=1, br"], &[Brotli]),
            (&["gzip;, br"], &[Brotli]),
            (&[", ,br,"], &[Brotli]),
            (&["gzip br"], &[]),
            // Identity is preferred to what is worth less.
            (&["identity, gzip"], &[Gzip]),
            (&["identity, gzip;q=0.5"], &[]),
            (&["identity;q=0.7, gzip;q=0.5, br;q=0.9"], &[Brotli]),
            (&["identity;q=0, gzip"], &[Gzip]),
            // Anything.
            (&["*"], &[Gzip]),
            (&["*;q=0"], &[]),
            (&["*, gzip;q=0"], &[Brotli]),
            (&["*;q=0.5, br"], &[Brotli, Gzip]),
            (&["gzip, *;q=0"], &[Gzip]),
        ] {
            let accepted = parse(lines);
            let mut left = vec![Gzip, Brotli, Zstd, Dcb, Dcz];
            let mut found = Vec::new();
            while let Some(best) = accepted.best(|algorithm| left.contains(&algorithm)) {
                left.retain(|&algorithm| algorithm != best);
                found.push(best);
                if found.len() == expected.len().max(1) {
                    break;
                }
            }
            assert_eq!(found, expected, "{lines:?}");
        }
    }

    #[test]
    fn what_is_acceptable() {
        for (line, algorithm, accepted, named) in [
            ("gzip", Gzip, true, true),
            ("gzip", Brotli, false, false),
            ("gzip;q=0", Gzip, false, false),
            ("*", Brotli, true, false),
            ("*;q=0", Brotli, false, false),
            ("*, br;q=0", Brotli, false, false),
            ("*;q=0, br", Brotli, true, true),
            ("dcz;q=0.1", Dcz, true, true),
        ] {
            let found = parse(&[line]);
            assert_eq!(found.accepts(algorithm), accepted, "{line} {algorithm:?}");
            assert_eq!(found.names(algorithm), named, "{line} {algorithm:?}");
        }
    }

    #[test]
    fn identity_is_acceptable_unless_refused() {
        for (line, expected) in [
            ("", true),
            ("gzip", true),
            ("identity", true),
            ("identity;q=0", false),
            ("*;q=0", false),
            ("*", true),
            ("identity, *;q=0", true),
            ("identity;q=0, *", false),
        ] {
            assert_eq!(parse(&[line]).accepts_identity(), expected, "{line}");
        }
    }

    proptest! {
        #[test]
        fn anything_is_survived(line in prop::collection::vec(0x20u8..=0xff, 0..80)) {
            let mut headers = HeaderMap::new();
            if let Ok(value) = HeaderValue::from_bytes(&line) {
                headers.append(ACCEPT_ENCODING, value);
            }
            let _ = Accepted::parse(&headers).best(|_| true);
        }

        #[test]
        fn the_best_is_accepted(
            members in prop::collection::vec(
                "(gzip|br|zstd|dcb|dcz|identity|\\*|other)(;q=(0|1|0\\.[0-9]{1,3}))?",
                0..12,
            ),
        ) {
            let accepted = parse(&[&members.join(", ")]);
            if let Some(best) = accepted.best(|_| true) {
                prop_assert!(accepted.accepts(best));
                for other in FOR_ANY {
                    prop_assert!(accepted.weight_of(other) <= accepted.weight_of(best));
                }
            }
        }
    }
}
