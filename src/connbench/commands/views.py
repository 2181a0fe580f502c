"""What stdout gets of a result as it grows: a piece a strategy, and an end."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from connbench.commands.sweep_variants import variants_of
from connbench.findings import Finding
from connbench.model import StrategySpec
from connbench.report import sweep_json, sweep_markdown, text
from connbench.report import sweep_tables as sweep
from connbench.report.charts import terminal
from connbench.report.formats import FORMATS
from connbench.report.series import series_of
from connbench.results.result import Result

SWEEP_FORMATS = {"text", "markdown", "json"}
"""Formats that hold what a sweep is made for: its choice."""


class Pages(Protocol):
    """Pieces of text in the order they are printed; an empty one is left out."""

    @property
    def gap(self) -> str:
        """What stands between two pieces, besides the end of the line."""

    def piece(self, spec: StrategySpec) -> str:
        """What to print once a strategy's last round is done."""

    def end(self) -> str:
        """What to print once nothing more is to come."""


@dataclass(frozen=True)
class TextPages:
    """The default report; `plot` puts a chart of each strategy below. `told` are findings that stderr has been told."""

    result: Result
    told: tuple[Finding, ...] = ()
    plot: bool = False
    gap: str = "\n"

    def piece(self, spec: StrategySpec) -> str:
        """The strategy's block."""
        strategy = next(s for s in self.result.strategies if s.strategy == spec)
        return text.block(self.result, strategy, width(), bold=can_be_bold())

    def end(self) -> str:
        """The comparison and the findings, the charts if they are wanted, and last the verdict."""
        parts = [text.closing(self.result, width(), seen(self.told))]
        if self.plot:
            parts += scatters(self.result)
        parts.append(text.verdict(self.result, width(), bold=can_be_bold()))
        return "\n\n".join(part for part in parts if part)


@dataclass(frozen=True)
class DocumentPages:
    """What is one document, printed at the end; `write` makes it of the result."""

    result: Result
    write: Callable[[Result], str]
    gap: str = ""

    def piece(self, _spec: StrategySpec) -> str:
        """Nothing yet."""
        return ""

    def end(self) -> str:
        """The whole document."""
        return self.write(self.result).rstrip("\n")


def sweep_pages(result: Result, output_format: str, budget: float, told: tuple[Finding, ...], *, plot: bool) -> Pages:
    """What stdout gets of a sweep: text, markdown and JSON hold the choice, the other formats are as ever."""

    def write(made: Result) -> str:
        if output_format not in SWEEP_FORMATS:
            return FORMATS[output_format](made)
        variants = variants_of(made, budget)
        if output_format == "json":
            return sweep_json.json(made, budget, variants)
        if output_format == "markdown":
            return sweep_markdown.markdown(made, budget, variants)
        charts = scatters(made) if plot else []
        return "\n\n".join([*charts, sweep.report(made, budget, width(), seen(told), variants)])

    return DocumentPages(result, write)


def scatters(result: Result) -> list[str]:
    """The talk's chart of each strategy, in characters."""
    columns, colour = shutil.get_terminal_size().columns, sys.stdout.isatty()
    return [f"{one.heading}\n{terminal.scatter(one, columns, colour=colour)}" for one in series_of([result])]


def seen(told: tuple[Finding, ...]) -> tuple[Finding, ...]:
    """Those of the findings told on stderr that stand on the terminal that stdout is; a file has to hold them too."""
    return told if sys.stdout.isatty() and sys.stderr.isatty() else ()


def can_be_bold() -> bool:
    """Whether stdout is a terminal that knows more than plain characters."""
    return sys.stdout.isatty() and os.environ.get("TERM", "dumb") != "dumb"


def width() -> int | None:
    """Columns of the terminal; None where stdout is none, for there each line stays whole."""
    return shutil.get_terminal_size().columns if sys.stdout.isatty() else None
