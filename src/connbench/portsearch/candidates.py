"""What each strategy would come to with so many connections: in the filling, and once they come and go."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from itertools import islice

import numpy as np

from connbench.linux.sockopts import LOCAL_PORT_RANGE, NO_PORT
from connbench.model import (
    Churn,
    Endpoint,
    Listener,
    Load,
    Namespace,
    Phase,
    Placement,
    Plan,
    RoundPlan,
    StrategySpec,
)
from connbench.portsearch.counsel import Candidate, Situation
from connbench.portsearch.prediction import Prediction
from connbench.portsearch.simulate import Machine, simulate
from connbench.portsearch.slo import PERCENTILES, Slo
from connbench.strategies import STRATEGIES
from connbench.strategies.userspace import MOST_DRAWS

REPLACEMENTS = 5000
"""Connections replaced at random once all are open: errors to a tenth of a percent show."""

WINDOWS = (16, 32, 64, 100, 250, 500, 1000, 2500, 5000, 10_000)
ALIKE = 1.05
"""Times the quickest mean within which one does not matter to a program: calibrations are no better than that."""

RETRIED_WINDOW, MOST_RETRIES = 100, 10


def try_out(situation: Situation, spec: StrategySpec) -> Candidate:
    """Simulate one source's share of the connections; the others' fill the same tables."""
    predictions = _predictions(situation, spec)
    costs = [situation.calibration.acquire_ns(one) for one in predictions]
    errors = max(one.failures / len(one.walk) for one in predictions)
    slo_ns = max(_statistic(cost, situation.slo) for cost in costs)
    return Candidate(
        spec=spec,
        errors=errors,
        mean_ns=max(float(cost.mean()) for cost in costs),
        slo_ns=slo_ns,
        tries=max(float(one.walk.tries.mean()) for one in predictions),
        keeps_budget=errors <= situation.budget,
        keeps_slo=situation.slo is None or slo_ns < situation.slo.limit_ns,
        extrapolates=any(situation.calibration.extrapolates(one) for one in predictions),
    )


def _predictions(situation: Situation, spec: StrategySpec) -> list[Prediction]:
    is_drawn = spec.name == "random"  # bind() would have the reserved ports, too
    retries = MOST_DRAWS - 1 if is_drawn else spec.retries
    loaded = replace(spec, load=Load(churn=Churn(REPLACEMENTS)), retries=retries)
    plan = Plan(
        strategies=(loaded,),
        connections=situation.each,
        port_range=situation.longest_free if is_drawn else situation.ports,
        sources=("127.9.9.1",),
        targets=(Endpoint("127.9.9.2", 1),),
        listener=Listener.EXTERNAL,
        namespace=Namespace.NETWORK,
        seed=situation.seed,
    )
    planned = RoundPlan(plan, loaded, 1)
    walks = simulate(planned, situation.algorithm, Machine(reserved=situation.reserved))
    found = [Prediction.of_phase(planned, walks, phase) for phase in (Phase.FILL, Phase.CHURN)]
    return [replace(one, open_before=one.open_before * situation.sources) for one in found]


def _statistic(costs: np.typing.NDArray[np.float64], slo: Slo | None) -> float:
    name = slo.statistic if slo else "p99"
    return float(costs.mean()) if name == "mean" else float(np.percentile(costs, PERCENTILES[name]))


def candidates(situation: Situation) -> list[Candidate]:
    """Every strategy that the kernel has, the windows by the smallest that keeps the budget; the best first.

    Of those that are all but equally quick the one that asks least of a program is the best.
    None has a chance where there are more connections than ports; none may be possible either, on a kernel without
    the options where reserved ports leave `random` no stretch that is long enough.
    `partition` is none of them: it fills one window after the other, and has no rule for where a port is free when
    connections come and go. A worker with a share of the ports of its own does as `range` does on that share: ask for
    its connections, and name its share as the range.
    """
    if situation.connections > situation.capacity:
        return []
    names = [name for name in ("plain", "bind", "range") if is_possible(situation, name)]
    found = [try_out(situation, StrategySpec(name)) for name in names]
    if "range" in names:
        found += _windows(situation)
    if situation.each <= len(situation.longest_free):
        found.append(try_out(situation, StrategySpec("random")))
    alike = ALIKE * min((one.mean_ns for one in found), default=0.0)
    return sorted(found, key=lambda one: (not one.is_kept, not one.keeps_budget, max(one.mean_ns, alike)))


def is_possible(situation: Situation, name: str) -> bool:
    """Whether the kernel has what a strategy needs; `plain` cannot choose among several sources."""
    has_options = all(option.name in situation.options for option in STRATEGIES[name].needs)
    return has_options and not (name == "plain" and situation.sources > 1)


def _windows(situation: Situation) -> Iterator[Candidate]:
    """The smallest window that keeps the budget, and a small one with as few retries as it takes to keep it.

    A window may be too large, too: those inside the range cover its ends less than its middle.
    """
    tried = (try_out(situation, _window(width, 0)) for width in WINDOWS if width < len(situation.ports))
    smallest = next((one for one in tried if one.keeps_budget), None)
    if smallest:
        yield smallest
    width = min(RETRIED_WINDOW, len(situation.ports))
    if smallest is None or (smallest.spec.window or 0) > width:
        retried = (try_out(situation, _window(width, retries)) for retries in range(1, MOST_RETRIES + 1))
        yield from islice((one for one in retried if one.keeps_budget), 1)


def _window(width: int, retries: int) -> StrategySpec:
    return StrategySpec("window", width, Placement.INSIDE, retries)


def supported(kernel: tuple[int, int]) -> frozenset[str]:
    """Names of the options that a kernel of this version has, by the release that brought each."""
    return frozenset(
        option.name for option in (NO_PORT, LOCAL_PORT_RANGE) if kernel >= tuple(map(int, option.since.split(".")))
    )
