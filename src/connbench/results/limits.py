"""What no run can have left behind: limits for what a file says, whatever its form."""

from __future__ import annotations

import numpy as np

from connbench.model import LARGEST, MAX_PORT, Plan, StrategySpec
from connbench.results.result import Numbers, Result
from connbench.samples import COLUMNS

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
    _check("connections", spec.connections, 1, LARGEST)
    _check("sources", spec.sources, 1, LARGEST)


def check_plan(plan: Plan) -> None:
    """Make sure that a plan's numbers lie where a run's do.

    Raises:
        ValueError: One does not, with its name and value.
    """
    for spec in plan.strategies:
        check_spec(spec)
    _check("connections", plan.connections, 0, LARGEST)
    _check("number of sources", len(plan.sources), 1, LARGEST)
    _check("rounds", plan.rounds, 1, LARGEST)
    _check("seed", plan.seed, 0, LARGEST)
    _check("target port", plan.target.port, 1, MAX_PORT)
    _check("cpu", plan.cpu, 0, LARGEST)
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
