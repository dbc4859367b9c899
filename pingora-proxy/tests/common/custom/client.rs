//! The proxy's session to an origin, and its connector.

use super::*;
use async_trait::async_trait;
use http::HeaderMap;
use pingora_core::connectors::http::custom::{Connection, Connector};
use pingora_core::protocols::http::custom::client::Session;
use pingora_core::protocols::http::custom::BodyWrite;
use pingora_core::protocols::l4::socket::SocketAddr;
use pingora_core::protocols::{Digest, UniqueIDType};
use pingora_core::upstreams::peer::Peer;
use pingora_http::{RequestHeader, ResponseHeader};
use std::collections::HashMap;
use std::sync::Mutex as Lock;
use tokio::net::UnixStream;

/// Makes connections, and keeps those that can carry another exchange.
#[derive(Clone, Default)]
pub struct Frames(Arc<Lock<HashMap<u64, Vec<Kept>>>>);

/// A connection to an origin, and the exchange on it.
pub struct Kept {
    frames: mpsc::Receiver<Frame>,
    inbox: Inbox,
    sink: Sink,
    response: Option<ResponseHeader>,
    trailers: Option<HeaderMap>,
    finished: bool,
    digest: Digest,
}

impl Frames {
    fn take(&self, peer: &impl Peer) -> Option<Kept> {
        let mut kept = self.0.lock().unwrap();
        let mut session = kept.get_mut(&peer.reuse_hash())?.pop()?;
        (session.response, session.trailers) = (None, None);
        session.finished = false;
        Some(session)
    }

    /// How many connections are idle.
    pub fn idle(&self) -> usize {
        self.0.lock().unwrap().values().map(Vec::len).sum()
    }
}

#[async_trait]
impl Connector for Frames {
    type Session = Kept;

    async fn get_http_session<P: Peer + Send + Sync + 'static>(
        &self,
        peer: &P,
    ) -> Result<(Connection<Kept>, bool)> {
        if let Some(kept) = self.take(peer) {
            return Ok((Connection::Session(kept), true));
        }
        let path = match peer.address() {
            SocketAddr::Unix(address) => address.as_pathname().unwrap().to_owned(),
            other => panic!("not a Unix socket: {other:?}"),
        };
        let stream = UnixStream::connect(path)
            .await
            .map_err(|e| Error::because(ErrorType::ConnectError, "a custom origin", e))?;
        let (from, to) = stream.into_split();
        let inbox = Inbox::default();
        let session = Kept {
            frames: sort(from, inbox.clone()),
            inbox,
            sink: Sink::new(to),
            response: None,
            trailers: None,
            finished: false,
            digest: Digest::default(),
        };
        Ok((Connection::Session(session), false))
    }

    async fn reused_http_session<P: Peer + Send + Sync + 'static>(&self, peer: &P) -> Option<Kept> {
        self.take(peer)
    }

    async fn release_http_session<P: Peer + Send + Sync + 'static>(
        &self,
        session: Kept,
        peer: &P,
        _: Option<Duration>,
    ) {
        assert!(session.finished);
        let mut kept = self.0.lock().unwrap();
        kept.entry(peer.reuse_hash()).or_default().push(session);
    }
}

struct BodySink(Sink);

#[async_trait]
impl BodyWrite for BodySink {
    async fn write_all_buf(&mut self, data: &mut Bytes) -> Result<()> {
        self.0.send(b'D', data).await?;
        data.clear();
        Ok(())
    }
    async fn finish(&mut self) -> Result<()> {
        self.0.send(b'E', b"").await
    }
    async fn cleanup(&mut self) -> Result<()> {
        self.0.send(b'R', b"").await
    }
    fn upgrade_body_writer(&mut self) {}
}

#[async_trait]
impl Session for Kept {
    async fn write_request_header(&mut self, req: Box<RequestHeader>, end: bool) -> Result<()> {
        let head = format!("{} {}\n{}", req.method, req.uri, fields(&req.headers));
        self.sink.send(b'H', head.as_bytes()).await?;
        if end {
            self.sink.send(b'E', b"").await?;
        }
        Ok(())
    }
    async fn write_request_body(&mut self, data: Bytes, end: bool) -> Result<()> {
        self.sink.send(b'D', &data).await?;
        if end {
            self.sink.send(b'E', b"").await?;
        }
        Ok(())
    }
    async fn finish_request_body(&mut self) -> Result<()> {
        self.sink.send(b'E', b"").await
    }
    fn set_read_timeout(&mut self, _: Option<Duration>) {}
    fn set_write_timeout(&mut self, _: Option<Duration>) {}
    async fn read_response_header(&mut self) -> Result<()> {
        let Some((b'H', head)) = self.frames.recv().await else {
            return Err(gone());
        };
        let head = std::str::from_utf8(&head).unwrap();
        let mut lines = head.lines();
        let status: u16 = lines.next().unwrap().parse().unwrap();
        let mut response = ResponseHeader::build(status, None).unwrap();
        for (name, value) in parse_fields(lines) {
            response.append_header(name.unwrap(), value).unwrap();
        }
        self.response = Some(response);
        Ok(())
    }
    async fn read_response_body(&mut self) -> Result<Option<Bytes>> {
        if self.finished {
            return Ok(None);
        }
        match self.frames.recv().await {
            Some((b'D', data)) => return Ok(Some(data)),
            Some((b'E', _)) => {}
            Some((b'T', lines)) => {
                let lines = std::str::from_utf8(&lines).unwrap();
                self.trailers = Some(parse_fields(lines.lines()));
            }
            _ => return Err(gone()),
        }
        self.finished = true;
        Ok(None)
    }
    fn response_finished(&self) -> bool {
        self.finished
    }
    async fn shutdown(&mut self, _: u32, _: &str) {
        self.sink.close().await;
        self.frames.close();
    }
    fn response_header(&self) -> Option<&ResponseHeader> {
        self.response.as_ref()
    }
    fn was_upgraded(&self) -> bool {
        self.response
            .as_ref()
            .is_some_and(|head| head.status == 101)
    }
    fn digest(&self) -> Option<&Digest> {
        Some(&self.digest)
    }
    fn digest_mut(&mut self) -> Option<&mut Digest> {
        Some(&mut self.digest)
    }
    fn server_addr(&self) -> Option<&SocketAddr> {
        None
    }
    fn client_addr(&self) -> Option<&SocketAddr> {
        None
    }
    async fn read_trailers(&mut self) -> Result<Option<HeaderMap>> {
        Ok(self.trailers.take())
    }
    fn fd(&self) -> UniqueIDType {
        1
    }
    async fn check_response_end_or_error(&mut self, _: bool) -> Result<bool> {
        Ok(self.finished)
    }
    fn take_request_body_writer(&mut self) -> Option<Box<dyn BodyWrite>> {
        Some(Box::new(BodySink(self.sink.clone())))
    }
    async fn finish_custom(&mut self) -> Result<()> {
        Ok(())
    }
    fn take_custom_message_reader(&mut self) -> Option<Reader> {
        Some(self.inbox.reader())
    }
    async fn drain_custom_messages(&mut self) -> Result<()> {
        Ok(())
    }
    fn take_custom_message_writer(&mut self) -> Option<Box<dyn CustomMessageWrite>> {
        Some(Box::new(MessageSink(self.sink.clone())))
    }
}
