"""Latency over the connection's number as measured, and over it the line that the model predicts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from connbench.analysis.chart_data import rolling_percentiles
from connbench.report.charts import canvas
from connbench.report.charts.canvas import Options
from connbench.results.result import Samples
from connbench.units import NS_PER_MS

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.lines import Line2D

LEAST = (440, 300)
ROW_HEIGHT = 480
AXIS_WIDTH = 90
POINT = 1.5
"""Area of a point, in square points."""


@dataclass(frozen=True, eq=False)
class Overlay:
    """A panel: attempts as points, and a latency in ns for each attempt as a line; either may be missing."""

    label: str
    points: Samples | None
    line_ns: npt.NDArray[np.float64] | None


def picture(overlays: Sequence[Overlay], file_format: str) -> bytes:
    """Draw a panel for each.

    Raises:
        EnvironmentFault: matplotlib is not installed.
    """
    with canvas.styled():
        return canvas.to_bytes(draw(overlays, Options()), file_format)


def draw(overlays: Sequence[Overlay], options: Options) -> Figure:
    """The figure itself."""
    grid = canvas.grid(len(overlays), options, LEAST, ROW_HEIGHT)
    figure = grid.figure()
    panels = canvas.panels_of(figure, grid, len(overlays), sharey=True)
    for panel, one in zip(panels, overlays, strict=True):
        _points(panel, one, options)
        _line(panel, one, options)
        panel.set_title(canvas.folded(one.label, grid.panel_width - AXIS_WIDTH))
        panel.set(xlabel="connection attempt")
        canvas.whole_numbers(panel.xaxis)
    canvas.set_scale(panels, "log", base=2)
    for panel in panels[:: grid.columns]:
        panel.set_ylabel("latency")
    canvas.legend_below(figure, _legend(overlays, options), grid.width)
    return figure


def _points(panel: Axes, one: Overlay, options: Options) -> None:
    """Draw the connections in their order, so that neither parity hides the other, and the failed above them."""
    if one.points is None:
        return
    samples, colours = one.points, options.colours
    numbers, latency = np.arange(1, len(samples) + 1), samples.searched_ns / NS_PER_MS
    parity = np.where(samples.odd, colours.odd, colours.even)
    for chosen, colour in ((~samples.failed, parity), (samples.failed, np.full(len(samples), colours.failed))):
        shown = chosen & (latency > 0)
        panel.scatter(
            numbers[shown], latency[shown], s=POINT, c=colour[shown].tolist(), linewidths=0, rasterized=True, zorder=2.1
        )


def _line(panel: Axes, one: Overlay, options: Options) -> None:
    """Draw the rolling median; of few attempts each latency."""
    if one.line_ns is None:
        return
    positions, (median,) = rolling_percentiles(one.line_ns, (50.0,), points=1000)
    if not len(positions):
        positions, median = np.arange(len(one.line_ns)), one.line_ns
    for colour, width, above in (("white", 4.0, 3.0), (options.colours.trend, 1.8, 3.1)):
        panel.plot(positions + 1, median / NS_PER_MS, color=colour, linewidth=width, zorder=above)


def _legend(overlays: Sequence[Overlay], options: Options) -> list[Line2D]:
    from matplotlib.lines import Line2D

    colours = options.colours
    points = [one.points for one in overlays if one.points is not None]
    marks = (
        ("even ports", colours.even, any(one.even.any() for one in points)),
        ("odd ports", colours.odd, any(one.odd.any() for one in points)),
        ("failed", colours.failed, any(one.failed.any() for one in points)),
    )
    handles = [
        Line2D([], [], marker="o", linestyle="", color=colour, label=label) for label, colour, occurs in marks if occurs
    ]
    if any(one.line_ns is not None for one in overlays):
        handles.append(Line2D([], [], color=colours.trend, linewidth=2, label="predicted, rolling median"))
    return handles
