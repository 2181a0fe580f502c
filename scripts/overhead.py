"""Measures what connbench itself costs: its two loops and the same calls in C, in turns, each in a new namespace.

It prints a table and, in the last line, the medians as JSON: figures of the loop in Python end in `_python`, the others
are of the loop in C. The exit code is 1 if a limit is missed. It needs root, a C compiler, an idle machine, and
connbench installed with its loop in C beside the Python that runs it.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median

from connbench import samples
from connbench.engine.launcher import run_round
from connbench.model import Endpoint, Listener, Loop, Namespace, Placement, Plan, PortRange, RoundPlan, StrategySpec
from connbench.planner.planner import BUILD_C_LOOP, why_no_c_loop
from connbench.results.result import Samples

ROUNDS = 9
CONNECTIONS, FEW = 15_000, 1_500
"""Connections of a round, and of one that shows what a worker's memory grows by beside its connections."""

FEW_ROUNDS = 3
PORTS = PortRange(9024, 65535)
WINDOW = 500
COMMAND_RUNS = 3

LIMITS = {
    "connect_p50_ratio": 1.02,
    "wall_ratio": 1.10,
    "worker_bytes_per_connection": 32.0,
    "connect_p50_ratio_python": 1.08,
    "wall_ratio_python": 1.6,
    "worker_bytes_per_connection_python": 150.0,
    "command_over_allowed": 1.0,
    "engine_rss_mb": 18.0,
}

Figures = dict[str, float]


def build(folder: Path) -> Path:
    """Compile the reference; returns its path."""
    program = folder / "reference"
    source = Path(__file__).with_name("reference.c")
    subprocess.run([os.environ.get("CC", "cc"), "-O2", "-Wall", "-o", program, source], check=True)
    return program


def run_reference(program: Path, cpu: int) -> Figures:
    """Median connect() and wall time per connection of the reference, in ns."""
    arguments = [CONNECTIONS, PORTS.low, PORTS.high, WINDOW, cpu]
    command = [str(program), *map(str, arguments)]
    p50, wall = subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()
    return {"p50": float(p50), "wall": float(wall)}


def run_connbench(loop: Loop, cpu: int, number: int, connections: int = CONNECTIONS) -> Figures:
    """The same for one round of connbench, the connections held, and its memory in bytes and MB."""
    spec = StrategySpec("window", WINDOW, Placement.INSIDE, 0)
    target = Endpoint("127.9.9.2", PORTS.low - 1)
    plan = Plan(
        (spec,),
        connections,
        PORTS,
        ("127.9.9.1",),
        (target,),
        Listener.BACKLOG,
        Namespace.NETWORK,
        seed=number,
        cpus=(cpu,),
        loop=loop,
    )
    descriptor = samples.create(connections)
    try:
        outcome = run_round(RoundPlan(plan, spec, number), descriptor, lambda: None)
        measured = Samples.from_memory(descriptor, connections, range(connections))
    finally:
        os.close(descriptor)
    if outcome.fault:
        raise outcome.fault
    worker = outcome.reports[0].workers[0]
    return {
        "p50": float(median(measured.connect_ns.tolist())),
        "wall": measured.wall_ns / len(measured),
        "held": worker.opened,
        "grown": worker.memory_full - worker.memory_idle,
        "rss": outcome.reports[0].engine_rss / 1e6,
    }


def run_command() -> tuple[float, float]:
    """Seconds that the whole command takes over all ports, and the 'total time' it prints."""
    command = [str(Path(sys.executable).with_name("connbench")), "run", "--format", "talk"]
    begun = time.perf_counter()
    text = subprocess.run(
        [*command, "--strategy", "window", "--window", str(WINDOW)], check=True, capture_output=True, text=True
    ).stdout
    return time.perf_counter() - begun, float(text.splitlines()[1].removeprefix("total time: ").removesuffix("s"))


def measure() -> Figures:
    """All figures, medians over the rounds."""
    usable = os.sched_getaffinity(0)
    cpu = max(usable)
    os.sched_setaffinity(0, usable - {cpu} or {cpu})
    with tempfile.TemporaryDirectory() as folder:
        program = build(Path(folder))
        rounds = [measure_round(program, cpu, number) for number in range(1, ROUNDS + 1)]
    few = {loop: [run_connbench(loop, cpu, number, FEW) for number in range(FEW_ROUNDS)] for loop in Loop}
    os.sched_setaffinity(0, usable)
    commands = [run_command() for _ in range(COMMAND_RUNS)]
    for seconds, total in commands:
        print(f"whole command: {seconds:.2f} s for a total time of {total:.2f} s, allowed {2 * total + 1.5:.2f} s")
    figures = {"command_over_allowed": round(median(s / (2 * total + 1.5) for s, total in commands), 3)}
    for loop, ending in ((Loop.C, ""), (Loop.PYTHON, "_python")):
        ours = [told[loop] for told in rounds]
        figures[f"connect_p50_ratio{ending}"] = round(median(one["p50_ratio"] for one in ours), 4)
        figures[f"wall_ratio{ending}"] = round(median(one["wall_ratio"] for one in ours), 4)
        held, grown = (
            median(one[name] for one in ours) - median(one[name] for one in few[loop]) for name in ("held", "grown")
        )
        figures[f"worker_bytes_per_connection{ending}"] = round(grown / held, 1)
    figures["engine_rss_mb"] = round(max(median(told[loop]["rss"] for told in rounds) for loop in Loop), 1)
    return figures


def measure_round(program: Path, cpu: int, number: int) -> dict[Loop, Figures]:
    """The figures of both loops, with the ratios to those of the reference, which is measured among them.

    Each of the three goes first in one round of three, because those after it find warmer caches.
    """
    turns: list[Loop | None] = [None, *Loop]
    first = number % len(turns)
    told = {
        turn: run_connbench(turn, cpu, number) if turn else run_reference(program, cpu)
        for turn in turns[first:] + turns[:first]
    }
    reference = told[None]
    words, ours = [], {}
    for loop in Loop:
        ours[loop] = told[loop] | {f"{name}_ratio": told[loop][name] / reference[name] for name in ("p50", "wall")}
        words.append(
            f"loop {loop.language} {ours[loop]['p50'] / 1e3:.2f} ({ours[loop]['p50_ratio']:.3f} x) and "
            f"{ours[loop]['wall'] / 1e3:.2f} ({ours[loop]['wall_ratio']:.3f} x)"
        )
    print(
        f"round {number}, connect() p50 and wall time an attempt in µs: reference {reference['p50'] / 1e3:.2f} and "
        f"{reference['wall'] / 1e3:.2f}; {'; '.join(words)}",
        flush=True,
    )
    return ours


def main() -> int:
    """Measure, compare with the limits, and print both."""
    compiler = os.environ.get("CC", "cc")
    if os.geteuid() != 0 or shutil.which(compiler) is None:
        print(f"overhead: needs root and a C compiler ({compiler}; choose another with CC=)", file=sys.stderr)
        return 2
    if reason := why_no_c_loop():
        print(f"overhead: {reason}\n  -> {BUILD_C_LOOP}", file=sys.stderr)
        return 2
    figures = measure()
    print(f"\n{'figure':<36}{'median':>10}{'limit':>10}")
    for name, limit in LIMITS.items():
        print(f"{name:<36}{figures[name]:>10}{limit:>10}{'' if figures[name] <= limit else '  missed'}")
    print(json.dumps(figures))
    return int(any(figures[name] > limit for name, limit in LIMITS.items()))


if __name__ == "__main__":
    sys.exit(main())
