"""Predicting a plan, and everything a result file has measured."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields, replace
from functools import lru_cache

from connbench.errors import EnvironmentFault, InputError, UsageError
from connbench.linux.limits import available_memory
from connbench.linux.sysctl import RESERVED_PORTS
from connbench.model import Plan, RoundPlan, StrategySpec, parse_ports
from connbench.model.time_wait import TW_REUSE, TimeWait
from connbench.portmodel.algorithm import Algorithm, algorithm_of
from connbench.portmodel.prediction import Pair, Prediction
from connbench.portmodel.simulate import USUAL, KernelParameters, simulate
from connbench.portmodel.simulated import Walk
from connbench.results.result import Result, StrategyResult
from connbench.safe_text import printable
from connbench.strategies import STRATEGIES
from connbench.units import memory

KEPT_BYTES = 70
"""Memory of a predicted attempt as long as its prediction is kept: 65 bytes were seen."""

WORKING_BYTES = 130
"""What it takes besides while it is simulated, or its figures are worked out: 110 bytes were seen."""

SPACE_BYTES = 512
"""Memory of a port space besides its ports, a byte each: 450 bytes were seen."""


_PREDICTED = f"it predicts {', '.join(name for name, strategy in STRATEGIES.items() if strategy.is_modelled)}"


def predict(plan: Plan, algorithm: Algorithm, machine: KernelParameters = USUAL) -> list[Prediction]:
    """The first round of each strategy of a plan, a prediction a phase, in order.

    Raises:
        UsageError: The model does not know a strategy.
        EnvironmentFault: There is no memory for so many attempts, or port spaces.
    """
    unknown = _unmodelled(plan)
    if unknown is not None:
        raise UsageError(f"the model does not know the strategy {unknown}", _PREDICTED)
    rounds = [RoundPlan(plan, spec, 1) for spec in plan.strategies]
    refuse_without_memory(rounds)
    return [found for planned in rounds for found in _round(planned, algorithm, machine)]


def refuse_without_memory(rounds: Sequence[RoundPlan]) -> None:
    """Make sure that there is memory for the predictions of these rounds, before any is made.

    Raises:
        EnvironmentFault: There is not.
    """
    rows = [planned.rows for planned in rounds]
    widest = max(rounds, key=lambda planned: planned.spaces * (len(planned.plan.port_range) + SPACE_BYTES))
    spaces = widest.spaces * (len(widest.plan.port_range) + SPACE_BYTES)
    needed, free = KEPT_BYTES * sum(rows) + WORKING_BYTES * max(rows) + spaces, available_memory()
    if needed > free:
        raise EnvironmentFault(
            f"the prediction of {sum(rows):,} attempts, from {len(widest.sources):,} addresses to "
            f"{len(widest.plan.targets):,} targets, needs about {memory(needed)}, and {memory(free)} are free",
            "predict fewer connections, strategies, addresses or targets",
        )


@lru_cache(maxsize=4)
def _round(plan: RoundPlan, algorithm: Algorithm, machine: KernelParameters = USUAL) -> list[Prediction]:
    walks = simulate(plan, algorithm, machine)
    reserved = plan.plan.port_range.count_of(machine.reserved)
    return [replace(Prediction.of_phase(plan, walks, phase, reserved), time_wait=machine.time_wait) for phase in walks]


def beside(
    result: Result,
    algorithm: Algorithm | None = None,
    reserved: frozenset[int] | None = None,
    tw_reuse: int | None = None,
) -> list[Pair]:
    """Every phase of every strategy of a result beside what the model says of the same plan, seed and round.

    Args:
        result: What was measured.
        algorithm: The search of connect(); None for that of the kernel it was measured on.
        reserved: net.ipv4.ip_local_reserved_ports; None for those that each round has recorded.
        tw_reuse: net.ipv4.tcp_tw_reuse; None for what each round has recorded.

    Raises:
        InputError: The file has no plan, as a CSV has none; it has a strategy of another name than connbench's; or a
            setting that it has recorded cannot be read.
        EnvironmentFault: There is no memory for the predictions.
    """
    if result.plan is None:
        raise InputError(
            f"{result.name} has no plan to predict: it is a {result.origin}", "name the .json that run -o wrote"
        )
    unknown = _unmodelled(result.plan)
    if unknown is not None:
        raise InputError(f"{result.name} has a strategy {unknown!r}, which the model does not know", _PREDICTED)
    chosen = algorithm or algorithm_of(result.kernel)
    whole = [(_whole(result.plan, one.strategy), one.rounds) for one in result.strategies]
    planned = [RoundPlan(result.plan, spec, measured.number) for spec, rounds in whole for measured in rounds]
    if planned:
        refuse_without_memory(planned)
    try:
        return [_pair(result.plan, strategy, chosen, reserved, tw_reuse) for strategy in result.strategies]
    except UsageError as fault:
        way_out = "say what it was with --reserved-ports or --tcp-tw-reuse"
        raise InputError(f"{result.name}: {fault.message}", way_out) from fault


def _unmodelled(plan: Plan) -> str | None:
    """The first strategy of a plan that the model does not know, by a name that can be printed."""
    return next((printable(one.name[:40]) for one in plan.strategies if not one.traits.is_modelled), None)


def _pair(
    plan: Plan,
    strategy: StrategyResult,
    algorithm: Algorithm,
    reserved: frozenset[int] | None,
    tw_reuse: int | None,
) -> Pair:
    spec = strategy.strategy
    rounds = []
    for measured in strategy.rounds:
        planned = RoundPlan(plan, _whole(plan, spec), measured.number)
        settings = measured.report.settings
        told = {} if tw_reuse is None else {TW_REUSE: str(tw_reuse)}
        machine = KernelParameters(
            reserved=parse_ports(settings.get(RESERVED_PORTS, "")) if reserved is None else reserved,
            time_wait=TimeWait.of({**settings, **told}),
        )
        found = next(p for p in _round(planned, algorithm, machine) if p.plan.strategy.phase is spec.phase)
        rounds.append((_first(found, len(measured.samples)), measured.samples))
    return Pair(strategy, tuple(rounds))


def _whole(plan: Plan, spec: StrategySpec) -> StrategySpec:
    """The strategy of the plan that a phase belongs to."""
    return next(one for one in plan.strategies if spec in one.phases)


def _first(prediction: Prediction, attempts: int) -> Prediction:
    walk = Walk(**{f.name: getattr(prediction.walk, f.name)[:attempts] for f in fields(Walk)})
    return replace(prediction, walk=walk, open_before=prediction.open_before[:attempts])
