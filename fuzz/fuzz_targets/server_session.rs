//! A server's session as a list of operations, each future polled once and dropped. Whatever the order,
//! a connection goes on only after one whole response for each request.
#![no_main]

use std::future::Future;
use std::pin::pin;
use std::task::{Context, Poll, Waker};

use bytes::{Bytes, BytesMut};
use http::Method;
use libfuzzer_sys::arbitrary::{self, Arbitrary};
use libfuzzer_sys::fuzz_target;
use pingora_core::protocols::http::v1::proto::decode::{Decoded, Decoder};
use pingora_core::protocols::http::v1::proto::framing::{self, Framing};
use pingora_core::protocols::http::v1::proto::head::{parse_response, Limits, Scanner};
use pingora_core::protocols::http::v1::server::HttpSession;
use pingora_core::protocols::http::HttpTask;
use pingora_http::ResponseHeader;
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};

#[derive(Arbitrary, Debug)]
enum Op<'a> {
    ClientSends(&'a [u8]),
    ClientAsks {
        head: bool,
        old: bool,
        keep: bool,
        body: Option<u8>,
    },
    ClientCloses,
    ClientReads,
    ReadRequest,
    ReadBody,
    AwaitAbort,
    Head {
        status: u16,
        framing: Fields,
    },
    Body(&'a [u8]),
    Queue {
        data: Option<&'a [u8]>,
        end: bool,
    },
    Trailer,
    Flush,
    Finish,
    Reuse,
    Pipelining(bool),
    Keepalive(Option<u8>),
    AbortOnClose(bool),
}

#[derive(Arbitrary, Debug)]
enum Fields {
    None,
    Length(u8),
    Chunked,
    Both(u8),
    Upgrade,
}

/// Polls once; a future that has to wait is dropped.
fn now<F: Future>(future: F) -> Option<F::Output> {
    match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(output) => Some(output),
        Poll::Pending => None,
    }
}

fn head(status: u16, framing: &Fields) -> Box<ResponseHeader> {
    let mut head = ResponseHeader::build(100 + status % 500, None).expect("a status");
    match framing {
        Fields::None => {}
        Fields::Length(n) => head.set_content_length(usize::from(*n)).expect("a number"),
        Fields::Chunked => head
            .insert_header("Transfer-Encoding", "chunked")
            .expect("a value"),
        Fields::Both(n) => {
            head.set_content_length(usize::from(*n)).expect("a number");
            head.insert_header("Transfer-Encoding", "chunked")
                .expect("a value");
        }
        Fields::Upgrade => head.insert_header("Upgrade", "x").expect("a value"),
    }
    Box::new(head)
}

fn read_all(client: &mut DuplexStream, into: &mut Vec<u8>) {
    while let Some(Ok(n)) = now(client.read_buf(into)) {
        if n == 0 {
            break;
        }
    }
}

/// Takes informational heads and then one whole response off the front, which must be all there is.
fn must_be_one_response(method: &Method, wire: &[u8]) {
    let mut input = BytesMut::from(wire);
    loop {
        let found = Scanner::default().scan(&input, &Limits::response());
        let found = found.expect("a head").expect("a whole head");
        let head = input.split_to(found.end).freeze();
        let response = parse_response(&head).expect("a head");
        let framing = framing::response(
            method.into(),
            response.status,
            response.version,
            &*response,
            false,
        );
        let framing = framing.expect("a framing");
        if response.status.is_informational() {
            continue;
        }
        assert_ne!(framing, Framing::UntilClose, "the connection goes on");
        let mut decoder = Decoder::new(framing, false);
        loop {
            match decoder.decode(&mut input).expect("a body") {
                Decoded::Data(_) => {}
                Decoded::NeedMore => panic!("a response that is not whole"),
                Decoded::End(_) => break,
            }
        }
        assert!(input.is_empty(), "more than one response");
        return;
    }
}

fuzz_target!(|ops: Vec<Op>| {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .build()
        .expect("a runtime");
    let _guard = runtime.enter();
    let (mut client, server) = tokio::io::duplex(512);
    let mut session = HttpSession::new(Box::new(server));
    // What the client got since the last exchange ended.
    let mut got = Vec::new();
    for op in ops {
        match op {
            Op::ClientSends(bytes) => {
                now(client.write_all(bytes));
            }
            Op::ClientAsks {
                head,
                old,
                keep,
                body,
            } => {
                let method = if head { "HEAD" } else { "POST" };
                let version = if old { "1.0" } else { "1.1" };
                let keep = if keep {
                    "Connection: keep-alive\r\n"
                } else {
                    ""
                };
                let length = body.map_or(String::new(), |n| format!("Content-Length: {n}\r\n"));
                let body = "b".repeat(body.unwrap_or(0).into());
                let request =
                    format!("{method} / HTTP/{version}\r\nHost: h\r\n{keep}{length}\r\n{body}");
                now(client.write_all(request.as_bytes()));
            }
            Op::ClientCloses => {
                now(client.shutdown());
            }
            Op::ClientReads => read_all(&mut client, &mut got),
            Op::ReadRequest => {
                now(session.read_request());
            }
            Op::ReadBody => {
                now(session.read_body_bytes());
            }
            Op::AwaitAbort => {
                now(session.read_body_or_idle(true));
            }
            Op::Head { status, framing } => {
                now(session.write_response_header(head(status, &framing)));
            }
            Op::Body(data) => {
                now(session.write_body(data));
            }
            Op::Queue { data, end } => {
                session.send_proxy_task(HttpTask::Body(data.map(Bytes::copy_from_slice), end));
            }
            Op::Trailer => session.send_proxy_task(HttpTask::Trailer(None)),
            Op::Flush => {
                now(session.write_proxy_tasks());
            }
            Op::Finish => {
                now(session.finish_body());
            }
            Op::Pipelining(enabled) => session.set_pipelining_enabled(enabled),
            Op::Keepalive(secs) => session.set_server_keepalive(secs.map(u64::from)),
            Op::AbortOnClose(abort) => session.set_abort_on_close(abort),
            Op::Reuse => {
                read_all(&mut client, &mut got);
                let method = session.req_header().method.clone();
                let Some(Ok(Some(reusable))) = now(session.reuse()) else {
                    return;
                };
                read_all(&mut client, &mut got);
                must_be_one_response(&method, &got);
                got.clear();
                let (stream, prefix) = reusable.into_parts();
                session = HttpSession::new(stream);
                if let Some(prefix) = prefix {
                    session.set_pipelined_prefix(prefix);
                }
            }
        }
    }
});
