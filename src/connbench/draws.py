"""What is settled of a round before anything is measured: each row's path, the row it replaces, its port or window.

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
"""Without `--retries` an attempt gives up after 20 tries a port of the range: one free port is missed once in e^20."""

MOST_DRAWS = 1000
"""Ports that a program draws for a connection before it gives up, as the code that `advise` prints does: it cannot know
that none is left. Attempts that the engine knows to be hopeless end after as many, and so cost what a program pays."""

Reserved = frozenset[int]
"""Ports that the kernel's search passes over: net.ipv4.ip_local_reserved_ports of the namespace."""

Redraw = Callable[[Random], int]
"""Draws the number of a further try."""


@dataclass(frozen=True, slots=True)
class Draws:
    """The number of each try: a port where the strategy draws ports, a value of IP_LOCAL_PORT_RANGE where it sets that.

    Where it does neither, the number is 0, and nobody reads it.

    Attributes:
        first: The number of each attempt's first try, drawn before anything is measured: the same seed gives the same
            windows and ports, however attempts end.
        redraw: Draws the number of a further try.
        max_tries: Tries an attempt may take.
    """

    first: array[int]
    redraw: Redraw
    max_tries: int


def draw(spec: StrategySpec, ports: PortRange, attempts: int, rng: Random, reserved: Reserved = frozenset()) -> Draws:
    """Draw for a number of attempts over one range.

    Args:
        spec: The strategy.
        ports: The range.
        attempts: How many numbers to draw beforehand.
        rng: Draws them.
        reserved: Ports that the kernel's search passes over.

    Raises:
        ValueError: The strategy takes windows, and `spec` does not say how many ports one has.
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
    # Clipped: every port lies under as many windows as any other, at the price of narrower windows at the ends.
    overhang = width - 1 if spec.placement is Placement.CLIPPED else 0
    lowest = ports.low - overhang
    offsets = len(ports) - width + 1 + 2 * overhang

    def redraw(rng: Random) -> int:
        start = lowest + int(rng.random() * offsets)
        return port_range_value(max(start, ports.low), min(start + width - 1, ports.high))

    return redraw


def _fixed_numbers(spec: StrategySpec, ports: PortRange, reserved: Reserved) -> Iterable[int]:
    """The numbers of a strategy that leaves nothing to chance, one attempt after the other, without end."""
    if not spec.traits.sets_port_range:
        return repeat(0)
    whole = port_range_value(ports.low, ports.high)
    if spec.traits.window is not Window.CONSECUTIVE:
        return repeat(whole)
    # Each window gets as many attempts as the search finds ports in it: it passes over those that are reserved.
    one_filling = _numbers(
        port_range_value(window.low, window.high)
        for window in windows_of(ports, _width(spec))
        for port in range(window.low, window.high + 1)
        if port not in reserved
    )
    return cycle(one_filling or (whole,))  # where all are reserved, every attempt fails, in whatever window


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

    Spread.FILL gives each source, or each path where ports are per target, as many attempts as it has ports, and the
    last one those that find no port in any.

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
        reserved: Ports that the kernel's search passes over.
    """
    filling, churning = path_by_row[: plan.connections], path_by_row[plan.connections :]
    fill = _draw_phase(plan, filling, array("I"), "first tries", reserved)
    if not plan.replacements:
        return fill
    churn = _draw_phase(plan, churning, filling, "churn", reserved)
    return replace(fill, first=fill.first + churn.first)


def _draw_phase(plan: RoundPlan, paths: array[int], before: array[int], stream: str, reserved: Reserved) -> Draws:
    """Draw for the attempts of a phase, one port space after the other.

    Consecutive windows go on where the attempts on the paths of `before` left off.
    """
    rng = Random(plan.seed_text(stream))  # noqa: S311  # reproducible, not secret
    spaces = plan.spaces
    counts, earlier = (Counter(path % spaces for path in some) for some in (paths, before))
    # A space without an attempt draws nothing: thousands of sources and of targets are millions of spaces.
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
    """The row of the filling whose connection each row of the churn replaces: any of its client's, all as likely."""
    replaced = array("I")
    clients = zip(plan.rows_of_clients(Phase.FILL), plan.rows_of_clients(Phase.CHURN), strict=True)
    for client, (held, churning) in enumerate(clients):
        rng = Random(plan.seed_text(f"victims {client}"))  # noqa: S311  # reproducible, not secret
        replaced.extend(held.start + int(rng.random() * len(held)) for _ in churning)
    return replaced


def seed_further_tries(rng: Random, plan: RoundPlan, row: int) -> None:
    """Seed a generator for the further tries of a row.

    What it draws depends on seed, strategy, round, row and try alone. It does not depend on how many tries other rows
    took, for that is a matter of who won a port.
    """
    rng.seed(plan.seed_text(f"further tries of {row}"))
