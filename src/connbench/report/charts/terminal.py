"""The scatter in characters, drawn by plotext: for a terminal, and without colour for a pipe."""

from __future__ import annotations

from math import ceil, floor, log2, log10
from typing import Any

import numpy as np

from connbench.analysis.chart_data import Floats, attempt_numbers
from connbench.analysis.knee import Knee, find_knee
from connbench.report import libraries
from connbench.report.charts.canvas import share_text, tick
from connbench.report.series import Series

HEIGHT = 20
NARROWEST, WIDEST = 40, 120
MOST_TICKS = 7
FINER = 2
"""Points drawn in each direction of a cell: a terminal shows no more, and with all points plotext takes seconds."""

MARKS = ("·", "+", "x")
COLOURS = {"safe": ("blue", "orange", "default"), "talk": ("green", "red", "default")}
"""Colours of even, odd and failed; the failed have the terminal's own colour, because its background may be black."""


def require() -> None:
    """Check that plotext is installed.

    Raises:
        EnvironmentFault: It is not.
    """
    libraries.require("plotext", "a chart in the terminal")


def scatter(one: Series, width: int, *, yscale: str = "log", palette: str = "safe", colour: bool = False) -> str:
    """Latency over the connection's number: even `·`, odd `+`, failed `x`, an upright line at the knee.

    Args:
        one: A strategy; of several rounds all points, over the number within the round.
        width: Columns there are.
        yscale: `linear` or `log` (to base 2).
        palette: A name of `COLOURS`.
        colour: Whether escape sequences for colours may be used.

    Raises:
        EnvironmentFault: plotext is not installed.
    """
    require()
    samples = one.strategy.samples
    latency = samples.latency_ns.astype(np.float64)
    kinds = np.where(samples.failed, 2, samples.port % 2)
    is_drawn = latency > 0 if yscale == "log" else np.ones(len(samples), dtype=np.bool_)
    numbers, latency, kinds = attempt_numbers(one.strategy)[is_drawn], latency[is_drawn], kinds[is_drawn]
    if not len(numbers):
        return "no attempt to draw"
    heights = np.log2(latency) if yscale == "log" else latency
    size = min(WIDEST, max(NARROWEST, width)), HEIGHT
    kept = _thinned(numbers.astype(np.float64), heights, kinds, size)
    knee = find_knee(one.strategy)
    chart = _chart(numbers[kept], heights[kept], kinds[kept], size, yscale, COLOURS[palette], knee)
    return f"{chart.string(colorless=not colour).rstrip()}\n{_legend(one, knee, set(kinds.tolist()), width)}"


def _thinned(numbers: Floats, heights: Floats, kinds: Any, size: tuple[int, int]) -> Any:  # noqa: ANN401  # numpy arrays of whole numbers
    """Positions of one point of each kind in each part of a cell, in their order."""
    cells = [_scaled(values, cells * FINER) for values, cells in zip((numbers, heights), size, strict=True)]
    keys = np.stack([*cells, kinds.astype(np.int64)])
    return np.sort(np.unique(keys, axis=1, return_index=True)[1])


def _scaled(values: Floats, steps: int) -> Any:  # noqa: ANN401  # as above
    spread = float(np.ptp(values)) or 1.0
    return ((values - values.min()) / spread * steps).astype(np.int64)


def _chart(  # noqa: PLR0913, PLR0917  # all that a picture is made of
    numbers: Any,  # noqa: ANN401  # as above
    heights: Any,  # noqa: ANN401  # as above
    kinds: Any,  # noqa: ANN401  # as above
    size: tuple[int, int],
    yscale: str,
    colours: tuple[str, str, str],
    knee: Knee,
) -> Any:  # noqa: ANN401  # plotext has no types
    import plotext  # type: ignore[import-untyped]  # it has no types

    figure = plotext.figure
    figure.clear()
    figure.theme("colorless")
    figure.canvas("default")
    figure.plot_size(*size)
    markers = [plotext.marker(mark, plotext.pixel(colour)) for mark, colour in zip(MARKS, colours, strict=True)]
    low, high = float(heights.min()), float(heights.max())
    margin = (high - low) * 0.05 or 1.0
    low, high = (low - margin, high + margin) if yscale == "log" else (0.0, high + margin)
    if knee.connection is not None:
        # plotext's own vertical line has a white background, so points draw it; two for each row leave no gap.
        upright = np.linspace(low, high, 2 * HEIGHT).tolist()
        marker = plotext.marker("│", plotext.pixel("cyan"))
        figure.draw(figure.signal([knee.connection] * len(upright), upright, marker=marker))
    figure.draw(figure.signal(numbers.tolist(), heights.tolist(), marker=[markers[kind] for kind in kinds]))
    vertical, horizontal = figure.ruler("y"), figure.ruler("x")
    vertical.lim(low, high)
    ticks = _round_values(2**low, 2**high) if yscale == "log" else _round_steps(high)
    places = [log2(value) for value in ticks] if yscale == "log" else ticks
    vertical.ticks(places, [tick(value) for value in ticks])
    first, last = 1, max(2, int(numbers.max()))
    horizontal.lim(first, last)
    steps = sorted({round(step) for step in np.linspace(first, last, 5)})
    horizontal.ticks(steps, [f"{step:,}" for step in steps])
    return figure.build()


def _round_values(low: float, high: float) -> list[float]:
    """Numbers out of 1, 2, 5, 10, 20 ... between two values above 0, at even distances."""
    powers = range(floor(log10(low)), ceil(log10(high)) + 1)
    inside = [value for power in powers for step in (1, 2, 5) if low <= (value := step * 10.0**power) <= high]
    return inside[:: max(1, ceil(len(inside) / MOST_TICKS))] or [(low * high) ** 0.5]


def _round_steps(high: float) -> list[float]:
    """0 and the multiples of 1, 2 or 5 times a power of ten up to a value above 0."""
    power = 10.0 ** floor(log10(high))
    step = next(s for factor in (0.1, 0.2, 0.5, 1, 2) if high / (s := factor * power) <= MOST_TICKS)
    return [step * number for number in range(floor(high / step) + 1)]


def _legend(one: Series, knee: Knee, kinds: set[int], width: int) -> str:
    names = ("even", "odd", "failed")
    parts = ["  ".join(f"{MARKS[kind]} {names[kind]}" for kind in sorted(kinds))]
    if knee.connection is not None:
        parts.append(f"│ knee: {knee.connection:,}{share_text(one, knee.in_use)}")
    if knee.first_failed is not None:
        parts.append(f"first failed: {knee.first_failed:,}{share_text(one, knee.in_use_at_failure)}")
    line = "  ".join(parts)
    return line if len(line) <= width else "\n".join(parts)
