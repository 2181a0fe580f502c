"""Compares connbench's model and reports with measurements on this machine, and prints a table.

Each figure is the median of several runs of the installed command, in network namespaces of their own. Use an idle
machine: on a busy one the figures scatter. No figure is a failure: the exit code is 0 unless a measurement fails.
"""

from __future__ import annotations

import argparse
import math
import socket
import subprocess
import sys
import tempfile
import textwrap
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from statistics import mean, median, stdev
from typing import TypeVar

import numpy as np
import numpy.typing as npt

from connbench.analysis.knee import find_knee
from connbench.analysis.levels import levels_of
from connbench.analysis.summary import achieved_rate, summarize
from connbench.commands.calibration_files import calibrate_from
from connbench.draws import Draws, order_of_ports
from connbench.errors import ExitCode
from connbench.inspect.forecast import Forecaster
from connbench.inspect.port_usage import usage
from connbench.inspect.snapshot import Settings, Snapshot
from connbench.inspect.sockets import Sockets, State
from connbench.model import DEFAULT_RANGE_LOW, MAX_PORT, PortRange, Protocol, RoundPlan
from connbench.portmodel.agreement import rank_correlation
from connbench.portmodel.algorithm import algorithm_of
from connbench.portmodel.calibration import Calibration
from connbench.portmodel.kernel_search import ParityFirst, tcp_port_spaces
from connbench.portmodel.prediction import predict_result
from connbench.portmodel.simulation import replaced_rows
from connbench.report.blocks import Table
from connbench.report.text import render
from connbench.reproduce.cases import QUICK_RANGE, cases
from connbench.reproduce.claims import claims_of
from connbench.reproduce.window_failures import simulate_failures
from connbench.results.input_file import read
from connbench.results.result import Result, StrategyResult

Saved = TypeVar("Saved")

PORTS, MIDDLE, TALK = 4096, 16_384, MAX_PORT - DEFAULT_RANGE_LOW + 1
PROFILED = 32_768
WINDOW, LOW = 64, 20000
BLOCK = 128
"""The median of this many consecutive attempts is compared: interruptions by other processes affect few of them."""

LEVELS = ("30%", "50.1%", "70%", "95%")
"""Shares of the ports in use: before the knee, just behind it, and in the second half."""

RATE = 2000.0
CONNECTION = {"protocol": socket.IPPROTO_TCP, "family": 4, "state": State.ESTABLISHED, "remote_port": LOW}
"""A connection of IPv4, as inspect reads it, but for its own port."""

NONE = math.inf
"""The figure of a missing knee."""


@dataclass(frozen=True, slots=True)
class Figure:
    """A figure's meaning, and the bounds within which it is expected."""

    meaning: str
    low: float
    high: float

    @property
    def expected(self) -> str:
        """The bounds as they are printed."""
        if self.low == self.high:
            return shown(self.low)
        return f"{shown(self.low)} to {shown(self.high)}" if self.high < NONE else f"{shown(self.low)} and more"


def at(value: float, meaning: str) -> Figure:
    """A figure with one expected value."""
    return Figure(meaning, value, value)


FIGURES = {
    **{
        f"predicted / measured, {name}": Figure(
            f"{name} over {ports:,} ports: the total time predicted by the costs of `connbench calibrate`, divided by"
            f" that measured just after it; both by medians of {BLOCK} attempts.",
            0.85,
            1.15,
        )
        for name, ports in (
            *(("plain", MIDDLE), ("bind", MIDDLE), ("early", MIDDLE)),
            *(("window 500", TALK), ("range", TALK), ("sequential", TALK)),
        )
    },
    **{
        f"predicted / measured, next connect() at {share}": Figure(
            f"plain over {TALK:,} ports, {share} of them in use: the time that `connbench inspect` forecasts for the"
            " next connect() from those ports and the same costs, divided by the median connect() of a profile there.",
            0.7,
            1.3,
        )
        for share in LEVELS
    },
    "profile / run, of levels": Figure(
        f"plain over {PROFILED:,} ports: the median connect() at a level of `connbench profile`, divided by that of the"
        " connections of a whole run that begin with as many ports in use (the next 1 %); the median of all levels.",
        0.9,
        1.1,
    ),
    "latency ~ ports, filling": Figure(
        f"plain over {PORTS:,} ports: correlation of the ports that the model probes with the latency, by medians of"
        f" {BLOCK} attempts.",
        0.9,
        1.0,
    ),
    "latency ~ ports, churn": Figure(
        f"2,000 replacements with 52 % of {PORTS:,} ports in use: rank correlation, attempt by attempt, of the latency"
        " with the ports that the model probes, starting where the kernel's search before it stopped.",
        0.9,
        1.0,
    ),
    "knee of plain": at(PORTS // 2 + 1, f"the connection from which on plain is slow, over {PORTS:,} ports."),
    "knee of bind": at(PORTS // 2 + 1, "the same for bind."),
    "knee of two clients": Figure(
        "the same for plain with two clients; it may be off by the width of the rolling median.",
        PORTS // 2 - 40,
        PORTS // 2 + 42,
    ),
    "knee of range": at(NONE, "range has no second half, and no knee."),
    "odd / even, plain": Figure("plain: median latency of odd ports divided by that of even ones.", 3.0, NONE),
    "odd / even, range": Figure("the same for range: no parity costs more.", 0.8, 1.25),
    "odd / even, UDP": Figure("the same for bind over UDP, whose search ignores parity.", 0.8, 1.25),
    "rate / rate asked for": Figure(
        f"a churn of 2,000 replacements at --churn-rate {RATE:.0f}: the rate reached, divided by that.", 0.95, 1.05
    ),
    "window errors, deviations": Figure(
        f"errors of window {WINDOW} over {PORTS:,} ports, less the model's mean, in standard deviations of the model.",
        -4.0,
        4.0,
    ),
    "rows of reproduce that hold": at(
        len(cases(QUICK_RANGE)),
        "rows of `reproduce --quick` in which every claim holds; claims that do not are printed.",
    ),
}
FULL_FIGURES = {
    **{
        f"predicted / measured, {name}, talk's range": Figure(f"the same over {TALK:,} ports.", 0.85, 1.15)
        for name in ("plain", "bind")
    },
    "knee of plain, talk's range": at(TALK // 2 + 1, f"the connection from which on plain is slow, of {TALK:,} ports."),
    "odd / even, talk's range": Figure("median latency of odd ports divided by that of even ones there.", 20.0, NONE),
    "odd / even, UDP, talk's range": Figure("the same for bind over UDP.", 0.8, 1.25),
    "given up at 1 ms": Figure(
        "bind over the talk's range with --give-up-after 1: the share of the second half that is given up. It shows"
        " whether a search in the second half takes longer than 1 ms here.",
        0.9,
        1.0,
    ),
}
"""The figures of --full: plain and bind over the talk's range take one or two minutes each time."""


class CannotMeasureError(Exception):
    """A command failed; `code` is its exit code."""

    def __init__(self, command: str, code: int, said: str) -> None:
        super().__init__(f"accuracy: `{command}` ended with exit code {code}\n{said}")
        self.code = code


def measured(*arguments: str) -> Result:
    """The result of a command that takes -o; errors as for `saved`."""
    return saved(read, *arguments)


def saved(load: Callable[[Path], Saved], *arguments: str) -> Saved:
    """Run a command of connbench that takes -o, and return what `load` reads from its file.

    Raises:
        CannotMeasureError: The command failed, or its measurement is not sound.
    """
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "result.json"
        command = [str(Path(sys.executable).with_name("connbench")), *arguments]
        try:
            done = subprocess.run([*command, "-q", "-o", str(path)], capture_output=True, text=True, check=False)
        except OSError as error:
            raise CannotMeasureError(command[0], ExitCode.ENVIRONMENT, f"{error.strerror}: is it installed?") from error
        if done.returncode != ExitCode.OK:
            said = done.stderr or done.stdout[done.stdout.rfind("\ninvalid") + 1 :]
            raise CannotMeasureError(f"connbench {' '.join(arguments)}", done.returncode, said.strip())
        return load(path)


def run(*arguments: str, ports: int = PORTS, low: int = LOW) -> Result:
    """The result of `connbench run` over `ports` ports from `low` on."""
    return measured("run", "--isolate", "always", "--port-range", f"{low}-{low + ports - 1}", *arguments)


def knee(strategy: StrategyResult) -> float:
    """The connection at the knee."""
    return find_knee(strategy).connection or NONE


def odd_to_even(strategy: StrategyResult) -> float:
    """Median latency of odd ports divided by that of even ones."""
    summary = summarize(strategy)
    return summary.odd.latency.p50 / summary.even.latency.p50


def filling() -> Iterator[tuple[str, float]]:
    """The knee of each strategy, and how much slower odd ports are."""
    result = run("--strategy", "plain", "--strategy", "bind", "--strategy", "range")
    plain, bind, flat = result.strategies
    yield from (("knee of plain", knee(plain)), ("knee of bind", knee(bind)), ("knee of range", knee(flat)))
    yield from (("odd / even, plain", odd_to_even(plain)), ("odd / even, range", odd_to_even(flat)))
    [(prediction, samples)] = predict_result(result)[0].rounds
    blocks = [values.reshape(-1, BLOCK) for values in (prediction.attempts.ports_probed, samples.connect_ns)]
    yield "latency ~ ports, filling", float(np.corrcoef(blocks[0].mean(axis=1), np.median(blocks[1], axis=1))[0, 1])
    yield "knee of two clients", knee(run("--strategy", "plain", "--concurrency", "2").strategies[0])
    yield "odd / even, UDP", odd_to_even(run("--strategy", "bind", "--protocol", "udp").strategies[0])


def predictions() -> Iterator[tuple[str, float]]:
    """The totals that a calibration predicts, divided by those measured just after it."""
    costs = calibrated()
    yield from next_connects(costs)
    for ports, names in ((MIDDLE, "plain,bind,early"), (TALK, "window,range,sequential")):
        for label, ratio in predicted(costs, run("--strategy", names, ports=ports, low=DEFAULT_RANGE_LOW)):
            yield f"predicted / measured, {label}", ratio


def next_connects(costs: Calibration) -> Iterator[tuple[str, float]]:
    """What inspect forecasts for the next connect(), divided by what connect() takes, at each of `LEVELS`."""
    ports = f"{DEFAULT_RANGE_LOW}-{MAX_PORT}"
    result = measured("profile", "--strategy", "plain", "--at", ",".join(LEVELS), "--port-range", ports)
    [profiled] = result.strategies
    [(prediction, _)] = predict_result(result)[0].rounds
    kernel, plan = str(result.environment["kernel"]), prediction.plan
    order = np.array(order_of_ports(plan, kernel)) & MAX_PORT
    for share, level in zip(LEVELS, levels_of(profiled), strict=True):
        columns = {name: np.full(level.in_use, value) for name, value in CONNECTION.items()}
        sockets = Sockets.of(local_port=order[: level.in_use], **columns)
        snapshot = Snapshot(sockets, Settings(plan.plan.port_range, kernel=kernel))
        [path] = usage(snapshot).rows()
        plain, *_ = Forecaster(calibration=costs).forecast(path, snapshot)
        yield f"predicted / measured, next connect() at {share}", (plain.connect_ns or 0.0) / level.latency.p50


def calibrated() -> Calibration:
    """What `connbench calibrate` finds here."""
    return saved(lambda path: calibrate_from((path,), Protocol.TCP), "calibrate")


def predicted(costs: Calibration, result: Result) -> Iterator[tuple[str, float]]:
    """The label of each strategy, and its total time predicted by costs divided by that measured, by medians."""
    for pair in predict_result(result):
        [(prediction, samples)] = pair.rounds
        totals = [
            sum(float(np.median(part)) * len(part) for part in np.array_split(latency, len(latency) // BLOCK))
            for latency in (costs.searched_ns(prediction), samples.searched_ns)
        ]
        yield pair.strategy.strategy.label, totals[0] / totals[1]


def levels() -> Iterator[tuple[str, float]]:
    """How the levels of a profile compare with a whole run."""
    ports = f"{DEFAULT_RANGE_LOW}-{DEFAULT_RANGE_LOW + PROFILED - 1}"
    [profiled] = measured("profile", "--strategy", "plain", "--port-range", ports).strategies
    [whole] = run("--strategy", "plain", ports=PROFILED, low=DEFAULT_RANGE_LOW).strategies
    latency = whole.samples.latency_ns
    ratios = [
        level.latency.p50 / float(np.median(latency[level.in_use : level.in_use + PROFILED // 100]))
        for level in levels_of(profiled)
        if level.latency.count
    ]
    yield "profile / run, of levels", median(ratios)


def churning() -> Iterator[tuple[str, float]]:
    """The correlation of a churn's latency with the model, and the rate that a churn reaches."""
    result = run("--strategy", "plain", "--fill", "52%", "--churn", "2000")
    latency = result.strategies[1].samples.latency_ns
    yield "latency ~ ports, churn", rank_correlation(followed(result), latency) or 0.0
    paced = run("--strategy", "bind", "--fill", "50%", "--churn", "2000", "--churn-rate", f"{RATE:.0f}")
    churn = paced.strategies[1]
    yield "rate / rate asked for", (achieved_rate(churn.strategy, churn.rounds[0]) or 0.0) / RATE


def followed(result: Result) -> npt.NDArray[np.int64]:
    """Ports that the model probes for each replacement, if it takes the ports that the kernel took."""
    filled, churned = result.strategies
    plan = RoundPlan(result.plan, result.plan.strategies[0], 1) if result.plan else None
    held, ports = filled.samples.port.tolist(), PortRange(LOW, LOW + PORTS - 1)
    [space] = tcp_port_spaces(ports, [0], ParityFirst)
    for port in held:
        space.take(port)
    stopped, ports_probed = held[-1], []
    for slot, port in zip(
        replaced_rows(plan, Draws.of(plan)).tolist() if plan else (), churned.samples.port.tolist(), strict=True
    ):
        space.release(held[slot])
        space.start = (stopped - ports.low) // 2 * 2 + 2
        found = space.search(ports.low, ports.high, 0)
        ports_probed.append(space.ports_probed)
        space.release(found)
        space.take(port)
        held[slot] = stopped = port
    return np.array(ports_probed)


def windows() -> Iterator[tuple[str, float]]:
    """How far the failures of random windows are from those of the model."""
    result = run("--strategy", "window", "--window", str(WINDOW))
    search = algorithm_of(str(result.environment["kernel"]))
    trials = [simulate_failures(PORTS, WINDOW, PORTS, search, seed) for seed in range(30)]
    errors = int(result.strategies[0].samples.failed.sum())
    yield "window errors, deviations", (errors - mean(trials)) / stdev(trials)


def reproduction() -> Iterator[tuple[str, float]]:
    """The rows of the talk whose claims hold on a small range."""
    result = measured("reproduce", "--quick")
    claims = {case.spec.label: claims_of(case, result) for case in cases(QUICK_RANGE)}
    for label, found in claims.items():
        for claim in found:
            if not claim.holds:
                print(f"  reproduce --quick, {label}: {claim.text}")
    whole = [found for found in claims.values() if found and all(claim.holds for claim in found)]
    yield "rows of reproduce that hold", len(whole)


def full() -> Iterator[tuple[str, float]]:
    """The figures over the talk's range."""
    wide = {"ports": TALK, "low": DEFAULT_RANGE_LOW}
    for name in ("bind", "plain"):
        costs, result = calibrated(), run("--strategy", name, **wide)
        yield from (
            (f"predicted / measured, {label}, talk's range", ratio) for label, ratio in predicted(costs, result)
        )
    [plain] = result.strategies
    yield from (("knee of plain, talk's range", knee(plain)), ("odd / even, talk's range", odd_to_even(plain)))
    [udp] = run("--strategy", "bind", "--protocol", "udp", **wide).strategies
    yield "odd / even, UDP, talk's range", odd_to_even(udp)
    [bind] = run("--strategy", "bind", "--give-up-after", "1", "-n", str(TALK // 2 + 2000), **wide).strategies
    yield "given up at 1 ms", float(bind.samples.given_up[TALK // 2 :].mean())


EXPERIMENTS: tuple[Callable[[], Iterator[tuple[str, float]]], ...] = (
    predictions,
    levels,
    filling,
    churning,
    windows,
    reproduction,
)


def shown(value: float) -> str:
    """A figure as the table shows it."""
    if value == NONE:
        return "none"
    return f"{value:,.0f}" if value >= 100 or value == int(value) else f"{value:.2f}"


def explained(figures: dict[str, Figure]) -> str:
    """The meaning and the expected bounds of each figure, for --help."""
    lines = []
    for name, figure in figures.items():
        words = f"{figure.meaning} Expected: {figure.expected}."
        lines += [name, *textwrap.wrap(words, 76, initial_indent="    ", subsequent_indent="    ")]
    return "\n".join(lines)


def options() -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(
        description=textwrap.fill(" ".join((__doc__ or "").split()), 80),
        epilog=f"figures:\n{explained(FIGURES)}\n\nfigures of --full:\n{explained(FULL_FIGURES)}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--repeat", type=int, default=3, metavar="N", help="measure each figure N times (default 3)")
    parser.add_argument("--full", action="store_true", help="measure over the talk's range too: some minutes each time")
    asked = parser.parse_args()
    if asked.repeat < 1:
        parser.error(f"--repeat {asked.repeat} is not possible: give 1 or more")
    return asked


def main() -> int:
    """Measure, and print the table."""
    asked = options()
    figures = FIGURES | (FULL_FIGURES if asked.full else {})
    values: dict[str, list[float]] = {name: [] for name in figures}
    experiments = (*EXPERIMENTS, full) if asked.full else EXPERIMENTS
    try:
        for number in range(1, asked.repeat + 1):
            for experiment in experiments:
                print(f"{number} of {asked.repeat}: {experiment.__name__.replace('_', ' ')}", flush=True)
                for name, value in experiment():
                    values[name].append(value)
    except CannotMeasureError as fault:
        print(fault, file=sys.stderr)
        return fault.code
    rows = []
    for name, found in values.items():
        middle = median(found)
        is_there = figures[name].low <= middle <= figures[name].high
        cells = (shown(middle), shown(min(found)), shown(max(found)), figures[name].expected)
        rows.append((name, *cells, "" if is_there else "differs"))
    print("\n" + render(Table(("figure", "median", "lowest", "highest", "expected", ""), rows)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
