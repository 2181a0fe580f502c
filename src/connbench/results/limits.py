"""What no run can have left behind: limits for what a file says, whatever its form."""

from __future__ import annotations

import numpy as np

from connbench.model import MAX_LANES, MAX_PORT, Phase, Plan, RoundPlan, StrategySpec
from connbench.results.result import Numbers, Result
from connbench.samples import COLUMNS

LARGEST = 2**63 - 1
"""The largest whole number of a file: options once took seeds up to here."""

LONGEST_NS = 10**15
"""More than eleven days; and sums over a thousand such times still fit into 64 bits."""

LOWEST = {column.name: 1 if column.name == "tries" else 0 for column in COLUMNS}
HIGHEST = {c.name: LONGEST_NS if c.unit == "ns" else int(np.iinfo(c.code).max) for c in COLUMNS}


def first_wrong(column: str, values: Numbers) -> int | None:
    """Position of the first value that a column of this name cannot have; NaN is one, too."""
    wrong = np.flatnonzero(~((values >= LOWEST[column]) & (values <= HIGHEST[column])))
    return int(wrong[0]) if len(wrong) else None


def check_spec(spec: StrategySpec) -> None:
    """Make sure that a strategy's parameters lie where a run's do.

    Raises:
        ValueError: One does not, with its name and value.
    """
    _check("window", spec.window, 1, MAX_PORT)
    _check("retries", spec.retries, 0, LARGEST)
    load = spec.load
    _check("connections", load.connections, 1, LARGEST)
    _check("fill", load.fill, 0, 1)
    _check("sources", load.sources, 1, LARGEST)
    _check("lanes", load.lanes, 1, MAX_LANES)
    _check("give_up_ms", load.give_up_ms, 0, LONGEST_NS // 10**6)
    if load.churn:
        _check("churn", load.churn.replacements, 1, LARGEST)
        _check("churn_rate", load.churn.rate, 0, LARGEST)
    elif spec.phase is Phase.CHURN:
        raise ValueError(f"{spec.label} has a phase {spec.phase} and no churn")


def check_plan(plan: Plan) -> None:
    """Make sure that a plan's numbers lie where a run's do.

    Raises:
        ValueError: One does not, with its name and value.
    """
    for spec in plan.strategies:
        check_spec(spec)
    _check("connections", plan.connections, 0, LARGEST)
    _check("reserved", plan.reserved, 0, len(plan.port_range))
    for spec in plan.strategies:
        _check(f"ports of {spec.label}", RoundPlan(plan, spec, 1).ports_each, 1, MAX_PORT)
    _check("number of sources", len(plan.sources), 1, LARGEST)
    _check("rounds", plan.rounds, 1, LARGEST)
    _check("seed", plan.seed, 0, LARGEST)
    _check("number of targets", len(plan.targets), 1, LARGEST)
    for target in plan.targets:
        _check("target port", target.port, 1, MAX_PORT)
    for cpu in plan.cpus:
        _check("cpu", cpu, 0, LARGEST)
    _check("delay_ms", plan.delay_ms, 0, LONGEST_NS // 10**6)
    _check("timeout", plan.timeout, 0, LONGEST_NS // 10**9)


def check_round(result: Result, spec: StrategySpec, number: int) -> None:
    """Make sure that a round may be added to a result.

    Raises:
        ValueError: It has no number, or there is one of that number already.
    """
    _check("round", number, 1, LARGEST)
    if any(number == measured.number for measured in result.rounds.get(spec, ())):
        raise ValueError(f"round {number} of {spec.label} comes twice")


def _check(name: str, value: float | None, low: int, high: int) -> None:
    if value is not None and not low <= value <= high:
        raise ValueError(f"{name} is {value}, not {low} to {high}")
