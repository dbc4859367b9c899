//! The question whether a name may have a certificate.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::Request;
use http_body_util::Empty;
use hyper_rustls::HttpsConnector;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::client::legacy::Client;
use hyper_util::rt::TokioExecutor;
use rustls::RootCertStore;
use tokio::sync::OnceCell;

use super::attempt::aside;
use super::client::{connector, plain, system};
use super::order::Failure;

/// The time for an answer.
const ASK_TIMEOUT: Duration = Duration::from_secs(5);

type Asking = Client<HttpsConnector<HttpConnector>, Empty<Bytes>>;

/// Asks whether names may have a certificate. It reads the authorities of the system once, and keeps its connections.
#[derive(Clone, Default)]
pub(super) struct Asker(Arc<OnceCell<Asking>>);

fn away(e: impl std::fmt::Display) -> Failure {
    let text = format!("`ask` cannot tell whether the name is allowed: {e}");
    Failure::unanswered(plain(&text))
}

impl Asker {
    async fn client(&self, is_secure: bool) -> Result<&Asking, Failure> {
        let made = self.0.get_or_try_init(|| async {
            let roots = if is_secure {
                // On a thread of its own: it reads files.
                aside(system).await?.map_err(away)?
            } else {
                RootCertStore::empty()
            };
            let connector = connector(roots).map_err(away)?;
            let connector = connector.https_or_http().enable_http1().build();
            Ok(Client::builder(TokioExecutor::new()).build(connector))
        });
        made.await
    }

    /// Asks whether `name` may have one, at a URL that it is the end of, which is always the same one. The name is of
    /// characters that stand for themselves there.
    ///
    /// # Errors
    ///
    /// The answer is no, or there is none. A redirect is not followed: it is no yes.
    pub(super) async fn ask(&self, url: &str, name: &str) -> Result<(), Failure> {
        let client = self.client(url.starts_with("https:")).await?;
        let request = Request::get(format!("{url}{name}")).body(Empty::new());
        let asked = client.request(request.map_err(away)?);
        let status = match tokio::time::timeout(ASK_TIMEOUT, asked).await {
            Ok(Ok(answer)) => answer.status(),
            Ok(Err(e)) => {
                let cause = std::error::Error::source(&e).map(ToString::to_string);
                return Err(away(cause.unwrap_or_else(|| e.to_string())));
            }
            Err(_) => return Err(away("no answer within 5 seconds")),
        };
        if status.is_success() {
            Ok(())
        } else if status.is_server_error() {
            Err(away(format_args!("the answer is {}", status.as_u16())))
        } else {
            let text = format!(
                "`ask` does not allow the name: the answer is {}",
                status.as_u16()
            );
            Err(Failure::denied(text))
        }
    }
}
