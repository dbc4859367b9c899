#!/usr/bin/env python3
"""Counts what one small proxied GET costs, and compares it with the budget.

    benches/counts.py [--top N] target/release/bare
    benches/counts.py [--top N] --edge target/release/reverse-proxy
    benches/counts.py [--top N] --edge-full target/release/reverse-proxy
    benches/counts.py [--top N] --edge-cached target/release/reverse-proxy
    benches/counts.py [--top N] --hits target/release/cached
    benches/counts.py [--top N] --edge-hits target/release/cached

The first is the smallest program on the crates, the second the simplest route of a file, the third one with a limit of
rate, changes to headers and an access log. The last three count what an answer of 1 KiB from memory costs: on the simplest route
of a file that has a cache, and by the bench `cached` from MemCache and from the storage of edge.

Any other proxy can be counted too, without a budget: give its command, with {listen}, {upstream} and
{threads} in place of two addresses and a number, and {file} in place of a file for `reverse-proxy`.

    benches/counts.py --top 20 other-proxy --from {listen} --to {upstream} --workers {threads}

Needs Linux on x86-64, Python 3.11, valgrind and nm. The proxy runs under valgrind, which writes down each
instruction, each store, each system call and each change of thread. So the counts are of what the program
does, and not of how long it takes: they hardly depend on the machine and not at all on its load.

A connection that the proxy accepts stands in that record, and parts it: one is opened and a pause follows, one
more is opened and N requests follow, one more and 3N requests follow, and a last one. What happens once
and what happens once a second drop out, since the parts differ in requests and in seconds only. The
seconds make it an estimate, good to about 1 %.

One worker: instructions, locked instructions, allocations, and system calls but for epoll_wait and
clock_gettime (which is no system call outside valgrind). Two workers, each with a connection of its own,
used in turns: of the lines of 64 bytes that more than one thread writes, the writes of all threads but the
one that writes it most.
"""
import argparse
import bisect
import collections
import contextlib
import fcntl
import math
import os
import platform
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from email.utils import formatdate
from pathlib import Path

sys.dont_write_bytecode = True
import budget  # noqa: E402

REQUEST = b"GET / HTTP/1.1\r\nHost: x\r\nUser-Agent: counts\r\nAccept: */*\r\n\r\n"
HEAD = (
    b"HTTP/1.1 200 OK\r\nServer: origin/1.0\r\nDate: %s\r\n"
    b"Content-Type: text/plain\r\nContent-Length: %d\r\nConnection: keep-alive\r\n\r\n"
)
BODY = b"hello world, 20 bytes\n"
STORED_BODY = b"%1023d\n" % 1
REQUESTS = 100
PAUSE_SECONDS = 5
PLACES = ["--listen", "{listen}", "--upstream", "{upstream}", "--threads", "{threads}"]
# What each program that has a budget is started with.
FILE = ["--conf", "{file}", "--threads", "{threads}"]
OPTIONS = {
    "": PLACES,
    budget.EDGE: FILE,
    budget.EDGE_FULL: FILE,
    budget.EDGE_CACHED: FILE,
    budget.HIT: PLACES,
    budget.EDGE_HIT: [*PLACES, "--store", "edge"],
}
CONFIG = """\
listen: {listen}
sites: {{routes: {{proxy: "{upstream}"}}}}
"""
CONFIG_FULL = """\
listen: {listen}
access_log: "{log}"
sites:
  routes:
    rate_limit: 1000000/s
    request_headers: {{set: {{x-client: "{{client_ip}}", x-origin: counts}}, remove: x-secret}}
    response_headers: {{set: {{x-frame-options: DENY}}, remove: server}}
    proxy: "{upstream}"
"""
CONFIG_CACHED = """\
listen: {listen}
sites: {{routes: {{proxy: {{to: "{upstream}", cache: {{ttl: 1h}}}}}}}}
"""
CONFIGS = {budget.EDGE_FULL: CONFIG_FULL, budget.EDGE_CACHED: CONFIG_CACHED}
# How often a proxy is started, each time with nothing in its memory.
STARTS = 2
START_SECONDS = 900
ANSWER_SECONDS = 60
NOT_COUNTED = {"epoll_wait", "epoll_pwait", "clock_gettime"}
ALLOCATOR = re.compile(r"_?_?(mi_|(malloc|calloc|realloc|aligned_alloc|posix_memalign)$)|.*__r(ust|dl|g)_(re)?alloc")
ALLOCATES = re.compile(
    r"(mi_)?(malloc|zalloc|calloc|realloc|rezalloc|aligned_alloc|posix_memalign)(_aligned)?$"
    r"|.*__r(ust|dl|g)_(alloc|alloc_zeroed|realloc)$"
)


def fail(text):
    sys.exit(f"counts: {text}")


class Origin:
    """Answers every request on every connection with the same small response, and counts the requests."""

    def __init__(self, body):
        self.body = body
        self.asked = 0
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.address = "127.0.0.1:%d" % self.listener.getsockname()[1]
        threading.Thread(target=self.accept, daemon=True).start()

    def accept(self):
        while True:
            connection = self.listener.accept()[0]
            threading.Thread(target=self.serve, args=(connection,), daemon=True).start()

    def serve(self, connection):
        data = b""
        with connection, contextlib.suppress(OSError):
            while more := connection.recv(65536):
                *heads, data = (data + more).split(b"\r\n\r\n")
                for _ in heads:
                    self.asked += 1
                    date = formatdate(usegmt=True).encode()
                    connection.sendall(HEAD % (date, len(self.body)) + self.body)


def get(connection, body):
    """One request, and its whole answer."""
    connection.sendall(REQUEST)
    answer = b""
    while not answer.endswith(b"\r\n\r\n" + body):
        more = connection.recv(65536)
        if not more:
            fail(f"the proxy closed a connection after {answer!r}")
        answer += more
    if not answer.startswith(b"HTTP/1.1 200 "):
        fail(f"the proxy answered {answer!r}")


class Part:
    """What happened between one accepted connection and the next."""

    def __init__(self):
        self.seconds = 0.0
        self.instructions = collections.Counter()  # by address
        self.allocator_calls = collections.Counter()  # by the address before the call
        self.calls = collections.Counter()  # system calls, by name
        self.writes = collections.Counter()  # by thread, line and address of the instruction


class Trace:
    """Reads valgrind's record while it is written."""

    THREAD = re.compile(rb"SCHED\[(\d+)\]:\s+acquired lock")
    # A call that blocks has a second line when it returns, with "..." in place of the name.
    CALL = re.compile(rb"SYSCALL\[\d+,\d+\]\(\s*\d+\) (?:sys_)?(\w+)")
    ACCEPTED = re.compile(rb"SYSCALL\[\d+,\d+\]\((?:288| 43)\) .*Success")

    def __init__(self):
        self.parts = [Part()]
        self.thread = 1
        # Where functions that allocate begin; known once the program is in memory.
        self.allocates = frozenset()

    def read(self, lines):
        before = address = b""
        part, line = self.parts[-1], b""
        for line in lines:
            if line[:1] == b"I":
                before, address = address, line[3 : line.index(b",")]
                part.instructions[address] += 1
                if address in self.allocates:
                    part.allocator_calls[before] += 1
            elif line[:2] in (b" S", b" M"):
                at = int(line[3 : line.index(b",")], 16)
                part.writes[self.thread, at >> 6, address] += 1
            elif line[:2] != b" L":
                self.event(line, part)
                part = self.parts[-1]

    def event(self, line, part):
        if call := self.CALL.search(line):
            part.calls[call[1].decode()] += 1
        if self.ACCEPTED.search(line):
            self.parts.append(Part())
        if thread := self.THREAD.search(line):
            self.thread = int(thread[1])


def is_locked(code):
    """Whether an instruction of x86-64 is an atomic read-modify-write."""
    prefixes = len(code) - len(code.lstrip(b"\x66\x67\xf0\xf2\xf3\x2e\x36\x3e\x26\x64\x65"))
    if b"\xf0" in code[:prefixes]:
        return True
    code = code[prefixes:]
    if code[:1] and code[0] >> 4 == 4:
        code = code[1:]
    # xchg with memory is locked without saying so.
    return len(code) > 1 and code[0] in (0x86, 0x87) and code[1] < 0xC0


class Code:
    """The program and its libraries, as they lie in the memory of a process."""

    def __init__(self, pid):
        self.files, self.symbols, self.known = [], [], {}
        base = {}
        for row in Path(f"/proc/{pid}/maps").read_text().splitlines():
            where, mode, offset, _, _, *path = row.split(maxsplit=5)
            if not path or not path[0].startswith("/") or not Path(path[0]).is_file():
                continue
            start, end = (int(x, 16) for x in where.split("-"))
            base.setdefault(path[0], start - int(offset, 16))
            if "x" in mode and "/valgrind/" not in path[0]:
                content = Path(path[0]).read_bytes()
                self.files.append((start, end, int(offset, 16), path[0], content))
        for path in {file[3] for file in self.files}:
            self.symbols += self.read_symbols(path, base[path])
        self.symbols.sort()

    @staticmethod
    def read_symbols(path, base):
        symbols = []
        with open(path, "rb") as file:
            head = file.read(18)
        if head[:4] != b"\x7fELF":
            return symbols
        # Only position-independent files are put somewhere.
        base = base if head[16] == 3 else 0
        for table in ([], ["-D"]):
            command = ["nm", "-C", "-S", "--defined-only", *table, path]
            text = subprocess.run(command, capture_output=True, text=True, check=False).stdout
            for row in text.splitlines():
                if symbol := re.match(r"([0-9a-f]+) ([0-9a-f]+) [tTwWi] (.+)", row):
                    start = int(symbol[1], 16) + base
                    symbols.append((start, start + int(symbol[2], 16), symbol[3].split("@")[0]))
        return symbols

    def name(self, address):
        """The function at an address, or the file where nobody tells the function."""
        at = int(address or b"0", 16)
        found = bisect.bisect_right(self.symbols, (at, math.inf)) - 1
        if found >= 0 and at < self.symbols[found][1]:
            return self.symbols[found][2]
        return next((path for start, end, _, path, _ in self.files if start <= at < end), "?")

    def allocates(self):
        return frozenset(b"%08x" % at for at, _, name in self.symbols if ALLOCATES.match(name))

    def is_locked(self, address):
        if address not in self.known:
            self.known[address] = self.look(int(address, 16))
        return self.known[address]

    def look(self, at):
        for start, end, offset, _, content in self.files:
            if start <= at < end:
                at += offset - start
                return is_locked(content[at : at + 15])
        return False


def free_port():
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return listener.getsockname()[1]


@contextlib.contextmanager
def traced(proxy, origin, workers, config):
    """The proxy under valgrind: its process, its port, the record and the thread that reads it."""
    port = free_port()
    out, record = os.pipe()
    fcntl.fcntl(out, fcntl.F_SETPIPE_SZ, 1 << 20)
    command = ["valgrind", "--tool=lackey", "--trace-mem=yes", "--trace-sched=yes", "--trace-syscalls=yes"]
    command += ["--basic-counts=no", "--fair-sched=yes", f"--log-fd={record}"]
    places = {"listen": f"127.0.0.1:{port}", "upstream": origin.address, "threads": workers}
    with tempfile.TemporaryDirectory() as folder:
        places |= {"file": Path(folder, "edge.yaml"), "log": Path(folder, "access.log")}
        places["file"].write_text(config.format(**places))
        command += [argument.format(**places) for argument in proxy]
        with started(command, record, out) as (process, trace):
            yield process, port, trace


@contextlib.contextmanager
def started(command, record, out):
    process = subprocess.Popen(command, pass_fds=[record], stdout=subprocess.DEVNULL)
    os.close(record)
    trace = Trace()
    reader = threading.Thread(target=lambda: trace.read(os.fdopen(out, "rb", 1 << 20)))
    reader.start()
    try:
        yield process, trace
    finally:
        process.kill()
        process.wait()
        reader.join()


def connect(process, port):
    end = time.monotonic() + START_SECONDS
    while process.poll() is None and time.monotonic() < end:
        with contextlib.suppress(ConnectionRefusedError):
            return socket.create_connection(("127.0.0.1", port), ANSWER_SECONDS)
        time.sleep(0.1)
    return fail("the proxy does not listen; what it said stands above")


def run(proxy, origin, workers, connections, config, connect=connect, get=get):
    """The parts with no request, with REQUESTS and with three times as many; and the code."""
    seconds = []
    with traced(proxy, origin, workers, config) as (process, port, trace):
        first = connect(process, port)
        code = Code(process.pid)
        trace.allocates = code.allocates()
        clients = [first] + [connect(process, port) for _ in range(connections - 1)]
        for turn in range(10 * connections):
            get(clients[turn % connections], origin.body)
        for requests, pause in ((0, PAUSE_SECONDS), (REQUESTS, 0), (3 * REQUESTS, 0), (0, 0)):
            begin = time.monotonic()
            clients.append(connect(process, port))
            get(clients[-1], origin.body)
            time.sleep(pause)
            for turn in range(requests):
                get(clients[turn % connections], origin.body)
            seconds.append(time.monotonic() - begin)
    parts = trace.parts[-4:-1]
    for part, took in zip(parts, seconds):
        part.seconds = took
    return parts, code


def per_request(parts, what):
    """What `what` counts for a request, when a part costs something once, for each request and each second."""
    idle, one, three = map(what, parts)
    idle_s, one_s, three_s = (part.seconds for part in parts)
    per_second = (three - 3 * one + 2 * idle) / (three_s - 3 * one_s + 2 * idle_s)
    return (three - one - per_second * (three_s - one_s)) / (2 * REQUESTS)


def at_most(parts, what):
    """What `what` counts for a request where each of two workers has half of the requests. What happens once a
    second is left in: whether a line is shared in a part depends on all that happened in it, so these counts are
    no sum of requests and seconds.
    """
    _, one, three = map(what, parts)
    return max(0.0, (three - one) / REQUESTS)


def cost_of_one_worker(proxy, origin, top, config):
    parts, code = run(proxy, origin, workers=1, connections=4, config=config)
    if not code.allocates():
        fail("no function that allocates is known in the program: is it stripped?")

    def locked(part):
        return sum(count for at, count in part.instructions.items() if code.is_locked(at))

    # An allocator that calls itself allocates once.
    def allocations(part):
        calls = part.allocator_calls.items()
        return sum(count for at, count in calls if not ALLOCATOR.match(code.name(at)))

    def calls(part):
        return sum(count for name, count in part.calls.items() if name not in NOT_COUNTED)

    show("instructions", [part.instructions for part in parts], code.name, top)
    atomic = [filtered(part.instructions, code.is_locked) for part in parts]
    show("locked instructions", atomic, code.name, top)
    show("calls of the allocator, by caller", [part.allocator_calls for part in parts], code.name, top)
    show("system calls", [part.calls for part in parts], str, top)
    return {
        "instructions": per_request(parts, lambda part: part.instructions.total()),
        "locked-instructions": per_request(parts, locked),
        "allocations": per_request(parts, allocations),
        "system-calls": per_request(parts, calls),
    }


def shared_writes(part, key=lambda line, at: at):
    """Writes to shared lines, by the address of the instruction or by something else."""
    lines = collections.defaultdict(collections.Counter)
    for (thread, line, _), count in part.writes.items():
        lines[line][thread] += count
    main = {line: max(threads, key=threads.get) for line, threads in lines.items()}
    shared = collections.Counter()
    for (thread, line, at), count in part.writes.items():
        if thread != main[line]:
            shared[key(line, at)] += count
    return shared


def cost_of_two_workers(proxy, origin, top, config):
    parts, code = run(proxy, origin, workers=2, connections=2, config=config)
    threads = collections.Counter()
    for (thread, _, _), count in parts[-1].writes.items():
        threads[thread] += count
    shares = [count for _, count in threads.most_common(2)]
    if len(shares) < 2 or shares[1] * 2 < shares[0]:
        fail(f"the requests did not go to two workers alike: writes by thread {dict(threads)}")
    for part in parts:
        shared = shared_writes(part)
        part.atomic = filtered(shared, code.is_locked)
        part.plain = shared - part.atomic
    # Half of the requests are the other worker's.
    show("atomic writes to shared lines", [part.atomic for part in parts], code.name, top, REQUESTS)
    show("plain writes to shared lines", [part.plain for part in parts], code.name, top, REQUESTS)
    lines = [shared_writes(part, key=lambda line, at: line << 6) for part in parts]
    show("writes to shared lines, by line", lines, "{:x}".format, top, REQUESTS)
    return {
        "shared-atomic-writes": at_most(parts, lambda part: part.atomic.total()),
        "shared-plain-writes": at_most(parts, lambda part: part.plain.total()),
    }


def filtered(counts, keep):
    return collections.Counter({key: count for key, count in counts.items() if keep(key)})


def show(title, counts, name, top, requests=2 * REQUESTS):
    """The largest of a count, by name; what happens once a second is in it."""
    by_name = collections.Counter()
    for sign, part in zip((-1, 1), counts[1:]):
        for key, count in part.items():
            by_name[name(key)] += sign * count
    if top:
        print(f"{title}, a request:")
    rows = [row for row in by_name.most_common(top) if row[1] > 0]
    for key, count in rows:
        print(f"{count / requests:12.2f}  {key[:120]}")


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--top", type=int, default=0, help="show so many functions for each count")
    kinds = parser.add_mutually_exclusive_group()
    kind = {"dest": "kind", "action": "store_const", "default": ""}
    kinds.add_argument("--edge", const=budget.EDGE, help="the proxy is `reverse-proxy`, which gets a file", **kind)
    kinds.add_argument("--edge-full", const=budget.EDGE_FULL, help="the same, with a file that asks for more", **kind)
    kinds.add_argument("--edge-cached", const=budget.EDGE_CACHED, help="the same, of a file with a cache: a hit", **kind)
    kinds.add_argument("--hits", const=budget.HIT, help="the proxy is the bench `cached`, count what a hit costs", **kind)
    kinds.add_argument("--edge-hits", const=budget.EDGE_HIT, help="the same, of the storage of edge", **kind)
    parser.add_argument("proxy", nargs=argparse.REMAINDER, help="the bench `bare`, or the command of another proxy")
    args = parser.parse_args()
    if not args.proxy:
        parser.error("which proxy?")
    if platform.system() != "Linux" or platform.machine() != "x86_64":
        fail("the counts are of x86-64 on Linux")
    for program, package in (("valgrind", "valgrind"), ("nm", "binutils")):
        if not shutil.which(program):
            fail(f"{program} is missing: apt-get install {package}")
    if not shutil.which(args.proxy[0]):
        fail(f"{args.proxy[0]} is missing: cargo build --release")
    # So that the proxy is ended too.
    signal.signal(signal.SIGTERM, lambda *_: fail("ended"))
    ours = len(args.proxy) == 1
    proxy = args.proxy + OPTIONS[args.kind] if ours else args.proxy
    hits = args.kind in (budget.HIT, budget.EDGE_HIT, budget.EDGE_CACHED)
    config = CONFIGS.get(args.kind, CONFIG)
    origin = Origin(STORED_BODY if hits else BODY)
    counts = cost_of_one_worker(proxy, origin, args.top, config)
    # Where files are looked at once a second, by other threads, that would be all there is to see.
    if FILE != OPTIONS[args.kind]:
        counts |= cost_of_two_workers(proxy, origin, args.top, config)
    if hits and origin.asked > STARTS:
        fail(f"the origin was asked {origin.asked} times: not all of these were hits")
    if ours:
        return budget.check({args.kind + metric: count for metric, count in counts.items()}, args.kind)
    for metric, count in counts.items():
        print(f"{metric:24} {count:10.2f}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
