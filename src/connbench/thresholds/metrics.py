"""What a threshold may name: the summary's figures, by the names they are printed under, and their units."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from decimal import Decimal
from enum import Enum
from itertools import product

from connbench.units import TIME_UNITS_NS


class Dimension(Enum):
    """What kind of figure a metric is; only figures of one kind can be compared. The value is its name in a message."""

    TIME = "a time"
    COUNT = "a number"
    SHARE = "a share"


@dataclass(frozen=True, slots=True)
class Unit:
    """A unit as it is written, and how many ns, pieces or percent it is."""

    name: str
    dimension: Dimension
    scale: float


NO_UNIT = Unit("", Dimension.COUNT, 1.0)

UNITS = {
    "%": Unit("%", Dimension.SHARE, 1.0),
    **{name: Unit(name, Dimension.TIME, float(ns)) for name, ns in TIME_UNITS_NS.items()},
}
UNITS["\N{GREEK SMALL LETTER MU}s"] = UNITS["µs"]
"""Two characters look alike here: some keyboards write the letter, connbench prints the micro sign."""

GROUPS = ("all", "even", "odd", "errored")

LATENCY, ACQUIRE, TRIES = "latency", "acquire", "tries"

_PERCENTILES = ("p50", "p75", "p90", "p95", "p99", "p99.9")

FIGURES = {
    LATENCY: ("min", "mean", *_PERCENTILES, "max"),
    ACQUIRE: ("min", "mean", *_PERCENTILES, "max"),
    TRIES: ("mean", *_PERCENTILES, "max"),
}
"""What there is of each group, but for further percentiles."""

_PERCENTILE = re.compile(r"(?P<prefix>(?:[a-z]+\.)*)p(?P<percent>\d+(?:\.\d+)?)", re.ASCII)

LEAST_TAIL = 1e-6
"""How close to p0 and p100 a percentile can be asked for; it takes 100 million samples."""

WHOLE = {
    "errors": frozenset({Dimension.COUNT, Dimension.SHARE}),
    "total": frozenset({Dimension.TIME}),
    "wall": frozenset({Dimension.TIME}),
    "attempts": frozenset({Dimension.COUNT}),
    "connected": frozenset({Dimension.COUNT}),
    "floor": frozenset({Dimension.TIME}),
    "knee": frozenset({Dimension.SHARE}),
}
"""What there is of a strategy as a whole, and what it may be compared with."""

_OF_GROUPS = {
    LATENCY: frozenset({Dimension.TIME}),
    ACQUIRE: frozenset({Dimension.TIME}),
    TRIES: frozenset({Dimension.COUNT}),
}


@dataclass(frozen=True, slots=True)
class Metric:
    """One figure of a strategy.

    Attributes:
        figure: `p99` or `errors`, say.
        quantity: `latency`, `acquire` or `tries`; empty for a figure of the strategy as a whole.
        group: `all`, `even`, `odd` or `errored`; empty likewise.
        of_base: Whether the figure of the run compared with is meant.
    """

    figure: str
    quantity: str = ""
    group: str = ""
    of_base: bool = False

    @property
    def percent(self) -> float | None:
        """99.9 of the percentile p99.9; None of what is no percentile."""
        found = _PERCENTILE.fullmatch(self.figure)
        return float(found["percent"]) if found else None

    @property
    def dimensions(self) -> frozenset[Dimension]:
        """The kinds of limit it can be held against."""
        return _OF_GROUPS[self.quantity] if self.quantity else WHOLE[self.figure]

    def __str__(self) -> str:
        words = (
            "base" if self.of_base else "",
            "" if self.group == "all" else self.group,
            "" if self.quantity == LATENCY else self.quantity,
            self.figure,
        )
        return ".".join(word for word in words if word)


def _spellings() -> dict[str, Metric]:
    """Every way to write a metric: the group `all` and the quantity `latency` may be left out."""
    known = {figure: Metric(figure) for figure in WHOLE}
    for group, (quantity, figures) in product(GROUPS, FIGURES.items()):
        groups = ("", "all.") if group == "all" else (f"{group}.",)
        quantities = ("", "latency.") if quantity == LATENCY else (f"{quantity}.",)
        for start, middle, figure in product(groups, quantities, figures):
            known[f"{start}{middle}{figure}"] = Metric(figure, quantity, group)
    return known


METRICS = _spellings()
"""Every metric by every name it may be written as, but for those of a base and further percentiles: see `find`."""


def is_percentile(name: str) -> bool:
    """Whether a name ends as percentiles do, in p and a number, whichever number that is."""
    return bool(_PERCENTILE.fullmatch(name))


def find(name: str) -> Metric | None:
    """The metric of a name such as `p99`, `even.acquire.p99.99` or `errors`; None if there is none."""
    found = _PERCENTILE.fullmatch(name)
    if name in METRICS or not found:
        return METRICS.get(name)
    percent, like = float(found["percent"]), METRICS.get(f"{found['prefix']}p50")
    if like is None or not LEAST_TAIL <= percent <= 100 - LEAST_TAIL:
        return None
    return replace(like, figure=f"p{Decimal(found['percent']).normalize():f}")
