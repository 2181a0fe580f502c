"""Axes of durations and of whole numbers."""

from __future__ import annotations

from collections.abc import Sequence
from math import isfinite
from typing import TYPE_CHECKING

from connbench.units import NS_PER_MS, duration

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.axis import Axis


NARROWEST = 1.1
"""Quotient of the ends of a logarithmic axis below which labels of three digits would be alike."""


def durations(axis: Axis, scale: str, base: int = 10, steps: Sequence[float] = (1.0, 2.0, 5.0)) -> None:
    """Let an axis of ms have ticks such as 15.6 µs or 2 ms; a logarithmic one at the powers of its base.

    Args:
        axis: Which.
        scale: `linear` or `log`.
        base: Of a logarithmic axis.
        steps: In base 10, what multiples of the powers have ticks too.
    """
    from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator  # noqa: PLC0415  # loaded when something is drawn

    axis.set_major_formatter(FuncFormatter(lambda value, _: tick(value * NS_PER_MS)))
    if scale == "log":
        axis.set_major_locator(LogLocator(base=base, subs=steps if base == 10 else (1.0,), numticks=14))
        axis.set_minor_locator(NullLocator())


def whole_numbers(axis: Axis) -> None:
    """Let an axis have ticks at whole numbers only, thousands set apart."""
    from matplotlib.ticker import MaxNLocator  # noqa: PLC0415  # loaded when something is drawn

    axis.set_major_locator(MaxNLocator(nbins="auto", steps=[1, 2, 2.5, 5, 10], integer=True))
    axis.set_major_formatter("{x:,.0f}")


def set_scale(panels: Sequence[Axes], scale: str, base: int = 10) -> None:
    """Give vertical axes, which are of ms, their scale; a linear one begins at 0.

    Where nothing is above 0 there is nothing to make a logarithmic axis of: it stays linear.
    """
    if not any(isfinite(panel.dataLim.minposy) for panel in panels):
        scale = "linear"
    for panel in panels:
        if scale == "log":
            panel.set_yscale("log", base=base, nonpositive="mask")
        else:
            panel.set_ylim(bottom=0)
        durations(panel.yaxis, scale, base)
        if scale == "log" and base == 10:
            _have_enough_ticks(panel)


def _have_enough_ticks(panel: Axes) -> None:
    """Let a vertical axis to base 10 have three ticks or more, and room for them."""
    from connbench.report.charts.ticks import EnoughTicks  # noqa: PLC0415  # loads matplotlib

    bottom, top = panel.get_ylim()
    if top < NARROWEST * bottom:
        middle, reach = (bottom * top) ** 0.5, NARROWEST**0.5
        panel.set_ylim(middle / reach, middle * reach)
    panel.yaxis.set_major_locator(EnoughTicks())


def tick(nanoseconds: float) -> str:
    """A duration without needless zeros: `2 ms`, where a table has `2.00 ms`; 0 without a unit."""
    if nanoseconds == 0:
        return "0"
    number, _, unit = duration(abs(nanoseconds)).partition(" ")
    sign = "-" if nanoseconds < 0 else ""
    return f"{sign}{float(number):g} {unit}" if unit else number
