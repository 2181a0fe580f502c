"""Strategies that confine the kernel's search with IP_LOCAL_PORT_RANGE: to a window of the range, or to all of it.

Setting the option at all selects, from Linux 6.8 on, a search without parity bias (commit 207184853dbd). A bound
outside the namespace's ip_local_port_range is ignored by the kernel, so windows are cut to the range here.
"""

from __future__ import annotations

from random import Random

from connbench.linux.sockopts import LOCAL_PORT_RANGE, NO_PORT, port_range_value
from connbench.model import PARAMETERS, Placement, PortRange, StrategySpec
from connbench.strategies.base import Draw, Recipe, Reserved, Strategy, numbers

_NEEDS = (NO_PORT, LOCAL_PORT_RANGE)


def _width(spec: StrategySpec) -> int:
    if spec.window is None:
        raise ValueError(f"{spec.name} needs a window")
    return spec.window


def _window(spec: StrategySpec, ports: PortRange, attempts: int, rng: Random, _reserved: Reserved) -> Recipe:
    width = _width(spec)
    # Clipped: every port lies under as many windows as any other, at the price of narrower windows at the ends.
    overhang = width - 1 if spec.placement is Placement.CLIPPED else 0
    lowest = ports.low - overhang
    offsets = len(ports) - width + 1 + 2 * overhang

    def draw(source: Random) -> int:
        start = lowest + int(source.random() * offsets)
        return port_range_value(max(start, ports.low), min(start + width - 1, ports.high))

    first = numbers(draw(rng) for _ in range(attempts))
    return Recipe(Draw.WINDOW, first, redraw=draw, max_tries=1 + (spec.retries or 0))


def _range(_spec: StrategySpec, ports: PortRange, attempts: int, _rng: Random, _reserved: Reserved) -> Recipe:
    return Recipe(Draw.WINDOW, numbers([port_range_value(ports.low, ports.high)]) * attempts)


def windows_of(ports: PortRange, width: int) -> list[PortRange]:
    """The range cut into consecutive windows of `width` ports; the last may be narrower."""
    starts = range(ports.low, ports.high + 1, width)
    return [PortRange(start, min(start + width - 1, ports.high)) for start in starts]


def _partition(spec: StrategySpec, ports: PortRange, attempts: int, _rng: Random, reserved: Reserved) -> Recipe:
    """As many attempts in each window as it has ports to give: the search passes over those that are reserved."""
    one_filling = numbers(
        port_range_value(window.low, window.high)
        for window in windows_of(ports, _width(spec))
        for port in range(window.low, window.high + 1)
        if port not in reserved
    ) or numbers([port_range_value(ports.low, ports.high)])  # all are reserved: every attempt fails, in whatever window
    fillings = -(-attempts // len(one_filling))
    return Recipe(Draw.WINDOW, (one_filling * fillings)[:attempts])


WINDOW = Strategy(
    name="window",
    summary="a random window of --window ports as IP_LOCAL_PORT_RANGE",
    needs=_NEEDS,
    takes=PARAMETERS["window"],
    recipe=_window,
)

RANGE = Strategy(
    name="range",
    summary="the whole range as IP_LOCAL_PORT_RANGE; unbiased from 6.8",
    needs=_NEEDS,
    takes=PARAMETERS["range"],
    recipe=_range,
)

PARTITION = Strategy(
    name="partition",
    summary="the range in windows of --window ports, each filled in turn",
    needs=_NEEDS,
    takes=PARAMETERS["partition"],
    recipe=_partition,
)
