#!/usr/bin/env python3
"""Compares what thousands of routes cost here and in nginx.

    benches/many-routes.py target/release/reverse-proxy

Writes one configuration with 2,000 hosts of 5 routes each, as a file of this proxy's and as an nginx.conf, and one with
2 hosts, for each of which it prints

- what the start costs, in milliseconds of processor time of all its processes, and the memory that it holds then;
- what a reload of the same file costs, and how much more memory is held after ten;
- what a request costs, in microseconds of processor time, over requests to all hosts and routes in turns.

Processor time, as the kernel counts it for each thread, since on a machine with other work the time of a clock says little.
One worker each, and both answer by themselves, so that what is measured is the way to a route.

Needs Linux, Python 3.9 and nginx.
"""
import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

REQUESTS = 40_000
RELOADS = 10
ROUTES = 5


def ours(hosts, address):
    """Returns a file of this proxy's."""
    lines = [f"listen: '{address}'", "server: {threads: 1}", "sites:"]
    for host in range(hosts):
        lines += [f"  - hosts: [h{host}.example.org]", "    routes:"]
        for route in range(ROUTES):
            lines.append(f"      - {{path: /r{route}/*, respond: {{status: 200, body: 'h{host} r{route}'}}}}")
    return "\n".join(lines) + "\n"


def nginxs(hosts, address, folder):
    """Returns an nginx.conf."""
    lines = [
        "daemon off; worker_processes 1; error_log stderr crit;",
        f"pid {folder}/pid; events {{}}",
        "http { access_log off; keepalive_requests 1000000000; server_names_hash_max_size 65536; default_type text/plain;",
    ]
    for body in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi"):
        lines.append(f"{body}_temp_path {folder}/{body};")
    for host in range(hosts):
        lines.append(f"server {{ listen {address}; server_name h{host}.example.org;")
        for route in range(ROUTES):
            lines.append(f"location /r{route}/ {{ return 200 'h{host} r{route}'; }}")
        lines.append("}")
    return "\n".join([*lines, "}"]) + "\n"


def free_address():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return "127.0.0.1:%d" % probe.getsockname()[1]


class Running:
    """A proxy and its children."""

    def __init__(self, command, address):
        self.host, port = address.split(":")
        self.port = int(port)
        self.process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        # What a process that has ended had spent is known from its parent only.
        self.wait_for(lambda: self.answer(0, 0))

    def wait_for(self, holds):
        for _ in range(3000):
            if self.process.poll() is not None:
                raise SystemExit(f"{self.process.args[0]} ended with {self.process.returncode}")
            with contextlib.suppress(OSError):
                if holds():
                    return
            time.sleep(0.02)
        raise SystemExit(f"{self.process.args[0]} did not get ready in a minute")

    def pids(self):
        main = self.process.pid
        children = Path(f"/proc/{main}/task/{main}/children").read_text().split()
        return [main, *map(int, children)]

    def milliseconds(self):
        """Returns the processor time of all its threads, and of the children that have ended."""
        total = 0.0
        for pid in self.pids():
            with contextlib.suppress(OSError):
                for task in Path(f"/proc/{pid}/task").iterdir():
                    total += int((task / "schedstat").read_text().split()[0]) / 1e6
        fields = Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()
        return total + (int(fields[13]) + int(fields[14])) * 1000 / os.sysconf("SC_CLK_TCK")

    def kilobytes(self):
        """Returns the memory that no other process shares, and its part of what is shared."""
        total = 0
        for pid in self.pids():
            for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
                if line.startswith("Pss:"):
                    total += int(line.split()[1])
        return total

    def connect(self):
        return socket.create_connection((self.host, self.port), timeout=60)

    def answer(self, host, route):
        with self.connect() as stream:
            return self.ask(stream, host, route)

    def ask(self, stream, host, route):
        stream.sendall(b"GET /r%d/x HTTP/1.1\r\nHost: h%d.example.org\r\n\r\n" % (route, host))
        expected = b"h%d r%d" % (host, route)
        got = b""
        while not got.endswith(expected):
            more = stream.recv(4096)
            if not more:
                return False
            got += more
        return got.startswith(b"HTTP/1.1 200")

    def settle(self):
        """Waits until it has done what it was told: until half a second goes by with next to nothing spent."""
        spent = self.milliseconds()
        while True:
            time.sleep(0.5)
            now = self.milliseconds()
            if now - spent < 3:
                return now
            spent = now

    def reload(self):
        self.process.send_signal(signal.SIGHUP)

    def end(self):
        self.process.send_signal(signal.SIGTERM)
        try:
            self.process.wait(20)
        except subprocess.TimeoutExpired:
            self.process.kill()


def measure(command, address, hosts):
    running = Running(command, address)
    try:
        start = running.settle()
        memory = running.kilobytes()
        for _ in range(RELOADS):
            running.reload()
            time.sleep(0.2)
            running.settle()
        reload = (running.settle() - start) / RELOADS
        grown = running.kilobytes() - memory
        with running.connect() as stream:
            # The first request of a route makes its counts.
            for count in (hosts * ROUTES, REQUESTS):
                before = running.milliseconds()
                for n in range(count):
                    if not running.ask(stream, n // ROUTES * 7 % hosts, n % ROUTES):
                        raise SystemExit("a request had no answer")
            request = (running.milliseconds() - before) * 1000 / REQUESTS
    finally:
        running.end()
    return start, memory, reload, grown, request


def main():
    if len(sys.argv) != 2:
        raise SystemExit(__doc__)
    nginx = shutil.which("nginx") or "/usr/sbin/nginx"
    print("| | hosts | start, ms | memory, KiB | reload, ms | after ten, KiB more | request, us |")
    print("|---|---|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as folder:
        for hosts in (2, 2000):
            file = Path(folder, "edge.yaml")
            address = free_address()
            file.write_text(ours(hosts, address))
            figures = {"reverse-proxy": measure([sys.argv[1], "-c", str(file)], address, hosts)}
            file = Path(folder, "nginx.conf")
            address = free_address()
            file.write_text(nginxs(hosts, address, folder))
            figures["nginx"] = measure([nginx, "-c", str(file)], address, hosts)
            for name, (start, memory, reload, grown, request) in figures.items():
                print(f"| {name} | {hosts} | {start:.0f} | {memory} | {reload:.0f} | {grown} | {request:.1f} |")


main()
