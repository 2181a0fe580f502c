"""Measures what connbench itself costs: its loop and the same calls in C, in turns, each in a new namespace.

It prints a table and, in the last line, the medians as JSON; the exit code is 1 if a limit is missed. It needs root,
a C compiler, an idle machine, and connbench installed beside the Python that runs it.
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
from connbench.model import Endpoint, Listener, Namespace, Placement, Plan, PortRange, RoundPlan, StrategySpec
from connbench.results.result import Samples

ROUNDS = 7
CONNECTIONS = 15_000
PORTS = PortRange(9024, 65535)
WINDOW = 500
COMMAND_RUNS = 3

LIMITS = {
    "connect_p50_ratio": 1.08,
    "wall_ratio": 1.6,
    "command_over_allowed": 1.0,
    "worker_bytes_per_connection": 150.0,
    "engine_rss_mb": 18.0,
}


def build(folder: Path) -> Path:
    """Compile the reference; returns its path."""
    program = folder / "reference"
    source = Path(__file__).with_name("reference.c")
    subprocess.run([os.environ.get("CC", "cc"), "-O2", "-Wall", "-o", program, source], check=True)
    return program


def run_c(program: Path, cpu: int) -> tuple[float, float]:
    """Median connect() and wall time per connection of the reference, in ns."""
    arguments = [CONNECTIONS, PORTS.low, PORTS.high, WINDOW, cpu]
    command = [str(program), *map(str, arguments)]
    answer = subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()
    return float(answer[0]), float(answer[1])


def run_connbench(cpu: int, number: int) -> dict[str, float]:
    """The same for one round of connbench, and its memory."""
    spec = StrategySpec("window", WINDOW, Placement.INSIDE, 0)
    target = Endpoint("127.9.9.2", PORTS.low - 1)
    plan = Plan(
        (spec,),
        CONNECTIONS,
        PORTS,
        ("127.9.9.1",),
        (target,),
        Listener.BACKLOG,
        Namespace.NETWORK,
        seed=number,
        cpus=(cpu,),
    )
    descriptor = samples.create(CONNECTIONS)
    try:
        outcome = run_round(RoundPlan(plan, spec, number), descriptor, lambda: None)
        measured = Samples.from_memory(descriptor, CONNECTIONS, range(CONNECTIONS))
    finally:
        os.close(descriptor)
    if outcome.fault:
        raise outcome.fault
    worker = outcome.reports[0].workers[0]
    return {
        "p50": float(median(measured.connect_ns.tolist())),
        "wall": measured.wall_ns / len(measured),
        "bytes": (worker.memory_full - worker.memory_idle) / worker.opened,
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


def measure() -> dict[str, float]:
    """All figures, medians over the rounds."""
    usable = os.sched_getaffinity(0)
    cpu = max(usable)
    os.sched_setaffinity(0, usable - {cpu} or {cpu})
    p50_ratios, wall_ratios, ours = [], [], []
    with tempfile.TemporaryDirectory() as folder:
        program = build(Path(folder))
        for number in range(1, ROUNDS + 1):
            if number % 2:  # they take turns at going first, because the second one finds warmer caches
                c_p50, c_wall = run_c(program, cpu)
                mine = run_connbench(cpu, number)
            else:
                mine = run_connbench(cpu, number)
                c_p50, c_wall = run_c(program, cpu)
            ours.append(mine)
            p50_ratios.append(mine["p50"] / c_p50)
            wall_ratios.append(mine["wall"] / c_wall)
            print(
                f"round {number}: connect() p50 {mine['p50'] / 1e3:.2f} µs, C {c_p50 / 1e3:.2f} µs, "
                f"ratio {p50_ratios[-1]:.3f}; wall {mine['wall'] / 1e3:.2f} µs, C {c_wall / 1e3:.2f} µs, "
                f"ratio {wall_ratios[-1]:.3f}"
            )
    os.sched_setaffinity(0, usable)
    commands = [run_command() for _ in range(COMMAND_RUNS)]
    for seconds, total in commands:
        print(f"whole command: {seconds:.2f} s for a total time of {total:.2f} s, allowed {2 * total + 1.5:.2f} s")
    return {
        "connect_p50_ratio": round(median(p50_ratios), 4),
        "wall_ratio": round(median(wall_ratios), 4),
        "command_over_allowed": round(median(s / (2 * total + 1.5) for s, total in commands), 3),
        "worker_bytes_per_connection": round(median(o["bytes"] for o in ours), 1),
        "engine_rss_mb": round(median(o["rss"] for o in ours), 1),
    }


def main() -> int:
    """Measure, compare with the limits, and print both."""
    compiler = os.environ.get("CC", "cc")
    if os.geteuid() != 0 or shutil.which(compiler) is None:
        print(f"overhead: needs root and a C compiler ({compiler}; choose another with CC=)", file=sys.stderr)
        return 2
    figures = measure()
    print(f"\n{'figure':<30}{'median':>10}{'limit':>10}")
    for name, limit in LIMITS.items():
        print(f"{name:<30}{figures[name]:>10}{limit:>10}{'' if figures[name] <= limit else '  missed'}")
    print(json.dumps(figures))
    return int(any(figures[name] > limit for name, limit in LIMITS.items()))


if __name__ == "__main__":
    sys.exit(main())
