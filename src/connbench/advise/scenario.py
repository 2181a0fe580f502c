"""What advice is asked for and what it is made of, as values."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import pairwise
from math import ceil
from typing import TYPE_CHECKING, Self

from connbench.errors import UsageError
from connbench.model import PortRange, Protocol, StrategySpec
from connbench.model.time_wait import USUAL as AS_USUAL
from connbench.model.time_wait import TimeWait
from connbench.portmodel.algorithm import Algorithm
from connbench.strategies import BASELINE, Strategy
from connbench.units import parse_time

if TYPE_CHECKING:
    from connbench.portmodel.calibration import Calibration  # which loads numpy


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


@dataclass(frozen=True, slots=True)
class Arrivals:
    """Connections that come and go.

    Attributes:
        rate: Opened a second.
        hold: How long each is held, in seconds; None if not known.
    """

    rate: float
    hold: float | None

    @property
    def at_once(self) -> int:
        """Connections that are open at once, rate times hold; 0 where that is not known."""
        return 0 if self.hold is None else max(1, _whole(self.rate * self.hold))


def _whole(number: float) -> int:
    """Rounded up. What floating-point numbers add to a whole number is none: 0.1/s x 30 s are 3."""
    return ceil(round(number, 6))


@dataclass(frozen=True, slots=True)
class Scenario:
    """What is asked, settled.

    What depends on a strategy takes its row: a port that a program binds to is taken for every target, and cannot be
    one in TIME_WAIT.

    Attributes:
        connections: Open at once, from all sources to all targets.
        ports: The range.
        sources: Addresses they come from.
        options: Names of the socket options that the kernel has.
        algorithm: Its search.
        budget: Share of the attempts that may fail, 0 to 1.
        slo: What a connection may take, if that matters.
        calibration: What a search costs.
        seed: Of windows and ports.
        reserved: net.ipv4.ip_local_reserved_ports: no search has them, and nothing is to bind to them.
        targets: Address and port pairs they go to, in equal shares.
        protocol: What kind of sockets.
        arrivals: How they come and go; None where that is not known.
        client_closes: Whether this side closes first, and so has TIME_WAIT.
        time_wait: When a port in TIME_WAIT may be taken again.
        is_loopback: Whether they go over the loopback.
        doubt: What is not known of the kernel, as a sentence.
        is_here: Whether the kernel is this machine's.
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
    targets: int = 1
    protocol: Protocol = Protocol.TCP
    arrivals: Arrivals | None = None
    client_closes: bool = True
    time_wait: TimeWait = AS_USUAL
    is_loopback: bool = False
    doubt: str = ""
    is_here: bool = False

    def spaces(self, strategy: Strategy = BASELINE) -> int:
        """How many times a strategy has the range: once a source, and a target where a port is taken for it alone."""
        is_per_target = self.protocol is Protocol.TCP and not strategy.binds_to_port
        return self.sources * (self.targets if is_per_target else 1)

    def seconds_waiting(self, strategy: Strategy = BASELINE) -> float:
        """How long a closed connection keeps its port; 0 where it keeps none, or no rate says how many do."""
        if self.arrivals is None or not self.client_closes or self.protocol is not Protocol.TCP:
            return 0.0
        return self.time_wait.seconds(is_loopback=self.is_loopback, binds_to_port=strategy.binds_to_port)

    def waiting(self, strategy: Strategy = BASELINE) -> int:
        """Ports in TIME_WAIT that a strategy cannot have: closed within `seconds_waiting`, and no more than may be."""
        closed, most = self._closed(strategy), self.time_wait.most
        return closed if most is None else min(closed, most)

    def has_most_waiting(self, strategy: Strategy = BASELINE) -> bool:
        """Whether more would be in TIME_WAIT if tcp_max_tw_buckets let them."""
        return self.waiting(strategy) < self._closed(strategy)

    def _closed(self, strategy: Strategy) -> int:
        return _whole(self.arrivals.rate * self.seconds_waiting(strategy)) if self.arrivals else 0

    def taken(self, strategy: Strategy = BASELINE) -> int:
        """Ports that are not free once connections come and go: open, or in TIME_WAIT."""
        return self.connections + self.waiting(strategy)

    def capacity(self, strategy: Strategy = BASELINE) -> int:
        """Ports there are, those of each space counted."""
        return self.free * self.spaces(strategy)

    def each(self, strategy: Strategy = BASELINE) -> int:
        """Taken ports of the space that has most."""
        return -(-self.taken(strategy) // self.spaces(strategy))

    def fits(self, strategy: Strategy = BASELINE) -> bool:
        """Whether there are ports enough."""
        return self.taken(strategy) <= self.capacity(strategy)

    def has_free_stretch(self, strategy: Strategy) -> bool:
        """Whether a strategy that draws ports has enough of them without a reserved port between them."""
        return self.each(strategy) <= len(self.longest_free)

    @property
    def free(self) -> int:
        """Ports of the range that are not reserved."""
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
    """A strategy in a scenario; each figure is the worse of the filling's and the churn's.

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
class AdviceItem:
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
class SufficientSources:
    """The number of source addresses that is advised where those there are do not do, and what was tried with it."""

    sources: int
    candidates: tuple[Candidate, ...]


@dataclass(frozen=True, slots=True)
class Advice:
    """All there is to say.

    Attributes:
        scenario: What was asked for.
        candidates: The strategies in it, the best first.
        items: What is so and what to do, with reasons.
        verdict: What to do, with figures, a sentence or two a line.
        sufficient: What more source addresses do, where those there are do not suffice.
    """

    scenario: Scenario
    candidates: tuple[Candidate, ...]
    items: tuple[AdviceItem, ...]
    verdict: tuple[str, ...]
    sufficient: SufficientSources | None = None

    @property
    def is_kept(self) -> bool:
        """Whether anything keeps budget and SLO with the sources there are."""
        return any(one.is_kept for one in self.candidates)
