//! Speaks HTTP to clients, and a framing of its own to the upstream.
//!
//! Each message is a head, pieces of a body, and an end, and each of these is a frame: a letter, a length of 4 bytes and as
//! many bytes.
//!
//! | letter | what |
//! |---|---|
//! | `H` | a head: `METHOD TARGET` or a status, then `name: value`, a line each |
//! | `D` | a piece of the body |
//! | `E` | the end |
//!
//! Worth knowing:
//!
//! - The proxy asks the connector for a session when the peer's ALPN is `Custom`. All phases, filters and modules work as with
//!   HTTP. The head that is written is the one that HTTP/1.1 would get, without its framing.
//! - A session that gives no writer away (`take_request_body_writer`) is sent the whole request before its response is read.
//!   One whose upstream may answer earlier gives one away.
//! - A session is released when its exchange is complete, and shut down when it is not. The connector decides whether the
//!   connection is kept.

use async_trait::async_trait;
use bytes::Bytes;
use clap::Parser;
use edge::program::{self, Program};
use http::HeaderMap;
use pingora_core::connectors::http::custom::{Connection, Connector};
use pingora_core::connectors::TransportConnector;
use pingora_core::protocols::http::custom::client::Session as ClientSession;
use pingora_core::protocols::http::custom::{BodyWrite, CustomMessageWrite};
use pingora_core::protocols::l4::socket::SocketAddr;
use pingora_core::protocols::tls::CustomALPN;
use pingora_core::protocols::{Digest, Stream, UniqueIDType};
use pingora_core::upstreams::peer::{HttpPeer, Peer, ALPN};
use pingora_core::{Error, ErrorType, OrErr, Result};
use pingora_http::{RequestHeader, ResponseHeader};
use pingora_proxy::{http_proxy_service_with_name_custom, ProxyHttp, Session};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

/// A proxy to a server that speaks frames.
#[derive(Parser)]
struct Args {
    /// Where to listen: IP:PORT or unix:/PATH
    #[arg(short, long, value_name = "ADDR", default_value = "127.0.0.1:8080")]
    listen: String,

    /// The server to pass requests to
    #[arg(long, value_name = "ADDR")]
    upstream: String,
}

struct App {
    upstream: HttpPeer,
}

#[async_trait]
impl ProxyHttp for App {
    type CTX = ();

    fn new_ctx(&self) {}

    async fn upstream_peer(&self, _: &mut Session, _: &mut ()) -> Result<Box<HttpPeer>> {
        Ok(Box::new(self.upstream.clone()))
    }
}

/// Makes sessions over connections that the framework makes and keeps.
struct FrameConnector(TransportConnector);

#[async_trait]
impl Connector for FrameConnector {
    type Session = FrameSession;

    async fn get_http_session<P: Peer + Send + Sync + 'static>(
        &self,
        peer: &P,
    ) -> Result<(Connection<FrameSession>, bool)> {
        let (stream, reused) = self.0.get_stream(peer).await?;
        Ok((Connection::Session(FrameSession::new(stream)), reused))
    }

    async fn reused_http_session<P: Peer + Send + Sync + 'static>(
        &self,
        peer: &P,
    ) -> Option<FrameSession> {
        self.0.reused_stream(peer).await.map(FrameSession::new)
    }

    async fn release_http_session<P: Peer + Send + Sync + 'static>(
        &self,
        session: FrameSession,
        peer: &P,
        idle_timeout: Option<Duration>,
    ) {
        if session.finished {
            self.0
                .release_stream(session.stream, peer.reuse_hash(), idle_timeout);
        }
    }
}

/// One exchange.
struct FrameSession {
    stream: Stream,
    response: Option<Box<ResponseHeader>>,
    finished: bool,
}

/// More than any piece that the server sends.
const MAX_FRAME: usize = 1 << 20;

impl FrameSession {
    fn new(stream: Stream) -> Self {
        FrameSession {
            stream,
            response: None,
            finished: false,
        }
    }

    async fn write(&mut self, letter: u8, payload: &[u8]) -> Result<()> {
        let length = u32::try_from(payload.len()).or_err(ErrorType::WriteError, "a long frame")?;
        let mut frame = vec![letter];
        frame.extend(length.to_be_bytes());
        frame.extend(payload);
        let written = self.stream.write_all(&frame).await;
        written.or_err(ErrorType::WriteError, "while a frame was written")?;
        let flushed = self.stream.flush().await;
        flushed.or_err(ErrorType::WriteError, "while a frame was written")
    }

    async fn read(&mut self) -> Result<(u8, Vec<u8>)> {
        let mut head = [0; 5];
        let read = self.stream.read_exact(&mut head).await;
        read.or_err(ErrorType::ReadError, "while a frame was read")?;
        let [letter, length @ ..] = head;
        let length = u32::from_be_bytes(length) as usize;
        if length > MAX_FRAME {
            return Error::e_explain(ErrorType::ReadError, "a frame that is too long");
        }
        let mut payload = vec![0; length];
        let read = self.stream.read_exact(&mut payload).await;
        read.or_err(ErrorType::ReadError, "while a frame was read")?;
        Ok((letter, payload))
    }
}

fn unexpected(letter: u8) -> Box<Error> {
    let why = format!("a frame {:?} out of its place", char::from(letter));
    Error::explain(ErrorType::InvalidHTTPHeader, why)
}

/// A status, and a line for each field.
fn parse_head(head: &[u8]) -> Result<ResponseHeader> {
    let head = std::str::from_utf8(head).or_err(ErrorType::InvalidHTTPHeader, "a head")?;
    let mut lines = head.lines();
    let status = lines.next().unwrap_or_default();
    let status: u16 = status
        .parse()
        .or_err(ErrorType::InvalidHTTPHeader, "a status")?;
    let mut response = ResponseHeader::build(status, None)?;
    for (name, value) in lines.filter_map(|line| line.split_once(": ")) {
        response.append_header(name.to_owned(), value)?;
    }
    Ok(response)
}

#[async_trait]
impl ClientSession for FrameSession {
    async fn write_request_header(&mut self, req: Box<RequestHeader>, end: bool) -> Result<()> {
        let mut head = format!("{} {}\n", req.method, req.uri).into_bytes();
        for (name, value) in &req.headers {
            head.extend([name.as_str().as_bytes(), b": ", value.as_bytes(), b"\n"].concat());
        }
        self.write(b'H', &head).await?;
        if end {
            self.finish_request_body().await?;
        }
        Ok(())
    }

    async fn write_request_body(&mut self, data: Bytes, end: bool) -> Result<()> {
        self.write(b'D', &data).await?;
        if end {
            self.finish_request_body().await?;
        }
        Ok(())
    }

    async fn finish_request_body(&mut self) -> Result<()> {
        self.write(b'E', b"").await
    }

    async fn read_response_header(&mut self) -> Result<()> {
        match self.read().await? {
            (b'H', head) => self.response = Some(Box::new(parse_head(&head)?)),
            (letter, _) => return Err(unexpected(letter)),
        }
        Ok(())
    }

    async fn read_response_body(&mut self) -> Result<Option<Bytes>> {
        if self.finished {
            return Ok(None);
        }
        match self.read().await? {
            (b'D', data) => Ok(Some(data.into())),
            (b'E', _) => {
                self.finished = true;
                Ok(None)
            }
            (letter, _) => Err(unexpected(letter)),
        }
    }

    fn response_finished(&self) -> bool {
        self.finished
    }

    fn response_header(&self) -> Option<&ResponseHeader> {
        self.response.as_deref()
    }

    async fn shutdown(&mut self, code: u32, ctx: &str) {
        log::debug!("an exchange is given up with {code}: {ctx}");
        let _ = self.stream.shutdown().await;
    }

    // The proxy limits each read and each write by the peer's options itself.
    fn set_read_timeout(&mut self, _: Option<Duration>) {}
    fn set_write_timeout(&mut self, _: Option<Duration>) {}

    fn fd(&self) -> UniqueIDType {
        self.stream.id()
    }

    fn server_addr(&self) -> Option<&SocketAddr> {
        None
    }

    fn client_addr(&self) -> Option<&SocketAddr> {
        None
    }

    fn digest(&self) -> Option<&Digest> {
        None
    }

    fn digest_mut(&mut self) -> Option<&mut Digest> {
        None
    }

    // What these frames have no place for.
    fn was_upgraded(&self) -> bool {
        false
    }

    async fn read_trailers(&mut self) -> Result<Option<HeaderMap>> {
        Ok(None)
    }

    async fn check_response_end_or_error(&mut self, _headers: bool) -> Result<bool> {
        Ok(self.finished)
    }

    fn take_request_body_writer(&mut self) -> Option<Box<dyn BodyWrite>> {
        None
    }

    async fn finish_custom(&mut self) -> Result<()> {
        Ok(())
    }

    fn take_custom_message_reader(
        &mut self,
    ) -> Option<Box<dyn futures::Stream<Item = Result<Bytes>> + Unpin + Send + Sync>> {
        None
    }

    async fn drain_custom_messages(&mut self) -> Result<()> {
        Ok(())
    }

    fn take_custom_message_writer(&mut self) -> Option<Box<dyn CustomMessageWrite>> {
        None
    }
}

fn run(args: &Args) -> Result<(), String> {
    let mut program = Program::new(&args.listen)?;
    let mut upstream = program.upstream(Some(&args.upstream))?;
    upstream.options.alpn = ALPN::Custom(CustomALPN::new(b"frames".to_vec()));
    let service = http_proxy_service_with_name_custom(
        &program.server.configuration,
        App { upstream },
        "frames",
        FrameConnector(TransportConnector::new(None)),
        // Clients speak HTTP: `HttpServerOptions::force_custom` would have them come here.
        Arc::new(|_, _, _| Box::pin(async { None })),
    );
    program.run(service, &format!("curl http://{}/", args.listen))
}

fn main() -> ExitCode {
    program::exit("custom-protocol", run(&Args::parse()))
}
