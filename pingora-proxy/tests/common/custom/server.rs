//! The proxy's session to a client.

use super::*;
use async_trait::async_trait;
use bytes::BytesMut;
use futures::future::BoxFuture;
use http::HeaderMap;
use pingora_core::apps::HttpServerApp;
use pingora_core::protocols::http::custom::server::Session;
use pingora_core::protocols::http::{HttpTask, ServerSession};
use pingora_core::protocols::l4::socket::SocketAddr;
use pingora_core::protocols::{Digest, Stream as Transport};
use pingora_core::server::ShutdownWatch;
use pingora_http::{RequestHeader, ResponseHeader};
use pingora_proxy::{HttpProxy, ProcessCustomSession, ProxyHttp};

const RETRY_BUFFER: usize = 64 * 1024;

/// An exchange with a client.
pub struct Served {
    request: RequestHeader,
    frames: mpsc::Receiver<Frame>,
    sink: Sink,
    reader: Option<Reader>,
    writer: Option<Box<dyn CustomMessageWrite>>,
    written: Option<ResponseHeader>,
    body_done: bool,
    /// The end of the request is still to come, before what follows an upgrade.
    end_due: bool,
    response_done: bool,
    read: usize,
    sent: usize,
    kept: Option<BytesMut>,
    /// Those that wait, where the proxy's are taken.
    tasks: Option<Vec<HttpTask>>,
}

/// Serves one request of each connection. With `tasks` the sessions have the methods that are provided, too.
pub fn serve<SV>(tasks: bool) -> ProcessCustomSession<SV, Frames>
where
    SV: ProxyHttp + Send + Sync + 'static,
    SV::CTX: Send + Sync,
{
    Arc::new(
        move |proxy, stream, shutdown| -> BoxFuture<'static, Option<Transport>> {
            let shutdown = shutdown.clone();
            Box::pin(serve_one(proxy, stream, shutdown, tasks))
        },
    )
}

async fn serve_one<SV>(
    proxy: Arc<HttpProxy<SV, Frames>>,
    stream: Transport,
    shutdown: ShutdownWatch,
    tasks: bool,
) -> Option<Transport>
where
    SV: ProxyHttp + Send + Sync + 'static,
    SV::CTX: Send + Sync,
{
    let (from, to) = tokio::io::split(stream);
    let inbox = Inbox::default();
    let reader = inbox.reader();
    let mut frames = sort(from, inbox);
    let (kind, head) = frames.recv().await?;
    assert_eq!(kind, b'H');
    let head = std::str::from_utf8(&head).unwrap();
    let mut lines = head.lines();
    let (method, target) = lines.next()?.split_once(' ')?;
    let mut request = RequestHeader::build(method, target.as_bytes(), None).unwrap();
    for (name, value) in parse_fields(lines) {
        request.append_header(name.unwrap(), value).unwrap();
    }
    let sink = Sink::new(to);
    let session = Served {
        request,
        frames,
        sink: sink.clone(),
        reader: Some(reader),
        writer: Some(Box::new(MessageSink(sink.clone()))),
        written: None,
        body_done: false,
        end_due: false,
        response_done: false,
        read: 0,
        sent: 0,
        kept: None,
        tasks: tasks.then(Vec::new),
    };
    let session = ServerSession::new_custom(Box::new(session));
    let again = proxy.process_new_http(session, &shutdown).await;
    assert!(again.is_none(), "a custom session is not used again");
    sink.close().await;
    None
}

impl Served {
    async fn write(&mut self, task: HttpTask) -> Result<()> {
        let end = task.is_end();
        match task {
            HttpTask::Header(header, _) => {
                let status = header.status.as_u16();
                let head = format!("{status}\n{}", fields(&header.headers));
                self.sink.send(b'H', head.as_bytes()).await?;
                if status == 101 {
                    // What follows is no longer the body of the request, but for the end of one that nobody read.
                    self.end_due = !self.body_done;
                    self.body_done = false;
                }
                self.written = Some(*header);
            }
            HttpTask::Body(Some(data), _) | HttpTask::UpgradedBody(Some(data), _) => {
                self.sent += data.len();
                self.sink.send(b'D', &data).await?;
            }
            HttpTask::Trailer(Some(trailers)) => {
                self.response_done = true;
                return self.sink.send(b'T', fields(&trailers).as_bytes()).await;
            }
            _ => {}
        }
        if end && !self.response_done {
            self.response_done = true;
            self.sink.send(b'E', b"").await?;
        }
        Ok(())
    }

    async fn next(&mut self) -> Result<Option<Bytes>> {
        if self.body_done {
            return Ok(None);
        }
        let mut frame = self.frames.recv().await;
        if self.end_due && matches!(frame, Some((b'E', _))) {
            self.end_due = false;
            frame = self.frames.recv().await;
        }
        match frame {
            Some((b'D', data)) => {
                self.read += data.len();
                if let Some(kept) = &mut self.kept {
                    kept.extend_from_slice(&data);
                }
                Ok(Some(data))
            }
            Some((b'E', _)) => {
                self.body_done = true;
                Ok(None)
            }
            _ => Err(gone()),
        }
    }
}

#[async_trait]
impl Session for Served {
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
        while self.next().await?.is_some() {}
        Ok(())
    }
    async fn write_response_header(&mut self, resp: Box<ResponseHeader>, end: bool) -> Result<()> {
        self.write(HttpTask::Header(resp, end)).await
    }
    async fn write_response_header_ref(&mut self, resp: &ResponseHeader, end: bool) -> Result<()> {
        self.write(HttpTask::Header(Box::new(resp.clone()), end))
            .await
    }
    async fn write_body(&mut self, data: Bytes, end: bool) -> Result<()> {
        self.write(HttpTask::Body(Some(data), end)).await
    }
    async fn write_trailers(&mut self, trailers: HeaderMap) -> Result<()> {
        self.write(HttpTask::Trailer(Some(Box::new(trailers))))
            .await
    }
    async fn response_duplex_vec(&mut self, tasks: Vec<HttpTask>) -> Result<bool> {
        for task in tasks {
            self.write(task).await?;
        }
        Ok(self.response_done)
    }
    fn proxy_tasks_enabled(&self) -> bool {
        self.tasks.is_some()
    }
    fn send_proxy_task(&mut self, task: HttpTask) {
        if let Some(tasks) = &mut self.tasks {
            tasks.push(task);
        }
    }
    fn has_pending_proxy_tasks(&self) -> bool {
        self.tasks.as_ref().is_some_and(|tasks| !tasks.is_empty())
    }
    async fn write_proxy_tasks(&mut self) -> Result<bool> {
        let tasks = self.tasks.as_mut().map(std::mem::take);
        self.response_duplex_vec(tasks.unwrap_or_default()).await
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
        format!("{} {}, custom", self.request.method, self.request.uri)
    }
    fn response_written(&self) -> Option<&ResponseHeader> {
        self.written.as_ref()
    }
    async fn shutdown(&mut self, _: u32, _: &str) {
        if !self.response_done {
            let _ = self.sink.send(b'R', b"").await;
        }
        self.sink.close().await;
    }
    fn is_body_done(&mut self) -> bool {
        self.body_done
    }
    async fn finish(&mut self) -> Result<()> {
        self.write(HttpTask::Done).await
    }
    fn is_body_empty(&mut self) -> bool {
        self.request.method == "GET" || self.request.method == "HEAD"
    }
    async fn read_body_or_idle(&mut self, idle: bool) -> Result<Option<Bytes>> {
        if !idle && !self.body_done {
            return self.next().await;
        }
        while let Some((b'E', _)) = self.frames.recv().await {
            self.body_done = true;
        }
        Err(gone())
    }
    fn body_bytes_sent(&self) -> usize {
        self.sent
    }
    fn body_bytes_read(&self) -> usize {
        self.read
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
    fn enable_retry_buffering(&mut self) {
        self.kept.get_or_insert_default();
    }
    fn retry_buffer_truncated(&self) -> bool {
        self.kept.is_some() && self.read > RETRY_BUFFER
    }
    fn get_retry_buffer(&self) -> Option<Bytes> {
        let kept = self.kept.as_ref()?;
        (!self.retry_buffer_truncated()).then(|| kept.clone().freeze())
    }
    fn is_upgrade_req(&self) -> bool {
        self.request.headers.contains_key("upgrade")
    }
    fn was_upgraded(&self) -> bool {
        self.written.as_ref().is_some_and(|head| head.status == 101)
    }
    async fn finish_custom(&mut self) -> Result<()> {
        Ok(())
    }
    fn take_custom_message_reader(&mut self) -> Option<Reader> {
        self.reader.take()
    }
    fn restore_custom_message_reader(&mut self, reader: Reader) -> Result<()> {
        assert!(self.reader.replace(reader).is_none());
        Ok(())
    }
    fn take_custom_message_writer(&mut self) -> Option<Box<dyn CustomMessageWrite>> {
        self.writer.take()
    }
    fn restore_custom_message_writer(&mut self, writer: Box<dyn CustomMessageWrite>) -> Result<()> {
        assert!(self.writer.replace(writer).is_none());
        Ok(())
    }
}
