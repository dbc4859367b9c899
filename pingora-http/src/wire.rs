//! Writes the lines of fields. Their parts are short: to call for the copy of each would cost more than the copies.

// The bytes of a line are put in place one part after the other, and then made part of the buffer.
#![allow(unsafe_code)]

use bytes::buf::UninitSlice;
use bytes::BufMut;

const CRLF: &[u8] = b"\r\n";

/// Appends the line of a field. `name` ends with colon and space.
#[inline(always)]
pub(crate) fn put_line(buf: &mut impl BufMut, name: &[u8], value: &[u8]) {
    let end_of_value = name.len() + value.len();
    let length = end_of_value + CRLF.len();
    let room = buf.chunk_mut();
    if room.len() < length {
        return put_parts(buf, &[name, value, CRLF]);
    }
    copy(&mut room[..name.len()], name);
    copy(&mut room[name.len()..end_of_value], value);
    room[end_of_value..length].copy_from_slice(CRLF);
    // SAFETY: the first `length` bytes of the room are written, each part of them by one of the copies.
    unsafe { buf.advance_mut(length) };
}

/// Appends one part after the other.
#[inline(never)]
pub(crate) fn put_parts(buf: &mut impl BufMut, parts: &[&[u8]]) {
    for part in parts {
        buf.put_slice(part);
    }
}

/// Copies all of a slice to a place of its length.
#[inline(always)]
fn copy(to: &mut UninitSlice, from: &[u8]) {
    match from.len() {
        16..=32 => copy_ends::<16>(to, from),
        8..=15 => copy_ends::<8>(to, from),
        4..=7 => copy_ends::<4>(to, from),
        2..=3 => copy_ends::<2>(to, from),
        _ => to.copy_from_slice(from),
    }
}

/// Copies the first and the last `N` bytes, which is all of a slice of `N` to `2 * N`.
#[inline(always)]
fn copy_ends<const N: usize>(to: &mut UninitSlice, from: &[u8]) {
    to[..N].copy_from_slice(&from[..N]);
    let last = from.len() - N;
    to[last..].copy_from_slice(&from[last..]);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_every_length_are_written_into_any_room() {
        let letters: Vec<u8> = (b'a'..=b'z').cycle().take(80).collect();
        for name in 0..=40 {
            for value in 0..=80 {
                let (name, value) = (&letters[..name], &letters[80 - value..]);
                let expected = [b"before", name, value, CRLF].concat();
                for room in [0, name.len() + value.len() + 1, 200] {
                    let mut buf = Vec::with_capacity(6 + room);
                    buf.extend_from_slice(b"before");
                    put_line(&mut buf, name, value);
                    assert_eq!(buf, expected, "{} {}", name.len(), value.len());
                }
            }
        }
    }

    #[test]
    fn a_line_fits_exactly() {
        let mut room = [0; 12];
        let mut buf = &mut room[..];
        put_line(&mut buf, b"Host: ", b"abcd");
        assert!(buf.is_empty());
        assert_eq!(&room, b"Host: abcd\r\n");
    }
}
