//! The Huffman code of HPACK (RFC 7541 appendix B), read one byte of text at a time.
//!
//! The code is canonical: codes of one length follow each other in the order of what they stand for, so that
//! the lengths say everything.

/// The length of each byte's code in bits.
#[rustfmt::skip]
const LENGTHS: [u8; 256] = [
    13, 23, 28, 28, 28, 28, 28, 28, 28, 24, 30, 28, 28, 30, 28, 28, 28, 28, 28, 28, 28, 28, 30, 28,
    28, 28, 28, 28, 28, 28, 28, 28, 6, 10, 10, 12, 13, 6, 8, 11, 10, 10, 8, 11, 8, 6, 6, 6,
    5, 5, 5, 6, 6, 6, 6, 6, 6, 6, 7, 8, 15, 6, 12, 10, 13, 6, 7, 7, 7, 7, 7, 7,
    7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 8, 7, 8, 13, 19, 13, 14, 6,
    15, 5, 6, 5, 6, 5, 6, 6, 6, 5, 7, 7, 6, 6, 6, 5, 6, 7, 6, 5, 5, 6, 7, 7,
    7, 7, 7, 15, 11, 14, 13, 28, 20, 22, 20, 20, 22, 22, 22, 23, 22, 23, 23, 23, 23, 23, 24, 23,
    24, 24, 22, 23, 24, 23, 23, 23, 23, 21, 22, 23, 22, 23, 23, 24, 22, 21, 20, 22, 22, 23, 23, 21,
    23, 22, 22, 24, 21, 22, 23, 23, 21, 21, 22, 21, 23, 22, 23, 23, 20, 22, 22, 22, 23, 22, 22, 23,
    26, 26, 20, 19, 22, 23, 22, 25, 26, 26, 26, 27, 27, 26, 24, 25, 19, 21, 26, 27, 27, 26, 27, 24,
    21, 21, 26, 26, 28, 27, 27, 27, 20, 24, 20, 21, 22, 21, 21, 23, 22, 22, 25, 25, 24, 24, 26, 23,
    26, 27, 26, 26, 27, 27, 27, 27, 27, 28, 27, 27, 27, 27, 27, 26,
];
const LONGEST: usize = 30;
/// More bits than the longest code, of which at most seven may be left at the end, all of them set.
const MOST_PADDING: u32 = 7;

struct Table {
    /// For each length, the first code that has it, and where its bytes begin.
    first: [u32; LONGEST + 1],
    begin: [usize; LONGEST + 1],
    count: [u32; LONGEST + 1],
    bytes: [u8; 256],
}

const TABLE: Table = table();

const fn table() -> Table {
    let mut table = Table {
        first: [0; LONGEST + 1],
        begin: [0; LONGEST + 1],
        count: [0; LONGEST + 1],
        bytes: [0; 256],
    };
    let (mut code, mut at, mut length) = (0, 0, 1);
    while length <= LONGEST {
        code <<= 1;
        table.first[length] = code;
        table.begin[length] = at;
        let mut byte = 0;
        while byte < 256 {
            if LENGTHS[byte] as usize == length {
                table.bytes[at] = byte as u8;
                at += 1;
                code += 1;
                table.count[length] += 1;
            }
            byte += 1;
        }
        length += 1;
    }
    table
}

/// Gives the text of `coded` byte by byte; `false` when it is not in the code.
pub(super) fn decode(coded: &[u8], mut each: impl FnMut(u8)) -> bool {
    let (mut code, mut length) = (0, 0);
    for bit in coded
        .iter()
        .flat_map(|byte| (0..8).rev().map(move |n| byte >> n & 1))
    {
        code = code << 1 | u32::from(bit);
        length += 1;
        let Some(&first) = TABLE.first.get(length) else {
            return false;
        };
        if code >= first && code - first < TABLE.count[length] {
            each(TABLE.bytes[TABLE.begin[length] + (code - first) as usize]);
            (code, length) = (0, 0);
        }
    }
    length as u32 <= MOST_PADDING && code == (1 << length) - 1
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(coded: &[u8]) -> Option<String> {
        let mut text = Vec::new();
        decode(coded, |byte| text.push(byte)).then(|| String::from_utf8(text).unwrap())
    }

    /// The examples of RFC 7541 appendix C.4 and C.6.
    #[test]
    fn examples() {
        let table: [(&[u8], &str); 5] = [
            (
                &[
                    0xf1, 0xe3, 0xc2, 0xe5, 0xf2, 0x3a, 0x6b, 0xa0, 0xab, 0x90, 0xf4, 0xff,
                ],
                "www.example.com",
            ),
            (&[0xa8, 0xeb, 0x10, 0x64, 0x9c, 0xbf], "no-cache"),
            (
                &[0x25, 0xa8, 0x49, 0xe9, 0x5b, 0xb8, 0xe8, 0xb4, 0xbf],
                "custom-value",
            ),
            (&[0x64, 0x02], "302"),
            (&[], ""),
        ];
        for (coded, expected) in table {
            assert_eq!(text(coded).as_deref(), Some(expected));
        }
        assert_eq!(text(&[0xff; 4]), None);
        assert_eq!(text(&[0x00]), None, "padding of zeros");
        assert_eq!(text(&[0xf8, 0xff]), None, "padding of a whole byte");
    }
}
