"""`connbench plot`."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from connbench.commands.messages import exit_code, print_message, warn
from connbench.commands.options import unit_option
from connbench.commands.result_writer import Stdout, each, reserve
from connbench.commands.sections import Command, Section, option
from connbench.commands.values import Word, count
from connbench.errors import ConnbenchError, EnvironmentFault, UsageError, suggest
from connbench.linux.limits import available_memory
from connbench.strategies import STRATEGIES
from connbench.units import memory

if TYPE_CHECKING:
    from connbench.report.charts.canvas import Options
    from connbench.report.series import Series

KIND_NAMES = ("scatter", "utilisation", "histogram", "ports", "windows")
"""Those of `connbench.report.charts`, named here so that `--help` need not load numpy."""

UNTIMED_KINDS = {"ports", "windows"}
"""The kinds that do not draw the time of each attempt."""

FIGURE_NAMES = ("latency", "acquire", "handshake")
"""Those of `connbench.report.series`, for the same reason."""

PALETTE_NAMES = ("safe", "talk")
MOST_PIXELS = 20_000
"""The longest side of a picture; with both sides as long, drawing it takes 2 GB (`PIXEL_BYTES`)."""
MOST_IN_TERMINAL = 48
"""Charts that --terminal prints; thousands would take minutes, and scroll away."""

PIXEL_BYTES = 5
"""Memory for each pixel while a picture is drawn: the pixel and its compressed form. 4.1 bytes were measured."""


@click.command("plot", cls=Command)
@click.argument("files", nargs=-1, required=True, type=click.Path(path_type=Path, readable=False), metavar="FILE...")
@option(
    Section.OUTPUT,
    "-o",
    "--output",
    type=click.Path(path_type=Path, readable=False),
    metavar="PICTURE",
    help="Write the chart to PICTURE (.png or .svg).",
)
@option(
    Section.DRAW,
    "--kind",
    type=Word(KIND_NAMES),
    default="scatter",
    show_default=True,
    metavar="KIND",
    help="Draw a chart of this kind, from the list above.",
)
@option(
    Section.DRAW,
    "--figure",
    type=Word(FIGURE_NAMES),
    metavar="TIME",
    help="Draw this time of each attempt: latency, acquire, or the handshake of --in-flight. Not of ports and windows."
    "  [default: latency; acquire where a strategy searches in bind()]",
)
@option(
    Section.DRAW,
    "--strategy",
    "chosen",
    multiple=True,
    metavar="LABEL",
    shell_complete=lambda _context, _option, begun: [name for name in STRATEGIES if name.startswith(begun)],
    help="Draw this strategy, as in window or 'window 500'. Repeatable.  [default: all]",
)
@option(
    Section.DRAW,
    "--yscale",
    type=Word(("linear", "log")),
    metavar="SCALE",
    help="Make the latency axis linear or log.  [default: log for times, linear for counts]",
)
@option(
    Section.DRAW,
    "--palette",
    type=Word(PALETTE_NAMES),
    metavar="NAME",
    help="Draw in colours that colour-blind readers tell apart (safe), or in green and red (talk).  "
    "[default: safe; for a file of reproduce: talk]",
)
@option(Section.DRAW, "--by-source", is_flag=True, help="Draw a panel or a line for each source address.")
@option(
    Section.OUTPUT,
    "--width",
    type=count("PIXELS", 1, MOST_PIXELS),
    help="Make the picture this wide.  [default: what its panels need]",
)
@unit_option
@option(
    Section.OUTPUT,
    "--height",
    type=count("PIXELS", 1, MOST_PIXELS),
    help="Make the picture this high.  [default: what its panels need]",
)
@option(Section.OUTPUT, "--terminal", is_flag=True, help="Print the scatter to the terminal.")
@option(Section.OUTPUT, "--force", is_flag=True, help="Replace a picture that exists.")
def command(  # noqa: PLR0913  # one for each option
    files: tuple[Path, ...],
    output: Path | None,
    kind: str,
    figure: str | None,
    chosen: tuple[str, ...],
    *,
    unit: str | None,
    by_source: bool,
    terminal: bool,
    force: bool,
    **look: str | int | None,
) -> int:
    """Draw charts of result files: a panel or a line for each strategy.

    \b
    scatter      the latency of each connection, in the order they were
                 opened, with a regression line for even and odd ports
    utilisation  rolling median and p99 over the share of the range in use
    histogram    the distribution of latencies, for even and odd ports
    ports        how many ports of each part of the range were chosen, and
                 how often the parity changed
    windows      total time and errors over the size of the window
    """  # noqa: D301  # click wants the character \b itself
    _check(kind, output, terminal=terminal, yscale=look["yscale"], figure=figure)
    _check_memory(int(look["width"] or 0), int(look["height"] or 0))

    from connbench.report.charts import canvas, left_out, picture
    from connbench.report.charts import terminal as characters
    from connbench.report.series import figure_of, in_figure, series_of
    from connbench.results.file_checks import PORT_OUTSIDE, PORT_TWICE
    from connbench.results.fleet_file import results_of
    from connbench.results.input_file import read_all
    from connbench.results.output_file import PICTURE_SUFFIXES, format_of
    from connbench.results.result import UNIT

    if terminal:
        characters.require()
    file = None
    if output:
        canvas.require()
        file_format = format_of(output, PICTURE_SUFFIXES)
        file = reserve(output, force=force)
    results = results_of(read_all(files, unit))
    look["palette"] = look["palette"] or ("talk" if any(result.is_reproduction for result in results) else "safe")
    options = canvas.Options(**look)  # type: ignore[arg-type]  # click has checked them
    series = _choose(series_of(results, by_source=by_source), chosen)
    if kind not in UNTIMED_KINDS:
        series = in_figure(series, figure or figure_of(series))
    if not series:
        raise UsageError(f"--figure {figure}: no attempt in these files has it", "measure with --in-flight N")
    failures: list[ConnbenchError] = []
    if file:
        if missing := left_out(kind, series):
            print_message(f"{missing}; --strategy LABEL chooses others")
        drawn = picture(kind, series, options, file_format)
        failures += each(lambda: file.save(drawn))
    if terminal:
        failures += _print(series, options)
    for finding in (f for result in results for f in result.known if f.code in {UNIT, PORT_TWICE, PORT_OUTSIDE}):
        warn(finding)
    return exit_code(failures, is_invalid=False)


def _check(kind: str, output: Path | None, *, terminal: bool, yscale: object, figure: str | None) -> None:
    if not (output or terminal):
        raise UsageError("there is no file for the picture", "name one, as in -o chart.png, or give --terminal")
    if terminal and kind != "scatter":
        raise UsageError(f"--terminal prints the scatter, not --kind {kind}", f"use --kind {kind} -o {kind}.png")
    if kind == "ports" and yscale:
        raise UsageError("--kind ports counts, and has no --yscale", "leave it out")
    if kind in UNTIMED_KINDS and figure not in {None, "latency"}:
        raise UsageError(f"--kind {kind} does not draw the time of each attempt", f"leave out --figure {figure}")


def _check_memory(width: int, height: int) -> None:
    """Check that there is memory for a picture; a size of 0 is the default, which needs little."""
    needed, free = width * height * PIXEL_BYTES, available_memory()
    if needed > free:
        raise EnvironmentFault(
            f"a picture of {width:,} x {height:,} pixels needs about {memory(needed)}, and {memory(free)} are free",
            "give a smaller --width or --height",
        )


def _choose(series: list[Series], chosen: tuple[str, ...]) -> list[Series]:
    """The series whose label, or whose strategy's label or name, was chosen; all without a choice."""
    names = {one.label: {one.label, one.strategy.strategy.label, one.strategy.strategy.name} for one in series}
    for wanted in chosen:
        if not any(wanted in some for some in names.values()):
            raise UsageError(f"--strategy {wanted}: no such strategy in these files", suggest(wanted, names))
    found = [one for one in series if not chosen or names[one.label] & set(chosen)]
    if not found:
        raise UsageError("no strategy was measured in these files", "name a file that holds attempts")
    return found


def _print(series: list[Series], options: Options) -> list[ConnbenchError]:
    from connbench.analysis.summary import summarize
    from connbench.report.charts.canvas import left_out
    from connbench.report.charts.terminal import scatter
    from connbench.report.talk import six_lines

    stdout = Stdout()
    if missing := left_out(len(series), MOST_IN_TERMINAL, "charts"):
        print_message(f"{missing}; --strategy LABEL chooses others")
    for position, one in enumerate(series[:MOST_IN_TERMINAL]):
        stdout.print(("\n" if position else "") + one.heading + one.what_is_drawn)
        stdout.print(six_lines(summarize(one.strategy)))
        chart = scatter(
            one,
            shutil.get_terminal_size().columns,
            yscale=options.yscale or "log",
            palette=options.palette,
            colour=sys.stdout.isatty(),
        )
        stdout.print(chart)
    return stdout.failures
