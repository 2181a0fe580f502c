"""The option --charts of a sweep: its pictures, checked before anything is measured, and written at the end."""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial
from pathlib import Path

from connbench.commands.result_writer import each, reserve, say_written
from connbench.errors import ConnbenchError, UsageError
from connbench.model import Plan, StrategySpec
from connbench.report.charts import canvas, left_out, picture
from connbench.report.series import series_of
from connbench.results.files import Output
from connbench.results.result import Result

OPTION = "--charts"


def check_charts(prefix: Path, plan: Plan, *, force: bool) -> dict[str, Output]:
    """Make sure that the pictures can be drawn and written.

    Returns:
        By kind the file of each picture, reserved.

    Raises:
        UsageError: The prefix is a folder, and no name begins with it.
        OutputError: The folder is missing or not writable, or a picture exists and `force` is not given.
        EnvironmentFault: matplotlib is not installed.
    """
    canvas.require()
    if prefix.name in {"", ".."}:
        raise UsageError(
            f"{OPTION} {prefix}: this begins no file's name",
            "write charts/sweep, say, for charts/sweep-windows.png",
        )
    return {
        kind: reserve(prefix.with_name(f"{prefix.name}-{kind}.png"), force=force, option=OPTION)
        for kind in _kinds(plan.strategies)
    }


def write_charts(charts: dict[str, Output], result: Result) -> list[ConnbenchError]:
    """Draw each kind that the settings measured have, and say so on stderr.

    Returns:
        What went wrong.
    """
    series = series_of([result])

    def write(kind: str) -> None:
        charts[kind].save(picture(kind, series, canvas.Options(), "png"))
        missing = left_out(kind, series)
        say_written(f"wrote {charts[kind].shown}{missing and f'; {missing}'}")

    return each(*(partial(write, kind) for kind in _kinds(result.rounds)))


def _kinds(specs: Iterable[StrategySpec]) -> tuple[str, ...]:
    """Kinds of pictures; of a single window there is nothing to draw over the window's size."""
    windows = {spec.window for spec in specs if spec.window}
    return ("windows", "utilisation") if len(windows) > 1 else ("utilisation",)
