//! A proxy on the published crates that can be replaced while it runs.
//!
//! usage: upstream-process ADDRESS UPGRADE-SOCKET UPSTREAM-SOCKET [--upgrade]
//!
//! ADDRESS is the path of a Unix socket, or IP:PORT. With `--upgrade` it takes over from a running process.

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
    let [address, upgrade_sock, upstream, flags @ ..] = &args[..] else {
        return Err(
            "usage: upstream-process ADDRESS UPGRADE-SOCKET UPSTREAM-SOCKET [--upgrade]".into(),
        );
    };
    let opt = Opt {
        upgrade: flags.iter().any(|flag| flag == "--upgrade"),
        ..Opt::default()
    };
    let conf = ServerConf {
        upgrade_sock: upgrade_sock.clone(),
        grace_period_seconds: Some(1),
        ..ServerConf::default()
    };
    let mut server = Server::new_with_opt_and_conf(opt, conf);
    server.bootstrap();
    let peer = HttpPeer::new_uds(upstream, false, String::new())?;
    let mut proxy = http_proxy_service(&server.configuration, Tagged(peer));
    if address.starts_with('/') {
        proxy.add_uds(address, None);
    } else {
        proxy.add_tcp(address);
    }
    server.add_service(proxy);
    server.run_forever()
}
