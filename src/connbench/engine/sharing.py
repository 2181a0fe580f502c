"""Which source address makes which attempt, and with which draw: settled before anything is measured."""

from __future__ import annotations

from array import array
from collections import Counter
from dataclasses import replace
from random import Random

from connbench.model import RoundPlan, Spread
from connbench.strategies import STRATEGIES, Recipe
from connbench.strategies.base import numbers


def shared_out(plan: RoundPlan) -> array[int]:
    """The source of each attempt, as an index into the plan's addresses.

    Filling gives each address as many attempts as the range has ports; what is more than all can hold goes to the last.
    """
    sources, ports = len(plan.sources), len(plan.plan.port_range)
    if plan.plan.spread is Spread.FILL:
        return array("H", (min(attempt // ports, sources - 1) for attempt in range(plan.connections)))
    return array("H", (attempt % sources for attempt in range(plan.connections)))


def recipe_over(plan: RoundPlan, order: array[int], rng: Random) -> Recipe:
    """The strategy's recipe, drawn for each address by itself: each has a range of its own to go through.

    Args:
        plan: The round.
        order: The source of each attempt, from `shared_out`.
        rng: Draws the first tries, one address after the other.
    """
    make, ports = STRATEGIES[plan.strategy.name].recipe, plan.plan.port_range
    counts = Counter(order)
    recipes = [make(plan.strategy, ports, counts[source], rng) for source in range(len(plan.sources))]
    if len(recipes) == 1:
        return recipes[0]
    draws = [iter(recipe.first) for recipe in recipes]
    return replace(recipes[0], first=numbers(next(draws[source]) for source in order))
