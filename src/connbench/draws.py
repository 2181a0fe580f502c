"""The draws of a round: each attempt's path, port or window, and the connection that it replaces.

A draw is a pure function of a key, the row of the attempt and the number of the try: nothing is drawn ahead, and a
worker can begin at any row. The key stands for the seed, the strategy's parameters and the round. The functions here
take Python's whole numbers and numpy's arrays of uint64 alike; `engine/_loop.c` has the same ones in C.

A *path* is a source and a target, numbered with the sources changing fastest. A round's rows are those of the filling,
then those of the churn, where an attempt takes the path of the connection that it replaces. A *port space* is a whole
range of ports, each of which one connection can use: that of a path, or of a source; see `RoundPlan.spaces`.
"""

from __future__ import annotations

import struct
from array import array
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from enum import IntEnum
from functools import lru_cache
from itertools import chain, repeat
from typing import TYPE_CHECKING, Any, Self, TypeVar

from connbench.model import Link, Placement, PortRange, RoundPlan, Spread, StrategySpec, port_range_value
from connbench.model.strategy import lower_half
from connbench.strategies import Window

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    Numbers = TypeVar("Numbers", int, npt.NDArray[np.uint64])
    """A whole number from 0, or an array of them, uint64."""

UNBOUNDED_TRIES_PER_PORT = 20
"""Tries of an attempt without `--retries`, for each port of the range: they miss a single free port once in e^20."""

MOST_DRAWS = 1000
"""Ports that a program draws for a connection before it gives up, as in the code that `advise` prints: it cannot know
that no port is free. Where the engine knows it, an attempt ends after as many draws, and costs what a program pays."""

ROWS_AT_ONCE = 128
"""Rows that `Draws.first_numbers` draws at once: fewer take longer each, and more no less."""

MASK = 2**64 - 1
GAMMA, FIRST_FACTOR, SECOND_FACTOR = 0x9E3779B97F4A7C15, 0xBF58476D1CE4E5B9, 0x94D049BB133111EB
"""The constants of SplitMix64 (Steele, Lea and Flood: Fast Splittable Pseudorandom Number Generators, 2014)."""


def mix(key: int, row: Numbers, try_: Numbers | int = 0) -> Numbers:
    """64 random bits for a try, counted from 0, of a row: the output of SplitMix64 at the position `row` x 2^32 + try.

    Args:
        key: The key of the draws, the generator's seed.
        row: The row, or an array of rows.
        try_: The try, or an array of as many.
    """
    bits: Any = key + GAMMA * ((row << 32 | try_) + 1) & MASK
    bits = (bits ^ bits >> 30) * FIRST_FACTOR & MASK
    bits = (bits ^ bits >> 27) * SECOND_FACTOR & MASK
    mixed: Numbers = bits ^ bits >> 31
    return mixed


def below(bits: Numbers, number: int) -> Numbers:
    """A whole number from 0 to below `number`, all equally likely, from the high half of random bits."""
    drawn: Numbers = (bits >> 32) * number >> 32  # type: ignore[assignment]  # numpy's types call a product signed
    return drawn


def draw_first(key: int, rows: range, number: int, lowest: int, step: int) -> tuple[int, ...]:
    """`lowest + step * below(mix(key, row), number)` for some consecutive rows, in a quarter of the time.

    Each operation on a whole number costs Python some 30 ns, even if the number is small. So this makes the operations
    of `mix` and `below` once for all rows, on one long number. Each row has 128 bits of it, and its value is in the
    lower 64. The product of a value and a factor fits 128 bits, so it reaches no other row's. `mask` then keeps the
    lower 64 bits of each row, as MASK does for one, and removes what `>>` moves there from the row above.
    """
    ones, places, mask, low_half = _repeated(len(rows))
    # In each row's bits the position of its first try: key + GAMMA * ((row << 32) + 1).
    bits = ones * (key + GAMMA * ((rows.start << 32) + 1) & MASK) + places * (GAMMA << 32 & MASK) & mask
    bits = ((bits ^ bits >> 30) & mask) * FIRST_FACTOR & mask
    bits = ((bits ^ bits >> 27) & mask) * SECOND_FACTOR & mask
    drawn = ((bits ^ bits >> 31) >> 32 & low_half) * number >> 32 & low_half
    numbers = drawn * step + ones * lowest
    # As pairs of 64 bits, of which the upper one is 0.
    return struct.unpack(f"<{2 * len(rows)}Q", numbers.to_bytes(16 * len(rows), "little"))[::2]


@lru_cache(maxsize=2)
def _repeated(rows: int) -> tuple[int, int, int, int]:
    """Four long numbers with 128 bits for each row: 1, the position of the row, the low 64 bits set, the low 32."""
    ones = int.from_bytes((1).to_bytes(16, "little") * rows, "little")
    places = int.from_bytes(b"".join(row.to_bytes(16, "little") for row in range(rows)), "little")
    return ones, places, ones * MASK, ones * (2**32 - 1)


def key_of(text: str) -> int:
    """The key that stands for a text: its bytes mixed one after the other."""
    key = 0
    for byte in text.encode():
        key = mix(key, byte)
    return key


class Kind(IntEnum):
    """What the number of a try is."""

    NOTHING = 0
    """It has no meaning: the strategy draws nothing."""
    PORT = 1
    """A port, drawn at random."""
    WINDOW = 2
    """A value of IP_LOCAL_PORT_RANGE: a window at random."""
    FIXED = 3
    """A value of IP_LOCAL_PORT_RANGE without chance: one of `Draws.fixed`, in turn."""
    SEQUENTIAL = 4
    """A port of a list without chance. The loop knows the position in the list, and `Draws.port_at` the port."""


@dataclass(frozen=True, slots=True)
class Draws:
    """The draws of a round. `_loop.c` reads these attributes by their names.

    Attributes:
        kind: What the number of a try is.
        key: The key of the numbers.
        replaced_key: The key of the rows that the churn replaces.
        low: The lowest port that the program takes.
        count: The number of ports that it takes.
        stride: The distance from one of them to the next.
        first: Where kind is SEQUENTIAL: the place in the list of the port at position 0.
        width: The ports of a random window; else 0.
        overhang: How many ports of a random window may lie below the range, and above it. The loop cuts it to the
            range: the kernel ignores a bound outside ip_local_port_range.
        fixed: Where `kind` is FIXED: the value for each attempt in a port space, in turn.
        max_tries: The most tries of an attempt.
        paths: The number of paths.
        spaces: The number of port spaces; that of a path is the path modulo this number.
        ports_each: The number of ports of a space that an attempt can get.
        fills: Whether the attempts fill one port space after the other; else they take the paths in turn.
    """

    kind: Kind
    key: int
    replaced_key: int
    low: int
    count: int
    stride: int
    first: int
    width: int
    overhang: int
    fixed: Sequence[int] | npt.NDArray[np.unsignedinteger]
    max_tries: int
    paths: int
    spaces: int
    ports_each: int
    fills: bool

    @classmethod
    def of(cls, plan: RoundPlan, reserved: frozenset[int] = frozenset()) -> Self:
        """The draws of a round.

        Args:
            plan: The round.
            reserved: The ports that searches pass over: net.ipv4.ip_local_reserved_ports of the namespace.

        Raises:
            ValueError: The strategy needs windows, and the plan has no size for them; or no port fits its stride.
        """
        spec, ports = plan.strategy, plan.plan.port_range
        # Each client has one source behind a NAT, and the rows of the clients of a source follow one another.
        of_each = plan.connections // len(plan.sources) if plan.plan.link is Link.NAT else None
        numbers, kind = spec.port_numbers(ports), _kind_of(spec)
        width = (_width(spec) if spec.stride is None else 1) if kind is Kind.WINDOW else 0
        return cls(
            kind=kind,
            key=key_of(plan.seed_text("tries")),
            replaced_key=key_of(plan.seed_text("replaced")),
            low=numbers.start,
            count=len(numbers),
            stride=numbers.step,
            first=_place_in_list(numbers, spec.first_port),
            width=width,
            # Equally many windows cover each port; those over the ends are narrower for it.
            overhang=width - 1 if spec.placement is Placement.CLIPPED and width else 0,
            fixed=_fixed_values(spec, ports, reserved) if kind is Kind.FIXED else array("I"),
            max_tries=_max_tries(spec, len(numbers)),
            paths=len(plan.sources) * len(plan.plan.targets),
            spaces=len(plan.sources) if of_each else plan.spaces,
            ports_each=of_each or plan.ports_each,
            fills=bool(of_each) or plan.plan.spread is Spread.FILL,
        )

    def number(self, row: Numbers, try_: Numbers | int = 0) -> Numbers:
        """The number of a try, counted from 0: a port or a value of IP_LOCAL_PORT_RANGE; see `kind`.

        An array of rows needs `fixed` as an array of numpy, too. With SEQUENTIAL it is 0; see `port_at`.
        """
        if self.kind is Kind.PORT:
            port: Numbers = below(mix(self.key, row, try_), self.count) * self.stride + self.low
            return port
        if self.kind is Kind.WINDOW:
            return self._window(below(mix(self.key, row, try_), self._windows))
        if self.kind is Kind.FIXED:
            fixed: Any = self.fixed
            value: Numbers = fixed[self.rank(row) % len(self.fixed)]
            return value
        return row * 0

    def first_numbers(self, rows: range) -> Iterator[int]:
        """`number` for the first try of each row, in turn. It draws some rows at once, which is quicker."""
        if self.kind in {Kind.NOTHING, Kind.SEQUENTIAL}:
            return repeat(0, len(rows))
        if self.kind is Kind.FIXED:
            fixed, size = self.fixed, len(self.fixed)
            return (int(fixed[self.rank(row) % size]) for row in rows)
        if self.kind is Kind.PORT:
            how = self.count, self.low, self.stride
        elif self.overhang:
            how = self._windows, 0, 1
        else:
            how = (
                self._windows,
                self._window(0),
                port_range_value(self.stride, self.stride),
            )  # the lowest window, and the step to the next
        pieces = (rows[begin:][:ROWS_AT_ONCE] for begin in range(0, len(rows), ROWS_AT_ONCE))
        numbers = chain.from_iterable(draw_first(self.key, piece, *how) for piece in pieces)
        return map(self._window, numbers) if self.overhang else numbers

    def port_at(self, position: Numbers) -> Numbers:
        """The port at a position of the program's list, which begins again after its last port."""
        port: Numbers = (self.first + position) % self.count * self.stride + self.low
        return port

    def first_position(self, rows: range, space: int) -> int:
        """Where a client begins in its list of ports of a space: not where another client does.

        Args:
            rows: The rows that the client fills.
            space: The port space.
        """
        if self.fills and space != self.path(rows.start) % self.spaces:
            return 0
        return self.rank(rows.start)

    def at_level(self, plan: RoundPlan, in_use: int) -> Self:
        """The draws of the attempts at a level of a profile, of its round.

        A strategy without chance goes on as if so many of its attempts had been before. Where all ports are in use,
        the program gives up.
        """
        if self.kind is Kind.FIXED:
            return replace(self, fixed=array("I", (int(self.number(in_use * self.spaces)),)))
        if self.kind in {Kind.PORT, Kind.WINDOW} and plan.strategy.retries is None and in_use >= plan.capacity:
            return replace(self, max_tries=MOST_DRAWS)
        return self

    @property
    def _windows(self) -> int:
        """The number of windows at random."""
        return self.count - self.width + 1 + 2 * self.overhang

    def _window(self, offset: Numbers) -> Numbers:
        """The window at this offset from the lowest one, cut to the range, as a value of IP_LOCAL_PORT_RANGE."""
        overhang, last = self.overhang, self.count - 1
        # max() and min(), which numpy's arrays do not take.
        begin = (offset > overhang) * (offset - overhang)
        end = offset + (self.width - 1 - overhang)
        end = end - (end > last) * (end - last)
        begin, end = begin * self.stride + self.low, end * self.stride + self.low
        window: Numbers = begin | end << 16  # type: ignore[assignment]  # as above
        return window

    def path(self, row: Numbers) -> Numbers:
        """The path of a row of the filling.

        Where the attempts fill one port space after the other, each space gets as many as it has ports; the last one
        also gets those for which no port is left.
        """
        if not self.fills:
            return row % self.paths
        return self._filled(row) + self.spaces * (row % (self.paths // self.spaces))

    def rank(self, row: Numbers) -> Numbers:
        """How many earlier attempts have the row's port space; a row of the churn counts as one more of the filling."""
        if self.fills:
            return row - self._filled(row) * self.ports_each
        return row // self.spaces

    def _filled(self, row: Numbers) -> Numbers:
        """The port space of a row, where the attempts fill one after the other."""
        space, last = row // self.ports_each, self.spaces - 1
        return space - (space > last) * (space - last)

    def replaced(self, row: Numbers, filled: range) -> Numbers:
        """The row of the filling whose connection a row of the churn replaces, all equally likely.

        Args:
            row: The row of the churn, or an array of them.
            filled: The rows that the same client has filled.
        """
        return filled.start + below(mix(self.replaced_key, row), len(filled))


def _kind_of(spec: StrategySpec) -> Kind:
    strategy = spec.traits
    if strategy.chooses_port:
        return Kind.SEQUENTIAL if strategy.has_list else Kind.PORT
    if strategy.window is Window.RANDOM or spec.stride is not None:
        return Kind.WINDOW
    return Kind.FIXED if strategy.sets_port_range else Kind.NOTHING


def _max_tries(spec: StrategySpec, ports: int) -> int:
    if not spec.draws_again:
        return 1
    retries = spec.default_retries if spec.retries is None else spec.retries
    if retries is not None:
        return 1 + retries
    return ports if spec.traits.has_list else 1 + UNBOUNDED_TRIES_PER_PORT * ports


def _place_in_list(ports: range, first: int | None) -> int:
    """The place of the first port from `first` on, beginning again after the last; 0 without one."""
    if not ports:
        raise ValueError("the program can take no port")
    return 0 if first is None else -((ports.start - first) // ports.step) % len(ports)


def _fixed_values(spec: StrategySpec, ports: PortRange, reserved: frozenset[int]) -> array[int]:
    """The values of IP_LOCAL_PORT_RANGE of a strategy without chance, in turn."""
    whole = array("I", (port_range_value(ports.low, ports.high),))
    if spec.traits.window is not Window.CONSECUTIVE:
        return whole
    # Each window gets one attempt for each of its ports that is not reserved.
    one_filling = array(
        "I",
        (
            port_range_value(window.low, window.high)
            for window in windows_of(ports, _width(spec))
            for port in range(window.low, window.high + 1)
            if port not in reserved
        ),
    )
    return one_filling or whole  # if all are reserved, attempts fail in every window


def order_of_ports(plan: RoundPlan, kernel: str) -> array[int]:
    """The number of each port of the range, in an order in which the strategy may put them in use.

    Where the search tries one parity first, the ports of that parity come first; where windows are filled one after the
    other, those of the first window. Among these the order is that of searches, or random where the program draws. It
    follows from the seed. The order matters: neighbours whose sockets were made at about the same time are close in
    memory, and a search of 28,256 ports in random order takes a quarter longer.

    Args:
        plan: The round.
        kernel: The kernel's release.

    Returns:
        The ports, if bind() puts one in use; else the values of IP_LOCAL_PORT_RANGE that leave the search one port.
    """
    spec, ports, key = plan.strategy, plan.plan.port_range, key_of(plan.seed_text("order"))
    every, step = spec.port_numbers(ports), 2 if spec.walks_parities(kernel) else 1
    if spec.traits.has_list:
        begin = _place_in_list(every, spec.first_port)
        in_order = [*every[begin:], *every[:begin]]
    elif spec.traits.searches_in_bind:
        halves = _halves_of(every) if spec.searches_by_halves else (every,)
        parts = (half[first::step] for half in halves for first in reversed(range(step)))
        in_order = [port for part in parts for port in sorted(part, key=lambda port: mix(key, port))]
    elif spec.draws_again:  # windows at random leave ports of both parities, whatever the search does within each
        in_order = sorted(every, key=lambda port: mix(key, port))
    else:
        width = _width(spec) if spec.traits.window is Window.CONSECUTIVE else len(ports)
        windows = (every[begin : begin + width] for begin in range(0, len(ports), width))
        in_order = [port for w in windows for first in range(step) for port in _in_order_of_search(w[first::step], key)]
    if not spec.traits.chooses_port and (reserved := spec.load.reserved):  # a search passes over them
        in_order = [port for port in in_order if port not in reserved]
    return array("I", in_order if spec.traits.binds_to_port else (port_range_value(port, port) for port in in_order))


def _halves_of(ports: range) -> tuple[range, ...]:
    """The halves of a range that bind() searches one after the other if SO_REUSEADDR is set."""
    half = lower_half(len(ports))
    return (ports[:half], ports[half:]) if half else (ports,)


def _in_order_of_search(ports: range, key: int) -> Iterator[int]:
    """The ports in an order in which the kernel's search takes them (`__inet_hash_connect`).

    A search begins behind the port at which the last one ended, or up to 7 ports behind where that one began, if that
    is farther.
    """
    begin = below(mix(key, ports.start), len(ports)) if ports else 0
    left, taken = list(range(len(ports))), 0
    while left:
        passed: list[int] = []
        for place in left:
            if place < begin:
                passed.append(place)
            else:
                yield ports[place]
                taken += 1
                begin = max(place, begin + below(mix(key, ports.start, taken), 8)) + 1
        left, begin = passed, max(0, begin - len(ports))


def _width(spec: StrategySpec) -> int:
    if spec.window is None:
        raise ValueError(f"{spec.name} needs a window")
    return spec.window


def windows_of(ports: PortRange, width: int) -> list[PortRange]:
    """The range cut into consecutive windows of `width` ports; the last may be narrower."""
    starts = range(ports.low, ports.high + 1, width)
    return [PortRange(start, min(start + width - 1, ports.high)) for start in starts]
