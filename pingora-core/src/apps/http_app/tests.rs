use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::Arc;

use async_trait::async_trait;
use http::Response;
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};
use tokio::sync::watch;

use super::{HttpServer, ServeHttp};
use crate::apps::{HttpServerApp, ReusedHttpStream, ServerApp};
use crate::modules::http::compression::ResponseCompressionBuilder;
use crate::protocols::http::ServerSession;
use crate::shutdown::watch::ShutdownWatch;

const GET: &[u8] = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n";

struct Echo;

#[async_trait]
impl ServeHttp for Echo {
    async fn response(&self, session: &mut ServerSession) -> Response<Vec<u8>> {
        let mut body = Vec::new();
        while let Ok(Some(piece)) = session.read_request_body().await {
            body.extend_from_slice(&piece);
        }
        body.extend_from_slice(session.req_header().raw_path());
        let mut response = Response::new(body);
        let text = http::HeaderValue::from_static("text/plain");
        response.headers_mut().insert("content-type", text);
        response
    }
}

/// Answers without a body, with the status that the path says.
struct Bodiless;

#[async_trait]
impl ServeHttp for Bodiless {
    async fn response(&self, session: &mut ServerSession) -> Response<Vec<u8>> {
        let status = session.req_header().uri.path()[1..].parse::<u16>().unwrap();
        Response::builder().status(status).body(Vec::new()).unwrap()
    }
}

#[tokio::test]
async fn no_length_is_told_of_a_body_that_was_left_out() {
    let mut client = serve(&Arc::new(Bodiless));
    for (method, status, told) in [
        ("GET", 200, true),
        ("GET", 304, false),
        ("HEAD", 200, false),
    ] {
        let request = format!("{method} /{status} HTTP/1.1\r\nHost: a\r\n\r\n");
        client.write_all(request.as_bytes()).await.unwrap();
        let head = until(&mut client, "\r\n\r\n").await.to_ascii_lowercase();
        let has = head.contains("content-length: 0\r\n");
        assert_eq!(has, told, "{method}: {head}");
    }
}

/// A connection to `app`, which is served until it ends.
fn serve<A: ServerApp + Send + Sync + 'static>(app: &Arc<A>) -> DuplexStream {
    let (client, server) = tokio::io::duplex(4096);
    let app = app.clone();
    tokio::spawn(async move {
        // The sender stays, or the watch would say that the server is gone.
        let (_running, shutdown) = watch::channel(false);
        assert!(app.process_new(Box::new(server), &shutdown).await.is_none());
    });
    client
}

async fn until(client: &mut DuplexStream, end: &str) -> String {
    let mut got = Vec::new();
    while !got.ends_with(end.as_bytes()) {
        got.push(client.read_u8().await.unwrap());
    }
    String::from_utf8(got).unwrap()
}

#[tokio::test]
async fn requests_of_one_connection_are_answered_in_turn() {
    let mut client = serve(&Arc::new(Echo));
    for path in ["/one", "/two"] {
        let request = format!("POST {path} HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nhi ");
        client.write_all(request.as_bytes()).await.unwrap();
        let response = until(&mut client, &format!("hi {path}")).await;
        assert!(response.starts_with("HTTP/1.1 200 OK\r\n"), "{response}");
        assert!(response.contains("\r\nContent-Length: 7\r\n"), "{response}");
    }
}

#[tokio::test]
async fn a_malformed_request_is_refused_and_the_connection_ends() {
    let mut client = serve(&Arc::new(Echo));
    client.write_all(b"GET / HTTP/1.1\r\n\r\n").await.unwrap();
    let mut response = String::new();
    client.read_to_string(&mut response).await.unwrap();
    assert!(response.starts_with("HTTP/1.1 400 "), "{response}");
    assert!(response.contains("\r\nConnection: close\r\n"), "{response}");
}

#[tokio::test]
async fn modules_stand_between_the_application_and_the_client() {
    let mut server = HttpServer::new_app(Echo);
    server.add_module(ResponseCompressionBuilder::enable(6));
    let mut client = serve(&Arc::new(server));
    let path = "/x".repeat(100);
    let request = format!("GET {path} HTTP/1.1\r\nHost: a\r\nAccept-Encoding: gzip\r\n\r\n");
    client.write_all(request.as_bytes()).await.unwrap();
    let head = until(&mut client, "\r\n\r\n").await;
    assert!(head.contains("\r\nContent-Encoding: gzip\r\n"), "{head}");
    assert!(
        head.contains("\r\nTransfer-Encoding: chunked\r\n"),
        "{head}"
    );
}

#[tokio::test]
async fn an_idle_connection_ends_with_the_server() {
    let server = Arc::new(HttpServer::new_app(Echo));
    let mut client = serve(&server);
    client.write_all(GET).await.unwrap();
    until(&mut client, "\r\n\r\n/").await;
    server.cleanup().await;
    let mut rest = Vec::new();
    client.read_to_end(&mut rest).await.unwrap();
    assert!(rest.is_empty());
}

#[tokio::test]
async fn a_request_that_names_no_host_is_not_served() {
    let plain = serve(&Arc::new(Echo));
    let with_modules = serve(&Arc::new(HttpServer::new_app(Echo)));
    for mut client in [plain, with_modules] {
        client.write_all(b"GET / HTTP/1.1\r\n\r\n").await.unwrap();
        let mut got = String::new();
        client.read_to_string(&mut got).await.unwrap();
        assert!(got.starts_with("HTTP/1.1 400 "), "{got}");
        assert!(got.contains("\r\nConnection: close\r\n"), "{got}");
    }
}

/// Panics.
struct Broken;

#[async_trait]
impl ServeHttp for Broken {
    async fn response(&self, _: &mut ServerSession) -> Response<Vec<u8>> {
        panic!("a test wants it");
    }
}

#[tokio::test]
async fn a_panic_before_the_answer_is_a_500() {
    let plain = serve(&Arc::new(Broken));
    let with_modules = serve(&Arc::new(HttpServer::new_app(Broken)));
    for mut client in [plain, with_modules] {
        client.write_all(GET).await.unwrap();
        let mut got = String::new();
        client.read_to_string(&mut got).await.unwrap();
        assert!(got.starts_with("HTTP/1.1 500 "), "{got}");
        assert!(got.contains("\r\nConnection: close\r\n"), "{got}");
    }
}

/// An [`HttpServer`] that counts how often it was given the connection.
struct Counting {
    server: Arc<HttpServer<Echo>>,
    given: AtomicUsize,
}

#[async_trait]
impl HttpServerApp for Counting {
    async fn process_new_http(
        self: &Arc<Self>,
        session: ServerSession,
        shutdown: &ShutdownWatch,
    ) -> Option<ReusedHttpStream> {
        self.given.fetch_add(1, Ordering::Relaxed);
        self.server.process_new_http(session, shutdown).await
    }
}

#[tokio::test]
async fn a_connection_that_waits_for_its_next_request_is_with_no_application() {
    let app = Arc::new(Counting {
        server: Arc::new(HttpServer::new_app(Echo)),
        given: AtomicUsize::new(0),
    });
    let given = || app.given.load(Ordering::Relaxed);
    let mut client = serve(&app);
    client.write_all(GET).await.unwrap();
    until(&mut client, "\r\n\r\n/").await;
    // This thread is the only one: the connection has gone as far as it goes.
    for _ in 0..10 {
        tokio::task::yield_now().await;
    }
    assert_eq!(given(), 1);
    client.write_all(&GET[..1]).await.unwrap();
    client.write_all(&GET[1..]).await.unwrap();
    until(&mut client, "\r\n\r\n/").await;
    assert_eq!(given(), 2);
    app.server.http_cleanup().await;
    assert_eq!(client.read(&mut [0]).await.unwrap(), 0);
}
