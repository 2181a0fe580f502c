"""Which ports were picked, by bucket and parity, and how often the parity changed: the talk's two questions."""

from __future__ import annotations

from collections.abc import Sequence
from math import ceil
from typing import TYPE_CHECKING

import numpy as np

from connbench.analysis.chart_data import Counts, bucket_edges, bucket_width, switches_so_far
from connbench.model import RoundPlan
from connbench.report.charts import canvas
from connbench.report.charts.canvas import Grid, Options
from connbench.report.series import Series

if TYPE_CHECKING:
    from matplotlib.artist import Artist
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure, SubFigure

LEAST = (400, 480)
ROW_HEIGHT = 620
LABEL_SIZE, LABELS_APART = 10, 18
"""The font size of the buckets' labels in points, and the pixels between two labels."""


def draw(series: Sequence[Series], options: Options) -> Figure:
    """Two panels for each strategy: above, the ports picked in each bucket; below, the changes of parity so far."""
    from matplotlib.lines import Line2D
    from matplotlib.patches import Patch

    series = series[: canvas.MOST_PANELS]
    grid = canvas.grid(len(series), options, LEAST, ROW_HEIGHT)
    figure = grid.figure()
    parts = figure.subfigures(grid.rows, grid.columns, squeeze=False, wspace=0.03, hspace=0.03).flatten()
    for part, one in zip(parts, series, strict=False):
        _pair(part, one, grid, options)
    colours = options.colours
    handles: list[Artist] = [
        Patch(color=colours.even, alpha=0.75, label="even ports"),
        Patch(color=colours.odd, alpha=0.75, label="odd ports"),
    ]
    if any(one.strategy.capacity for one in series):
        handles.append(Line2D([], [], color="#444444", linestyle="--", linewidth=1, label="ports there are"))
    canvas.legend_below(figure, handles, grid.width)
    return figure


def _pair(part: SubFigure, one: Series, grid: Grid, options: Options) -> None:
    above, below = part.subplots(2, 1)
    picked = one.strategy.samples.port[~one.strategy.samples.failed].astype(np.int64)
    above.set_title(canvas.folded(one.heading, grid.panel_width - 90))
    _buckets(above, one, picked, options, grid.panel_width)
    _switches(below, one)


def _buckets(panel: Axes, one: Series, picked: Counts, options: Options, panel_width: float) -> None:
    """Bars of odd ports on bars of even ports, and a line for the ports that exist, over all rounds."""
    plan = one.result.plan
    if plan:
        low, high = plan.port_range.low, plan.port_range.high
    elif len(picked):
        low, high = int(picked.min()), int(picked.max())
    else:
        panel.text(0.5, 0.5, "no connections", ha="center", transform=panel.transAxes)
        return
    edges = bucket_edges(low, high)
    width = bucket_width(high - low + 1)
    even, odd = (np.histogram(picked[picked % 2 == parity], edges)[0] for parity in (0, 1))
    places = np.arange(len(edges) - 1)
    panel.bar(places, even, color=options.colours.even, alpha=0.75)
    panel.bar(places, odd, bottom=even, color=options.colours.odd, alpha=0.75)
    if plan and one.strategy.capacity:
        there_are = np.diff(edges) * len(one.strategy.rounds) * RoundPlan(plan, one.strategy.strategy, 1).spaces
        panel.hlines(there_are, places - 0.45, places + 0.45, color="#444444", linestyle="--", linewidth=1)
    labels = [f"{edge}-" for edge in edges[:-1]]
    widest = max(canvas.text_width(label, LABEL_SIZE) for label in labels) + LABELS_APART
    labelled = slice(None, None, ceil(len(places) * widest / (panel_width - 90)))
    panel.set_xticks(places[labelled], labels[labelled])
    rounds = len(one.strategy.rounds)
    panel.set_xlabel(f"ports, in buckets of {width:,}" + (f"; {rounds} rounds together" if rounds > 1 else ""))
    panel.set_ylabel("times picked")
    panel.yaxis.set_major_formatter("{x:,.0f}")


def _switches(panel: Axes, one: Series) -> None:
    """The number of parity changes so far, as a line for each round."""
    totals = []
    for measured in one.strategy.rounds:
        made = np.flatnonzero(~measured.samples.failed)
        switches = switches_so_far(measured.samples.port[made])
        panel.step(made + 1, switches, where="post", color="#0072b2", linewidth=1.4)
        totals.append(int(switches[-1]) if len(switches) else 0)
    middle = float(np.median(totals))
    panel.text(
        0.02,
        0.95,
        f"{middle:,.0f} {'switch' if middle == 1 else 'switches'}" + (" (median)" if len(totals) > 1 else ""),
        transform=panel.transAxes,
        va="top",
        bbox={"facecolor": "white", "alpha": 0.8, "edgecolor": "none", "pad": 1.5},
    )
    panel.set(xlabel="connection attempt", ylabel="parity switches")
    panel.set_ylim(0, max(1, *totals) * 1.25)
    for axis in (panel.xaxis, panel.yaxis):
        canvas.whole_numbers(axis)
