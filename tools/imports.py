#!/usr/bin/env python3
"""Checks which file imports which, in pingora-http, pingora-core and pingora-proxy.

The rules:

- In pingora-core, `protocols` imports nothing from `connectors`, `upstreams`, `server` or `listeners`.
- No circle of imports spans more than two files.

What counts as an import of a file: every `use`, and every path in code whose first name is `crate`, `self`,
`super`, one of the three crates, or a child module of the file. A name counts for the file that defines it: a
`use` that passes it on (re-exports at public paths, imports of a parent that its children take) is followed,
and a `pub use` of a name that the file does not use itself is no import of it. For the first rule every `use`
and every path as it is written counts. A module and its children count as they really
import; `mod child;` by itself is no import. Code under `#[cfg(test)]` does not count, nor do method calls,
derives, and what macros expand to. Code for fuzzing alone is test code.
"""
import re
import sys
from collections import defaultdict
from pathlib import Path
from typing import NamedTuple

CRATES = ("pingora-http", "pingora-core", "pingora-proxy")

# (the importing module, modules that it must not import from)
LAYERS = [
    (
        "pingora_core::protocols",
        [f"pingora_core::{upper}" for upper in ("connectors", "upstreams", "server", "listeners")],
    ),
]

# (the importing file, the imported file, why a public path of 0.9.1 forces the arrow)
EXCEPTIONS = [
    (
        "pingora-core/src/protocols/raw_connect.rs",
        "pingora-core/src/connectors/tunnel.rs",
        "the dialogue asks a Peer; it is public in protocols::raw_connect",
    ),
    (
        "pingora-core/src/protocols/tls/noop_tls/connectors.rs",
        "pingora-core/src/connectors/options.rs",
        "`Connector::new` takes ConnectorOptions; it is public in protocols::tls::noop_tls",
    ),
    (
        "pingora-core/src/protocols/tls/noop_tls/connectors.rs",
        "pingora-core/src/upstreams/peer/traits.rs",
        "`connect` takes a Peer; it is public in protocols::tls::noop_tls",
    ),
    (
        "pingora-core/src/protocols/tls/noop_tls/listeners.rs",
        "pingora-core/src/server/configuration/mod.rs",
        "`TlsSettings` takes a ServerConf; it is public in protocols::tls::noop_tls",
    ),
]

TOKEN = re.compile(
    r"""
      //[^\n]* | /\*.*?\*/                          # comments
    | b?r(?P<hashes>\#*)".*?"(?P=hashes)            # raw strings
    | b"(?:\\.|[^"\\])*"                            # strings of bytes
    | (?P<string>"(?:\\.|[^"\\])*")                 # strings, which `#[path]` needs
    | b?'(?:\\[^\n]+?|[^\\'\n])'                    # characters
    | '[A-Za-z_]\w*                                 # lifetimes
    | (?P<name>(?:r\#)?[A-Za-z_]\w*)
    | (?P<mark>::|[^\s\w])
    """,
    re.VERBOSE | re.DOTALL,
)
TESTS = ("cfg(test)", "cfg(all(test,", "cfg(any(test,fuzzing))", "cfg(fuzzing)")
DEFINES = {"struct", "enum", "trait", "type", "const", "static", "fn", "union", "mod", "macro_rules"}


class Import(NamedTuple):
    """A path that a file names; `alias` is the name that a `use` gives it there, "*" for a glob."""

    file: str
    module: str
    path: tuple[str, ...]
    alias: str | None
    passes_on: bool = False  # a `pub use` of what the file itself does not name


def tokens(text):
    """The names, marks and strings of a source, without comments and lifetimes."""
    found = (match.group("name", "mark", "string") for match in TOKEN.finditer(text))
    return [token for kinds in found for token in kinds if token]


def closing(code, at):
    """The index after the bracket that closes the one at `at`."""
    pairs = {"(": ")", "[": "]", "{": "}"}
    depth = 0
    for i in range(at, len(code)):
        if code[i] in pairs:
            depth += 1
        elif code[i] in pairs.values():
            depth -= 1
            if depth == 0:
                return i + 1
    return len(code)


def without_tests(code):
    """The tokens without the items that only tests have, and without attributes other than `#[path]`."""
    kept, i = [], 0
    while i < len(code):
        if code[i] == "#" and i + 1 < len(code) and code[i + 1] == "[":
            end = closing(code, i + 1)
            attribute = code[i + 2 : end - 1]
            only_tests = "".join(attribute).startswith(TESTS)
            i = end
            if only_tests:
                i = after_item(code, i)
            elif attribute[:2] == ["path", "="]:
                kept.append(attribute[2])
            continue
        kept.append(code[i])
        i += 1
    return kept


def after_item(code, i):
    """The index after the item, field or statement that begins at `i`."""
    is_use = False
    while i < len(code):
        if code[i] == "use":
            is_use = True
        if code[i] in ";,":
            return i + 1
        if code[i] == "{":
            i = closing(code, i)
            if not is_use:
                return i
        elif code[i] in "([":
            i = closing(code, i)
        elif code[i] in ")]}":
            return i
        else:
            i += 1
    return i


def use_tree(code, i, prefix):
    """The leaves of the tree of a `use` that goes on at `i`, and the index after it."""
    path, leaves = list(prefix), []
    while i < len(code):
        token = code[i]
        if token == "{":
            i += 1
            while code[i] != "}":
                branch, i = use_tree(code, i, path)
                leaves += branch
                if code[i] == ",":
                    i += 1
            return leaves, i + 1
        if token == "*":
            return [(tuple(path), "*")], i + 1
        if token == "::":
            i += 1
            continue
        if token in ";,}":
            break
        if token == "as":
            alias = code[i + 1]
            return [(tuple(path), alias)], i + 2
        if not (token == "self" and path):
            path.append(token)
        i += 1
    return [(tuple(path), path[-1])], i


def is_public(code, at):
    """Whether a visibility ends at `at`."""
    return code[at] == "pub" or (code[at] == ")" and "pub" in code[max(at - 6, 0) : at])


def names_outside_of_use(code):
    """The names that appear in the code but for its `use`s."""
    names, i = set(), 0
    while i < len(code):
        if code[i] == "use" and code[i + 1 : i + 2] != ["<"]:
            _, i = use_tree(code, i + 1, [])
        else:
            if code[i - 1] != "mod":
                names.add(code[i])
            i += 1
    return names


class Source:
    """What the sources of some crates define and import."""

    def __init__(self):
        self.files = {}  # module -> file
        self.defined = defaultdict(set)  # module -> names
        self.imports = []  # Import
        self.uses = defaultdict(list)  # module -> the imports by `use`

    def read_crate(self, root, crate):
        self._read_file(root, crate.replace("-", "_"), root / crate / "src" / "lib.rs")

    def _read_file(self, root, module, path):
        directory = path.parent if path.name in ("mod.rs", "lib.rs") else path.with_suffix("")
        file = str(path.relative_to(root))
        for child, named in self.read(module, file, path.read_text()):
            below = directory / Path(*child.split("::"))
            candidates = [path.parent / named] if named else [below.with_suffix(".rs"), below / "mod.rs"]
            for candidate in candidates:
                if candidate.exists():
                    self._read_file(root, f"{module}::{child}", candidate)

    def read(self, module, file, text):
        """Takes in one file; returns the modules that are files of their own, with the paths named for them."""
        self.files[module] = file
        code = without_tests(tokens(text))
        children, inline, depth, i = [], [], 0, 0  # inline: (the depth it is at, its path)
        named = names_outside_of_use(code)
        while i < len(code):
            token = code[i]
            here = inline[-1][1] if inline else module
            following = code[i + 1] if i + 1 < len(code) else ""
            if token == "{":
                depth += 1
            elif token == "}":
                depth -= 1
                if inline and inline[-1][0] == depth:
                    inline.pop()
            elif token == "use" and following != "<":
                before = i - 1
                leaves, i = use_tree(code, i + 1, [])
                public = is_public(code, before)
                for path, alias in leaves:
                    if path:
                        unused = alias == "*" or alias not in named
                        known = Import(file, here, path, alias, public and unused)
                        self.imports.append(known)
                        self.uses[here].append(known)
                continue
            elif token in DEFINES:
                name = code[i + 2] if token == "macro_rules" else following
                if depth == (inline[-1][0] + 1 if inline else 0):
                    self.defined[here].add(name)
                if token == "mod" and code[i + 2] == ";":
                    before = i - 1
                    while before > 0 and code[before] in ("pub", "(", ")", "crate", "super"):
                        before -= 1
                    path = code[before].strip('"') if code[before].startswith('"') else None
                    children.append((f"{here}::{name}".removeprefix(f"{module}::"), path))
                elif token == "mod" and code[i + 2] == "{":
                    inline.append((depth, f"{here}::{name}"))
                    self.files[f"{here}::{name}"] = file
                i += 1
            elif following == "::" and code[i - 1] != "::" and (token[0].isalpha() or token[0] == "_"):
                path, before = [token], i - 1
                while i + 2 < len(code) and code[i + 1] == "::" and re.match(r"\w", code[i + 2]):
                    path.append(code[i + 2])
                    i += 2
                if len(path) > 1 and not (code[before] == "in" and code[before - 2] == "pub"):
                    self.imports.append(Import(file, here, tuple(path), None))
            i += 1
        return children

    def absolutes(self, module, path, seen=()):
        """The paths from the root of a crate that `path` may be: several where `cfg` chooses, none of other crates."""
        crate = module.split("::")[0]
        first, rest = path[0], list(path[1:])
        if first == "crate":
            return [[crate, *rest]]
        if first in ("self", "super"):
            base = module.split("::")
            if first == "super":
                base.pop()
            while rest and rest[0] == "super":
                base.pop()
                rest.pop(0)
            return [[*base, *rest]]
        if f"{module}::{first}" in self.files:
            return [[*module.split("::"), first, *rest]]
        if first in self.files:
            return [[first, *rest]]
        if (module, first) in seen:
            return []
        return [
            [*base, *rest]
            for known in self.uses[module]
            if known.alias == first and known.path != path
            for base in self.absolutes(module, known.path, (*seen, (module, first)))
        ]

    def resolve(self, path, seen=()):
        """The modules that define what the absolute `path` names; that of the path itself if none is known to."""
        module = path[0]
        for at in range(1, len(path)):
            name = path[at]
            below = f"{module}::{name}"
            if below in self.files:
                module = below
                continue
            if name in self.defined[module]:
                return {module}
            if (module, name) in seen:
                return set()
            found = set()
            for passed_on in self._passed_on(module, name):
                found |= self.resolve([*passed_on, *path[at + 1 :]], (*seen, (module, name)))
            return found or {module}
        return {module}

    def _passed_on(self, module, name):
        """The paths to which `use`s in `module` lead `name`."""
        for known in self.uses[module]:
            if known.alias == name:
                yield from self.absolutes(module, known.path)
            elif known.alias == "*":
                for target in self.absolutes(module, known.path):
                    below = "::".join(target)
                    aliases = {other.alias for other in self.uses[below]}
                    if name in self.defined[below] or name in aliases or f"{below}::{name}" in self.files:
                        yield [*target, name]

    def arrows(self):
        """Who imports what: (the import, its absolute path as written, a module that defines it)."""
        for known in self.imports:
            if known.alias is None and known.path[0] in {use.alias for use in self.uses[known.module]}:
                continue  # The `use` counts.
            for path in self.absolutes(known.module, known.path):
                for defining in sorted(self.resolve(path)):
                    yield known, "::".join(path), defining


def is_below(path, module):
    return path == module or path.startswith(module + "::")


def upwards(source):
    """The imports that break the order of layers: (importing file, imported file, the path)."""
    for known, written, defining in source.arrows():
        for lower, uppers in LAYERS:
            for upper in uppers:
                if is_below(known.module, lower) and (is_below(written, upper) or is_below(defining, upper)):
                    yield known.file, source.files[defining], written


def graph(source):
    """importing file -> imported file -> paths by which it does."""
    edges = defaultdict(lambda: defaultdict(set))
    for known, _, defining in source.arrows():
        imported = source.files[defining]
        if known.file != imported and not known.passes_on:
            edges[known.file][imported].add("::".join(known.path))
    return edges


def circles(edges, most=2):
    """The strongly connected sets of more than `most` files, the largest first (Tarjan's algorithm)."""
    index, low, stack, found = {}, {}, [], []

    def visit(node):
        index[node] = low[node] = len(index)
        stack.append(node)
        for below in edges.get(node, ()):
            if below not in index:
                visit(below)
                low[node] = min(low[node], low[below])
            elif below in stack:
                low[node] = min(low[node], index[below])
        if low[node] == index[node]:
            at = stack.index(node)
            if len(stack) - at > most:
                found.append(sorted(stack[at:]))
            del stack[at:]

    for node in sorted(edges):
        if node not in index:
            visit(node)
    return sorted(found, key=len, reverse=True)


def check(source, exceptions=()):
    """What breaks the rules, as lines to print."""
    exempt = {(importer, imported) for importer, imported, _ in exceptions}
    needed, lines, edges = set(), set(), graph(source)
    for importer, imported, path in upwards(source):
        if (importer, imported) in exempt:
            needed.add((importer, imported))
        else:
            lines.add(f"upwards: {importer} imports {path}")
    for importer, imported in exempt:
        if edges[importer].pop(imported, None):
            needed.add((importer, imported))
    for importer, imported in exempt - needed:
        lines.add(f"needless exception: {importer} does not import {imported}")
    lines = sorted(lines)
    for circle in circles(edges):
        lines.append(f"a circle of {len(circle)} files:")
        for importer in circle:
            for imported in sorted(edges[importer]):
                if imported in circle:
                    lines.append(f"    {importer} imports {imported}: {', '.join(sorted(edges[importer][imported]))}")
    return lines


def main():
    root = Path(__file__).resolve().parent.parent
    source = Source()
    for crate in CRATES:
        source.read_crate(root, crate)
    lines = check(source, EXCEPTIONS)
    print("\n".join(lines) if lines else f"the imports of {len(set(source.files.values()))} files are in order")
    return 1 if lines else 0


if __name__ == "__main__":
    sys.exit(main())
