"""What `connbench calibrate` measures: searches of every length up to the whole range, each where it takes no time."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from connbench.model import Load, Placement, Plan, PortRange, Profile, StrategySpec
from connbench.strategies import BASELINE, STRATEGIES, Window

SMALLEST = 2_048
"""Ports of the smallest range; each other has twice as many, and the last has all."""

HALF_FULL, FULL = (0.6, 0.9), 1.0
"""The levels: in the second half searches probe half of the range; in the full range they probe all of it, in vain."""

SAMPLES = 48
"""Attempts at a level: 48 searches of 28,256 ports take 0.1 s."""

FILLED_BY_WINDOWS = 3
"""Random windows fill the smallest range, one that has four times as many ports, and the whole one."""

WINDOW_PORTS = 500
"""Ports of a window, if the range has eight windows."""


def measured_plans(whole: Plan) -> Iterator[Plan]:
    """The plans, from the smallest range to the whole one.

    The default search is measured by a profile of each range: filling its second half takes minutes. The other
    searches of connect() are short until their range is nearly full, so those fill it: the whole range, and random
    windows also a range in a CPU's cache. A profile of two ranges measures the search of bind(): its cost of a port is
    fitted as a multiple of connect()'s.

    Args:
        whole: A plan over the whole range, of any strategy.
    """
    every, random = (_strategy_with(kind) for kind in (Window.RANGE, Window.RANDOM))
    ports = len(whole.port_range)
    sizes = [size for size in (SMALLEST << power for power in range(17)) if size < ports] + [ports]
    for size in sizes:
        levels = HALF_FULL if size < ports else (*HALF_FULL, FULL)
        spec = StrategySpec(BASELINE.name, load=Load(profile=Profile(levels, SAMPLES)))
        yield _over(whole, size, spec)
    in_bind = next(one.name for one in STRATEGIES.values() if one.searches_in_bind)
    for size in (sizes[len(sizes) // 2], ports):
        yield _over(whole, size, StrategySpec(in_bind, load=Load(profile=Profile(HALF_FULL[:1], SAMPLES))))
    yield _over(whole, ports, StrategySpec(every))
    one_port = StrategySpec(random, 1, Placement.INSIDE, 0, Load(profile=Profile(HALF_FULL[:1], SAMPLES)))
    yield _over(whole, sizes[0], one_port)
    for size in dict.fromkeys((*sizes[0:FILLED_BY_WINDOWS:2], ports)):
        width = max(1, min(WINDOW_PORTS, size // 8))
        yield _over(whole, size, StrategySpec(random, width, Placement.INSIDE, 0))


def _strategy_with(window: Window) -> str:
    """The name of the strategy that gives IP_LOCAL_PORT_RANGE this."""
    return next(one.name for one in STRATEGIES.values() if one.window is window)


def _over(whole: Plan, size: int, spec: StrategySpec) -> Plan:
    low = whole.port_range.low
    return replace(whole, strategies=(spec,), connections=size, port_range=PortRange(low, low + size - 1))
