//! Numbers and addresses as text, for what is written at each request: without the machinery of `fmt`.

use std::net::IpAddr;
use std::time::Duration;

/// Appends a number.
#[inline]
pub(crate) fn number(number: impl itoa::Integer, to: &mut Vec<u8>) {
    to.extend_from_slice(itoa::Buffer::new().format(number).as_bytes());
}

/// Appends an address.
pub(crate) fn ip(ip: IpAddr, to: &mut Vec<u8>) {
    with_ip(ip, |text| to.extend_from_slice(text));
}

/// Lends an address in print. The common form is written by hand, which is a tenth of the work.
pub(crate) fn with_ip<T>(ip: IpAddr, f: impl FnOnce(&[u8]) -> T) -> T {
    let mut text = [0; 15];
    let mut length = 0;
    let IpAddr::V4(v4) = ip else {
        return f(ip.to_string().as_bytes());
    };
    for (at, octet) in v4.octets().into_iter().enumerate() {
        if at > 0 {
            text[length] = b'.';
            length += 1;
        }
        for (unit, least) in [(100, 100), (10, 10), (1, 0)] {
            if octet >= least {
                text[length] = b'0' + octet / unit % 10;
                length += 1;
            }
        }
    }
    f(&text[..length])
}

/// Appends seconds, to the microsecond.
pub(crate) fn seconds(time: Duration, to: &mut Vec<u8>) {
    number(time.as_secs(), to);
    to.push(b'.');
    digits::<6>(time.subsec_micros(), to);
}

/// Appends the last `N` digits of a number.
pub(crate) fn digits<const N: usize>(mut number: u32, to: &mut Vec<u8>) {
    let mut text = [b'0'; N];
    for digit in text.iter_mut().rev() {
        *digit += (number % 10) as u8;
        number /= 10;
    }
    to.extend_from_slice(&text);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_those_of_fmt() {
        for text in [
            "0.0.0.0",
            "10.99.100.255",
            "255.255.255.255",
            "::1",
            "2001:db8::ff00:42:8329",
        ] {
            let mut out = b"a ".to_vec();
            ip(text.parse().unwrap(), &mut out);
            assert_eq!(out, format!("a {text}").as_bytes());
        }
        for octet in 0..=255 {
            let v4 = IpAddr::from([octet, 1, octet, 2]);
            let shown = with_ip(v4, |text| String::from_utf8_lossy(text).into_owned());
            assert_eq!(shown, v4.to_string());
        }
        for micros in [0, 1, 999_999, 1_000_000, 71_000_345] {
            let mut out = Vec::new();
            seconds(Duration::from_micros(micros), &mut out);
            let expected = format!("{}.{:06}", micros / 1_000_000, micros % 1_000_000);
            assert_eq!(out, expected.as_bytes());
        }
        let mut out = Vec::new();
        digits::<3>(7, &mut out);
        digits::<3>(1234, &mut out);
        assert_eq!(out, b"007234");
    }
}
