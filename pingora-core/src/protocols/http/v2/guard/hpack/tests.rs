use super::*;

/// Reads a block, and says whether a pseudo field stands in it; and the block as it is passed on.
fn read(blocks: &mut Blocks, block: &[u8]) -> (bool, Vec<u8>) {
    let mut block = block.to_vec();
    let all = 0..block.len();
    blocks.read(&mut block, all).unwrap();
    (blocks.end().unwrap(), block)
}

#[test]
fn pseudo_fields() {
    let cases: [(&str, &[u8], bool); 10] = [
        ("nothing", &[], false),
        ("indexed :path", &[0x84], true),
        ("indexed accept-encoding", &[0x90], false),
        ("name of :status", &[0x0e, 3, b'2', b'0', b'0'], true),
        ("name of accept-charset", &[0x0f, 0, 1, b'x'], false),
        ("literal", &[0, 5, b':', b'p', b'a', b't', b'h', 0], true),
        ("literal that enters", &[0x40, 1, b'a', 0], false),
        ("Huffman :path", &[0, 0x84, 0xb9, 0x58, 0xd3, 0x3f, 0], true),
        ("new size of the table", &[0x3f, 0xe1, 0x1f], false),
        ("never indexed", &[0x14, 1, b'/'], true),
    ];
    for (name, block, pseudo) in cases {
        assert_eq!(
            read(&mut Blocks::default(), block),
            (pseudo, block.to_vec()),
            "{name}"
        );
    }
}

#[test]
fn entries_are_counted_from_the_newest() {
    let mut blocks = Blocks::default();
    assert!(read(&mut blocks, &[0x44, 1, b'/']).0);
    assert!(!read(&mut blocks, &[0x40, 1, b'a', 1, b'b', 0x40, 1, b'c', 0]).0);
    for (index, pseudo) in [(62, false), (63, false), (64, true)] {
        assert_eq!(read(&mut blocks, &[0x80 | index]).0, pseudo, "{index}");
    }
    // The name of an entry, with another value, is a new entry.
    assert!(read(&mut blocks, &[0x7f, 1, 1, b'/']).0);
    assert!(read(&mut blocks, &[0xbe]).0);
    // Older than any table is: for h2 to refuse.
    assert!(!read(&mut blocks, &[0xff, 0x80, 0x7f]).0);
}

#[test]
fn malformed_strings_are_replaced_by_as_many_bytes() {
    let cases: [(&str, &[u8], &[u8]); 11] = [
        ("upper case", &[0, 2, b'A', b'b', 1, b'v'], b"\0\x02&&\x01v"),
        (
            "LF in a value",
            &[0, 1, b'a', 3, b'v', b'\n', b'w'],
            b"\0\x01a\x03 &&",
        ),
        ("DEL in a value", &[0, 1, b'a', 1, 0x7f], b"\0\x01a\x01 "),
        (
            "text beyond ASCII",
            &[0, 1, b'a', 1, 0xff],
            &[0, 1, b'a', 1, 0xff],
        ),
        (
            "unknown pseudo field",
            &[0, 2, b':', b'x', 0],
            b"\0\x02&&\0",
        ),
        (
            "a longer name of one",
            b"\0\x0b:authority2\0",
            b"\0\x0b&&&&&&&&&&&\0",
        ),
        (
            "CR in a method",
            &[0x42, 2, b'\r', b'G'],
            &[0x42, 2, b'&', b'&'],
        ),
        ("a fragment", &[0x44, 3, b'/', b'#', b'a'], b"\x44\x03&&&"),
        (
            "a number sign in a value",
            &[0, 1, b'a', 1, b'#'],
            b"\0\x01a\x01#",
        ),
        // "A" is 100001, padded by ones.
        (
            "Huffman upper case",
            &[0, 0x81, 0b1000_0111, 0],
            &[0, 0x81, 0xf8, 0],
        ),
        // LF has 30 bits.
        (
            "Huffman LF",
            &[0, 1, b'a', 0x84, 0xff, 0xff, 0xff, 0xf3],
            &[0, 1, b'a', 0x84, 0x53, 0xe3, 0xe3, 0xe3],
        ),
    ];
    for (name, block, passed_on) in cases {
        assert_eq!(read(&mut Blocks::default(), block).1, passed_on, "{name}");
    }
    let mut filled = String::new();
    assert!(huffman::decode(&[0x53, 0xe3, 0xe3], |b| filled.push(b.into())));
    assert_eq!(filled, " &&");
}

#[test]
fn what_cannot_be_hpack() {
    for block in [&[0x80][..], &[0xff, 0xff, 0xff, 0xff, 0xff, 0x0f]] {
        let mut block = block.to_vec();
        let all = 0..block.len();
        assert_eq!(
            Blocks::default().read(&mut block, all),
            Err(Reason::COMPRESSION_ERROR)
        );
    }
    let mut blocks = Blocks::default();
    blocks.read(&mut [0x40, 5, b'a'], 0..3).unwrap();
    assert_eq!(blocks.end(), Err(Reason::COMPRESSION_ERROR));
    // A part of the name was passed on.
    let mut blocks = Blocks::default();
    blocks.read(&mut [0x40, 2, b'a'], 0..3).unwrap();
    assert_eq!(
        blocks.read(b"B".to_vec().as_mut_slice(), 0..1),
        Err(Reason::PROTOCOL_ERROR)
    );
}
