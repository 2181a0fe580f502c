"""Where results go while a run goes on: stdout as soon as a strategy is done, the output file after every round."""

from __future__ import annotations

import shutil
import sys
from dataclasses import dataclass, field
from pathlib import Path

import click

from connbench.cli.messages import discard_stdout
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
        file_failure: Why the file could not be written; measuring goes on, for the figures can still be printed.
        print_failure: Why stdout could not be written; measuring goes on, for the figures can still be saved.
    """

    result: Result
    output_format: str
    path: Path | None = None
    file_format: str | None = None
    told: tuple[Finding, ...] = ()
    file_failure: OutputError | None = None
    print_failure: OutputError | None = None
    reader_left: bool = False
    printed: set[StrategySpec] = field(default_factory=set)

    def take_round(self, plan: RoundPlan) -> None:
        """A round has been added to the result: save it, and print its strategy if that was the last of it."""
        self._save()
        if plan.number == plan.plan.rounds:
            self._print_block(plan.strategy)

    def finish(self) -> None:
        """Print what has not been printed yet."""
        if self.output_format != "text":
            self._print(FORMATS[self.output_format](self.result).rstrip("\n"))
            return
        for strategy in self.result.strategies:
            self._print_block(strategy.strategy)
        rest = text.closing(self.result, terminal_width(), self.told)
        if rest:
            self._print("\n" + rest)

    def _save(self) -> None:
        if self.path is None or self.file_format is None:
            return
        try:
            write_atomically(self.path, FORMATS[self.file_format](self.result))
            self.file_failure = None
        except OutputError as error:
            self.file_failure = error

    def _print_block(self, spec: StrategySpec) -> None:
        if self.output_format != "text" or spec in self.printed:
            return
        strategy = next(s for s in self.result.strategies if s.strategy == spec)
        self._print(("\n" if self.printed else "") + text.block(self.result, strategy, terminal_width()))
        self.printed.add(spec)

    def _print(self, words: str) -> None:
        if self.reader_left or self.print_failure:
            return
        try:
            click.echo(words)
        except BrokenPipeError:
            self.reader_left = True
            discard_stdout()
        except OSError as error:
            self.print_failure = OutputError(f"stdout cannot be written: {error.strerror}", "send it elsewhere, or -o")
            discard_stdout()


def terminal_width() -> int | None:
    """Columns of the terminal; None where stdout is none, for there each line stays whole."""
    return shutil.get_terminal_size().columns if sys.stdout.isatty() else None
