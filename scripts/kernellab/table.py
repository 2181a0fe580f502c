"""Compares the kernels of a folder of results: as a table for a terminal, or in markdown."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from connbench.analysis.summary import summarize
from connbench.errors import ConnbenchError, InputError
from connbench.model import Clock
from connbench.report.blocks import Table
from connbench.report.markdown import write
from connbench.report.text import render
from connbench.results.input_file import read
from connbench.results.result import Result
from connbench.units import duration

RESULT = "result.json.gz"

SHOWN = ("plain", "range")
"""The strategies of the table: each is measured once a result, of reproduce too."""

HEADER = ("kernel", "strategy", "even", "odd", "odd/even", "a port", "speed-up")


@dataclass(frozen=True, slots=True)
class Cost:
    """What a strategy costs in a kernel: mean latency on even and on odd ports (0: none) and the total time, in ns."""

    even: float
    odd: float
    total: float

    @property
    def ratio(self) -> float | None:
        """How many times the even ones' latency the odd ones' is."""
        return self.odd / self.even if self.even else None


@dataclass(frozen=True, slots=True)
class Row:
    """One kernel.

    Attributes:
        name: The kernel's release, and the folder it was found in where that does not tell it.
        is_counted: Whether instructions were counted instead of time.
        costs: By strategy; what its result does not have is not there.
        a_port_ns: The cost of a port probed: (odd - even) / (ports / 2) of `plain`, each slow connect() of which
            walks one half; None where there is none.
    """

    name: str
    is_counted: bool
    costs: dict[str, Cost]
    a_port_ns: float | None

    @property
    def lines(self) -> list[tuple[str, ...]]:
        """As the table shows it, a line each strategy."""
        lines, plain = [], self.costs.get("plain")
        for name, cost in self.costs.items():
            ratio = f"{cost.ratio:.2f} x" if cost.ratio else "-"
            a_port = duration(self.a_port_ns) if self.a_port_ns is not None and cost is plain else "-"
            speed_up = f"{plain.total / cost.total:.2f} x" if plain and cost is not plain else "-"
            even, odd = (duration(mean) if mean else "-" for mean in (cost.even, cost.odd))
            lines.append((name, even, odd, ratio, a_port, speed_up))
        return [(self.name if number == 0 else "", *line) for number, line in enumerate(lines)]


def read_rows(folder: Path) -> tuple[list[Row], list[str]]:
    """The kernels of a folder in the order of their versions, and what is wrong with those that cannot be shown.

    Raises:
        InputError: There is no result at all.
    """
    found, faults = [], []
    for path in sorted(folder.glob(f"*/{RESULT}")):
        try:
            result = read(path)
        except ConnbenchError as error:
            faults.append(error.message)
            continue
        found.append((_order(result, path.parent.name), _row(path.parent.name, result)))
    if not found:
        raise InputError(f"{folder} holds no results of kernels", "name the -o folder of a kernel-lab run")
    return [row for _, row in sorted(found, key=lambda one: one[0])], faults


def remarks(rows: list[Row]) -> list[str]:
    """What a reader must know to compare the rows."""
    counted = [row.name for row in rows if row.is_counted]
    if counted and len(counted) < len(rows):
        return [f"these count instructions and are not to be compared with the others: {', '.join(counted)}"]
    return []


def text(rows: list[Row]) -> str:
    """The table for a terminal."""
    return render(_table(rows))


def markdown(rows: list[Row]) -> str:
    """The table in markdown."""
    return write([_table(rows)]).rstrip("\n")


def _table(rows: list[Row]) -> Table:
    return Table(HEADER, [line for row in rows for line in row.lines], words=(1,))


def _order(result: Result, name: str) -> tuple[list[int], str]:
    release = str(result.environment.get("kernel") or "")
    return [
        int(part) for part in release.split("-", maxsplit=1)[0].split("+", maxsplit=1)[0].split(".") if part.isdecimal()
    ], name


def _row(name: str, result: Result) -> Row:
    costs = {}
    for strategy in result.strategies:
        if strategy.strategy.name in SHOWN:
            summary = summarize(strategy)
            even, odd = (g.latency.mean if g.latency.count else 0.0 for g in (summary.even, summary.odd))
            costs[strategy.strategy.name] = Cost(even, odd, summary.total_ns)
    release = str(result.environment.get("kernel") or "unknown kernel")
    plain, ports = costs.get("plain"), len(result.plan.port_range) if result.plan else 0
    return Row(
        release if release.startswith(f"{name}.") else f"{name} {release}",
        is_counted=result.clock is Clock.INSTRUCTIONS,
        costs={shown: costs[shown] for shown in SHOWN if shown in costs},
        a_port_ns=(plain.odd - plain.even) / (ports / 2) if plain and plain.odd and ports else None,
    )
