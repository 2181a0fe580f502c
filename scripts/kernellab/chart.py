"""Draws a bar chart that compares kernels: how much more odd ports cost, and the cost of each probed port."""

from __future__ import annotations

import io
import re
from typing import TYPE_CHECKING

from connbench.report.charts.canvas import DPI, PALETTES, styled

from .table import Row

if TYPE_CHECKING:
    from matplotlib.axes import Axes

WIDTH, HEIGHT = 10.0, 4.5
"""In inches."""


def draw(rows: list[Row], title: str) -> bytes:
    """A PNG of two panels of bars, a kernel each.

    Raises:
        EnvironmentFault: matplotlib is not installed.
    """
    with styled():
        from matplotlib.backends.backend_agg import FigureCanvasAgg  # noqa: PLC0415  # half a second, and only drawing needs it
        from matplotlib.figure import Figure  # noqa: PLC0415  # as above

        figure = Figure(figsize=(WIDTH, HEIGHT), layout="constrained")
        figure.suptitle(title, x=0.01, ha="left")
        ratios, costs = figure.subplots(1, 2)
        _draw_ratios(ratios, rows)
        _draw_costs(costs, rows)
        stream = io.BytesIO()
        FigureCanvasAgg(figure)
        figure.savefig(stream, format="png", dpi=DPI, metadata={"Software": None})
        return stream.getvalue()


def _draw_ratios(axes: Axes, rows: list[Row]) -> None:
    palette = PALETTES["safe"]
    for offset, name, colour in ((-0.2, "plain", palette.odd), (0.2, "range", palette.even)):
        heights = [(row.costs[name].ratio or 0.0) if name in row.costs else 0.0 for row in rows]
        bars = axes.bar([place + offset for place in range(len(rows))], heights, 0.38, label=name, color=colour)
        axes.bar_label(bars, [f"{height:.1f}" if height else "-" for height in heights], fontsize=8)
    axes.axhline(1.0, color="#888888", linewidth=0.8)
    _finish(axes, rows, "odd ports / even ports, mean latency")
    axes.legend(loc="upper right")


def _draw_costs(axes: Axes, rows: list[Row]) -> None:
    costs = [row.a_port_ns or 0.0 for row in rows]
    bars = axes.bar(range(len(rows)), costs, 0.6, color=PALETTES["safe"].trend)
    axes.bar_label(bars, [f"{cost:,.0f}" if cost else "-" for cost in costs], fontsize=8)
    unit = "instructions" if all(row.is_counted for row in rows) else "ns"
    _finish(axes, rows, f"{unit} for each port probed")


def _finish(axes: Axes, rows: list[Row], title: str) -> None:
    axes.set_title(title, fontsize=10)
    axes.set_xticks(range(len(rows)), [re.split(r"[-+]", row.name)[0].replace(" ", "\n") for row in rows])
    axes.grid(visible=False, axis="x")
    axes.margins(y=0.12)
