use async_trait::async_trait;
use futures::channel::mpsc;

use super::*;
use crate::protocols::http::custom::CustomMessageWrite;

struct Writer(&'static str, Wait, Log);

#[async_trait]
impl CustomMessageWrite for Writer {
    fn set_write_timeout(&mut self, _: Option<Duration>) {}

    async fn write_custom_message(&mut self, msg: Bytes) -> Result<()> {
        self.1.over().await?;
        self.2.add(format!("{} {msg:?}", self.0));
        Ok(())
    }

    async fn finish_custom(&mut self) -> Result<()> {
        self.2.add(format!("{} finished", self.0));
        Ok(())
    }
}

type Sender = mpsc::UnboundedSender<Result<Bytes>>;

fn ends(name: &'static str, wait: Wait, log: &Log) -> (Ends, Sender) {
    let (sender, reader) = mpsc::unbounded();
    let ends = Ends {
        reader: Some(Box::new(reader)),
        writer: Some(Box::new(Writer(name, wait, log.clone()))),
    };
    (ends, sender)
}

fn next(m: &mut Messages) -> Poll<Result<(MessageFrom, Bytes)>> {
    spawn(poll_fn(|cx| m.poll_message(cx))).poll()
}

#[tokio::test]
async fn messages_pass_both_ways() {
    let log = Log::default();
    let (client, from_client) = ends("client", Wait::Nothing, &log);
    let (origin, from_origin) = ends("origin", Wait::Nothing, &log);
    let (mut m, (own_up, own_down)) = Messages::new(client, origin);
    assert!(next(&mut m).is_pending());
    from_client.unbounded_send(Ok(bytes("a"))).unwrap();
    from_origin.unbounded_send(Ok(bytes("b"))).unwrap();
    for _ in 0..2 {
        let Poll::Ready(Ok((from, message))) = next(&mut m) else {
            panic!("a message is there");
        };
        m.pass(from, message);
    }
    own_up.send(bytes("own up")).await.unwrap();
    own_down.send(bytes("own down")).await.unwrap();
    assert!(next(&mut m).is_pending());
    let mut said = log.take();
    said.sort();
    let all = [
        r#"client b"b""#,
        r#"client b"own down""#,
        r#"origin b"a""#,
        r#"origin b"own up""#,
    ];
    assert_eq!(said, all);
    drop((own_up, own_down, from_origin));
    let left = m.end(true).await;
    assert!(left.upstream_whole && !left.client_cut);
    assert!(left.client.reader.is_some() && left.client.writer.is_some());
    assert_eq!(log.take(), ["origin finished"]);
}

#[tokio::test]
async fn no_more_is_read_than_is_sent() {
    let (log, turns) = (Log::default(), Arc::new(Semaphore::new(0)));
    let (client, from_client) = ends("client", Wait::Nothing, &log);
    let (origin, _from_origin) = ends("origin", Wait::Turn(turns.clone()), &log);
    let (mut m, _own) = Messages::new(client, origin);
    for text in ["a", "b"] {
        from_client.unbounded_send(Ok(bytes(text))).unwrap();
    }
    let Poll::Ready(Ok((from, message))) = next(&mut m) else {
        panic!("a message is there");
    };
    m.pass(from, message);
    let mut waits = spawn(poll_fn(|cx| m.poll_message(cx)));
    assert!(waits.poll().is_pending() && waits.poll().is_pending());
    turns.add_permits(1);
    assert!(waits.is_woken());
    assert!(matches!(waits.poll(), Poll::Ready(Ok((MessageFrom::Downstream, b))) if b == "b"));
    assert_eq!(log.take(), [r#"origin b"a""#]);
}

#[tokio::test]
async fn nothing_is_kept_for_a_side_that_takes_none() {
    let log = Log::default();
    let (client, from_client) = ends("client", Wait::Nothing, &log);
    let (mut m, (own_up, _own_down)) = Messages::new(client, Ends::default());
    from_client.unbounded_send(Ok(bytes("a"))).unwrap();
    own_up.send(bytes("own")).await.unwrap();
    let Poll::Ready(Ok((from, message))) = next(&mut m) else {
        panic!("a message is there");
    };
    m.pass(from, message);
    assert!(matches!(
        spawn(poll_fn(|cx| m.poll_sent(cx))).poll(),
        Poll::Ready(Ok(()))
    ));
    assert!(log.take().is_empty());
}

#[tokio::test]
async fn an_error_says_whose_it_is() {
    let log = Log::default();
    let (client, from_client) = ends("client", Wait::Nothing, &log);
    let (origin, from_origin) = ends("origin", Wait::Time(Duration::ZERO), &log);
    let (mut m, _own) = Messages::new(client, origin);
    let failed = || Error::e_explain(ErrorType::ReadError, "a test wants it");
    from_origin.unbounded_send(failed()).unwrap();
    assert!(matches!(next(&mut m), Poll::Ready(Err(e)) if e.esource().as_str() == "Upstream"));
    from_client.unbounded_send(failed()).unwrap();
    assert!(matches!(next(&mut m), Poll::Ready(Err(e)) if e.esource().as_str() == "Downstream"));
    // The upstream's writer fails.
    m.pass(MessageFrom::Downstream, bytes("a"));
    let e = poll_fn(|cx| m.poll_message(cx)).await.unwrap_err();
    assert_eq!(e.esource().as_str(), "Upstream");
}

/// A client whose writer waits for `wait`, and is being sent a message.
fn sending(wait: Wait, log: &Log) -> Messages {
    let (client, _) = ends("client", wait, log);
    let (mut m, _) = Messages::new(client, Ends::default());
    for text in ["a", "b"] {
        m.pass(MessageFrom::Upstream, bytes(text));
    }
    assert!(next(&mut m).is_pending());
    m
}

#[tokio::test]
async fn a_message_on_its_way_to_the_client_leaves_whole_when_its_try_fails() {
    let (log, turns) = (Log::default(), Arc::new(Semaphore::new(0)));
    let mut end = spawn(sending(Wait::Turn(turns.clone()), &log).end(false));
    assert!(end.poll().is_pending());
    turns.add_permits(2);
    assert!(end.is_woken());
    let Poll::Ready(left) = end.poll() else {
        panic!("the message has left");
    };
    assert!(!left.client_cut && left.client.writer.is_some());
    // The one behind it is of no use.
    assert_eq!(log.take(), [r#"client b"a""#]);
}

#[tokio::test(start_paused = true)]
async fn a_message_that_nobody_takes_is_not_waited_for_for_ever() {
    for (succeeded, seconds) in [(true, 6), (false, 5)] {
        let m = sending(Wait::Forever, &Log::default());
        let begun = tokio::time::Instant::now();
        let left = m.end(succeeded).await;
        assert!(left.client_cut && left.client.writer.is_some());
        assert_eq!(left.upstream_whole, succeeded, "it was sent none");
        assert_eq!(begun.elapsed().as_secs(), seconds);
    }
}

#[tokio::test]
async fn a_writer_that_failed_may_have_cut_a_message() {
    let log = Log::default();
    let (client, _from_client) = ends("client", Wait::Time(Duration::ZERO), &log);
    let (mut m, _own) = Messages::new(client, Ends::default());
    m.pass(MessageFrom::Upstream, bytes("a"));
    poll_fn(|cx| m.poll_message(cx)).await.unwrap_err();
    // It says so once, and takes no more.
    m.pass(MessageFrom::Upstream, bytes("b"));
    assert!(next(&mut m).is_pending());
    assert!(m.end(true).await.client_cut);
}

#[tokio::test]
async fn a_reader_that_failed_cuts_nothing_and_is_not_asked_again() {
    let log = Log::default();
    let (client, _from_client) = ends("client", Wait::Nothing, &log);
    let (origin, from_origin) = ends("origin", Wait::Nothing, &log);
    let (mut m, _own) = Messages::new(client, origin);
    let failed = Error::e_explain(ErrorType::ReadError, "a test wants it");
    from_origin.unbounded_send(failed).unwrap();
    assert!(matches!(next(&mut m), Poll::Ready(Err(_))));
    from_origin.unbounded_send(Ok(bytes("a"))).unwrap();
    assert!(next(&mut m).is_pending());
    assert!(!m.end(false).await.client_cut);
}

#[tokio::test]
async fn a_client_that_is_lost_is_neither_heard_nor_told() {
    let log = Log::default();
    let (client, from_client) = ends("client", Wait::Nothing, &log);
    let (origin, from_origin) = ends("origin", Wait::Nothing, &log);
    let (mut m, _own) = Messages::new(client, origin);
    m.lose_client();
    from_client.unbounded_send(Ok(bytes("a"))).unwrap();
    from_origin.unbounded_send(Ok(bytes("b"))).unwrap();
    assert!(matches!(next(&mut m), Poll::Ready(Ok((MessageFrom::Upstream, b))) if b == "b"));
    m.pass(MessageFrom::Upstream, bytes("b"));
    assert!(next(&mut m).is_pending());
    assert!(log.take().is_empty());
}
