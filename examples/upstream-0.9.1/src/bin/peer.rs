//! The smallest proxy on the published crates, to measure others against.
//!
//! usage: peer IP:PORT ORIGIN-IP:PORT THREADS steal|nosteal [FOLDER]
//!
//! With a folder it serves TLS, HTTP/2 and HTTP/1.1, with the `cert.pem` and `key.pem` in it.

use async_trait::async_trait;
use pingora_core::listeners::tls::TlsSettings;
use pingora_core::prelude::*;
use pingora_core::server::configuration::ServerConf;
use pingora_proxy::prelude::*;

struct Pass(String);

#[async_trait]
impl ProxyHttp for Pass {
    type CTX = ();

    fn new_ctx(&self) {}

    async fn upstream_peer(&self, _: &mut Session, _: &mut ()) -> Result<Box<HttpPeer>> {
        Ok(Box::new(HttpPeer::new(&self.0, false, String::new())))
    }
}

fn main() -> std::result::Result<(), Box<dyn std::error::Error>> {
    let args: Vec<_> = std::env::args().skip(1).collect();
    let [address, origin, threads, stealing, folder @ ..] = &args[..] else {
        return Err("usage: peer IP:PORT ORIGIN-IP:PORT THREADS steal|nosteal [FOLDER]".into());
    };
    let conf = ServerConf {
        threads: threads.parse()?,
        work_stealing: stealing == "steal",
        upstream_keepalive_pool_size: 1024,
        ..ServerConf::default()
    };
    let mut server = Server::new_with_opt_and_conf(Opt::default(), conf);
    server.bootstrap();
    let mut proxy = http_proxy_service(&server.configuration, Pass(origin.clone()));
    match folder {
        [folder, ..] => {
            let (cert, key) = (format!("{folder}/cert.pem"), format!("{folder}/key.pem"));
            let mut tls = TlsSettings::intermediate(&cert, &key)?;
            tls.enable_h2();
            proxy.add_tls_with_settings(address, None, tls);
        }
        [] => proxy.add_tcp(address),
    }
    server.add_service(proxy);
    server.run_forever()
}
