"""What a chart over the share of the range draws of a sweep: of fillings the fullest, of churn a point a share."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from connbench.analysis.chart_data import Floats
from connbench.model import Phase, RoundPlan
from connbench.report.series import Series
from connbench.units import NS_PER_MS


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


def share_of(one: Series) -> float | None:
    """The share of its ports that a strategy fills, 0 to 1; None where that is not known."""
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
    """A series' label without how many connections or how full; of its churn alone where asked for."""
    spec = one.strategy.strategy
    load = replace(spec.load, fill=None, connections=None, churn=spec.load.churn if with_churn else None)
    return one.label.replace(spec.label, replace(spec, load=load).label)
