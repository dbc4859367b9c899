//! Checks of servers, beside the requests.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::stream::{FuturesUnordered, StreamExt};
use http::{HeaderValue, Method};
use pingora_core::connectors::http::Connector;
use pingora_core::connectors::l4::is_local_shortage;
use pingora_core::connectors::TransportConnector;
use pingora_core::protocols::http::client::HttpSession;
use pingora_core::upstreams::peer::{HttpPeer, ALPN};
use pingora_core::Error;
use pingora_http::RequestHeader;
use tokio::time::Instant;

use super::endpoint::{Endpoint, DOWN};
use super::{Cluster, Member};
use crate::config::model::{CheckKind, Health};
use crate::config::values::{Address, StatusRange};

/// The bytes of a body that are looked at.
const BODY: usize = 64 * 1024;
/// The checks that run at once.
const AT_ONCE: usize = 64;
/// The longest time until a new server is seen.
const LOOK: Duration = Duration::from_secs(1);

/// The results of a server's checks.
struct Checked {
    due: Instant,
    running: bool,
    /// The checks in a row that said the same, and what they said.
    row: (u32, bool),
    /// The last check said nothing, and the log has that.
    unknown: bool,
}

/// The reason why a check did not succeed.
#[derive(Debug)]
enum Failure {
    /// The server, for this reason.
    Server(String),
    /// This machine, which had nothing left for a connection: nothing is known of the server.
    Shortage(String),
}

impl From<String> for Failure {
    fn from(why: String) -> Self {
        Self::Server(why)
    }
}

impl From<Box<Error>> for Failure {
    fn from(e: Box<Error>) -> Self {
        if is_local_shortage(&e) {
            Self::Shortage(e.root_cause().to_string())
        } else {
            Self::Server(e.etype.as_str().to_owned())
        }
    }
}

/// Checks the servers of a cluster, for as long as the future is polled.
pub(super) async fn follow(cluster: &Cluster, health: &Health) {
    let checker = Checker::new(cluster, health);
    let mut known: HashMap<usize, Checked> = HashMap::new();
    let mut running = FuturesUnordered::new();
    loop {
        let (members, _) = cluster.members();
        let places: HashMap<_, _> = members.iter().map(|m| (place(&m.endpoint), m)).collect();
        known.retain(|at, checked| checked.running || places.contains_key(at));
        let now = Instant::now();
        let mut next = now + LOOK;
        for (at, member) in &places {
            let checked = known.entry(*at).or_insert_with(|| Checked {
                due: now,
                running: false,
                row: (0, true),
                unknown: false,
            });
            if checked.running {
                continue;
            }
            if checked.due <= now && running.len() < AT_ONCE {
                checked.running = true;
                let (checker, member) = (&checker, Member::clone(member));
                running.push(async move { (checker.check(&member).await, member) });
            } else if checked.due > now {
                next = next.min(checked.due);
            }
        }
        drop(places);
        tokio::select! {
            Some((result, member)) = running.next(), if !running.is_empty() => {
                if let Some(checked) = known.get_mut(&place(&member.endpoint)) {
                    checked.running = false;
                    checked.due = Instant::now() + health.interval;
                    checked.note(result, cluster, &member, health);
                }
            }
            () = tokio::time::sleep_until(next) => {}
        }
    }
}

/// Tells servers apart while they are kept.
fn place(endpoint: &Arc<Endpoint>) -> usize {
    Arc::as_ptr(endpoint).addr()
}

impl Checked {
    fn note(
        &mut self,
        result: Result<(), Failure>,
        cluster: &Cluster,
        member: &Member,
        health: &Health,
    ) {
        let address = &member.address;
        let result = match result {
            Ok(()) => Ok(()),
            Err(Failure::Server(why)) => Err(why),
            Err(Failure::Shortage(why)) => {
                if !std::mem::replace(&mut self.unknown, true) {
                    log::error!("server {address} cannot be checked, its state stays: {why}");
                }
                return;
            }
        };
        self.unknown = false;
        let good = result.is_ok();
        self.row = if self.row.1 == good {
            (self.row.0.saturating_add(1), good)
        } else {
            (1, good)
        };
        let down = member.endpoint.flags() & DOWN != 0;
        match result {
            Ok(()) if down && self.row.0 >= health.healthy_after.0 => {
                member.endpoint.is_well(&cluster.rules);
                log::info!("server {address} is up: its checks succeed");
            }
            Err(why) if !down && self.row.0 >= health.unhealthy_after.0 => {
                member
                    .endpoint
                    .went_down(format!("its check failed: {why}"));
                log::warn!("server {address} is down: its check failed: {why}");
            }
            Err(why) if down => member.endpoint.say(format!("its check failed: {why}")),
            Ok(()) | Err(_) => {}
        }
    }
}

/// Makes checks of one kind.
struct Checker<'a> {
    cluster: &'a Cluster,
    health: &'a Health,
    http: Connector,
    transport: TransportConnector,
}

impl<'a> Checker<'a> {
    fn new(cluster: &'a Cluster, health: &'a Health) -> Self {
        Self {
            cluster,
            health,
            http: Connector::new(None),
            transport: TransportConnector::new(None),
        }
    }

    /// # Errors
    ///
    /// The reason for which the server is not well, in a few words, or for which nothing is known of it.
    async fn check(&self, member: &Member) -> Result<(), Failure> {
        let limit = self.health.timeout;
        let done = async {
            let peer = self.peer(member)?;
            match self.health.kind {
                CheckKind::Http => self.by_http(member, &peer).await,
                CheckKind::Tcp => {
                    self.transport.new_stream(&peer).await?;
                    Ok(())
                }
                CheckKind::Grpc => self.by_grpc(member, &peer).await,
            }
        };
        let done = tokio::time::timeout(limit, done).await;
        done.unwrap_or_else(|_| Err(format!("no answer within {limit:?}").into()))
    }

    fn peer(&self, member: &Member) -> Result<HttpPeer, String> {
        let peers = &self.cluster.peers;
        let mut address = member.address.clone();
        if let (Address::Ip(address), Some(port)) = (&mut address, &self.health.port) {
            // Not above: the file was checked.
            address.set_port(u16::try_from(port.value).unwrap_or(address.port()));
        }
        let server = &self.cluster.targets[member.target].endpoint;
        let mut peer = peers.make(server, &address, &peers.credentials())?;
        if self.health.kind == CheckKind::Grpc {
            peer.options.alpn = ALPN::H2;
        }
        Ok(peer)
    }

    async fn session(&self, peer: &HttpPeer) -> pingora_core::Result<HttpSession> {
        let (mut session, _) = self.http.get_http_session(peer).await?;
        // The time limit is that of the whole check.
        session.set_read_timeout(None);
        Ok(session)
    }

    fn head(&self, member: &Member, method: &Method, path: &str) -> Result<RequestHeader, String> {
        let error = |e: pingora_core::BError| e.to_string();
        let server = &self.cluster.targets[member.target].endpoint.address;
        let told = self.health.host.as_ref().map(|host| host.value.clone());
        let host = told.unwrap_or_else(|| server.host());
        let mut head =
            RequestHeader::build(method.clone(), path.as_bytes(), None).map_err(error)?;
        head.insert_header(http::header::HOST, host)
            .map_err(error)?;
        head.insert_header(http::header::USER_AGENT, "reverse-proxy")
            .map_err(error)?;
        for (name, value) in &self.health.headers.0 {
            let value = HeaderValue::from_str(&value.value).map_err(|e| e.to_string())?;
            head.insert_header(name.clone(), value).map_err(error)?;
        }
        Ok(head)
    }

    async fn by_http(&self, member: &Member, peer: &HttpPeer) -> Result<(), Failure> {
        let path = self.health.path.as_ref().map_or("/", |path| &path.value.0);
        let method = self
            .health
            .method
            .as_ref()
            .map_or(&Method::GET, |method| &method.value);
        let mut session = self.session(peer).await?;
        let head = self.head(member, method, path)?;
        let (status, body) = exchange(&mut session, head, None).await?;
        session.shutdown().await;
        let good = StatusRange::new(200, 399);
        let expected = match &self.health.expect[..] {
            [] => good.has(status),
            told => told.iter().any(|range| range.value.has(status)),
        };
        if !expected {
            return Err(format!("it answered {status}").into());
        }
        let text = self.health.body.as_ref().map(|text| text.value.as_bytes());
        let has = |text: &[u8]| body.windows(text.len().max(1)).any(|part| part == text);
        match text {
            Some(text) if !text.is_empty() && !has(text) => {
                Err("its body lacks the text".to_owned().into())
            }
            _ => Ok(()),
        }
    }

    async fn by_grpc(&self, member: &Member, peer: &HttpPeer) -> Result<(), Failure> {
        let mut session = self.session(peer).await?;
        let mut head = self.head(member, &Method::POST, "/grpc.health.v1.Health/Check")?;
        head.insert_header(http::header::CONTENT_TYPE, "application/grpc")?;
        head.insert_header(http::header::TE, "trailers")?;
        let service = self
            .health
            .service
            .as_ref()
            .map_or("", |service| &service.value);
        let request = grpc_request(service);
        let (status, body) = exchange(&mut session, head, Some(request)).await?;
        session.shutdown().await;
        if status != 200 {
            return Err(format!("it answered {status}").into());
        }
        match serving(&body) {
            Some(1) => Ok(()),
            Some(status) => {
                let why = format!("its health service says {status}, and not 1 (SERVING)");
                Err(why.into())
            }
            None => Err("its health service gave no status".to_owned().into()),
        }
    }
}

/// Sends a request; returns the status of the answer and the beginning of its body.
async fn exchange(
    session: &mut HttpSession,
    head: RequestHeader,
    body: Option<Bytes>,
) -> pingora_core::Result<(u16, Vec<u8>)> {
    session.write_request_header(Box::new(head)).await?;
    if let Some(body) = body {
        session.write_request_body(body, true).await?;
    }
    session.finish_request_body().await?;
    let status = loop {
        session.read_response_header().await?;
        let status = session
            .response_header()
            .map_or(0, |head| head.status.as_u16());
        if !(100..200).contains(&status) {
            break status;
        }
    };
    let mut read = Vec::new();
    while read.len() < BODY {
        let Some(part) = session.read_response_body().await? else {
            break;
        };
        read.extend_from_slice(&part[..part.len().min(BODY - read.len())]);
    }
    Ok((status, read))
}

/// Makes a message of gRPC: HealthCheckRequest, whose field 1 is the service.
fn grpc_request(service: &str) -> Bytes {
    let mut message = Vec::new();
    if !service.is_empty() {
        message.push(0x0a);
        varint(service.len(), &mut message);
        message.extend_from_slice(service.as_bytes());
    }
    let length = u32::try_from(message.len()).unwrap_or(u32::MAX);
    let mut framed = vec![0];
    framed.extend_from_slice(&length.to_be_bytes());
    framed.extend(message);
    framed.into()
}

fn varint(mut number: usize, out: &mut Vec<u8>) {
    while number >= 0x80 {
        // Seven bits at a time, with a mark that more follow.
        out.push((number & 0x7f) as u8 | 0x80);
        number >>= 7;
    }
    out.push(number as u8);
}

/// Returns field 1 of HealthCheckResponse, which is left out when it is 0.
fn serving(body: &[u8]) -> Option<u8> {
    let (flag, rest) = body.split_first()?;
    let length = u32::from_be_bytes(rest.get(..4)?.try_into().ok()?);
    let message = rest.get(4..)?.get(..usize::try_from(length).ok()?)?;
    match (flag, message) {
        (0, []) => Some(0),
        (0, [0x08, status, ..]) => Some(*status),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_of_grpc_are_framed() {
        assert_eq!(&grpc_request("")[..], [0; 5]);
        assert_eq!(&grpc_request("ab")[..], b"\0\0\0\0\x04\x0a\x02ab");
        assert_eq!(grpc_request(&"x".repeat(300))[5..8], [0x0a, 0xac, 0x02]);
        assert_eq!(serving(b"\0\0\0\0\x02\x08\x01"), Some(1));
        assert_eq!(serving(b"\0\0\0\0\0"), Some(0));
        for bad in [
            &b""[..],
            b"\0\0\0\0\x03\x08\x01",
            b"\x01\0\0\0\0",
            b"\0\0\0\0\x02\x10\x01",
        ] {
            assert_eq!(serving(bad), None);
        }
    }
}
