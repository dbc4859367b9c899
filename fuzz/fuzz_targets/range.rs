//! A Range field on a response of some length.
#![no_main]

use libfuzzer_sys::arbitrary::{self, Arbitrary};
use libfuzzer_sys::fuzz_target;
use pingora_http::{RequestHeader, ResponseHeader};
use pingora_proxy::{range_header_filter, RangeType};

#[derive(Arbitrary, Debug)]
struct Input<'a> {
    length: u32,
    most: Option<u8>,
    ranges: &'a [u8],
}

fuzz_target!(|input: Input| {
    let length = input.length as usize;
    let mut request = RequestHeader::build("GET", b"/", None).expect("a header");
    let field = [b"bytes=", input.ranges].concat();
    if request.insert_header("Range", field).is_err() {
        return;
    }
    let mut response = ResponseHeader::build(200, None).expect("a header");
    response.set_content_length(length).expect("a number");
    let most = input.most.map(usize::from);
    let range = range_header_filter(&request, &mut response, most);
    let stated = response
        .headers
        .get("content-length")
        .map(|v| v.to_str().unwrap().parse::<usize>().unwrap());
    let within = |r: &std::ops::Range<usize>| r.start < r.end && r.end <= length;
    match range {
        RangeType::None => {
            assert_eq!(response.status, 200);
            assert_eq!(stated, Some(length));
        }
        RangeType::Single(r) => {
            assert!(within(&r));
            assert_eq!(response.status, 206);
            assert_eq!(stated, Some(r.len()));
            let content = format!("bytes {}-{}/{length}", r.start, r.end - 1);
            assert_eq!(response.headers["content-range"], content.as_str());
        }
        RangeType::Multi(multi) => {
            assert!(multi.ranges.len() > 1 && multi.ranges.iter().all(within));
            assert!(most.is_none_or(|most| multi.ranges.len() <= most.max(1)));
            assert!(multi
                .ranges
                .windows(2)
                .all(|pair| pair[0].end <= pair[1].start));
            assert_eq!(response.status, 206);
            assert_eq!(stated, Some(multi.calculate_multipart_length()));
        }
        RangeType::Invalid => {
            assert_eq!(response.status, 416);
            assert_eq!(
                response.headers["content-range"],
                format!("bytes */{length}").as_str()
            );
        }
    }
});
