use std::collections::VecDeque;
use std::ops::Range;
use std::sync::{Arc, Mutex};

use tokio::sync::Notify;

use super::*;
use crate::RangeType;

/// What a storage does next.
enum Step {
    Piece(&'static [u8]),
    /// Waits to be woken.
    Wait,
    Fail,
    Panic,
}
use Step::*;

/// A handler that follows a script, and notes what it was asked to seek.
struct Scripted {
    steps: VecDeque<Step>,
    woken: Arc<Notify>,
    sought: Arc<Mutex<Vec<Range<usize>>>>,
}

#[async_trait]
impl HandleHit for Scripted {
    async fn read_body(&mut self) -> Result<Option<Bytes>> {
        loop {
            match self.steps.pop_front() {
                None => return Ok(None),
                Some(Piece(piece)) => return Ok(Some(Bytes::from_static(piece))),
                Some(Wait) => self.woken.notified().await,
                Some(Fail) => return Error::e_explain(InternalError, "as asked"),
                Some(Panic) => panic!("as asked"),
            }
        }
    }

    async fn finish(
        self: Box<Self>,
        _: &'static (dyn Storage + Sync),
        _: &CacheKey,
        _: &SpanHandle,
    ) -> Result<()> {
        Ok(())
    }

    fn can_seek(&self) -> bool {
        true
    }

    fn seek(&mut self, start: usize, end: Option<usize>) -> Result<()> {
        self.sought.lock().unwrap().push(start..end.unwrap());
        Ok(())
    }

    fn as_any(&self) -> &(dyn Any + Send + Sync) {
        self
    }

    fn as_any_mut(&mut self) -> &mut (dyn Any + Send + Sync) {
        self
    }
}

fn scripted(steps: impl IntoIterator<Item = Step>) -> Scripted {
    Scripted {
        steps: steps.into_iter().collect(),
        woken: Arc::default(),
        sought: Arc::default(),
    }
}

/// All of the body up to its end.
async fn read(hit: &mut Hit) -> Result<Vec<u8>> {
    let mut body = Vec::new();
    loop {
        match std::future::poll_fn(|cx| hit.poll_task(cx)).await? {
            HttpTask::Body(piece, end) => {
                body.extend(piece.unwrap_or_default());
                if end {
                    return Ok(body);
                }
            }
            other => panic!("{other:?}"),
        }
    }
}

#[tokio::test]
async fn bodies() {
    let cut = |range| Share::Cut(RangeBodyFilter::new(range));
    type Row = (Vec<Step>, Share, Option<&'static [u8]>);
    let rows: [Row; 12] = [
        (
            vec![Piece(b"ab"), Piece(b"cd")],
            Share::Whole(None),
            Some(b"abcd"),
        ),
        (vec![], Share::Whole(None), Some(b"")),
        (
            vec![Piece(b""), Piece(b"ab")],
            Share::Whole(None),
            Some(b"ab"),
        ),
        // What is whole is not read on.
        (
            vec![Piece(b"ab"), Panic],
            Share::Whole(Some(2)),
            Some(b"ab"),
        ),
        (vec![Piece(b"")], Share::Whole(Some(0)), Some(b"")),
        (vec![Piece(b"abc")], Share::Whole(Some(2)), Some(b"ab")),
        (vec![Piece(b"ab")], Share::Whole(Some(3)), None),
        (vec![Piece(b"ab"), Fail], Share::Whole(None), None),
        (
            vec![Piece(b"ab"), Piece(b"cd"), Piece(b"ef"), Panic],
            cut(RangeType::Single(3..5)),
            Some(b"de"),
        ),
        (vec![Piece(b"ab")], cut(RangeType::Single(1..5)), None),
        (vec![], cut(RangeType::None), Some(b"")),
        (vec![Piece(b"ab")], cut(RangeType::None), Some(b"ab")),
    ];
    for (row, (steps, share, body)) in rows.into_iter().enumerate() {
        let mut hit = Hit::body(Box::new(scripted(steps)), share);
        let got = read(&mut hit).await;
        assert_eq!(got.ok().as_deref(), body, "{row}");
        assert!(hit.into_handler().is_some(), "{row}");
    }
}

#[tokio::test]
async fn a_long_part_is_read_by_windows() {
    static BODY: [u8; 3 * Windows::SIZE] = [b'x'; 3 * Windows::SIZE];
    let (first, last) = (5, 2 * Windows::SIZE + 13);
    let window = Piece(&BODY[..Windows::SIZE]);
    // A storage may have less of a window at a time.
    let half = || Piece(&BODY[..Windows::SIZE / 2]);
    let steps = [window, half(), half(), Piece(&BODY[..8]), Panic];
    let handler = scripted(steps);
    let sought = handler.sought.clone();
    let part = Windows::new(first..last);
    let mut hit = Hit::body(Box::new(handler), Share::Windows(part));
    assert_eq!(read(&mut hit).await.unwrap().len(), last - first);
    let middle = first + Windows::SIZE;
    let expected = [
        first..middle,
        middle..middle + Windows::SIZE,
        middle + Windows::SIZE..last,
    ];
    assert_eq!(*sought.lock().unwrap(), expected);

    let short = scripted([Piece(b"ab")]);
    let mut hit = Hit::body(Box::new(short), Share::Windows(Windows::new(0..3)));
    assert!(read(&mut hit).await.is_err());
    assert!(hit.into_handler().is_some());
}

#[tokio::test]
async fn parts_are_sought() {
    let info = MultiRangeInfo::new(vec![5..7, 1..2]);
    let expected = format!(
        "{}56{}1{}",
        info.part_header(&(5..7)),
        info.part_header(&(1..2)),
        info.end()
    );
    let handler = scripted([Piece(b"5"), Piece(b"6"), Piece(b"1xx")]);
    let sought = handler.sought.clone();
    let mut hit = Hit::body(Box::new(handler), Share::Parts(Parts::new(info.clone())));
    assert_eq!(read(&mut hit).await.unwrap(), expected.as_bytes());
    assert_eq!(*sought.lock().unwrap(), [5..7, 1..2]);
    // One that ends within a part is not made whole.
    let handler = scripted([Piece(b"5")]);
    let mut hit = Hit::body(Box::new(handler), Share::Parts(Parts::new(info)));
    assert!(read(&mut hit).await.is_err());
}

#[tokio::test]
async fn the_header_comes_first() {
    let header = || Box::new(ResponseHeader::build(200, None).unwrap());
    let hit = Hit::body(Box::new(scripted([Piece(b"ab")])), Share::Whole(None));
    let mut hit = hit.with_header(header(), false);
    let first = std::future::poll_fn(|cx| hit.poll_task(cx)).await.unwrap();
    assert!(matches!(first, HttpTask::Header(_, false)));
    assert_eq!(read(&mut hit).await.unwrap(), b"ab");
    let hit = Hit::body(Box::new(scripted([Panic])), Share::Whole(None));
    let mut hit = hit.with_header(header(), true);
    for _ in 0..2 {
        let task = std::future::poll_fn(|cx| hit.poll_task(cx)).await.unwrap();
        assert!(task.is_end());
    }
}

/// The read that waits is the same from poll to poll: made anew it would miss what woke it.
#[tokio::test]
async fn a_storage_that_waits_is_woken() {
    let handler = scripted([Wait, Piece(b"ab"), Wait, Piece(b"cd")]);
    let woken = handler.woken.clone();
    let mut hit = Hit::body(Box::new(handler), Share::Whole(None));
    let reads = tokio::spawn(async move {
        // Polled in vain before.
        for _ in 0..3 {
            std::future::poll_fn(|cx| {
                assert!(hit.poll_task(cx).is_pending());
                Poll::Ready(())
            })
            .await;
        }
        read(&mut hit).await.unwrap()
    });
    tokio::task::yield_now().await;
    while !reads.is_finished() {
        woken.notify_one();
        tokio::task::yield_now().await;
    }
    assert_eq!(reads.await.unwrap(), b"abcd");
}

#[tokio::test]
async fn a_read_that_panics_is_not_read_on() {
    let mut hit = Hit::body(Box::new(scripted([Panic])), Share::Whole(None));
    let read = std::panic::AssertUnwindSafe(async { read(&mut hit).await });
    assert!(futures::FutureExt::catch_unwind(read).await.is_err());
    // A future that has panicked is not polled again by those who know.
    assert!(hit.into_handler().is_none());
}

#[tokio::test]
async fn what_is_lent_cannot_be_read() {
    assert!(Lent.read_body().await.is_err());
    assert!(!Lent.should_count_access() && !Lent.can_seek());
}
