"""The data of charts: trend lines, bins of latencies, buckets of ports, changes of parity, rolling percentiles."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from connbench.model.knee_rule import rolling_width
from connbench.results.result import Numbers, Samples, StrategyResult

Counts = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]

BINS_PER_DECADE = 40
"""Each latency bin ends at 1.06 times its beginning, which is narrow enough to show the shape of a peak."""

FEWEST_BUCKETS = 5
"""A range has at least five buckets of ports: those of 9024-65535 are then 10,000 wide, as in the talk."""


@dataclass(frozen=True, slots=True)
class Line:
    """A straight line: `slope` is in ns an attempt, `intercept` in ns."""

    slope: float
    intercept: float

    def at(self, numbers: npt.ArrayLike) -> Floats:
        """Its value in ns at these attempts."""
        return self.slope * np.asarray(numbers, dtype=np.float64) + self.intercept


def fit_line(numbers: Numbers, values: Numbers) -> Line | None:
    """The least-squares line of values in ns over the attempts' numbers; None without two different numbers.

    Slope = covariance / variance. Both are computed from deviations from the mean, so that large numbers lose no
    digits.
    """
    if len(numbers) < 2 or numbers.min() == numbers.max():
        return None
    mean, level = float(numbers.mean()), float(values.mean())
    away = numbers - mean
    slope = float((away * (values - level)).sum() / (away * away).sum())
    return Line(slope, level - slope * mean)


def attempt_numbers(result: StrategyResult) -> Counts:
    """The number of each attempt within its round, counted from 1."""
    return np.concatenate([np.arange(1, len(r.samples) + 1) for r in result.rounds])


def held_before(samples: Samples) -> Counts:
    """Connections that one round already held when it made each of its connections: 0, 1, 2 ..."""
    return np.arange(len(samples) - int(samples.failed.sum()))


def latency_edges(values: Numbers) -> Floats:
    """Edges of logarithmic bins, `BINS_PER_DECADE` to a power of ten, that contain all values above 0.

    The edges do not depend on the values, so that several results have the same bins. Empty without a value above 0,
    because a logarithmic axis shows no other.
    """
    positive = values[values > 0]
    if not len(positive):
        return np.empty(0)
    first = int(np.floor(np.log10(positive.min()) * BINS_PER_DECADE))
    last = int(np.floor(np.log10(positive.max()) * BINS_PER_DECADE)) + 1
    edges: Floats = 10 ** (np.arange(first, last + 1) / BINS_PER_DECADE)
    # The logarithm is rounded: make sure that the outermost bins contain the smallest and the largest value.
    edges[0], edges[-1] = min(edges[0], positive.min()), max(edges[-1], positive.max())
    return edges


def bucket_width(ports: int) -> int:
    """Ports of a bucket: the largest of 1, 2, 5, 10, 20 ... with which the range has `FEWEST_BUCKETS` or more."""
    width = 1
    for candidate in (factor * 10**power for power in range(5) for factor in (1, 2, 5)):
        if candidate * FEWEST_BUCKETS <= ports:
            width = candidate
    return width


def bucket_edges(low: int, high: int) -> Counts:
    """The first port of each bucket of the range `low` to `high`, and one past the last port; the last may be narrower.

    The first bucket begins where the range does, as in the talk's bpftrace program: `lhist($port, 9024, 65535, 10000)`.
    """
    width = bucket_width(high - low + 1)
    return np.append(np.arange(low, high + 1, width), high + 1)


def switches_so_far(ports: Numbers) -> Counts:
    """At each connection, how often the port's parity has differed from that of the connection before."""
    parity = ports.astype(np.int64) % 2
    return np.concatenate(([0], np.cumsum(np.abs(np.diff(parity)))))[: len(ports)]


def rolling_percentiles(
    values: npt.NDArray[np.number], shares: tuple[float, ...], points: int = 400
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float64]]:
    """Rolling percentiles at evenly spaced positions.

    Args:
        values: In the order of measurement.
        shares: Percentiles, 0 to 100.
        points: The largest number of positions.

    Returns:
        The positions, shape (points,), and the percentiles of the values around them, shape (shares, points). Both are
        empty if there are fewer values than one window.
    """
    width = max(rolling_width(len(values)), -(-len(values) // points) | 1)
    half = width // 2
    if len(values) < width:
        return np.empty(0, dtype=np.int64), np.empty((len(shares), 0))
    positions = np.unique(np.linspace(half, len(values) - 1 - half, points).astype(np.int64))
    windows = np.lib.stride_tricks.sliding_window_view(values, width)[positions - half]
    return positions, np.percentile(windows, shares, axis=1)
