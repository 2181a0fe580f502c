"""Simulates each strategy that a scenario allows: the fill, then the churn, with their errors and times."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from itertools import islice

import numpy as np
import numpy.typing as npt

from connbench.advice.scenario import Candidate, Scenario, percentile_of
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
from connbench.strategies import STRATEGIES, Strategy, Window

REPLACEMENTS = 5000
"""Connections replaced at random once all are open: enough to see a share of errors of a tenth of a percent."""

ALIKE = 1.05
"""Candidates whose mean is within 5 % of the quickest count as equally quick: calibrations are no more exact."""

RETRIED_WINDOW, MOST_RETRIES = 100, 10
"""The size of the window that is simulated with retries, and the most retries."""


def find_candidates(scenario: Scenario) -> list[Candidate]:
    """Simulate every strategy that the kernel allows; the best first.

    Among candidates that are about equally quick, the one that needs the fewest calls of a program comes first. What
    the program does today comes last, if it is nothing to advise. The
    list has no strategy for which the ports do not suffice, and none that fills windows one after the other: it has no
    rule for connections that come and go. It may be empty: on a kernel without the socket options, and with reserved
    ports that leave no part of the range long enough for a program that draws its ports.
    """
    found = [one for strategy in sorted(STRATEGIES.values(), key=_calls) for one in _of_strategy(scenario, strategy)]
    alike = ALIKE * min((one.mean_ns for one in found), default=0.0)

    def key(one: Candidate) -> tuple[bool, bool, bool, float]:
        return not is_candidate(one.spec.traits), not one.is_kept, not one.keeps_budget, max(one.mean_ns, alike)

    return sorted(found, key=key)


def is_candidate(strategy: Strategy) -> bool:
    """Whether the model knows a strategy, and a program that can choose has a reason to take it.

    One that fills windows in turn has no rule for which window has a free port once connections come and go. bind()
    that chooses the port takes it for every target, and gains nothing. An outsider can guess the next port of a list,
    which needs as many calls as ports drawn at random.
    """
    is_worse = strategy.window is Window.CONSECUTIVE or strategy.searches_in_bind or strategy.has_list
    return strategy.is_modelled and not is_worse


def is_simulated(scenario: Scenario, strategy: Strategy) -> bool:
    """Whether the model knows a strategy on the scenario's kernel: bind()'s search only as it is from Linux 4.6 on."""
    is_known = scenario.algorithm.prefers_parity(has_option=False) or not strategy.searches_in_bind
    return strategy.is_modelled and is_known


def _calls(strategy: Strategy) -> tuple[bool, ...]:
    """Sorts strategies by what a program has to do: draw ports, draw windows, set the option."""
    return strategy.chooses_port, strategy.draws_again, strategy.sets_port_range


def _of_strategy(scenario: Scenario, strategy: Strategy) -> Iterator[Candidate]:
    """The candidates of a strategy: none, one, or one for each window worth a try."""
    if not is_candidate(strategy) and not (strategy is scenario.today and is_simulated(scenario, strategy)):
        return
    if strategy.chooses_port:
        if scenario.in_use_each(strategy) <= len(scenario.longest_unreserved):
            yield simulate_candidate(scenario, StrategySpec(strategy.name))
        return
    if not scenario.fits(strategy) or not is_possible(scenario, strategy):
        return
    if strategy.window is Window.RANDOM:
        yield from _windows(scenario, strategy)
    elif strategy.sets_port_range or strategy in {default_search(scenario), scenario.today}:
        yield simulate_candidate(scenario, StrategySpec(strategy.name))


def default_search(scenario: Scenario) -> Strategy:
    """The strategy that sets no option for the search: the one that chooses its source if the program has to name it.

    Both search alike, and the one that leaves the source to the kernel makes fewer calls.
    """
    searches = (one for one in STRATEGIES.values() if one.is_default_search)
    return next(one for one in searches if one.chooses_source or not scenario.names_source)


def is_possible(scenario: Scenario, strategy: Strategy) -> bool:
    """Whether the kernel has the options that a strategy sets, and the strategy names its source if it has to."""
    is_udp = scenario.protocol is Protocol.UDP  # bind() searches for UDP: no option has to leave that to connect()
    needs = [option for option in strategy.needs if not (is_udp and option == NO_PORT.name)]
    has_options = all(option in scenario.options for option in needs)
    return has_options and (strategy.chooses_source or not scenario.names_source)


def prefers_parity(scenario: Scenario, strategy: Strategy) -> bool:
    """Whether a strategy is possible and its search probes the ports of one parity before the others."""
    if scenario.protocol is Protocol.UDP:
        return False
    has_parity = scenario.algorithm.prefers_parity(has_option=strategy.sets_port_range)
    return is_possible(scenario, strategy) and has_parity


def _windows(scenario: Scenario, strategy: Strategy) -> Iterator[Candidate]:
    """The smallest window that keeps the budget, and a small one with as few retries as keep it.

    A larger window is not always better: windows inside the range cover its ends less often than its middle.
    """

    def of(width: int, retries: int) -> Candidate:
        return simulate_candidate(scenario, StrategySpec(strategy.name, width, Placement.INSIDE, retries))

    by_width = (of(width, 0) for width in WINDOWS if width < len(scenario.ports))
    smallest = next((one for one in by_width if one.keeps_budget), None)
    if smallest:
        yield smallest
    width = min(RETRIED_WINDOW, len(scenario.ports))
    if smallest is None or (smallest.spec.window or 0) > width:
        retried = (of(width, retries) for retries in range(1, MOST_RETRIES + 1))
        yield from islice((one for one in retried if one.keeps_budget), 1)


def simulate_candidate(scenario: Scenario, spec: StrategySpec) -> Candidate:
    """Simulate a strategy in a scenario."""
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
    """The filling of one port space, and its churn once the number of ports in TIME_WAIT no longer grows.

    The connections of the other spaces fill the same tables of the kernel: `open_before` counts them.
    """
    strategy = spec.traits
    spaces, waiting = scenario.spaces(strategy), scenario.in_time_wait(strategy)
    before = -(-waiting // spaces)  # closed before the replacements that count
    leaving = waiting / scenario.time_wait_seconds(strategy) / spaces if waiting else 0.0  # ports a second
    churn = Churn(before + REPLACEMENTS, Close.FIN, leaving) if before else Churn(REPLACEMENTS)
    loaded = replace(
        spec,
        load=Load(protocol=scenario.protocol, churn=churn),
        retries=MOST_DRAWS - 1 if strategy.chooses_port else spec.retries,
    )
    plan = Plan(
        strategies=(loaded,),
        connections=-(-scenario.connections // spaces),
        port_range=scenario.longest_unreserved if strategy.chooses_port else scenario.ports,
        sources=("127.9.9.1",),
        targets=(Endpoint("127.9.9.2" if scenario.is_loopback else "192.0.2.1", 1),),
        listener=Listener.EXTERNAL,
        namespace=Namespace.NETWORK,
        seed=scenario.seed,
    )
    planned = RoundPlan(plan, loaded, 1)
    kernel = KernelParameters(reserved=scenario.reserved, time_wait=replace(scenario.time_wait, most=None))
    phases = simulate(planned, scenario.algorithm, kernel)
    filled, churned = (
        Prediction.of_phase(planned, phases, phase, 0, scenario.algorithm) for phase in (Phase.FILL, Phase.CHURN)
    )
    counting = slice(-REPLACEMENTS, None)
    steady = replace(
        churned,
        attempts=churned.attempts.part(counting),
        open_before=(churned.open_before[counting] + before) * spaces,
        spaces=spaces,
    )
    return replace(filled, open_before=filled.open_before * spaces, spaces=spaces), steady


def _statistic(costs: npt.NDArray[np.float64], name: str) -> float:
    percentile = percentile_of(name)
    return float(costs.mean()) if percentile is None else float(np.percentile(costs, percentile))
