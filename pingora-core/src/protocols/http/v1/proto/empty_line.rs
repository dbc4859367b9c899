//! The end of a head, found in 64 bytes at a time: bit `n` of a mark stands for byte `n` of a block.

const BLOCK: usize = 64;

/// One past the first CR LF CR LF.
#[inline]
pub(super) fn end(buf: &[u8]) -> Option<usize> {
    let mut start = 0;
    // Line feeds that are one or two places before this block.
    let mut before = 0;
    while let Some(block) = buf.get(start..).and_then(<[u8]>::first_chunk) {
        let feeds = line_feeds(block);
        let end = end_in(buf, start, feeds, before);
        if end.is_some() {
            return end;
        }
        before = feeds >> (BLOCK - 2);
        start += BLOCK;
    }
    match buf.last_chunk() {
        // What is left, and of what is before it as much as makes it a block: there was no end.
        Some(block) => {
            let last = buf.len() - BLOCK;
            let seen = (start - last) as u32;
            let before = before.checked_shl(seen).unwrap_or(0);
            end_in(buf, last, line_feeds(block), before)
        }
        None => {
            let mut block = [0; BLOCK];
            block[..buf.len()].copy_from_slice(buf);
            end_in(buf, 0, line_feeds(&block), 0)
        }
    }
}

/// One past the first CR LF CR LF that ends in the block at `start`.
#[inline(always)]
fn end_in(buf: &[u8], start: usize, feeds: u64, before: u64) -> Option<usize> {
    let mut ends = feeds & (feeds << 2 | before);
    while ends != 0 {
        let end = start + ends.trailing_zeros() as usize + 1;
        if buf[..end].ends_with(b"\r\n\r\n") {
            return Some(end);
        }
        ends &= ends - 1;
    }
    None
}

/// With the instructions that each processor of this architecture has.
#[cfg(target_arch = "x86_64")]
#[allow(unsafe_code)]
#[inline(always)]
fn line_feeds(block: &[u8; BLOCK]) -> u64 {
    use std::arch::x86_64::{_mm_cmpeq_epi8, _mm_loadu_si128, _mm_movemask_epi8, _mm_set1_epi8};
    let quarter = |n: usize| {
        // SAFETY: sixteen bytes from `n * 16` on lie in the block, the load needs no alignment, and SSE2 is part of
        // x86_64.
        let marks = unsafe {
            let bytes = _mm_loadu_si128(block.as_ptr().add(n * 16).cast());
            _mm_movemask_epi8(_mm_cmpeq_epi8(bytes, _mm_set1_epi8(b'\n' as i8)))
        };
        u64::from(marks as u32) << (n * 16)
    };
    quarter(0) | quarter(1) | quarter(2) | quarter(3)
}

#[cfg(not(target_arch = "x86_64"))]
use words::line_feeds;

/// The same, eight bytes at a step.
#[cfg(any(test, not(target_arch = "x86_64")))]
mod words {
    use super::BLOCK;

    const ONES: u64 = u64::MAX / 255;
    const TOPS: u64 = ONES << 7;

    pub(super) fn line_feeds(block: &[u8; BLOCK]) -> u64 {
        block.chunks_exact(8).rev().fold(0, |marks, step| {
            // Never too short: a block is eight steps.
            let step = step
                .first_chunk()
                .map_or(0, |step| u64::from_le_bytes(*step));
            let other = step ^ (ONES * u64::from(b'\n'));
            // The top bit of each byte that is a line feed: no sum carries into the next byte.
            let feeds = !((other & !TOPS) + ONES * 0x7f) & !other & TOPS;
            marks << 8 | (feeds >> 7).wrapping_mul(0x0102_0408_1020_4080) >> 56
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Every byte at every place, beside bytes that carry into it or out of it.
    #[test]
    fn blocks_are_marked_as_single_bytes_are() {
        for byte in 0..=u8::MAX {
            for other in [0, b'\n', 0x0b, 0x7f, 0x80, 0x8a, 0xff] {
                for place in 0..BLOCK {
                    let mut block = [other; BLOCK];
                    block[place] = byte;
                    let bits = block.iter().enumerate();
                    let plain = bits.fold(0, |marks, (n, b)| marks | u64::from(*b == b'\n') << n);
                    assert_eq!(line_feeds(&block), plain, "{byte:#x} {other:#x}");
                    assert_eq!(words::line_feeds(&block), plain, "{byte:#x} {other:#x}");
                }
            }
        }
    }

    /// At every place of text of every length, with another one behind it.
    #[test]
    fn no_border_of_blocks_hides_one() {
        for length in 4..4 * BLOCK {
            for at in 0..=length - 4 {
                let mut text = vec![b'a'; length];
                text[length - 4..].copy_from_slice(b"\r\n\r\n");
                text[at..at + 4].copy_from_slice(b"\r\n\r\n");
                let first = text.windows(4).position(|w| w == b"\r\n\r\n");
                assert_eq!(end(&text), first.map(|n| n + 4), "{at} of {length}");
            }
        }
    }

    proptest! {
        #[test]
        fn the_first_one_is_found(text in "(\r|\n|\r\n|a|aaaaaaaaaaaaaaaaaaaaaaaaaaaaaa){0,40}") {
            let plain = text.find("\r\n\r\n").map(|n| n + 4);
            prop_assert_eq!(end(text.as_bytes()), plain);
        }
    }
}
