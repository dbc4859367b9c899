//! Response compression as a module.

use std::any::Any;
use std::future::Future;
use std::ops::{Deref, DerefMut};
use std::pin::Pin;

use bytes::Bytes;
use http::HeaderMap;
use pingora_error::Result;
use pingora_http::{RequestHeader, ResponseHeader};

use super::{HttpModule, HttpModuleBuilder, Module, ModuleBuilder};
use crate::protocols::http::compression::ResponseCompressionCtx;
use crate::utils::ready::ReadyOk;

/// Compresses the response to a client; it dereferences to the settings of this one response.
///
/// Settings have to be made before the module sees the request header, that is in
/// `early_request_filter`.
pub struct ResponseCompression(ResponseCompressionCtx);

impl Deref for ResponseCompression {
    type Target = ResponseCompressionCtx;

    fn deref(&self) -> &Self::Target {
        &self.0
    }
}

impl DerefMut for ResponseCompression {
    fn deref_mut(&mut self) -> &mut Self::Target {
        &mut self.0
    }
}

impl HttpModule for ResponseCompression {
    fn request_header_filter<'life0, 'life1, 'async_trait>(
        &'life0 mut self,
        req: &'life1 mut RequestHeader,
    ) -> Pin<Box<dyn Future<Output = Result<()>> + Send + 'async_trait>>
    where
        'life0: 'async_trait,
        'life1: 'async_trait,
        Self: Send + 'async_trait,
    {
        self.0.request_filter(req);
        Box::pin(ReadyOk)
    }

    fn response_header_filter<'life0, 'life1, 'async_trait>(
        &'life0 mut self,
        resp: &'life1 mut ResponseHeader,
        end_of_stream: bool,
    ) -> Pin<Box<dyn Future<Output = Result<()>> + Send + 'async_trait>>
    where
        'life0: 'async_trait,
        'life1: 'async_trait,
        Self: Send + 'async_trait,
    {
        self.0.response_header_filter(resp, end_of_stream);
        Box::pin(ReadyOk)
    }

    fn response_body_filter(
        &mut self,
        body: &mut Option<Bytes>,
        end_of_stream: bool,
    ) -> Result<()> {
        if let Some(result) = self.0.transform(body.as_ref(), end_of_stream) {
            // Nothing to send yet is not an empty chunk.
            *body = Some(result?).filter(|bytes| !bytes.is_empty());
        }
        Ok(())
    }

    fn response_body_step(
        &mut self,
        body: &mut Option<Bytes>,
        end_of_stream: bool,
    ) -> Result<bool> {
        if let Some(result) = self.0.step(body.as_ref(), end_of_stream) {
            *body = Some(result?.0).filter(|bytes| !bytes.is_empty());
        }
        Ok(self.0.is_pending())
    }

    /// A compressed body has bytes left at its end. They take the place of the trailers, which
    /// a body that cannot be decoded would be a high price for.
    fn response_trailer_filter(
        &mut self,
        _trailers: &mut Option<Box<HeaderMap>>,
    ) -> Result<Option<Bytes>> {
        self.response_done_filter()
    }

    fn response_done_filter(&mut self) -> Result<Option<Bytes>> {
        let last = self.0.finish().transpose()?;
        Ok(last.filter(|bytes| !bytes.is_empty()))
    }

    fn as_any(&self) -> &dyn Any {
        self
    }

    fn as_any_mut(&mut self) -> &mut dyn Any {
        self
    }
}

/// Adds response compression to a proxy.
pub struct ResponseCompressionBuilder {
    level: u32,
}

impl ResponseCompressionBuilder {
    /// Compression with this level for all algorithms. With level 0 it is off, at next to no
    /// cost, and can be turned on for single requests.
    pub fn enable(level: u32) -> ModuleBuilder {
        Box::new(ResponseCompressionBuilder { level })
    }
}

impl HttpModuleBuilder for ResponseCompressionBuilder {
    /// After most others, so that they see bodies that are not compressed.
    fn order(&self) -> i16 {
        i16::MIN / 2
    }

    fn init(&self) -> Module {
        module(self.level)
    }

    fn dormant(&self) -> Option<fn() -> Module> {
        (self.level == 0).then_some(|| module(0))
    }
}

fn module(level: u32) -> Module {
    let ctx = ResponseCompressionCtx::new(level, false, false);
    Box::new(ResponseCompression(ctx))
}
