//! Values that nearly all messages have: made once, so that a head that has them counts no reference to itself.

use http::HeaderValue;

macro_rules! usual_values {
    ($($value:literal,)*) => {
        /// The value of these bytes, if it is a usual one.
        #[inline]
        pub(super) fn value(bytes: &[u8]) -> Option<HeaderValue> {
            $(
                if bytes == $value.as_bytes() {
                    static VALUE: HeaderValue = HeaderValue::from_static($value);
                    return Some(VALUE.clone());
                }
            )*
            None
        }

        #[cfg(test)]
        const ALL: &[&str] = &[$($value),*];
    };
}

usual_values! {
    "*/*",
    "keep-alive",
    "close",
    "gzip",
    "gzip, deflate",
    "gzip, deflate, br",
    "gzip, deflate, br, zstd",
    "text/html",
    "text/plain",
    "text/html; charset=utf-8",
    "application/json",
    "chunked",
    "bytes",
    "0",
    "no-cache",
    "max-age=0",
    "Accept-Encoding",
    "nosniff",
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn usual_values_are_what_they_were() {
        for usual in ALL {
            assert_eq!(value(usual.as_bytes()).unwrap(), usual);
            for other in [
                usual.to_uppercase(),
                usual[1..].to_owned(),
                format!("{usual} "),
            ] {
                assert!(value(other.as_bytes()).is_none_or(|found| found == other));
            }
        }
        assert_eq!(value(b""), None);
        assert_eq!(value(b"keep-alivf"), None);
    }
}
