"""The strategy that draws the port itself (RFC 6056, algorithm 2) and learns from bind() whether it is free."""

from __future__ import annotations

from random import Random

from connbench.model import PARAMETERS, PortRange, StrategySpec
from connbench.strategies.base import Draw, Recipe, Reserved, Strategy, numbers

UNBOUNDED_TRIES_PER_PORT = 20
"""Without `--retries` an attempt gives up after 20 tries a port of the range: one free port is missed once in e^20."""

MOST_DRAWS = 1000
"""Ports that a program draws for a connection before it gives up, as the code that `advise` prints does: it cannot know
that none is left. Attempts that the engine knows to be hopeless end after as many, and so cost what a program pays."""


def _random(spec: StrategySpec, ports: PortRange, attempts: int, rng: Random, _reserved: Reserved) -> Recipe:
    low, count = ports.low, len(ports)

    def draw(source: Random) -> int:
        return low + int(source.random() * count)

    retries = UNBOUNDED_TRIES_PER_PORT * count if spec.retries is None else spec.retries
    first = numbers(draw(rng) for _ in range(attempts))
    return Recipe(Draw.PORT, first, redraw=draw, max_tries=1 + retries)


RANDOM = Strategy(
    name="random",
    summary="bind((source, random port)), again until it has a port",
    needs=(),
    takes=PARAMETERS["random"],
    recipe=_random,
)
