#!/usr/bin/env python3
"""Checks which items of pingora-http, pingora-core and pingora-proxy are hidden from their documentation.

A hidden item is public all the same, and nobody who reads the documentation knows of it. So what the crates share and
users do not need stands in the two internal modules, which are hidden as a whole; nothing in them is hidden once more.
Beside them only what is listed here is hidden: what 0.9.1 hides and users do not write against, and the methods of public
traits that the crates need and users should leave alone.
"""
import re
import sys
from pathlib import Path

CORE = "pingora-core/src/"

# (file, item)
INTERNAL = {
    (CORE + "lib.rs", "exchange"),
    ("pingora-http/src/lib.rs", "internal"),
}
UPSTREAM = {
    (CORE + "protocols/http/v2/client/read.rs", "poll_read_response_body"),
    (CORE + "protocols/http/v2/client/read.rs", "poll_read_response_header"),
    (CORE + "protocols/http/v2/server/read.rs", "poll_read_body_bytes"),
    (CORE + "protocols/http/v2/server/write.rs", "take_response_body_writer"),
}
# Of these no more than a handful: a method that is no part of a public trait can stand in an internal module.
OURS = {
    # The type of its result is internal.
    (CORE + "apps/mod.rs", "shutdown_registry"),
    # The adapter that stands in a session's place is found by them.
    (CORE + "protocols/http/custom/server.rs", "as_driver"),
    (CORE + "protocols/http/custom/server.rs", "as_driver_mut"),
    # A name that was parsed is not parsed again.
    ("pingora-http/src/into_case_header_name.rs", "into_named"),
}

HIDDEN = re.compile(r"#!?\[[^\]]*\bdoc\((?:[^\]]*\W)?hidden\b")
ITEM = re.compile(
    r"\s*(?:pub(?:\([^)]*\))?\s+)?(?:(?:default|const|async|unsafe)\s+)*"
    r"(?:(?:fn|mod|trait|struct|enum|union|type|const|static|use|macro_rules!)\s+)?(\w+(?:::\w+)*)"
)


def hidden(text):
    """The names of the items that a file hides."""
    waiting = False
    for line in text.splitlines():
        if HIDDEN.match(line.strip()):
            waiting = True
        elif waiting and line.strip() and not line.strip().startswith(("#[", "//")):
            waiting = False
            yield ITEM.match(line).group(1)


def differences(found, listed):
    """One line for each item that is hidden and not listed, or listed and not hidden."""
    for file, item in sorted(found - listed):
        yield f"{file} hides {item}: put it in an internal module, or document it"
    for file, item in sorted(listed - found):
        yield f"{file} does not hide {item}: take it from the list"


def main():
    root = Path(__file__).resolve().parent.parent
    found = {
        (str(path.relative_to(root)), item)
        for path in root.glob("pingora-*/src/**/*.rs")
        for item in hidden(path.read_text())
    }
    wrong = list(differences(found, INTERNAL | UPSTREAM | OURS))
    print("\n".join(wrong) or f"{len(found)} items are hidden, {len(OURS)} of them by choice")
    sys.exit(bool(wrong))


if __name__ == "__main__":
    main()
