use std::sync::OnceLock;
use std::time::Duration;

use bytes::Bytes;
use pingora_cache::key::CacheKey;
use pingora_cache::lock::{CacheKeyLock, CacheKeyLockImpl, CacheLock, LockStatus, Locked};
use pingora_cache::lock::{ReadLock, WritePermit};
use pingora_core::protocols::http::HttpTask;
use pingora_error::{Error, ErrorType};
use tokio::sync::mpsc;

use super::pipe::{InputBody, InputBodyType, PipeSubrequestError, PipeSubrequestState, SavedBody};
use super::{BodyMode, Ctx, CtxBuilder};

fn cache_lock() -> &'static CacheLock {
    static LOCK: OnceLock<CacheLock> = OnceLock::new();
    LOCK.get_or_init(|| CacheLock::new(Duration::from_secs(60)))
}

fn write_permit(key: &CacheKey) -> WritePermit {
    match cache_lock().lock(key, false) {
        Locked::Write(permit) => permit,
        Locked::Read(_) => panic!("{key:?} is locked already"),
    }
}

fn reader(key: &CacheKey) -> ReadLock {
    match cache_lock().lock(key, false) {
        Locked::Read(reader) => reader,
        Locked::Write(_) => panic!("{key:?} is not locked"),
    }
}

/// A context that holds the write lock on `key`, and a request that waits for it.
fn locked(key: &CacheKey) -> (CtxBuilder, ReadLock) {
    let lock: &'static CacheKeyLockImpl = cache_lock();
    let permit = write_permit(key);
    let builder = Ctx::builder().cache_write_lock(lock, key.clone(), permit);
    (builder, reader(key))
}

/// Whether those who waited were told to compete for the lock, and one gets it.
#[track_caller]
fn assert_released(key: &CacheKey, reader: &ReadLock) {
    assert!(!reader.locked());
    assert_eq!(reader.lock_status(), LockStatus::TransientError);
    let permit = write_permit(key);
    cache_lock().release(key, permit, LockStatus::Done);
}

#[test]
fn a_plain_context_is_empty() {
    for mut ctx in [Ctx::builder().build(), CtxBuilder::default().build()] {
        assert_eq!(ctx.body_mode(), BodyMode::NoBody);
        assert!(ctx.user_ctx().is_none());
        assert!(ctx.user_ctx_mut().is_none());
        assert!(ctx.take_write_lock().is_none());
        ctx.release_write_lock();
    }
    assert_eq!(BodyMode::default(), BodyMode::NoBody);
}

#[test]
fn carries_body_mode_and_user_state() {
    let mut ctx = Ctx::builder()
        .body_mode(BodyMode::ExpectBody)
        .user_ctx(Box::new(1_u32))
        .build();
    assert_eq!(ctx.body_mode(), BodyMode::ExpectBody);
    *ctx.user_ctx_mut().unwrap().downcast_mut::<u32>().unwrap() += 1;
    assert_eq!(ctx.user_ctx().unwrap().downcast_ref(), Some(&2_u32));
}

#[test]
fn the_write_lock_is_handed_out_once() {
    let key = CacheKey::new("handed out", "");
    let (builder, waiting) = locked(&key);
    let mut ctx = builder.build();
    let permit = ctx.take_write_lock().unwrap();
    assert!(ctx.take_write_lock().is_none());
    ctx.release_write_lock();
    drop(ctx);
    // Only who has the permit can end the wait now.
    assert!(waiting.locked());
    assert_eq!(waiting.lock_status(), LockStatus::Waiting);
    cache_lock().release(&key, permit, LockStatus::Done);
    assert_eq!(waiting.lock_status(), LockStatus::Done);
}

#[test]
fn a_lock_is_that_of_its_key() {
    let key = CacheKey::new("its own", "");
    let (builder, _waiting) = locked(&key);
    let mut ctx = builder.build();
    assert!(ctx.locks(&key));
    assert!(!ctx.locks(&CacheKey::new("another's", "")));
    ctx.release_write_lock();
    assert!(!ctx.locks(&key));
}

#[test]
fn the_write_lock_can_be_released() {
    let key = CacheKey::new("released", "");
    let (builder, waiting) = locked(&key);
    let mut ctx = builder.build();
    ctx.release_write_lock();
    assert_released(&key, &waiting);
    assert!(ctx.take_write_lock().is_none());
}

#[test]
fn a_lock_that_nobody_took_does_not_dangle() {
    let key = CacheKey::new("context dropped", "");
    let (builder, waiting) = locked(&key);
    drop(builder.build());
    assert_released(&key, &waiting);

    let key = CacheKey::new("builder dropped", "");
    let (builder, waiting) = locked(&key);
    drop(builder);
    assert_released(&key, &waiting);
}

#[test]
fn a_second_lock_releases_the_first() {
    let (first, second) = (CacheKey::new("first", ""), CacheKey::new("second", ""));
    let (builder, waiting) = locked(&first);
    let permit = write_permit(&second);
    let builder = builder.cache_write_lock(cache_lock(), second.clone(), permit);
    assert_released(&first, &waiting);
    let waiting = reader(&second);
    assert!(waiting.locked());
    drop(builder);
    assert_released(&second, &waiting);
}

#[test]
fn debug_shows_the_key_of_the_lock() {
    let key = CacheKey::new("asset", "");
    let (builder, _waiting) = locked(&key);
    let shown = format!("{:?}", builder.build());
    assert!(shown.contains("held: true"), "{shown}");
}

#[test]
fn a_context_can_cross_threads() {
    fn assert_send_sync<T: Send + Sync>() {}
    assert_send_sync::<Ctx>();
    assert_send_sync::<CtxBuilder>();
    assert_send_sync::<PipeSubrequestState>();
    assert_send_sync::<InputBodyType>();
}

fn pieces(body: InputBody) -> Option<Vec<Bytes>> {
    match body {
        InputBody::Bytes(pieces) => Some(pieces),
        InputBody::NoBody => None,
    }
}

#[test]
fn a_body_is_saved_up_to_the_limit() {
    let mut saved = SavedBody::new(5);
    assert!(saved.save_body_bytes(Bytes::from_static(b"abc")));
    assert!(saved.save_body_bytes(Bytes::new()));
    assert!(saved.save_body_bytes(Bytes::from_static(b"de")));
    assert!(!saved.is_body_complete());
    saved.set_body_complete();
    assert!(saved.is_body_complete());
    assert!(!saved.save_body_bytes(Bytes::new()));
    assert!(saved.is_body_complete());
    assert_eq!(pieces(saved.into()).unwrap(), ["abc", "de"]);
}

#[test]
fn a_body_past_the_limit_is_never_complete() {
    let mut saved = SavedBody::new(4);
    assert!(saved.save_body_bytes(Bytes::from_static(b"abc")));
    assert!(!saved.save_body_bytes(Bytes::from_static(b"de")));
    // It would fit, but what is before it is missing.
    assert!(!saved.save_body_bytes(Bytes::from_static(b"f")));
    saved.set_body_complete();
    assert!(!saved.is_body_complete());
    assert_eq!(pieces(saved.into()).unwrap(), ["abc"]);
}

#[test]
fn a_body_of_no_bytes_is_none() {
    let mut saved = SavedBody::new(0);
    assert!(saved.save_body_bytes(Bytes::new()));
    saved.set_body_complete();
    assert!(saved.is_body_complete());
    assert!(pieces(saved.into()).is_none());
    assert!(!SavedBody::new(0).save_body_bytes(Bytes::from_static(b"a")));
}

#[test]
fn which_bodies_are_empty() {
    let body = |pieces: &[&'static str]| {
        InputBody::Bytes(
            pieces
                .iter()
                .map(|p| Bytes::from_static(p.as_bytes()))
                .collect(),
        )
    };
    assert!(InputBody::NoBody.is_body_empty());
    assert!(body(&[]).is_body_empty());
    assert!(body(&["", ""]).is_body_empty());
    assert!(!body(&["", "a"]).is_body_empty());
}

#[tokio::test]
async fn an_error_takes_the_state_along() {
    let (tx, rx) = mpsc::channel(1);
    let mut saved = SavedBody::new(8);
    assert!(saved.save_body_bytes(Bytes::from_static(b"abc")));
    let mut state = PipeSubrequestState {
        header_received: true,
        pipe_rx: Some(rx),
        join_handle: Some(tokio::spawn(async move {
            let task = HttpTask::Body(Some(Bytes::from_static(b"rest")), true);
            assert!(tx.send(task).await.is_ok());
        })),
        saved_body: Some(saved),
    };

    let error = Error::explain(ErrorType::WriteError, "the client has gone");
    let mut e = PipeSubrequestError::new(error, false, state.snapshot_for_error());
    assert!(state.header_received);
    assert!(state.pipe_rx.is_none() && state.join_handle.is_none() && state.saved_body.is_none());

    assert_eq!(e.error.etype(), &ErrorType::WriteError);
    assert!(!e.from_subreq);
    assert!(e.state.header_received);
    let rest = e.state.pipe_rx.as_mut().unwrap().recv().await;
    assert!(matches!(rest, Some(HttpTask::Body(Some(b), true)) if b == "rest"));
    e.state.join_handle.unwrap().await.unwrap();
    let body = InputBody::from(e.state.saved_body.unwrap());
    assert_eq!(pieces(body).unwrap(), ["abc"]);
}

#[test]
fn a_fresh_state_has_nothing() {
    let state = PipeSubrequestState::default();
    assert!(!state.header_received);
    assert!(state.pipe_rx.is_none() && state.join_handle.is_none() && state.saved_body.is_none());
}
