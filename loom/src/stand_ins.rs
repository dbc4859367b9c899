//! The pieces of other crates that the files under test take, made of loom's where threads share them. Those crates have
//! tests of their own.

/// The lock of `parking_lot`.
#[derive(Debug, Default)]
pub struct Mutex<T>(loom::sync::Mutex<T>);

impl<T> Mutex<T> {
    pub fn new(value: T) -> Self {
        Mutex(loom::sync::Mutex::new(value))
    }

    pub fn lock(&self) -> loom::sync::MutexGuard<'_, T> {
        self.0.lock().unwrap()
    }
}

/// The lock of `spin`.
pub mod mutex {
    use std::marker::PhantomData;

    pub struct SpinMutex<T, R>(super::Mutex<T>, PhantomData<R>);

    impl<T, R> SpinMutex<T, R> {
        pub fn new(value: T) -> Self {
            SpinMutex(super::Mutex::new(value), PhantomData)
        }

        pub fn lock(&self) -> loom::sync::MutexGuard<'_, T> {
            self.0.lock()
        }
    }
}

/// The way of `spin` to wait.
pub struct Yield;

/// The runtime of `tokio`: there always is a runtime, and no time passes.
pub mod runtime {
    pub struct Handle;

    impl Handle {
        pub fn try_current() -> Result<Self, ()> {
            Ok(Handle)
        }
    }
}

/// The time of `tokio`.
pub mod time {
    pub use std::time::Instant;

    pub async fn sleep(_: std::time::Duration) {}
}

/// The channels of `tokio`.
pub mod sync {
    pub mod watch;
}
