//! Which field blocks have pseudo fields: as much of HPACK (RFC 7541) as it takes to tell.
//!
//! The `h2` crate drops pseudo fields in trailers without a word, where RFC 9113 section 8.1 has the message
//! refused. What stands in a block can only be told with the dynamic table in mind, for a pseudo field may be
//! named by an entry of an earlier block. One bit for each entry is enough: an index counts from the newest entry,
//! so that it does not matter here when the old ones leave the table.

use h2::Reason;

/// Entries of the static table, and how many of them, the first ones, are pseudo fields.
const STATIC: u32 = 61;
const STATIC_PSEUDO: u32 = 14;
/// The first seven bits of a string in Huffman code that begins with a colon.
const HUFFMAN_COLON: u8 = 0b101_1100;

/// The blocks of one connection, in their order.
#[derive(Debug, Default)]
pub(super) struct Blocks {
    /// Whether the dynamic table's entries are pseudo fields, the newest in the lowest bit. A table of 4 KiB has no
    /// more than 128 entries.
    table: u128,
    step: Step,
    /// Whether a pseudo field stood in the current block.
    pseudo: bool,
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
    /// So many bytes of a string are left; `true`: none of them was looked at, and it is a name.
    String(Part, u32, bool),
}

/// What an integer is.
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

/// Which string of a literal field; for a name, whether the field enters the table.
#[derive(Clone, Copy, Debug)]
enum Part {
    Name { huffman: bool, enters: bool },
    Value,
}

impl Blocks {
    /// Reads on in a block.
    ///
    /// # Errors
    /// COMPRESSION_ERROR for what HPACK cannot be. It is not all that cannot be; `h2` finds the rest.
    pub(super) fn read(&mut self, mut bytes: &[u8]) -> Result<(), Reason> {
        while let Some((&byte, rest)) = bytes.split_first() {
            match self.step {
                Step::Begin => {
                    bytes = rest;
                    self.begin(byte)?;
                }
                Step::Int(goal, value, shift) => {
                    bytes = rest;
                    // h2 takes no more than this either; no length or index needs it.
                    if shift > 21 {
                        return Err(Reason::COMPRESSION_ERROR);
                    }
                    let value = value + (u32::from(byte & 0x7f) << shift);
                    match byte & 0x80 {
                        0 => self.reach(goal, value)?,
                        _ => self.step = Step::Int(goal, value, shift + 7),
                    }
                }
                Step::Length(part) => {
                    bytes = rest;
                    let huffman = byte & 0x80 != 0;
                    self.int(Goal::Length(part, huffman), byte, 7)?;
                }
                Step::String(part, left, first) => {
                    if first {
                        self.name_begins(part, byte);
                    }
                    let n = bytes.len().min(left as usize);
                    bytes = &bytes[n..];
                    self.string(part, left - n as u32);
                }
            }
        }
        Ok(())
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
                Step::Length(Part::Value)
            }
            Goal::Length(Part::Value, _) => {
                self.string(Part::Value, value);
                return Ok(());
            }
            // RFC 9113 section 8.2: h2 refuses a name of no bytes.
            Goal::Length(Part::Name { enters, .. }, _) if value == 0 => {
                self.field(false, enters);
                Step::Length(Part::Value)
            }
            Goal::Length(Part::Name { enters, .. }, huffman) => {
                Step::String(Part::Name { huffman, enters }, value, true)
            }
        };
        Ok(())
    }

    fn name_begins(&mut self, part: Part, byte: u8) {
        if let Part::Name { huffman, enters } = part {
            let pseudo = match huffman {
                true => byte >> 1 == HUFFMAN_COLON,
                false => byte == b':',
            };
            self.field(pseudo, enters);
        }
    }

    /// So many bytes of a string are left.
    fn string(&mut self, part: Part, left: u32) {
        self.step = match (left, part) {
            (0, Part::Name { .. }) => Step::Length(Part::Value),
            (0, Part::Value) => Step::Begin,
            _ => Step::String(part, left, false),
        };
    }

    fn field(&mut self, pseudo: bool, enters: bool) {
        self.pseudo |= pseudo;
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

#[cfg(test)]
mod tests;
