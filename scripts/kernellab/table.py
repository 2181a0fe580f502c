"""What the kernels of a folder of results cost, side by side: as a table for a terminal, or in markdown."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from connbench.analysis.summary import summarize
from connbench.errors import ConnbenchError, InputError
from connbench.report.tables import render
from connbench.report.units import duration
from connbench.results.reading import read
from connbench.results.result import Result

from .kernels import UML

RESULT = "result.json.gz"

SHOWN = {"plain", "range"}
"""The strategies of the table: each is measured once a result, of reproduce too."""

HEADER = ("kernel", "plain even", "plain odd", "odd/even", "a port", "range even", "range odd", "odd/even", "speed-up")


@dataclass(frozen=True, slots=True)
class Row:
    """One kernel; times in ns, None where its result does not have them.

    Attributes:
        name: The folder it was found in, and the kernel's release.
        plain: Mean latency of `plain` on even and odd ports.
        whole_range: The same of `range`.
        a_port_ns: What a port looked at costs: (odd - even) / (ports / 2), for each slow connect() walks one half.
        speed_up: Total time of `plain` divided by that of `range`.
    """

    name: str
    plain: tuple[float, float] | None
    whole_range: tuple[float, float] | None
    a_port_ns: float | None
    speed_up: float | None

    @property
    def cells(self) -> tuple[str, ...]:
        """As the table shows it."""
        return (
            self.name,
            *_pair(self.plain),
            "-" if self.a_port_ns is None else duration(self.a_port_ns),
            *_pair(self.whole_range),
            "-" if self.speed_up is None else f"{self.speed_up:.2f} x",
        )


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


def text(rows: list[Row]) -> str:
    """The table for a terminal."""
    return render(HEADER, [row.cells for row in rows])


def markdown(rows: list[Row]) -> str:
    """The table to paste."""
    lines = [HEADER, ("---", *["---:"] * (len(HEADER) - 1)), *(row.cells for row in rows)]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def _order(result: Result, name: str) -> tuple[list[int], str]:
    release = str(result.environment.get("kernel") or "")
    return [
        int(part) for part in release.split("-", maxsplit=1)[0].split("+", maxsplit=1)[0].split(".") if part.isdecimal()
    ], name


def _row(name: str, result: Result) -> Row:
    strategies = {strategy.strategy.name: strategy for strategy in result.strategies}
    means: dict[str, tuple[float, float]] = {}
    totals: dict[str, float] = {}
    for shown in SHOWN & strategies.keys():
        summary = summarize(strategies[shown])
        means[shown] = (summary.even.latency.mean, summary.odd.latency.mean)
        totals[shown] = summary.total_ns
    release = str(result.environment.get("kernel") or "unknown kernel")
    plain, whole = means.get("plain"), means.get("range")
    ports = len(result.plan.port_range) if result.plan else 0
    return Row(
        f"{name} {release}" if name == UML else release,
        plain,
        whole,
        (plain[1] - plain[0]) / (ports / 2) if plain and ports else None,
        totals["plain"] / totals["range"] if totals.keys() >= {"plain", "range"} else None,
    )


def _pair(means: tuple[float, float] | None) -> tuple[str, str, str]:
    if means is None:
        return ("-", "-", "-")
    even, odd = means
    return (duration(even), duration(odd), f"{odd / even:.2f} x" if even else "-")
