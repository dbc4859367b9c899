//! A proxy on the published crates that can be replaced while it runs.
//!
//! usage: upstream-process SOCKET UPGRADE-SOCKET UPSTREAM-SOCKET

use async_trait::async_trait;
use pingora_core::prelude::*;
use pingora_core::server::configuration::ServerConf;
use pingora_http::ResponseHeader;
use pingora_proxy::prelude::*;

struct Tagged(HttpPeer);

#[async_trait]
impl ProxyHttp for Tagged {
    type CTX = ();

    fn new_ctx(&self) {}

    async fn upstream_peer(&self, _: &mut Session, _: &mut ()) -> Result<Box<HttpPeer>> {
        Ok(Box::new(self.0.clone()))
    }

    async fn response_filter(
        &self,
        _: &mut Session,
        response: &mut ResponseHeader,
        _: &mut (),
    ) -> Result<()> {
        response.insert_header("X-Served-By", std::process::id().to_string())
    }
}

fn main() -> std::result::Result<(), Box<dyn std::error::Error>> {
    let args: Vec<_> = std::env::args().skip(1).collect();
    let [socket, upgrade_sock, upstream] = &args[..] else {
        return Err("usage: upstream-process SOCKET UPGRADE-SOCKET UPSTREAM-SOCKET".into());
    };
    let conf = ServerConf {
        upgrade_sock: upgrade_sock.clone(),
        grace_period_seconds: Some(1),
        ..ServerConf::default()
    };
    let mut server = Server::new_with_opt_and_conf(None, conf);
    server.bootstrap();
    let peer = HttpPeer::new_uds(upstream, false, String::new())?;
    let mut proxy = http_proxy_service(&server.configuration, Tagged(peer));
    proxy.add_uds(socket, None);
    server.add_service(proxy);
    server.run_forever()
}
