//! What is set at the session of a request.

use super::*;
use std::time::Duration;

const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";

#[test]
fn a_connection_is_kept_as_long_and_as_often_as_is_set() {
    let origin = Origin::answering(OK);
    type Row = (fn(&mut Session), bool);
    let rows: [Row; 4] = [
        (|_| (), true),
        (|session| session.set_keepalive(None), false),
        (
            |session| session.set_keepalive_reuses_remaining(Some(0)),
            false,
        ),
        (
            |session| session.set_keepalive_reuses_remaining(Some(1)),
            true,
        ),
    ];
    for (row, (set, kept)) in rows.into_iter().enumerate() {
        let proxy = setting(forward_to(origin.path()).peer, set);
        let mut client = proxy.connect();
        let close = get(&mut client, "").field("Connection") == Some("close");
        assert_eq!(close, !kept, "{row}");
        if kept {
            assert_eq!(get(&mut client, "").status(), 200, "{row}");
        } else {
            client.expect_end();
        }
    }
    // An idle connection ends.
    let proxy = setting(forward_to(origin.path()).peer, |session| {
        session.set_keepalive(Some(1))
    });
    let mut client = proxy.connect();
    get(&mut client, "");
    client.expect_end();
}

#[test]
fn interim_answers_are_left_out() {
    let hints = "HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n";
    let origin = Origin::answering([hints, OK].concat());
    type Row = (fn(&mut Session), u16);
    let rows: [Row; 2] = [
        (|_| (), 103),
        (|session| session.set_ignore_info_resp(true), 200),
    ];
    for (set, first) in rows {
        let proxy = setting(forward_to(origin.path()).peer, set);
        let mut client = proxy.connect();
        client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
        let head = client.read_head();
        assert!(head.starts_with(&format!("HTTP/1.1 {first} ")), "{head}");
    }
}

#[test]
fn a_body_that_stops_ends_with_the_read_timeout() {
    let origin = Origin::scripted(|mut wire, _| {
        wire.read_to_end();
    });
    let proxy = setting(forward_to(origin.path()).peer, |session| {
        session.set_read_timeout(Some(Duration::from_millis(50)))
    });
    let mut client = proxy.connect();
    client.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\npart");
    assert_eq!(client.read_response().status(), 408);
    client.expect_end();
}

#[test]
fn a_client_that_takes_nothing_ends_with_the_write_timeout() {
    let (tell, told) = std::sync::mpsc::channel();
    let origin = Origin::scripted(move |mut wire, _| {
        if !wire.has_more() {
            return;
        }
        wire.read_message();
        wire.send("HTTP/1.1 200 OK\r\nContent-Length: 100000000\r\n\r\n");
        // It ends when the proxy gives up.
        while wire.send_if_taken(vec![b'x'; 1 << 16]).is_ok() {}
        tell.send(()).unwrap();
    });
    let proxy = setting(forward_to(origin.path()).peer, |session| {
        session.set_write_timeout(Some(Duration::from_millis(50)))
    });
    let mut client = proxy.connect();
    client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    told.recv_timeout(PATIENCE).unwrap();
}
