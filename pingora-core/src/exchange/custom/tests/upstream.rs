use async_trait::async_trait;
use http::HeaderMap;
use pingora_http::{RequestHeader, ResponseHeader};

use super::*;
use crate::exchange::Upstream;
use crate::protocols::http::custom::client::Session;
use crate::protocols::http::custom::{BodyWrite, CustomMessageWrite};
use crate::protocols::http::HttpTask;
use crate::protocols::l4::socket::SocketAddr;
use crate::protocols::{Digest, UniqueIDType};

/// A session that answers with a script.
struct Fake {
    log: Log,
    reads: Wait,
    writer: Option<Writer>,
    answer: Vec<&'static str>,
    header: Option<ResponseHeader>,
    upgraded: bool,
}

struct Writer(Wait, Log);

fn fake(log: &Log) -> Fake {
    Fake {
        log: log.clone(),
        reads: Wait::Nothing,
        writer: Some(Writer(Wait::Nothing, log.clone())),
        answer: vec!["200", "hello", "end"],
        header: None,
        upgraded: false,
    }
}

#[async_trait]
impl BodyWrite for Writer {
    async fn write_all_buf(&mut self, data: &mut Bytes) -> Result<()> {
        self.1.add("writing");
        self.0.over().await?;
        self.1.add(format!("wrote {:?}", std::mem::take(data)));
        Ok(())
    }
    async fn finish(&mut self) -> Result<()> {
        self.1.add("finished");
        Ok(())
    }
    async fn cleanup(&mut self) -> Result<()> {
        self.1.add("cleaned up");
        Ok(())
    }
    fn upgrade_body_writer(&mut self) {
        self.1.add("upgraded");
    }
}

impl Fake {
    fn next(&mut self) -> &'static str {
        self.answer.remove(0)
    }
}

#[async_trait]
impl Session for Fake {
    async fn write_request_header(&mut self, req: Box<RequestHeader>, end: bool) -> Result<()> {
        self.log.add(format!("{} {end}", req.uri));
        Ok(())
    }
    async fn write_request_body(&mut self, data: Bytes, _: bool) -> Result<()> {
        self.log.add(format!("session wrote {data:?}"));
        Ok(())
    }
    async fn finish_request_body(&mut self) -> Result<()> {
        self.log.add("session finished");
        Ok(())
    }
    fn set_read_timeout(&mut self, timeout: Option<Duration>) {
        self.log.add(format!("read timeout {timeout:?}"));
    }
    fn set_write_timeout(&mut self, timeout: Option<Duration>) {
        self.log.add(format!("write timeout {timeout:?}"));
    }
    async fn read_response_header(&mut self) -> Result<()> {
        self.reads.over().await?;
        let status: u16 = self.next().parse().unwrap();
        self.upgraded = status == 101;
        self.header = Some(ResponseHeader::build(status, None).unwrap());
        Ok(())
    }
    async fn read_response_body(&mut self) -> Result<Option<Bytes>> {
        self.reads.over().await?;
        Ok(match self.next() {
            "end" | "trailers" => None,
            data => Some(bytes(data)),
        })
    }
    fn response_finished(&self) -> bool {
        self.answer.is_empty()
    }
    async fn shutdown(&mut self, code: u32, ctx: &str) {
        self.log.add(format!("shutdown {code} {ctx}"));
    }
    async fn abandon(&mut self, _: &str) {
        self.log.add("abandoned");
    }
    fn response_header(&self) -> Option<&ResponseHeader> {
        self.header.as_ref()
    }
    fn was_upgraded(&self) -> bool {
        self.upgraded
    }
    fn digest(&self) -> Option<&Digest> {
        None
    }
    fn digest_mut(&mut self) -> Option<&mut Digest> {
        None
    }
    fn server_addr(&self) -> Option<&SocketAddr> {
        None
    }
    fn client_addr(&self) -> Option<&SocketAddr> {
        None
    }
    async fn read_trailers(&mut self) -> Result<Option<HeaderMap>> {
        Ok(None)
    }
    fn fd(&self) -> UniqueIDType {
        1
    }
    async fn check_response_end_or_error(&mut self, _: bool) -> Result<bool> {
        Ok(self.response_finished())
    }
    fn take_request_body_writer(&mut self) -> Option<Box<dyn BodyWrite>> {
        Some(Box::new(self.writer.take()?))
    }
    async fn finish_custom(&mut self) -> Result<()> {
        Ok(())
    }
    fn take_custom_message_reader(&mut self) -> Option<Reader> {
        None
    }
    async fn drain_custom_messages(&mut self) -> Result<()> {
        Ok(())
    }
    fn take_custom_message_writer(&mut self) -> Option<Box<dyn CustomMessageWrite>> {
        None
    }
}

fn begin(fake: Fake, limits: TimeLimits) -> CustomUpstream<Fake> {
    let mut up = CustomUpstream::new(fake, limits);
    let mut head = RequestHeader::build("POST", b"/", None).unwrap();
    head.insert_header("Transfer-Encoding", "chunked").unwrap();
    up.queue_head(Box::new(head)).unwrap();
    up
}

fn upgrading(fake: Fake, limits: TimeLimits) -> CustomUpstream<Fake> {
    let mut up = CustomUpstream::new(fake, limits);
    let mut head = RequestHeader::build("GET", b"/", None).unwrap();
    head.insert_header("Upgrade", "raw").unwrap();
    up.queue_head(Box::new(head)).unwrap();
    up.queue_end(None).unwrap();
    up
}

async fn flush(up: &mut CustomUpstream<Fake>) {
    poll_fn(|cx| up.poll_flush(cx)).await.unwrap();
}

async fn task(up: &mut CustomUpstream<Fake>) -> String {
    match poll_fn(|cx| up.poll_task(cx)).await.unwrap() {
        HttpTask::Header(header, end) => format!("{} {end}", header.status.as_u16()),
        HttpTask::Body(data, end) => format!("{:?} {end}", data.unwrap_or_default()),
        HttpTask::UpgradedBody(data, end) => format!("raw {:?} {end}", data.unwrap_or_default()),
        other => other.type_str().to_string(),
    }
}

#[tokio::test]
async fn a_request_without_a_body_ends_with_its_head() {
    let log = Log::default();
    let mut up = begin(fake(&log), TimeLimits::default());
    up.queue_end(None).unwrap();
    assert!(!up.is_flushed());
    flush(&mut up).await;
    assert!(up.is_flushed());
    for expected in ["200 false", r#"b"hello" false"#, r#"b"" true"#, "Done"] {
        assert_eq!(task(&mut up).await, expected);
    }
    assert!(up.end(None).await.is_some());
    assert_eq!(
        log.take(),
        ["read timeout None", "write timeout None", "/ true"]
    );
}

#[tokio::test]
async fn the_response_is_read_while_the_body_is_written() {
    let (log, reads, writes) = (
        Log::default(),
        Arc::new(Notify::new()),
        Arc::new(Notify::new()),
    );
    let mut s = fake(&log);
    s.reads = Wait::Notify(reads.clone());
    s.writer = Some(Writer(Wait::Notify(writes.clone()), log.clone()));
    let mut up = begin(s, TimeLimits::default());
    flush(&mut up).await;
    up.queue_body(bytes("a")).unwrap();
    assert!(spawn(poll_fn(|cx| up.poll_flush(cx))).poll().is_pending());
    assert_eq!(up.queued(), 1);
    let mut read = spawn(poll_fn(|cx| up.poll_task(cx)));
    assert!(read.poll().is_pending() && read.poll().is_pending());
    reads.notify_waiters();
    assert!(read.is_woken());
    assert!(matches!(read.poll(), Poll::Ready(Ok(HttpTask::Header(..)))));
    drop(read);
    let mut written = spawn(poll_fn(|cx| up.poll_flush(cx)));
    assert!(written.poll().is_pending());
    writes.notify_waiters();
    assert!(written.is_woken());
    assert!(matches!(written.poll(), Poll::Ready(Ok(()))));
    drop(written);
    assert_eq!((up.queued(), up.body_bytes_sent()), (0, 1));
    up.queue_end(None).unwrap();
    flush(&mut up).await;
    assert_eq!(
        log.take()[2..],
        ["/ false", "writing", r#"wrote b"a""#, "finished"]
    );
}

#[tokio::test]
async fn a_session_without_a_writer_is_sent_the_body_first() {
    let log = Log::default();
    let mut s = fake(&log);
    s.writer = None;
    let mut up = begin(s, TimeLimits::default());
    up.queue_body(bytes("a")).unwrap();
    flush(&mut up).await;
    assert!(spawn(poll_fn(|cx| up.poll_task(cx))).poll().is_pending());
    up.queue_end(None).unwrap();
    flush(&mut up).await;
    assert_eq!(task(&mut up).await, "200 false");
    assert_eq!(
        log.take()[2..],
        ["/ false", r#"session wrote b"a""#, "session finished"]
    );
}

#[tokio::test]
async fn an_early_answer_has_the_body_cleaned_up_and_the_session_closed() {
    let log = Log::default();
    let mut s = fake(&log);
    s.writer = Some(Writer(Wait::Forever, log.clone()));
    s.answer = vec!["413"];
    let mut up = begin(s, TimeLimits::default());
    up.queue_body(bytes("a")).unwrap();
    assert!(spawn(poll_fn(|cx| up.poll_flush(cx))).poll().is_pending());
    assert_eq!(task(&mut up).await, "413 true");
    assert!(up.end(None).await.is_none());
    let end = [
        "writing",
        "cleaned up",
        "shutdown 1 the exchange ended early",
    ];
    assert_eq!(log.take()[3..], end);
}

#[tokio::test]
async fn an_end_that_is_still_to_be_told_is_told() {
    let log = Log::default();
    let mut s = fake(&log);
    s.answer = vec!["200"];
    let mut up = begin(s, TimeLimits::default());
    flush(&mut up).await;
    assert_eq!(task(&mut up).await, "200 true");
    up.queue_end(None).unwrap();
    assert!(up.end(None).await.is_some());
    assert_eq!(log.take()[2..], ["/ false", "finished"]);
}

#[tokio::test]
async fn a_failed_exchange_says_whose_fault_it_was() {
    for (error, said) in [
        (Error::new_down(ErrorType::ReadError), "abandoned"),
        (Error::new_up(ErrorType::ReadError), "shutdown 1"),
    ] {
        let log = Log::default();
        let mut s = fake(&log);
        s.reads = Wait::Forever;
        let mut up = begin(s, TimeLimits::default());
        up.queue_end(None).unwrap();
        flush(&mut up).await;
        assert!(spawn(poll_fn(|cx| up.poll_task(cx))).poll().is_pending());
        assert!(up.end(Some(&error)).await.is_none());
        assert!(log.take().last().unwrap().starts_with(said));
    }
}

#[tokio::test(start_paused = true)]
async fn silence_is_limited() {
    let limits = TimeLimits {
        read: Some(Duration::from_secs(3)),
        head: Some(Duration::from_secs(10)),
        write: Some(Duration::from_secs(4)),
    };
    let log = Log::default();
    let mut s = fake(&log);
    s.reads = Wait::Forever;
    s.writer = Some(Writer(Wait::Forever, log.clone()));
    let mut up = begin(s, limits);
    up.queue_body(bytes("a")).unwrap();
    let begun = tokio::time::Instant::now();
    let e = poll_fn(|cx| up.poll_flush(cx)).await.unwrap_err();
    assert_eq!(*e.etype(), ErrorType::WriteTimedout);
    assert_eq!(begun.elapsed().as_secs(), 4);
    // What cannot be written is no reason to wait for longer.
    let e = poll_fn(|cx| up.poll_task(cx)).await.unwrap_err();
    assert_eq!(*e.etype(), ErrorType::ReadTimedout);
    assert_eq!(begun.elapsed().as_secs(), 14);
    assert_eq!(
        log.take()[..2],
        ["read timeout Some(3s)", "write timeout Some(4s)"]
    );
}

/// Its end is not sent before the answer, for which it would wait.
#[tokio::test(start_paused = true)]
async fn the_answer_to_an_upgrade_has_the_time_of_a_head() {
    let limits = TimeLimits {
        read: None,
        head: Some(Duration::from_secs(10)),
        write: None,
    };
    let log = Log::default();
    let mut s = fake(&log);
    s.reads = Wait::Forever;
    let mut up = upgrading(s, limits);
    flush(&mut up).await;
    let begun = tokio::time::Instant::now();
    let e = poll_fn(|cx| up.poll_task(cx)).await.unwrap_err();
    assert_eq!(*e.etype(), ErrorType::ReadTimedout);
    assert_eq!(begun.elapsed().as_secs(), 10);
}

#[tokio::test]
async fn both_directions_of_an_upgrade_are_raw() {
    let log = Log::default();
    let mut s = fake(&log);
    s.answer = vec!["101", "raw", "end"];
    let mut up = upgrading(s, TimeLimits::default());
    flush(&mut up).await;
    assert_eq!(task(&mut up).await, "101 false");
    up.queue_body(bytes("a")).unwrap();
    flush(&mut up).await;
    assert_eq!(task(&mut up).await, r#"raw b"raw" false"#);
    up.queue_end(None).unwrap();
    flush(&mut up).await;
    assert_eq!(task(&mut up).await, r#"raw b"" true"#);
    let said = [
        "/ false",
        "upgraded",
        "writing",
        r#"wrote b"a""#,
        "finished",
    ];
    assert_eq!(log.take()[2..], said);
    assert!(up.end(None).await.is_none(), "nothing follows it");
}

#[tokio::test]
async fn an_upgrade_that_is_refused_ends_the_request() {
    let log = Log::default();
    let mut up = upgrading(fake(&log), TimeLimits::default());
    flush(&mut up).await;
    for expected in ["200 false", r#"b"hello" false"#, r#"b"" true"#] {
        assert_eq!(task(&mut up).await, expected);
    }
    assert!(up.end(None).await.is_some());
    assert_eq!(log.take()[2..], ["/ false", "finished"]);
}

/// Whatever its session says of it (RFC 9110 section 9.3.6).
#[tokio::test]
async fn a_success_of_connect_is_a_tunnel() {
    let log = Log::default();
    let mut s = fake(&log);
    s.answer = vec!["200", "raw", "end"];
    let mut up = CustomUpstream::new(s, TimeLimits::default());
    let head = RequestHeader::build("CONNECT", b"/", None).unwrap();
    up.queue_head(Box::new(head)).unwrap();
    up.queue_end(None).unwrap();
    flush(&mut up).await;
    assert_eq!(task(&mut up).await, "200 false");
    up.queue_body(bytes("a")).unwrap();
    flush(&mut up).await;
    assert_eq!(task(&mut up).await, r#"raw b"raw" false"#);
    let said = ["/ false", "upgraded", "writing", r#"wrote b"a""#];
    assert_eq!(log.take()[2..], said);
    assert!(up.end(None).await.is_none(), "nothing follows it");
}
