"""The input and the output of advice, as values: what the user asks for on which kernel, and what to do."""

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

BELOW_KNEE = 0.9
"""Share of the first parity's ports that one source may have in use: close to the knee, a search for one of the last
free ports of the parity is long."""

_STATISTIC = r"mean|max|p\d{1,2}(?:\.\d{1,3})?"
_FORM = re.compile(rf"({_STATISTIC})\s*(<=?)\s*([^=\s].*)", re.ASCII)


@dataclass(frozen=True, slots=True)
class Slo:
    """A limit on the time that a connection takes, for one statistic of that time.

    Attributes:
        statistic: `mean`, `max`, or a percentile as in `p99` and `p99.9`.
        limit_ns: The limit, in ns.
        text: The SLO as the user wrote it.
        is_inclusive: Whether a value that equals the limit keeps it (`<=`).
    """

    statistic: str
    limit_ns: float
    text: str
    is_inclusive: bool = False

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read `STATISTIC < NUMBER UNIT`, or the same with `<=`.

        Raises:
            UsageError: The text has another form, or the limit is 0.
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
        """The percentile that the statistic is, 0 to 100; None for the mean."""
        return percentile_of(self.statistic)

    def is_kept_by(self, value_ns: float) -> bool:
        """Whether a value of the statistic, in ns, keeps the limit."""
        return value_ns < self.limit_ns or (self.is_inclusive and value_ns == self.limit_ns)


def percentile_of(statistic: str) -> float | None:
    """The percentile that a statistic is, 0 to 100; None for the mean."""
    return {"mean": None, "max": 100.0}[statistic] if statistic in {"mean", "max"} else float(statistic[1:])


@dataclass(frozen=True, slots=True)
class Arrivals:
    """The rate at which a program opens connections, and how long it holds each.

    Attributes:
        rate: Connections opened per second.
        hold: Seconds that each stays open; None if the user does not say.
    """

    rate: float
    hold: float | None

    @property
    def at_once(self) -> int:
        """Connections open at once: rate times hold (Little's law). 0 without a hold time."""
        return 0 if self.hold is None else max(1, _rounded_up(self.rate * self.hold))


def _rounded_up(number: float) -> int:
    """Rounded up, but for the error of floating-point numbers: 0.1/s x 30 s are 3, not 4."""
    return ceil(round(number, 6))


@dataclass(frozen=True, slots=True)
class Scenario:
    """What the user asks for, and the kernel that has to do it.

    Methods that take a strategy depend on it in two ways: a port that a program binds to is in use for every target,
    and cannot be one in TIME_WAIT.

    Attributes:
        connections: Connections open at once, from all sources to all targets.
        ports: The port range.
        sources: Number of source addresses.
        options: Names of the socket options that the kernel has.
        algorithm: The kernel's port search.
        budget: Share of the attempts that may fail, 0 to 1.
        slo: The limit on the time that a connection takes; None for no limit.
        calibration: The costs of a search.
        seed: The seed of the draws.
        reserved: The ports of net.ipv4.ip_local_reserved_ports: no search finds them, and no advice binds to them.
        targets: Number of targets; each gets the same share of the connections.
        protocol: TCP or UDP.
        arrivals: How connections come and go; None if the user gives no rate.
        client_closes: Whether the client closes first, and so has TIME_WAIT.
        time_wait: The settings on which it depends when a port in TIME_WAIT is free again.
        is_loopback: Whether the connections go over the loopback.
        doubt: What is unknown about the kernel, as a sentence; empty if nothing is.
        is_here: Whether the kernel is this host's.
        today: How the program gets its ports today; None if the user does not say.
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
    today: Strategy | None = None

    def spaces(self, strategy: Strategy = BASELINE) -> int:
        """The number of port spaces: one for each source, and for each target if a port is in use for it alone."""
        is_per_target = self.protocol is Protocol.TCP and not strategy.binds_to_port
        return self.sources * (self.targets if is_per_target else 1)

    def time_wait_seconds(self, strategy: Strategy = BASELINE) -> float:
        """Seconds that a closed connection keeps its port; 0 if it keeps none, or if the user gives no rate."""
        if self.arrivals is None or not self.client_closes or self.protocol is not Protocol.TCP:
            return 0.0
        return self.time_wait.seconds(is_loopback=self.is_loopback, binds_to_port=strategy.binds_to_port)

    def in_time_wait(self, strategy: Strategy = BASELINE) -> int:
        """Ports in TIME_WAIT that a strategy cannot use, at most tcp_max_tw_buckets."""
        closed, most = self._closed(strategy), self.time_wait.most
        return closed if most is None else min(closed, most)

    def is_time_wait_capped(self, strategy: Strategy = BASELINE) -> bool:
        """Whether tcp_max_tw_buckets keeps further ports out of TIME_WAIT."""
        return self.in_time_wait(strategy) < self._closed(strategy)

    def _closed(self, strategy: Strategy) -> int:
        """Connections closed within the time that a port stays in TIME_WAIT."""
        return _rounded_up(self.arrivals.rate * self.time_wait_seconds(strategy)) if self.arrivals else 0

    def ports_in_use(self, strategy: Strategy = BASELINE) -> int:
        """Ports in use while connections come and go: open, or in TIME_WAIT."""
        return self.connections + self.in_time_wait(strategy)

    def capacity(self, strategy: Strategy = BASELINE) -> int:
        """Ports of all port spaces that are not reserved."""
        return self.unreserved * self.spaces(strategy)

    def in_use_each(self, strategy: Strategy = BASELINE) -> int:
        """Ports in use in the port space that has the most."""
        return -(-self.ports_in_use(strategy) // self.spaces(strategy))

    def fits(self, strategy: Strategy = BASELINE) -> bool:
        """Whether there are enough ports."""
        return self.ports_in_use(strategy) <= self.capacity(strategy)

    @property
    def names_source(self) -> bool:
        """Whether the program has to name its source address: it has several, or names its only one today."""
        return self.sources > 1 or (self.today is not None and self.today.chooses_source)

    @property
    def unreserved(self) -> int:
        """Ports of the range that are not reserved."""
        return len(self.ports) - self.reserved_in_range

    @property
    def reserved_in_range(self) -> int:
        """Ports of the range that are reserved."""
        return self.ports.count_of(self.reserved)

    @property
    def first_parity(self) -> int:
        """Unreserved ports of the parity that connect() searches first, that of the range's low end."""
        low, half = self.ports.low, len(self.ports) // 2
        return sum(port not in self.reserved for port in range(low, low + 2 * half, 2))

    @property
    def second_parity(self) -> int:
        """Unreserved ports of the other parity, which bind() searches first where it chooses the port."""
        low, half = self.ports.low, len(self.ports) // 2
        return sum(port not in self.reserved for port in range(low + 1, low + 2 * half, 2))

    @property
    def longest_unreserved(self) -> PortRange:
        """The longest part of the range without a reserved port: a program that draws its ports draws from it.

        Raises:
            UsageError: All ports of the range are reserved.
        """
        barriers = [self.ports.low - 1, *sorted(p for p in self.reserved if p in self.ports), self.ports.high + 1]
        low, high = max(pairwise(barriers), key=lambda ends: ends[1] - ends[0])
        return PortRange(low + 1, high - 1)


@dataclass(frozen=True, slots=True)
class Candidate:
    """A strategy simulated in a scenario. Each figure is the worse one of the filling's and the churn's.

    Attributes:
        spec: The strategy.
        errors: Share of the attempts that fail, 0 to 1.
        mean_ns: The mean acquire time of an attempt, all its tries, in ns.
        slo_ns: The SLO's statistic of the acquire time, in ns; the p99 without an SLO.
        tries: Mean number of tries of an attempt.
        keeps_budget: Whether no more attempts fail than the error budget allows.
        keeps_slo: Whether the statistic keeps the SLO; True without an SLO.
        extrapolates: Whether more connections are open than in the results that the calibration was fitted to.
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
        """Whether it keeps the error budget and the SLO."""
        return self.keeps_budget and self.keeps_slo


@dataclass(frozen=True, slots=True)
class AdviceItem:
    """One thing that is so, or one thing to do.

    Attributes:
        topic: A word by which programs find the item in JSON.
        line: A fact, or what to do.
        reason: Why; may be empty.
        code: Code to paste, by language.
    """

    topic: str
    line: str
    reason: str
    code: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class SufficientSources:
    """A number of source addresses with which a strategy keeps budget and SLO.

    Attributes:
        sources: The number.
        candidates: The strategies simulated with it, the best first.
    """

    sources: int
    candidates: tuple[Candidate, ...]


@dataclass(frozen=True, slots=True)
class Advice:
    """The answer to a scenario.

    Attributes:
        scenario: What the user asks for.
        candidates: The strategies simulated in it, the best first.
        items: Facts and what to do, with reasons.
        verdict: What to do, with figures: one or two sentences a line.
        sufficient: How many source addresses suffice if those of the scenario do not; None if they do, or if no number
            does.
    """

    scenario: Scenario
    candidates: tuple[Candidate, ...]
    items: tuple[AdviceItem, ...]
    verdict: tuple[str, ...]
    sufficient: SufficientSources | None = None

    @property
    def is_kept(self) -> bool:
        """Whether a strategy keeps budget and SLO with the scenario's sources."""
        return any(one.is_kept for one in self.candidates)
