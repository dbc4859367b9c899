use std::collections::VecDeque;

use async_trait::async_trait;
use http::HeaderMap;
use pingora_http::{RequestHeader, ResponseHeader};

use super::*;
use crate::exchange::{Downstream, ServerHooks};
use crate::protocols::http::custom::server::Session;
use crate::protocols::http::custom::CustomMessageWrite;
use crate::protocols::http::{HttpTask, ServerSession};
use crate::protocols::l4::socket::SocketAddr;
use crate::protocols::Digest;

/// A session with the required methods only, or with those of proxy tasks too.
struct Fake {
    request: RequestHeader,
    body: Arc<Mutex<VecDeque<&'static str>>>,
    reads: Wait,
    writes: Wait,
    log: Log,
    /// The proxy's messages, for a session that takes them.
    tasks: Option<Vec<HttpTask>>,
}

fn fake(log: &Log) -> Fake {
    Fake {
        request: RequestHeader::build("POST", b"/fake", None).unwrap(),
        body: Arc::default(),
        reads: Wait::Nothing,
        writes: Wait::Nothing,
        log: log.clone(),
        tasks: None,
    }
}

impl Fake {
    fn session(self) -> ServerSession {
        ServerSession::new_custom(Box::new(self))
    }

    async fn next(&mut self) -> Result<Option<Bytes>> {
        self.reads.over().await?;
        Ok(self.body.lock().unwrap().pop_front().map(bytes))
    }
}

fn told(tasks: &[HttpTask]) -> String {
    let each = tasks.iter().map(|task| match task {
        HttpTask::Header(header, end) => format!("{} {end}", header.status.as_u16()),
        HttpTask::Body(data, end) => format!("{:?} {end}", data.clone().unwrap_or_default()),
        other => other.type_str().to_string(),
    });
    each.collect::<Vec<_>>().join(", ")
}

#[async_trait]
impl Session for Fake {
    fn req_header(&self) -> &RequestHeader {
        &self.request
    }
    fn req_header_mut(&mut self) -> &mut RequestHeader {
        &mut self.request
    }
    async fn read_body_bytes(&mut self) -> Result<Option<Bytes>> {
        self.next().await
    }
    async fn drain_request_body(&mut self) -> Result<()> {
        Ok(())
    }
    async fn write_response_header(&mut self, resp: Box<ResponseHeader>, _: bool) -> Result<()> {
        self.log.add(format!("header {}", resp.status.as_u16()));
        Ok(())
    }
    async fn write_response_header_ref(&mut self, _: &ResponseHeader, _: bool) -> Result<()> {
        Ok(())
    }
    async fn write_body(&mut self, _: Bytes, _: bool) -> Result<()> {
        Ok(())
    }
    async fn write_trailers(&mut self, _: HeaderMap) -> Result<()> {
        Ok(())
    }
    async fn response_duplex_vec(&mut self, tasks: Vec<HttpTask>) -> Result<bool> {
        self.log.add("begin");
        self.writes.over().await?;
        self.log.add(told(&tasks));
        Ok(tasks.iter().any(HttpTask::is_end))
    }
    fn proxy_tasks_enabled(&self) -> bool {
        self.tasks.is_some()
    }
    fn send_proxy_task(&mut self, task: HttpTask) {
        self.tasks.as_mut().unwrap().push(task);
    }
    fn has_pending_proxy_tasks(&self) -> bool {
        self.tasks.as_ref().is_some_and(|tasks| !tasks.is_empty())
    }
    async fn write_proxy_tasks(&mut self) -> Result<bool> {
        self.writes.over().await?;
        // One after the other, as it may.
        let task = self.tasks.as_mut().unwrap().remove(0);
        self.log.add(format!("task {}", told(&[task])));
        Ok(false)
    }
    fn set_read_timeout(&mut self, _: Option<Duration>) {}
    fn get_read_timeout(&self) -> Option<Duration> {
        None
    }
    fn set_write_timeout(&mut self, _: Option<Duration>) {}
    fn get_write_timeout(&self) -> Option<Duration> {
        None
    }
    fn set_total_drain_timeout(&mut self, _: Option<Duration>) {}
    fn get_total_drain_timeout(&self) -> Option<Duration> {
        None
    }
    fn request_summary(&self) -> String {
        "fake".into()
    }
    fn response_written(&self) -> Option<&ResponseHeader> {
        None
    }
    async fn shutdown(&mut self, code: u32, ctx: &str) {
        self.log.add(format!("shutdown {code} {ctx}"));
    }
    fn is_body_done(&mut self) -> bool {
        false
    }
    async fn finish(&mut self) -> Result<()> {
        self.log.add("finish");
        Ok(())
    }
    fn is_body_empty(&mut self) -> bool {
        false
    }
    async fn read_body_or_idle(&mut self, idle: bool) -> Result<Option<Bytes>> {
        if idle {
            self.reads.over().await?;
            return Error::e_explain(ErrorType::ConnectionClosed, "the client has left");
        }
        self.next().await
    }
    fn body_bytes_sent(&self) -> usize {
        0
    }
    fn body_bytes_read(&self) -> usize {
        0
    }
    fn digest(&self) -> Option<&Digest> {
        None
    }
    fn digest_mut(&mut self) -> Option<&mut Digest> {
        None
    }
    fn client_addr(&self) -> Option<&SocketAddr> {
        None
    }
    fn server_addr(&self) -> Option<&SocketAddr> {
        None
    }
    fn pseudo_raw_h1_request_header(&self) -> Bytes {
        Bytes::new()
    }
    fn enable_retry_buffering(&mut self) {}
    fn retry_buffer_truncated(&self) -> bool {
        false
    }
    fn get_retry_buffer(&self) -> Option<Bytes> {
        None
    }
    async fn finish_custom(&mut self) -> Result<()> {
        self.writes.over().await
    }
    fn take_custom_message_reader(&mut self) -> Option<Reader> {
        None
    }
    fn restore_custom_message_reader(&mut self, _: Reader) -> Result<()> {
        Ok(())
    }
    fn take_custom_message_writer(&mut self) -> Option<Box<dyn CustomMessageWrite>> {
        None
    }
    fn restore_custom_message_writer(&mut self, _: Box<dyn CustomMessageWrite>) -> Result<()> {
        Ok(())
    }
}

fn head(code: u16) -> HttpTask {
    HttpTask::Header(Box::new(ResponseHeader::build(code, None).unwrap()), false)
}

fn piece(text: &'static str, end: bool) -> HttpTask {
    HttpTask::Body(Some(bytes(text)), end)
}

/// Polls, as a loop does that is woken for other reasons.
fn body(s: &mut ServerSession) -> impl std::future::Future<Output = Result<Option<Bytes>>> + '_ {
    poll_fn(|cx| Downstream::poll_body(s, cx))
}

fn flush(s: &mut ServerSession) -> impl std::future::Future<Output = Result<()>> + '_ {
    poll_fn(|cx| Downstream::poll_flush(s, cx))
}

#[tokio::test]
async fn a_read_that_waits_for_a_notify_is_woken() {
    let (notify, mut s) = (Arc::new(Notify::new()), fake(&Log::default()));
    s.reads = Wait::Notify(notify.clone());
    s.body = Arc::new(Mutex::new(["a"].into()));
    let mut s = s.session();
    let mut read = spawn(body(&mut s));
    assert!(read.poll().is_pending() && read.poll().is_pending());
    notify.notify_waiters();
    assert!(read.is_woken());
    assert!(matches!(read.poll(), Poll::Ready(Ok(Some(data))) if data == "a"));
}

#[tokio::test]
async fn a_read_that_waits_for_a_mutex_is_woken_in_its_turn() {
    let (mutex, mut s) = (Arc::default(), fake(&Log::default()));
    s.reads = Wait::Mutex(Arc::clone(&mutex));
    s.body = Arc::new(Mutex::new(["a"].into()));
    let mut s = s.session();
    let held = mutex.lock().await;
    let mut read = spawn(body(&mut s));
    assert!(read.poll().is_pending());
    // Another one queues behind it, and does not get in before it however often it is polled.
    let mut other = spawn(mutex.lock());
    assert!(other.poll().is_pending() && read.poll().is_pending());
    drop(held);
    assert!(read.is_woken() && !other.is_woken());
    assert!(matches!(read.poll(), Poll::Ready(Ok(Some(_)))));
}

#[tokio::test(start_paused = true)]
async fn a_time_limit_is_not_begun_anew_by_each_poll() {
    let mut s = fake(&Log::default());
    s.reads = Wait::Time(Duration::from_secs(10));
    let mut s = s.session();
    let mut read = spawn(body(&mut s));
    for _ in 0..9 {
        assert!(read.poll().is_pending());
        tokio::time::advance(Duration::from_secs(1)).await;
    }
    assert!(read.poll().is_pending());
    tokio::time::advance(Duration::from_secs(1)).await;
    assert!(read.is_woken());
    assert!(matches!(read.poll(), Poll::Ready(Err(e)) if *e.etype() == ErrorType::ReadTimedout));
}

#[tokio::test]
async fn a_client_that_leaves_is_noticed() {
    let (notify, mut s) = (Arc::new(Notify::new()), fake(&Log::default()));
    s.reads = Wait::Notify(notify.clone());
    let mut s = s.session();
    let mut gone = spawn(poll_fn(|cx| Downstream::poll_gone(&mut s, cx)));
    assert!(gone.poll().is_pending() && gone.poll().is_pending());
    notify.notify_waiters();
    assert!(gone.is_woken());
    assert!(matches!(gone.poll(), Poll::Ready(e) if *e.etype() == ErrorType::ConnectionClosed));
}

#[tokio::test]
async fn a_session_with_the_required_methods_only_loses_nothing() {
    let log = Log::default();
    let mut s = fake(&log).session();
    assert!(!s.queue(head(103)).unwrap());
    assert!(!s.queue(head(200)).unwrap());
    assert!(!s.queue(piece("hello", false)).unwrap());
    assert!(s.queue(HttpTask::Trailer(None)).unwrap());
    assert!(!Downstream::is_flushed(&s) && Downstream::queued(&s) == 5);
    assert!(Downstream::has_whole_response(&s));
    flush(&mut s).await.unwrap();
    assert!(Downstream::is_flushed(&s) && Downstream::queued(&s) == 0);
    s.finish().await.unwrap();
    let all = "103 false, 200 false, b\"hello\" false, Trailer";
    assert_eq!(log.take(), ["begin", all, "finish"]);
}

#[tokio::test]
async fn a_session_with_proxy_tasks_is_given_them() {
    let log = Log::default();
    let mut s = fake(&log);
    s.tasks = Some(Vec::new());
    let mut s = s.session();
    s.queue(head(200)).unwrap();
    s.queue(piece("all", true)).unwrap();
    flush(&mut s).await.unwrap();
    assert_eq!(log.take(), ["task 200 false", "task b\"all\" true"]);
}

#[tokio::test]
async fn a_read_that_a_write_interrupts_loses_nothing() {
    let (log, turns) = (Log::default(), Arc::new(Semaphore::new(0)));
    let mut s = fake(&log);
    s.reads = Wait::Turn(turns.clone());
    let waiting = s.body.clone();
    let mut s = s.session();
    assert!(spawn(body(&mut s)).poll().is_pending());
    s.queue(head(200)).unwrap();
    waiting.lock().unwrap().push_back("a");
    turns.add_permits(1);
    flush(&mut s).await.unwrap();
    assert_eq!(body(&mut s).await.unwrap().unwrap(), "a");
    assert_eq!(log.take(), ["begin", "200 false"]);
    // A flush of nothing interrupts none: the read is the one that was woken.
    let mut read = spawn(body(&mut s));
    assert!(read.poll().is_pending());
    drop(read);
    flush(&mut s).await.unwrap();
    waiting.lock().unwrap().push_back("b");
    turns.add_permits(1);
    assert_eq!(body(&mut s).await.unwrap().unwrap(), "b");
}

#[tokio::test]
async fn a_write_is_never_given_up_halfway() {
    let (log, notify) = (Log::default(), Arc::new(Notify::new()));
    let mut s = fake(&log);
    s.writes = Wait::Notify(notify.clone());
    s.body = Arc::new(Mutex::new(["a"].into()));
    let mut s = s.session();
    s.queue(head(200)).unwrap();
    assert!(spawn(flush(&mut s)).poll().is_pending());
    assert!(s.lends() && !Downstream::is_flushed(&s));
    // Whatever else is asked for meanwhile.
    assert!(spawn(body(&mut s)).poll().is_pending());
    let mut gone = spawn(poll_fn(|cx| Downstream::poll_gone(&mut s, cx)));
    assert!(gone.poll().is_pending());
    drop(gone);
    Downstream::take_back(&mut s);
    s.queue(piece("x", true)).unwrap();
    assert_eq!(log.take(), ["begin"]);
    let mut flushed = spawn(flush(&mut s));
    assert!(flushed.poll().is_pending());
    notify.notify_waiters();
    assert!(flushed.is_woken() && flushed.poll().is_pending());
    notify.notify_waiters();
    assert!(matches!(flushed.poll(), Poll::Ready(Ok(()))));
    drop(flushed);
    assert!(Downstream::is_flushed(&s));
    assert_eq!(log.take(), ["200 false", "begin", "b\"x\" true"]);
    assert_eq!(body(&mut s).await.unwrap().unwrap(), "a");
}

#[tokio::test]
async fn what_the_application_writes_itself_comes_after_what_is_queued() {
    let log = Log::default();
    let mut s = fake(&log).session();
    s.queue(head(103)).unwrap();
    let answer = ResponseHeader::build(200, None).unwrap();
    s.write_response_header(Box::new(answer)).await.unwrap();
    assert_eq!(log.take(), ["begin", "103 false", "header 200"]);
}

#[tokio::test(start_paused = true)]
async fn a_write_has_a_while_when_its_exchange_has_failed() {
    let log = Log::default();
    let mut s = fake(&log);
    s.writes = Wait::Forever;
    let mut s = s.session();
    s.queue(head(200)).unwrap();
    assert!(spawn(flush(&mut s)).poll().is_pending());
    assert_eq!(s.req_header().raw_path(), b"/");
    let begun = tokio::time::Instant::now();
    if let ServerSession::Custom(s) = &mut s {
        settle(s).await;
    }
    assert_eq!(begun.elapsed(), Duration::from_secs(5));
    assert_eq!(s.req_header().raw_path(), b"/fake");
    s.shutdown().await;
    assert_eq!(log.take(), ["begin", "shutdown 1 shutdown"]);
}

#[tokio::test]
async fn the_session_is_at_hand_unless_it_is_lent() {
    let mut s = fake(&Log::default());
    s.reads = Wait::Forever;
    let mut s = s.session();
    assert_eq!(s.req_header().raw_path(), b"/fake");
    assert!(spawn(body(&mut s)).poll().is_pending());
    Downstream::take_back(&mut s);
    assert_eq!(s.req_header().raw_path(), b"/fake");
    assert_eq!(s.request_summary(), "fake");
    // What changes it takes it back by itself.
    assert!(spawn(body(&mut s)).poll().is_pending());
    assert_eq!(s.req_header_mut().raw_path(), b"/fake");
}

/// Settles a session whose exchange has failed.
async fn settled(s: &mut ServerSession) {
    if let ServerSession::Custom(s) = s {
        settle(s).await;
    }
}

#[tokio::test(start_paused = true)]
async fn the_end_of_the_messages_has_a_while_too() {
    for (wait, kind) in [
        (Wait::Nothing, None),
        (Wait::Forever, Some(ErrorType::WriteTimedout)),
    ] {
        let log = Log::default();
        let mut s = fake(&log);
        s.writes = wait;
        let mut s = s.session();
        let begun = tokio::time::Instant::now();
        let done = match &mut s {
            ServerSession::Custom(s) => finish_messages(s).await,
            _ => unreachable!("it is custom"),
        };
        assert_eq!(done.err().map(|e| e.etype().clone()), kind);
        assert!(begun.elapsed() <= Duration::from_secs(1));
        // Nothing follows an end that was cut.
        assert_eq!(s.queue(head(200)).is_err(), kind.is_some());
    }
}

#[tokio::test(start_paused = true)]
async fn nothing_follows_what_was_cut() {
    let log = Log::default();
    let mut s = fake(&log);
    s.writes = Wait::Forever;
    let mut s = s.session();
    s.queue(head(200)).unwrap();
    assert!(spawn(flush(&mut s)).poll().is_pending());
    settled(&mut s).await;
    let error = Box::new(ResponseHeader::build(502, None).unwrap());
    let e = s.write_response_header(error).await.unwrap_err();
    assert_eq!(*e.etype(), ErrorType::WriteError);
    assert!(s.queue(head(502)).is_err());
    assert!(s.finish_body().await.is_err());
    s.close().await;
    assert_eq!(log.take(), ["begin", "shutdown 1 shutdown"]);
}

#[tokio::test]
async fn a_response_whose_end_was_dropped_is_not_finished() {
    let (log, turns) = (Log::default(), Arc::new(Semaphore::new(0)));
    let mut s = fake(&log);
    s.writes = Wait::Turn(turns.clone());
    let mut s = s.session();
    s.queue(head(200)).unwrap();
    assert!(spawn(flush(&mut s)).poll().is_pending());
    s.queue(piece("x", true)).unwrap();
    assert!(Downstream::has_whole_response(&s));
    turns.add_permits(1);
    settled(&mut s).await;
    assert!(!Downstream::has_whole_response(&s));
    s.close().await;
    assert_eq!(log.take(), ["begin", "200 false", "shutdown 1 shutdown"]);
}

#[tokio::test(start_paused = true)]
async fn a_response_whose_last_write_failed_is_not_finished() {
    let log = Log::default();
    let mut s = fake(&log);
    s.writes = Wait::Time(Duration::from_secs(1));
    let mut s = s.session();
    s.queue(head(200)).unwrap();
    s.queue(piece("x", true)).unwrap();
    flush(&mut s).await.unwrap_err();
    s.close().await;
    assert_eq!(log.take(), ["begin", "shutdown 1 shutdown"]);
}

#[tokio::test]
async fn a_read_waits_for_the_write_that_is_under_way() {
    let (log, turns) = (Log::default(), Arc::new(Semaphore::new(0)));
    let mut s = fake(&log);
    s.writes = Wait::Turn(turns.clone());
    s.body = Arc::new(Mutex::new(["a"].into()));
    let mut s = s.session();
    s.queue(head(200)).unwrap();
    assert!(spawn(flush(&mut s)).poll().is_pending());
    let mut read = spawn(body(&mut s));
    assert!(read.poll().is_pending());
    turns.add_permits(1);
    assert!(read.is_woken());
    assert!(matches!(read.poll(), Poll::Ready(Ok(Some(data))) if data == "a"));
    drop(read);
    assert_eq!(log.take(), ["begin", "200 false"]);
}

#[tokio::test]
async fn a_head_that_leaves_http_is_known_as_such_at_once() {
    for (method, status) in [("GET", 101), ("CONNECT", 200)] {
        let log = Log::default();
        let mut s = fake(&log);
        s.request = RequestHeader::build(method, b"/", None).unwrap();
        s.body = Arc::new(Mutex::new(["raw"].into()));
        let mut s = s.session();
        s.queue(head(103)).unwrap();
        assert!(!s.was_upgraded());
        s.queue(head(status)).unwrap();
        assert!(s.was_upgraded() && !s.is_body_done());
        // What comes then comes after it.
        assert_eq!(body(&mut s).await.unwrap().unwrap(), "raw");
        let all = format!("103 false, {status} false");
        assert_eq!(log.take(), ["begin", &all]);
    }
    let mut s = fake(&Log::default()).session();
    s.queue(head(200)).unwrap();
    assert!(!s.was_upgraded());
}

#[tokio::test]
async fn filters_are_shown_a_copy_where_they_look_at_a_session_that_is_lent() {
    let (log, turns) = (Log::default(), Arc::new(Semaphore::new(0)));
    let mut s = fake(&log);
    s.writes = Wait::Turn(turns.clone());
    let mut s = s.session();
    Downstream::show_while_lent(&mut s);
    s.queue(head(200)).unwrap();
    assert!(spawn(flush(&mut s)).poll().is_pending());
    assert_eq!(s.req_header().raw_path(), b"/fake");
    assert_eq!(s.request_summary(), "fake");
    s.req_header_mut().set_raw_path(b"/changed").unwrap();
    assert_eq!(s.req_header().raw_path(), b"/changed");
    turns.add_permits(1);
    flush(&mut s).await.unwrap();
    assert_eq!(s.req_header().raw_path(), b"/changed");
    // Not that of the write before.
    s.queue(piece("x", true)).unwrap();
    assert!(spawn(flush(&mut s)).poll().is_pending());
    assert_eq!(s.req_header().raw_path(), b"/changed");
    Downstream::give_up(&mut s);
    assert!(Downstream::is_flushed(&s) && !Downstream::has_whole_response(&s));
    assert_eq!(s.req_header().raw_path(), b"/changed");
    s.close().await;
    let all = ["begin", "200 false", "begin", "shutdown 1 shutdown"];
    assert_eq!(log.take(), all);
}
