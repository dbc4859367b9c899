//! A connection of a client, of either version of HTTP, and a request on it.

use std::error::Error;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Empty};
use hyper::body::Incoming;
use hyper::client::conn::{http1, http2};
use hyper::header::CONNECTION;
use hyper::{Request, Response};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::net::{TcpStream, UnixStream};
use tokio::task::JoinHandle;

use crate::ledger::End;
use crate::world::World;

pub type Body = UnsyncBoxBody<Bytes, std::io::Error>;

pub fn no_body() -> Body {
    Empty::new().map_err(|never| match never {}).boxed_unsync()
}

/// The way in which a connection is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Way {
    /// True if the address is a path.
    pub unix: bool,
    pub tls: bool,
    pub h2: bool,
    /// The bytes that the client's system and its windows take unread; the default for 0.
    pub window: u32,
}

impl Way {
    pub const H1: Self = Self {
        unix: false,
        tls: false,
        h2: false,
        window: 0,
    };

    pub fn protocol(&self) -> &'static str {
        match (self.unix, self.tls, self.h2) {
            (true, _, false) => "http/1.1 by a path",
            (true, _, true) => "h2c by a path",
            (false, false, false) => "http/1.1",
            (false, false, true) => "h2c",
            (false, true, false) => "https/1.1",
            (false, true, true) => "h2",
        }
    }
}

enum Sender {
    One(http1::SendRequest<Body>),
    Two(http2::SendRequest<Body>),
}

/// A connection. It is closed when this is dropped.
pub struct Line {
    sender: Sender,
    driver: JoinHandle<()>,
    pub connected: Instant,
    used: Instant,
    /// True if the proxy has said that it closes the connection.
    announced: bool,
}

impl Drop for Line {
    fn drop(&mut self) {
        self.driver.abort();
    }
}

/// Has it that a client waits no longer than this for one step of its request.
pub const PATIENCE: Duration = Duration::from_secs(45);

impl Line {
    /// # Errors
    ///
    /// The end of a request that needs it.
    pub async fn open(world: &Arc<World>, way: Way) -> Result<Self, End> {
        match tokio::time::timeout(PATIENCE, Self::connect(world, way)).await {
            Ok(line) => line,
            Err(_) => Err(End::NoConnection(format!("not made in {PATIENCE:?}"))),
        }
    }

    async fn connect(world: &Arc<World>, way: Way) -> Result<Self, End> {
        let failed = |e: &dyn Error| End::NoConnection(whole(e));
        let connected = Instant::now();
        if way.unix {
            let stream = UnixStream::connect(world.proxy.files.socket()).await;
            let stream = stream.map_err(|e| failed(&e))?;
            return Self::over(TokioIo::new(stream), way, connected).await;
        }
        let stream = tcp(world, way).await.map_err(|e| failed(&e))?;
        if !way.tls {
            return Self::over(TokioIo::new(stream), way, connected).await;
        }
        let stream = world.tls.connect(stream, way.h2).await;
        let stream = stream.map_err(|e| failed(&e))?;
        if !world.tls.may_be_shown(&stream, connected) {
            return Err(End::Wrong(
                "the certificate is not the present one".to_owned(),
            ));
        }
        Self::over(TokioIo::new(stream), way, connected).await
    }

    async fn over<S>(stream: S, way: Way, connected: Instant) -> Result<Self, End>
    where
        S: hyper::rt::Read + hyper::rt::Write + Unpin + Send + 'static,
    {
        let failed = |e: hyper::Error| End::NoConnection(whole(&e));
        let (sender, driver) = if way.h2 {
            let mut builder = http2::Builder::new(TokioExecutor::new());
            if way.window > 0 {
                builder.initial_stream_window_size(way.window);
                builder.initial_connection_window_size(way.window.max(65_535));
            }
            let (sender, driver) = builder.handshake(stream).await.map_err(failed)?;
            let driver = tokio::spawn(async { drop(driver.await) });
            (Sender::Two(sender), driver)
        } else {
            let (sender, driver) = http1::handshake(stream).await.map_err(failed)?;
            let driver = tokio::spawn(async { drop(driver.await) });
            (Sender::One(sender), driver)
        };
        Ok(Self {
            sender,
            driver,
            connected,
            used: Instant::now(),
            announced: false,
        })
    }

    /// The time for which it has been idle.
    pub fn idle(&self) -> Duration {
        self.used.elapsed()
    }

    /// Notes that a request on it has ended, or that its answer has begun.
    pub fn used(&mut self) {
        self.used = Instant::now();
    }

    /// Returns whether the proxy has said that it closes the connection.
    pub fn is_announced(&self) -> bool {
        self.announced
    }

    /// Another handle for a request at the same time, where the version has streams.
    pub fn split(&self) -> Option<http2::SendRequest<Body>> {
        match &self.sender {
            Sender::One(_) => None,
            Sender::Two(sender) => Some(sender.clone()),
        }
    }

    /// Sends a request, and returns the head of its answer.
    ///
    /// # Errors
    ///
    /// The end without one.
    pub async fn send(&mut self, request: Request<Body>) -> Result<Response<Incoming>, End> {
        let answer = match &mut self.sender {
            Sender::Two(sender) => return send(sender.clone(), request).await,
            Sender::One(sender) => {
                if sender.ready().await.is_err() {
                    return Err(End::NotSent);
                }
                tokio::time::timeout(PATIENCE, sender.send_request(request)).await
            }
        };
        let answer = answer.map_err(|_| End::Late)?.map_err(|e| end_of(&e))?;
        self.used();
        let connection = answer.headers().get(CONNECTION);
        self.announced |= connection.is_some_and(|value| value == "close");
        Ok(answer)
    }
}

/// Sends a request on a stream of its own.
pub async fn send(
    mut sender: http2::SendRequest<Body>,
    request: Request<Body>,
) -> Result<Response<Incoming>, End> {
    if sender.ready().await.is_err() {
        // The end of a connection is told by GOAWAY; without it the requests on it are lost, which they say themselves.
        return Err(End::Announced);
    }
    let answer = tokio::time::timeout(PATIENCE, sender.send_request(request)).await;
    answer
        .map_err(|_| End::Late)?
        .map_err(|e| match end_of(&e) {
            End::NotSent => End::Announced,
            end => end,
        })
}

async fn tcp(world: &World, way: Way) -> std::io::Result<TcpStream> {
    let addresses = world.proxy.files.addresses;
    let socket = tokio::net::TcpSocket::new_v4()?;
    if way.window > 0 {
        socket.set_recv_buffer_size(way.window)?;
    }
    let address = if way.tls {
        addresses.tls
    } else {
        addresses.clear
    };
    let stream = socket.connect(address).await?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

fn end_of(error: &hyper::Error) -> End {
    let mut source: Option<&(dyn Error + 'static)> = Some(error);
    while let Some(cause) = source {
        if let Some(h2) = cause.downcast_ref::<h2::Error>() {
            let reason = h2.reason();
            if h2.is_go_away() && reason == Some(h2::Reason::NO_ERROR)
                || reason == Some(h2::Reason::REFUSED_STREAM)
            {
                return End::Announced;
            }
        }
        source = cause.source();
    }
    if error.is_canceled() {
        return End::NotSent;
    }
    End::Lost(whole(error))
}

/// An error with its causes.
pub fn whole(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text = format!("{text}: {cause}");
        source = cause.source();
    }
    text
}
