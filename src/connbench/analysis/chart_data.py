"""What charts show and tables do not: a trend, bins, buckets of ports, changes of parity."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from connbench.model.half import rolling_width
from connbench.results.result import Numbers, Samples, StrategyResult

Counts = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]

BINS_PER_DECADE = 40
"""A latency bin reaches from one value to 1.06 times that: narrow enough to show a peak's shape."""

FEWEST_BUCKETS = 5
"""Buckets of ports that a range has at least: those of the talk's range are then 10,000 wide, as in the talk."""


@dataclass(frozen=True, slots=True)
class Line:
    """A straight line: `slope` is in ns an attempt, `intercept` in ns."""

    slope: float
    intercept: float

    def at(self, numbers: npt.ArrayLike) -> Floats:
        """Its height in ns at these attempts."""
        return self.slope * np.asarray(numbers, dtype=np.float64) + self.intercept


def fit_line(numbers: Numbers, values: Numbers) -> Line | None:
    """Least squares of values in ns over the attempts' numbers; None without two different numbers.

    Slope = covariance / variance, taken about the means so that large numbers cost no digits.
    """
    if len(numbers) < 2 or numbers.min() == numbers.max():
        return None
    mean, level = float(numbers.mean()), float(values.mean())
    away = numbers - mean
    slope = float((away * (values - level)).sum() / (away * away).sum())
    return Line(slope, level - slope * mean)


def attempt_numbers(result: StrategyResult) -> Counts:
    """The number, from 1, that each attempt has within its round."""
    return np.concatenate([np.arange(1, len(r.samples) + 1) for r in result.rounds])


def held_before(samples: Samples) -> Counts:
    """Connections of one round that were held already when each of its connections was made: 0, 1, 2 ..."""
    return np.arange(len(samples) - int(samples.failed.sum()))


def latency_edges(values: Numbers) -> Floats:
    """Edges of logarithmic bins, `BINS_PER_DECADE` to a power of ten, that hold all of the values above 0.

    The edges lie at fixed places, whatever the values: bins of several results are the same. Empty without a value
    above 0, which is all that a logarithmic axis has room for.
    """
    positive = values[values > 0]
    if not len(positive):
        return np.empty(0)
    first = int(np.floor(np.log10(positive.min()) * BINS_PER_DECADE))
    last = int(np.floor(np.log10(positive.max()) * BINS_PER_DECADE)) + 1
    edges: Floats = 10 ** (np.arange(first, last + 1) / BINS_PER_DECADE)
    # The logarithm is rounded: the outermost edges must not shut out the value they were taken from.
    edges[0], edges[-1] = min(edges[0], positive.min()), max(edges[-1], positive.max())
    return edges


def bucket_width(ports: int) -> int:
    """Ports of a bucket: the widest of 1, 2, 5, 10, 20 ... that divides the range into `FEWEST_BUCKETS` or more."""
    width = 1
    for candidate in (factor * 10**power for power in range(5) for factor in (1, 2, 5)):
        if candidate * FEWEST_BUCKETS <= ports:
            width = candidate
    return width


def bucket_edges(low: int, high: int) -> Counts:
    """First port of each bucket of the range `low` to `high`, and one past its last port: the last may be narrower.

    Buckets begin with the range, as those of the talk's bpftrace program do: `lhist($port, 9024, 65535, 10000)`.
    """
    width = bucket_width(high - low + 1)
    return np.append(np.arange(low, high + 1, width), high + 1)


def switches_so_far(ports: Numbers) -> Counts:
    """At each connection, how often the parity of the port has been another than that of the connection before."""
    parity = ports.astype(np.int64) % 2
    return np.concatenate(([0], np.cumsum(np.abs(np.diff(parity)))))[: len(ports)]


def rolling_percentiles(
    values: npt.NDArray[np.number], shares: tuple[float, ...], points: int = 400
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float64]]:
    """Rolling percentiles at evenly spaced positions, each over the values around it.

    Args:
        values: In the order they were measured.
        shares: Percentiles, 0 to 100.
        points: At how many positions at most.

    Returns:
        The positions, shape (points,), and the percentiles there, shape (shares, points). Both are empty where there
        are fewer values than a window takes.
    """
    width = max(rolling_width(len(values)), -(-len(values) // points) | 1)
    half = width // 2
    if len(values) < width:
        return np.empty(0, dtype=np.int64), np.empty((len(shares), 0))
    positions = np.unique(np.linspace(half, len(values) - 1 - half, points).astype(np.int64))
    windows = np.lib.stride_tricks.sliding_window_view(values, width)[positions - half]
    return positions, np.percentile(windows, shares, axis=1)
