//! The question whether a name may have a certificate.

use std::time::Duration;

use bytes::Bytes;
use http::Request;
use http_body_util::Empty;
use hyper_util::client::legacy::Client;
use hyper_util::rt::TokioExecutor;
use rustls::RootCertStore;

use super::client::{connector, plain, system};
use super::order::Failure;

/// The time for an answer.
const ASK_TIMEOUT: Duration = Duration::from_secs(5);

/// Asks whether `name` may have one, at a URL that it is the end of. The name is of characters that stand for themselves there.
///
/// # Errors
///
/// The answer is no, or there is none. A redirect is not followed: it is no yes.
pub(super) async fn ask(url: &str, name: &str) -> Result<(), Failure> {
    let away = |e: &dyn std::fmt::Display| {
        let text = format!("`ask` cannot tell whether the name is allowed: {e}");
        Failure::unanswered(plain(&text))
    };
    let is_secure = url.starts_with("https:");
    let roots = if is_secure {
        system()
    } else {
        Ok(RootCertStore::empty())
    };
    let connector = connector(roots.map_err(|e| away(&e))?).map_err(|e| away(&e))?;
    let connector = connector.https_or_http().enable_http1().build();
    let client = Client::builder(TokioExecutor::new()).build::<_, Empty<Bytes>>(connector);
    let request = Request::get(format!("{url}{name}")).body(Empty::new());
    let asked = client.request(request.map_err(|e| away(&e))?);
    let status = match tokio::time::timeout(ASK_TIMEOUT, asked).await {
        Ok(Ok(answer)) => answer.status(),
        Ok(Err(e)) => {
            let cause = std::error::Error::source(&e).map(ToString::to_string);
            return Err(away(&cause.unwrap_or_else(|| e.to_string())));
        }
        Err(_) => return Err(away(&"no answer within 5 seconds")),
    };
    if status.is_success() {
        Ok(())
    } else if status.is_server_error() {
        Err(away(&format_args!("the answer is {}", status.as_u16())))
    } else {
        let text = format!(
            "`ask` does not allow the name: the answer is {}",
            status.as_u16()
        );
        Err(Failure::denied(text))
    }
}
