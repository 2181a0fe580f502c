"""Measures `connbench fleet run --together` on hosts that are network namespaces of this machine.

With three hosts: how far apart they begin a turn, corrected by the offset of their clocks, which here is 0. With 32:
which part of a CPU the controller takes while all of them run, with lines on a terminal and without. It prints a line
for each, and last the figures as JSON; the exit code is 1 if a limit is missed. It needs root and ip, and idle CPUs.
"""

from __future__ import annotations

import argparse
import json
import os
import pty
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from threading import Thread

from connbench.results.fleet_file import results_of
from connbench.results.input_file import read_any
from connbench.results.result import Result

CONNBENCH = Path(sys.executable).with_name("connbench")
IP = shutil.which("ip") or "/sbin/ip"
NAME = f"spread{os.getpid()}x"
MOST_APART_MS, MOST_CPU = 5.0, 0.10
"""The limits: ms between the first and the last start of a turn, and the part of a CPU."""

TURNS = 5
TICKS = os.sysconf("SC_CLK_TCK")
WARM_UP_S, MEASURED_S = 3.0, 10.0


@contextmanager
def namespaces(number: int) -> Iterator[str]:
    """So many network namespaces with names; their host set."""
    names = [f"{NAME}{one}" for one in range(1, number + 1)]
    try:
        for name in names:
            subprocess.run([IP, "netns", "add", name], check=True)
            subprocess.run([IP, "-netns", name, "link", "set", "lo", "up"], check=True)
        yield f"{NAME}[1-{number}]"
    finally:
        for name in names:
            subprocess.run([IP, "netns", "delete", name], check=False, stderr=subprocess.DEVNULL)


def fleet_run(hosts: str, *options: str) -> list[str]:
    """The command."""
    return [str(CONNBENCH), "fleet", "run", "-w", hosts, "--via", "netns", "--together", "--timeout", "120s", *options]


def spreads_ms(results: list[Result]) -> list[float]:
    """For each turn the time between its first and its last start, in ms."""
    by_turn: dict[tuple[str, int], list[float]] = {}
    for result in results:
        for one in result.strategies:
            for turn in one.rounds:
                start_ms = turn.report.epoch_us / 1e3 + float(turn.samples.started_ns[0]) / 1e6
                by_turn.setdefault((one.strategy.label, turn.number), []).append(start_ms)
    return [max(starts) - min(starts) for starts in by_turn.values()]


def measure_spread() -> list[float]:
    """Of three hosts."""
    with namespaces(3) as hosts, tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "fleet.json")
        options = ["-n", "5000", "--strategy", "range", "--rounds", str(TURNS), "--cpu", "none"]
        subprocess.run(fleet_run(hosts, "-q", "-o", str(file), "--", *options), check=True, stdout=subprocess.DEVNULL)
        return spreads_ms(results_of([read_any(file, None)]))


def cpu_seconds(pid: int) -> float:
    """The CPU time of a process, without its children."""
    fields = Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS


def children(pid: int) -> list[int]:
    """The processes that a process started."""
    with suppress(OSError):
        return [int(word) for word in Path(f"/proc/{pid}/task/{pid}/children").read_text(encoding="ascii").split()]
    return []


def read_all(descriptor: int) -> None:
    """Be the terminal: read what is drawn."""
    with suppress(OSError):
        while os.read(descriptor, 65536):
            pass


def measure_cpu(number: int, *, is_terminal: bool) -> float:
    """The part of a CPU that the controller takes while so many hosts run."""
    options = ["-n", "2000", "--strategy", "range", "--churn", "1e6", "--churn-rate", "500/s", "--cpu", "none"]
    with namespaces(number) as hosts:
        leader, follower = pty.openpty()
        stderr = follower if is_terminal else subprocess.PIPE
        command = fleet_run(hosts, "--", *options)
        with subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=stderr) as process:
            os.close(follower)
            Thread(target=read_all, args=[leader], daemon=True).start()
            while sum(bool(children(engine)) for agent in children(process.pid) for engine in children(agent)) < number:
                time.sleep(0.2)
            time.sleep(WARM_UP_S)
            begin, begun_at = cpu_seconds(process.pid), time.monotonic()
            time.sleep(MEASURED_S)
            share = (cpu_seconds(process.pid) - begin) / (time.monotonic() - begun_at)
            process.terminate()
            if process.stderr:
                process.stderr.read()
            process.wait()
    return share


def main() -> int:
    """Measure, print, and judge."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--hosts", type=int, default=32, help="hosts while the CPU time is measured")
    arguments = parser.parse_args()
    spreads = measure_spread()
    print(f"3 hosts began {TURNS} turns within {', '.join(f'{one:.2f}' for one in spreads)} ms (limit {MOST_APART_MS})")
    shares = {is_terminal: measure_cpu(arguments.hosts, is_terminal=is_terminal) for is_terminal in (False, True)}
    for is_terminal, share in shares.items():
        how = "on a terminal" if is_terminal else "without a terminal"
        print(f"{arguments.hosts} hosts, {how}: the controller took {share:.1%} of a CPU (limit {MOST_CPU:.0%})")
    print(json.dumps({"spread_ms": spreads, "cpu": shares[False], "cpu_on_terminal": shares[True]}))
    return int(max(spreads) > MOST_APART_MS or max(shares.values()) > MOST_CPU)


if __name__ == "__main__":
    sys.exit(main())
