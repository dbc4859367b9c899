//! HTTP modules: code that looks at the requests and responses of a proxy and may change them.
//!
//! A [`HttpModuleBuilder`] belongs to the proxy and makes a [`HttpModule`] for every request. The
//! modules of a request form its [`HttpModuleCtx`], where the proxy's callbacks find them by
//! type.

use std::any::Any;
use std::future::Future;
use std::pin::Pin;
use std::sync::OnceLock;

use bytes::Bytes;
use http::HeaderMap;
use pingora_error::Result;
use pingora_http::{RequestHeader, ResponseHeader};

use crate::utils::ready::ReadyOk;

pub mod compression;
pub mod grpc_web;

/// A module of one request.
///
/// Implementations that are `async` write the asynchronous methods with `#[async_trait]`. The
/// default of every method passes everything on unchanged, and allocates nothing.
pub trait HttpModule {
    /// Sees the request header before it is acted upon.
    ///
    /// # Errors
    ///
    /// An error ends the request.
    fn request_header_filter<'life0, 'life1, 'async_trait>(
        &'life0 mut self,
        _req: &'life1 mut RequestHeader,
    ) -> Pin<Box<dyn Future<Output = Result<()>> + Send + 'async_trait>>
    where
        'life0: 'async_trait,
        'life1: 'async_trait,
        Self: Send + 'async_trait,
    {
        Box::pin(ReadyOk)
    }

    /// Sees each chunk of the request body, the last one if `end_of_stream`.
    ///
    /// # Errors
    ///
    /// An error ends the request.
    fn request_body_filter<'life0, 'life1, 'async_trait>(
        &'life0 mut self,
        _body: &'life1 mut Option<Bytes>,
        _end_of_stream: bool,
    ) -> Pin<Box<dyn Future<Output = Result<()>> + Send + 'async_trait>>
    where
        'life0: 'async_trait,
        'life1: 'async_trait,
        Self: Send + 'async_trait,
    {
        Box::pin(ReadyOk)
    }

    /// Sees each response header; no body follows if `end_of_stream`.
    ///
    /// # Errors
    ///
    /// An error ends the response.
    fn response_header_filter<'life0, 'life1, 'async_trait>(
        &'life0 mut self,
        _resp: &'life1 mut ResponseHeader,
        _end_of_stream: bool,
    ) -> Pin<Box<dyn Future<Output = Result<()>> + Send + 'async_trait>>
    where
        'life0: 'async_trait,
        'life1: 'async_trait,
        Self: Send + 'async_trait,
    {
        Box::pin(ReadyOk)
    }

    /// Sees each chunk of the response body, the last one if `end_of_stream`.
    ///
    /// # Errors
    ///
    /// An error ends the response.
    fn response_body_filter(
        &mut self,
        _body: &mut Option<Bytes>,
        _end_of_stream: bool,
    ) -> Result<()> {
        Ok(())
    }

    /// [`response_body_filter`](HttpModule::response_body_filter), of which a chunk that becomes much larger may become
    /// several. `true` says that there is more, for further calls with no chunk and the same `end_of_stream`.
    ///
    /// # Errors
    ///
    /// An error ends the response.
    fn response_body_step(
        &mut self,
        body: &mut Option<Bytes>,
        end_of_stream: bool,
    ) -> Result<bool> {
        self.response_body_filter(body, end_of_stream)?;
        Ok(false)
    }

    /// Sees the trailers of the response; bytes that it returns are the end of the body, and are
    /// sent in place of the trailers.
    ///
    /// # Errors
    ///
    /// An error ends the response.
    fn response_trailer_filter(
        &mut self,
        _trailers: &mut Option<Box<HeaderMap>>,
    ) -> Result<Option<Bytes>> {
        Ok(None)
    }

    /// Is called when the response is over, after its last chunk too; bytes that it returns are the
    /// end of the body. So a module returns what it has kept, and nothing if it has ended the body
    /// in [`response_body_filter`](Self::response_body_filter) already.
    ///
    /// # Errors
    ///
    /// An error ends the response.
    fn response_done_filter(&mut self) -> Result<Option<Bytes>> {
        Ok(None)
    }

    /// `self`, for [`HttpModuleCtx::get`].
    fn as_any(&self) -> &dyn Any;

    /// `self`, for [`HttpModuleCtx::get_mut`].
    fn as_any_mut(&mut self) -> &mut dyn Any;
}

/// A module of one request, of whatever type.
pub type Module = Box<dyn HttpModule + 'static + Send + Sync>;

/// Makes the modules of requests.
pub trait HttpModuleBuilder {
    /// The place among the modules: the higher, the earlier it sees requests and responses.
    ///
    /// Modules of equal order run in the order in which they were added. What transforms bodies
    /// last of all, as compression does, has a low order.
    fn order(&self) -> i16 {
        0
    }

    /// The module for a new request.
    fn init(&self) -> Module;

    /// Returns how to make a module that does nothing unless a request asks for it by [`HttpModuleCtx::get_mut`], so
    /// that it need not be made for those that do not.
    fn dormant(&self) -> Option<fn() -> Module> {
        None
    }
}

/// A builder of whatever type.
pub type ModuleBuilder = Box<dyn HttpModuleBuilder + 'static + Send + Sync>;

/// The modules of a proxy.
#[derive(Default)]
pub struct HttpModules {
    /// By order, highest first.
    builders: Vec<ModuleBuilder>,
}

impl HttpModules {
    /// No modules.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a module, at the place that its order gives it.
    ///
    /// If two builders make modules of the same type, both run, and
    /// [`get`](HttpModuleCtx::get) finds the earlier one.
    pub fn add_module(&mut self, builder: ModuleBuilder) {
        let order = builder.order();
        let at = self
            .builders
            .partition_point(|earlier| earlier.order() >= order);
        self.builders.insert(at, builder);
    }

    /// The modules for a new request.
    pub fn build_ctx(&self) -> HttpModuleCtx {
        let modules = match &self.builders[..] {
            [] => Modules::None,
            [only] => match only.dormant() {
                Some(make) => Modules::Dormant(make, OnceLock::new()),
                None => Modules::One(only.init()),
            },
            several => Modules::Several(several.iter().map(|builder| builder.init()).collect()),
        };
        HttpModuleCtx {
            modules,
            pending: None,
        }
    }
}

/// The modules of one request, in the order in which they run.
pub struct HttpModuleCtx {
    modules: Modules,
    pending: Option<Pending>,
}

/// A module that has more of a chunk of the response body.
#[derive(Clone, Copy)]
struct Pending {
    module: u8,
    /// True if the chunk was the last one.
    end: bool,
}

/// Most requests have one module, need no list for it, and do not ask for it.
enum Modules {
    None,
    Dormant(fn() -> Module, OnceLock<Module>),
    One(Module),
    Several(Vec<Module>),
}

impl HttpModuleCtx {
    /// No modules; it allocates nothing.
    pub fn empty() -> Self {
        Self {
            modules: Modules::None,
            pending: None,
        }
    }

    /// Returns whether all modules are dormant, so that no filter does anything.
    #[inline]
    pub fn is_dormant(&mut self) -> bool {
        self.awake().is_empty()
    }

    /// The modules, of which none is dormant any longer.
    fn modules(&self) -> &[Module] {
        match &self.modules {
            Modules::None => &[],
            Modules::Dormant(make, module) => std::slice::from_ref(module.get_or_init(make)),
            Modules::One(module) => std::slice::from_ref(module),
            Modules::Several(modules) => modules,
        }
    }

    /// The modules that are not dormant.
    fn awake(&mut self) -> &mut [Module] {
        match &mut self.modules {
            Modules::None => &mut [],
            Modules::Dormant(_, module) => module.get_mut().map_or(&mut [], std::slice::from_mut),
            Modules::One(module) => std::slice::from_mut(module),
            Modules::Several(modules) => modules,
        }
    }

    /// The module of type `T`.
    pub fn get<T: 'static>(&self) -> Option<&T> {
        self.modules()
            .iter()
            .find_map(|module| module.as_any().downcast_ref())
    }

    /// The module of type `T`, to be changed.
    pub fn get_mut<T: 'static>(&mut self) -> Option<&mut T> {
        let _ = self.modules();
        self.awake()
            .iter_mut()
            .find_map(|module| module.as_any_mut().downcast_mut())
    }

    /// Passes the request header through the modules.
    ///
    /// # Errors
    ///
    /// The error of a module; those after it do not run. This holds for all filters.
    pub async fn request_header_filter(&mut self, req: &mut RequestHeader) -> Result<()> {
        for module in self.awake() {
            module.request_header_filter(req).await?;
        }
        Ok(())
    }

    /// Passes a chunk of the request body through the modules.
    ///
    /// # Errors
    ///
    /// The error of a module.
    pub async fn request_body_filter(
        &mut self,
        body: &mut Option<Bytes>,
        end_of_stream: bool,
    ) -> Result<()> {
        for module in self.awake() {
            module.request_body_filter(body, end_of_stream).await?;
        }
        Ok(())
    }

    /// Passes a response header through the modules.
    ///
    /// # Errors
    ///
    /// The error of a module.
    pub async fn response_header_filter(
        &mut self,
        req: &mut ResponseHeader,
        end_of_stream: bool,
    ) -> Result<()> {
        for module in self.awake() {
            module.response_header_filter(req, end_of_stream).await?;
        }
        Ok(())
    }

    /// Passes a chunk of the response body through the modules.
    ///
    /// # Errors
    ///
    /// The error of a module.
    pub fn response_body_filter(
        &mut self,
        body: &mut Option<Bytes>,
        end_of_stream: bool,
    ) -> Result<()> {
        for module in self.awake() {
            module.response_body_filter(body, end_of_stream)?;
        }
        Ok(())
    }

    /// [`response_body_filter`](HttpModuleCtx::response_body_filter), of which a chunk that becomes much larger becomes
    /// several: while [`is_pending`](HttpModuleCtx::is_pending), a call with no chunk yields the next one. Says whether
    /// the body ends with what it leaves in `body`.
    ///
    /// # Errors
    ///
    /// The error of a module.
    pub fn response_body_step(
        &mut self,
        body: &mut Option<Bytes>,
        end_of_stream: bool,
    ) -> Result<bool> {
        let resumed = self.pending.take();
        let (from, mut end) = match resumed {
            None => (0, end_of_stream),
            Some(Pending { module, end }) => (module.into(), end || end_of_stream),
        };
        let mut pending = None;
        for (at, module) in self.awake().iter_mut().enumerate().skip(from) {
            // One module at a time: those after it get its chunks one by one.
            match u8::try_from(at).ok().filter(|_| pending.is_none()) {
                Some(at) => {
                    if module.response_body_step(body, end)? {
                        pending = Some(Pending { module: at, end });
                        end = false;
                    }
                }
                None => module.response_body_filter(body, end)?,
            }
        }
        self.pending = pending;
        Ok(end)
    }

    /// Returns whether a module has more of the last chunk of the response body.
    #[inline]
    pub fn is_pending(&self) -> bool {
        self.pending.is_some()
    }

    /// Passes the trailers of the response through the modules.
    ///
    /// Bytes are the end of the body, to be sent in place of the trailers. The modules after the
    /// one that made them see them as the last chunk.
    ///
    /// # Errors
    ///
    /// The error of a module.
    pub fn response_trailer_filter(
        &mut self,
        trailers: &mut Option<Box<HeaderMap>>,
    ) -> Result<Option<Bytes>> {
        self.end_filter(|module| module.response_trailer_filter(trailers))
    }

    /// Tells the modules that the response is over.
    ///
    /// Bytes are the end of the body. The modules after the one that made them see them as the
    /// last chunk.
    ///
    /// # Errors
    ///
    /// The error of a module.
    pub fn response_done_filter(&mut self) -> Result<Option<Bytes>> {
        self.end_filter(|module| module.response_done_filter())
    }

    fn end_filter(
        &mut self,
        mut end_of: impl FnMut(&mut Module) -> Result<Option<Bytes>>,
    ) -> Result<Option<Bytes>> {
        let mut modules = self.awake().iter_mut();
        while let Some(module) = modules.next() {
            if let Some(last) = end_of(module)? {
                let mut last = Some(last);
                for module in modules {
                    module.response_body_filter(&mut last, true)?;
                }
                // The trailers are gone even if a later module kept the bytes to itself.
                return Ok(Some(last.unwrap_or_default()));
            }
        }
        Ok(None)
    }
}

#[cfg(test)]
mod tests;
