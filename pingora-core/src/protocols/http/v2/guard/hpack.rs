//! Field blocks, as much of HPACK (RFC 7541) as it takes to tell pseudo fields and malformed strings.
//!
//! A name or a value that is malformed makes a request malformed, which is an error of its stream (RFC 9113 section
//! 8.1.1). The `h2` crate ends the connection for it. So the string is replaced, in place and by as many bytes,
//! by one that passes there and that the border refuses: `&&&` for a name or the value of a pseudo field, which
//! nobody uses, a space in front of it for other values.
//!
//! The `h2` crate also drops pseudo fields in trailers without a word, where RFC 9113 section 8.1 has the message
//! refused. What stands in a block can only be told with the dynamic table in mind, for a pseudo field may be
//! named by an entry of an earlier block. One bit for each entry is enough: an index counts from the newest entry,
//! so that it does not matter here when the old ones leave the table.

use std::ops::Range;

use h2::Reason;

use super::huffman;

/// Entries of the static table, and how many of them, the first ones, are pseudo fields.
const STATIC: u32 = 61;
const STATIC_PSEUDO: u32 = 14;
/// The first seven bits of a string in Huffman code that begins with a colon.
const HUFFMAN_COLON: u8 = 0b101_1100;

/// The blocks of one connection, in their order.
#[derive(Debug, Default)]
pub(super) struct Blocks {
    /// The entries of the dynamic table that are pseudo fields, the newest in the lowest bit. A table of 4 KiB has no
    /// more than 128 entries.
    table: u128,
    step: Step,
    /// True if a pseudo field stood in the current block.
    pseudo: bool,
    /// True if the field whose value comes is one.
    of_pseudo: bool,
}

#[derive(Clone, Copy, Debug, Default)]
enum Step {
    /// A representation begins.
    #[default]
    Begin,
    /// An integer goes on, whose value so far, and shift, these are.
    Int(Goal, u32, u32),
    /// The length of a string begins.
    Length(Part),
    /// So many bytes of a string are left; `true`: none of them was looked at.
    String(Part, u32, bool),
}

/// The meaning of an integer.
#[derive(Clone, Copy, Debug)]
enum Goal {
    /// The index of a whole field.
    Indexed,
    /// The index of a name; its value follows. `true`: the field enters the table.
    Name(bool),
    /// The new size of the table.
    Size,
    /// The length of a string; `true`: in Huffman code.
    Length(Part, bool),
}

/// The string of a literal field; for a name, whether the field enters the table.
#[derive(Clone, Copy, Debug)]
enum Part {
    Name { huffman: bool, enters: bool },
    Value { huffman: bool },
}

const VALUE: Part = Part::Value { huffman: false };

impl Blocks {
    /// Reads on in a block, a piece of which lies at `at`.
    ///
    /// # Errors
    /// COMPRESSION_ERROR for what HPACK cannot be. It is not all that cannot be; `h2` finds the rest.
    /// PROTOCOL_ERROR for a malformed string of which a part was passed on before.
    pub(super) fn read(&mut self, bytes: &mut [u8], at: Range<usize>) -> Result<(), Reason> {
        let mut bytes = &mut bytes[at];
        while let Some(&byte) = bytes.first() {
            let taken = match self.step {
                Step::Begin => {
                    self.begin(byte)?;
                    1
                }
                Step::Int(goal, value, shift) => {
                    // h2 takes no more than this either; no length or index needs it.
                    if shift > 21 {
                        return Err(Reason::COMPRESSION_ERROR);
                    }
                    let value = value + (u32::from(byte & 0x7f) << shift);
                    match byte & 0x80 {
                        0 => self.reach(goal, value)?,
                        _ => self.step = Step::Int(goal, value, shift + 7),
                    }
                    1
                }
                Step::Length(part) => {
                    let huffman = byte & 0x80 != 0;
                    self.int(Goal::Length(part, huffman), byte, 7)?;
                    1
                }
                Step::String(part, left, first) => {
                    let n = bytes.len().min(left as usize);
                    let whole = first && n == left as usize;
                    if first {
                        self.name_begins(part, byte);
                    }
                    self.check(part, &mut bytes[..n], whole)?;
                    self.string(part, left - n as u32);
                    n
                }
            };
            bytes = &mut bytes[taken..];
        }
        Ok(())
    }

    /// Looks at a string, or a part of one, and replaces it when it is malformed.
    fn check(&self, part: Part, string: &mut [u8], whole: bool) -> Result<(), Reason> {
        let (is_name, huffman) = match part {
            Part::Name { huffman, .. } => (true, huffman),
            Part::Value { huffman } => (false, huffman),
        };
        let fill = is_name || self.of_pseudo;
        let class = match (is_name, self.of_pseudo) {
            (true, _) => Class::Name,
            (false, true) => Class::PseudoValue,
            (false, false) => Class::Value,
        };
        let mut judge = Judge::new(class);
        match huffman {
            true if !whole => return Ok(()),
            true => {
                if !huffman::decode(string, |byte| judge.take(byte)) {
                    // For h2 to refuse.
                    return Ok(());
                }
            }
            false => string.iter().for_each(|byte| judge.take(*byte)),
        }
        match (judge.passes(whole), whole) {
            (true, _) => Ok(()),
            (false, false) => Err(Reason::PROTOCOL_ERROR),
            (false, true) => {
                replace(string, fill, huffman);
                Ok(())
            }
        }
    }

    /// The block is over; says whether a pseudo field stood in it.
    ///
    /// # Errors
    /// COMPRESSION_ERROR when it ends in the middle.
    pub(super) fn end(&mut self) -> Result<bool, Reason> {
        match std::mem::take(&mut self.step) {
            Step::Begin => Ok(std::mem::take(&mut self.pseudo)),
            _ => Err(Reason::COMPRESSION_ERROR),
        }
    }

    /// The first byte of a representation (RFC 7541 section 6).
    fn begin(&mut self, byte: u8) -> Result<(), Reason> {
        match byte {
            0x80.. => self.int(Goal::Indexed, byte, 7),
            0x40.. => self.int(Goal::Name(true), byte, 6),
            0x20.. => self.int(Goal::Size, byte, 5),
            _ => self.int(Goal::Name(false), byte, 4),
        }
    }

    fn int(&mut self, goal: Goal, byte: u8, bits: u32) -> Result<(), Reason> {
        let most = (1 << bits) - 1;
        let value = u32::from(byte) & most;
        if value == most {
            self.step = Step::Int(goal, most, 0);
            return Ok(());
        }
        self.reach(goal, value)
    }

    fn reach(&mut self, goal: Goal, value: u32) -> Result<(), Reason> {
        self.step = match goal {
            Goal::Indexed => {
                self.pseudo |= self.is_pseudo(value)?;
                Step::Begin
            }
            Goal::Size => Step::Begin,
            Goal::Name(enters) if value == 0 => Step::Length(Part::Name {
                huffman: false,
                enters,
            }),
            Goal::Name(enters) => {
                let pseudo = self.is_pseudo(value)?;
                self.field(pseudo, enters);
                Step::Length(VALUE)
            }
            Goal::Length(Part::Value { .. }, _) if value == 0 => Step::Begin,
            Goal::Length(Part::Value { .. }, huffman) => {
                Step::String(Part::Value { huffman }, value, true)
            }
            // RFC 9113 section 8.2: h2 refuses a name of no bytes.
            Goal::Length(Part::Name { enters, .. }, _) if value == 0 => {
                self.field(false, enters);
                Step::Length(VALUE)
            }
            Goal::Length(Part::Name { enters, .. }, huffman) => {
                Step::String(Part::Name { huffman, enters }, value, true)
            }
        };
        Ok(())
    }

    fn name_begins(&mut self, part: Part, byte: u8) {
        if let Part::Name { huffman, enters } = part {
            let pseudo = if huffman {
                byte >> 1 == HUFFMAN_COLON
            } else {
                byte == b':'
            };
            self.field(pseudo, enters);
        }
    }

    /// So many bytes of a string are left.
    fn string(&mut self, part: Part, left: u32) {
        self.step = match (left, part) {
            (0, Part::Name { .. }) => Step::Length(VALUE),
            (0, Part::Value { .. }) => Step::Begin,
            _ => Step::String(part, left, false),
        };
    }

    fn field(&mut self, pseudo: bool, enters: bool) {
        self.pseudo |= pseudo;
        self.of_pseudo = pseudo;
        if enters {
            self.table = self.table << 1 | u128::from(pseudo);
        }
    }

    fn is_pseudo(&self, index: u32) -> Result<bool, Reason> {
        match index {
            0 => Err(Reason::COMPRESSION_ERROR),
            1..=STATIC => Ok(index <= STATIC_PSEUDO),
            // What is too old to be in the table is for h2 to refuse.
            _ => Ok(self.table.checked_shr(index - STATIC - 1).unwrap_or(0) & 1 == 1),
        }
    }
}

/// The use of a string.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Class {
    Name,
    Value,
    /// h2 makes a type of its own of these.
    PseudoValue,
}

/// The pseudo fields that h2 knows.
const KNOWN: [&[u8]; 6] = [
    b":authority",
    b":method",
    b":path",
    b":protocol",
    b":scheme",
    b":status",
];
const LONGEST_KNOWN: usize = 10;

/// Judges a string, byte by byte.
struct Judge {
    class: Class,
    bad: bool,
    /// The beginning of a name.
    begin: [u8; LONGEST_KNOWN],
    len: usize,
}

impl Judge {
    fn new(class: Class) -> Self {
        Judge {
            class,
            bad: false,
            begin: [0; LONGEST_KNOWN],
            len: 0,
        }
    }

    fn take(&mut self, byte: u8) {
        self.bad |= match self.class {
            // RFC 9110 section 5.6.2, in lower case; a colon is for pseudo fields.
            Class::Name => {
                !(byte.is_ascii_lowercase()
                    || byte.is_ascii_digit()
                    || b"!#$%&'*+-.^_`|~".contains(&byte)
                    || (byte == b':' && self.len == 0))
            }
            Class::Value => (byte < b' ' && byte != b'\t') || byte == 0x7f,
            // h2 would cut a fragment off the path; nothing else here has that character.
            Class::PseudoValue => byte <= b' ' || byte >= 0x7f || byte == b'#',
        };
        if let Some(place) = self.begin.get_mut(self.len) {
            *place = byte;
        }
        self.len += 1;
    }

    fn passes(&self, whole: bool) -> bool {
        let begin = &self.begin[..self.len.min(LONGEST_KNOWN)];
        let known = self.class != Class::Name
            || !whole
            || !begin.starts_with(b":")
            || (self.len <= LONGEST_KNOWN && KNOWN.contains(&begin));
        !self.bad && known
    }
}

/// Puts a string of as many bytes in the place of a malformed one, which the border refuses.
fn replace(string: &mut [u8], fill: bool, huffman: bool) {
    match (fill, huffman) {
        (true, false) => string.fill(b'&'),
        // The code of an ampersand has eight bits.
        (true, true) => string.fill(0xf8),
        (false, false) => {
            string.fill(b'&');
            string[0] = b' ';
        }
        // A space has six, and the last two are padding.
        (false, true) => {
            string.fill(0b1110_0011);
            string[0] = 0b0101_0011;
        }
    }
}

#[cfg(test)]
mod tests;
