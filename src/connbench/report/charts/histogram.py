"""How latencies are distributed for each parity: the talk's chart of two peaks."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from connbench.analysis.chart_data import Floats, latency_edges
from connbench.report.charts import canvas
from connbench.report.charts.canvas import Options
from connbench.report.series import Series, latency_name
from connbench.results.result import Numbers
from connbench.units import NS_PER_MS

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

LEAST = (320, 240)
ROW_HEIGHT = 420


def draw(series: Sequence[Series], options: Options) -> Figure:
    """A panel for each strategy with all its rounds; all panels have the same bins and axes, to be compared."""
    scale = options.yscale or "linear"
    series = series[: canvas.MOST_PANELS]
    grid = canvas.grid(len(series), options, LEAST, ROW_HEIGHT)
    figure = grid.figure()
    panels = canvas.panels_of(figure, grid, len(series), sharex=True, sharey=True)
    edges = latency_edges(np.concatenate([one.strategy.samples.latency_ns for one in series]))
    for panel, one in zip(panels, series, strict=True):
        if len(edges):
            _bars(panel, one, edges, options, scale)
        panel.set_title(canvas.folded(one.heading, grid.panel_width - 80))
        panel.set_xlabel(latency_name([one], "latency of connect()"))
        panel.tick_params(labelbottom=True)  # a panel above an empty place has no other axis below it
    if len(edges):
        panels[0].set_xscale("log")
        is_wide = edges[-1] > 30 * edges[0]
        canvas.durations(panels[0].xaxis, "log", steps=(1.0,) if is_wide else (1.0, 2.0, 5.0))
    panels[0].set_yscale(scale)
    panels[0].yaxis.set_major_formatter("{x:,.0f}")
    for panel in panels[:: grid.columns]:
        panel.set_ylabel("attempts")
    return figure


def _bars(panel: Axes, one: Series, edges: Floats, options: Options, scale: str) -> None:
    samples = one.strategy.samples
    colours = options.colours
    groups = (
        ("even", samples.even, colours.even),
        ("odd", samples.odd, colours.odd),
        ("failed", samples.failed, colours.failed),
    )
    for name, chosen, colour in groups:
        values = samples.latency_ns[chosen]
        if not len(values):
            continue
        inner = _reached(edges, values)
        counts, _ = np.histogram(values, inner)
        median = float(np.median(values))
        label = f"{name}: {len(values):,}, median {canvas.tick(median)}"
        base = 0.5 if scale == "log" else 0.0
        is_failure = name == "failed"
        panel.stairs(
            counts,
            inner / NS_PER_MS,
            baseline=base,
            fill=not is_failure,
            color=colour,
            alpha=1.0 if is_failure else 0.55,
            linewidth=1.2,
            label=label,
        )
        if not is_failure:
            panel.stairs(counts, inner / NS_PER_MS, baseline=base, color=colour, linewidth=1)
    if panel.get_legend_handles_labels()[0]:
        panel.legend(loc="upper right")


def _reached(edges: Floats, values: Numbers) -> Floats:
    """The edges without the bins below the least value and above the greatest, which would be drawn as a line at 0."""
    first = max(0, int(np.searchsorted(edges, values[values > 0].min(), "right")) - 1) if values.any() else 0
    return edges[first : int(np.searchsorted(edges, values.max(), "left")) + 1]
