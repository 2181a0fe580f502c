"""How many source addresses it takes where those there are do not do."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from math import ceil

from connbench.advise.candidates import candidates, prefers_parity, searching
from connbench.advise.instructions import code, use
from connbench.advise.situation import Advice, Candidate, Enough, Situation
from connbench.linux.sockopts import NO_PORT
from connbench.model import StrategySpec
from connbench.strategies import BIND, RANDOM
from connbench.units import duration

MOST_SOURCES = 4096
BELOW_KNEE = 0.9
"""Of half the range: closer to its end each search for one of the last ports of the parity is long."""

TRIED_SOURCES = 4
"""Numbers of sources tried, from the fewest that have ports enough."""


def _numbers(situation: Situation) -> list[int]:
    """Numbers of source addresses to try: the fewest that have ports enough and some more, up to below the knee."""
    a_source = situation.spaces() // situation.sources
    fewest = max(situation.sources + 1, ceil(situation.taken() / (situation.free * a_source)))
    below_half = ceil(situation.taken() / max(1, situation.first_half * a_source))
    return sorted({*range(fewest, fewest + TRIED_SOURCES), max(fewest, below_half)})


def enough_sources(situation: Situation) -> Enough | None:
    """The fewest of those numbers with which a strategy keeps budget and SLO."""
    for number in _numbers(situation):
        tried = candidates(replace(situation, sources=number)) if number <= MOST_SOURCES else []
        if tried and tried[0].is_kept:
            return Enough(number, tuple(tried))
    return None


def more_sources(situation: Situation, tried: Sequence[Candidate], enough: Enough | None) -> Iterator[Advice]:
    """How many addresses it takes, if any number does."""
    why = _why_not(situation, tried)
    if enough:
        line = f"use {enough.sources} source addresses instead of {situation.sources}"
        yield Advice("sources", line, why)
        yield use(replace(situation, sources=enough.sources), enough.tried[0])
        return
    numbers = _numbers(situation)
    tried_numbers = [str(number) for number in numbers if number <= MOST_SOURCES]
    if not tried_numbers:
        line = f"it takes {numbers[0]:,} source addresses or more"
        way = "; more ports (--port-range) or targets take fewer"
    else:
        line = f"nothing keeps {_bounds(situation)} with {', '.join(tried_numbers)} source addresses"
        way = "; allow more errors (--error-budget) or more time (--slo)"
    yield Advice("sources", line, why + way)


def _why_not(situation: Situation, tried: Sequence[Candidate]) -> str:
    """Why nothing does with the sources there are."""
    if not situation.fits():
        waiting = situation.waiting()
        of_them = f" ({situation.connections:,} open, {waiting:,} in TIME_WAIT)" if waiting else ""
        return f"{situation.taken():,} ports are needed{of_them}, and there are {situation.capacity():,}"
    if not tried:
        return (
            f"this kernel has no option to choose a source with and leave it the port, and {RANDOM.name} has"
            f" {len(situation.longest_free):,} ports in a row that are not reserved, for {situation.each(RANDOM):,}"
        )
    first = tried[0]
    nearest = f"{first.spec.label}, {first.errors:.2%} errors, {duration(first.slo_ns)}"
    return f"no strategy keeps {_bounds(situation)} with {_many(situation.sources)}; nearest: {nearest}"


def below_knee(situation: Situation) -> Iterator[Advice]:
    """How many addresses keep programs quick that can do nothing but bind to one, as nginx."""
    room = int(BELOW_KNEE * situation.first_half)
    room *= situation.spaces() // situation.sources
    is_past = situation.each() > situation.first_half and prefers_parity(situation, searching(situation))
    if not is_past or not room or NO_PORT.name not in situation.options:
        return
    number = ceil(situation.taken() / room)
    if number > MOST_SOURCES:
        return
    found = code(replace(situation, sources=number), StrategySpec(BIND.name))
    yield Advice(
        "below-knee",
        f"if only the source address can be chosen: bind, from {number} addresses in turn",
        f"each then has {ceil(situation.taken() / number):,} ports in use, at most {BELOW_KNEE:.0%} of the way to"
        " its knee",
        {"nginx": found["nginx"]},
    )


def _many(sources: int) -> str:
    return "one source address" if sources == 1 else f"{sources} source addresses"


def _bounds(situation: Situation) -> str:
    budget = f"{situation.budget:.2%} errors"
    return budget if situation.slo is None else f"{budget} and {situation.slo.text}"
