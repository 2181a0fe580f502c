"""Where results go while a run goes on: stdout as soon as a strategy is done, the output file after every round."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from pathlib import Path

import click

from connbench.cli.messages import discard_stdout
from connbench.cli.pages import Pages
from connbench.errors import OutputError
from connbench.model import RoundPlan, StrategySpec
from connbench.report.formats import FORMATS
from connbench.results.files import write_atomically
from connbench.results.result import Result


@dataclass
class Outlet:
    """Prints and saves a result as it grows.

    Attributes:
        pages: What stdout gets.
        path: The output file, if one is asked for, and `file_format` its format.
        spacing: Times what the last save took that must pass until the next, so that the many rounds of a sweep are not
            spent on a growing file; the end is saved in any case.
        file_failure: Why the file could not be written; measuring goes on, for the figures can still be printed.
        print_failure: Why stdout could not be written; measuring goes on, for the figures can still be saved.
    """

    result: Result
    pages: Pages
    path: Path | None = None
    file_format: str | None = None
    spacing: float = 0.0
    file_failure: OutputError | None = None
    print_failure: OutputError | None = None
    reader_left: bool = False
    done: set[StrategySpec] = field(default_factory=set)
    has_printed: bool = False
    is_saved: bool = True
    next_save: float = 0.0

    def take_round(self, plan: RoundPlan) -> None:
        """A round has been added to the result: save it, and print its strategy if that was the last of it."""
        self.is_saved = False
        if time.monotonic() >= self.next_save:
            self._save()
        if plan.number == plan.plan.rounds:
            for spec in plan.strategy.phases:
                if spec in self.result.rounds:
                    self._print_piece(spec)

    def finish(self) -> None:
        """Print what has not been printed yet, and save what has not been saved."""
        if not self.is_saved:
            self._save()
        for strategy in self.result.strategies:
            self._print_piece(strategy.strategy)
        self._print(self.pages.end())

    def _save(self) -> None:
        if self.path is None or self.file_format is None:
            return
        begun = time.monotonic()
        try:
            write_atomically(self.path, FORMATS[self.file_format](self.result))
            self.file_failure, self.is_saved = None, True
        except OutputError as error:
            self.file_failure = error
        ended = time.monotonic()
        self.next_save = ended + self.spacing * (ended - begun)

    def _print_piece(self, spec: StrategySpec) -> None:
        if spec not in self.done:
            self.done.add(spec)
            self._print(self.pages.piece(spec))

    def _print(self, words: str) -> None:
        if self.reader_left or self.print_failure or not words:
            return
        try:
            click.echo((self.pages.gap if self.has_printed else "") + words)
            self.has_printed = True
        except BrokenPipeError:
            self.reader_left = True
            discard_stdout()
        except OSError as error:
            self.print_failure = OutputError(f"stdout cannot be written: {error.strerror}", "send it elsewhere, or -o")
            discard_stdout()
