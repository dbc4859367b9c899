//! The PROXY protocol: whatever a header says, it says the same in pieces, and in the other form; and a refusal stays
//! one.
#![no_main]

use std::net::{IpAddr, SocketAddr};

use libfuzzer_sys::fuzz_target;
use pingora_core::protocols::l4::proxy_protocol::{parse, Header, Parsed, MAX_HEADER};

fuzz_target!(|data: &[u8]| {
    let whole = parse(data);
    // Enough to be quick on long ones.
    for n in (0..data.len().min(300)).chain([data.len()]) {
        match parse(&data[..n]) {
            Ok(Parsed::Incomplete { needed }) => {
                assert!(n < needed && needed <= MAX_HEADER);
                if let Ok(Parsed::Complete { length, .. }) = whole {
                    assert!(needed <= length);
                }
            }
            Ok(Parsed::Complete { length, .. }) => {
                assert!(length <= n);
                assert_eq!(parse(&data[..n]), whole);
            }
            Err(_) => assert!(whole.is_err()),
        }
    }
    let Ok(Parsed::Complete { header, .. }) = whole else {
        return;
    };
    let Header::Proxied {
        source,
        destination,
    } = header
    else {
        return;
    };
    assert_eq!(source.is_ipv4(), destination.is_ipv4());
    for written in [
        version_1(source, destination),
        version_2(source, destination),
    ] {
        let length = written.len();
        assert_eq!(parse(&written), Ok(Parsed::Complete { header, length }));
    }
});

fn version_1(source: SocketAddr, destination: SocketAddr) -> Vec<u8> {
    let family = if source.is_ipv4() { "TCP4" } else { "TCP6" };
    let (from, to) = (source.ip(), destination.ip());
    let (source, destination) = (source.port(), destination.port());
    format!("PROXY {family} {from} {to} {source} {destination}\r\n").into_bytes()
}

fn version_2(source: SocketAddr, destination: SocketAddr) -> Vec<u8> {
    let octets = |addr: SocketAddr| match addr.ip() {
        IpAddr::V4(v4) => v4.octets().to_vec(),
        IpAddr::V6(v6) => v6.octets().to_vec(),
    };
    let (family, length) = if source.is_ipv4() {
        (0x11, 12)
    } else {
        (0x21, 36)
    };
    let mut header = b"\r\n\r\n\0\r\nQUIT\n\x21".to_vec();
    header.extend([family, 0, length]);
    header.extend(octets(source));
    header.extend(octets(destination));
    header.extend(source.port().to_be_bytes());
    header.extend(destination.port().to_be_bytes());
    header
}
