"""Measures connections a second with 1, 2, 8 and 64 workers: of connbench, and of neper's tcp_crr on the same kernel.

Both have as many connections open, in turns, each in a new namespace, with all sockets on this machine. It writes the
table of docs/contention.md and its picture. It needs root, idle CPUs, and tcp_crr:

    git clone https://github.com/google/neper && make -C neper tcp_crr
    make contention NEPER=neper/tcp_crr
"""

from __future__ import annotations

import argparse
import os
import re
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median

from connbench.analysis.summary import achieved_rate, rate_of_all, summarize
from connbench.linux import sysctl
from connbench.linux.interfaces import bring_up_loopback
from connbench.linux.process import CLONE_NEWNET, unshare
from connbench.report.charts.canvas import Grid, legend_below, styled, to_bytes
from connbench.report.series import COLOURS
from connbench.results.input_file import read
from connbench.units import duration

DOCS = Path(__file__).parents[1] / "docs"
PAGE, PICTURE = DOCS / "contention.md", DOCS / "contention.png"
TABLE = re.compile(r"(?<=<!-- make contention -->\n\n)(.*\n)+?(?=\n<!-- end -->)")
CONNBENCH = Path(sys.executable).with_name("connbench")

WORKERS = (1, 2, 8, 64)
ROUNDS = 3
LOW, HIGH = 9024, 65535
FILL = 10
"""Connections that stay open, in percent of the range."""

REPLACEMENTS = 30_000
SECONDS = 2
PORTS_OF_NEPER = ("-C", "9001", "-P", "9002")

ROWS = {"neper": "neper tcp_crr", "accept": "connbench, --listener accept", "backlog": "connbench, --listener backlog"}


def enter() -> None:
    """Enter a new namespace with the range and the queues of connbench's."""
    unshare(CLONE_NEWNET)
    bring_up_loopback()
    sysctl.write("net.ipv4.ip_local_port_range", f"{LOW} {HIGH}")
    sysctl.write("net.core.somaxconn", "65535")
    sysctl.write("net.ipv4.tcp_max_syn_backlog", "65535")
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def measure_neper(program: Path, workers: int) -> float:
    """Transactions a second of tcp_crr, of which each is a connection; its server has as many threads."""
    enter()
    flows = (HIGH - LOW + 1) * FILL // 100
    common = ["-T", str(workers), "-F", str(flows), "-l", str(SECONDS), *PORTS_OF_NEPER, "--nolog"]
    serving = subprocess.Popen(
        [str(program), *common, "--listen-backlog", "65535"],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    time.sleep(0.3)
    done = subprocess.run(
        [str(program), "-c", "-H", "127.0.0.1", *common], capture_output=True, text=True, timeout=60, check=False
    )
    serving.kill()
    serving.wait()
    found = re.search(r"^throughput=([0-9.]+)", done.stdout, re.MULTILINE)
    if not found:
        raise SystemExit(f"{program} printed no throughput:\n{done.stdout[-500:]}{done.stderr[-500:]}")
    return float(found[1])


def measure_connbench(listener: str, workers: int, file: Path) -> tuple[float, float]:
    """Replacements a second while all clients ran, and the median connect() in ns."""
    options = ["--strategy", "plain", "--fill", f"{FILL}%", "--churn", str(REPLACEMENTS), "--concurrency", str(workers)]
    where = ["--port-range", f"{LOW}-{HIGH}", "--listener", listener, "--quiet", "--force", "-o", str(file)]
    subprocess.run([str(CONNBENCH), "run", *options, *where], capture_output=True, timeout=120, check=False)
    churn = read(file).strategies[1]
    [measured] = churn.rounds
    rate = rate_of_all(churn.strategy, measured) or achieved_rate(churn.strategy, measured) or 0.0
    return rate, summarize(churn).all.latency.p50


def measure(program: Path) -> tuple[dict[str, list[float]], list[float]]:
    """Medians: connections a second of each row for each number of workers; connbench's connect() with `accept`."""
    rates: dict[str, list[list[float]]] = {row: [[] for _ in WORKERS] for row in ROWS}
    latencies: list[list[float]] = [[] for _ in WORKERS]
    with tempfile.TemporaryDirectory() as folder:
        for _ in range(ROUNDS):
            for number, workers in enumerate(WORKERS):
                rates["neper"][number].append(measure_neper(program, workers))
                for listener in ("accept", "backlog"):
                    rate, latency = measure_connbench(listener, workers, Path(folder) / "run.json")
                    rates[listener][number].append(rate)
                    if listener == "accept":
                        latencies[number].append(latency)
    return {row: list(map(median, values)) for row, values in rates.items()}, list(map(median, latencies))


def table(rates: dict[str, list[float]], latencies: list[float], load: float) -> str:
    """The table of the page: a row for each number of workers; `load` is the machine's before the runs."""
    lines = [f"| workers | {' | '.join(ROWS.values())} | accept / neper | connect() p50 |", f"|{'---:|' * 6}"]
    for number, workers in enumerate(WORKERS):
        neper, accept, backlog = (rates[row][number] for row in ("neper", "accept", "backlog"))
        cells = (f"{neper:,.0f}/s", f"{accept:,.0f}/s", f"{backlog:,.0f}/s", f"{accept / neper:.1f} x")
        lines.append(f"| {workers} | {' | '.join(cells)} | {duration(latencies[number])} |")
    machine = f"{os.cpu_count()} CPUs, Linux {os.uname().release}, load {load:.1f} before; medians of {ROUNDS} runs."
    return "\n".join([*lines, "", machine]) + "\n"


def draw(rates: dict[str, list[float]]) -> bytes:
    """The picture: connections a second by the number of workers."""
    with styled():
        figure = Grid(1, 1, 860, 420).figure()
        axes = figure.subplots()
        for (row, label), colour in zip(ROWS.items(), COLOURS, strict=False):
            axes.plot(range(len(WORKERS)), rates[row], label=label, color=colour, lw=1.8, marker="o", ms=5)
        axes.set(xlabel="workers", ylabel="connections a second", ylim=(0, None))
        axes.set_xticks(range(len(WORKERS)), [str(workers) for workers in WORKERS])
        legend_below(figure, axes.get_lines(), 860)
        return to_bytes(figure, "png")


def main() -> int:
    """Measure, and write the table and the picture."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--neper", default="tcp_crr", help="the program (default: tcp_crr of the PATH)")
    parser.add_argument("--print", action="store_true", help="print the table, and write nothing")
    asked = parser.parse_args()
    program = shutil.which(asked.neper)
    if os.geteuid() != 0 or program is None:
        print(f"contention: needs root and neper's tcp_crr ({asked.neper}); see --help", file=sys.stderr)
        return 2
    load = os.getloadavg()[0]
    rates, latencies = measure(Path(program).absolute())
    written = table(rates, latencies, load)
    print(written)
    if not asked.print:
        text, found = TABLE.subn(lambda _: written, PAGE.read_text(encoding="utf-8"))
        if found != 1:
            raise SystemExit(f"{PAGE} has no table between its two comments")
        PAGE.write_text(text, encoding="utf-8")
        PICTURE.write_bytes(draw(rates))
    return 0


if __name__ == "__main__":
    sys.exit(main())
