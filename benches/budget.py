"""What one request may cost: benches/budget.toml, which may be lowered but not silently raised."""
import math
import re
import subprocess
import tomllib
from pathlib import Path

# What metrics begin with: each kind is counted by itself.
HIT = "hit-"
EDGE_HIT = "edge-hit-"
EDGE_FULL = "edge-full-"
EDGE_CACHED = "edge-cached-"
EDGE = "edge-"
# The longer ones first, of those that begin alike.
KINDS = (EDGE_HIT, EDGE_FULL, EDGE_CACHED, EDGE, HIT)
FILE = Path(__file__).with_name("budget.toml")
# A limit that is further than this above what was counted may be lowered.
SLACK = 1.05
RAISE = re.compile(r"^Budget-raise: (\S+) \S", re.MULTILINE)


def kind_of(metric):
    return next((kind for kind in KINDS if metric.startswith(kind)), "")


def check(counts, kind):
    """Prints the counts of a kind beside their limits. The exit code: 0 when all is within the budget."""
    limits = tomllib.loads(FILE.read_text())
    limits = {metric: limit for metric, limit in limits.items() if kind_of(metric) == kind}
    bad = complaints(counts, limits) + silently_raised(FILE)
    for metric, count in counts.items():
        print(f"{metric:25} {count:10.2f}  of {limits.get(metric, 'no limit')}")
    for metric, count in counts.items():
        if metric in limits and count * SLACK < limits[metric] - 0.5:
            print(f"{metric}: {count:.2f} is well below its budget of {limits[metric]}, which may be lowered")
    for line in bad:
        print(f"counts: {line}")
    return 1 if bad else 0


def complaints(counts, limits):
    """What is over its limit, or has none, or is not counted."""
    over = [
        f"{metric}: measured {count:.2f} a request, allowed {limits[metric]}"
        for metric, count in counts.items()
        if metric in limits and not count <= limits[metric]
    ]
    unknown = [f"{metric}: {FILE.name} has no limit for it" for metric in counts if metric not in limits]
    idle = [f"{metric}: {FILE.name} limits it, and nobody counts it" for metric in limits if metric not in counts]
    return over + unknown + idle


def silently_raised(file):
    """Raises of a limit, in any commit or not committed yet, that no message since then tells of."""
    folder, name = file.parent, file.name

    def git(*args):
        command = ["git", "-C", str(folder), *args]
        return subprocess.run(command, capture_output=True, text=True, check=False)

    if git("rev-parse", "--verify", "HEAD").returncode:
        print(f"counts: no git history here, so nobody knows whether {name} was raised")
        return []

    def limits(revision):
        shown = git("show", f"{revision}:./{name}")
        return None if shown.returncode else tomllib.loads(shown.stdout)

    bad = []
    commits = git("log", "--format=%H %P", "--", name).stdout.splitlines()
    for commit, *parents in map(str.split, commits):
        before = [found for parent in parents if (found := limits(parent)) is not None]
        told = set(RAISE.findall(git("log", "--format=%B", commit, "HEAD", "--not", *parents).stdout))
        bad += [f"{raised}, by commit {commit[:12]}" for raised in raises(before, limits(commit), told)]
    head = limits("HEAD")
    here = tomllib.loads(file.read_text())
    bad += [f"{raised}, not committed" for raised in raises([head] if head is not None else [], here, set())]
    return [f"{line}; its commit message must say `Budget-raise: METRIC reason`" for line in bad]


def raises(before, after, told):
    """Limits that are above all of those before, or gone. A merge has several before."""
    for metric in sorted(set().union(*before)):
        was = max(limits.get(metric, math.inf) for limits in before)
        now = (after or {}).get(metric, math.inf)
        if now > was and metric not in told:
            yield f"{metric}: the limit of {was} was raised to {now}"
