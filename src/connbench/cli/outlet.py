"""Where results go while a run goes on: stdout as soon as a strategy is done, the output file after every round."""

from __future__ import annotations

import shutil
import sys
from dataclasses import dataclass, field
from pathlib import Path

import click

from connbench.errors import OutputError
from connbench.model import Finding, RoundPlan, StrategySpec
from connbench.report import text
from connbench.report.formats import FORMATS
from connbench.results.files import write_atomically
from connbench.results.result import Result


@dataclass
class Outlet:
    """Prints and saves a result as it grows.

    Attributes:
        output_format: What stdout gets, by a name of `FORMATS`.
        path: The output file, if one is asked for, and `file_format` its format.
        told: Findings the user has been told already.
        failure: Why the file could not be written; measuring goes on, for the figures can still be printed.
    """

    result: Result
    output_format: str
    path: Path | None = None
    file_format: str | None = None
    told: tuple[Finding, ...] = ()
    failure: OutputError | None = None
    printed: set[StrategySpec] = field(default_factory=set)

    def take_round(self, plan: RoundPlan) -> None:
        """A round has been added to the result: save it, and print its strategy if that was the last of it."""
        self._save()
        if plan.number == self.result.plan.rounds:
            self._print_block(plan.strategy)

    def finish(self) -> None:
        """Print what has not been printed yet."""
        if self.output_format != "text":
            click.echo(FORMATS[self.output_format](self.result).rstrip("\n"))
            return
        for strategy in self.result.strategies:
            self._print_block(strategy.strategy)
        rest = text.closing(self.result, _width(), self.told)
        if rest:
            click.echo("\n" + rest)

    def _save(self) -> None:
        if self.path is None or self.file_format is None:
            return
        try:
            write_atomically(self.path, FORMATS[self.file_format](self.result))
            self.failure = None
        except OutputError as error:
            self.failure = error

    def _print_block(self, spec: StrategySpec) -> None:
        if self.output_format != "text" or spec in self.printed:
            return
        strategy = next(s for s in self.result.strategies if s.strategy == spec)
        if self.printed:
            click.echo()
        click.echo(text.block(self.result, strategy, _width()))
        self.printed.add(spec)


def _width() -> int | None:
    """Columns of the terminal; None where stdout is none, for there each line stays whole."""
    return shutil.get_terminal_size().columns if sys.stdout.isatty() else None
