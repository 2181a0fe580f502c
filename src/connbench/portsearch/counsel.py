"""What advice is asked for and what it is made of, as values."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import pairwise
from math import ceil
from typing import TYPE_CHECKING

from connbench.model import PortRange, StrategySpec
from connbench.portsearch.algorithm import Algorithm
from connbench.portsearch.slo import Slo

if TYPE_CHECKING:
    from connbench.portsearch.calibration import Calibration  # which loads numpy


@dataclass(frozen=True, slots=True)
class Situation:
    """What is asked, settled.

    Attributes:
        connections: Open at once, from all sources to one target.
        ports: The range.
        sources: Addresses they come from.
        options: Names of the socket options that the kernel has.
        algorithm: Its search.
        budget: Share of the attempts that may fail, 0 to 1.
        slo: What a connection may take, if that matters.
        calibration: What a search costs.
        seed: Of windows and ports.
        reserved: net.ipv4.ip_local_reserved_ports: no search has them, and nothing is to bind to them.
    """

    connections: int
    ports: PortRange
    sources: int
    options: frozenset[str]
    algorithm: Algorithm
    budget: float
    slo: Slo | None
    calibration: Calibration
    seed: int = 1
    reserved: frozenset[int] = frozenset()

    @property
    def each(self) -> int:
        """Connections of the source that has most."""
        return -(-self.connections // self.sources)

    @property
    def capacity(self) -> int:
        """Connections there are ports for."""
        return self.free * self.sources

    @property
    def free(self) -> int:
        """Ports of the range that a source can have."""
        return len(self.ports) - self.reserved_here

    @property
    def reserved_here(self) -> int:
        """Ports of the range that are reserved."""
        return self.ports.count_of(self.reserved)

    @property
    def first_half(self) -> int:
        """Ports that a source has before the search is through with the first parity, that of the low end."""
        low, half = self.ports.low, len(self.ports) // 2
        return sum(port not in self.reserved for port in range(low, low + 2 * half, 2))

    @property
    def longest_free(self) -> PortRange:
        """The longest stretch of the range without a reserved port: what `random` may draw from.

        Raises:
            UsageError: All are reserved.
        """
        barriers = [self.ports.low - 1, *sorted(p for p in self.reserved if p in self.ports), self.ports.high + 1]
        low, high = max(pairwise(barriers), key=lambda ends: ends[1] - ends[0])
        return PortRange(low + 1, high - 1)


@dataclass(frozen=True, slots=True)
class Candidate:
    """A strategy in a situation; each figure is the worse of the filling's and the churn's.

    Attributes:
        spec: The strategy.
        errors: Share of attempts that fail, 0 to 1.
        mean_ns: What an attempt takes, all its tries, the mean.
        slo_ns: The statistic that the SLO is about; the p99 without one.
        tries: Tries of an attempt, the mean.
        keeps_budget: Whether few enough fail.
        keeps_slo: Whether they are quick enough; True without an SLO.
        extrapolates: Whether the calibration was fitted to fewer connections.
    """

    spec: StrategySpec
    errors: float
    mean_ns: float
    slo_ns: float
    tries: float
    keeps_budget: bool
    keeps_slo: bool
    extrapolates: bool

    @property
    def is_kept(self) -> bool:
        """Whether it keeps both."""
        return self.keeps_budget and self.keeps_slo


@dataclass(frozen=True, slots=True)
class Advice:
    """A line, why, and what to paste.

    Attributes:
        topic: What it is about, a word that stays.
        line: What is so, or what to do.
        reason: Why.
        code: By language.
    """

    topic: str
    line: str
    reason: str
    code: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Flow:
    """Connections that come and go.

    Attributes:
        rate: Opened a second.
        hold: How long each is held, in seconds; None if not known.
    """

    rate: float
    hold: float | None

    @property
    def at_once(self) -> int:
        """Connections that are open at once, rate times hold; 0 where that is not known.

        What floating-point numbers add to a whole number is none: 0.1/s x 30 s are 3.
        """
        return 0 if self.hold is None else max(1, ceil(round(self.rate * self.hold, 6)))


@dataclass(frozen=True, slots=True)
class Enough:
    """The number of source addresses that is advised where those there are do not do, and what was tried with it."""

    sources: int
    tried: tuple[Candidate, ...]


@dataclass(frozen=True, slots=True)
class Counsel:
    """All there is to say: what was tried in the situation that was asked for, the advice, and what more sources do."""

    situation: Situation
    tried: tuple[Candidate, ...]
    advices: tuple[Advice, ...]
    enough: Enough | None = None

    @property
    def is_kept(self) -> bool:
        """Whether anything keeps budget and SLO with the sources there are."""
        return any(one.is_kept for one in self.tried)
