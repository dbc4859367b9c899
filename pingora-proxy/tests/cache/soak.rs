//! Many clients over few keys, with purges, aborts, slow readers and an origin that fails: what is served is what the
//! origin sent, no two fills of a key overlap, and memory does not grow.
//!
//! `SOAK_REQUESTS=5000` makes each client send more than the few of CI.

use crate::common::*;
use crate::fixture::{key, lock, mem_cache};
use async_trait::async_trait;
use bytes::Bytes;
use pingora_cache::eviction::{simple_lru::Manager, EvictionManager};
use pingora_cache::key::{CacheHashKey, HashBinary};
use pingora_cache::lock::CacheKeyLockImpl;
use pingora_cache::storage::{
    HandleMiss, HitHandler, MissFinishType, MissHandler, PurgeOutcome, PurgeTarget, PurgeType,
};
use pingora_cache::trace::SpanHandle;
use pingora_cache::{CacheKey, CacheMeta, MemCache, RespCacheable, Storage, VarianceBuilder};
use pingora_core::upstreams::peer::HttpPeer;
use pingora_core::Result;
use pingora_http::{RequestHeader, ResponseHeader};
use pingora_proxy::{ProxyHttp, Session};
use std::any::Any;
use std::collections::HashMap;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

const CLIENTS: usize = 200;
const KEYS: usize = 50;
const VARIANTS: [&str; 2] = ["a", "b"];
const STORED_BYTES: usize = 1024 * 1024;
/// More than this in one half of a run, with all buffers in use since the first, would be a leak.
const GROWTH: usize = 8 * 1024 * 1024;

/// A number that looks like one picked at random, the same in each run.
fn scattered(seed: usize) -> usize {
    let mut x = (seed as u64).wrapping_add(0x9e37_79b9_7f4a_7c15);
    x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    (x ^ (x >> 31)) as usize
}

/// What the origin sends of a version of a key's variant.
fn content(key: usize, variant: &str, version: usize) -> Vec<u8> {
    let size = [100, 3_000, 20_000, 150_000][key % 4];
    let pattern = format!("{key}/{variant}/{version};");
    pattern.bytes().cycle().take(size).collect()
}

/// Counts the fills of each key that are under way.
struct Watched {
    inner: &'static MemCache,
    /// Whether a response is read while it is being written; its lock ends when that begins.
    streaming: bool,
    fills: &'static Mutex<HashMap<String, usize>>,
    /// The most fills of one key at once.
    most: &'static AtomicUsize,
}

struct Fill {
    inner: MissHandler,
    key: String,
    fills: &'static Mutex<HashMap<String, usize>>,
}

impl Drop for Fill {
    fn drop(&mut self) {
        if let Some(count) = self.fills.lock().unwrap().get_mut(&self.key) {
            *count -= 1;
        }
    }
}

#[async_trait]
impl HandleMiss for Fill {
    async fn write_body(&mut self, data: Bytes, end: bool) -> Result<()> {
        self.inner.write_body(data, end).await
    }

    async fn finish(self: Box<Self>) -> Result<MissFinishType> {
        // The count ends before the lock does: with the handler.
        let mut fill = *self;
        let inner = std::mem::replace(&mut fill.inner, Box::new(Over));
        drop(fill);
        inner.finish().await
    }

    fn streaming_write_tag(&self) -> Option<&[u8]> {
        self.inner.streaming_write_tag()
    }
}

/// In the place of a handler that has finished.
struct Over;

#[async_trait]
impl HandleMiss for Over {
    async fn write_body(&mut self, _: Bytes, _: bool) -> Result<()> {
        Ok(())
    }

    async fn finish(self: Box<Self>) -> Result<MissFinishType> {
        Ok(MissFinishType::Created(0))
    }
}

#[async_trait]
impl Storage for Watched {
    async fn lookup(
        &'static self,
        key: &CacheKey,
        trace: &SpanHandle,
    ) -> Result<Option<(CacheMeta, HitHandler)>> {
        self.inner.lookup(key, trace).await
    }

    async fn lookup_streaming_write(
        &'static self,
        key: &CacheKey,
        tag: Option<&[u8]>,
        trace: &SpanHandle,
    ) -> Result<Option<(CacheMeta, HitHandler)>> {
        self.inner.lookup_streaming_write(key, tag, trace).await
    }

    async fn get_miss_handler(
        &'static self,
        key: &CacheKey,
        meta: &CacheMeta,
        trace: &SpanHandle,
    ) -> Result<MissHandler> {
        let name = key.combined();
        {
            let mut fills = self.fills.lock().unwrap();
            let count = fills.entry(name.clone()).or_default();
            *count += 1;
            self.most.fetch_max(*count, Ordering::SeqCst);
        }
        let inner = self.inner.get_miss_handler(key, meta, trace).await?;
        Ok(Box::new(Fill {
            inner,
            key: name,
            fills: self.fills,
        }))
    }

    async fn purge(
        &'static self,
        target: PurgeTarget<'_>,
        kind: PurgeType,
        trace: &SpanHandle,
    ) -> Result<PurgeOutcome> {
        self.inner.purge(target, kind, trace).await
    }

    async fn update_meta(
        &'static self,
        key: &CacheKey,
        meta: &CacheMeta,
        trace: &SpanHandle,
    ) -> Result<bool> {
        self.inner.update_meta(key, meta, trace).await
    }

    fn support_streaming_partial_write(&self) -> bool {
        self.streaming
    }

    fn as_any(&self) -> &(dyn Any + Send + Sync + 'static) {
        self
    }
}

struct App {
    peer: HttpPeer,
    storage: &'static Watched,
    eviction: &'static Manager,
    lock: &'static CacheKeyLockImpl,
}

#[async_trait]
impl ProxyHttp for App {
    type CTX = ();

    fn new_ctx(&self) {}

    fn request_cache_filter(&self, session: &mut Session, _: &mut ()) -> Result<()> {
        let cache = &mut session.cache;
        cache.enable(
            self.storage,
            Some(self.eviction),
            None,
            Some(self.lock),
            None,
        );
        Ok(())
    }

    fn cache_key_callback(&self, session: &Session, _: &mut ()) -> Result<CacheKey> {
        Ok(key(session.req_header().uri.path()))
    }

    fn is_purge(&self, session: &Session, _: &()) -> bool {
        session.req_header().method == "PURGE"
    }

    fn cache_vary_filter(
        &self,
        _: &CacheMeta,
        _: &mut (),
        request: &RequestHeader,
    ) -> Option<HashBinary> {
        let mut variance = VarianceBuilder::new();
        let value = request.headers.get("variant").map(|value| value.as_bytes());
        variance.add_owned_value("variant", value.unwrap_or_default().to_vec());
        variance.finalize()
    }

    fn response_cache_filter(
        &self,
        _: &Session,
        response: &ResponseHeader,
        _: &mut (),
    ) -> Result<RespCacheable> {
        let now = SystemTime::now();
        let fresh = now + Duration::from_secs(3600);
        if response.status != 200 {
            let why = pingora_cache::NoCacheReason::OriginNotCache;
            return Ok(RespCacheable::Uncacheable(why));
        }
        Ok(RespCacheable::Cacheable(CacheMeta::new(
            fresh,
            now,
            0,
            0,
            response.clone(),
        )))
    }

    async fn upstream_peer(&self, _: &mut Session, _: &mut ()) -> Result<Box<HttpPeer>> {
        Ok(Box::new(self.peer.clone()))
    }
}

/// Answers a request, or fails to. Each answer for a key's variant has the next version.
fn serve(wire: &mut Wire, request: &Response, number: usize, versions: &Mutex<Versions>) -> bool {
    let key: usize = request
        .head
        .split(['/', ' '])
        .nth(2)
        .unwrap()
        .parse()
        .unwrap();
    let variant = request.field("variant").unwrap().to_owned();
    let version = {
        let mut versions = versions.lock().unwrap();
        let version = versions.entry((key, variant.clone())).or_default();
        *version += 1;
        *version
    };
    let body = content(key, &variant, version);
    let cut = match scattered(number) % 20 {
        0 => return false,
        1 => {
            let failed = "HTTP/1.1 500 Broken\r\nContent-Length: 0\r\n\r\n";
            return wire.send_if_taken(failed).is_ok();
        }
        2 => body.len() / 2,
        _ => body.len(),
    };
    let head = format!("HTTP/1.1 200 OK\r\nX-Version: {version}\r\n");
    let sent = if key % 5 == 0 {
        let mut message = format!("{head}Transfer-Encoding: chunked\r\n\r\n").into_bytes();
        for chunk in body[..cut].chunks(4_000) {
            message.extend(format!("{:x}\r\n", chunk.len()).bytes());
            message.extend(chunk);
            message.extend(b"\r\n");
        }
        if cut == body.len() {
            message.extend(b"0\r\n\r\n");
        }
        wire.send_if_taken(message)
    } else {
        let head = format!("{head}Content-Length: {}\r\n\r\n", body.len());
        wire.send_if_taken([head.as_bytes(), &body[..cut]].concat())
    };
    sent.is_ok() && cut == body.len()
}

/// Listens until the process ends. [`Origin`] would keep the memory of each connection's thread until it has ended.
fn start_origin(path: &Path, versions: &Arc<Mutex<Versions>>, fetched: &Arc<AtomicUsize>) {
    let listener = UnixListener::bind(path).unwrap();
    let (versions, fetched) = (versions.clone(), fetched.clone());
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut wire = Wire::new(stream.unwrap());
            let (versions, fetched) = (versions.clone(), fetched.clone());
            std::thread::spawn(move || {
                while wire.has_more() {
                    let request = wire.read_message();
                    let number = fetched.fetch_add(1, Ordering::SeqCst);
                    if !serve(&mut wire, &request, number, &versions) {
                        return;
                    }
                }
            });
        }
    });
}

type Versions = HashMap<(usize, String), usize>;

/// What became of a request.
#[derive(Default)]
struct Outcomes {
    /// Whole responses whose every byte was checked.
    verified: AtomicUsize,
    /// Answers of 5xx, and responses that were cut short for all to see.
    failed: AtomicUsize,
    aborted: AtomicUsize,
}

struct Client<'a> {
    proxy: &'a Proxy,
    connection: Option<BufReader<UnixStream>>,
    outcomes: &'a Outcomes,
    versions: &'a Mutex<Versions>,
}

impl Client<'_> {
    fn connection(&mut self) -> &mut BufReader<UnixStream> {
        self.connection.get_or_insert_with(|| {
            let stream = UnixStream::connect(self.proxy.path()).unwrap();
            // Whoever waits for longer waits for ever.
            stream.set_read_timeout(Some(PATIENCE)).unwrap();
            stream.set_write_timeout(Some(PATIENCE)).unwrap();
            BufReader::new(stream)
        })
    }

    fn run(&mut self, seed: usize) {
        let random = scattered(seed);
        let (key, variant) = (random % KEYS, VARIANTS[random / 64 % VARIANTS.len()]);
        let kind = random / 1024 % 100;
        let method = if kind < 3 { "PURGE" } else { "GET" };
        let request = format!("{method} /{key} HTTP/1.1\r\nHost: a\r\nVariant: {variant}\r\n\r\n");
        let connection = self.connection();
        connection.get_mut().write_all(request.as_bytes()).unwrap();
        if (3..8).contains(&kind) {
            // Leaves at once, or with the answer begun.
            if kind < 6 {
                let _ = connection.fill_buf();
            }
            self.connection = None;
            self.outcomes.aborted.fetch_add(1, Ordering::SeqCst);
            return;
        }
        let slow = (8..12).contains(&kind);
        match read_response(connection, slow) {
            Ok(response) if method == "PURGE" => assert!([200, 404].contains(&response.status)),
            Ok(response) if response.status == 200 => {
                self.verify(key, variant, &response);
                self.outcomes.verified.fetch_add(1, Ordering::SeqCst);
            }
            Ok(response) => {
                assert!(response.status >= 500, "{}", response.status);
                self.outcomes.failed.fetch_add(1, Ordering::SeqCst);
                self.connection = None;
            }
            Err(e) => {
                let timeout = [io::ErrorKind::WouldBlock, io::ErrorKind::TimedOut];
                assert!(
                    !timeout.contains(&e.kind()),
                    "a response that does not come"
                );
                self.outcomes.failed.fetch_add(1, Ordering::SeqCst);
                self.connection = None;
            }
        }
    }

    fn verify(&self, key: usize, variant: &str, response: &Read200) {
        let sent = self.versions.lock().unwrap()[&(key, variant.to_owned())];
        assert!((1..=sent).contains(&response.version));
        let expected = content(key, variant, response.version);
        assert!(
            response.body == expected,
            "not what was sent of /{key}, {variant}"
        );
    }
}

struct Read200 {
    status: u16,
    version: usize,
    body: Vec<u8>,
}

fn read_response(stream: &mut BufReader<UnixStream>, slow: bool) -> io::Result<Read200> {
    let ended = || io::Error::from(io::ErrorKind::UnexpectedEof);
    let mut line = String::new();
    let (mut status, mut version, mut length, mut first) = (0, 0, None, true);
    loop {
        line.clear();
        if stream.read_line(&mut line)? == 0 {
            return Err(ended());
        }
        let text = line.trim_end().to_ascii_lowercase();
        if first {
            status = text.split(' ').nth(1).unwrap().parse().unwrap();
            first = false;
        } else if text.is_empty() {
            break;
        } else if let Some(value) = text.strip_prefix("x-version: ") {
            version = value.parse().unwrap();
        } else if let Some(value) = text.strip_prefix("content-length: ") {
            length = Some(value.parse().unwrap());
        }
    }
    let mut body = Vec::new();
    if let Some(length) = length {
        read_piece(stream, length, slow, &mut body)?;
        return Ok(Read200 {
            status,
            version,
            body,
        });
    }
    loop {
        line.clear();
        if stream.read_line(&mut line)? == 0 {
            return Err(ended());
        }
        let size = usize::from_str_radix(line.trim_end(), 16).unwrap();
        read_piece(stream, size, slow, &mut body)?;
        line.clear();
        stream.read_line(&mut line)?;
        if size == 0 {
            return Ok(Read200 {
                status,
                version,
                body,
            });
        }
    }
}

fn read_piece(
    stream: &mut BufReader<UnixStream>,
    size: usize,
    slow: bool,
    body: &mut Vec<u8>,
) -> io::Result<()> {
    let mut left = size;
    while left > 0 {
        let piece = if slow { left.min(2_000) } else { left };
        let from = body.len();
        body.resize(from + piece, 0);
        stream.read_exact(&mut body[from..])?;
        left -= piece;
        if slow {
            std::thread::sleep(Duration::from_micros(200));
        }
    }
    Ok(())
}

#[test]
fn every_byte_served_is_one_that_the_origin_sent_for_that_key() {
    alone("soak::one_after_another");
}

#[test]
fn so_it_is_when_responses_are_read_while_they_are_written() {
    alone("soak::side_by_side");
}

/// Runs a test in a process of its own, whose memory is what it looks at.
#[track_caller]
fn alone(test: &str) {
    let run = std::process::Command::new(std::env::current_exe().unwrap())
        .args(["--exact", test, "--ignored", "--nocapture"])
        .output()
        .unwrap();
    let said = [run.stdout, run.stderr].concat();
    let said = String::from_utf8_lossy(&said);
    println!("{said}");
    assert!(run.status.success() && said.contains("1 passed"), "{said}");
}

#[test]
#[ignore = "run by itself by a test above"]
fn one_after_another() {
    let storage = soak(false);
    assert_eq!(storage.most.load(Ordering::SeqCst), 1, "fills overlapped");
}

#[test]
#[ignore = "run by itself by a test above"]
fn side_by_side() {
    soak(true);
}

fn soak(streaming: bool) -> &'static Watched {
    let each: usize = std::env::var("SOAK_REQUESTS").map_or(20, |text| text.parse().unwrap());
    let versions = Arc::new(Mutex::new(Versions::new()));
    let fetched = Arc::new(AtomicUsize::new(0));
    let dir = tempfile::TempDir::new().unwrap();
    let origin = dir.path().join("origin");
    start_origin(&origin, &versions, &fetched);
    let storage: &'static Watched = Box::leak(Box::new(Watched {
        inner: mem_cache(),
        fills: Box::leak(Box::default()),
        most: Box::leak(Box::default()),
        streaming,
    }));
    let eviction: &'static Manager = Box::leak(Box::new(Manager::new(STORED_BYTES)));
    let proxy = Proxy::start(App {
        peer: forward_to(origin).peer,
        storage,
        eviction,
        lock: lock(Duration::from_secs(600)),
    });
    let outcomes = Outcomes::default();

    let half = |from: usize, to: usize| {
        std::thread::scope(|scope| {
            for client in 0..CLIENTS {
                let mut client_state = Client {
                    proxy: &proxy,
                    connection: None,
                    outcomes: &outcomes,
                    versions: &versions,
                };
                scope.spawn(move || {
                    for number in from..to {
                        client_state.run(client * 1_000_003 + number);
                    }
                });
            }
        });
        resident()
    };
    let first = half(0, each / 2);
    let second = half(each / 2, each);

    eventually("every fill has ended", || {
        storage
            .fills
            .lock()
            .unwrap()
            .values()
            .all(|count| *count == 0)
    });
    let (verified, failed, aborted) = (
        outcomes.verified.load(Ordering::SeqCst),
        outcomes.failed.load(Ordering::SeqCst),
        outcomes.aborted.load(Ordering::SeqCst),
    );
    let fetched = fetched.load(Ordering::SeqCst);
    println!("{verified} verified, {failed} failed, {aborted} aborted, {fetched} fetched");
    println!(
        "resident: {first} bytes, then {second}; {} evicted",
        eviction.evicted_items()
    );
    assert!(
        verified > CLIENTS * each / 2,
        "{verified} verified, {failed} failed"
    );
    // How many the origin sends depends on the order of events; were nothing stored or waited for, it would be more.
    assert!(fetched < verified, "{fetched} fetched");
    assert!(aborted > 0 && failed > 0 && eviction.evicted_items() > 0);
    assert!(eviction.total_size() <= STORED_BYTES);
    assert!(second < first + GROWTH, "{first} bytes became {second}");
    storage
}
