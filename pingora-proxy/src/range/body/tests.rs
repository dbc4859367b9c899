use std::ops::Range;

use proptest::prelude::*;

use super::*;

const WHOLE: &[u8] = b"0123456789abcdefghij";

/// What is sent of the whole when it comes in pieces of this size, and how many of them were needed.
fn sent(range: RangeType, size: usize) -> (Vec<u8>, usize) {
    let mut filter = RangeBodyFilter::new(range);
    let (mut sent, mut needed) = (Vec::new(), 0);
    for piece in WHOLE.chunks(size) {
        if !filter.is_satisfied() {
            needed += 1;
        }
        let mut piece = Some(Bytes::from_static(piece));
        filter.filter(&mut piece);
        assert_ne!(piece, Some(Bytes::new()), "nothing is no piece");
        sent.extend(piece.unwrap_or_default());
    }
    (sent, needed)
}

fn several(ranges: &[Range<usize>]) -> MultiRangeInfo {
    let mut info = MultiRangeInfo::new(ranges.to_vec());
    info.set_total_length(WHOLE.len());
    info.set_content_type("text/plain".to_string());
    info
}

fn expected(info: &MultiRangeInfo) -> Vec<u8> {
    let mut body = Vec::new();
    for range in &info.ranges {
        let (boundary, first, last) = (&info.boundary, range.start, range.end.max(1) - 1);
        body.extend(
            format!("\r\n--{boundary}\r\nContent-Type: text/plain\r\nContent-Range: bytes {first}-{last}/20\r\n\r\n")
                .as_bytes(),
        );
        body.extend(&WHOLE[range.clone()]);
    }
    body.extend(format!("\r\n--{}--\r\n", info.boundary).as_bytes());
    body
}

#[test]
fn one_part() {
    type Row = (Range<usize>, usize, &'static [u8], usize);
    let rows: [Row; 7] = [
        (0..20, 20, WHOLE, 1),
        (0..1, 7, b"0", 1),
        (3..5, 20, b"34", 1),
        (3..5, 4, b"34", 2),
        (3..5, 1, b"34", 5),
        (19..20, 3, b"j", 7),
        (4..12, 4, b"456789ab", 3),
    ];
    for (range, size, part, needed) in rows {
        let row = format!("{range:?} in pieces of {size}");
        assert_eq!(
            sent(RangeType::Single(range), size),
            (part.to_vec(), needed),
            "{row}"
        );
    }
}

#[test]
fn all_or_nothing() {
    assert_eq!(sent(RangeType::None, 3), (WHOLE.to_vec(), 7));
    assert_eq!(sent(RangeType::Invalid, 3), (Vec::new(), 0));
    assert!(RangeBodyFilter::new(RangeType::None).is_transparent());
    assert!(!RangeBodyFilter::new(RangeType::Single(0..1)).is_transparent());
}

#[test]
fn several_parts_end_with_the_last_of_them() {
    let info = several(&[0..2, 2..3, 9..12]);
    let body = expected(&info);
    assert_eq!(body.len(), info.calculate_multipart_length());
    for size in 1..=20 {
        let (sent, needed) = sent(RangeType::Multi(info.clone()), size);
        assert_eq!(sent, body, "in pieces of {size}");
        assert_eq!(needed, 12usize.div_ceil(size), "in pieces of {size}");
    }
}

#[test]
fn what_would_have_to_go_back_is_left_out() {
    let info = several(&[9..12, 0..2]);
    let (sent, _) = sent(RangeType::Multi(info.clone()), 5);
    let mut expected = info.part_header(&(9..12)).into_bytes();
    expected.extend(b"9ab");
    assert_eq!(sent, expected);
}

#[test]
fn the_end_of_a_body_is_no_piece() {
    let mut filter = RangeBodyFilter::new(RangeType::Single(0..1));
    let mut end = None;
    filter.filter(&mut end);
    assert_eq!(end, None);
    assert!(!filter.is_satisfied());
}

proptest! {
    #[test]
    fn any_parts_in_any_pieces(
        bounds in prop::collection::btree_set(0..=20usize, 2..10),
        size in 1..=20usize,
    ) {
        let bounds: Vec<usize> = bounds.into_iter().collect();
        let ranges: Vec<_> = bounds.chunks_exact(2).map(|pair| pair[0]..pair[1]).collect();
        let info = several(&ranges);
        let (sent, _) = sent(RangeType::Multi(info.clone()), size);
        prop_assert_eq!(sent.len(), info.calculate_multipart_length());
        prop_assert_eq!(sent, expected(&info));
    }
}
