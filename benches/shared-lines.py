#!/usr/bin/env python3
"""Counts what two workers write to the same lines of memory, in the ways in which `reverse-proxy` is used.

    benches/shared-lines.py target/release/reverse-proxy

As `benches/counts.py` does, which says how: two workers, each with a connection of its own, used in turns. Counted are the
writes to lines that both write, of the one that writes the line less. What happens once a second is no matter of requests:
a line counts if it gets at least one such write in four requests.
"""
import collections
import importlib
import ssl
import struct
import subprocess
import sys
import tempfile
from pathlib import Path

sys.dont_write_bytecode = True
counts = importlib.import_module("counts")

# The writes a request from which on a line counts.
LEAST = 0.25
FRAME_HEADERS, FRAME_SETTINGS, FRAME_PING = 1, 4, 6
END_STREAM, ACK, END_HEADERS = 1, 1, 4



class H2:
    """A connection of HTTP/2."""

    def __init__(self, connection, scheme):
        self.connection, self.stream = connection, -1
        # GET / of the static table (RFC 7541 appendix A), and the authority x.
        self.head = bytes([0x82, 0x84, {"http": 0x86, "https": 0x87}[scheme], 0x41, 1]) + b"x"
        connection.sendall(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + self.frame(FRAME_SETTINGS, 0, 0, b""))

    @staticmethod
    def frame(kind, flags, stream, payload):
        return struct.pack(">I", len(payload))[1:] + struct.pack(">BBI", kind, flags, stream) + payload

    def get(self):
        """One request, and the end of its answer."""
        self.stream += 2
        self.connection.sendall(self.frame(FRAME_HEADERS, END_STREAM | END_HEADERS, self.stream, self.head))
        while True:
            head = self.read(9)
            kind, flags, stream = struct.unpack(">BBI", head[3:])
            payload = self.read(int.from_bytes(head[:3], "big"))
            if kind in (FRAME_SETTINGS, FRAME_PING) and not flags & ACK:
                back = payload if kind == FRAME_PING else b""
                self.connection.sendall(self.frame(kind, ACK, 0, back))
            elif stream == self.stream and kind in (0, FRAME_HEADERS):
                if flags & END_STREAM:
                    return
            elif kind in (3, 7):
                counts.fail(f"the proxy ended a stream or the connection: frame {kind} {payload!r}")

    def read(self, size):
        data = b""
        while len(data) < size:
            more = self.connection.recv(size - len(data))
            if not more:
                counts.fail("the proxy closed a connection of HTTP/2")
            data += more
        return data


def over_tls(protocol):
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    context.set_alpn_protocols([protocol])

    def connect(process, port):
        connection = context.wrap_socket(counts.connect(process, port), server_hostname="x")
        if connection.selected_alpn_protocol() != protocol:
            counts.fail(f"the proxy does not speak {protocol}")
        return H2(connection, "https") if protocol == "h2" else connection

    return connect


def h2c(process, port):
    return H2(counts.connect(process, port), "http")


def get_h2(connection, _):
    connection.get()


H1 = (counts.connect, counts.get)
SIMPLEST = "sites: {{routes: {{proxy: '{upstream}'}}}}\n"
WAYS = {
    "HTTP/1.1": (counts.CONFIG, *H1),
    "HTTP/1.1, access log, limit of rate, headers": (counts.CONFIG_FULL, *H1),
    "HTTP/1.1, a hit of the cache": (counts.CONFIG_CACHED, *H1),
    "HTTP/1.1 over TLS": ("TLS", over_tls("http/1.1"), counts.get),
    "HTTP/2 over TLS": ("TLS", over_tls("h2"), get_h2),
    "HTTP/2 without TLS": ("H2C", h2c, get_h2),
}


def configs(folder):
    """The files that need more than an address."""
    cert, key = Path(folder, "cert.pem"), Path(folder, "key.pem")
    command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"]
    command += ["-subj", "/CN=x", "-addext", "subjectAltName=DNS:x", "-days", "2", "-keyout", key, "-out", cert]
    subprocess.run(command, check=True, capture_output=True)
    site = f"sites: {{{{hosts: [x], tls: {{{{cert: '{cert}', key: '{key}'}}}}, routes: {{{{proxy: '{{upstream}}'}}}}}}}}\n"
    return {
        "TLS": "listen: {{address: '{listen}', tls: true}}\n" + site,
        "H2C": "listen: {{address: '{listen}', h2c: true}}\n" + SIMPLEST,
    }


def between_workers(part, workers):
    """The part with the writes of the workers alone: other threads do what happens once a second."""
    part.writes = collections.Counter({at: count for at, count in part.writes.items() if at[0] in workers})
    return part


def shared(parts, key):
    """Writes a request to lines that both workers write, by something else."""
    by_thread = collections.Counter()
    for (thread, _, _), count in parts[-1].writes.items():
        by_thread[thread] += count
    workers = {thread for thread, _ in by_thread.most_common(2)}
    idle, one, three = parts = [between_workers(part, workers) for part in parts]
    # What a part without requests has for each of its seconds is no matter of requests.
    seconds = (three.seconds - one.seconds) / idle.seconds
    found = collections.Counter()
    for factor, part in zip((-seconds, -1, 1), parts):
        for what, count in counts.shared_writes(part, key=lambda line, at: (line, *key(at))).items():
            found[what] += factor * count
    of_line = collections.Counter()
    for (line, *_), count in found.items():
        of_line[line] += count
    return {
        tuple(what): count / counts.REQUESTS
        for (line, *what), count in found.items()
        if of_line[line] >= LEAST * counts.REQUESTS and count > 0
    }


def main():
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    print("| way | atomic | plain | by |\n|---|---:|---:|---|")
    with tempfile.TemporaryDirectory() as folder:
        more = configs(folder)
        for way, (config, connect, get) in WAYS.items():
            hit = config == counts.CONFIG_CACHED
            origin = counts.Origin(counts.STORED_BODY if hit else counts.BODY)
            proxy = [sys.argv[1], *counts.FILE]
            parts, code = counts.run(
                proxy, origin, 2, 2, more.get(config, config), connect=connect, get=get
            )
            by = shared(parts, lambda at: (code.is_locked(at), code.name(at)))
            sums = [sum(count for (locked, _), count in by.items() if locked == wanted) for wanted in (True, False)]
            names = ", ".join(f"`{name}` {count:.2f}" for (_, name), count in sorted(by.items(), key=lambda x: -x[1]))
            print(f"| {way} | {sums[0]:.2f} | {sums[1]:.2f} | {names} |", flush=True)


if __name__ == "__main__":
    main()
