"""Measures what --in-flight gives: over a path of 50 ms, and on the loopback, where it should change nothing.

The path is the one of the tests, tests/tun_path.py. It prints a table and, in the last line, the medians as JSON; the
exit code is 1 if a limit is missed. It needs root or user namespaces, /dev/net/tun, and idle CPUs: one connects, and
one carries the packets.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections import defaultdict
from pathlib import Path
from statistics import median

from connbench.analysis.summary import summarize
from connbench.results.input_file import read
from connbench.units import duration

ROUNDS = 5
DELAY_MS = 50
PATH = Path(__file__).parents[1] / "tests" / "tun_path.py"
CONNBENCH = Path(sys.executable).with_name("connbench")
FAR = "198.19.0.1:9023"
"""Where the listener of tun_path.py listens."""

ONE_BY_ONE, AT_ONCE = ("-n", "20"), ("-n", "20000", "--in-flight", "1000")
ON_LOOPBACK = ("-n", "10000")
RUNS = {
    "path, blocking": (True, ONE_BY_ONE),
    "path, 1,000 in flight": (True, AT_ONCE),
    "path, 1,000 in flight, Python": (True, (*AT_ONCE, "--loop", "python")),
    "loopback, blocking": (False, ON_LOOPBACK),
    "loopback, 1 in flight": (False, (*ON_LOOPBACK, "--in-flight", "1")),
    "loopback, 1,000 in flight": (False, (*ON_LOOPBACK, "--in-flight", "1000")),
}

LEAST_PER_S, MOST_OF_BLOCKING = 10_000.0, 1.05


def measure(options: tuple[str, ...], file: Path, *, is_far: bool) -> tuple[float, float, float]:
    """Connections a second, and the median connect() and handshake in ns (0 without one), of a run."""
    command = [str(CONNBENCH), "run", "--strategy", "bind", *options, "--quiet", "--force", "-o", str(file)]
    if is_far:
        way = [sys.executable, str(PATH), "--delay", str(DELAY_MS)]
        command = [*way, *command, "--target", FAR, "--allow-remote", "--cpu", "none"]
    subprocess.run(command, check=True, capture_output=True)
    summary = summarize(read(file).strategies[0])
    handshake = summary.all.handshake
    return summary.rate or 0.0, summary.all.latency.p50, handshake.p50 if handshake.count else 0.0


def main() -> int:
    """Measure in turns, and print the medians."""
    found = defaultdict(list)
    with tempfile.TemporaryDirectory() as folder:
        for _ in range(ROUNDS):
            for name, (is_far, options) in RUNS.items():
                found[name].append(measure(options, Path(folder) / "run.json", is_far=is_far))
    figures = {name: [median(values) for values in zip(*runs, strict=True)] for name, runs in found.items()}
    print(f"{'':<32}{'conn/s':>9}{'connect() p50':>16}{'handshake p50':>16}")
    for name, (rate, connect, handshake) in figures.items():
        print(f"{name:<32}{rate:>9,.0f}{duration(connect):>16}{duration(handshake) if handshake else '-':>16}")
    ratio = figures["loopback, 1,000 in flight"][1] / figures["loopback, blocking"][1]
    per_s = figures["path, 1,000 in flight"][0]
    print(f"\nover the path: {per_s:,.0f} connections/s, at least {LEAST_PER_S:,.0f} expected")
    print(f"on the loopback: connect() p50 {ratio:.3f} x blocking, at most {MOST_OF_BLOCKING} expected")
    print(json.dumps({"path_per_s": round(per_s), "loopback_connect_ratio": round(ratio, 3)}))
    return int(per_s < LEAST_PER_S or ratio > MOST_OF_BLOCKING)


if __name__ == "__main__":
    sys.exit(main())
