//! Exchanges without sockets.

use std::time::Duration;

use pingora_error::ErrorSource;

use super::script::{fuzz, play, End, Mode, Op, Report, Setup};
use Op::{Answer, AnswerEnd, AnswerFails, Interim, Leave, OriginTakes, OriginTakesNoMore};
use Op::{Room, Send, SendEnd, Show, StorageFails, Take, Time};

const ALL: usize = usize::MAX;

fn played(setup: Setup, ops: &[Op]) -> Report {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build();
    runtime.unwrap().block_on(play(setup, ops))
}

fn mode(mode: Mode, goes_on: bool) -> Setup {
    Setup {
        mode,
        goes_on,
        ..Setup::default()
    }
}

/// A head, and four pieces of the longest kind.
const LONG: [Op; 6] = [
    SendEnd,
    Answer(0),
    Answer(ALL),
    Answer(ALL),
    Answer(ALL),
    Answer(ALL),
];

const LONG_BYTES: usize = 4 * 8192;

#[test]
fn bodies_pass_both_ways_at_once() {
    let ops = [
        Send(100),
        OriginTakes(50),
        Answer(0),
        Answer(300),
        Take(10),
        Send(200),
        OriginTakes(ALL),
        Take(ALL),
        SendEnd,
        AnswerEnd,
    ];
    let report = played(Setup::default(), &ops);
    assert_eq!(report.end, End::Complete);
    assert_eq!((report.request, report.response), (300, 300));
}

#[test]
fn an_early_answer_ends_the_exchange() {
    let report = played(
        Setup::default(),
        &[Send(100), Answer(0), AnswerEnd, Take(ALL)],
    );
    assert_eq!((report.end, report.request), (End::Complete, 0));
}

#[test]
fn an_origin_that_takes_no_more_may_answer() {
    let ops = [
        Send(100),
        OriginTakesNoMore,
        Send(100),
        Answer(0),
        Answer(9),
        AnswerEnd,
    ];
    let report = played(Setup::default(), &ops);
    assert_eq!((report.end, report.response), (End::Complete, 9));
    let ops = [Send(100), OriginTakesNoMore, AnswerFails];
    let report = played(Setup::default(), &ops);
    assert_eq!(report.end, End::Failed(ErrorSource::Upstream));
}

#[test]
fn a_client_without_room_is_sent_no_interim_response() {
    let roomy = played(Setup::default(), &[SendEnd, Interim, Interim, Answer(0)]);
    assert_eq!(roomy.heads, 3);
    // Nothing of the body is read before there is room for it.
    let ops = [SendEnd, Room(false), Answer(0), Answer(5), Room(true)];
    assert_eq!(played(Setup::default(), &ops).end, End::Complete);
}

#[test]
fn the_mere_end_of_a_response_is_not_waited_for() {
    let setup = Setup {
        length: Some(5),
        ..Setup::default()
    };
    for end in [AnswerEnd, AnswerFails] {
        let report = played(setup, &[SendEnd, Answer(0), Answer(5), Take(ALL), end]);
        assert_eq!((report.end, report.response), (End::Complete, 5));
    }
}

#[test]
fn a_tunnel_carries_both_directions_to_their_ends() {
    let setup = Setup {
        switches: true,
        ..Setup::default()
    };
    let ops = [
        Answer(0),
        Send(10),
        Answer(20),
        OriginTakes(ALL),
        Take(ALL),
        AnswerEnd,
        Send(30),
        SendEnd,
    ];
    let report = played(setup, &ops);
    assert_eq!(report.end, End::Complete);
    assert_eq!((report.request, report.response), (40, 20));
    // An origin that takes no more ends one direction only.
    let ops = [
        Answer(0),
        Send(10),
        OriginTakesNoMore,
        Answer(20),
        AnswerEnd,
    ];
    assert_eq!(played(setup, &ops).end, End::Complete);
    // There is no tunnel without a client.
    let goes_on = Setup {
        goes_on: true,
        ..setup
    };
    let report = played(goes_on, &[Answer(0), Leave]);
    assert_eq!(report.end, End::Failed(ErrorSource::Downstream));
}

#[test]
fn a_tunnel_whose_client_has_said_all_ends_when_its_origin_is_silent() {
    let setup = Setup {
        switches: true,
        half_closed: Some(Duration::from_millis(25)),
        ..Setup::default()
    };
    let mut ops = vec![Answer(0), Send(10), OriginTakes(ALL)];
    ops.extend([Time; 10]);
    ops.extend([SendEnd, Time, Time, Answer(20), Take(ALL)]);
    ops.extend([Time; 4]);
    let report = played(setup, &ops);
    assert_eq!(report.end, End::Failed(ErrorSource::Downstream));
    assert_eq!((report.request, report.response), (10, 20));
}

#[test]
fn a_client_that_leaves_ends_the_exchange() {
    for tells in [false, true] {
        let setup = Setup {
            tells,
            ..Setup::default()
        };
        let report = played(setup, &[Send(10), Leave]);
        assert_eq!(report.end, End::Failed(ErrorSource::Downstream));
        let report = played(setup, &[SendEnd, Answer(0), Answer(10), Leave]);
        assert_eq!(report.end, End::Failed(ErrorSource::Downstream));
    }
}

#[test]
fn a_fill_goes_on_without_its_client() {
    for kept in [Mode::Copy, Mode::Keep] {
        let mut ops = LONG.to_vec();
        ops.extend([Take(100), Leave, Answer(50), AnswerEnd]);
        let report = played(mode(kept, true), &ops);
        assert_eq!(
            (report.end, report.kept),
            (End::ClientGone, LONG_BYTES + 50)
        );
        assert_eq!(
            played(mode(kept, false), &ops).end,
            End::Failed(ErrorSource::Downstream)
        );
    }
}

#[test]
fn a_response_that_was_not_asked_for_does_not_go_on() {
    let report = played(mode(Mode::Copy, true), &[Send(10), Leave]);
    assert_eq!(report.end, End::Failed(ErrorSource::Downstream));
    // The answer has begun before the request was over.
    let ops = [Send(10), Answer(0), Leave, Answer(10)];
    let report = played(mode(Mode::Copy, true), &ops);
    assert_eq!(report.end, End::ClientGone);
}

#[test]
fn a_fill_whose_origin_fails_fails() {
    for (kept, leaves) in [(Mode::Keep, false), (Mode::Keep, true), (Mode::Copy, true)] {
        let mut ops = LONG.to_vec();
        if leaves {
            ops.push(Leave);
        }
        ops.push(AnswerFails);
        let report = played(mode(kept, true), &ops);
        assert_eq!(report.end, End::Failed(ErrorSource::Upstream));
    }
}

#[test]
fn a_client_with_all_it_needs_of_a_fill_that_fails_is_sent_that() {
    let setup = Setup {
        enough: Some(100),
        ..mode(Mode::Keep, true)
    };
    let ops = [SendEnd, Answer(0), Answer(100), Show(100), Answer(50)];
    let report = played(setup, &[&ops[..], &[AnswerFails, Take(ALL)]].concat());
    assert_eq!((report.end, report.response), (End::Complete, 100));
    assert_eq!((report.kept, report.stored), (150, false));
    // Nobody has what an exchange without a client was for.
    let report = played(setup, &[&ops[..], &[Leave, AnswerFails]].concat());
    assert_eq!(report.end, End::Failed(ErrorSource::Upstream));
    assert!(!report.stored);
}

#[test]
fn a_client_that_is_slow_holds_up_its_upstream_but_no_fill() {
    // It has room for a part only, and the rest stays with the origin.
    let mut ops = LONG.to_vec();
    ops.push(Leave);
    let followed = played(mode(Mode::Copy, false), &ops);
    assert!(followed.kept < LONG_BYTES, "{followed:?}");
    let mut ops = LONG.to_vec();
    ops.extend([AnswerEnd, Leave]);
    let fed = played(mode(Mode::Keep, true), &ops);
    assert_eq!(
        (fed.end, fed.kept, fed.response),
        (End::ClientGone, LONG_BYTES, 0)
    );
}

#[test]
fn a_client_is_fed_from_what_is_stored() {
    let mut ops = LONG.to_vec();
    ops.extend([Show(10), Take(ALL), AnswerEnd, Time, Show(10)]);
    let report = played(mode(Mode::Keep, false), &ops);
    assert_eq!((report.end, report.response), (End::Complete, LONG_BYTES));
    assert_eq!(report.heads, 1);
}

#[test]
fn a_storage_that_fails_costs_the_client_its_response() {
    let mut ops = LONG.to_vec();
    ops.extend([Take(ALL), Show(10), StorageFails, AnswerEnd]);
    let report = played(mode(Mode::Keep, true), &ops);
    assert_eq!((report.end, report.kept), (End::ClientGone, LONG_BYTES));
    let report = played(mode(Mode::Keep, false), &ops);
    assert!(matches!(report.end, End::Failed(_)));
}

#[test]
fn what_is_kept_from_a_client_is_not_missed() {
    let report = played(mode(Mode::Drop, false), &LONG);
    assert_eq!((report.end, report.response), (End::Complete, 0));
}

#[test]
fn the_pause_after_what_is_kept_from_a_client_holds_up_the_upstream() {
    let setup = Setup {
        delays: true,
        ..mode(Mode::Drop, false)
    };
    // The third message is followed by a pause, in which the client leaves.
    let ops = [SendEnd, OriginTakes(1), Take(1), Answer(1), Answer(1)];
    let ends = [Answer(1), AnswerFails, Leave];
    let report = played(setup, &[&ops[..], &ends].concat());
    assert_eq!(report.end, End::Failed(ErrorSource::Downstream));
}

#[test]
fn what_nobody_takes_is_not_read_on() {
    for kept in [Mode::Pass, Mode::Copy, Mode::Keep, Mode::Drop] {
        let setup = Setup {
            cuts: true,
            ..mode(kept, false)
        };
        let ops = [SendEnd, OriginTakes(1), Show(9), Take(9), Answer(1)];
        let rest = [Answer(2), Answer(3), Answer(4), AnswerFails];
        let report = played(setup, &[&ops[..], &rest].concat());
        assert_eq!(report.end, End::Complete, "{kept:?}");
        let taken = if kept == Mode::Drop { 0 } else { 5 };
        assert_eq!(report.response, taken, "{kept:?}");
    }
}

#[test]
fn an_answer_needs_no_request() {
    let setup = Setup {
        answers: true,
        ..Setup::default()
    };
    let report = played(
        setup,
        &[Send(10), Answer(0), Answer(7), Take(ALL), AnswerEnd],
    );
    assert_eq!(
        (report.end, report.response, report.request),
        (End::Complete, 7, 0)
    );
}

/// Scripts like those of the fuzz target, by a generator that is always the same.
#[test]
fn no_script_loses_a_byte_or_a_wake_up() {
    let mut seed = 0x9e37_79b9_7f4a_7c15_u64;
    let mut next = || {
        seed ^= seed << 13;
        seed ^= seed >> 7;
        seed ^= seed << 17;
        seed.to_le_bytes()
    };
    for _ in 0..3000 {
        let words = 1 + usize::from(next()[0] % 16);
        let script: Vec<u8> = (0..words).flat_map(|_| next()).collect();
        fuzz(&script);
    }
}
