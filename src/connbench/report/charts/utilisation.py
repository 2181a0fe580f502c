"""What a connection costs by the share of the range that is in use already: a line a strategy.

Of a sweep a line a setting, and churn as a point for each share that the range was filled to.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from connbench.analysis.chart_data import Floats, held_before, rolling_percentiles
from connbench.analysis.knee import Knee, find_knee
from connbench.analysis.levels import levels_of, ports_of
from connbench.model import Phase, RoundPlan
from connbench.report.charts import canvas
from connbench.report.charts.canvas import Options
from connbench.report.series import Series, colour_of, latency_name
from connbench.units import NS_PER_MS

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

LEAST = (440, 340)
PERCENTILES = (50.0, 99.0)
GREY = "#555555"
FAINT = 0.45
"""Opacity of the filling in a chart of churn."""

CROWD = 4
"""The number of lines from which on the p99 is drawn faintly."""

POINTS = 150
"""Points of a line: each is a p99 of some hundred connections, with as many connections as in the talk."""


@dataclass(frozen=True, slots=True)
class Line:
    """Series that make one line of a chart: one filling, or the churn at several shares, least share first.

    `colour` counts from 0: the filling and the churn of a setting have the same.
    """

    label: str
    colour: int
    series: tuple[Series, ...]
    is_churn: bool

    def churn_points(self, percentiles: tuple[float, ...]) -> tuple[Floats, Floats]:
        """Shares of the range, (points,), and percentiles in ms of the connections there, (percentiles, points)."""
        shares, values = [], []
        for one in self.series:
            samples = one.strategy.samples
            latency = samples.latency_ns[~samples.failed]
            share = share_of(one)
            if share is not None and len(latency):
                shares.append(share)
                values.append(np.percentile(latency, percentiles) / NS_PER_MS)
        return np.array(shares), np.array(values).reshape(len(shares), len(percentiles)).T


def draw(series: Sequence[Series], options: Options) -> Figure:
    """Rolling median and p99 of every strategy in one panel; a point is of the connections of all rounds at a share."""
    from matplotlib.lines import Line2D
    from matplotlib.ticker import PercentFormatter

    scale = options.yscale or "log"
    grid = canvas.grid(1, options, LEAST, 0)
    figure = grid.figure()
    axes = figure.subplots()
    handles = []
    lines = lines_of(series)[: canvas.MOST_LINES]
    has_churn = any(line.is_churn for line in lines)
    alpha = FAINT if has_churn else 1.0
    # The p99 of the filling repeats that of churn, and many lines hide one another.
    p99_alpha = 0.0 if has_churn else FAINT if len(lines) > CROWD else 1.0
    for line in lines:
        colour = colour_of(line.colour)
        if line.is_churn:
            handles.append(Line2D([], [], color=colour, linewidth=2, marker="o", label=line.label))
            _churn(axes, line, colour)
        else:
            [one] = line.series
            handles.append(Line2D([], [], color=colour, linewidth=2, alpha=alpha, label=_label(line)))
            _line(axes, one, colour, scale, alpha=alpha, p99_alpha=p99_alpha)
    of = latency_name(series, "connect()")
    title = f"Rolling median and p99 of {of}"
    if has_churn:
        title = f"Median and p99 of {of}: rolling while filling, a point for each churn"
    elif all(levels_of(one.strategy) for one in series):
        title = f"Median and p99 of {of} at each level"
    axes.set_title(canvas.folded(title, grid.width - 60))
    axes.set(
        xlabel=canvas.folded(_axis(series), grid.width - 100, 10, "normal"),
        ylabel=latency_name(series, "latency of connect()"),
    )
    axes.set_xlim(-0.01, 1.01)
    axes.xaxis.set_major_formatter(PercentFormatter(1.0))
    canvas.set_scale([axes], scale)
    handles += [
        Line2D([], [], linewidth=2, label="median", color=GREY),
        Line2D([], [], linewidth=1, linestyle=":", label="p99", color=GREY),
        Line2D([], [], marker="D", linestyle="", markersize=7, label="knee", color=GREY),
        Line2D([], [], marker="x", linestyle="", markersize=7, markeredgewidth=2, label="first failed", color=GREY),
    ]
    canvas.legend_below(figure, handles, grid.width, may_grow=options.height is None)
    return figure


def share_of(one: Series) -> float | None:
    """The share of its ports that a strategy fills, 0 to 1; None if it is not known."""
    spec, plan = one.strategy.strategy, one.result.plan
    if spec.load.fill is not None:
        return spec.load.fill
    if plan is None:
        return None
    planned = RoundPlan(plan, spec, 1)
    return min(1.0, planned.connections / planned.capacity)


def lines_of(series: Sequence[Series]) -> list[Line]:
    """Series as lines, in order.

    Fillings of one setting to several shares begin alike: the fullest stands for all of them. Churn is a line of
    points, where the share is known.
    """
    groups: dict[tuple[int, str, bool, bool, bool], list[Series]] = {}
    for one in series:
        is_churn = one.strategy.strategy.phase is Phase.CHURN and share_of(one) is not None
        load = one.strategy.strategy.load
        by = load.fill is not None, load.connections is not None
        groups.setdefault((id(one.result), _without_size(one), is_churn, *by), []).append(one)
    colours: dict[tuple[int, str, bool, bool], int] = {}
    lines = []
    for (result, label, is_churn, *given), some in groups.items():
        ordered = sorted(some, key=lambda one: share_of(one) or 0.0)
        key = result, _without_size(some[0], with_churn=False), given[0], given[1]
        colour = colours.setdefault(key, len(colours))
        drawn = tuple(ordered) if is_churn else (ordered[-1],)
        lines.append(Line(label if len(some) > 1 else some[0].label, colour, drawn, is_churn))
    return lines


def _without_size(one: Series, *, with_churn: bool = True) -> str:
    """A series' label without the number of connections and the fill, and without the churn unless `with_churn`."""
    spec = one.strategy.strategy
    load = replace(spec.load, fill=None, connections=None, churn=spec.load.churn if with_churn else None)
    return one.label.replace(spec.label, replace(spec, load=load).label)


def _churn(axes: Axes, line: Line, colour: str) -> None:
    """The churn of a setting: its median and its p99 at each share."""
    shares, (median, p99) = line.churn_points(PERCENTILES)
    axes.plot(shares, p99, ":o", color=colour, linewidth=1.2, markersize=5, markerfacecolor="white", zorder=4)
    axes.plot(shares, median, "-o", color=colour, linewidth=2, markersize=6, zorder=5)


def _line(axes: Axes, one: Series, colour: str, scale: str, *, alpha: float, p99_alpha: float) -> None:
    shares, (median, p99) = _rolling(one)
    if scale == "log":
        median, p99 = (np.where(values > 0, values, np.nan) for values in (median, p99))
    if p99_alpha:
        axes.plot(shares, p99, ":", color=colour, linewidth=1.2, zorder=2, alpha=p99_alpha)
    axes.plot(shares, median, "-", color=colour, linewidth=2, zorder=3, alpha=alpha)
    if not len(shares):
        return
    knee = find_knee(one.strategy)
    for in_use, marker, edge in ((knee.in_use, "D", "white"), (knee.in_use_at_failure, "x", colour)):
        if in_use is not None:
            share = in_use / _whole(one)
            height = float(np.interp(share, shares, median))
            width = 1 if marker == "D" else 2
            axes.plot(
                share, height, marker, color=colour, markeredgecolor=edge, markeredgewidth=width, markersize=8, zorder=4
            )


def _rolling(one: Series) -> tuple[Floats, Floats]:
    """Shares, and median and p99 in ms there, over the connections of all rounds in the order of the share.

    Of a profile those of each level that has a connection.
    """
    levels = [level for level in levels_of(one.strategy) if level.latency.count]
    if levels:
        values = np.array([[level.latency.p50, level.latency.p99] for level in levels]).T
        return np.array([level.in_use for level in levels]) / _whole(one), values / NS_PER_MS
    rounds = [r.samples for r in one.strategy.rounds]
    in_use = np.concatenate([held_before(samples) for samples in rounds])
    latency = np.concatenate([samples.latency_ns[~samples.failed] for samples in rounds])
    order = np.argsort(in_use, kind="stable")
    positions, values = rolling_percentiles(latency[order], PERCENTILES, POINTS)
    return in_use[order][positions] / _whole(one), values / NS_PER_MS


def _whole(one: Series) -> int:
    """The number of ports that is 100 %; the attempts of the longest round if the range is not known."""
    attempts = max(1, *(len(r.samples) for r in one.strategy.rounds))
    return one.strategy.capacity or ports_of(levels_of(one.strategy)) or attempts


def _label(line: Line) -> str:
    [one] = line.series
    knee = find_knee(one.strategy)
    notes = []
    if knee.connection is not None:
        notes.append(f"knee at {_share(one, knee.in_use)}")
    if knee.first_failed is not None:
        notes.append(f"first failed at {_share(one, knee.in_use_at_failure)}")
    if not _rolls(one, knee):
        notes.append("too few connections")
    heading = f"{line.label} - partial" if one.is_partial else line.label
    return f"{heading}: {', '.join(notes)}" if notes else heading


def _rolls(one: Series, knee: Knee) -> bool:
    return knee.is_judged or len(_rolling(one)[0]) > 0


def _share(one: Series, in_use: int | None) -> str:
    return f"{(in_use or 0) / _whole(one):.1%}"


def _axis(series: Sequence[Series]) -> str:
    unknown = [_is_unknown(one) for one in series]
    if all(unknown):
        return "connections held, as a share of the attempts (the range is not known)"
    if any(unknown):
        return "share of the range in use (of the attempts, where the range is not known)"
    return "share of the range in use"


def _is_unknown(one: Series) -> bool:
    if one.strategy.capacity is not None or levels_of(one.strategy):
        return False
    return not (one.strategy.strategy.phase is Phase.CHURN and share_of(one))
