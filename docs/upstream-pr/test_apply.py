#!/usr/bin/env python3
"""Tests of apply.py on a source of their own, which has its anchors and nothing else."""
import contextlib
import io
import sys
import tempfile
import unittest
from pathlib import Path
from unittest import mock

sys.dont_write_bytecode = True
import apply  # noqa: E402

SOURCE = """\
const MAX_SHUTDOWN_NOTIFY_SHARDS: usize = 1;

/// A request that parks in `read_request()` waits here.
struct Waiters;

impl Proxy {
    async fn handle_new_request(&self, mut conn: Box<HttpSession>) -> Option<Box<HttpSession>> {
        let done = tokio::select! {
            done = conn.read_request() => { done } // '}' and "}" close nothing
            _ = self.end() => return None,
        };
        done.ok().map(|_| conn)
    }

    async fn http_cleanup(&self) {
        // for those blocking on read_request()
        self.waiters.notify_waiters();
        self.shutdown_flag.store(true, Ordering::Release);
    }
}

mod tests {
    fn pending_session() -> Box<HttpSession> {
        Box::default()
    }

    #[tokio::test]
    async fn shutdown_wakes_parked_read_requests() {
        end(pending_session()).await.expect("late");
    }
}
"""


class Apply(unittest.TestCase):
    def test_the_flag_is_loaded_before_and_after_the_read(self):
        text = apply.changed(SOURCE)
        start, end = apply.function("handle_new_request", text)
        body = text[start:end]
        loads = [at for at in range(len(body)) if body.startswith("shutdown_flag.load", at)]
        reads = [at for at in range(len(body)) if body.startswith("conn.read_request()", at)]
        self.assertEqual((len(loads), len(reads)), (2, 3))
        self.assertTrue(loads[0] < min(reads) and max(reads) < loads[1])
        self.assertIn("KEEPALIVE_READ_TIMEOUT", body)

    def test_the_flag_is_set_before_anyone_is_woken(self):
        good = apply.changed(SOURCE)
        self.assertIn("Release);\n        self.waiters.notify_waiters();\n    }", good)
        self.assertLess(good.index("shutdown_flag.store"), good.index("notify_waiters();"))
        self.assertEqual(apply.flag_first(good), good)

    def test_the_test_expects_a_timeout_and_the_old_one_stays_under_another_name(self):
        text = apply.changed(SOURCE)
        start, end = apply.function("shutdown_wakes_parked_read_requests", text)
        self.assertIn("end(pending_kept_session())", text[start:end])
        start, end = apply.function("shutdown_wakes_first_reads_without_keepalive", text)
        self.assertIn('end(pending_session()).await.expect("late");', text[start:end])

    def test_a_second_run_changes_nothing(self):
        self.assertIsNone(apply.changed(apply.changed(SOURCE)))

    def test_an_anchor_that_is_missing_or_there_twice_is_named(self):
        for anchor in (
            "fn handle_new_request",
            "let done = tokio::select! {",
            "mut conn: Box<HttpSession>",
            "fn http_cleanup",
            "shutdown_flag.store(true, Ordering::Release);",
            "self.waiters.notify_waiters();",
            "blocking on read_request()",
            "request that parks in `read_request()`",
            "const MAX_SHUTDOWN_NOTIFY_SHARDS: usize = 1;",
            "fn pending_session",
            "fn shutdown_wakes_parked_read_requests",
            'expect("late")',
        ):
            for instead in ("", f"{anchor} {anchor}"):
                with self.subTest(anchor=anchor, instead=instead):
                    with self.assertRaisesRegex(apply.Missing, r"is there [02] times, not once"):
                        apply.changed(SOURCE.replace(anchor, instead))

    def test_a_brace_that_is_not_closed_is_named(self):
        cut = SOURCE[: SOURCE.index("async fn http_cleanup")]
        with self.assertRaisesRegex(apply.Missing, "closing brace"):
            apply.function("handle_new_request", cut.replace("done.ok()", "{ done.ok()"))

    def run_on(self, source):
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "src" / "lib.rs"
            if source is not None:
                path.parent.mkdir()
                path.write_text(source, encoding="utf-8")
            out = io.StringIO()
            with mock.patch.object(sys, "argv", ["apply.py", folder]):
                with contextlib.redirect_stdout(out), contextlib.redirect_stderr(out):
                    code = apply.main()
            return code, out.getvalue(), path.read_text() if source is not None else None

    def test_a_failure_changes_no_file_and_says_why(self):
        broken = SOURCE.replace("fn http_cleanup", "fn cleanup")
        code, said, left = self.run_on(broken)
        self.assertEqual((code, left), (1, broken))
        self.assertIn("nothing was changed: fn http_cleanup:", said)
        self.assertEqual(self.run_on(None)[0], 1)

    def test_it_says_what_it_did(self):
        code, said, text = self.run_on(SOURCE)
        self.assertEqual((code, text), (0, apply.changed(SOURCE)))
        self.assertIn(": applied", said)
        code, said, left = self.run_on(text)
        self.assertEqual((code, left), (0, text))
        self.assertIn(": already applied", said)


if __name__ == "__main__":
    unittest.main()
