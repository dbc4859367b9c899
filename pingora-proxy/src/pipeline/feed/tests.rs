use super::*;
use bytes::Bytes;
use futures::task::noop_waker;
use pingora_cache::{CacheKey, CacheMeta, MemCache};
use pingora_http::ResponseHeader;
use std::time::{Duration, SystemTime};

async fn begun() -> (HttpCache, Feed) {
    let mut cache = HttpCache::new();
    cache.enable(Box::leak(Box::new(MemCache::new())), None, None, None, None);
    cache.set_cache_key(CacheKey::new("/", ""));
    cache.cache_miss();
    let now = SystemTime::now();
    let header = ResponseHeader::build(200, None).unwrap();
    cache.set_cache_meta(CacheMeta::new(
        now + Duration::from_secs(9),
        now,
        0,
        0,
        header,
    ));
    cache.set_miss_handler().await.unwrap();
    let feed = Feed::of(&mut cache).unwrap();
    (cache, feed)
}

fn poll(feed: &mut Feed) -> Poll<Result<HttpTask>> {
    feed.poll_task(&mut Context::from_waker(&noop_waker()))
}

fn body(polled: Poll<Result<HttpTask>>) -> (Vec<u8>, bool) {
    match polled {
        Poll::Ready(Ok(HttpTask::Body(body, end))) => (body.unwrap_or_default().to_vec(), end),
        other => panic!("{:?}", other.is_pending()),
    }
}

async fn write(cache: &mut HttpCache, feed: &mut Feed, piece: &'static str, end: bool) {
    let handler = cache.miss_handler().unwrap();
    let data = Bytes::from_static(piece.as_bytes());
    handler.write_body(data, end).await.unwrap();
    feed.stored(piece.len(), end);
}

#[tokio::test]
async fn what_is_written_is_read_and_then_the_end() {
    let (mut cache, mut feed) = begun().await;
    assert!(poll(&mut feed).is_pending());
    write(&mut cache, &mut feed, "ab", false).await;
    assert_eq!(body(poll(&mut feed)), (b"ab".to_vec(), false));
    assert!(poll(&mut feed).is_pending());
    write(&mut cache, &mut feed, "c", true).await;
    cache.finish_miss_handler().await.unwrap();
    assert_eq!(body(poll(&mut feed)), (b"c".to_vec(), false));
    assert_eq!(body(poll(&mut feed)), (Vec::new(), true));
    feed.finish(&mut cache).await.unwrap();
}

#[tokio::test]
async fn a_writer_that_is_gone_is_no_end_of_a_response() {
    let (mut cache, mut feed) = begun().await;
    write(&mut cache, &mut feed, "ab", false).await;
    cache.disable(pingora_cache::NoCacheReason::UpstreamError);
    assert_eq!(body(poll(&mut feed)), (b"ab".to_vec(), false));
    assert!(matches!(poll(&mut feed), Poll::Ready(Err(_))));
}

#[tokio::test]
async fn what_was_not_stored_follows_what_was() {
    let (mut cache, mut feed) = begun().await;
    write(&mut cache, &mut feed, "ab", false).await;
    cache.disable(pingora_cache::NoCacheReason::StorageError);
    let large = Bytes::from(vec![b'x'; QUEUE]);
    feed.follow(HttpTask::Body(Some(large), false));
    assert!(!feed.has_room());
    assert_eq!(body(poll(&mut feed)), (b"ab".to_vec(), false));
    assert_eq!(body(poll(&mut feed)).0.len(), QUEUE);
    assert!(feed.has_room() && poll(&mut feed).is_pending());
    feed.follow(HttpTask::Body(None, true));
    assert_eq!(body(poll(&mut feed)), (Vec::new(), true));
}

#[tokio::test]
async fn a_piece_that_was_taken_before_the_storage_failed_comes_once() {
    let (mut cache, mut feed) = begun().await;
    write(&mut cache, &mut feed, "ab", false).await;
    let last = Bytes::from_static(b"c");
    let handler = cache.miss_handler().unwrap();
    handler.write_body(last.clone(), true).await.unwrap();
    cache.disable(pingora_cache::NoCacheReason::StorageError);
    feed.follow(HttpTask::Body(Some(last), true));
    assert_eq!(body(poll(&mut feed)), (b"ab".to_vec(), false));
    assert_eq!(body(poll(&mut feed)), (b"c".to_vec(), true));
}
