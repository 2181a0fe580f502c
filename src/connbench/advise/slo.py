"""What a program may wait for its connections: `p99 < 1ms`."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Self

from connbench.errors import UsageError
from connbench.units import parse_time

_STATISTIC = r"mean|max|p\d{1,2}(?:\.\d{1,3})?"
_FORM = re.compile(rf"({_STATISTIC})\s*(<=?)\s*([^=\s].*)", re.ASCII)


@dataclass(frozen=True, slots=True)
class Slo:
    """A statistic of the time that a connection takes, and what it has to stay below, or may reach, in ns.

    Attributes:
        statistic: `mean`, `max`, or a percentile as in `p99` and `p99.9`.
        limit_ns: The limit.
        text: The SLO as it was written.
        is_inclusive: Whether the limit itself keeps it (`<=`).
    """

    statistic: str
    limit_ns: float
    text: str
    is_inclusive: bool = False

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read `STATISTIC < NUMBER UNIT`, or the same with `<=`.

        Raises:
            UsageError: Not of that form, or no time can keep it.
        """
        found = _FORM.fullmatch(text.strip())
        try:
            limit_ns = float(parse_time(found[3] if found else "", "ns", bare=False))
        except ValueError:
            found = None
        if not found:
            raise UsageError(
                f"--slo {text!r} is not STATISTIC < TIME",
                "for example 'p99 < 1ms'; statistics: mean, max, p50, p99, p99.9; units: ns, us, ms, s",
            )
        if not limit_ns:
            raise UsageError(f"--slo {text!r}: no connection takes so little", "give a limit above 0")
        return cls(found[1], limit_ns, text.strip(), found[2] == "<=")

    @property
    def percentile(self) -> float | None:
        """Which percentile the statistic is, 0 to 100; None for the mean."""
        return percentile_of(self.statistic)

    def is_kept_by(self, value_ns: float) -> bool:
        """Whether a value of the statistic is within the limit."""
        return value_ns < self.limit_ns or (self.is_inclusive and value_ns == self.limit_ns)


def percentile_of(statistic: str) -> float | None:
    """Which percentile a statistic is, 0 to 100; None for the mean."""
    return {"mean": None, "max": 100.0}[statistic] if statistic in {"mean", "max"} else float(statistic[1:])
