"""The table of the kinds of charts, and how a chart becomes a file. matplotlib is loaded when something is drawn."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from connbench.report.charts import canvas, histogram, ports, scatter, utilisation
from connbench.report.charts import window_sizes as windows
from connbench.report.charts.canvas import DPI, Options, name_origin, styled, to_bytes
from connbench.report.charts.utilisation import lines_of
from connbench.report.series import Series

if TYPE_CHECKING:
    from matplotlib.figure import Figure

KINDS: dict[str, Callable[[Sequence[Series], Options], Figure]] = {
    "scatter": scatter.draw,
    "utilisation": utilisation.draw,
    "histogram": histogram.draw,
    "ports": ports.draw,
    "windows": windows.draw,
}


def left_out(kind: str, series: Sequence[Series]) -> str:
    """How many of these series a chart draws, as a line; empty if it draws all."""
    if kind == "utilisation":
        return canvas.left_out(len(lines_of(series)), canvas.MOST_LINES, "lines")
    if kind == "windows":
        return canvas.left_out(len(windows.lines_of_sizes(series)), canvas.MOST_LINES, "lines")
    return canvas.left_out(len(series), canvas.MOST_PANELS, "panels")


def picture(kind: str, series: Sequence[Series], options: Options, file_format: str) -> bytes:
    """Draw a chart; the same series and options give the same bytes.

    Args:
        kind: A name of `KINDS`.
        series: What to draw, at least one.
        options: How to draw it.
        file_format: `png` or `svg`.

    Raises:
        EnvironmentFault: matplotlib is not installed.
        UsageError: The picture is too small for the panels, or the series have nothing that this kind shows.
    """
    with styled():
        figure = KINDS[kind](series, options)
        name_origin(figure, series, int(figure.get_figwidth() * DPI), left_out(kind, series))
        return to_bytes(figure, file_format)
