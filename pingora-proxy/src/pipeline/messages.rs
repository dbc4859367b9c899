//! Custom messages.

use std::task::{ready, Context, Poll};

use bytes::Bytes;
use pingora_core::connectors::http::custom;
use pingora_core::exchange::custom::{MessageFrom, Messages};
use pingora_error::Result;

use super::Phases;
use crate::ProxyHttp;

/// Which sides speak a protocol of the user's own.
#[derive(Clone, Copy)]
pub(crate) struct Hops {
    pub(crate) downstream: bool,
    pub(crate) upstream: bool,
}

/// The messages of an exchange, and the one that has its turn.
pub(super) struct Passing<'a> {
    messages: &'a mut Messages,
    hops: Hops,
    came: Option<(MessageFrom, Bytes)>,
}

impl<'a, SV, C> Phases<'a, SV, C>
where
    SV: ProxyHttp + Send + Sync + 'static,
    SV::CTX: Send + Sync,
    C: custom::Connector,
{
    pub(crate) fn with_messages(mut self, messages: &'a mut Messages, hops: Hops) -> Self {
        self.rare.get_or_insert_default().messages = Some(Passing {
            messages,
            hops,
            came: None,
        });
        self
    }

    pub(super) fn next_message(&mut self, cx: &mut Context<'_>) -> Poll<Result<()>> {
        let Some(passing) = self.messages() else {
            return Poll::Pending;
        };
        passing.came = Some(ready!(passing.messages.poll_message(cx))?);
        Poll::Ready(Ok(()))
    }

    pub(super) fn messages_sent(&mut self, cx: &mut Context<'_>) -> Poll<Result<()>> {
        match self.messages() {
            Some(passing) => passing.messages.poll_sent(cx),
            None => Poll::Ready(Ok(())),
        }
    }

    pub(super) async fn filter_message(&mut self) -> Result<()> {
        let messages = self.rare.as_mut().and_then(|rare| rare.messages.as_mut());
        let Some(passing) = messages else {
            return Ok(());
        };
        let Some((from, message)) = passing.came.take() else {
            return Ok(());
        };
        let (inner, session, ctx) = (&self.proxy.inner, &mut *self.session, &mut *self.ctx);
        let filtered = match from {
            MessageFrom::Downstream => {
                let last = !passing.hops.upstream;
                inner.downstream_custom_message_proxy_filter(session, message, ctx, last)
            }
            MessageFrom::Upstream => {
                let last = !passing.hops.downstream;
                inner.upstream_custom_message_proxy_filter(session, message, ctx, last)
            }
        };
        if let Some(message) = filtered.await? {
            passing.messages.pass(from, message);
        }
        Ok(())
    }
}
