"""The talk's measurements: what `connbench reproduce` measures again, and the figures that the talk published."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass, replace
from functools import cache
from importlib.resources import files

from connbench.model import DEFAULT_RANGE_LOW, MAX_PORT, Load, Placement, Plan, PortRange, StrategySpec
from connbench.strategies import BIND, PARTITION, PLAIN, RANDOM, RANGE, WINDOW
from connbench.units import NS_PER_MS, NS_PER_S

FULL_RANGE = PortRange(DEFAULT_RANGE_LOW, MAX_PORT)
QUICK_RANGE = PortRange(DEFAULT_RANGE_LOW, DEFAULT_RANGE_LOW + 4095)

WINDOWS = (500, 1000, 5000, 10000)
PARTITIONS = (1000, 5000)
"""Ports of each window of the talk's runs, over `FULL_RANGE`."""

FASTER = (WINDOW.name, RANGE.name)
"""The strategies that the talk found faster than connect() alone: the verdict gives a figure of each."""

CONNECTIONS_FROM_SEVERAL, MOST_SOURCES = 70_000, 3
"""Connections that the talk opened from one, two and three source addresses."""


@dataclass(frozen=True, slots=True)
class Case:
    """A strategy to measure, and the key of the talk's run to compare it with; None if the talk has none."""

    spec: StrategySpec
    published: str | None


def cases(ports: PortRange) -> tuple[Case, ...]:
    """The talk's measurements over `ports`; windows and connections are scaled from `FULL_RANGE` to this range."""

    def scaled(window: int) -> int:
        return round(window * len(ports) / len(FULL_RANGE))

    one_address = (
        Case(StrategySpec(PLAIN.name), PLAIN.name),
        Case(StrategySpec(BIND.name), PLAIN.name),
        Case(StrategySpec(RANDOM.name), None),
        *(Case(StrategySpec(WINDOW.name, scaled(w), Placement.INSIDE, 0), f"{WINDOW.name}-{w}") for w in WINDOWS),
        *(
            Case(StrategySpec(PARTITION.name, scaled(w), load=Load(connections=scaled(w))), f"{PARTITION.name}-{w}")
            for w in PARTITIONS
        ),
        Case(StrategySpec(RANGE.name), RANGE.name),
    )
    return (
        *(replace(case, spec=replace(case.spec, load=replace(case.spec.load, sources=1))) for case in one_address),
        *(
            Case(StrategySpec(BIND.name, load=Load(scaled(CONNECTIONS_FROM_SEVERAL), sources=n)), None)
            for n in range(1, MOST_SOURCES + 1)
        ),
    )


def cases_of(plan: Plan) -> tuple[Case, ...]:
    """The cases that the plan of a reproduction contains: those that its kernel supports."""
    return tuple(case for case in cases(plan.port_range) if case.spec in plan.strategies)


@dataclass(frozen=True, slots=True)
class PublishedParity:
    """The connections of one port parity that did not fail; times in ns."""

    count: int
    mean_ns: float


@dataclass(frozen=True, slots=True)
class Published:
    """One of the talk's runs as published; times in ns."""

    title: str
    attempts: int
    errored: int
    total_ns: float
    even: PublishedParity
    odd: PublishedParity

    @property
    def odd_to_even(self) -> float:
        """The mean time of odd ports divided by that of even ports."""
        return self.odd.mean_ns / self.even.mean_ns


@cache
def published() -> dict[str, Published]:
    """The talk's runs by their key in `talk.toml`."""
    text = files("connbench.reproduce").joinpath("talk.toml").read_text(encoding="utf-8")
    return {
        key: Published(
            title=run["title"],
            attempts=run["attempts"],
            errored=run["errored"],
            total_ns=run["total_s"] * NS_PER_S,
            even=_parity(run["even"]),
            odd=_parity(run["odd"]),
        )
        for key, run in tomllib.loads(text).items()
    }


def _parity(figures: dict[str, float]) -> PublishedParity:
    return PublishedParity(int(figures["n"]), figures["avg"] * NS_PER_MS)
