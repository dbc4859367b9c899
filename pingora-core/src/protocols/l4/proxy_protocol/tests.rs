use proptest::prelude::*;

use super::*;

fn proxied(source: &str, destination: &str) -> Header {
    Header::Proxied {
        source: source.parse().unwrap(),
        destination: destination.parse().unwrap(),
    }
}

/// A header of version 2 with this after the length.
fn v2(command: u8, family: u8, block: &[u8]) -> Vec<u8> {
    let length = u16::try_from(block.len()).unwrap();
    [V2, &[command, family], &length.to_be_bytes(), block].concat()
}

fn v2_block(source: SocketAddr, destination: SocketAddr) -> (u8, Vec<u8>) {
    let ports = [source.port(), destination.port()].map(u16::to_be_bytes);
    let (family, addresses) = match (source.ip(), destination.ip()) {
        (IpAddr::V4(a), IpAddr::V4(b)) => (0x11, [a.octets(), b.octets()].concat()),
        (IpAddr::V6(a), IpAddr::V6(b)) => (0x21, [a.octets(), b.octets()].concat()),
        _ => panic!("of one family"),
    };
    (family, [addresses, ports.concat()].concat())
}

/// What a whole header says; what comes behind it does not matter, and each part of it is incomplete.
fn check(header: &[u8], says: Header) {
    let complete = Parsed::Complete {
        header: says,
        length: header.len(),
    };
    for behind in [&b""[..], b"G", b"\r\n", b"PROXY TCP4 "] {
        assert_eq!(parse(&[header, behind].concat()), Ok(complete));
    }
    for n in 0..header.len() {
        match parse(&header[..n]) {
            Ok(Parsed::Incomplete { needed }) => assert!(n < needed && needed <= header.len()),
            other => panic!("{n} bytes: {other:?}"),
        }
    }
}

#[test]
fn version_1() {
    let table = [
        (
            "PROXY TCP4 192.0.2.1 203.0.113.5 56324 443\r\n",
            proxied("192.0.2.1:56324", "203.0.113.5:443"),
        ),
        (
            "PROXY TCP6 2001:db8::1 ::ffff:192.0.2.1 0 65535\r\n",
            proxied("[2001:db8::1]:0", "[::ffff:192.0.2.1]:65535"),
        ),
        ("PROXY UNKNOWN\r\n", Header::Local),
        ("PROXY UNKNOWN ffff::1 a b\r\n", Header::Local),
    ];
    for (line, says) in table {
        check(line.as_bytes(), says);
    }
    // As long as it may be, and one byte longer.
    let longest = format!("PROXY UNKNOWN {}\r\n", "x".repeat(V1_MAX - 16));
    check(longest.as_bytes(), Header::Local);
    let longer = format!("PROXY UNKNOWN {}\r\n", "x".repeat(V1_MAX - 15));
    assert!(parse(longer.as_bytes()).is_err());
    assert!(parse(&longer.as_bytes()[..V1_MAX]).is_err());
}

#[test]
fn what_is_no_header_of_version_1() {
    for line in [
        "GET / HTTP/1.1\r\n",
        "PROXY\r\n",
        "PROXYX TCP4 192.0.2.1 192.0.2.2 1 2\r\n",
        "proxy TCP4 192.0.2.1 192.0.2.2 1 2\r\n",
        "PROXY \r\n",
        "PROXY unknown\r\n",
        "PROXY TCP5 192.0.2.1 192.0.2.2 1 2\r\n",
        "PROXY TCP4 192.0.2.1 192.0.2.2 1 2\n",
        "PROXY TCP4 192.0.2.1 192.0.2.2 1\r\n",
        "PROXY TCP4 192.0.2.1 192.0.2.2 1 2 3\r\n",
        "PROXY TCP4 192.0.2.1 192.0.2.2 1 2 \r\n",
        "PROXY TCP4  192.0.2.1 192.0.2.2 1 2\r\n",
        "PROXY TCP4\t192.0.2.1 192.0.2.2 1 2\r\n",
        "PROXY TCP4 192.0.2.01 192.0.2.2 1 2\r\n",
        "PROXY TCP4 192.0.2 192.0.2.2 1 2\r\n",
        "PROXY TCP4 192.0.2.1 192.0.2.2 +1 2\r\n",
        "PROXY TCP4 192.0.2.1 192.0.2.2 01 2\r\n",
        "PROXY TCP4 192.0.2.1 192.0.2.2 65536 2\r\n",
        "PROXY TCP4 192.0.2.1 192.0.2.2 1 \r\n",
        "PROXY TCP4 ::1 ::1 1 2\r\n",
        "PROXY TCP6 192.0.2.1 192.0.2.2 1 2\r\n",
        "PROXY TCP6 [::1] ::1 1 2\r\n",
        "PROXY TCP6 fe80::1%eth0 ::1 1 2\r\n",
    ] {
        assert!(parse(line.as_bytes()).is_err(), "{line:?}");
    }
    assert!(parse(b"PROXY TCP4 \xff 192.0.2.2 1 2\r\n").is_err());
}

#[test]
fn version_2() {
    let (a, b) = (
        "192.0.2.1:1".parse().unwrap(),
        "192.0.2.2:258".parse().unwrap(),
    );
    let (family, block) = v2_block(a, b);
    let says = proxied("192.0.2.1:1", "192.0.2.2:258");
    check(&v2(0x21, family, &block), says);
    // Fields behind the addresses are skipped, whatever they are.
    for fields in [&b"\x04\x00\x01x"[..], b"\xff", &[0; 300]] {
        check(&v2(0x21, family, &[&block, fields].concat()), says);
    }
    let (a, b) = (
        "[2001:db8::1]:1".parse().unwrap(),
        "[::1]:65535".parse().unwrap(),
    );
    let (family, block) = v2_block(a, b);
    let says = proxied("[2001:db8::1]:1", "[::1]:65535");
    check(&v2(0x21, family, &block), says);
    // A datagram's addresses are addresses.
    check(&v2(0x21, 0x22, &block), says);

    // Of itself, of nobody that is known, and of one without an IP address.
    for (command, family, block) in [
        (0x20, 0x00, &[][..]),
        (0x20, 0x11, &[0; 12]),
        (0x20, 0xff, &[0; 3]),
        (0x21, 0x00, &[]),
        (0x21, 0x00, &[0; 40]),
        (0x21, 0x31, &[0; 216]),
        (0x21, 0x32, &[0; 217]),
    ] {
        check(&v2(command, family, block), Header::Local);
    }
    check(&v2(0x20, 0, &[0; MAX_HEADER - V2_MIN]), Header::Local);
}

#[test]
fn what_is_no_header_of_version_2() {
    for (command, family, block) in [
        (0x22, 0x11, &[0; 12][..]),
        (0x11, 0x11, &[0; 12]),
        (0x31, 0x11, &[0; 12]),
        (0x21, 0x11, &[0; 11]),
        (0x21, 0x21, &[0; 35]),
        (0x21, 0x31, &[0; 215]),
        (0x21, 0x10, &[0; 12]),
        (0x21, 0x13, &[0; 12]),
        (0x21, 0x41, &[0; 12]),
        (0x20, 0x00, &[0; MAX_HEADER - V2_MIN + 1]),
    ] {
        assert!(parse(&v2(command, family, block)).is_err());
    }
    // The length is enough to know.
    let long = v2(0x21, 0x11, &[0; 60_000]);
    assert!(parse(&long[..V2_MIN]).is_err());
    assert!(parse(b"\r\n\r\n\0\r\nQUIT\r").is_err());
    assert!(parse(b"\r\n\r\n\0\r\nQUIT\n\x51").is_err());
}

fn pair() -> impl Strategy<Value = (SocketAddr, SocketAddr)> {
    let of = |v4: bool| {
        any::<([u8; 16], u16)>().prop_map(move |(octets, port)| {
            let ip = if v4 {
                IpAddr::from([octets[0], octets[1], octets[2], octets[3]])
            } else {
                IpAddr::from(octets)
            };
            SocketAddr::new(ip, port)
        })
    };
    any::<bool>().prop_flat_map(move |v4| (of(v4), of(v4)))
}

proptest! {
    #[test]
    fn what_is_written_is_read((source, destination) in pair(), fields in any::<Vec<u8>>()) {
        let says = Header::Proxied { source, destination };
        let family = if source.is_ipv4() { "TCP4" } else { "TCP6" };
        let (from, to) = (source.ip(), destination.ip());
        let line = format!("PROXY {family} {from} {to} {} {}\r\n", source.port(), destination.port());
        check(line.as_bytes(), says);
        let (family, mut block) = v2_block(source, destination);
        block.extend(fields);
        check(&v2(0x21, family, &block), says);
    }

    #[test]
    fn anything_is_read_or_refused_for_good(
        version in 0..3,
        tail in proptest::collection::vec(any::<u8>(), 0..300),
        words in "[A-Z0-9.: \r\n]{0,120}",
    ) {
        let bytes = match version {
            0 => tail,
            1 => [V1, words.as_bytes()].concat(),
            _ => [V2, &tail].concat(),
        };
        let whole = parse(&bytes);
        for n in 0..=bytes.len() {
            match parse(&bytes[..n]) {
                Ok(Parsed::Incomplete { needed }) => prop_assert!(needed > n && needed <= MAX_HEADER),
                Ok(Parsed::Complete { length, .. }) => {
                    prop_assert!(length <= n);
                    prop_assert_eq!(parse(&bytes[..n]), whole);
                }
                Err(_) => prop_assert!(whole.is_err()),
            }
        }
    }
}
