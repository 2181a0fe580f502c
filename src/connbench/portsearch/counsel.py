"""What advice is asked for and what it is made of, as values."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from connbench.model import PortRange, StrategySpec
from connbench.portsearch.algorithm import Algorithm
from connbench.portsearch.calibration import Calibration
from connbench.portsearch.slo import Slo


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

    @property
    def each(self) -> int:
        """Connections of the source that has most."""
        return -(-self.connections // self.sources)

    @property
    def capacity(self) -> int:
        """Connections there are ports for."""
        return len(self.ports) * self.sources


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


@dataclass(frozen=True, slots=True)
class Counsel:
    """All there is to say: what was tried in the situation that was asked for, and the advice."""

    situation: Situation
    tried: tuple[Candidate, ...]
    advices: tuple[Advice, ...]

    @property
    def is_kept(self) -> bool:
        """Whether anything keeps budget and SLO with the sources there are."""
        return any(one.is_kept for one in self.tried)
