//! Many requests over few connections.

use super::common::h2_origin::*;
use super::common::*;
use bytes::Bytes;
use http_body_util::BodyExt;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::Arc;
use tokio::sync::{mpsc, Semaphore};

/// Sends `count` requests at once and returns when all are answered, each with its own answer.
async fn at_once(proxy: &Proxy, count: usize) {
    let mut clients = Vec::new();
    for number in 0..count {
        let path = proxy.path();
        clients.push(tokio::spawn(async move {
            let mut client = HyperClient::connect(&path).await;
            let get = request("GET", &format!("/{number}"), "");
            let response = client.send(get).await.unwrap();
            assert_eq!(response.status(), 200);
            let body = response.into_body().collect().await.unwrap().to_bytes();
            assert_eq!(body, format!("/{number}").as_bytes());
        }));
    }
    for client in clients {
        client.await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_connection_has_more_streams_than_it_may() {
    let gate = Arc::new(Semaphore::new(0));
    let (arrived, mut arrives) = mpsc::unbounded_channel();
    let counts: Arc<Vec<AtomicUsize>> = Arc::new((0..64).map(|_| AtomicUsize::new(0)).collect());
    let origin = H2Origin::streams({
        let (gate, counts) = (gate.clone(), counts.clone());
        move |request, mut respond, number| {
            let (gate, counts, arrived) = (gate.clone(), counts.clone(), arrived.clone());
            async move {
                let now = counts[number].fetch_add(1, Ordering::SeqCst) + 1;
                arrived.send(now).unwrap();
                let permit = gate.acquire().await.unwrap();
                counts[number].fetch_sub(1, Ordering::SeqCst);
                let path = Bytes::from(request.uri().path().to_string());
                let mut stream = respond.send_response(status(200), false).unwrap();
                stream.send_data(path, true).unwrap();
                drop(permit);
            }
        }
    });
    let mut peer = h2_peer(&origin.path());
    peer.options.max_h2_streams = 5;
    let proxy = Proxy::start(Forward { peer });
    let all = async {
        at_once(&proxy, 40).await;
    };
    let opened = async {
        let mut most = 0;
        for _ in 0..40 {
            most = most.max(arrives.recv().await.unwrap());
        }
        assert!(most <= 5, "{most} streams on a connection");
        gate.add_permits(40);
    };
    tokio::join!(all, opened);
    // Eight hold 40 requests. Who waited for a connection may find it full, and makes another: how many do is up to
    // the scheduler, but the four that share the first one need none.
    let made = origin.accepted();
    assert!((8..=36).contains(&made), "{made} connections");
    // All are kept, and one is enough for one request at a time.
    let before = origin.accepted();
    for _ in 0..10 {
        at_once(&proxy, 1).await;
    }
    assert_eq!(origin.accepted(), before);
}
