//! Echo servers by tungstenite, and clients that write the frames of a WebSocket by hand and have tungstenite read
//! them. hyper makes the handshakes.

use super::cases::Code;
use super::common::h2_origin::H2Origin;
use super::common::{whole, Stub};
use futures::{SinkExt, StreamExt};
use hyper::ext::Protocol;
use hyper::upgrade::Upgraded;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioExecutor, TokioIo};
use std::convert::Infallible;
use std::fmt;
use std::io;
use std::path::PathBuf;
use std::pin::Pin;
use std::task::{Context, Poll};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::net::UnixStream;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use tokio_tungstenite::tungstenite::protocol::{CloseFrame, Role, WebSocketConfig};
use tokio_tungstenite::tungstenite::{Error, Message};
use tokio_tungstenite::WebSocketStream;

/// Sends every message back. What is wrong it closes with the code for that, and reads on until the client closes.
pub async fn echo<S>(mut websocket: WebSocketStream<S>)
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let code = loop {
        match websocket.next().await {
            Some(Ok(message @ (Message::Text(_) | Message::Binary(_)))) => {
                if websocket.send(message).await.is_err() {
                    break None;
                }
            }
            Some(Ok(_)) => {}
            Some(Err(Error::Protocol(_))) => break Some(CloseCode::Protocol),
            Some(Err(Error::Utf8)) => break Some(CloseCode::Invalid),
            Some(Err(Error::Capacity(_))) => break Some(CloseCode::Size),
            Some(Err(_)) | None => break None,
        }
    };
    let stream = websocket.get_mut();
    if let Some(code) = code {
        // Written by hand: a WebSocket that has failed may take nothing more.
        let [high, low] = u16::from(code).to_be_bytes();
        drop(stream.write_all(&[0x88, 2, high, low]).await);
    }
    drop(stream.flush().await);
    // What is closed with bytes unread is reset, and takes with it what the client has not read.
    drop(stream.shutdown().await);
    let mut rest = vec![0; 64 * 1024];
    while stream.read(&mut rest).await.is_ok_and(|n| n > 0) {}
}

fn limits() -> WebSocketConfig {
    WebSocketConfig::default().max_message_size(Some(2 << 20))
}

/// An origin of HTTP/1.1, whose handshake is tungstenite's too.
pub fn echo_h1() -> H2Origin {
    H2Origin::start(|stream, _| async {
        let accepted = tokio_tungstenite::accept_async_with_config(stream, Some(limits())).await;
        if let Ok(websocket) = accepted {
            echo(websocket).await;
        }
    })
}

/// An origin of HTTP/2 only, that takes an extended CONNECT.
pub fn echo_h2() -> H2Origin {
    H2Origin::start(|stream, _| async {
        let service = hyper::service::service_fn(|mut request: Request<hyper::body::Incoming>| {
            assert_eq!(request.method(), Method::CONNECT, "{request:?}");
            let protocol = request.extensions().get::<Protocol>().unwrap();
            assert_eq!(protocol.as_str(), "websocket");
            assert_eq!(request.uri().to_string(), "http://origin.test/chat?a=b");
            for gone in ["sec-websocket-key", "upgrade", "connection", "host"] {
                assert!(!request.headers().contains_key(gone), "{request:?}");
            }
            assert_eq!(request.headers()["sec-websocket-version"], "13");
            let upgrade = hyper::upgrade::on(&mut request);
            tokio::spawn(async {
                let stream = TokioIo::new(upgrade.await.unwrap());
                echo(WebSocketStream::from_raw_socket(stream, Role::Server, Some(limits())).await)
                    .await;
            });
            std::future::ready(Ok::<_, Infallible>(Response::new(whole(""))))
        });
        let connection = hyper::server::conn::http2::Builder::new(TokioExecutor::new())
            .enable_connect_protocol()
            .serve_connection(TokioIo::new(stream), service);
        // How a connection ends is seen by the other side, and the test asks there.
        drop(connection.await);
    })
}

/// What is carried by a connection, whatever that is made of.
pub trait Io: AsyncRead + AsyncWrite + Unpin + Send {}
impl<S: AsyncRead + AsyncWrite + Unpin + Send> Io for S {}

/// How a client gets to a WebSocket.
pub struct Route {
    to: To,
    h2: bool,
}

enum To {
    Unix(PathBuf),
    #[cfg(any(feature = "rustls", feature = "openssl"))]
    Tls(
        pingora_core::connectors::TransportConnector,
        Box<pingora_core::upstreams::peer::HttpPeer>,
    ),
}

impl Route {
    pub fn h1(path: PathBuf) -> Self {
        let to = To::Unix(path);
        Route { to, h2: false }
    }

    pub fn h2(path: PathBuf) -> Self {
        let to = To::Unix(path);
        Route { to, h2: true }
    }

    #[cfg(any(feature = "rustls", feature = "openssl"))]
    pub fn tls(
        address: std::net::SocketAddr,
        ca_file: &str,
        alpn: pingora_core::protocols::ALPN,
    ) -> Self {
        use pingora_core::connectors::{ConnectorOptions, TransportConnector};
        let mut options = ConnectorOptions::new(1);
        options.ca_file = Some(ca_file.to_string());
        let sni = "name.example".to_string();
        let mut peer = pingora_core::upstreams::peer::HttpPeer::new(address, true, sni);
        let h2 = alpn.get_min_http_version() == 2;
        peer.options.alpn = alpn;
        let connector = TransportConnector::new(Some(options));
        Route {
            to: To::Tls(connector, Box::new(peer)),
            h2,
        }
    }

    async fn connect(&self) -> Box<dyn Io> {
        match &self.to {
            To::Unix(path) => Box::new(UnixStream::connect(path).await.unwrap()),
            #[cfg(any(feature = "rustls", feature = "openssl"))]
            To::Tls(connector, peer) => Box::new(connector.new_stream(&**peer).await.unwrap()),
        }
    }

    fn scheme(&self) -> &'static str {
        match &self.to {
            To::Unix(_) => "http",
            #[cfg(any(feature = "rustls", feature = "openssl"))]
            To::Tls(..) => "https",
        }
    }

    /// Sends a handshake, and returns its answer.
    pub async fn shake(&self) -> Response<hyper::body::Incoming> {
        let io = TokioIo::new(self.connect().await);
        let request = Request::builder()
            .version(hyper::Version::HTTP_11)
            .header("sec-websocket-version", "13");
        let scheme = self.scheme();
        if self.h2 {
            let (mut requests, connection) =
                hyper::client::conn::http2::handshake(TokioExecutor::new(), io)
                    .await
                    .unwrap();
            tokio::spawn(async { drop(connection.await) });
            let request = request
                .method(Method::CONNECT)
                .version(hyper::Version::HTTP_2)
                .uri(format!("{scheme}://origin.test/chat?a=b"))
                .extension(Protocol::from_static("websocket"));
            let request = request.body(whole("")).unwrap();
            return requests.send_request(request).await.unwrap();
        }
        let (mut requests, connection) = hyper::client::conn::http1::handshake::<_, Stub>(io)
            .await
            .unwrap();
        tokio::spawn(async { drop(connection.with_upgrades().await) });
        let request = request
            .uri("/chat?a=b")
            .header("host", "origin.test")
            .header("connection", "Upgrade")
            .header("upgrade", "websocket")
            .header("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ==");
        requests
            .send_request(request.body(whole("")).unwrap())
            .await
            .unwrap()
    }

    /// An open WebSocket.
    pub async fn open(&self) -> TokioIo<Upgraded> {
        let answer = self.shake().await;
        let (status, fields) = (answer.status(), answer.headers());
        match self.h2 {
            true => {
                assert_eq!(status, StatusCode::OK, "{answer:?}");
                assert!(!fields.contains_key("sec-websocket-accept"));
            }
            false => {
                assert_eq!(status, StatusCode::SWITCHING_PROTOCOLS, "{answer:?}");
                // RFC 6455 section 1.3.
                assert_eq!(
                    fields["sec-websocket-accept"],
                    "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="
                );
                assert_eq!(fields["upgrade"], "websocket");
                let connection = fields["connection"].to_str().unwrap();
                assert!(connection.eq_ignore_ascii_case("upgrade"));
            }
        }
        TokioIo::new(hyper::upgrade::on(answer).await.unwrap())
    }
}

/// What a client has seen.
#[derive(PartialEq)]
pub struct Outcome {
    messages: Vec<Message>,
    /// How the connection ended after them.
    end: String,
}

impl Outcome {
    /// How many bytes of messages came, and of what is no message.
    pub fn bytes(&self) -> usize {
        self.messages.iter().map(Message::len).sum()
    }

    /// The code by which the origin closed.
    pub fn code(&self) -> Option<Code> {
        self.messages.iter().find_map(|message| match message {
            Message::Close(Some(CloseFrame { code, .. })) => Some(Code::Is(u16::from(*code))),
            Message::Close(None) => Some(Code::Empty),
            _ => None,
        })
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for message in &self.messages {
            match message {
                Message::Close(close) => write!(f, "close {close:?}, ")?,
                other => write!(f, "{} bytes, ", other.len())?,
            }
        }
        f.write_str(&self.end)
    }
}

/// Writes the bytes in pieces, reads until the origin closes, then closes.
pub async fn exchange(stream: TokioIo<Upgraded>, bytes: &[u8], piece: usize) -> Outcome {
    let (reader, mut writer) = tokio::io::split(stream);
    let writing = async {
        for piece in bytes.chunks(piece) {
            // An origin that has had enough says so to the reader.
            if writer.write_all(piece).await.is_err() || writer.flush().await.is_err() {
                return;
            }
        }
    };
    let reading = async {
        let reader = ReadOnly(reader);
        let mut websocket = WebSocketStream::from_raw_socket(reader, Role::Client, None).await;
        let mut messages = Vec::new();
        let end = loop {
            match websocket.next().await {
                Some(Ok(message)) => messages.push(message),
                Some(Err(e)) => break e.to_string(),
                None => break "end".to_string(),
            }
        };
        Outcome { messages, end }
    };
    let ((), outcome) = tokio::join!(writing, reading);
    drop(writer.shutdown().await);
    outcome
}

/// A connection whose writer is elsewhere: what tungstenite would answer by itself goes nowhere.
struct ReadOnly<R>(R);

impl<R: AsyncRead + Unpin> AsyncRead for ReadOnly<R> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_read(cx, buf)
    }
}

impl<R: Unpin> AsyncWrite for ReadOnly<R> {
    fn poll_write(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        Poll::Ready(Ok(buf.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}
