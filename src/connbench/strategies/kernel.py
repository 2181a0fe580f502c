"""Strategies that leave the port to the kernel's default search: one parity of the range first, then the other."""

from __future__ import annotations

from random import Random

from connbench.linux.sockopts import NO_PORT
from connbench.model import PARAMETERS, PortRange, StrategySpec
from connbench.strategies.base import Draw, Recipe, Reserved, Strategy, numbers


def _plain(_spec: StrategySpec, _ports: PortRange, attempts: int, _rng: Random, _reserved: Reserved) -> Recipe:
    return Recipe(Draw.NOTHING, numbers([0]) * attempts, binds=False)


def _bind(_spec: StrategySpec, _ports: PortRange, attempts: int, _rng: Random, _reserved: Reserved) -> Recipe:
    return Recipe(Draw.NOTHING, numbers([0]) * attempts)


PLAIN = Strategy(
    name="plain",
    summary="connect() alone; the kernel chooses source and port",
    needs=(),
    takes=PARAMETERS["plain"],
    recipe=_plain,
)

BIND = Strategy(
    name="bind",
    summary="bind((source, 0)) without a port; connect() chooses it",
    needs=(NO_PORT,),
    takes=PARAMETERS["bind"],
    recipe=_bind,
)
