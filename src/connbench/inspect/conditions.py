"""The conditions of `inspect --fail-if` and `--warn-if`: the figures of a path, and whose path a condition is about.

The grammar is that of `connbench.thresholds`; before the colon stands a target, or source and target as reports name
them. This module loads no numpy: the command line is parsed before anything is read.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from math import inf
from typing import TYPE_CHECKING

from connbench.errors import UsageError, suggest
from connbench.thresholds import Dimension, Metric, Threshold, Vocabulary, parse
from connbench.units import NS_PER_S, parse_number

if TYPE_CHECKING:
    from connbench.inspect.inspection import Row

FAIL_IF, WARN_IF = "--fail-if", "--warn-if"


class UnknownError(Exception):
    """A value is not known; the message says why."""


@dataclass(frozen=True, slots=True)
class Measure:
    """A figure of a path.

    Attributes:
        value: Its value in pieces or ns; None for a path that has no such figure.
        without_path: Its value where no connection is open.
        is_time: Whether it is a time.
        is_share: Whether it can also be a share of the usable ports.
        is_forecast: Whether it takes a forecast of the next connect().
    """

    value: Callable[[Row], float | None]
    without_path: float = 0.0
    is_time: bool = False
    is_share: bool = False
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
    "used": Measure(lambda row: row.path.used, is_share=True),
    "free": Measure(lambda row: row.path.free, inf, is_share=True),
    "established": Measure(lambda row: row.path.established, is_share=True),
    "time-wait": Measure(lambda row: row.path.time_wait, is_share=True),
    "even": Measure(lambda row: row.path.even),
    "odd": Measure(lambda row: row.path.odd),
    "probes": Measure(lambda row: row.next.ports_probed if row.next else None, is_forecast=True),
    "latency": Measure(lambda row: row.next.connect_ns if row.next else None, is_time=True, is_forecast=True),
    "knee": Measure(_until_knee, inf, is_forecast=True),
    "exhaustion": Measure(lambda row: row.until_exhaustion, inf, is_forecast=True),
    "left": Measure(_left_ns, inf, is_time=True, is_forecast=True),
}
"""The figures of a path. To add one, add a row here, and a line in docs/figures.md."""

LISTENERS = "listeners"
"""The one figure of a namespace: ports of the range that listeners have and that are not reserved."""


@dataclass(frozen=True, slots=True)
class PathMetric(Metric):
    """A figure of a path or of a namespace."""

    @property
    def dimensions(self) -> frozenset[Dimension]:
        """The kinds of limit it can be compared with."""
        measure = OF_PATH.get(self.figure)
        if measure is None:
            return frozenset({Dimension.COUNT})
        kinds = [Dimension.TIME if measure.is_time else Dimension.COUNT]
        return frozenset(kinds + [Dimension.SHARE] * measure.is_share)

    def __str__(self) -> str:
        return self.figure


NAMES = (*OF_PATH, LISTENERS)
_SAME_AS = {
    "time_wait": "time-wait",
    "timewait": "time-wait",
    "estab": "established",
    "in-use": "used",
    "ports": "used",
}


def _find(name: str) -> Metric | None:
    return PathMetric(name) if name in NAMES else None


def _known() -> str:
    return f"there are {', '.join(NAMES)}"


def _suggest(name: str) -> str:
    return suggest(_SAME_AS.get(name.lower(), name), NAMES, otherwise=_known())


OF_PATHS = Vocabulary(
    _find, _suggest, _known, "target", "10.1.2.3:443: used > 80%", "80%, 20000, 10k, 1ms or 0.5x used"
)
"""The conditions on the paths of a host."""


@dataclass(frozen=True, slots=True)
class Subject:
    """The paths that a condition is about.

    Attributes:
        target: The address of the other end.
        port: Its port; None for every port.
        source: The local address; None for every one.
    """

    target: str
    port: int | None = None
    source: str | None = None

    @classmethod
    def parse(cls, text: str) -> Subject:
        """Read `10.1.2.3`, `10.1.2.3:443`, `[2001:db8::1]:443`, or `10.0.0.5 -> 10.1.2.3:443`.

        Raises:
            ValueError: It is none of these.
        """
        before, arrow, target = text.rpartition("->")
        source = str(ipaddress.ip_address(before.strip())) if arrow else None
        target = target.strip()
        try:
            return cls(str(ipaddress.ip_address(target.removeprefix("[").removesuffix("]"))), None, source)
        except ValueError:
            host, _, port = target.rpartition(":")
            if ":" in host and not host.startswith("["):
                raise
            address = ipaddress.ip_address(host.removeprefix("[").removesuffix("]"))
            return cls(str(address), parse_number(port), source)


def parse_condition(text: str, option: str = FAIL_IF) -> Threshold:
    """Read a condition such as `used > 80%` or `10.1.2.3:443: left < 60s`.

    Args:
        text: What the user wrote.
        option: The option that has it, for messages.

    Raises:
        UsageError: The text is no condition.
    """
    found = parse(text, vocabulary=OF_PATHS, option=option)
    assert isinstance(found, Threshold)  # noqa: S101  # this vocabulary has no base run, and so no other expression
    if found.strategy is not None:
        try:
            Subject.parse(found.strategy)
        except ValueError as error:
            raise UsageError(
                f"{option} {text!r}: {found.strategy!r} is not a target",
                "write an address, ADDRESS:PORT, or SOURCE -> ADDRESS:PORT before the last colon",
            ) from error
        if found.metric.figure == LISTENERS:
            raise UsageError(f"{option} {text!r}: {LISTENERS} are not those of a target", f"write {found.condition!r}")
    return found
