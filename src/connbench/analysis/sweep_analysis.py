"""Analyses a sweep, which measures every setting at every load: the cheapest setting within an error budget.

A *setting* is a strategy with its parameters: window, placement, retries, source addresses, when it gives up. A *load*
is how many connections it opens or how full it makes the range, with how many clients, and the churn. A setting at a
load is a *cell*. A cell's figure is the median over its complete rounds. If a load has churn, the churn is judged, and
not the filling before it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from connbench.model import Load, Phase, StrategySpec
from connbench.results.result import Result, Samples, StrategyResult
from connbench.samples import NO_PORT_FREE


@dataclass(frozen=True, slots=True)
class Figures:
    """The figures of a round; times in ns, NaN if no attempt has the figure.

    Attributes:
        error_share: Attempts without a connection, including those given up, as a share from 0 to 1.
        cost_ns: The acquire time of all attempts, failed ones too, divided by the connections made; infinite without
            a connection. So an attempt that fails fast makes nothing cheaper. A handshake in flight costs nothing.
        acquire_ns: Mean acquire time of all attempts, failed ones too.
        mean_ns: Mean latency of all attempts, as are `p50_ns` and `p99_ns`; of a strategy that searches in bind() these
            are acquire times.
        even_ns: The mean of the connections from even ports; `odd_ns` of those from odd ones.
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
        """The figures of some attempts, at least one."""
        latency, connected = samples.searched_ns, len(samples) - int(samples.failed.sum())
        p50, p99 = (float(value) for value in np.percentile(latency, (50, 99)))
        even, odd = (float(latency[of].mean()) if of.any() else np.nan for of in (samples.even, samples.odd))
        return cls(
            error_share=float(samples.failed.mean()),
            cost_ns=float(samples.calls_ns.sum()) / connected if connected else np.inf,
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
        attempts: Attempts of the longest round.
        figures: The median of each figure over the rounds.
        costs_ns: The cost of a connection in each round.
        lacks_ports: Whether every failed attempt failed because no port was free: other failures need another cure.
        is_partial: Whether there is no complete round; the figures are then those of the partial rounds.
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
        """The largest round's cost less the smallest, as a share of the median; 0 with one round."""
        median = self.figures.cost_ns
        is_known = 0 < median < np.inf
        return (max(self.costs_ns) - min(self.costs_ns)) / median if is_known else 0.0

    @property
    def is_judged(self) -> bool:
        """Whether this is the phase that the sweep judges: the churn if there is one, else the filling."""
        return self.phase is (Phase.CHURN if self.load.churn else Phase.FILL)

    @classmethod
    def of(cls, strategy: StrategyResult) -> Cell | None:
        """The cell of a strategy's rounds; None without an attempt."""
        complete = [r.samples for r in strategy.rounds if not r.fault and len(r.samples)]
        rounds = complete or [r.samples for r in strategy.rounds if len(r.samples)]
        if not rounds:
            return None
        figures = [Figures.of(samples) for samples in rounds]
        setting, load = setting_and_load(strategy.strategy)
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


def setting_and_load(spec: StrategySpec) -> tuple[StrategySpec, Load]:
    """Divides a strategy in its setting, with no load beside that, and its load without what belongs to the setting."""
    own, rest = spec.load.split()
    return replace(spec, load=own, phase=Phase.FILL), rest


def is_sweep(result: Result) -> bool:
    """Whether a result is that of a sweep: each setting at each load, and a strategy in more than one cell.

    `run` measures each strategy once; `reproduce` measures some settings at some loads.
    """
    fills = [spec for spec in result.specs if spec.phase is Phase.FILL]
    combined = set(map(setting_and_load, fills))
    settings, loads = {setting for setting, _ in combined}, {load for _, load in combined}
    is_product = len(combined) == len(settings) * len(loads)
    return is_product and len(combined) > len({spec.name for spec in fills})


@dataclass(frozen=True, slots=True)
class Standing:
    """A setting's figures over all loads.

    Attributes:
        cost_ns: The mean over the loads of the cost of a connection: every load has the same weight.
        least_ns: The same with the cheapest round at each load; `most_ns` with the most expensive one.
        worst_share: The largest share of errors at a load.
        worst_load: That load.
    """

    setting: StrategySpec
    cost_ns: float
    least_ns: float
    most_ns: float
    worst_share: float
    worst_load: Load

    def is_within(self, budget: float) -> bool:
        """Whether its share of errors is at most `budget` at every load."""
        return self.worst_share <= budget

    def is_cheaper_than(self, other: Standing) -> bool:
        """Whether each of its rounds costs less than each of the other's; with one round a side, whether that does."""
        has_rounds = self.least_ns < self.most_ns or other.least_ns < other.most_ns
        return self.most_ns < other.least_ns if has_rounds else self.cost_ns < other.cost_ns


@dataclass(frozen=True)
class Sweep:
    """All cells of a sweep, its settings (strategy by strategy) and loads as planned, and whether it was cut short."""

    cells: tuple[Cell, ...]
    settings: tuple[StrategySpec, ...]
    loads: tuple[Load, ...]
    is_partial: bool = False

    @classmethod
    def of(cls, result: Result) -> Sweep:
        """The sweep that a result holds."""
        planned = [setting_and_load(spec) for spec in result.specs]
        cells = (Cell.of(strategy) for strategy in result.strategies)
        names = list(dict.fromkeys(setting.name for setting, _ in planned))
        return cls(
            tuple(cell for cell in cells if cell),
            tuple(sorted(dict.fromkeys(setting for setting, _ in planned), key=lambda one: names.index(one.name))),
            tuple(dict.fromkeys(load for _, load in planned)),
            result.is_partial,
        )

    @property
    def has_churn(self) -> bool:
        """Whether the churn of a load is judged."""
        return any(load.churn for load in self.loads)

    def of_phase(self, *, judged: bool) -> list[Cell]:
        """The cells that are judged, or those of the filling before them, by setting and then by load."""
        chosen = [cell for cell in self.cells if cell.is_judged is judged]
        return sorted(chosen, key=lambda c: (self.settings.index(c.setting), self.loads.index(c.load)))

    def judged_at(self, load: Load) -> list[Cell]:
        """The complete cells of a load that are judged, one a setting."""
        return [cell for cell in self.of_phase(judged=True) if cell.load == load and not cell.is_partial]

    @cached_property
    def standings(self) -> tuple[Standing, ...]:
        """Every setting with a complete round at every load, the cheapest first."""
        complete = [cell for cell in self.of_phase(judged=True) if not cell.is_partial]
        found = []
        for setting in self.settings:
            cells = [cell for cell in complete if cell.setting == setting]
            if len(cells) == len(self.loads):
                found.append(_standing(setting, cells))
        return tuple(sorted(found, key=lambda standing: standing.cost_ns))

    def cheapest(self, budget: float) -> Standing | None:
        """The cheapest of the settings that are within the error budget at every load; None without one."""
        return next((standing for standing in self.standings if standing.is_within(budget)), None)

    def tied(self, budget: float) -> list[Standing]:
        """The other settings within the budget with rounds as cheap as one of the cheapest: no difference is shown."""
        chosen = self.cheapest(budget)
        if chosen is None or chosen.least_ns == chosen.most_ns:
            return []
        return [
            one
            for one in self.standings
            if one is not chosen and one.is_within(budget) and one.least_ns <= chosen.most_ns
        ]

    def cheaper_beyond(self, budget: float) -> list[Standing]:
        """The settings beyond the budget that are cheaper than the cheapest within it, by their share of errors.

        If no setting is within the budget, these are all. The first of them is the runner-up.
        """
        chosen = self.cheapest(budget)
        beyond = [one for one in self.standings if not one.is_within(budget)]
        cheaper = [one for one in beyond if chosen is None or one.is_cheaper_than(chosen)]
        return sorted(cheaper, key=lambda standing: standing.worst_share)

    def cell(self, setting: StrategySpec, load: Load) -> Cell:
        """The complete cell of a setting that has a standing."""
        return next(cell for cell in self.judged_at(load) if cell.setting == setting)

    def cheapest_at(self, load: Load, budget: float) -> Cell | None:
        """The cheapest cell within the budget at one load; None without one."""
        keeping = [cell for cell in self.judged_at(load) if cell.figures.error_share <= budget]
        return min(keeping, key=lambda cell: cell.figures.cost_ns, default=None)

    def fewest_errors_at(self, load: Load) -> Cell | None:
        """The cell with the fewest errors at a load; of equal ones the cheapest."""
        return min(
            self.judged_at(load), key=lambda cell: (cell.figures.error_share, cell.figures.cost_ns), default=None
        )


def _standing(setting: StrategySpec, cells: Sequence[Cell]) -> Standing:
    """Summarizes the cells of a setting, one a load."""
    worst = max(cells, key=lambda cell: cell.figures.error_share)
    return Standing(
        setting=setting,
        cost_ns=float(np.mean([cell.figures.cost_ns for cell in cells])),
        least_ns=float(np.mean([min(cell.costs_ns) for cell in cells])),
        most_ns=float(np.mean([max(cell.costs_ns) for cell in cells])),
        worst_share=worst.figures.error_share,
        worst_load=worst.load,
    )
