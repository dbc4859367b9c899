#!/usr/bin/env python3
"""Makes a checkout of the crate h2, version 0.4, allocate its buffers when it uses them, and give them back when idle.

usage: apply.py DIR        DIR is the folder of the crate, the one with its Cargo.toml

Works by anchors: short expressions, each of which must be there exactly once. If one is not, the program names it,
changes nothing and exits with 1. A second run says that the change is applied.
"""
import argparse
import re
import sys
from pathlib import Path

# A method that the change adds, by which it is known again.
ADDED = "fn release_buffer"

READ = "src/codec/framed_read.rs"
WRITE = "src/codec/framed_write.rs"
HPACK = "src/hpack/decoder.rs"

# Of each file: what stands there (a regular expression), and what comes in its place.
CHANGES = {
    READ: [
        (r"(?=#\[derive\(Debug\)\]\npub struct FramedRead<T>)", """\
/// The least capacity of a read buffer that is allocated.
const READ_BUFFER_CAPACITY: usize = 8 * 1_024;

"""),
        (r"Pin::new\(&mut self\.inner\)\.poll_next\(cx\)", "self.poll_bytes(cx)"),
        (r"(?=fn map_err\()", """\
impl<T> FramedRead<T>
where
    T: AsyncRead + Unpin,
{
    /// Polls for the bytes of the next frame. Buffers are held only while bytes are
    /// there to be read, or a part of a frame is: an idle connection has none.
    fn poll_bytes(&mut self, cx: &mut Context<'_>) -> Poll<Option<io::Result<BytesMut>>> {
        if self.inner.read_buffer().capacity() == 0 {
            self.inner.read_buffer_mut().reserve(READ_BUFFER_CAPACITY);
        }
        let polled = Pin::new(&mut self.inner).poll_next(cx);
        if polled.is_pending() && self.inner.read_buffer().is_empty() {
            *self.inner.read_buffer_mut() = BytesMut::new();
            self.decoder.hpack.release_buffer();
        }
        polled
    }
}

"""),
    ],
    WRITE: [
        (r"/// Initialize the connection with this amount of write buffer\.\n", """\
/// The write buffer has this capacity while there is something to write, and is
/// not allocated in between.
"""),
        (r"BytesMut::with_capacity\(DEFAULT_BUFFER_CAPACITY\)", "BytesMut::new()"),
        (r"None => ControlFlow::Break,", """\
None => {
                // All is written: an idle connection holds no buffer.
                *self.buf.get_mut() = BytesMut::new();
                ControlFlow::Break
            }"""),
        (r"self\.last_data_frame = Some\(frame\);\n", """\
self.last_data_frame = Some(frame);
                *self.buf.get_mut() = BytesMut::new();
"""),
        (r"assert!\(self\.has_capacity\(\)\);\n", """\
assert!(self.has_capacity());
        if self.buf.get_ref().capacity() == 0 {
            self.buf.get_mut().reserve(DEFAULT_BUFFER_CAPACITY);
        }
"""),
        (r"self\.next\.is_none\(\)\s+&& \(self\.buf.*?>= self\.min_buffer_capacity\)", """\
let buf = self.buf.get_ref();
        // One that is not allocated yet has room for any frame.
        self.next.is_none()
            && (buf.capacity() == 0 || buf.capacity() - buf.len() >= self.min_buffer_capacity)"""),
    ],
    HPACK: [
        (r"(?=/// Decodes headers using HPACK\n)", """\
/// The least capacity of a buffer that strings are decoded into.
const BUFFER_CAPACITY: usize = 4_096;

"""),
        (r"(?<=buffer: )BytesMut::with_capacity\(4096\)", "BytesMut::new()"),
        (r"(?=    /// Decodes the headers found in the given buffer\.\n)", """\
    /// Gives back what strings were decoded into; the next one allocates it anew.
    pub fn release_buffer(&mut self) {
        self.buffer = BytesMut::new();
    }

"""),
        (r"if huff \{\n", """\
if huff {
            if self.buffer.capacity() == 0 {
                self.buffer.reserve(BUFFER_CAPACITY);
            }
"""),
    ],
}


class Missing(Exception):
    """An anchor that is not there exactly once."""


def changed(text, changes):
    """The text of a file with its changes made."""
    for pattern, new in changes:
        found = list(re.finditer(pattern, text, re.S))
        if len(found) != 1:
            raise Missing(f"`{pattern}` is there {len(found)} times, not once")
        text = text[: found[0].start()] + new + text[found[0].end() :]
    return text


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("dir", type=Path)
    folder = parser.parse_args().dir
    try:
        texts = {name: (folder / name).read_text(encoding="utf-8") for name in CHANGES}
        if ADDED in texts[HPACK]:
            print(f"{folder}: already applied")
            return 0
        new = {}
        for name, changes in CHANGES.items():
            try:
                new[name] = changed(texts[name], changes)
            except Missing as missing:
                print(f"{folder / name}: {missing}", file=sys.stderr)
                return 1
        for name, text in new.items():
            (folder / name).write_text(text, encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        print(error, file=sys.stderr)
        return 1
    print(f"{folder}: applied to {len(new)} files")
    return 0


if __name__ == "__main__":
    sys.exit(main())
