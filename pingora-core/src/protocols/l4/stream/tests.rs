use std::io::IoSlice;
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::ready;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, ReadBuf};
use tokio::net::TcpListener;

use super::read::DIRECT_READ;
use super::*;
use crate::protocols::l4::listener::Listener;
use crate::protocols::l4::socket::SocketAddr;
use crate::protocols::l4::tracer::Tracing;
use crate::protocols::l4::virt::VirtualSocket;
use crate::protocols::{GetTimingDigest, Peek};

/// A connection, and its other end.
async fn pair() -> (Stream, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap();
    let (accepted, other) = tokio::join!(listener.accept(), TcpStream::connect(addr));
    let (tcp, peer) = accepted.unwrap();
    (Stream::accepted(tcp, peer), other.unwrap())
}

/// Waits until the kernel has `n` bytes for the stream.
async fn received(stream: &Stream, n: usize) {
    let RawStream::Tcp(tcp) = &stream.raw else {
        panic!("not TCP");
    };
    let mut seen = vec![0; n];
    while tcp.peek(&mut seen).await.unwrap() < n {
        tokio::task::yield_now().await;
    }
}

fn holds_no_buffer(stream: &Stream) -> bool {
    stream.unread.is_empty() && stream.unsent.is_empty()
}

#[test]
fn buffer_settings() {
    let default = L4BufferSettings::default();
    assert_eq!(default.read_capacity(), 65536);
    assert_eq!(default.write_capacity(), 1460);
    let set = default.read(10).write(20);
    assert_eq!(set, L4BufferSettings::new(10, 20));
    assert_eq!((set.read_capacity(), set.write_capacity()), (10, 20));
    assert_eq!(L4BufferSettings::unbuffered(), L4BufferSettings::new(0, 0));
}

#[test]
fn is_small() {
    assert!(size_of::<Stream>() <= 320, "{}", size_of::<Stream>());
}

#[tokio::test]
async fn small_reads_read_ahead() {
    let (mut stream, mut other) = pair().await;
    other.write_all(b"hello world").await.unwrap();
    received(&stream, 11).await;
    let mut buf = [0; 5];
    stream.read_exact(&mut buf).await.unwrap();
    assert_eq!(&buf, b"hello");
    assert_eq!(stream.unread.bytes(), b" world");
    let mut buf = [0; 100];
    assert_eq!(stream.read(&mut buf).await.unwrap(), 6);
    assert_eq!(&buf[..6], b" world");
    assert!(holds_no_buffer(&stream));
}

#[tokio::test]
async fn large_and_unbuffered_reads_take_what_they_want() {
    for (settings, size) in [
        (L4BufferSettings::default(), DIRECT_READ),
        (L4BufferSettings::new(4, 0), 5),
        (L4BufferSettings::unbuffered(), 1),
    ] {
        let (mut stream, mut other) = pair().await;
        stream.set_buffer_settings(settings);
        other.write_all(&vec![b'x'; size + 1]).await.unwrap();
        received(&stream, size + 1).await;
        let mut buf = vec![0; size];
        assert_eq!(stream.read(&mut buf).await.unwrap(), size);
        assert!(stream.unread.is_empty(), "{settings:?}");
    }
}

#[tokio::test]
async fn waiting_to_read_holds_no_buffer() {
    let (mut stream, _other) = pair().await;
    let mut buf = [0; 5];
    let mut read = tokio_test::task::spawn(stream.read(&mut buf));
    assert!(read.poll().is_pending());
    drop(read);
    assert!(holds_no_buffer(&stream));
}

#[tokio::test]
async fn small_writes_wait_for_the_flush() {
    let (mut stream, mut other) = pair().await;
    stream.write_all(b"hello ").await.unwrap();
    stream.write_all(b"world").await.unwrap();
    assert_eq!(stream.unsent.bytes(), b"hello world");
    stream.flush().await.unwrap();
    assert!(holds_no_buffer(&stream));
    let mut buf = [0; 11];
    other.read_exact(&mut buf).await.unwrap();
    assert_eq!(&buf, b"hello world");
}

#[tokio::test]
async fn order_is_kept() {
    for settings in [
        L4BufferSettings::default(),
        L4BufferSettings::default().write(8),
        L4BufferSettings::unbuffered(),
    ] {
        let (mut stream, mut other) = pair().await;
        stream.set_buffer_settings(settings);
        assert!(stream.is_write_vectored());
        stream.write_all(b"one ").await.unwrap();
        stream.write_all(b"two ").await.unwrap();
        stream.write_all(b"three ").await.unwrap();
        stream.write_all(&[b'x'; 2000]).await.unwrap();
        stream.write_all(b"four ").await.unwrap();
        let slices = [IoSlice::new(b"five "), IoSlice::new(b"six")];
        assert_eq!(stream.write_vectored(&slices).await.unwrap(), 8);
        assert!(stream.unsent.is_empty(), "vectored writes go out at once");
        stream.write_all(b" seven").await.unwrap();
        Shutdown::shutdown(&mut stream).await;
        let mut got = String::new();
        other.read_to_string(&mut got).await.unwrap();
        let x = "x".repeat(2000);
        assert_eq!(got, format!("one two three {x}four five six seven"));
    }
}

#[tokio::test]
async fn unbuffered_writes_go_out_at_once() {
    let (mut stream, mut other) = pair().await;
    stream.set_buffer_settings(L4BufferSettings::unbuffered());
    stream.write_all(b"x").await.unwrap();
    assert_eq!(other.read_u8().await.unwrap(), b'x');
}

/// Neither a read nor a write may be all that a worker does, however much the other end gives or takes.
#[tokio::test]
async fn a_busy_connection_makes_room_for_other_tasks() {
    let (mut writer, peer) = pair().await;
    writer.set_buffer_settings(L4BufferSettings::unbuffered());
    let others = Arc::new(AtomicUsize::new(0));
    let other = tokio::spawn({
        let others = others.clone();
        async move { others.fetch_add(1, Ordering::Relaxed) }
    });
    // The kernel takes more single bytes than this before it has the writer wait.
    let mut written = 0;
    while others.load(Ordering::Relaxed) == 0 {
        writer.write_all(b"x").await.unwrap();
        written += 1;
        assert!(written < 1000, "nobody else had a turn");
    }
    other.await.unwrap();

    let mut reader = Stream::from(peer);
    reader.set_buffer_settings(L4BufferSettings::unbuffered());
    writer.write_all(&[b'y'; 1000]).await.unwrap();
    received(&reader, 1000 + written).await;
    let other = tokio::spawn({
        let others = others.clone();
        async move { others.fetch_add(1, Ordering::Relaxed) }
    });
    let mut read = 0;
    while others.load(Ordering::Relaxed) == 1 {
        reader.read_u8().await.unwrap();
        read += 1;
        assert!(read < 1000, "nobody else had a turn");
    }
    other.await.unwrap();
}

/// Both kinds of socket, each with its other end.
async fn pairs() -> Vec<(Stream, Stream)> {
    let (tcp, peer) = pair().await;
    let (a, b) = UnixStream::pair().unwrap();
    vec![(tcp, peer.into()), (a.into(), b.into())]
}

#[tokio::test]
async fn more_slices_than_the_system_takes_at_once() {
    for (mut writer, mut reader) in pairs().await {
        let slices = vec![IoSlice::new(b"0123456789"); 1500];
        let mut written = 0;
        while written < 15_000 {
            let slices = &slices[written / 10..];
            let n = writer.write_vectored(slices).await.unwrap();
            // Whole slices are asked for, and taken while there is room.
            assert_eq!(n % 10, 0);
            written += n;
            // What is written next has room, and must not wait for a change that does not come.
            let mut got = vec![0; n];
            reader.read_exact(&mut got).await.unwrap();
        }
    }
}

#[tokio::test]
async fn a_writer_that_waited_goes_on_when_there_is_room() {
    for (mut writer, mut reader) in pairs().await {
        let all = vec![b'x'; 20 << 20];
        let sent = async {
            let mut rest = &all[..];
            while !rest.is_empty() {
                let halves = rest.split_at(rest.len() / 2);
                let slices = [IoSlice::new(halves.0), IoSlice::new(halves.1)];
                let n = writer.write_vectored(&slices).await.unwrap();
                rest = &rest[n..];
                let n = writer.write(rest).await.unwrap();
                rest = &rest[n..];
            }
            writer.flush().await.unwrap();
        };
        let mut got = vec![0; all.len()];
        let (_, read) = tokio::join!(sent, reader.read_exact(&mut got));
        read.unwrap();
        assert_eq!(got, all);
    }
}

#[tokio::test]
async fn the_end_is_seen_behind_a_read_that_had_room() {
    for (mut writer, mut reader) in pairs().await {
        writer.write_all(b"ab").await.unwrap();
        writer.flush().await.unwrap();
        let mut got = [0; 100];
        assert_eq!(reader.read(&mut got).await.unwrap(), 2);
        drop(writer);
        assert_eq!(reader.read(&mut got).await.unwrap(), 0);
    }
    for (mut writer, mut reader) in pairs().await {
        writer.write_all(b"ab").await.unwrap();
        writer.flush().await.unwrap();
        drop(writer);
        let mut got = [0; 100];
        assert_eq!(reader.read(&mut got).await.unwrap(), 2);
        assert_eq!(reader.read(&mut got).await.unwrap(), 0);
    }
}

#[tokio::test]
async fn nothing_is_moved_at_once() {
    for (mut writer, mut reader) in pairs().await {
        writer.set_buffer_settings(L4BufferSettings::unbuffered());
        assert_eq!(writer.write(b"").await.unwrap(), 0);
        let empty = [IoSlice::new(b""), IoSlice::new(b"")];
        assert_eq!(writer.write_vectored(&empty).await.unwrap(), 0);
        writer.write_all(b"a").await.unwrap();
        assert_eq!(reader.read_u8().await.unwrap(), b'a');
    }
}

#[tokio::test]
async fn rewinding() {
    let (mut stream, mut other) = pair().await;
    other.write_all(b"12345").await.unwrap();
    received(&stream, 5).await;
    assert_eq!(stream.read_u8().await.unwrap(), b'1');
    stream.rewind(b"01");
    stream.rewind(b"");
    drop(other);
    let mut got = String::new();
    stream.read_to_string(&mut got).await.unwrap();
    assert_eq!(got, "012345");
    assert!(holds_no_buffer(&stream));
}

#[tokio::test]
async fn peeking() {
    let (mut stream, mut other) = pair().await;
    let mut buf = [0; 4];
    let mut peek = tokio_test::task::spawn(stream.try_peek(&mut buf));
    assert!(peek.poll().is_pending());
    drop(peek);

    other.write_all(b"ab").await.unwrap();
    received(&stream, 2).await;
    // Half of it is there, and not lost with the future.
    let mut peek = tokio_test::task::spawn(stream.try_peek(&mut buf));
    assert!(peek.poll().is_pending());
    drop(peek);

    other.write_all(b"cdef").await.unwrap();
    assert!(stream.try_peek(&mut buf).await.unwrap());
    assert_eq!(&buf, b"abcd");
    assert!(stream.try_peek(&mut buf[..2]).await.unwrap());
    drop(other);
    let mut more = [0; 7];
    let e = stream.try_peek(&mut more).await.unwrap_err();
    assert_eq!(e.kind(), io::ErrorKind::UnexpectedEof);
    let mut got = String::new();
    stream.read_to_string(&mut got).await.unwrap();
    assert_eq!(got, "abcdef");
}

#[tokio::test]
async fn pending_time_is_that_of_waiting() {
    let (mut stream, mut other) = pair().await;
    other.write_all(b"x").await.unwrap();
    received(&stream, 1).await;
    stream.read_u8().await.unwrap();
    assert_eq!(stream.get_read_pending_time(), Duration::ZERO);

    let (read, sent) = tokio::join!(stream.read_u8(), async {
        tokio::task::yield_now().await;
        other.write_all(b"y").await
    });
    sent.unwrap();
    assert_eq!(read.unwrap(), b'y');
    assert!(stream.get_read_pending_time() > Duration::ZERO);
    assert_eq!(stream.get_write_pending_time(), Duration::ZERO);

    // Also of a wait that is the beginning of a read.
    let waited = stream.get_read_pending_time();
    let ready = std::future::poll_fn(|cx| stream.poll_read_ready(cx));
    let ((), sent) = tokio::join!(ready, async {
        tokio::task::yield_now().await;
        other.write_all(b"z").await
    });
    sent.unwrap();
    assert!(stream.get_read_pending_time() > waited);
    assert_eq!(stream.read_u8().await.unwrap(), b'z');

    // Fill the kernel's buffers.
    stream.set_buffer_settings(L4BufferSettings::unbuffered());
    let block = vec![0; 1 << 20];
    loop {
        let mut write = tokio_test::task::spawn(stream.write(&block));
        if write.poll().is_pending() {
            break;
        }
    }
    let mut sink = vec![0; 1 << 20];
    let drain = async { while other.read(&mut sink).await.unwrap() > 0 {} };
    tokio::select! {
        written = stream.write(&block) => assert!(written.unwrap() > 0),
        () = drain => panic!("the stream ended"),
    }
    assert!(stream.get_write_pending_time() > Duration::ZERO);
}

#[tokio::test]
async fn digests_outlive_the_socket() {
    let (stream, other) = pair().await;
    let before = stream.get_timing_digest();
    assert_eq!(
        before[0].as_ref().unwrap().established_ts,
        stream.established_ts
    );
    let digest = stream.get_socket_digest().unwrap();
    let again = stream.get_socket_digest().unwrap();
    assert!(Arc::ptr_eq(&digest, &again));
    assert!(digest.peer_addr.get().is_some(), "known from accept");
    assert_eq!(
        digest.peer_addr().unwrap().as_inet(),
        Some(&other.local_addr().unwrap())
    );
    assert!(digest.get_recv_buf().is_some() && digest.get_snd_buf().is_some());
    assert_eq!(digest.original_dst(), None);

    drop(stream);
    assert_eq!(
        digest.local_addr().unwrap().as_inet(),
        Some(&other.peer_addr().unwrap())
    );
    assert!(digest.peer_addr().is_some());
    assert!(digest.tcp_info().is_none() && digest.get_recv_buf().is_none());
    assert!(digest.socket_cookie().is_err());
}

#[tokio::test]
async fn digests_by_hand() {
    let (a, _b) = UnixStream::pair().unwrap();
    let mut stream = Stream::from(a);
    let digest = stream.get_socket_digest().unwrap();
    assert_eq!(digest.peer_addr().unwrap().to_string(), "(unnamed)");
    assert!(digest.tcp_info().is_none());
    let custom = SocketDigest::from_raw_fd(-1);
    let addr: SocketAddr = "192.0.2.1:80".parse().unwrap();
    custom.peer_addr.set(Some(addr.clone())).unwrap();
    stream.set_socket_digest(custom);
    let digest = stream.get_socket_digest().unwrap();
    assert_eq!(digest.peer_addr(), Some(&addr));
    assert_eq!(digest.local_addr(), None);
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn receive_timestamps() {
    let start = SystemTime::now();
    let (mut stream, mut other) = pair().await;
    // The kernel turns timestamps on a little later than it says.
    for _ in 0..10_000 {
        stream.set_rx_timestamp().unwrap();
        other.write_all(b"x").await.unwrap();
        assert_eq!(stream.read_u8().await.unwrap(), b'x');
        if stream.rx_ts.is_some() {
            break;
        }
        tokio::task::yield_now().await;
    }
    let first = stream.rx_ts.expect("a timestamp");
    assert!(first >= start - Duration::from_secs(1) && first <= SystemTime::now());
    other.write_all(b"y").await.unwrap();
    assert_eq!(stream.read_u8().await.unwrap(), b'y');
    assert_eq!(stream.rx_ts, Some(first), "of the first read alone");
}

#[tokio::test]
async fn accepting() {
    let tcp = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = tcp.local_addr().unwrap();
    let listener = Listener::from(tcp);
    let (accepted, other) = tokio::join!(listener.accept(), TcpStream::connect(addr));
    let stream = accepted.unwrap();
    assert_eq!(
        stream.known_peer(),
        Some(&other.unwrap().local_addr().unwrap())
    );
    let RawStream::Tcp(tcp) = &stream.raw else {
        panic!("not TCP");
    };
    assert!(tcp.nodelay().unwrap());
    assert_eq!(stream.id(), stream.as_raw_fd());

    let path = std::env::temp_dir().join(format!("pc-stream-{}", std::process::id()));
    let _ = std::fs::remove_file(&path);
    let listener = Listener::from(tokio::net::UnixListener::bind(&path).unwrap());
    let (accepted, _other) = tokio::join!(listener.accept(), UnixStream::connect(&path));
    assert!(matches!(accepted.unwrap().raw, RawStream::Unix(_)));
    std::fs::remove_file(&path).unwrap();
}

#[test]
fn moving_to_another_runtime() {
    let runtime = || {
        tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap()
    };
    let (one, two) = (runtime(), runtime());
    let (mut stream, other) = one.block_on(async {
        let (stream, other) = pair().await;
        (stream, other.into_std().unwrap())
    });
    let fd = stream.as_raw_fd();
    two.block_on(async {
        stream.reregister().unwrap();
        assert_eq!(stream.as_raw_fd(), fd);
        let mut other = TcpStream::from_std(other).unwrap();
        one.shutdown_background();
        other.write_all(b"x").await.unwrap();
        assert_eq!(stream.read_u8().await.unwrap(), b'x');
        stream.write_all(b"y").await.unwrap();
        stream.flush().await.unwrap();
        assert_eq!(other.read_u8().await.unwrap(), b'y');
    });
}

/// A waker that counts how often it is used.
#[derive(Default)]
struct Woken(AtomicUsize);

impl std::task::Wake for Woken {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

impl Woken {
    fn poll(self: &Arc<Self>, stream: &mut Stream) -> Poll<()> {
        stream.poll_readable(&mut Context::from_waker(&self.clone().into()))
    }

    fn poll_read(self: &Arc<Self>, stream: &mut Stream) -> Poll<u8> {
        let mut byte = [0];
        let waker = self.clone().into();
        let mut buf = ReadBuf::new(&mut byte);
        let read = Pin::new(stream).poll_read(&mut Context::from_waker(&waker), &mut buf);
        read.map(|read| {
            read.unwrap();
            byte[0]
        })
    }

    async fn times(&self, times: usize) {
        while self.0.load(Ordering::Relaxed) < times {
            tokio::task::yield_now().await;
        }
    }
}

/// Whoever waits is woken each time, however often it asked, by whichever way, and whoever asked before.
#[tokio::test]
async fn who_waits_is_woken() {
    for (mut stream, mut other) in pairs().await {
        let (first, second) = (Arc::<Woken>::default(), Arc::<Woken>::default());
        for round in 1..4 {
            for _ in 0..3 {
                assert!(first.poll_read(&mut stream).is_pending());
                assert!(first.poll(&mut stream).is_pending());
            }
            other.write_all(b"ab").await.unwrap();
            other.flush().await.unwrap();
            first.times(2 * round - 1).await;
            assert!(first.poll(&mut stream).is_ready());
            for expected in *b"ab" {
                assert_eq!(first.poll_read(&mut stream), Poll::Ready(expected));
            }
            // What was told and read is no wait any more.
            assert!(first.poll_read(&mut stream).is_pending());
            assert!(second.poll_read(&mut stream).is_pending());
            assert!(first.poll(&mut stream).is_pending());
            assert_eq!(stream.probe().map(|probed| probed.is_pending()), Some(true));
            other.write_all(b"c").await.unwrap();
            other.flush().await.unwrap();
            first.times(2 * round).await;
            assert_eq!(first.poll_read(&mut stream), Poll::Ready(b'c'));
            assert_eq!(second.0.load(Ordering::Relaxed), 0);
        }
        assert!(first.poll(&mut stream).is_pending());
        drop(other);
        first.times(7).await;
        assert!(matches!(stream.probe(), Some(Poll::Ready(Ok(0)))));
    }
}

/// The reactor wakes a waker once, and another thread that drives it may take it at any time: who asks again has to be
/// known again, whatever became of the waker that it left before.
#[tokio::test]
async fn who_asks_again_is_woken_again() {
    let (mut stream, mut other) = pair().await;
    let waiting = Arc::<Woken>::default();
    assert!(waiting.poll_read(&mut stream).is_pending());
    let RawStream::Tcp(tcp) = &stream.raw else {
        panic!("not TCP");
    };
    let noop = std::task::Waker::noop();
    assert!(tcp
        .poll_read_ready(&mut Context::from_waker(noop))
        .is_pending());
    assert!(waiting.poll_read(&mut stream).is_pending());
    other.write_all(b"x").await.unwrap();
    let woken = tokio::time::timeout(Duration::from_secs(30), waiting.times(1)).await;
    woken.expect("woken");
    assert_eq!(waiting.poll_read(&mut stream), Poll::Ready(b'x'));
}

/// A task whose turn is over when it begins to wait is not registered, and asks again.
#[tokio::test]
async fn who_waits_after_its_turn_is_woken() {
    for (mut stream, mut other) in pairs().await {
        // A socket counts as ready until it was read.
        assert!(Arc::<Woken>::default().poll_read(&mut stream).is_pending());
        std::future::poll_fn(|cx| {
            while tokio::task::coop::has_budget_remaining() {
                ready!(tokio::task::coop::poll_proceed(cx)).made_progress();
            }
            assert!(stream.poll_readable(cx).is_pending());
            Poll::Ready(())
        })
        .await;
        tokio::task::yield_now().await;
        let write = async {
            tokio::task::yield_now().await;
            other.write_all(b"x").await.unwrap();
            other.flush().await.unwrap();
        };
        let both = async { tokio::join!(stream.read_u8(), write).0 };
        let read = tokio::time::timeout(Duration::from_secs(30), both).await;
        assert_eq!(read.expect("woken").unwrap(), b'x');
    }
}

#[derive(Debug, Clone, Default)]
struct Counts(Arc<[AtomicUsize; 2]>);

impl Tracing for Counts {
    fn on_connected(&self) {
        self.0[0].fetch_add(1, Ordering::Relaxed);
    }
    fn on_disconnected(&self) {
        self.0[1].fetch_add(1, Ordering::Relaxed);
    }
    fn boxed_clone(&self) -> Box<dyn Tracing> {
        Box::new(self.clone())
    }
}

#[tokio::test]
async fn the_tracer_is_told_of_the_end() {
    let counts = Counts::default();
    let (mut stream, _other) = pair().await;
    stream.tracer = Some(Tracer(Box::new(counts.clone())));
    assert_eq!(counts.0[1].load(Ordering::Relaxed), 0);
    drop(stream);
    assert_eq!(counts.0[1].load(Ordering::Relaxed), 1);
    assert_eq!(counts.0[0].load(Ordering::Relaxed), 0);
}

/// A virtual socket over a pipe, which notes the options it is given.
#[derive(Debug)]
struct Pipe(
    tokio::io::DuplexStream,
    Arc<parking_lot::Mutex<Vec<VirtualSockOpt>>>,
);

impl AsyncRead for Pipe {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_read(cx, buf)
    }
}

impl AsyncWrite for Pipe {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(cx, buf)
    }
    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(cx)
    }
    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(cx)
    }
}

impl VirtualSocket for Pipe {
    fn set_socket_option(&self, opt: VirtualSockOpt) -> io::Result<()> {
        self.1.lock().push(opt);
        Ok(())
    }
}

#[tokio::test]
async fn virtual_sockets() {
    let (pipe, mut other) = tokio::io::duplex(64);
    let options = Arc::default();
    let virt = |pipe| VirtualSocketStream::new(Box::new(Pipe(pipe, Arc::clone(&options))));
    let mut stream = Stream::from(virt(pipe));
    stream.set_nodelay().unwrap();
    stream.set_rx_timestamp().unwrap();
    assert!(matches!(options.lock()[..], [VirtualSockOpt::NoDelay]));
    assert!(stream.get_socket_digest().is_none());
    assert_eq!(stream.as_raw_fd(), -1);
    let second = Stream::from(virt(tokio::io::duplex(1).0));
    assert!(stream.id() < -1 && stream.id() != second.id());

    stream.write_all(b"ping").await.unwrap();
    stream.flush().await.unwrap();
    let mut buf = [0; 4];
    other.read_exact(&mut buf).await.unwrap();
    assert_eq!(&buf, b"ping");
    other.write_all(b"pong!").await.unwrap();
    stream.read_exact(&mut buf).await.unwrap();
    assert_eq!((&buf, stream.read_u8().await.unwrap()), (b"pong", b'!'));
    stream.reregister().unwrap();
}
