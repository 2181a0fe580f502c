"""The figures of a path that conditions are about, taken from a row of an inspection."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from math import inf

from connbench.inspect.inspection import Row
from connbench.units import NS_PER_S


class UnknownError(Exception):
    """A value is not known; the message says why."""


@dataclass(frozen=True, slots=True)
class Measure:
    """A figure of a path.

    Attributes:
        value: Its value in pieces or ns; None for a path that has no such figure.
        without_path: Its value where no connection is open.
        is_forecast: Whether it takes a forecast of the next connect().
    """

    value: Callable[[Row], float | None]
    without_path: float = 0.0
    is_forecast: bool = False


def _until_knee(row: Row) -> float | None:
    if row.next is None or row.next.ports_probed is None:
        return None
    return inf if row.next.until_knee is None else row.next.until_knee


def _left_ns(row: Row) -> float:
    """The time until the ports are exhausted; where connect() takes ports from TIME_WAIT again, that exhausts none."""
    if row.rates is None and row.path.closing_per_s is None:
        raise UnknownError("the timers of TIME_WAIT are not known")
    seconds = row.exhausted_in_s
    return inf if seconds is None else seconds * NS_PER_S


OF_PATH: Mapping[str, Measure] = {
    "used": Measure(lambda row: row.path.used),
    "free": Measure(lambda row: row.path.free, inf),
    "established": Measure(lambda row: row.path.established),
    "time-wait": Measure(lambda row: row.path.time_wait),
    "even": Measure(lambda row: row.path.even),
    "odd": Measure(lambda row: row.path.odd),
    "probes": Measure(lambda row: row.next.ports_probed if row.next else None, is_forecast=True),
    "latency": Measure(lambda row: row.next.connect_ns if row.next else None, is_forecast=True),
    "knee": Measure(_until_knee, inf, is_forecast=True),
    "exhaustion": Measure(lambda row: row.until_exhaustion, inf, is_forecast=True),
    "left": Measure(_left_ns, inf, is_forecast=True),
}
"""The value of each figure of `connbench.path_conditions.FIGURES`."""
