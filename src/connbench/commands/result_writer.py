"""Prints and saves results. If stdout or a file fails, the others are still written."""

from __future__ import annotations

import shutil
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import click

from connbench.commands.messages import can_be_bold, discard_stdout, print_text, width
from connbench.commands.reports import content_of
from connbench.errors import ConnbenchError, Interrupted, OutputError
from connbench.linux.faults import fault_of
from connbench.model import RoundPlan, StrategySpec
from connbench.safe_text import printable

if TYPE_CHECKING:
    from connbench.findings import Finding
    from connbench.report.blocks import Table
    from connbench.report.html.page import Opening
    from connbench.results.output_file import Output
    from connbench.results.result import Result


PAGE_ENDINGS = {".html": "html", ".htm": "html"}
PAGE_OPTION = "--html"


def reserve(path: Path, *, force: bool, option: str = "-o") -> Output:
    """The output file of this path, reserved until the command ends.

    Raises:
        OutputError: It cannot be written.
    """
    from connbench.results.output_file import Output

    return click.get_current_context().with_resource(Output(path, force=force, option=option))


def format_of_result(path: Path) -> str:
    """The format of the file of -o, by the ending of its name, before anything is measured for it.

    Raises:
        UsageError: No format has this ending.
        EnvironmentFault: The library that writes this format is not installed.
    """
    from connbench.report.libraries import require
    from connbench.results.output_file import PARQUET, format_of

    found = format_of(path)
    if found == PARQUET:
        require("pyarrow", f"-o {path.name}")
    return found


def each(*writes: Callable[[], None]) -> list[ConnbenchError]:
    """Call every function, even if one of them fails.

    Returns:
        The failures.
    """
    failures: list[ConnbenchError] = []
    for write in writes:
        try:
            write()
        except Interrupted:
            raise
        except Exception as error:  # noqa: BLE001  # a bug in one must not stop the others
            failures.append(fault_of(error))
    return failures


def print_written(words: str) -> None:
    """Print on stderr which file was written."""
    with suppress(OSError):  # stderr is closed; the file is written
        click.echo(printable(words), err=True)


def check_page(page: Path, *, force: bool) -> Output:
    """Check that the page of --html can be made and written, and reserve its name.

    Raises:
        UsageError: Another ending than .html.
        OutputError: The folder is missing or not writable, or the file exists and `force` is not given.
        EnvironmentFault: The libraries are not installed.
    """
    from connbench.report.html.page import check_libraries
    from connbench.results.output_file import format_of

    format_of(page, PAGE_ENDINGS, PAGE_OPTION)
    check_libraries()
    return reserve(page, force=force, option=PAGE_OPTION)


def write_page(
    results: Sequence[Result], page: Output, more: Sequence[Table] = (), opening: Opening | None = None
) -> None:
    """Write the page of --html and say so on stderr.

    Args:
        results: The results on the page.
        page: The file.
        more: Blocks that stand before all other tables.
        opening: What the page begins with; None for the verdict and the chart of each run.

    Raises:
        OutputError: It cannot be written.
    """
    from connbench.report.html.page import html_page

    data = html_page(results, more, opening).encode()
    page.save(data)
    print_written(f"wrote {page.shown}, {len(data) / 1e6:.1f} MB")


@dataclass
class Stdout:
    """Prints as long as stdout can be written.

    Attributes:
        failure: Why stdout cannot be written; the command goes on, because it may have files to write.
        reader_left: Whether the reader has closed the pipe, which is not a failure.
        has_printed: Whether anything has been printed.
    """

    failure: ConnbenchError | None = None
    reader_left: bool = False
    has_printed: bool = False

    @property
    def failures(self) -> list[ConnbenchError]:
        """The failure, if there is one."""
        return [self.failure] if self.failure else []

    @property
    def is_over(self) -> bool:
        """Whether stdout takes no more output."""
        return self.reader_left or self.failure is not None

    def print(self, words: str) -> None:
        """Print a text and an end of line, if stdout still takes output."""
        if self.is_over:
            return
        try:
            print_text(words)
            self.has_printed = True
        except BrokenPipeError:
            self.reader_left = True
            discard_stdout()
        except OSError as error:
            self.failure = OutputError(f"stdout cannot be written: {error.strerror}", "send it elsewhere, or -o")
            discard_stdout()


class Printout(Protocol):
    """What is printed of a result on stdout: a text after each strategy's last round, and an ending after the run."""

    @property
    def separator(self) -> str:
        """What stands between two texts, besides the end of the line."""

    def strategy(self, spec: StrategySpec) -> str:
        """What to print after a strategy's last round; empty for nothing."""

    def ending(self) -> str:
        """What to print after the last strategy."""


@dataclass(frozen=True)
class PrintoutByStrategy:
    """The text of a run: each strategy is printed as soon as it is measured.

    Attributes:
        already_printed: Findings that are on stderr already.
        plot: Whether a chart of each strategy follows.
    """

    result: Result
    already_printed: tuple[Finding, ...] = ()
    plot: bool = False
    separator: str = "\n"

    def strategy(self, spec: StrategySpec) -> str:
        """The strategy's figures."""
        from connbench.report.run_report import strategy_blocks
        from connbench.report.text import write

        return write(strategy_blocks(self.result, self.result.strategy(spec)), width(), bold=can_be_bold())

    def ending(self) -> str:
        """The comparison and the findings, the charts if asked for, and last the verdict."""
        from connbench.report.blocks import Verdict
        from connbench.report.run_report import closing_blocks
        from connbench.report.run_verdict import run_verdict
        from connbench.report.text import write

        parts = [
            write(closing_blocks(self.result, not_to_repeat(self.already_printed)), width()),
            *(scatters(self.result) if self.plot else ()),
            write([Verdict(run_verdict(self.result))], width(), bold=can_be_bold()),
        ]
        return "\n\n".join(part for part in parts if part)


@dataclass(frozen=True)
class PrintoutAtEnd:
    """One text, which `write` makes of the whole result."""

    result: Result
    write: Callable[[Result], str]
    separator: str = ""

    def strategy(self, _spec: StrategySpec) -> str:
        """Nothing yet."""
        return ""

    def ending(self) -> str:
        """The whole document."""
        return self.write(self.result).rstrip("\n")


def scatters(result: Result) -> list[str]:
    """The scatter chart of each strategy, in characters."""
    from connbench.report.charts import terminal
    from connbench.report.series import figure_of, in_figure, series_of

    columns, colour = shutil.get_terminal_size().columns, sys.stdout.isatty()
    series = series_of([result])
    return [
        f"{one.heading}{one.what_is_drawn}\n{terminal.scatter(one, columns, colour=colour)}"
        for one in in_figure(series, figure_of(series))
    ]


def not_to_repeat(already_printed: tuple[Finding, ...]) -> tuple[Finding, ...]:
    """The findings that stderr has, if stdout is the same terminal; else none: a file needs them too."""
    return already_printed if sys.stdout.isatty() and sys.stderr.isatty() else ()


@dataclass
class ResultWriter:
    """Prints and saves a result as it grows.

    Attributes:
        printout: What is printed on stdout.
        output: The output file, if one is asked for; its name's ending names the format.
        spacing: The least time between two saves, as a multiple of the time of the last save. A sweep with many rounds
            would else spend its time on a growing file. The last round is always saved.
        file_failure: Why the file could not be written; the run goes on, because the figures can still be printed.
    """

    result: Result
    printout: Printout
    output: Output | None = None
    spacing: float = 0.0
    file_failure: ConnbenchError | None = None
    stdout: Stdout = field(default_factory=Stdout)
    done: set[StrategySpec] = field(default_factory=set)
    is_saved: bool = True
    next_save: float = 0.0

    @property
    def print_failure(self) -> ConnbenchError | None:
        """Why stdout could not be written; the run goes on, because the figures can still be saved."""
        return self.stdout.failure

    def take_round(self, plan: RoundPlan) -> None:
        """Save the result after a round, and print the strategy if this was its last round."""
        self.is_saved = False
        if time.monotonic() >= self.next_save:
            self._save()
        if plan.number == plan.plan.rounds:
            for spec in plan.strategy.phases:
                if spec in self.result.rounds:
                    self._print_strategy(spec)

    def finish(self) -> None:
        """Print what has not been printed yet, and save what has not been saved."""
        if not self.is_saved:
            self._save()
        for strategy in self.result.strategies:
            self._print_strategy(strategy.strategy)
        self._print(self.printout.ending)

    def _save(self) -> None:
        if self.output is None:
            return
        from connbench.results.output_file import SavedElsewhereError, format_of

        begun = time.monotonic()
        try:
            self.output.save(content_of(self.result, format_of(self.output.path)))
            self.file_failure, self.is_saved = None, True
        except OutputError as error:
            self.file_failure, self.is_saved = error, isinstance(error, SavedElsewhereError)
        except Exception as error:  # noqa: BLE001  # a bug or a lack of memory here must not prevent the report
            self.file_failure = fault_of(error)
        ended = time.monotonic()
        self.next_save = ended + self.spacing * (ended - begun)

    def _print_strategy(self, spec: StrategySpec) -> None:
        if spec not in self.done:
            self.done.add(spec)
            self._print(lambda: self.printout.strategy(spec))

    def _print(self, write: Callable[[], str]) -> None:
        if self.stdout.is_over:
            return
        try:
            words = write()
        except Exception as error:  # noqa: BLE001  # as in _save
            self.stdout.failure = fault_of(error)
            return
        if words:
            self.stdout.print((self.printout.separator if self.stdout.has_printed else "") + words)
