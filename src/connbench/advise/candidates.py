"""What each strategy would come to with so many connections: in the filling, and once they come and go."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from itertools import islice

import numpy as np

from connbench.advise.scenario import Candidate, Scenario, percentile_of
from connbench.draws import MOST_DRAWS
from connbench.linux.sockopts import NO_PORT
from connbench.model import (
    Churn,
    Close,
    Endpoint,
    Listener,
    Load,
    Namespace,
    Phase,
    Placement,
    Plan,
    Protocol,
    RoundPlan,
    StrategySpec,
)
from connbench.portmodel.prediction import Prediction
from connbench.portmodel.simulation import KernelParameters, simulate
from connbench.portmodel.variants import WINDOWS
from connbench.strategies import DRAWING, RANGE, STRATEGIES, WINDOW, Strategy

REPLACEMENTS = 5000
"""Connections replaced at random once all are open: errors to a tenth of a percent show."""

ALIKE = 1.05
"""Times the quickest mean within which one does not matter to a program: calibrations are no better than that."""

RETRIED_WINDOW, MOST_RETRIES = 100, 10


def simulate_candidate(scenario: Scenario, spec: StrategySpec) -> Candidate:
    """Simulate one space's share of the connections; the others' fill the same tables."""
    predictions = _predictions(scenario, spec)
    costs = [scenario.calibration.acquire_ns(one) for one in predictions]
    errors = max(one.failures / len(one.attempts) for one in predictions)
    statistic = scenario.slo.statistic if scenario.slo else "p99"
    slo_ns = max(_statistic(cost, statistic) for cost in costs)
    return Candidate(
        spec=spec,
        errors=errors,
        mean_ns=max(float(cost.mean()) for cost in costs),
        slo_ns=slo_ns,
        tries=max(float(one.attempts.tries.mean()) for one in predictions),
        keeps_budget=errors <= scenario.budget,
        keeps_slo=scenario.slo is None or scenario.slo.is_kept_by(slo_ns),
        extrapolates=any(scenario.calibration.extrapolates(one) for one in predictions),
    )


def _predictions(scenario: Scenario, spec: StrategySpec) -> tuple[Prediction, Prediction]:
    """The filling, and the replacements once as many ports are in TIME_WAIT as ever will be."""
    strategy = spec.traits
    is_drawn = strategy.draws_port  # bind() would have the reserved ports, too
    spaces, waiting = scenario.spaces(strategy), scenario.waiting(strategy)
    before = -(-waiting // spaces)
    rows = before + REPLACEMENTS
    rate = waiting / scenario.seconds_waiting(strategy) / spaces if waiting else 0.0  # of those that do leave TIME_WAIT
    loaded = replace(
        spec,
        load=Load(protocol=scenario.protocol, churn=Churn(rows, Close.FIN, rate) if before else Churn(REPLACEMENTS)),
        retries=MOST_DRAWS - 1 if is_drawn else spec.retries,
    )
    plan = Plan(
        strategies=(loaded,),
        connections=-(-scenario.connections // spaces),
        port_range=scenario.longest_free if is_drawn else scenario.ports,
        sources=("127.9.9.1",),
        targets=(Endpoint("127.9.9.2" if scenario.is_loopback else "192.0.2.1", 1),),
        listener=Listener.EXTERNAL,
        namespace=Namespace.NETWORK,
        seed=scenario.seed,
    )
    planned = RoundPlan(plan, loaded, 1)
    machine = KernelParameters(reserved=scenario.reserved, time_wait=replace(scenario.time_wait, most=None))
    walks = simulate(planned, scenario.algorithm, machine)
    filled, churned = (Prediction.of_phase(planned, walks, phase) for phase in (Phase.FILL, Phase.CHURN))
    steady = replace(
        churned,
        attempts=churned.attempts.part(slice(-REPLACEMENTS, None)),
        open_before=(churned.open_before[-REPLACEMENTS:] + before) * spaces,
    )
    return replace(filled, open_before=filled.open_before * spaces), steady


def _statistic(costs: np.typing.NDArray[np.float64], name: str) -> float:
    percentile = percentile_of(name)
    return float(costs.mean()) if percentile is None else float(np.percentile(costs, percentile))


def find_candidates(scenario: Scenario) -> list[Candidate]:
    """Every strategy that the kernel has, the windows by the smallest that keeps the budget; the best first.

    Of those that are all but equally quick the one that asks least of a program is the best.
    None has a chance that needs more ports than there are; none may be possible either, on a kernel without
    the options where reserved ports leave `random` no stretch that is long enough.
    `partition` is none of them: it fills one window after the other, and has no rule for where a port is free when
    connections come and go. A worker with a share of the ports of its own does as `range` does on that share: ask for
    its connections, and name its share as the range.
    """
    searches = [one for one in (default_search(scenario), RANGE) if scenario.fits(one) and is_possible(scenario, one)]
    found = [simulate_candidate(scenario, StrategySpec(one.name)) for one in searches]
    if RANGE in searches:
        found += _windows(scenario)
    found += [simulate_candidate(scenario, StrategySpec(one.name)) for one in DRAWING if scenario.has_free_stretch(one)]
    alike = ALIKE * min((one.mean_ns for one in found), default=0.0)
    return sorted(found, key=lambda one: (not one.is_kept, not one.keeps_budget, max(one.mean_ns, alike)))


def default_search(scenario: Scenario) -> Strategy:
    """The strategy that leaves source and port to the kernel, or the port alone where there are several sources.

    With one source both search alike, and the first asks less of a program.
    """
    searches = (one for one in STRATEGIES.values() if one.is_default_search)
    return next(one for one in searches if scenario.sources == 1 or one.chooses_source)


def is_possible(scenario: Scenario, strategy: Strategy) -> bool:
    """Whether the kernel has what a strategy needs, and the strategy can choose among the sources there are."""
    is_udp = scenario.protocol is Protocol.UDP  # its search is in bind(): nothing is to be deferred
    needs = [option for option in strategy.needs if not (is_udp and option == NO_PORT.name)]
    return all(option in scenario.options for option in needs) and (strategy.chooses_source or scenario.sources == 1)


def prefers_parity(scenario: Scenario, strategy: Strategy) -> bool:
    """Whether a strategy can be used here and looks at one parity of the range first."""
    if scenario.protocol is Protocol.UDP:
        return False
    has_parity = scenario.algorithm.prefers_parity(has_option=strategy.sets_port_range)
    return is_possible(scenario, strategy) and has_parity


def _windows(scenario: Scenario) -> Iterator[Candidate]:
    """The smallest window that keeps the budget, and a small one with as few retries as it takes to keep it.

    A window may be too large, too: those inside the range cover its ends less than its middle.
    """
    tried = (simulate_candidate(scenario, _window(width, 0)) for width in WINDOWS if width < len(scenario.ports))
    smallest = next((one for one in tried if one.keeps_budget), None)
    if smallest:
        yield smallest
    width = min(RETRIED_WINDOW, len(scenario.ports))
    if smallest is None or (smallest.spec.window or 0) > width:
        retried = (simulate_candidate(scenario, _window(width, retries)) for retries in range(1, MOST_RETRIES + 1))
        yield from islice((one for one in retried if one.keeps_budget), 1)


def _window(width: int, retries: int) -> StrategySpec:
    return StrategySpec(WINDOW.name, width, Placement.INSIDE, retries)
