//! Subrequests: requests that the proxy makes to itself on behalf of another one.

use std::any::Any;
use std::fmt;

use pingora_cache::key::{CacheHashKey, CacheKey};
use pingora_cache::lock::{CacheKeyLockImpl, LockStatus, WritePermit};

pub mod pipe;
pub(crate) mod spawner;

#[cfg(test)]
mod tests;

/// State of the user's own that goes with a subrequest.
pub type UserCtx = Box<dyn Any + Sync + Send>;

/// The choice whether a subrequest is given a request body.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum BodyMode {
    /// It has none: a body that the header announces is not waited for.
    #[default]
    NoBody,
    /// One is passed in, framed as the header says.
    ExpectBody,
}

/// The context of a subrequest besides its header.
///
/// A write lock that the subrequest does not [take](Ctx::take_write_lock) is released with this.
#[derive(Debug)]
pub struct Ctx {
    body_mode: BodyMode,
    write_lock: Option<WriteLock>,
    user_ctx: Option<UserCtx>,
}

impl Ctx {
    /// Starts a context without body, lock and user state.
    pub fn builder() -> CtxBuilder {
        CtxBuilder::new()
    }

    /// Returns whether the subrequest is given a request body.
    pub fn body_mode(&self) -> BodyMode {
        self.body_mode
    }

    /// The user's state, if there is some.
    pub fn user_ctx(&self) -> Option<&UserCtx> {
        self.user_ctx.as_ref()
    }

    /// The user's state, to change it.
    pub fn user_ctx_mut(&mut self) -> Option<&mut UserCtx> {
        self.user_ctx.as_mut()
    }

    /// Hands out the permit to write the cache, once. Whoever has it has to release the lock.
    pub fn take_write_lock(&mut self) -> Option<WritePermit> {
        self.write_lock.take()?.permit.take()
    }

    /// Returns whether a lock was handed over with this, and is not handed out.
    pub(crate) fn has_write_lock(&self) -> bool {
        self.write_lock.is_some()
    }

    /// Returns whether this holds the lock on `key`.
    pub(crate) fn locks(&self, key: &CacheKey) -> bool {
        let held = self
            .write_lock
            .as_ref()
            .filter(|lock| lock.permit.is_some());
        held.is_some_and(|lock| lock.key.combined_bin() == key.combined_bin())
    }

    /// Releases the cache lock, if this still holds it, so that a request that waits for it can write
    /// instead.
    pub fn release_write_lock(&mut self) {
        self.write_lock = None;
    }
}

/// Makes a [`Ctx`].
#[derive(Debug, Default)]
pub struct CtxBuilder {
    body_mode: BodyMode,
    write_lock: Option<WriteLock>,
    user_ctx: Option<UserCtx>,
}

impl CtxBuilder {
    /// Starts a context without body, lock and user state.
    pub fn new() -> Self {
        Self::default()
    }

    /// Says whether the subrequest is given a request body; by default it is not.
    pub fn body_mode(mut self, body_mode: BodyMode) -> Self {
        self.body_mode = body_mode;
        self
    }

    /// Hands over the lock on `key` that the subrequest is to write the cache under. `write_permit` is
    /// the one that `cache_lock` granted for `key`; one that was handed over before is released.
    pub fn cache_write_lock(
        mut self,
        cache_lock: &'static CacheKeyLockImpl,
        key: CacheKey,
        write_permit: WritePermit,
    ) -> Self {
        self.write_lock = Some(WriteLock {
            cache_lock,
            key,
            permit: Some(write_permit),
        });
        self
    }

    /// Adds state of the user's own.
    pub fn user_ctx(mut self, user_ctx: UserCtx) -> Self {
        self.user_ctx = Some(user_ctx);
        self
    }

    /// The context.
    pub fn build(self) -> Ctx {
        Ctx {
            body_mode: self.body_mode,
            write_lock: self.write_lock,
            user_ctx: self.user_ctx,
        }
    }
}

/// A cache lock that is held, and released on drop: a permit that is merely dropped would leave those
/// who wait with a dangling lock.
struct WriteLock {
    cache_lock: &'static CacheKeyLockImpl,
    key: CacheKey,
    permit: Option<WritePermit>,
}

impl Drop for WriteLock {
    fn drop(&mut self) {
        if let Some(permit) = self.permit.take() {
            // Nothing was learnt of the asset: the next one may try.
            self.cache_lock
                .release(&self.key, permit, LockStatus::TransientError);
        }
    }
}

impl fmt::Debug for WriteLock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WriteLock")
            .field("key", &self.key)
            .field("held", &self.permit.is_some())
            .finish_non_exhaustive()
    }
}
