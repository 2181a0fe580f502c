"""The option --charts of a sweep: its pictures, checked before anything is measured, and written at the end."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import click

from connbench.model import Plan, StrategySpec
from connbench.report.charts import canvas, picture
from connbench.report.series import series_of
from connbench.results.files import PICTURE_SUFFIXES, check_output, write_atomically
from connbench.results.result import Result

OPTION = "--charts"


def check_charts(prefix: Path, plan: Plan, *, force: bool) -> None:
    """Make sure that the pictures can be drawn and written.

    Raises:
        OutputError: The folder is missing or not writable, or a picture exists and `force` is not given.
        EnvironmentFault: matplotlib is not installed.
    """
    canvas.require()
    for path in _paths(prefix, plan.strategies).values():
        check_output(path, force=force, suffixes=PICTURE_SUFFIXES, option=OPTION)


def write_charts(prefix: Path, result: Result) -> None:
    """Draw each kind, and say so on stderr.

    Raises:
        OutputError: One cannot be written.
    """
    series = series_of([result])
    for kind, path in _paths(prefix, result.rounds).items():
        write_atomically(path, picture(kind, series, canvas.Options(), "png"), option=OPTION)
        click.echo(f"wrote {path}", err=True)


def _paths(prefix: Path, specs: Iterable[StrategySpec]) -> dict[str, Path]:
    """Pictures by kind; of a single window there is nothing to draw over the window's size."""
    kinds = ["windows"] if len({spec.window for spec in specs if spec.window}) > 1 else []
    return {kind: prefix.with_name(f"{prefix.name}-{kind}.png") for kind in (*kinds, "utilisation")}
