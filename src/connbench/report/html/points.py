"""What the page's charts draw: which round, which of its attempts, and the arrays as plotly.js takes them."""

from __future__ import annotations

from base64 import b64encode
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from connbench.analysis.summary import errno_name
from connbench.results.result import Mask, Round, Samples, StrategyResult
from connbench.samples import UNKNOWN_ERRNO

MOST_POINTS = 1_000_000
"""Points of all strategies together that a page may hold: with them it is still well below 25 MB."""

SLOWEST_KEPT = 100
"""Slowest attempts of a strategy and parity that are drawn whatever else is left out: they are what one looks for."""

MOST_ERRNOS = 8
"""Errnos of a strategy that are told apart."""


def shown_round(strategy: StrategyResult) -> Round:
    """The round a chart draws: the one of the median total time, of two in the middle the faster.

    Rounds that were cut short count only if there is no other; then the longest is taken.
    """
    complete = [r for r in strategy.rounds if not r.fault]
    if not complete:
        return max(strategy.rounds, key=lambda r: len(r.samples))
    complete.sort(key=lambda r: float(r.samples.latency_ns.sum()))
    return complete[(len(complete) - 1) // 2]


def thinned(samples: Samples, chosen: Mask, every: int) -> npt.NDArray[np.int64]:
    """Positions of those of the chosen attempts that are drawn, in order: one in `every`, and the slowest 100."""
    positions = np.flatnonzero(chosen)
    if every == 1:
        return positions
    slowest = np.argsort(samples.latency_ns[positions], kind="stable")[-SLOWEST_KEPT:]
    return positions[np.union1d(np.arange(0, len(positions), every), slowest)]


@dataclass(frozen=True, slots=True)
class Group:
    """Attempts of one kind: `name` is even, odd or failed, `errno` what is said of their errno."""

    name: str
    errno: str
    chosen: Mask


def groups_of(samples: Samples) -> list[Group]:
    """Even, odd, and the failed by their errno, each group that has an attempt; rare errnos share one."""
    found = [
        Group("even", "0, connected", samples.even),
        Group("odd", "0, connected", samples.odd),
    ]
    numbers, counts = np.unique(samples.errno[samples.failed], return_counts=True)
    frequent = numbers[np.argsort(-counts, kind="stable")][:MOST_ERRNOS]
    found += [Group("failed", _errno(int(n)), samples.errno == n) for n in frequent]
    found.append(Group("failed", "a rare one", samples.failed & ~np.isin(samples.errno, frequent)))
    return [group for group in found if group.chosen.any()]


def _errno(number: int) -> str:
    name = errno_name(number)
    return name if number == UNKNOWN_ERRNO else f"{number} {name}"


def packed(values: npt.NDArray[np.number]) -> dict[str, Any]:
    """Numbers as plotly.js reads them fastest, little-endian bytes in base64, in the smallest type they fit.

    Fractions become 32-bit floats, good for seven digits.
    """
    kind = "f4" if values.dtype.kind == "f" else "u2" if not len(values) or values.max() <= 0xFFFF else "u4"
    return {"dtype": kind, "bdata": b64encode(values.astype(f"<{kind}").tobytes()).decode("ascii")}
