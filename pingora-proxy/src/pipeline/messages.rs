//! Custom messages.

use std::task::{ready, Context, Poll};

use bytes::Bytes;
use pingora_core::connectors::http::custom;
use pingora_core::exchange::custom::MessageFrom;
use pingora_error::Result;

use super::Phases;
use crate::ProxyHttp;

/// The sides that speak a protocol of the user's own.
#[derive(Clone, Copy)]
pub(crate) struct Hops {
    pub(crate) downstream: bool,
    pub(crate) upstream: bool,
}

/// The message of an exchange that has its turn.
pub(super) struct Passing {
    hops: Hops,
    came: Option<(MessageFrom, Bytes)>,
}

impl<SV, C> Phases<'_, SV, C>
where
    SV: ProxyHttp + Send + Sync + 'static,
    SV::CTX: Send + Sync,
    C: custom::Connector,
{
    /// With the custom messages of the session.
    pub(crate) fn with_messages(mut self, hops: Hops) -> Self {
        let passing = Passing { hops, came: None };
        self.rare.get_or_insert_default().messages = Some(passing);
        self
    }

    fn passing(&mut self) -> Option<&mut Passing> {
        self.rare.as_mut()?.messages.as_mut()
    }

    pub(super) fn next_message(&mut self, cx: &mut Context<'_>) -> Poll<Result<()>> {
        let Some(messages) = &mut self.session.messages else {
            return Poll::Pending;
        };
        let came = ready!(messages.poll_message(cx))?;
        if let Some(passing) = self.passing() {
            passing.came = Some(came);
        }
        Poll::Ready(Ok(()))
    }

    pub(super) fn messages_sent(&mut self, cx: &mut Context<'_>) -> Poll<Result<()>> {
        match &mut self.session.messages {
            Some(messages) => messages.poll_sent(cx),
            None => Poll::Ready(Ok(())),
        }
    }

    pub(super) async fn filter_message(&mut self) -> Result<()> {
        let Some(passing) = self.passing() else {
            return Ok(());
        };
        let hops = passing.hops;
        let Some((from, message)) = passing.came.take() else {
            return Ok(());
        };
        let (inner, session, ctx) = (&self.proxy.inner, &mut *self.session, &mut *self.ctx);
        let filtered = match from {
            MessageFrom::Downstream => {
                let last = !hops.upstream;
                inner.downstream_custom_message_proxy_filter(session, message, ctx, last)
            }
            MessageFrom::Upstream => {
                let last = !hops.downstream;
                inner.upstream_custom_message_proxy_filter(session, message, ctx, last)
            }
        };
        let passed = filtered.await?;
        if let (Some(message), Some(messages)) = (passed, &mut self.session.messages) {
            messages.pass(from, message);
        }
        Ok(())
    }
}
