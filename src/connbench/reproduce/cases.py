"""What `connbench reproduce` runs: the talk's measurements in full, or scaled to a small range."""

from __future__ import annotations

from dataclasses import dataclass, replace

from connbench.model import DEFAULT_RANGE_LOW, MAX_PORT, Load, Placement, Plan, PortRange, StrategySpec
from connbench.strategies import BIND, PARTITION, PLAIN, RANDOM, RANGE, WINDOW

FULL_RANGE = PortRange(DEFAULT_RANGE_LOW, MAX_PORT)
QUICK_RANGE = PortRange(DEFAULT_RANGE_LOW, DEFAULT_RANGE_LOW + 4095)

WINDOWS = (500, 1000, 5000, 10000)
FILLED = (1000, 5000)
SHARED, MOST_SOURCES = 70_000, 3
"""Connections the talk opened from one, two and three addresses."""


@dataclass(frozen=True, slots=True)
class Case:
    """One row: the strategy to measure, and the key of the talk's run it stands beside, if the talk has one."""

    spec: StrategySpec
    published: str | None


def cases(ports: PortRange) -> tuple[Case, ...]:
    """The talk's measurements over `ports`; windows are the same share of the range as they were of the talk's."""

    def scaled(window: int) -> int:
        return round(window * len(ports) / len(FULL_RANGE))

    one_address = (
        Case(StrategySpec(PLAIN.name), PLAIN.name),
        Case(StrategySpec(BIND.name), PLAIN.name),
        Case(StrategySpec(RANDOM.name), None),
        *(Case(StrategySpec(WINDOW.name, scaled(w), Placement.INSIDE, 0), f"{WINDOW.name}-{w}") for w in WINDOWS),
        *(
            Case(StrategySpec(PARTITION.name, scaled(w), load=Load(connections=scaled(w))), f"{PARTITION.name}-{w}")
            for w in FILLED
        ),
        Case(StrategySpec(RANGE.name), RANGE.name),
    )
    return (
        *(replace(case, spec=replace(case.spec, load=replace(case.spec.load, sources=1))) for case in one_address),
        *(
            Case(StrategySpec(BIND.name, load=Load(scaled(SHARED), sources=n)), None)
            for n in range(1, MOST_SOURCES + 1)
        ),
    )


def cases_of(plan: Plan) -> tuple[Case, ...]:
    """Those that a reproduction's plan has: all that this kernel supports."""
    return tuple(case for case in cases(plan.port_range) if case.spec in plan.strategies)
