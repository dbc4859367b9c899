//! The gRPC-web bridge as a module.

use std::any::Any;
use std::future::Future;
use std::ops::{Deref, DerefMut};
use std::pin::Pin;

use bytes::Bytes;
use http::HeaderMap;
use pingora_error::Result;
use pingora_http::{RequestHeader, ResponseHeader};

use super::{HttpModule, HttpModuleBuilder, Module};
use crate::protocols::http::bridge::grpc_web::GrpcWebCtx;
use crate::utils::ready::ReadyOk;

/// Lets gRPC-web clients reach gRPC origins.
///
/// It does so for the requests for which [`init`](GrpcWebCtx::init) was called before the module
/// sees the request header, that is in `early_request_filter`.
#[derive(Default)]
pub struct GrpcWebBridge(GrpcWebCtx);

impl Deref for GrpcWebBridge {
    type Target = GrpcWebCtx;

    fn deref(&self) -> &Self::Target {
        &self.0
    }
}

impl DerefMut for GrpcWebBridge {
    fn deref_mut(&mut self) -> &mut Self::Target {
        &mut self.0
    }
}

impl HttpModule for GrpcWebBridge {
    fn request_header_filter<'life0, 'life1, 'async_trait>(
        &'life0 mut self,
        req: &'life1 mut RequestHeader,
    ) -> Pin<Box<dyn Future<Output = Result<()>> + Send + 'async_trait>>
    where
        'life0: 'async_trait,
        'life1: 'async_trait,
        Self: Send + 'async_trait,
    {
        self.0.request_header_filter(req);
        Box::pin(ReadyOk)
    }

    fn response_header_filter<'life0, 'life1, 'async_trait>(
        &'life0 mut self,
        resp: &'life1 mut ResponseHeader,
        _end_of_stream: bool,
    ) -> Pin<Box<dyn Future<Output = Result<()>> + Send + 'async_trait>>
    where
        'life0: 'async_trait,
        'life1: 'async_trait,
        Self: Send + 'async_trait,
    {
        self.0.response_header_filter(resp);
        Box::pin(ReadyOk)
    }

    fn response_trailer_filter(
        &mut self,
        trailers: &mut Option<Box<HeaderMap>>,
    ) -> Result<Option<Bytes>> {
        match trailers {
            Some(trailers) => self.0.response_trailer_filter(trailers),
            None => Ok(None),
        }
    }

    fn as_any(&self) -> &dyn Any {
        self
    }

    fn as_any_mut(&mut self) -> &mut dyn Any {
        self
    }
}

/// Adds the gRPC-web bridge to a proxy.
pub struct GrpcWeb;

impl HttpModuleBuilder for GrpcWeb {
    fn init(&self) -> Module {
        Box::new(GrpcWebBridge::default())
    }
}
