"""Finds the changes with which a setting would keep an error budget: more retries or another window, by the model."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from math import log, sqrt

from connbench.model import Phase, Placement, Plan, RoundPlan, StrategySpec
from connbench.portmodel.algorithm import Algorithm
from connbench.portmodel.simulation import KernelParameters, simulate

WINDOWS = (16, 32, 64, 100, 250, 500, 1000, 2500, 5000, 10_000)
"""The sizes of windows that are simulated."""

RETRIES = (1, 2, 3, 5, 10, 20, 50, 100, 200, 500, 1000)
"""The numbers of retries that are simulated."""

MOST_ROWS = 200_000
"""Rounds with more attempts are not simulated, because the user waits for the answer."""

RELATIVE_ERROR = 0.25
"""The model says nothing about other settings if its share of errors differs from the measured one by more than this
part of it and `MARGIN` of both: other programs may use ports, too, of which the model does not know."""

MARGIN = 3.0
"""A prediction keeps the budget with a reserve of this many standard deviations: another seed draws other windows, and
the number of independent errors varies by its square root at least."""


@dataclass(frozen=True, slots=True)
class Variant:
    """A setting that differs from another in one option.

    Attributes:
        options: The option as the user types it, `--retries 20`.
        setting: The strategy at the load where it has the most errors.
        error_share: Predicted share of its attempts that find no port there, 0 to 1.
    """

    options: str
    setting: StrategySpec
    error_share: float


def variants(
    plan: Plan,
    specs: Sequence[StrategySpec],
    measured: float,
    budget: float,
    algorithm: Algorithm,
    kernel: KernelParameters,
) -> list[Variant]:
    """The smallest changes of a setting that keep a budget at every load, by the model; empty if it cannot say.

    Args:
        plan: What was measured.
        specs: The setting at each load, the one with the most errors first.
        measured: The share of errors that was measured there, 0 to 1.
        budget: The share that may fail, 0 to 1.
        algorithm: The search of the kernel.
        kernel: What else the search depends on.
    """
    if any(RoundPlan(plan, spec, 1).rows > MOST_ROWS or spec.load.give_up_ms is not None for spec in specs):
        return []
    model = _Model(plan, budget, algorithm, kernel)
    predicted, attempts = model.error_share(specs[0]), model.attempts(specs[0])
    if abs(predicted - measured) > RELATIVE_ERROR * measured + MARGIN * sqrt((predicted + measured) / attempts):
        return []
    return [found for found in (_retries(model, specs), _placement(model, specs), _window(model, specs)) if found]


@dataclass(frozen=True, slots=True)
class _Model:
    plan: Plan
    budget: float
    algorithm: Algorithm
    kernel: KernelParameters

    def attempts(self, spec: StrategySpec) -> int:
        planned = RoundPlan(self.plan, spec, 1)
        return planned.replacements or planned.connections

    def error_share(self, spec: StrategySpec) -> float:
        attempts = simulate(RoundPlan(self.plan, spec, 1), self.algorithm, self.kernel)
        judged = attempts[Phase.CHURN if spec.load.churn else Phase.FILL]
        return float((judged.port == 0).mean())

    def variant(self, options: str, specs: Sequence[StrategySpec]) -> Variant | None:
        """The setting with these options if it keeps the budget at every load; loads after a failed one are skipped."""
        worst, share = specs[0], 0.0
        for spec in specs:
            found = self.error_share(spec)
            if found + MARGIN * sqrt(found / self.attempts(spec)) > self.budget:
                return None
            if found > share:
                worst, share = spec, found
        return Variant(options, worst, share)


def _retries(model: _Model, specs: Sequence[StrategySpec]) -> Variant | None:
    """The fewest of `RETRIES` that keep the budget: more of them never fail more often."""
    now = specs[0].retries
    if now is None:  # a strategy without any, or one that draws until it has a port
        return None

    def of(number: int) -> Variant | None:
        return model.variant(f"--retries {number}", [replace(spec, retries=number) for spec in specs])

    more = [number for number in RETRIES if number > now]
    place = bisect_left(more, 1, key=lambda number: of(number) is not None)
    return of(more[place]) if place < len(more) else None


def _placement(model: _Model, specs: Sequence[StrategySpec]) -> Variant | None:
    """The setting with clipped windows, which cover the ends of the range as often as its middle."""
    if specs[0].placement is not Placement.INSIDE:
        return None
    return model.variant("--placement clipped", [replace(spec, placement=Placement.CLIPPED) for spec in specs])


def _window(model: _Model, specs: Sequence[StrategySpec]) -> Variant | None:
    """The window of `WINDOWS` that is nearest to the setting's own and keeps the budget."""
    now = specs[0].window
    return next(_windows(model, specs, now), None) if now else None


def _windows(model: _Model, specs: Sequence[StrategySpec], now: int) -> Iterator[Variant]:
    others = [size for size in WINDOWS if size != now and size < len(model.plan.port_range)]
    for size in sorted(others, key=lambda size: abs(log(size / now))):
        found = model.variant(f"--window {size}", [replace(spec, window=size) for spec in specs])
        if found:
            yield found
