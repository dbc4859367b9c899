//! An idle connection holds no buffer for reading, decoding or writing.
//!
//! `REQUESTS=11000` sends more requests over one connection: what a request costs is the difference between two such runs.

use std::alloc::{GlobalAlloc, Layout, System};
use std::io::{Read, Write};
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

struct Counting;

static HELD: AtomicUsize = AtomicUsize::new(0);
static CALLS: AtomicUsize = AtomicUsize::new(0);

unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        HELD.fetch_add(layout.size(), Relaxed);
        CALLS.fetch_add(1, Relaxed);
        System.alloc(layout)
    }
    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        HELD.fetch_sub(layout.size(), Relaxed);
        System.dealloc(at, layout)
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

const CONNECTIONS: usize = 100;

/// An empty SETTINGS frame.
const SETTINGS: [u8; 9] = [0, 0, 0, 4, 0, 0, 0, 0, 0];

/// HEADERS of a GET with END_STREAM and END_HEADERS, and its authority in Huffman code.
fn get(stream: u32) -> Vec<u8> {
    let mut block = vec![0x82, 0x86, 0x84, 0x01, 0x8c];
    block.extend([
        0xf1, 0xe3, 0xc2, 0xe5, 0xf2, 0x3a, 0x6b, 0xa0, 0xab, 0x90, 0xf4, 0xff,
    ]);
    let mut frame = vec![0, 0, block.len() as u8, 1, 5];
    frame.extend(stream.to_be_bytes());
    frame.extend(block);
    frame
}

fn read_until(client: &mut std::net::TcpStream, kind: u8, flags: u8) {
    loop {
        let mut head = [0; 9];
        client.read_exact(&mut head).unwrap();
        let mut rest = vec![0; u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize];
        client.read_exact(&mut rest).unwrap();
        if head[3] == kind && head[4] & flags == flags {
            return;
        }
    }
}

#[test]
fn an_idle_connection_holds_no_buffers() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    listener.set_nonblocking(true).unwrap();
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        runtime.block_on(async move {
            let listener = tokio::net::TcpListener::from_std(listener).unwrap();
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                tokio::spawn(async move {
                    let mut connection = h2::server::handshake(stream).await.unwrap();
                    while let Some(Ok((_, mut respond))) = connection.accept().await {
                        let response = http::Response::builder().header("x", "y").body(()).unwrap();
                        let mut body = respond.send_response(response, false).unwrap();
                        body.send_data("hello".into(), true).unwrap();
                    }
                });
            }
        })
    });
    let connect = || {
        let mut client = std::net::TcpStream::connect(address).unwrap();
        client
            .write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")
            .unwrap();
        client.write_all(&SETTINGS).unwrap();
        client.write_all(&get(1)).unwrap();
        read_until(&mut client, 0, 1);
        // What comes after the response is taken up before this is answered.
        client
            .write_all(&[0, 0, 8, 6, 0, 0, 0, 0, 0, 1, 1, 1, 1, 1, 1, 1, 1])
            .unwrap();
        read_until(&mut client, 6, 1);
        client
    };
    let mut first = connect();
    let before = HELD.load(Relaxed);
    let clients: Vec<_> = (0..CONNECTIONS).map(|_| connect()).collect();
    let each = (HELD.load(Relaxed) - before) / CONNECTIONS;
    println!("{each} bytes each");

    let requests: u32 = std::env::var("REQUESTS").map_or(1_000, |n| n.parse().unwrap());
    let calls = CALLS.load(Relaxed);
    for n in 1..=requests {
        let frame = get(2 * n + 1);
        first.write_all(&frame).unwrap();
        read_until(&mut first, 0, 1);
    }
    println!(
        "{} allocations a request",
        (CALLS.load(Relaxed) - calls) / requests as usize
    );
    drop(clients);
    assert!(each < 8 * 1_024, "{each} bytes each");
}
