"""A setting at a load: the figures of its rounds, and how the two are told apart.

A *setting* is a strategy with its parameters: window, placement, retries, source addresses, when it gives up. A *load*
is what it is put to: how many connections or how full, by how many clients, and the churn.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from connbench.model import Load, Phase, StrategySpec
from connbench.results.result import Samples, StrategyResult
from connbench.samples import NO_PORT_FREE


@dataclass(frozen=True, slots=True)
class Figures:
    """What the attempts of a round came to; times in ns, NaN where there is no attempt of the kind.

    Attributes:
        error_share: Attempts without a connection, those given up too, 0 to 1.
        cost_ns: What a connection takes: the acquire time of all attempts, failed ones too, by the connections made;
            infinite without one. So an attempt that fails fast makes nothing cheaper.
        acquire_ns: Mean acquire time of an attempt, failed ones counted.
        mean_ns: Mean latency of all attempts, as are `p50_ns` and `p99_ns`.
        even_ns: Mean latency of the connections from even ports; `odd_ns` of those from odd ones.
    """

    error_share: float
    cost_ns: float
    acquire_ns: float
    mean_ns: float
    p50_ns: float
    p99_ns: float
    even_ns: float
    odd_ns: float

    @classmethod
    def of(cls, samples: Samples) -> Figures:
        """Those of some attempts, at least one."""
        latency, connected = samples.latency_ns, len(samples) - int(samples.failed.sum())
        p50, p99 = (float(value) for value in np.percentile(latency, (50, 99)))
        even, odd = (float(latency[of].mean()) if of.any() else np.nan for of in (samples.even, samples.odd))
        return cls(
            error_share=float(samples.failed.mean()),
            cost_ns=float(samples.acquire_ns.sum()) / connected if connected else np.inf,
            acquire_ns=float(samples.acquire_ns.mean()),
            mean_ns=float(latency.mean()),
            p50_ns=p50,
            p99_ns=p99,
            even_ns=even,
            odd_ns=odd,
        )


@dataclass(frozen=True, slots=True)
class Cell:
    """A setting at a load, in one phase.

    Attributes:
        attempts: Of the longest round.
        figures: The median round's, each figure by itself.
        costs_ns: What a connection takes in each round.
        lacks_ports: Whether no attempt failed but for want of a free port: what fails otherwise needs another cure.
        is_partial: Whether there is no complete round; the figures are then those of what there is.
    """

    setting: StrategySpec
    load: Load
    phase: Phase
    attempts: int
    figures: Figures
    costs_ns: tuple[float, ...]
    lacks_ports: bool
    is_partial: bool

    @property
    def spread(self) -> float:
        """From the smallest to the largest round's cost, as a share of the median; 0 of one round."""
        median = self.figures.cost_ns
        is_known = 0 < median < np.inf
        return (max(self.costs_ns) - min(self.costs_ns)) / median if is_known else 0.0

    @property
    def is_judged(self) -> bool:
        """Whether this is what the sweep is about: the churn where there is one, else the filling."""
        return self.phase is (Phase.CHURN if self.load.churn else Phase.FILL)

    @classmethod
    def of(cls, strategy: StrategyResult) -> Cell | None:
        """A strategy's rounds as a cell; None without an attempt."""
        complete = [r.samples for r in strategy.rounds if not r.fault and len(r.samples)]
        rounds = complete or [r.samples for r in strategy.rounds if len(r.samples)]
        if not rounds:
            return None
        figures = [Figures.of(samples) for samples in rounds]
        setting, load = split(strategy.strategy)
        return cls(
            setting=setting,
            load=load,
            phase=strategy.strategy.phase,
            attempts=max(map(len, rounds)),
            figures=_median(figures),
            costs_ns=tuple(one.cost_ns for one in figures),
            lacks_ports=all(set(np.unique(one.errno).tolist()) <= {0, *NO_PORT_FREE} for one in rounds),
            is_partial=not complete,
        )


def _median(rounds: Sequence[Figures]) -> Figures:
    values = {name: [getattr(figures, name) for figures in rounds] for name in Figures.__slots__}
    known = {name: [value for value in some if value == value] for name, some in values.items()}  # noqa: PLR0124  # NaN is not
    return Figures(**{name: float(np.median(some)) if some else np.nan for name, some in known.items()})


def split(spec: StrategySpec) -> tuple[StrategySpec, Load]:
    """A strategy's setting, as one without a load of its own, and its load without what is the setting's."""
    load = spec.load
    own = Load(sources=load.sources, give_up_ms=load.give_up_ms)
    return replace(spec, load=own, phase=Phase.FILL), replace(load, sources=None, give_up_ms=None)
