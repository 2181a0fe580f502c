"""Which source connects to which target in which attempt, and with which draw: settled before anything is measured.

A *path* is a source and a target, numbered with the sources changing fastest. All of a round's rows are settled: those
of the filling, then those of the churn, where an attempt takes the path of the connection it replaces.
"""

from __future__ import annotations

from array import array
from collections import Counter
from dataclasses import replace
from random import Random

from connbench.model import RoundPlan, Spread, draw_victims
from connbench.strategies import STRATEGIES, Recipe
from connbench.strategies.base import Reserved, numbers

__all__ = ["draw_victims", "recipe_over", "seed_further_tries", "shared_out"]


def shared_out(plan: RoundPlan, victims: array[int]) -> array[int]:
    """The path of each row.

    Spread.FILL gives each source, or each path where ports are per target, as many attempts as it can have ports; what
    is more than all can hold goes to the last.

    Args:
        plan: The round.
        victims: The row that each row of the churn replaces.
    """
    ports, paths = plan.ports_each, len(plan.sources) * len(plan.plan.targets)
    rows = range(plan.connections)
    if plan.plan.spread is Spread.ROUND_ROBIN:
        order = array("I", (row % paths for row in rows))
    else:
        spaces = plan.spaces
        order = array("I", (min(row // ports, spaces - 1) + spaces * (row % (paths // spaces)) for row in rows))
    order.extend(order[victim] for victim in victims)
    return order


def recipe_over(plan: RoundPlan, order: array[int], reserved: Reserved = frozenset()) -> Recipe:
    """The strategy's recipe for all rows, drawn for each port space by itself: each has a range of its own.

    Args:
        plan: The round.
        order: The path of each row, from `shared_out`.
        reserved: Ports of the namespace that no search has.
    """
    filling, churning = order[: plan.connections], order[plan.connections :]
    fill = _drawn(plan, filling, array("I"), "first tries", reserved)
    if not plan.replacements:
        return fill
    return replace(fill, first=fill.first + _drawn(plan, churning, filling, "churn", reserved).first)


def _drawn(plan: RoundPlan, order: array[int], before: array[int], stream: str, reserved: Reserved) -> Recipe:
    """A phase's recipe; its first tries are drawn one port space after the other.

    What comes in turn, the windows of a partition, goes on where the attempts before have left off.
    """
    make, ports = STRATEGIES[plan.strategy.name].recipe, plan.plan.port_range
    rng = Random(plan.seed_text(stream))  # noqa: S311  # reproducible, not secret
    spaces = plan.spaces
    counts, earlier = (Counter(path % spaces for path in some) for some in (order, before))
    # A space without an attempt draws nothing: thousands of sources and of targets are millions of spaces.
    recipes = {
        space: make(plan.strategy, ports, earlier[space] + counts[space], rng, reserved)
        for space in sorted(counts | earlier) or (0,)
    }
    firsts = {space: recipe.first[earlier[space] :] for space, recipe in recipes.items()}
    recipe = next(iter(recipes.values()))
    if spaces == 1:
        return replace(recipe, first=firsts[0])
    draws = {space: iter(first) for space, first in firsts.items()}
    return replace(recipe, first=numbers(next(draws[path % spaces]) for path in order))


def seed_further_tries(rng: Random, plan: RoundPlan, row: int) -> None:
    """Begin the further tries of a row: what they draw goes by seed, strategy, round, row and try alone.

    How many tries other rows took, which depends on who won a port, changes nothing of it.
    """
    rng.seed(plan.seed_text(f"further tries of {row}"))
