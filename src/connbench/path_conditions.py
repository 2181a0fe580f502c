"""The conditions of `--fail-if` and `--warn-if` of `inspect`, on one host and on many: which figures, of which path.

The grammar is that of `connbench.thresholds`; before the colon stands a target, or source and target as reports name
them. This module loads no numpy: the command line is parsed before anything is read.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping
from dataclasses import dataclass

from connbench.errors import UsageError, suggest
from connbench.thresholds import Dimension, Metric, Threshold, Vocabulary, parse
from connbench.units import parse_number

FAIL_IF, WARN_IF = "--fail-if", "--warn-if"


@dataclass(frozen=True, slots=True)
class Kind:
    """What a figure of a path can be compared with.

    Attributes:
        is_time: Whether it is a time, rather than a number.
        is_share: Whether it can also be a share of the usable ports.
    """

    is_time: bool = False
    is_share: bool = False


FIGURES: Mapping[str, Kind] = {
    "used": Kind(is_share=True),
    "free": Kind(is_share=True),
    "established": Kind(is_share=True),
    "time-wait": Kind(is_share=True),
    "even": Kind(),
    "odd": Kind(),
    "probes": Kind(),
    "latency": Kind(is_time=True),
    "knee": Kind(),
    "exhaustion": Kind(),
    "left": Kind(is_time=True),
}
"""The figures of a path. To add one, add a row here and to `connbench.inspect.kinds`, and a line in docs/figures.md.
"""

LISTENERS = "listeners"
"""The one figure of a namespace: ports of the range that listeners have and that are not reserved."""


@dataclass(frozen=True, slots=True)
class PathMetric(Metric):
    """A figure of a path or of a namespace."""

    @property
    def dimensions(self) -> frozenset[Dimension]:
        """The kinds of limit it can be compared with."""
        kind = FIGURES.get(self.figure)
        if kind is None:
            return frozenset({Dimension.COUNT})
        kinds = [Dimension.TIME if kind.is_time else Dimension.COUNT]
        return frozenset(kinds + [Dimension.SHARE] * kind.is_share)

    def __str__(self) -> str:
        return self.figure


NAMES = (*FIGURES, LISTENERS)
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
