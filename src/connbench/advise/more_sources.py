"""How many source addresses it takes where those there are do not do."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from math import ceil

from connbench.advise.candidates import find_candidates, prefers_parity, searching
from connbench.advise.instructions import code, use
from connbench.advise.scenario import AdviceItem, Candidate, Scenario, SufficientSources
from connbench.linux.sockopts import NO_PORT
from connbench.model import StrategySpec
from connbench.strategies import BIND, RANDOM
from connbench.units import duration

MOST_SOURCES = 4096
BELOW_KNEE = 0.9
"""Of half the range: closer to its end each search for one of the last ports of the parity is long."""

TRIED_SOURCES = 4
"""Numbers of sources tried, from the fewest that have ports enough."""


def _numbers(scenario: Scenario) -> list[int]:
    """Numbers of source addresses to try: the fewest that have ports enough and some more, up to below the knee."""
    a_source = scenario.spaces() // scenario.sources
    fewest = max(scenario.sources + 1, ceil(scenario.taken() / (scenario.free * a_source)))
    below_half = ceil(scenario.taken() / max(1, scenario.first_half * a_source))
    return sorted({*range(fewest, fewest + TRIED_SOURCES), max(fewest, below_half)})


def enough_sources(scenario: Scenario) -> SufficientSources | None:
    """The fewest of those numbers with which a strategy keeps budget and SLO."""
    for number in _numbers(scenario):
        candidates = find_candidates(replace(scenario, sources=number)) if number <= MOST_SOURCES else []
        if candidates and candidates[0].is_kept:
            return SufficientSources(number, tuple(candidates))
    return None


def more_sources(
    scenario: Scenario, candidates: Sequence[Candidate], sufficient: SufficientSources | None
) -> Iterator[AdviceItem]:
    """How many addresses it takes, if any number does."""
    why = _why_not(scenario, candidates)
    if sufficient:
        line = f"use {sufficient.sources} source addresses instead of {scenario.sources}"
        yield AdviceItem("sources", line, why)
        yield use(replace(scenario, sources=sufficient.sources), sufficient.candidates[0])
        return
    numbers = _numbers(scenario)
    tried_numbers = [str(number) for number in numbers if number <= MOST_SOURCES]
    if not tried_numbers:
        line = f"it takes {numbers[0]:,} source addresses or more"
        advised = "; more ports (--port-range) or targets take fewer"
    else:
        line = f"nothing keeps {_bounds(scenario)} with {', '.join(tried_numbers)} source addresses"
        advised = "; allow more errors (--error-budget) or more time (--slo)"
    yield AdviceItem("sources", line, why + advised)


def _why_not(scenario: Scenario, candidates: Sequence[Candidate]) -> str:
    """Why nothing does with the sources there are."""
    if not scenario.fits():
        waiting = scenario.waiting()
        of_them = f" ({scenario.connections:,} open, {waiting:,} in TIME_WAIT)" if waiting else ""
        return f"{scenario.taken():,} ports are needed{of_them}, and there are {scenario.capacity():,}"
    if not candidates:
        return (
            f"this kernel has no option to choose a source with and leave it the port, and {RANDOM.name} has"
            f" {len(scenario.longest_free):,} ports in a row that are not reserved, for {scenario.each(RANDOM):,}"
        )
    first = candidates[0]
    nearest = f"{first.spec.label}, {first.errors:.2%} errors, {duration(first.slo_ns)}"
    return f"no strategy keeps {_bounds(scenario)} with {_many(scenario.sources)}; nearest: {nearest}"


def below_knee(scenario: Scenario) -> Iterator[AdviceItem]:
    """How many addresses keep programs quick that can do nothing but bind to one, as nginx."""
    room = int(BELOW_KNEE * scenario.first_half)
    room *= scenario.spaces() // scenario.sources
    is_past = scenario.each() > scenario.first_half and prefers_parity(scenario, searching(scenario))
    if not is_past or not room or NO_PORT.name not in scenario.options:
        return
    number = ceil(scenario.taken() / room)
    if number > MOST_SOURCES:
        return
    found = code(replace(scenario, sources=number), StrategySpec(BIND.name))
    yield AdviceItem(
        "below-knee",
        f"if only the source address can be chosen: bind, from {number} addresses in turn",
        f"each then has {ceil(scenario.taken() / number):,} ports in use, at most {BELOW_KNEE:.0%} of the way to"
        " its knee",
        {"nginx": found["nginx"]},
    )


def _many(sources: int) -> str:
    return "one source address" if sources == 1 else f"{sources} source addresses"


def _bounds(scenario: Scenario) -> str:
    budget = f"{scenario.budget:.2%} errors"
    return budget if scenario.slo is None else f"{budget} and {scenario.slo.text}"
