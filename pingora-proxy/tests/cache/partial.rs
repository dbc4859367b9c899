//! Those that read a response while it is stored, and how it ends for them.

use crate::common::*;
use crate::fixture::*;
use pingora_cache::{CachePhase, NoCacheReason};
use std::sync::{Arc, Barrier};

const HEAD: &str = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\
                    Cache-Control: max-age=60\r\n\r\n";

/// The way in which a response ends that has begun.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Ends {
    Whole,
    Cut,
}

/// An origin of chunks, and what has each of the first responses end. Later ones come at once.
fn origin(ends: &'static [Ends]) -> (Origin, Vec<Arc<Barrier>>) {
    let told: Vec<_> = ends.iter().map(|_| Arc::new(Barrier::new(2))).collect();
    let origin = Origin::scripted({
        let told = told.clone();
        move |mut wire, number| {
            wire.read_message();
            wire.send(HEAD);
            wire.send("5\r\nthe w\r\n");
            if let Some(told) = told.get(number) {
                told.wait();
            }
            if ends.get(number) != Some(&Ends::Cut) {
                wire.send("4\r\nhole\r\n0\r\n\r\n");
            }
        }
    });
    (origin, told)
}

/// A client that has read what there is of the response.
fn begin(proxy: &Proxy) -> Wire {
    let mut client = proxy.connect();
    client.send("GET /a HTTP/1.1\r\nHost: a\r\n\r\n");
    client.read_until("the w\r\n");
    client
}

#[track_caller]
fn assert_whole(client: &mut Wire) {
    assert_eq!(client.read_until("0\r\n\r\n"), "4\r\nhole\r\n0\r\n\r\n");
    // The connection goes on.
    assert_eq!(get(client, "/a", "").text(), "the whole");
}

#[track_caller]
fn assert_cut(client: &mut Wire) {
    let rest = client.read_to_end();
    let rest = String::from_utf8(rest).unwrap();
    assert!(!rest.contains("0\r\n\r\n"), "a last chunk: {rest:?}");
}

#[test]
fn what_is_stored_to_its_end_is_whole_for_its_readers() {
    let (origin, told) = origin(&[Ends::Whole]);
    let proxy = Proxy::start(Caching::to(&origin));
    let mut clients: Vec<_> = (0..3).map(|_| begin(&proxy)).collect();
    told[0].wait();
    clients.iter_mut().for_each(assert_whole);
    assert_eq!(origin.accepted(), 1);
}

#[test]
fn an_origin_that_dies_in_a_chunked_body_cuts_all_that_read_it() {
    let (origin, told) = origin(&[Ends::Cut]);
    let app = Caching::to(&origin);
    let (storage, log) = (app.storage, app.seen());
    let proxy = Proxy::start(app);
    let mut clients: Vec<_> = (0..3).map(|_| begin(&proxy)).collect();
    told[0].wait();
    clients.iter_mut().for_each(assert_cut);
    let seen = log.wait_for(3);
    assert!(seen.iter().all(|seen| seen.error.is_some()), "{seen:?}");
    assert!(stored(storage, &key("/a")).is_none());
    // The next one fills.
    let mut client = proxy.connect();
    for _ in 0..2 {
        assert_eq!(get(&mut client, "/a", "").text(), "the whole");
    }
    assert_eq!(origin.accepted(), 2);
}

#[test]
fn a_response_that_becomes_too_large_is_whole_for_its_own_client_only() {
    let (origin, told) = origin(&[Ends::Whole]);
    let mut app = Caching::to(&origin);
    app.max_file_size = Some(5);
    let log = app.seen();
    let proxy = Proxy::start(app);
    let mut writer = begin(&proxy);
    let mut reader = begin(&proxy);
    told[0].wait();
    assert_cut(&mut reader);
    assert_eq!(writer.read_until("0\r\n\r\n"), "4\r\nhole\r\n0\r\n\r\n");
    let too_large = CachePhase::Disabled(NoCacheReason::ResponseTooLarge);
    let seen = log.wait_for(2);
    assert!(seen.iter().any(|seen| seen.phase == too_large), "{seen:?}");
}

#[test]
fn a_reader_in_http2_is_reset() {
    let (origin, told) = origin(&[Ends::Cut]);
    let mut setup = Setup::default();
    setup.options.h2c = true;
    let proxy = Proxy::start_with(setup, Caching::to(&origin));
    let mut writer = begin(&proxy);
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        let stream = tokio::net::UnixStream::connect(proxy.path()).await.unwrap();
        let (client, connection) = h2::client::handshake(stream).await.unwrap();
        tokio::spawn(connection);
        let request = http::Request::get("http://a/a").body(()).unwrap();
        let mut client = client.ready().await.unwrap();
        let (response, _) = client.send_request(request, true).unwrap();
        let mut body = response.await.unwrap().into_body();
        assert_eq!(body.data().await.unwrap().unwrap(), "the w");
        told[0].wait();
        let e = body.data().await.unwrap().unwrap_err();
        assert!(e.is_reset(), "{e}");
    });
    assert_cut(&mut writer);
}

#[test]
fn a_fill_that_another_has_replaced_has_an_end_of_its_own() {
    let (origin, told) = origin(&[Ends::Cut, Ends::Whole]);
    let app = Caching::to(&origin);
    let proxy = Proxy::start(app);
    let mut first = [begin(&proxy), begin(&proxy)];
    let purged = ask(&mut proxy.connect(), "PURGE", "/a", "");
    assert_eq!(purged.status(), 200);
    let mut second = [begin(&proxy), begin(&proxy)];
    assert_eq!(origin.accepted(), 2);
    told[0].wait();
    first.iter_mut().for_each(assert_cut);
    told[1].wait();
    second.iter_mut().for_each(assert_whole);
}
