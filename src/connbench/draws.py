"""The draws of a round, all before the measurement: each row's path, the row that it replaces, its port or window.

A *path* is a source and a target, numbered with the sources changing fastest. A round's rows are those of the filling,
then those of the churn, where an attempt takes the path of the connection that it replaces. A *port space* is a whole
range of ports, each of which one connection can use: that of a path, or of a source; see `RoundPlan.spaces`.
"""

from __future__ import annotations

from array import array
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from itertools import cycle, islice, repeat
from random import Random

from connbench.model import Phase, Placement, PortRange, RoundPlan, Spread, StrategySpec, port_range_value
from connbench.strategies import Window

UNBOUNDED_TRIES_PER_PORT = 20
"""Tries of an attempt without `--retries`, for each port of the range: they miss a single free port once in e^20."""

MOST_DRAWS = 1000
"""Ports that a program draws for a connection before it gives up, as in the code that `advise` prints: it cannot know
that no port is free. Where the engine knows it, an attempt ends after as many draws, and costs what a program pays."""

Reserved = frozenset[int]
"""The ports that searches pass over: net.ipv4.ip_local_reserved_ports of the namespace."""

Redraw = Callable[[Random], int]
"""Draws the number of a further try."""


@dataclass(frozen=True, slots=True)
class Draws:
    """The number of each try: a port if the strategy draws ports, a value of IP_LOCAL_PORT_RANGE if it sets that.

    Other strategies have the number 0, which has no meaning.

    Attributes:
        first: The number of each attempt's first try. The same seed gives the same windows and ports, whatever becomes
            of the attempts.
        redraw: Draws the number of a further try.
        max_tries: The most tries of an attempt.
    """

    first: array[int]
    redraw: Redraw
    max_tries: int


def draw(spec: StrategySpec, ports: PortRange, attempts: int, rng: Random, reserved: Reserved = frozenset()) -> Draws:
    """Draw for a number of attempts over one range.

    Args:
        spec: The strategy.
        ports: The range.
        attempts: The number of attempts.
        rng: The generator of their first numbers.
        reserved: The ports that searches pass over.

    Raises:
        ValueError: The strategy needs windows, and `spec` has no size for them.
    """
    strategy = spec.traits
    if not strategy.draws_again:
        return Draws(_numbers(islice(_fixed_numbers(spec, ports, reserved), attempts)), _never, 1)
    redraw = _draw_port(ports) if strategy.draws_port else _draw_window(spec, ports)
    retries = strategy.default_retries if spec.retries is None else spec.retries
    retries = UNBOUNDED_TRIES_PER_PORT * len(ports) if retries is None else retries
    return Draws(_numbers(redraw(rng) for _ in range(attempts)), redraw, 1 + retries)


def _never(_rng: Random) -> int:
    raise AssertionError("an attempt of one try never draws again")


def _draw_port(ports: PortRange) -> Redraw:
    low, count = ports.low, len(ports)
    return lambda rng: low + int(rng.random() * count)


def _draw_window(spec: StrategySpec, ports: PortRange) -> Redraw:
    """Draw windows and cut them to the range: the kernel ignores a bound outside ip_local_port_range."""
    width = _width(spec)
    # Clipped: equally many windows cover each port; those over the ends are narrower for it.
    overhang = width - 1 if spec.placement is Placement.CLIPPED else 0
    lowest = ports.low - overhang
    offsets = len(ports) - width + 1 + 2 * overhang

    def redraw(rng: Random) -> int:
        start = lowest + int(rng.random() * offsets)
        return port_range_value(max(start, ports.low), min(start + width - 1, ports.high))

    return redraw


def _fixed_numbers(spec: StrategySpec, ports: PortRange, reserved: Reserved) -> Iterable[int]:
    """The numbers of a strategy without chance, for one attempt after the other, without end."""
    if not spec.traits.sets_port_range:
        return repeat(0)
    whole = port_range_value(ports.low, ports.high)
    if spec.traits.window is not Window.CONSECUTIVE:
        return repeat(whole)
    # Each window gets one attempt for each of its ports that is not reserved.
    one_filling = _numbers(
        port_range_value(window.low, window.high)
        for window in windows_of(ports, _width(spec))
        for port in range(window.low, window.high + 1)
        if port not in reserved
    )
    return cycle(one_filling or (whole,))  # if all are reserved, attempts fail in every window


def _width(spec: StrategySpec) -> int:
    if spec.window is None:
        raise ValueError(f"{spec.name} needs a window")
    return spec.window


def windows_of(ports: PortRange, width: int) -> list[PortRange]:
    """The range cut into consecutive windows of `width` ports; the last may be narrower."""
    starts = range(ports.low, ports.high + 1, width)
    return [PortRange(start, min(start + width - 1, ports.high)) for start in starts]


def _numbers(values: Iterable[int]) -> array[int]:
    """Drawn numbers, 4 bytes each: enough for a port and for a value of IP_LOCAL_PORT_RANGE."""
    return array("I", values)


def assign_paths(plan: RoundPlan, replaced: array[int]) -> array[int]:
    """The path of each row.

    With Spread.FILL each port space gets as many attempts as it has ports; the last one also gets those for which no
    port is left.

    Args:
        plan: The round.
        replaced: The row that each row of the churn replaces, from `draw_replaced`.
    """
    ports, paths = plan.ports_each, len(plan.sources) * len(plan.plan.targets)
    rows = range(plan.connections)
    if plan.plan.spread is Spread.ROUND_ROBIN:
        path_by_row = array("I", (row % paths for row in rows))
    else:
        spaces = plan.spaces
        path_by_row = array("I", (min(row // ports, spaces - 1) + spaces * (row % (paths // spaces)) for row in rows))
    path_by_row.extend(path_by_row[row] for row in replaced)
    return path_by_row


def draw_round(plan: RoundPlan, path_by_row: array[int], reserved: Reserved = frozenset()) -> Draws:
    """Draw for all rows of a round, for each port space by itself.

    Args:
        plan: The round.
        path_by_row: From `assign_paths`.
        reserved: The ports that searches pass over.
    """
    filling, churning = path_by_row[: plan.connections], path_by_row[plan.connections :]
    fill = _draw_phase(plan, filling, array("I"), "first tries", reserved)
    if not plan.replacements:
        return fill
    churn = _draw_phase(plan, churning, filling, "churn", reserved)
    return replace(fill, first=fill.first + churn.first)


def _draw_phase(plan: RoundPlan, paths: array[int], before: array[int], stream: str, reserved: Reserved) -> Draws:
    """Draw for the attempts of a phase, one port space after the other.

    Consecutive windows go on after those of the attempts on the paths of `before`.
    """
    rng = Random(plan.seed_text(stream))  # noqa: S311  # reproducible, not secret
    spaces = plan.spaces
    counts, earlier = (Counter(path % spaces for path in some) for some in (paths, before))
    # A space without an attempt draws nothing: thousands of sources times thousands of targets are millions of spaces.
    by_space = {
        space: draw(plan.strategy, plan.plan.port_range, earlier[space] + counts[space], rng, reserved)
        for space in sorted(counts | earlier) or (0,)
    }
    firsts = {space: draws.first[earlier[space] :] for space, draws in by_space.items()}
    draws = next(iter(by_space.values()))
    if spaces == 1:
        return replace(draws, first=firsts[0])
    left = {space: iter(first) for space, first in firsts.items()}
    return replace(draws, first=_numbers(next(left[path % spaces]) for path in paths))


def draw_replaced(plan: RoundPlan) -> array[int]:
    """For each row of the churn the row of the filling that it replaces: one of its client's, all equally likely."""
    replaced = array("I")
    clients = zip(plan.rows_of_clients(Phase.FILL), plan.rows_of_clients(Phase.CHURN), strict=True)
    for client, (held, churning) in enumerate(clients):
        rng = Random(plan.seed_text(f"victims {client}"))  # noqa: S311  # reproducible, not secret
        replaced.extend(held.start + int(rng.random() * len(held)) for _ in churning)
    return replaced


def seed_further_tries(rng: Random, plan: RoundPlan, row: int) -> None:
    """Seed a generator for the further tries of a row.

    Its draws depend on seed, strategy, round, row and try, and not on the tries of other rows: how many those take
    depends on which worker is first to use a port.
    """
    rng.seed(plan.seed_text(f"further tries of {row}"))
