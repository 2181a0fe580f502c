"""What a sweep runs: values as lists and ranges, and the product of them all as requests."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from decimal import Decimal
from itertools import product
from math import prod
from typing import Any

from connbench.errors import UsageError, suggest
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
"""Churn is told per 5 % of the range: below half of it every strategy is fast."""

"""plain and bind take a minute a round over the full range, and a sweep has many rounds."""

MOST_VALUES = 1000
"""Values of one list, and combinations of a sweep: more is a slip of the hand."""

Number = int | Decimal


def parse_values(text: str, option: str, read: Callable[[str], Number], form: str) -> tuple[Number, ...]:
    """Read values and ranges with a step by commas: `100,500-2000:500` is 100, 500, 1000, 1500, 2000.

    A range goes up from its first value as long as it is not above the last. A value named twice counts once, at
    its first place. A comma parts values here, and no thousands: what looks like the end of `1,000` is refused.

    Args:
        text: What was typed.
        option: Under which, for messages.
        read: Reads one value, and raises ValueError for what is none: a reader of `connbench.units`.
        form: The form that it takes.

    Raises:
        UsageError: Not of that form, a range that is reversed or has no step, or too many values.
    """
    found: dict[Number, None] = {}
    parts: list[str] = [part.strip() for part in text.split(",")]
    for before, part in zip(("", *parts), parts, strict=False):
        if before and re.fullmatch(r"0\d\d", part, re.ASCII):
            raise UsageError(
                f"{option} {text!r}: a comma separates values in a list, and {part} is no value",
                f"write {before},{part} as {before}{part} or {before}k",
            )
        found |= dict.fromkeys(_part(part, f"{option} {text!r}", read, form))
    if len(found) > MOST_VALUES:
        raise _too_many(f"{option} {text!r}", len(found))
    return tuple(found)


def _part(part: str, named: str, read: Callable[[str], Number], form: str) -> list[Number]:
    with suppress(ValueError):
        return [read(part)]
    ends = re.fullmatch(r"(.+?)(?<![eE])-([^:]+)(?::(.+))?", part)  # the hyphen in 1e-3 is no range's
    low_text, high_text, step_text = ends.groups(default="") if ends else ("", "", "")
    try:
        low, high, step = read(low_text), read(high_text), read(step_text or low_text)
    except ValueError as error:
        raise UsageError(
            f"{named}: {part!r} is not {form.partition(',')[0]}", f"write {form}; a range has a step: LOW-HIGH:STEP"
        ) from error
    if not step_text:
        raise UsageError(f"{named}: range {part} has no step", f"add one: {part}:STEP")
    if low > high:
        raise UsageError(f"{named}: range {part} is reversed", f"write it as {high_text}-{low_text}:{step_text}")
    if not step:
        raise UsageError(f"{named}: range {part} has a step of 0", "give a step above 0")
    count = int((high - low) // step) + 1
    if count > MOST_VALUES:
        raise _too_many(named, count)
    return [low + step * i for i in range(count)]


def _too_many(named: str, count: int) -> UsageError:
    return UsageError(f"{named}: {count:,} are too many", f"a sweep takes up to {MOST_VALUES:,}")


def parse_words(text: str, option: str, known: Sequence[str]) -> tuple[str, ...]:
    """Read words by commas; one named twice counts once.

    Raises:
        UsageError: One is not of those known.
    """
    words = tuple(dict.fromkeys(part.strip() for part in text.split(",")))
    for word in words:
        if word not in known:
            raise UsageError(f"{option} {text!r}: {word!r} is unknown", suggest(word, known))
    return words


def sweep_requests(base: RunRequest, lists: Mapping[str, Sequence[Any]]) -> list[RunRequest]:
    """The product of all lists: a request a combination, the loads outermost.

    So the settings that are compared at one load are measured one right after the other. Churn without a fill or a
    number of connections is swept over `DEFAULT_FILLS`.

    Args:
        base: What is the same in all of them; its strategies are swept in each.
        lists: Values by the request's field, of `LOADS` and `SETTINGS`; an empty list leaves the field as it is.

    Raises:
        UsageError: No list has two values, or they make too many combinations.
    """
    given = {name: tuple(lists[name]) for name in (*LOADS, *SETTINGS) if lists.get(name)}
    if "churn" in given and not {"fill", "connections"} & set(given):
        given["fill"] = DEFAULT_FILLS
    base = replace(base, strategies=base.strategies or SWEPT_NAMES)
    if max(map(len, (base.strategies, *given.values()))) < 2:
        raise UsageError(
            "nothing to sweep: no option carries a list",
            "give one, as in --window 100,500,1000 or --fill 50%-95%:5%; a single setting is for connbench run",
        )
    count = prod(map(len, (base.strategies, *given.values())))
    if count > MOST_VALUES:
        raise UsageError(f"{count:,} combinations are too many", f"a sweep takes up to {MOST_VALUES:,}")
    names = [name for name in (*LOADS, *SETTINGS) if name in given]
    return [
        replace(base, **dict(zip(names, values, strict=True))) for values in product(*(given[name] for name in names))
    ]


def announcement(plan: Plan) -> str:
    """How much a sweep is to measure, in a line: `30 combinations, 3 rounds each: 90 turns, 4,068,864 attempts`."""
    turns = len(plan.strategies) * plan.rounds
    rounds = "1 round" if plan.rounds == 1 else f"{plan.rounds} rounds"
    return (
        f"{len(plan.strategies)} combinations of setting and load, {rounds} each: "
        f"{turns} turns, {total_attempts(plan):,} attempts in all"
    )
