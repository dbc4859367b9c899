//! Which host a request is for, as the phases see it.

use super::common::*;
use async_trait::async_trait;
use pingora_core::upstreams::peer::HttpPeer;
use pingora_core::{Error, ErrorType, Result};
use pingora_http::ResponseHeader;
use pingora_proxy::{ProxyHttp, Session};

/// Answers with the Host that it sees.
struct SaysHost;

#[async_trait]
impl ProxyHttp for SaysHost {
    type CTX = ();

    fn new_ctx(&self) {}

    async fn request_filter(&self, session: &mut Session, _: &mut ()) -> Result<bool> {
        let host = session.get_header_bytes("host").to_vec();
        let mut head = ResponseHeader::build(200, None)?;
        head.insert_header("Content-Length", 0)?;
        head.insert_header("X-Host", host)?;
        session.write_response_header(Box::new(head), true).await?;
        Ok(true)
    }

    async fn upstream_peer(&self, _: &mut Session, _: &mut ()) -> Result<Box<HttpPeer>> {
        Error::e_explain(ErrorType::InternalError, "nothing goes upstream")
    }
}

#[test]
fn phases_see_the_host_that_the_target_names() {
    let mut setup = Setup::default();
    setup.options.allow_connect_method_proxying = true;
    let proxy = Proxy::start_with(setup, SaysHost);
    for (line, host) in [
        ("GET / HTTP/1.1", "a"),
        ("GET http://b:81/p?q HTTP/1.1", "b:81"),
        ("OPTIONS https://b HTTP/1.1", "b"),
        ("GET http://b/ HTTP/1.0", "b"),
        ("CONNECT b:443 HTTP/1.1", "b:443"),
    ] {
        let mut client = proxy.connect();
        client.send(format!("{line}\r\nHost: a\r\n\r\n"));
        let head = client.read_head();
        assert!(
            head.contains(&format!("\r\nX-Host: {host}")),
            "{line}: {head}"
        );
    }
}
