//! A tonic client, HTTP/2, the proxy, HTTP/2, a tonic service.

use super::common::h2_origin::*;
use super::common::*;
use super::peers::*;
use bytes::Bytes;
use futures::StreamExt;
use std::sync::atomic::Ordering;
use tokio::sync::mpsc;
use tonic::codegen::http::uri::PathAndQuery;
use tonic::{Code, Request};

fn path(method: &'static str) -> PathAndQuery {
    PathAndQuery::from_static(method)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn unary_calls_have_messages_metadata_and_status() {
    let (origin, _) = grpc_origin();
    let proxy = h2c_proxy(Forward {
        peer: h2_peer(&origin.path()),
    });
    let mut client = Channel::connect(&proxy.path()).await;
    for size in [0, 5, 3 << 20] {
        let message = Bytes::from(vec![b'm'; size]);
        let mut request = Request::new(message.clone());
        request
            .metadata_mut()
            .insert("x-sent", "7".parse().unwrap());
        client.ready().await.unwrap();
        let call = client.unary(request, path("/t.T/Unary"), Plain);
        let response = call.await.unwrap();
        assert_eq!(response.metadata().get("x-got").unwrap(), "7");
        assert!(response.into_inner() == message);
    }
    client.ready().await.unwrap();
    let call = client.unary(Request::new(Bytes::new()), path("/t.T/Fail"), Plain);
    let status = call.await.unwrap_err();
    assert_eq!(
        (status.code(), status.message()),
        (Code::FailedPrecondition, "not so")
    );
    client.ready().await.unwrap();
    let call = client.unary(Request::new(Bytes::new()), path("/t.T/None"), Plain);
    assert_eq!(call.await.unwrap_err().code(), Code::Unimplemented);
    assert_eq!(origin.accepted(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn streams_of_either_side_have_all_their_messages() {
    let (origin, _) = grpc_origin();
    let proxy = h2c_proxy(Forward {
        peer: h2_peer(&origin.path()),
    });
    let mut client = Channel::connect(&proxy.path()).await;
    client.ready().await.unwrap();
    let request = Request::new(Bytes::from_static(b"abc"));
    let response = client
        .server_streaming(request, path("/t.T/Split"), Plain)
        .await
        .unwrap();
    let (messages, status) = all(response.into_inner()).await;
    assert_eq!(messages, ["a", "b", "c"]);
    assert_eq!(status.unwrap().code(), Code::OutOfRange);

    client.ready().await.unwrap();
    let pieces = (0..1000).map(|i| Bytes::from(format!("{i},")));
    let expected: String = (0..1000).map(|i| format!("{i},")).collect();
    let request = Request::new(futures::stream::iter(pieces));
    let response = client
        .client_streaming(request, path("/t.T/Join"), Plain)
        .await
        .unwrap();
    assert_eq!(response.into_inner(), expected);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_conversation_goes_back_and_forth() {
    let (origin, _) = grpc_origin();
    let proxy = h2c_proxy(Forward {
        peer: h2_peer(&origin.path()),
    });
    let mut client = Channel::connect(&proxy.path()).await;
    client.ready().await.unwrap();
    let (say, said) = mpsc::channel(1);
    let said = futures::stream::unfold(said, |mut said| async {
        said.recv().await.map(|message| (message, said))
    });
    let response = client
        .streaming(Request::new(said), path("/t.T/Echo"), Plain)
        .await
        .unwrap();
    let mut answers = response.into_inner();
    for i in 0..50 {
        // Each message is said only when the one before came back: nothing may wait for more.
        let message = Bytes::from(format!("message {i}"));
        say.send(message.clone()).await.unwrap();
        assert_eq!(answers.next().await.unwrap().unwrap(), message);
    }
    drop(say);
    assert!(answers.next().await.is_none());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_call_that_is_given_up_is_given_up_at_the_origin() {
    let (origin, dropped) = grpc_origin();
    let proxy = h2c_proxy(Forward {
        peer: h2_peer(&origin.path()),
    });
    let mut client = Channel::connect(&proxy.path()).await;
    client.ready().await.unwrap();
    let mut request = Request::new(Bytes::new());
    request.set_timeout(PATIENCE);
    tokio::select! {
        _ = client.unary(request, path("/t.T/Never"), Plain) => panic!("it has no answer"),
        () = NEVER_CALLED.notified() => {}
    }
    let given_up = tokio::task::spawn_blocking(move || {
        eventually("the origin's call is dropped", || {
            dropped.load(Ordering::SeqCst) == 1
        })
    });
    given_up.await.unwrap();
    // The connections are good for the next call.
    client.ready().await.unwrap();
    let request = Request::new(Bytes::from_static(b"next"));
    let response = client.unary(request, path("/t.T/Unary"), Plain).await;
    assert_eq!(response.unwrap().into_inner(), "next");
    assert_eq!(origin.accepted(), 1);
}
