//! The syntax of Host (RFC 9112 section 3.2).

use std::net::Ipv6Addr;

/// The host and the port, which is empty if there is none.
pub fn split_port(authority: &[u8]) -> (&[u8], &[u8]) {
    // The colons of an IP literal stand before its bracket.
    let name_end = authority.iter().rposition(|&byte| byte == b']');
    let from = name_end.map_or(0, |end| end + 1);
    match authority[from..].iter().position(|&byte| byte == b':') {
        Some(colon) => (&authority[..from + colon], &authority[from + colon + 1..]),
        None => (authority, b""),
    }
}

/// Returns whether `host` is a `uri-host [":" port]` (RFC 9112 section 3.2, RFC 3986 section 3.2.2) with a host that is
/// not empty, as the http and https schemes ask (RFC 9110 section 4.2.1), and a port that exists.
pub fn is_valid_host(host: &[u8]) -> bool {
    // Most hosts are a plain name without a port.
    if !host.is_empty() && host.iter().all(|&byte| is_name_byte(byte)) {
        return true;
    }
    let (name, port) = split_port(host);
    is_valid_port(port)
        && match name {
            [b'[', literal @ .., b']'] => is_ip_literal(literal),
            name => !name.is_empty() && is_reg_name(name),
        }
}

fn is_valid_port(port: &[u8]) -> bool {
    port.iter().all(u8::is_ascii_digit)
        && port
            .iter()
            .try_fold(0u16, |value, digit| {
                value.checked_mul(10)?.checked_add(u16::from(digit - b'0'))
            })
            .is_some()
}

fn is_ip_literal(literal: &[u8]) -> bool {
    match literal {
        // IPvFuture
        [b'v' | b'V', rest @ ..] => {
            let Some(dot) = rest.iter().position(|&byte| byte == b'.') else {
                return false;
            };
            let (version, address) = (&rest[..dot], &rest[dot + 1..]);
            !version.is_empty()
                && version.iter().all(u8::is_ascii_hexdigit)
                && !address.is_empty()
                && address
                    .iter()
                    .all(|&byte| is_name_byte(byte) || byte == b':')
        }
        _ => std::str::from_utf8(literal).is_ok_and(|text| text.parse::<Ipv6Addr>().is_ok()),
    }
}

/// IPv4 addresses are registered names by grammar.
fn is_reg_name(mut name: &[u8]) -> bool {
    loop {
        name = match name {
            [] => return true,
            [b'%', high, low, rest @ ..] if high.is_ascii_hexdigit() && low.is_ascii_hexdigit() => {
                rest
            }
            [byte, rest @ ..] if is_name_byte(*byte) => rest,
            _ => return false,
        }
    }
}

/// `unreserved / sub-delims`
fn is_name_byte(byte: u8) -> bool {
    static IS_NAME_BYTE: [bool; 256] = {
        let mut is = [false; 256];
        let mut byte = 0;
        while byte < 256 {
            is[byte] = (byte as u8).is_ascii_alphanumeric();
            byte += 1;
        }
        let others = b"-._~!$&'()*+,;=";
        let mut at = 0;
        while at < others.len() {
            is[others[at] as usize] = true;
            at += 1;
        }
        is
    };
    IS_NAME_BYTE[usize::from(byte)]
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn valid_hosts() {
        for host in [
            "example.com",
            "EXAMPLE.com",
            "example.com:80",
            "example.com:",
            "example.com:0",
            "example.com:65535",
            "example.com:0080",
            "a",
            "localhost",
            "under_score.example",
            "xn--bcher-kva.example",
            "127.0.0.1",
            "127.0.0.1:8080",
            "999.999.999.999",
            "[::1]",
            "[::1]:443",
            "[2001:db8::ffff:1.2.3.4]",
            "[v1.a:b]",
            "[vF.!]:1",
            "a%20b",
            "a%FFb",
            "a~b!$&'()*+,;=c",
            "trailing.dot.",
        ] {
            assert!(is_valid_host(host.as_bytes()), "{host}");
        }
    }

    #[test]
    fn invalid_hosts() {
        for host in [
            "",
            ":",
            ":80",
            " ",
            "a b",
            " a",
            "a\t",
            "a/b",
            "a?b",
            "a#b",
            "user@a",
            "user:pass@a",
            "a:b",
            "a:80:80",
            "a:-1",
            "a:+1",
            "a:65536",
            "a:99999999999999999999",
            "a:80x",
            "::1",
            "[::1",
            "::1]",
            "[]",
            "[::1]a",
            "[::1]:x",
            "[1.2.3.4]",
            "[fe80::1%25eth0]",
            "[[::1]]",
            "[v.a]",
            "[v1.]",
            "[v1]",
            "[vg.a]",
            "a%",
            "a%2",
            "a%2g",
            "a\\b",
            "a\"b",
            "a<b>",
            "a^b",
            "a`b",
            "a{b}",
            "a|b",
            "a\0",
            "a\x7f",
            "b\u{fc}cher.example",
            "[\u{fc}]",
        ] {
            assert!(!is_valid_host(host.as_bytes()), "{host:?}");
        }
    }

    proptest! {
    #[test]
    fn any_host_is_survived(host: Vec<u8>) {
        let _ = is_valid_host(&host);
    }
    }
}
