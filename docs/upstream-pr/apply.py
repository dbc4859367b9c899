#!/usr/bin/env python3
"""Takes the shutdown waiter off the requests of a checkout of Pingora's crate pingora-proxy, version 0.9.1.

usage: apply.py DIR        DIR is the folder of the crate, the one with its Cargo.toml

Works by anchors: names of items, and short expressions inside them. Each must be there exactly once;
if one is not, the program names it, changes nothing and exits with 1. So it does for a file that it
cannot read or write. What was changed already is left as it is.
"""
import argparse
import re
import sys
from pathlib import Path

# A test that the change adds, by which it is known again.
ADDED = "a_request_read_during_shutdown_is_the_last"


class Missing(Exception):
    """An anchor that is not there exactly once."""


def once(pattern, text, what, start=0, end=None):
    """The only match of `pattern` in text[start:end]."""
    found = list(re.compile(pattern).finditer(text, start, len(text) if end is None else end))
    if len(found) != 1:
        raise Missing(f"{what}: `{pattern}` is there {len(found)} times, not once")
    return found[0]


# What hides braces: comments, strings, characters. A lifetime's ' closes nothing and matches none of them.
HIDDEN = re.compile(r'//[^\n]*|/\*.*?\*/|b?r(#*)".*?"\1|"(?:\\.|[^"\\])*"|\'(?:\\.[^\']*|[^\'\\])\'', re.S)


def closing(text, opening, what):
    """The place after the brace that closes the one at `opening`."""
    depth, at = 0, opening
    while at < len(text):
        hidden = HIDDEN.match(text, at)
        if hidden:
            at = hidden.end()
            continue
        depth += {"{": 1, "}": -1}.get(text[at], 0)
        at += 1
        if depth == 0:
            return at
    raise Missing(f"{what}: its closing brace is not there")


def function(name, text):
    """From the `fn` of the only function of that name to its closing brace."""
    what = f"fn {name}"
    start = once(rf"\bfn {name}\b", text, what).start()
    opening = text.find("{", start)
    if opening < 0:
        raise Missing(f"{what}: it has no body")
    return start, closing(text, opening, what)


def deeper(lines):
    return "\n".join("    " + line if line.strip() else line for line in lines.split("\n"))


def bound_read(text):
    """A read that a timeout bounds registers no waiter; the flag is loaded before and after the read."""
    what = "the read in fn handle_new_request"
    start, end = function("handle_new_request", text)
    session = once(r"mut (\w+): Box<HttpSession>", text, what, start, end)[1]
    head = once(r"let (\w+) = (?=tokio::select! \{)", text, what, start, end)
    once(r"\bread_request\(\)", text, what, head.end(), end)
    stop = closing(text, text.index("{", head.end()), what)
    if text[stop : stop + 1] != ";":
        raise Missing(f"{what}: no `;` after the select")
    select = deeper(text[head.end() : stop]).lstrip()
    read = f"""\
if {session}.get_keepalive() == Some(0) {{
            // without a limit, nothing would end this read at shutdown
            {session}.set_keepalive(Some(KEEPALIVE_READ_TIMEOUT));
        }}
        let {head[1]} = if self.shutdown_flag.load(Ordering::Acquire) {{
            // a request that is here already is answered, but no other is waited for
            match {session}.read_request().now_or_never() {{
                Some(result) => result,
                None => return None,
            }}
        }} else if {session}
            .get_keepalive()
            .is_some_and(|seconds| seconds > 0)
        {{
            // the keep-alive timeout ends this read: to be woken earlier would cost each request two
            // locked operations on a list that other threads may use too
            {session}.read_request().await
        }} else {{
            {select}
        }};
        if self.shutdown_flag.load(Ordering::Acquire) {{
            // nobody will read another request of this connection
            {session}.set_keepalive(None);
        }}"""
    return text[: head.start()] + read + text[stop + 1 :]


LIMIT = """

/// Seconds for which the next request of a kept connection is waited for when nothing else limits it:
/// as long as for the first.
const KEEPALIVE_READ_TIMEOUT: u64 = if cfg!(test) { 1 } else { 60 };"""


def add_limit(text):
    last = once(r"\bconst MAX_SHUTDOWN_NOTIFY_SHARDS: usize = \d+;", text, "the constants of src/lib.rs")
    return text[: last.end()] + LIMIT + text[last.end() :]


def flag_first(text):
    """Who is woken must find the flag set."""
    what = "the flag in fn http_cleanup"
    start, end = function("http_cleanup", text)
    store = once(r"[ \t]*self\.shutdown_flag\.store\(true, Ordering::\w+\);\n", text, what, start, end)
    wake = once(r"[ \t]*self\.\w+\.notify_waiters\(\);", text, what, start, end)
    if store.start() > wake.start():
        text = text[: wake.start()] + store[0] + text[wake.start() : store.start()] + text[store.end() :]
    return text


def say_so(text):
    """What the comments say of every request holds for those without a timeout from now on."""
    doc = once(r"\brequest that parks in `read_request\(\)`", text, "the docs of the sharded Notify")
    text = text[: doc.end()] + "\n/// without a keep-alive timeout" + text[doc.end() :]
    start, end = function("http_cleanup", text)
    note = once(r"\bblocking on read_request\(\)", text, "the comment in fn http_cleanup", start, end)
    return text[: note.end()] + " without a timeout" + text[note.end() :]


HELPER = """

    /// The same, of a connection that is kept without a limit.
    fn pending_kept_session() -> Box<HttpSession> {
        let mut session = pending_session();
        session.set_keepalive(Some(0));
        session
    }"""

NEW = """

    #[tokio::test]
    async fn NAME() {
        let proxy = HttpProxy::new(NoopProxy, Arc::new(ServerConf::default()));
        proxy.http_cleanup().await;
        let request = b"GET / HTTP/1.1\\r\\nHost: example.com\\r\\n\\r\\n";
        let socket = StaticVirtualSocket::new(request, Arc::default());
        let stream = L4Stream::from(VirtualSocketStream::new(Box::new(socket)));
        let mut session = Box::new(HttpSession::new_http1(Box::new(stream)));
        session.set_keepalive(Some(0));
        let session = proxy
            .handle_new_request(session)
            .await
            .expect("a request that had arrived was dropped");
        assert_eq!(session.get_keepalive(), None);
    }

    #[tokio::test]
    async fn shutdown_ends_kept_connections_without_a_request() {
        let proxy = HttpProxy::new(NoopProxy, Arc::new(ServerConf::default()));
        proxy.http_cleanup().await;
        let read = proxy.handle_new_request(pending_kept_session());
        assert!(matches!(read.now_or_never(), Some(None)));
    }""".replace("NAME", ADDED)


def change_tests(text):
    """Reads between requests end by a timeout, which is short in tests; others are woken, as before."""
    name = "shutdown_wakes_parked_read_requests"
    what = f"the test {name}"
    start, end = function(name, text)
    attribute = text.rindex("#[", 0, start)
    as_before = text[attribute:end].replace(name, "shutdown_wakes_first_reads_without_keepalive")
    test = text[attribute:end]
    body = once(rf"fn {name}\(\) \{{\n", test, what)
    test = test[: body.end()] + "        let start = std::time::Instant::now();\n" + test[body.end() :]
    session = once(r"\bpending_session\(\)", test, what)
    test = test[: session.start()] + "pending_kept_session()" + test[session.end() :]
    message = once(r'(?<=expect\(")[^"]*', test, what)
    test = test[: message.start()] + "the timeout did not end the parked read" + test[message.end() :]
    test = test[:-1].rstrip() + """
        // by the timeout and by nothing else; its clock may be a little ahead of this one
        assert!(start.elapsed() >= Duration::from_millis(900));
    }"""
    text = text[:attribute] + test + "\n\n    " + as_before + NEW + text[end:]
    helper = function("pending_session", text)[1]
    return text[:helper] + HELPER + text[helper:]


def changed(text):
    """The source with the change, or None when it has it already."""
    if re.search(rf"\bfn {ADDED}\b", text):
        return None
    for edit in (bound_read, add_limit, flag_first, say_so, change_tests):
        text = edit(text)
    return text


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("dir", type=Path, help="the folder of the crate pingora-proxy")
    path = parser.parse_args().dir / "src" / "lib.rs"
    try:
        text = changed(path.read_text(encoding="utf-8"))
        if text is None:
            print(f"{path}: already applied")
            return 0
        path.write_text(text, encoding="utf-8")
    except (OSError, UnicodeError, Missing) as error:
        print(f"{path}: nothing was changed: {error}", file=sys.stderr)
        return 1
    print(f"{path}: applied")
    return 0


if __name__ == "__main__":
    sys.exit(main())
