use super::client::Session as ClientSession;
use super::server::Session as ServerSession;
use super::*;
use crate::protocols::http::HttpTask;
use futures::stream;

/// As a client session is, for the macro.
struct Holder(Option<Custom>);

#[derive(Default)]
struct Custom {
    finished: usize,
}

impl Holder {
    fn as_custom_mut(&mut self) -> Option<&mut Custom> {
        self.0.as_mut()
    }
}

impl Custom {
    async fn finish(&mut self, times: usize) -> Result<usize> {
        self.finished += times;
        if self.finished > 2 {
            return Error::e_explain(ErrorType::WriteError, "too often");
        }
        Ok(self.finished)
    }
}

async fn finish(holder: &mut Holder, times: usize) -> Result<()> {
    custom_session!(holder.finish(times).await?);
    Ok(())
}

#[tokio::test]
async fn the_macro_calls_the_custom_session_if_there_is_one() {
    let mut none = Holder(None);
    assert!(finish(&mut none, 9).await.is_ok());

    let mut some = Holder(Some(Custom::default()));
    assert!(finish(&mut some, 2).await.is_ok());
    assert_eq!(some.0.as_ref().unwrap().finished, 2);
    assert!(finish(&mut some, 1).await.is_err());
}

#[tokio::test]
async fn unit_is_a_client_session_that_never_works() {
    let mut session = ();
    let s: &mut dyn ClientSession = &mut session;
    assert!(s.read_response_header().await.is_err());
    assert!(s.read_response_body().await.is_err());
    assert!(s.write_request_body(Bytes::new(), true).await.is_err());
    assert!(s.finish_custom().await.is_err());
    assert!(s.check_response_end_or_error(true).await.is_err());
    assert!(s.response_header().is_none());
    assert!(s.take_custom_message_reader().is_none());
    assert!(s.take_custom_message_writer().is_none());
    assert!(s.take_request_body_writer().is_none());
    s.abandon("test").await;
}

#[tokio::test]
async fn unit_is_a_server_session_that_never_works() {
    let mut session = ();
    let s: &mut dyn ServerSession = &mut session;
    assert_eq!(s.req_header().raw_path(), b"/");
    assert_eq!(s.req_header_mut().raw_path(), b"/");
    assert!(s.read_body_bytes().await.is_err());
    assert!(s.read_body_or_idle(false).await.is_err());
    assert!(s.response_duplex_vec(vec![HttpTask::Done]).await.is_err());
    assert!(s.restore_custom_message_writer(Box::new(())).is_err());
    s.set_proxy_tasks_enabled(true);
    assert!(!s.proxy_tasks_enabled());
    s.send_proxy_task(HttpTask::Done);
    assert!(!s.has_pending_proxy_tasks());
    assert!(!s.write_proxy_tasks().await.unwrap());
    assert!(!s.is_upgrade_req());
    assert!(!s.was_upgraded());
    s.abandon("test").await;
}

#[tokio::test]
async fn unit_writes_no_message() {
    let writer: &mut dyn CustomMessageWrite = &mut ();
    writer.set_write_timeout(None);
    assert!(writer.write_custom_message(Bytes::new()).await.is_err());
    assert!(writer.finish_custom().await.is_err());
}

#[tokio::test]
async fn draining_ends_with_the_stream_or_its_first_error() {
    assert!(drain_custom_messages(None).await.is_ok());
    let good = stream::iter(vec![Ok(Bytes::from_static(b"a")), Ok(Bytes::new())]);
    assert!(drain_custom_messages(Some(Box::new(good))).await.is_ok());
    let bad = stream::iter(vec![Ok(Bytes::new()), Err(no_session()), Ok(Bytes::new())]);
    assert!(drain_custom_messages(Some(Box::new(bad))).await.is_err());
}

#[test]
fn informational_is_1xx_but_101() {
    for (code, expected) in [
        (99, false),
        (100, true),
        (101, false),
        (102, true),
        (103, true),
        (199, true),
        (200, false),
    ] {
        assert_eq!(is_informational_except_101::<u32>(code), expected, "{code}");
    }
}
