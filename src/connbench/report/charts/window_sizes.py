"""Cost and errors over the window's size, for several strategies, loads or files."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import islice
from typing import TYPE_CHECKING

import numpy as np

from connbench.analysis.chart_data import Floats
from connbench.analysis.summary import summarize
from connbench.analysis.sweep_analysis import setting_and_load
from connbench.errors import UsageError
from connbench.model import Load, Phase, StrategySpec
from connbench.report.charts import canvas
from connbench.report.charts.canvas import Options
from connbench.report.series import Series, colour_of, stem
from connbench.units import NS_PER_MS

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

LEAST = (440, 260)
ROW_HEIGHT = 400
MARKERS = "os^vDP*X"
SHADES = 0.88
"""Share of the colour map that is used."""

WHOLE = {"title": "Total time of a round", "ylabel": "sum of all latencies"}
EACH = {"title": "Mean time of an attempt", "ylabel": "acquire time, failed attempts counted"}


def draw(series: Sequence[Series], options: Options) -> Figure:
    """Two panels: the total time of a round, and the share of attempts that failed, each over the window's size.

    Rounds at several loads are of different length: there it is the mean acquire time of an attempt, and of churn
    without the filling before it.

    Raises:
        UsageError: Fewer than two sizes of a window were measured.
    """
    loads = loads_of(series)
    several = len(loads) > 1
    lines = dict(islice(lines_of_sizes(series).items(), canvas.MOST_LINES))
    if not lines:
        raise UsageError(
            "no strategy here has a window",
            "measure several, as in connbench sweep --strategy window --window 100,500,2000 -o windows.json.gz",
        )
    different = {_size(one) for some in lines.values() for one in some}
    if len(different) == 1:
        raise UsageError(
            f"--kind windows compares windows of several sizes, and here is one, {different.pop():,} ports",
            "measure more, as in connbench sweep --strategy window --window 100,500,2000 -o windows.json.gz",
        )
    grid = canvas.grid(2, options, LEAST, ROW_HEIGHT)
    figure = grid.figure()
    times, errors = canvas.panels_of(figure, grid, 2)
    variants: dict[StrategySpec, str] = {}
    for position, (label, some) in enumerate(lines.items()):
        colour, marker = colour_of(position), MARKERS[position % len(MARKERS)]
        if several:  # colours from dark to light as the loads grow, markers by what else differs
            setting, load = setting_and_load(some[0].strategy.strategy)
            variant = variants.setdefault(replace(setting, window=None), MARKERS[len(variants) % len(MARKERS)])
            colour, marker = _shade(loads.index(load), len(loads)), variant
        _times(times, some, label, (colour, marker), _costs if several else _totals)
        sizes = [_size(one) for one in some]
        errors.plot(sizes, [_error_share(one) for one in some], color=colour, marker=marker, clip_on=False)
    _dress(times, errors, series=[one for some in lines.values() for one in some], scale=options.yscale or "log")
    times.set(**(EACH if several else WHOLE))
    canvas.legend_below(figure, times.get_legend_handles_labels()[0], grid.width, may_grow=options.height is None)
    return figure


def lines_of_sizes(series: Sequence[Series]) -> dict[str, list[Series]]:
    """The lines of the chart: with several loads the phase that each load measures, else every series with a window."""
    return sweeps(judged(series) if len(loads_of(series)) > 1 else series)


def sweeps(series: Sequence[Series]) -> dict[str, list[Series]]:
    """The series with a window, as lines: by strategy with its other parameters, smallest window first.

    Where one and the same window was measured in several files, each file has lines of its own; else files that hold
    a window each make one line together.
    """
    with_window = [one for one in series if one.strategy.strategy.window is not None]
    repeated = max(Counter(one.strategy.strategy for one in with_window).values(), default=0) > 1
    stems = Counter(stem(result) for result in {id(one.result): one.result for one in with_window}.values())
    lines: dict[str, list[Series]] = {}
    for one in with_window:
        label = replace(one.strategy.strategy, window=None).label
        if repeated:
            name = stem(one.result)
            label += f" ({name if stems[name] == 1 else one.result.name})"
        lines.setdefault(label, []).append(one)
    return {label: sorted(some, key=_size) for label, some in lines.items()}


def judged(series: Sequence[Series]) -> list[Series]:
    """The series that a load measures: the churn if it has one, else the filling."""
    return [
        one for one in series if (one.strategy.strategy.phase is Phase.CHURN) == bool(one.strategy.strategy.load.churn)
    ]


def loads_of(series: Sequence[Series]) -> list[Load]:
    """The loads of the strategies with a window, the lightest first."""
    found = dict.fromkeys(
        setting_and_load(one.strategy.strategy)[1] for one in series if one.strategy.strategy.window is not None
    )
    return sorted(found, key=lambda load: (load.fill or 0, load.connections or 0, load.concurrency))


def _shade(position: int, of: int) -> str:
    """The colour of one of several steps, from dark to light; the lightest part of the map is too faint on white."""
    from matplotlib import colormaps
    from matplotlib.colors import to_hex

    return to_hex(colormaps["viridis"](SHADES * position / max(1, of - 1)))


def _times(
    panel: Axes, some: Sequence[Series], label: str, look: tuple[str, str], cost: Callable[[Series], Floats]
) -> None:
    """Draw the median of the complete rounds with whiskers to the shortest and longest; hollow without one."""
    sizes = [_size(one) for one in some]
    colour, marker = look
    totals = [cost(one) / NS_PER_MS for one in some]
    middle = np.array([np.median(values) for values in totals])
    spread = np.array([middle - [v.min() for v in totals], np.array([v.max() for v in totals]) - middle])
    panel.errorbar(sizes, middle, spread, color=colour, marker=marker, capsize=3, label=label)
    partial = [position for position, one in enumerate(some) if one.is_partial]
    for position in partial:
        panel.plot(sizes[position], middle[position], marker, color=colour, markerfacecolor="white", zorder=4)
        panel.annotate("partial", (sizes[position], middle[position]), (6, 6), textcoords="offset points", fontsize=8.5)


def _costs(one: Series) -> Floats:
    """Mean acquire time in ns of each complete round; of every round if none is complete."""
    rounds = [r for r in one.strategy.rounds if not r.fault and len(r.samples)] or one.strategy.rounds
    return np.array([r.samples.acquire_ns.mean() if len(r.samples) else 0.0 for r in rounds])


def _totals(one: Series) -> Floats:
    """Total time in ns of each complete round; of all rounds together if none is complete."""
    summary = summarize(one.strategy)
    return np.array(summary.rounds_total_ns or (summary.total_ns,), dtype=np.float64)


def _size(one: Series) -> int:
    return one.strategy.strategy.window or 0


def _error_share(one: Series) -> float:
    summary = summarize(one.strategy)
    return summary.errored.latency.count / summary.attempts if summary.attempts else 0.0


def _dress(times: Axes, errors: Axes, *, series: Sequence[Series], scale: str) -> None:
    from matplotlib.ticker import FixedLocator, NullLocator, PercentFormatter

    sizes = sorted({_size(one) for one in series})
    for panel in (times, errors):
        panel.set_xscale("log")
        panel.xaxis.set_major_locator(FixedLocator(_apart(sizes)))
        panel.xaxis.set_minor_locator(NullLocator())
        panel.xaxis.set_major_formatter("{x:,.0f}")
        panel.set_xlabel("ports of the window")
    canvas.set_scale([times], scale)
    errors.set_title("Attempts that failed")
    errors.set_ylabel("share of the attempts")
    errors.set_ylim(bottom=0)
    errors.yaxis.set_major_formatter(PercentFormatter(1.0))


def _apart(sizes: Sequence[int]) -> list[int]:
    """Those sizes whose labels have room on a logarithmic axis: each at least a quarter more than the one before."""
    kept: list[int] = []
    for size in sizes:
        if not kept or size >= 1.25 * kept[-1]:
            kept.append(size)
    return kept
