//! The way from a request to what is decided about it.

use std::future::Future;
use std::pin::Pin;

use pingora_core::connectors::http::Connector;
use pingora_core::utils::ready::ready;
use pingora_core::ErrorType::{HTTPStatus, InternalError};
use pingora_core::{Error, Result};
use pingora_http::RequestHeader;
use pingora_proxy::Session;

use super::answer::Answer;
use super::context::Ctx;
use super::counting::Counting;
use super::decide::{decide, enter, resume, Ask, Decision};
use super::gate::Fields;
use super::{forward_auth, gate, pages, Edge};
use crate::observe::Limit;
use crate::plan::gate::Rule;

impl Edge {
    /// Has others decide about a request, and goes on with it.
    async fn ask(&self, session: &mut Session, ctx: &mut Ctx, ask: Box<Ask>) -> Result<bool> {
        ctx.counting.waits();
        let Ask {
            password,
            question,
            at,
            secure,
        } = *ask;
        let mut refused = None;
        if let Some(asks) = password {
            refused = asks.answer(&ctx.running, &ctx.counting).await;
            if refused.is_none() {
                let (passed, counting) = (&mut ctx.passed, &ctx.counting);
                refused = enter(&self.live, &ctx.running, session, at, counting, passed);
            }
        }
        if let (None, Some(question)) = (&refused, question) {
            match self.question(ctx, &question, at).await {
                Ok(granted) => ctx.passed.get_or_insert_default().granted = granted,
                Err(answer) => refused = Some(*answer),
            }
        }
        if let Some(answer) = refused {
            let fields = gate::fields(&mut ctx.passed);
            let hsts = gate::hsts(&ctx.running.plan.sites[at.0].hsts, secure);
            let answer = answer.with(fields).with(hsts);
            return ctx.send(&self.live, session, answer).await;
        }
        let resumed = resume(
            &self.live,
            &ctx.running,
            session,
            at,
            &mut ctx.passed,
            &mut ctx.observed,
        );
        match resumed {
            Decision::Proxy(proxied) => match ctx.take(&self.live, session, proxied)? {
                Some(max) => buffer(session, max, &ctx.counting).await,
                None => Ok(false),
            },
            Decision::Answer(answer) => ctx.send(&self.live, session, answer).await,
            Decision::Ask(..) => {
                Error::e_explain(InternalError, "a request is decided about twice")
            }
        }
    }

    /// Asks the service of a route about a request, and returns the fields for the server.
    async fn question(
        &self,
        ctx: &Ctx,
        question: &RequestHeader,
        (site, route): (usize, usize),
    ) -> Result<Fields, Box<Answer>> {
        let running = &*ctx.running;
        let gate = running.plan.sites[site].routes[route].gate.as_ref();
        let Some(auth) = gate.and_then(|gate| gate.forward.as_ref()) else {
            return Ok(Vec::new());
        };
        let connector = self.connector.get_or_init(|| Connector::new(None));
        let asked = forward_auth::ask(auth, question, &self.live, running, connector).await;
        if asked.is_err() {
            gate::count(Rule::ForwardAuth, &ctx.counting);
        }
        asked
    }
}

impl Edge {
    /// Does with a request what its route says.
    pub(super) fn serve<'a>(
        &'a self,
        session: &'a mut Session,
        ctx: &'a mut Ctx,
    ) -> Pin<Box<dyn Future<Output = Result<bool>> + Send + 'a>> {
        let running = &ctx.running;
        let decision = decide(
            &self.live,
            running,
            session,
            &mut ctx.counting,
            &mut ctx.passed,
            &mut ctx.observed,
        );
        ctx.observed.capture(running, session);
        match decision {
            Decision::Proxy(proxied) => match ctx.take(&self.live, session, proxied) {
                Ok(None) => ready(|| Ok(false)),
                Ok(Some(max)) => Box::pin(buffer(session, max, &ctx.counting)),
                Err(e) => Box::pin(async move { Err(e) }),
            },
            Decision::Answer(mut answer) => {
                if answer.wants_page() {
                    answer =
                        pages::told(answer, &self.live, &ctx.running, session, &mut ctx.observed);
                }
                Box::pin(async move {
                    let sent = answer.send(session, ctx.compression());
                    sent.await.map(|()| true)
                })
            }
            Decision::Ask(ask) => Box::pin(self.ask(session, ctx, ask)),
        }
    }
}

/// Reads a request body whole.
async fn buffer(session: &mut Session, max: usize, counting: &Counting) -> Result<bool> {
    let read = session.buffer_request_body(max).await;
    read.map(|_| false).inspect_err(|e| {
        if *e.etype() == HTTPStatus(413) {
            counting.limited(Limit::Size);
        }
    })
}
