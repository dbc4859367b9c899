//! The table: what each proxy makes of the same bytes.

use std::collections::HashMap;
use std::fmt::Write as _;
use std::time::Duration;

use crate::cases::{CASES, NEXT};
use crate::client::{exchange, responses, Then};
use crate::origin::{Origin, Seen};
use crate::proxies::Proxy;
use crate::strict;

/// For a proxy that waits for more.
const PATIENCE: Duration = Duration::from_millis(1500);

/// What became of a case: the statuses that the client got, and what the origin was sent.
pub fn outcome(proxy: &Proxy, origin: &Origin, bytes: &[u8]) -> String {
    origin.take();
    let all = [bytes, NEXT].concat();
    let got = match exchange(&proxy.socket, &all, Then::Waits(PATIENCE)) {
        Ok(got) => got,
        Err(e) => return format!("cannot be asked: {e}"),
    };
    if got.bytes.starts_with(b"\0\0") || got.bytes.get(3..5) == Some(&[4, 0]) {
        return "speaks HTTP/2".into();
    }
    let mut said: Vec<String> = match responses(&got.bytes) {
        Ok(all) => all.iter().map(|r| r.status.to_string()).collect(),
        Err(why) => vec![format!("({why})")],
    };
    if !got.closed {
        said.push("waits".into());
    }
    let seen = origin.take().into_iter().map(|seen| match seen {
        Seen::Request(request) => shown(&request),
        Seen::Malformed(why, _) => format!("malformed: {why}"),
    });
    let seen: Vec<_> = seen.collect();
    let said = if said.is_empty() {
        "closed".into()
    } else {
        said.join(" ")
    };
    match seen.is_empty() {
        true => said,
        false => format!("{said}: {}", seen.join(", ")),
    }
}

fn shown(request: &strict::Request) -> String {
    let mut text = format!("{} {}", request.method, request.target);
    if !request.body.is_empty() {
        let _ = write!(text, " +{}", request.body.len());
    }
    text
}

/// Makes the table, as Markdown.
///
/// # Errors
///
/// A row in which the proxies send different things upstream, and that does not say why; or the other way round.
pub fn table(proxies: &[Proxy], origin: &Origin) -> Result<String, String> {
    let mut text = String::from("| what is sent |");
    for proxy in proxies {
        let _ = write!(text, " {} |", proxy.name);
    }
    text += " why they differ |\n|---|";
    text += &"---|".repeat(proxies.len() + 1);
    text.push('\n');
    for case in CASES {
        let outcomes: Vec<_> = proxies
            .iter()
            .map(|proxy| outcome(proxy, origin, case.bytes))
            .collect();
        let differ = outcomes
            .iter()
            .any(|other| sent(other) != sent(&outcomes[0]));
        if differ != case.why.is_some() {
            return Err(format!(
                "{}: {outcomes:?}, because {:?}",
                case.name, case.why
            ));
        }
        let _ = write!(text, "| {} |", case.name);
        for outcome in &outcomes {
            let _ = write!(text, " {} |", cell(outcome));
        }
        let _ = writeln!(text, " {} |", case.why.unwrap_or(""));
    }
    Ok(text)
}

/// Runs the cases against one proxy, and compares with its column of a table.
///
/// # Errors
///
/// Each row that is not as it was.
pub fn check(proxy: &Proxy, origin: &Origin, doc: &str) -> Result<usize, String> {
    let rows: HashMap<&str, &str> = doc.lines().filter_map(row).collect();
    let mut wrong = Vec::new();
    for case in CASES {
        let now = cell(&outcome(proxy, origin, case.bytes));
        let before = rows.get(case.name).copied().unwrap_or("nothing");
        if now != before {
            wrong.push(format!("{}: {now}, and the table has {before}", case.name));
        }
    }
    match wrong.is_empty() {
        true => Ok(CASES.len()),
        false => Err(wrong.join("\n")),
    }
}

/// The name of a row, and its first outcome.
fn row(line: &str) -> Option<(&str, &str)> {
    let mut cells = line.strip_prefix("| ")?.split(" | ");
    Some((cells.next()?, cells.next()?))
}

/// What went upstream.
fn sent(outcome: &str) -> &str {
    outcome.split_once(": ").map_or("", |(_, sent)| sent)
}

fn cell(text: &str) -> String {
    let plain = |c: char| c == ' ' || c.is_ascii_graphic();
    let text: String = text
        .chars()
        .map(|c| if plain(c) { c } else { '?' })
        .collect();
    text.replace('|', "\\|").replace("GET /next", "next")
}
