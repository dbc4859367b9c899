#!/usr/bin/env python3
"""Measures what one server that comes and goes costs the requests of a cluster of 1,000.

    benches/flapping-servers.py target/release/reverse-proxy

A second process of this script is all the servers: 1,000 addresses of 127.0.0.0/8, each with a socket of its own. h2load
sends requests at a steady rate through the proxy, for turns without and with a server that flaps: each second another one
closes its socket and resets its connections, and a second later it is back. Printed for each turn are

- the time in which half, 99 of 100 and 999 of 1,000 requests were answered, as h2load notes them for each request;
- the requests that had no answer of 200, and the tries that were followed by another one.

Needs Linux, Python 3.9 and h2load (nghttp2-client). The load takes about half of one core.
"""
import contextlib
import os
import random
import re
import select
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path

SERVERS = 1000
CLIENTS = 50
RATE = 40  # Requests a second of each client.
SECONDS = 20
TURNS = 3
ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nok\n"
RESET = struct.pack("ii", 1, 0)


def address(number):
    return f"127.{1 + number // 250}.0.{1 + number % 250}"


class Servers:
    """All servers, on one port of many addresses. SIGUSR1 has them flap, SIGUSR2 has them stay."""

    def __init__(self, port):
        self.port = port
        self.poll = select.epoll()
        self.listeners = {}
        self.connections = {}
        self.of = [set() for _ in range(SERVERS)]
        self.socket_of = [None] * SERVERS
        self.flaps = False
        self.down = None
        for number in range(SERVERS):
            self.open(number)

    def open(self, number):
        listener = socket.socket()
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((address(number), self.port))
        listener.listen(64)
        listener.setblocking(False)
        self.listeners[listener.fileno()] = number
        self.socket_of[number] = listener
        self.poll.register(listener, select.EPOLLIN)

    def close(self, number):
        listener = self.socket_of[number]
        del self.listeners[listener.fileno()]
        listener.close()
        for fd in self.of[number].copy():
            self.connections[fd][0].setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
            self.drop(fd)

    def drop(self, fd):
        connection, number = self.connections.pop(fd)
        self.of[number].discard(fd)
        connection.close()

    def accept(self, number):
        with contextlib.suppress(OSError):
            connection, _ = self.socket_of[number].accept()
            connection.setblocking(False)
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            fd = connection.fileno()
            self.connections[fd] = (connection, number)
            self.of[number].add(fd)
            self.poll.register(fd, select.EPOLLIN)

    def answer(self, fd):
        try:
            # A request of this bench fits into one segment.
            asked = self.connections[fd][0].recv(8192)
            if asked:
                self.connections[fd][0].send(ANSWER)
                return
        except OSError:
            pass
        self.drop(fd)

    def flap(self):
        if self.down is not None:
            self.open(self.down)
            self.down = None
        if self.flaps:
            self.down = random.randrange(SERVERS)
            self.close(self.down)

    def switch(self, signal_number, _):
        self.flaps = signal_number == signal.SIGUSR1

    def run(self):
        signal.signal(signal.SIGUSR1, self.switch)
        signal.signal(signal.SIGUSR2, self.switch)
        print("ready", flush=True)
        next_flap = time.monotonic() + 1
        while True:
            for fd, _ in self.poll.poll(max(0, next_flap - time.monotonic())):
                if fd in self.listeners:
                    self.accept(self.listeners[fd])
                elif fd in self.connections:
                    self.answer(fd)
            if time.monotonic() >= next_flap:
                next_flap += 1
                self.flap()


def free_port():
    with socket.socket() as probe:
        probe.bind(("0.0.0.0", 0))
        return probe.getsockname()[1]


def tries_again(admin):
    with urllib.request.urlopen(f"http://127.0.0.1:{admin}/metrics") as answer:
        counts = re.findall(r"^edge_retries_total\{.*\} (\d+)", answer.read().decode(), re.MULTILINE)
    return sum(map(int, counts))


def load(port, log):
    """Sends requests for a turn, and returns their times in microseconds and the number that was not answered well."""
    log.unlink(missing_ok=True)
    command = ["h2load", "--h1", "-t1", f"-c{CLIENTS}", f"--rps={RATE}", f"-D{SECONDS}", f"--log-file={log}"]
    said = subprocess.run([*command, f"http://127.0.0.1:{port}/"], check=True, capture_output=True, text=True).stdout
    lines = [line.split("\t") for line in log.read_text().splitlines()]
    failed = sum(status != "200" for _, status, _ in lines)
    lost = re.search(r"(\d+) failed, (\d+) errored, (\d+) timeout", said)
    return sorted(int(took) for _, _, took in lines), max(failed, *map(int, lost.groups()))


def wait_for(port, process):
    for _ in range(3000):
        if process.poll() is not None:
            raise SystemExit(f"{process.args[0]} ended with {process.returncode}")
        with contextlib.suppress(OSError):
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
            return
        time.sleep(0.02)
    raise SystemExit(f"{process.args[0]} did not get ready in a minute")


def measure(servers, proxy, port, admin, log):
    wait_for(port, proxy)
    load(port, log)  # Opens the connections.
    print("| server that flaps | requests | p50, us | p99, us | p99.9, us | not answered | tries again |")
    print("|---|---|---|---|---|---|---|")
    for _ in range(TURNS):
        for flaps in (False, True):
            servers.send_signal(signal.SIGUSR1 if flaps else signal.SIGUSR2)
            time.sleep(2)
            before = tries_again(admin)
            times, failed = load(port, log)
            again = tries_again(admin) - before
            quantiles = " | ".join(str(times[int(len(times) * part)]) for part in (0.5, 0.99, 0.999))
            print(f"| {'one each second' if flaps else 'none'} | {len(times)} | {quantiles} | {failed} | {again} |", flush=True)


def main():
    if len(sys.argv) == 3 and sys.argv[1] == "--servers":
        Servers(int(sys.argv[2])).run()
    if len(sys.argv) != 2:
        raise SystemExit(__doc__)
    with tempfile.TemporaryDirectory() as folder, contextlib.ExitStack() as running:
        origins, port, admin = free_port(), free_port(), free_port()

        def start(command, **how):
            process = subprocess.Popen(command, **how)
            running.callback(lambda: (process.kill(), process.wait()))
            return process

        servers = start([sys.executable, __file__, "--servers", str(origins)], stdout=subprocess.PIPE, text=True)
        if servers.stdout.readline() != "ready\n":
            raise SystemExit("the servers did not start")
        file = Path(folder, "edge.yaml")
        to = ", ".join(f"'{address(number)}:{origins}'" for number in range(SERVERS))
        file.write_text(
            f"listen: 127.0.0.1:{port}\nadmin: 127.0.0.1:{admin}\nserver: {{threads: 1}}\n"
            f"sites: {{routes: {{proxy: {{to: [{to}]}}}}}}\n"
        )
        proxy = start([sys.argv[1], "-c", str(file)], stdout=subprocess.DEVNULL, env={**os.environ, "RUST_LOG": "off"})
        measure(servers, proxy, port, admin, Path(folder, "log"))


main()
