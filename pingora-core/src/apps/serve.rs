//! Every application that serves HTTP serves connections.

use std::future::poll_fn;
use std::sync::Arc;

use async_trait::async_trait;

use super::preface::{self, Protocol};
use super::{h2_conn, HttpServerApp, ServerApp};
use crate::protocols::http::server::Session;
use crate::protocols::l4::stream::Stream as L4Stream;
use crate::protocols::tls::transport;
use crate::protocols::Stream;
use crate::shutdown::watch::ShutdownWatch;

#[async_trait]
impl<T> ServerApp for T
where
    T: HttpServerApp + Send + Sync + 'static,
{
    async fn process_new(
        self: &Arc<Self>,
        mut stream: Stream,
        shutdown: &ShutdownWatch,
    ) -> Option<Stream> {
        // What is over soon is boxed: a connection that waits is as large as all it may await.
        let protocol = preface::protocol(&**self, &mut stream, shutdown);
        match Box::pin(protocol).await? {
            Protocol::Custom => {
                return self.clone().process_custom_session(stream, shutdown).await;
            }
            Protocol::Http2 => {
                h2_conn::serve(self, stream, shutdown).await;
                return None;
            }
            Protocol::Http1 => {}
        }
        let of_endpoint = transport(&*stream).and_then(L4Stream::http).cloned();
        let mut session = Session::new_http1(stream);
        if let Some(options) = self.server_options() {
            session.set_keepalive_reuses_remaining(options.keepalive_request_limit);
            session.set_lenient_line_ends(options.lenient_line_ends);
        }
        if let Some(settings) = of_endpoint {
            session.set_connection_settings(&settings);
        }
        loop {
            let reused = self.process_new_http(session, shutdown).await?;
            session = reused.into_session();
            // Here, and not in the application, whose state an idle connection need not hold.
            if let Session::H1(h1) = &mut session {
                poll_fn(|cx| h1.poll_next(cx)).await;
            }
        }
    }

    async fn cleanup(&self) {
        self.http_cleanup().await;
    }
}
