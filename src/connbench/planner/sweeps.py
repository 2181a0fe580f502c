"""The requests of a sweep: the lists that options take, and all combinations of their values."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import product
from math import prod
from typing import Any

from connbench.errors import UsageError
from connbench.model import LOAD_FIELDS, Plan
from connbench.model.load import Sweep
from connbench.planner.request import RunRequest
from connbench.planner.resources import total_attempts
from connbench.strategies import SWEPT_NAMES

LOADS = tuple(field.name for field in LOAD_FIELDS if field.sweep is Sweep.LOAD)
"""Fields of a request that make a load: each setting is measured at each."""

SETTINGS = (
    *(field.name for field in LOAD_FIELDS if field.sweep is Sweep.SETTING),
    "window",
    "placement",
    "retries",
)
"""Fields of a request that make a setting, beside the strategy."""

DEFAULT_FILLS = tuple(percent / 100 for percent in range(50, 100, 5))
"""Shares of the ports at which churn is measured without -n or --fill: below one half every strategy is fast."""

"""A sweep has many rounds, and plain and bind take a minute for each over the full range."""

MOST_COMBINATIONS = 1000
"""Combinations of a sweep; more are a typing error."""


def sweep_requests(base: RunRequest, lists: Mapping[str, Sequence[Any]]) -> list[RunRequest]:
    """Make a request for each combination of the lists' values.

    The loads vary slowest, so that the settings compared at one load are measured one right after the other. Churn
    without a fill or a number of connections is measured at `DEFAULT_FILLS`.

    Args:
        base: The fields that all requests share; each request has its strategies.
        lists: Values by the name of a request's field, of `LOADS` and `SETTINGS`; an empty list leaves the field as it
            is in `base`.

    Raises:
        UsageError: No list has two values, or there are too many combinations.
    """
    given = {name: tuple(lists[name]) for name in (*LOADS, *SETTINGS) if lists.get(name)}
    if "churn" in given and not {"fill", "connections"} & set(given):
        given["fill"] = DEFAULT_FILLS
    base = replace(base, strategies=base.strategies or SWEPT_NAMES)
    if max(map(len, (base.strategies, *given.values()))) < 2:
        raise UsageError(
            "nothing to sweep: no option has a list",
            "give one, as in --window 100,500,1000 or --fill 50%-95%:5%; a single setting is for connbench run",
        )
    count = prod(map(len, (base.strategies, *given.values())))
    if count > MOST_COMBINATIONS:
        raise UsageError(f"{count:,} combinations are too many", f"a sweep takes up to {MOST_COMBINATIONS:,}")
    names = [name for name in (*LOADS, *SETTINGS) if name in given]
    return [
        replace(base, **dict(zip(names, values, strict=True))) for values in product(*(given[name] for name in names))
    ]


def announcement(plan: Plan) -> str:
    """How much a sweep measures, in one line: `30 combinations, 3 rounds each: 90 turns, 4,068,864 attempts`."""
    turns = len(plan.strategies) * plan.rounds
    rounds = "1 round" if plan.rounds == 1 else f"{plan.rounds} rounds"
    return (
        f"{len(plan.strategies)} combinations of setting and load, {rounds} each: "
        f"{turns} turns, {total_attempts(plan):,} attempts in all"
    )
