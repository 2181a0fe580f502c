"""What a program may wait for its connections: `p99 < 1ms`."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Self

from connbench.errors import UsageError
from connbench.units import TIME_UNITS_NS

PERCENTILES = {"p50": 50.0, "p90": 90.0, "p99": 99.0, "p99.9": 99.9, "max": 100.0}
"""Statistics that are percentiles; `mean` is the other one."""

_FORM = re.compile(r"(mean|p50|p90|p99\.9|p99|max)\s*<=?\s*(\d+(?:\.\d+)?)\s*(ns|us|µs|ms|s)", re.ASCII)


@dataclass(frozen=True, slots=True)
class Slo:
    """A statistic of the time that a connection takes, and what it has to stay below, in ns."""

    statistic: str
    limit_ns: float
    text: str

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read `STATISTIC < NUMBER UNIT`.

        Raises:
            UsageError: Not of that form.
        """
        found = _FORM.fullmatch(text.strip())
        if not found:
            raise UsageError(
                f"--slo {text!r} is not STATISTIC < TIME",
                "for example 'p99 < 1ms'; statistics: mean, p50, p90, p99, p99.9, max; units: ns, us, ms, s",
            )
        return cls(found[1], float(found[2]) * TIME_UNITS_NS[found[3]], text.strip())
