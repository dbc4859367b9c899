//! Answers to challenges of ACME (RFC 8555 section 8.3), before anything else is done with a request.

use http::{Method, StatusCode};
use pingora_core::Result;
use pingora_http::RequestHeader;
use pingora_proxy::Session;

use super::answer::Answer;
use super::{Ctx, Edge};
use crate::tls::is_token;

const PATH: &[u8] = b"/.well-known/acme-challenge/";

/// Returns the token that a request asks for.
pub(super) fn token(head: &RequestHeader) -> Option<String> {
    let token = head.raw_path().strip_prefix(PATH)?;
    let asks = head.method == Method::GET || head.method == Method::HEAD;
    if !asks || !is_token(token) {
        return None;
    }
    String::from_utf8(token.to_vec()).ok()
}

impl Edge {
    /// Answers who asks for a token; who asks for one that is not known is served as any other.
    pub(super) async fn prove(
        &self,
        session: &mut Session,
        ctx: &mut Ctx,
        token: String,
    ) -> Result<bool> {
        let found = match &ctx.running.plan.acme {
            Some(acme) => {
                let automatic = ctx.running.certificates.automatic();
                automatic.answer(acme, &token).await
            }
            None => None,
        };
        match found {
            Some(text) => {
                ctx.observed
                    .of_route(&ctx.running, &mut ctx.counting, None, None);
                let answer = Answer::text(StatusCode::OK, text);
                answer.send(session, None).await.map(|()| true)
            }
            None => self.serve(session, ctx).await,
        }
    }
}
