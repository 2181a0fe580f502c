"""The talk's chart: latency over the connection's number, by parity, with a trend for each."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from connbench.analysis.chart_data import Floats, attempt_numbers, fit_line
from connbench.analysis.knee import find_knee
from connbench.analysis.summary import summarize
from connbench.report.charts import canvas
from connbench.report.charts.canvas import POINTS_PER_PIXEL, Grid, Options
from connbench.report.series import Series, latency_name
from connbench.report.talk import six_lines
from connbench.units import NS_PER_MS

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.lines import Line2D

LEAST = (440, 340)
ROW_HEIGHT = 560
DENSE = 2000
HEADROOM = 0.1
"""Room above and below the points, as a share of the axis; the texts of the marks are at the top."""

LINE, MARKS_APART = 1.25, 5.0
"""The height of a line of a mark's text, in font sizes, and the room between two texts, in points."""

BESIDE_MARK = 1.5
"""Available left and right of a mark's text together, in font sizes."""

AXIS_WIDTH = 90
"""Pixels of a panel that its axis takes and that the title cannot use."""


def draw(series: Sequence[Series], options: Options) -> Figure:
    """A panel for each strategy, with the points of all its rounds over the attempt's number within the round."""
    scale = options.yscale or "log"
    series = series[: canvas.MOST_PANELS]
    grid = canvas.grid(len(series), options, LEAST, ROW_HEIGHT)
    figure = grid.figure()
    # Latencies of different orders of magnitude can share a logarithmic axis only.
    panels = canvas.panels_of(figure, grid, len(series), sharey=scale == "log")
    for panel, one in zip(panels, series, strict=True):
        _points(panel, one, options, scale)
        _titles(panel, one, grid)
        panel.margins(y=HEADROOM)
        panel.set(xlabel="connection attempt", xlim=_limits(one))
        _marks(panel, one, min(8.5, grid.panel_width / 60), grid.panel_width - AXIS_WIDTH)
        canvas.whole_numbers(panel.xaxis)
    canvas.set_scale(panels, scale, base=2)
    if options.latency_ms:
        for panel in panels:
            panel.set_ylim(options.latency_ms)
    for panel in panels[:: grid.columns]:
        panel.set_ylabel(latency_name(series, "latency of connect()"))
    canvas.legend_below(figure, _legend(series, options), grid.width)
    return figure


def _limits(one: Series) -> tuple[float, float]:
    longest = max(len(r.samples) for r in one.strategy.rounds)
    margin = max(1.0, 0.02 * longest)
    return 1 - margin, max(1, longest) + margin


def _points(panel: Axes, one: Series, options: Options, scale: str) -> None:
    """Draw the connections in their order, so that neither parity hides the other, and the failed above them.

    The trends lie on top, with a white edge over many points, and as thinner lines over a few, so as not to hide them.
    """
    samples = one.strategy.samples
    numbers = attempt_numbers(one.strategy)
    latency = samples.latency_ns / NS_PER_MS
    is_drawn = latency > 0 if scale == "log" else np.ones(len(samples), dtype=np.bool_)
    colours = options.colours
    size = _point_size(len(samples))
    is_dense = len(samples) > DENSE
    for chosen, is_failure in ((~samples.failed & is_drawn, False), (samples.failed & is_drawn, True)):
        panel.scatter(
            numbers[chosen],
            latency[chosen],
            s=size * (1.5 if is_failure else 1),
            c=colours.failed if is_failure else np.where(samples.odd, colours.odd, colours.even)[chosen].tolist(),
            linewidths=0,
            rasterized=True,
            zorder=2.2 if is_failure else 2.1,
        )
    for chosen, style in ((samples.even, "-"), (samples.odd, "--")):
        line = fit_line(numbers[chosen], samples.latency_ns[chosen])
        if line:
            over = np.linspace(numbers[chosen].min(), numbers[chosen].max(), 200)
            height = line.at(over) / NS_PER_MS
            shown = np.where(height > 0, height, np.nan) if scale == "log" else height
            if is_dense:
                _trend(panel, over, shown, style, color="white", linewidth=4, zorder=3)
            _trend(panel, over, shown, style, color=colours.trend, linewidth=2 if is_dense else 1.2, zorder=3.1)


def _trend(panel: Axes, over: Floats, shown: Floats, style: Any, **look: Any) -> None:  # noqa: ANN401  # what Line2D takes
    """Draw a line that does not change the limits of the axes: a falling one may go towards 0."""
    from matplotlib.lines import Line2D

    panel.add_artist(Line2D(over, shown, linestyle=style, **look))


def _point_size(points: int) -> float:
    """The area of a point in square points; with more points it is smaller."""
    return float(np.clip(20_000 / max(1, points), 1.2, 14.0))


def _titles(panel: Axes, one: Series, grid: Grid) -> None:
    """Write the six lines, small enough to fit, and above them the strategy in bold."""
    width = grid.panel_width - AXIS_WIDTH
    lines = six_lines(summarize(one.strategy))
    size = canvas.size_to_fit(lines, width)
    panel.annotate(
        lines, (0, 1), (0, 5), "axes fraction", "offset points", fontsize=size, va="bottom", linespacing=1.15
    )
    height = len(lines.splitlines()) * size * 1.15
    panel.set_title(canvas.folded(one.heading, width), pad=height + 11)


def _marks(panel: Axes, one: Series, size: float, width: float) -> None:
    """Draw vertical lines at the knee and at the first failed attempt, each with its number; `width` is in pixels."""
    knee = find_knee(one.strategy)
    marks = (
        (knee.connection, "knee", knee.in_use),
        (knee.first_failed, "first failed", knee.in_use_at_failure),
    )
    numbers = [number for number, _, _ in marks if number is not None]
    below = 0.0
    for number, name, in_use in marks:
        if number is not None:
            text = f"{name}: {number:,}{canvas.share_text(one, in_use)}"
            is_left, text = _placed(panel, number, numbers, text, size, width)
            _mark(panel, number, text, below, size, is_left=is_left)
            below += LINE * size * (text.count("\n") + 1) + MARKS_APART


def _placed(  # what there is, and how large
    panel: Axes, number: int, numbers: Sequence[int], text: str, size: float, width: float
) -> tuple[bool, str]:
    """The side of its line on which a text fits between the other line and the ends of the panel, in one line or two.

    Args:
        panel: Whose horizontal axis says how far apart lines are.
        number: Where the text's own line stands.
        numbers: Where lines stand.
        text: To be placed.
        size: Of its font, in points.
        width: Of the panel, in pixels.
    """
    low, high = panel.get_xlim()
    is_left = number < (low + high) / 2
    on_two = text.replace(" (", "\n(")
    for side, words in ((is_left, text), (is_left, on_two), (not is_left, text), (not is_left, on_two)):
        ahead = [other for other in (low, high, *numbers) if (other > number) == side and other != number]
        room = min(abs(other - number) for other in ahead) / (high - low)
        longest = max(canvas.text_width(line, size) for line in words.splitlines())
        if longest + BESIDE_MARK * size / POINTS_PER_PIXEL <= room * width:
            return side, words
    return is_left, on_two


def _mark(panel: Axes, number: int, text: str, below: float, size: float, *, is_left: bool) -> None:
    panel.axvline(number, color="#444444", linewidth=1, linestyle=(0, (4, 3)), zorder=3.2)
    panel.annotate(
        text,
        (number, 0.985),
        (4 if is_left else -4, -below),
        ("data", "axes fraction"),
        "offset points",
        ha="left" if is_left else "right",
        va="top",
        fontsize=size,
        bbox={"facecolor": "white", "alpha": 0.8, "edgecolor": "none", "pad": 1.5},
        zorder=4,
    )


def _legend(series: Sequence[Series], options: Options) -> list[Line2D]:
    """The handles for what any of the panels shows."""
    from matplotlib.lines import Line2D

    groups = [summarize(one.strategy).groups for one in series]
    colours = options.colours

    def occurs(name: str, least: int = 1) -> bool:
        return any(group[name].latency.count >= least for group in groups)

    marks = (
        ("even", "even ports", colours.even),
        ("odd", "odd ports", colours.odd),
        ("errored", "failed", colours.failed),
    )
    handles = [
        Line2D([], [], marker="o", linestyle="", color=colour, label=label)
        for name, label, colour in marks
        if occurs(name)
    ]
    if occurs("even", 2):
        handles.append(Line2D([], [], linestyle="-", color=colours.trend, linewidth=2, label="regression, even"))
    if occurs("odd", 2):
        handles.append(Line2D([], [], linestyle="--", color=colours.trend, linewidth=2, label="regression, odd"))
    return handles
