#!/usr/bin/env python3
"""Tests of counts.py and budget.py: records, instructions and git histories that are made up."""
import subprocess
import sys
import tempfile
import unittest
from collections import Counter
from pathlib import Path

sys.dont_write_bytecode = True
import budget  # noqa: E402
import counts  # noqa: E402

RECORD = b"""\
--7--   SCHED[1]:  acquired lock (VG_(client_syscall)[async])
I  00001000,4
 S 00002000,8
SYSCALL[7,1](288) sys_accept4 ( 11, 0x1, 0x2, 526336 ) --> [async] ...
--7--   SCHED[1]: releasing lock (VG_(client_syscall)[async]) -> VgTs_WaitSys
--7--   SCHED[2]:  acquired lock (VG_(client_syscall)[async])
I  00001000,4
 L 00002000,8
I  00001004,5
 M 00002038,8
SYSCALL[7,2](  1) sys_write ( 5, 0x1, 8 ) --> [async] ...
--7--   SCHED[2]: releasing lock (VG_(client_syscall)[async]) -> VgTs_WaitSys
--7--   SCHED[1]:  acquired lock (VG_(client_syscall)[async])
SYSCALL[7,1](288) ... [async] --> Failure(0xb)
SYSCALL[7,1](288) ... [async] --> Success(0x12)
I  00001004,5
SYSCALL[7,1]( 56) sys_clone ( 3d0f00 ) --> [pre-success] Success(0x8) --7--   SCHED[3]:  acquired lock (starting)
 S 00002040,8
""".splitlines(keepends=True)


class Record(unittest.TestCase):
    def setUp(self):
        self.trace = counts.Trace()
        self.trace.allocates = frozenset([b"00001004"])
        self.trace.read(RECORD)

    def test_only_an_accepted_connection_begins_a_part(self):
        totals = [part.instructions.total() for part in self.trace.parts]
        self.assertEqual(totals, [3, 1])
        self.assertEqual(self.trace.parts[0].instructions, {b"00001000": 2, b"00001004": 1})

    def test_a_write_belongs_to_the_thread_that_runs(self):
        first, second = self.trace.parts
        self.assertEqual(set(first.writes), {(1, 0x80, b"00001000"), (2, 0x80, b"00001004")})
        self.assertEqual(set(second.writes), {(3, 0x81, b"00001004")})

    def test_a_system_call_is_counted_once(self):
        self.assertEqual(self.trace.parts[0].calls, {"accept4": 1, "write": 1})
        self.assertEqual(self.trace.parts[1].calls, {"clone": 1})

    def test_a_call_of_the_allocator_is_told_by_its_caller(self):
        self.assertEqual(self.trace.parts[0].allocator_calls, {b"00001000": 1})


class Counting(unittest.TestCase):
    def test_locked_instructions(self):
        for code in ("f0 48 0f b1 0b", "f0 ff 0f", "66 f0 0f c1 07", "f2 f0 ff 00", "48 87 07", "86 44 24 08"):
            self.assertTrue(counts.is_locked(bytes.fromhex(code)), code)
        # A plain move, an xchg of registers, a compare-and-swap without a lock, and bytes that end.
        for code in ("48 89 07", "48 87 c7", "0f b1 0b", "48 f0", "87", ""):
            self.assertFalse(counts.is_locked(bytes.fromhex(code)), code)

    def test_what_allocates(self):
        for name in ("malloc", "calloc", "mi_malloc_aligned", "mi_realloc_aligned", "__rust_alloc_zeroed"):
            self.assertTrue(counts.ALLOCATES.match(name), name)
            self.assertTrue(counts.ALLOCATOR.match(name), name)
        for name in ("mi_free", "__rust_dealloc", "malloc_usable_size", "mi_malloc_generic"):
            self.assertFalse(counts.ALLOCATES.match(name), name)
        self.assertFalse(counts.ALLOCATOR.match("alloc::boxed::box_new_uninit"))

    def test_what_happens_once_or_once_a_second_is_no_cost_of_a_request(self):
        parts = []
        for requests, seconds in ((0, 5), (counts.REQUESTS, 4), (3 * counts.REQUESTS, 11)):
            part = counts.Part()
            part.seconds = seconds
            part.instructions["all"] = 1000 + 17 * requests + 300 * seconds
            parts.append(part)
        self.assertAlmostEqual(counts.per_request(parts, lambda part: part.instructions.total()), 17)

    def test_a_line_that_one_thread_writes_is_not_shared(self):
        part = counts.Part()
        part.writes = Counter({(1, 9, b"a"): 50, (2, 8, b"a"): 50})
        self.assertFalse(counts.shared_writes(part))
        # The writes of the one that writes most move nothing by themselves.
        part.writes = Counter({(1, 9, b"a"): 50, (1, 9, b"b"): 5, (2, 9, b"a"): 4, (3, 9, b"c"): 3})
        self.assertEqual(counts.shared_writes(part), {b"a": 4, b"c": 3})


class Limits(unittest.TestCase):
    def test_a_count_above_its_limit_is_named(self):
        self.assertEqual(budget.complaints({"a": 4.0, "b": 7.25}, {"a": 4, "b": 8}), [])
        bad = budget.complaints({"a": 4.5, "b": float("nan"), "c": 1}, {"a": 4, "b": 8, "d": 1})
        self.assertEqual([line.split(":")[0] for line in bad], ["a", "b", "c", "d"])
        self.assertEqual(bad[0], "a: measured 4.50 a request, allowed 4")

    def test_every_count_has_a_limit(self):
        of_one = {"instructions", "locked-instructions", "allocations", "system-calls"}
        of_all = of_one | {"shared-atomic-writes", "shared-plain-writes"}
        counted = set(of_all)
        for kind, metrics in (
            (budget.HIT, of_all),
            (budget.EDGE_HIT, of_all),
            (budget.EDGE, of_one),
            (budget.EDGE_FULL, of_one),
            (budget.EDGE_CACHED, of_one),
        ):
            counted |= {kind + metric for metric in metrics}
        self.assertEqual(set(budget.tomllib.loads(budget.FILE.read_text())), counted)


class History(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = Path(folder.name) / "benches"
        self.folder.mkdir()
        self.file = self.folder / "budget.toml"

    def git(self, *args):
        identity = ["-c", "user.name=t", "-c", "user.email=t@localhost", "-c", "commit.gpgsign=false"]
        subprocess.run(["git", "-C", str(self.folder), *identity, *args], check=True, capture_output=True)

    def commit(self, text, message):
        if not (self.folder / ".git").exists():
            self.git("init", "-q", "-b", "main")
        self.file.write_text(text)
        self.git("add", "budget.toml")
        self.git("commit", "-q", "--allow-empty", "-m", message)

    def raised(self):
        return budget.silently_raised(self.file)

    def test_lowering_needs_no_word(self):
        self.commit("a = 5\nb = 1\n", "Begin")
        self.commit("a = 4\nb = 1\nc = 9\n", "Lower")
        self.assertEqual(self.raised(), [])

    def test_a_silent_raise_is_found_also_later(self):
        self.commit("a = 5\n", "Begin")
        self.commit("a = 6\n", "Raise it\n\nBudget-raise: other because\nBudget-raise: a\n")
        self.commit("a = 6\n", "Do something else")
        self.assertEqual(len(self.raised()), 1)
        self.assertIn("a: the limit of 5 was raised to 6, by commit", self.raised()[0])
        self.commit("a = 6\n", "Explain\n\nBudget-raise: a the new parser is safer")
        self.assertEqual(self.raised(), [])

    def test_a_limit_that_is_gone_was_raised(self):
        self.commit("a = 5\nb = 1\n", "Begin")
        self.commit("b = 1\n", "Forget it")
        self.assertIn("raised to inf", self.raised()[0])

    def test_an_earlier_word_does_not_excuse_a_later_raise(self):
        self.commit("a = 5\n", "Begin")
        self.commit("a = 6\n", "Raise\n\nBudget-raise: a reason\n")
        self.assertEqual(self.raised(), [])
        self.commit("a = 7\n", "Raise again")
        self.assertEqual(len(self.raised()), 1)

    def test_what_is_not_committed_counts(self):
        self.commit("a = 5\n", "Begin")
        self.file.write_text("a = 8\n")
        self.assertIn("not committed", self.raised()[0])

    def test_a_merge_may_take_the_limit_of_either_side(self):
        self.commit("a = 5\n", "Begin")
        self.git("checkout", "-q", "-b", "side")
        self.commit("a = 4\n", "Lower there")
        self.git("checkout", "-q", "main")
        self.commit("a = 3\n", "Lower here")
        self.git("merge", "-q", "-s", "ours", "side")
        self.assertEqual(self.raised(), [])


if __name__ == "__main__":
    unittest.main()
