"""The kernel's port searches, TCP's and UDP's. They find the same port as the kernel's loop, without a step for each.

The ports of a range are the bytes of a line: FREE, IN_USE or RESERVED. A search finds the next free byte, and counts
the ports that the kernel's loop would probe on the way.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable
from math import gcd
from typing import ClassVar, Final, Protocol

from connbench.model import PortRange
from connbench.model.strategy import lower_half
from connbench.portmodel.algorithm import Algorithm

JITTER_SHIFT = 29
"""32 random bits, shifted by this, are get_random_u32_below(8): after a search of fewer steps than that number, the
next search begins so many steps on (Linux 5.12)."""

GOLDEN_RATIO = 0x9E3779B1
"""2^32 divided by the golden ratio: the product of a random number with it, modulo 2^32, is another one (Knuth)."""

U32_BITS = 32
U32: Final = 2**U32_BITS
ALL_PORTS = 2**16


IN_USE, FREE, RESERVED = range(3)
"""The state of a port. A search passes over reserved ports (net.ipv4.ip_local_reserved_ports), at a step each."""


def reserved_within(line: bytearray, begin: int, first: int, end: int, steps: int) -> int:
    """The number of reserved places among `steps` places from `first` on, wrapping at `end` to `begin`."""
    last = first + steps
    if last <= end:
        return line.count(RESERVED, first, last)
    return line.count(RESERVED, first, end) + line.count(RESERVED, begin, begin + last - end)


def random_step(drawn: int, width: int, places: int) -> int:
    """The distance from one probe to the next with net.ipv4.ip_local_port_step_width, after Linux 7.0 (7da62262ec96).

    It is drawn for each search, from 1 to the width, and is coprime with the number of places, so that as many probes
    reach every place.

    Args:
        drawn: The random number of the search, 32 bits. The highest three belong to the jitter.
        width: The value of the sysctl, 1 or more.
        places: The ports that are walked: of one parity, or all.
    """
    most = min(width, places)
    step: int = 1 + ((drawn << U32_BITS - JITTER_SHIFT) % U32 * most >> U32_BITS)
    while gcd(step, places) != 1:
        step += 1
        if step % 2 == places % 2 == 0:
            step += 1
        if step > most:
            step = 1
    return step


class BindBuckets:
    """The number of sockets on each port of a range, of all paths: the kernel keeps a bind bucket for each port in use.

    A search calls `__inet_check_established` only for ports that have one.
    """

    def __init__(self, ports: PortRange) -> None:
        self.low = ports.low
        self.sockets = [0] * len(ports)


class PortSpace(Protocol):
    """The ports of one path or source, and the search for a free one.

    Attributes:
        ports_probed: Ports that the last search probed.
        lookups: Lookups of sockets in the last search.
    """

    ports_probed: int
    lookups: int

    def search(self, low: int, high: int, drawn: int) -> int:
        """Choose a port from low to high, both included, as the kernel does; 0 if none is free.

        `drawn` is the random number that the kernel draws for this search, 32 bits.
        """

    def take(self, port: int) -> bool:
        """Put this port in use, as bind() to it does; False if it is not free."""

    def release(self, port: int) -> None:
        """Make a port free that was in use."""


class TcpPortSpace(ABC):
    """What all orders of connect()'s search have in common: where a search begins, and where the next one will begin.

    The kernel begins at a hash of source and target plus an entry of a table. After each port found, the entry grows by
    the steps of the search, or by a small random number if that is more: the next search for the target goes on from
    there (RFC 6056, algorithm 4). The model has no two paths that share one of the 65,536 entries of the table.

    Args:
        buckets: The buckets of the range, shared by all paths.
        reserved: The reserved ports of the range.
        start: Hash and entry, 32 bits, which a run cannot know.
        width: net.ipv4.ip_local_port_step_width; 0 for searches that go from port to port.

    Attributes:
        start: Where the search begins, modulo the number of ports.
        step: The distance from a port that it probes to the next: 1 or 2.
    """

    step: ClassVar[int]

    __slots__ = ("_low", "_reserved", "_sockets", "_width", "lookups", "ports_probed", "start")

    def __init__(self, buckets: BindBuckets, reserved: frozenset[int], start: int, width: int = 0) -> None:
        self.ports_probed = self.lookups = 0
        self.start, self._reserved, self._width = start, reserved, width
        self._low, self._sockets = buckets.low, buckets.sockets

    @abstractmethod
    def search(self, low: int, high: int, drawn: int) -> int:
        """See `PortSpace.search`."""

    @abstractmethod
    def _place(self, port: int) -> tuple[bytearray, int]:
        """The line and the place of a port in it."""

    def _walk(self, line: bytearray, bounds: tuple[int, int], first: int, drawn: int) -> tuple[int, int]:
        """Find a free place once round, and add to the counts what is probed; the place found is not probed yet.

        Args:
            line: The places.
            bounds: The first place of the round, and the one after the last.
            first: The place where it begins.
            drawn: The random number of the search.

        Returns:
            The place, negative if none is free, and the number of probes before it.
        """
        begin, end = bounds
        places = end - begin
        if self._width and places > 1 and line.find(FREE, begin, end) >= 0:
            distance, place, steps, passed = random_step(drawn, self._width, places), first - begin, 0, 0
            while line[begin + place] != FREE:
                steps, passed = steps + 1, passed + (line[begin + place] == RESERVED)
                place = (place + distance) % places
            place += begin
        else:
            place = line.find(FREE, first, end)
            steps = place - first
            if place < 0:
                place = line.find(FREE, begin, first)
                steps = places if place < 0 else place - first + places
            passed = reserved_within(line, begin, first, end, steps) if self._reserved else 0
        self.lookups += steps - passed
        self.ports_probed += steps
        return place, steps

    def take(self, port: int) -> bool:
        """See `PortSpace.take`; bind() can use a reserved port, because only searches pass over it."""
        line, place = self._place(port)
        if line[place] == IN_USE:
            return False
        line[place] = IN_USE
        self._sockets[port - self._low] += 1
        return True

    def release(self, port: int) -> None:
        """See `PortSpace.release`."""
        line, place = self._place(port)
        line[place] = RESERVED if port in self._reserved else FREE
        self._sockets[port - self._low] -= 1


class EveryPort(TcpPortSpace):
    """The search that goes from port to port."""

    step = 1
    grain: ClassVar[int] = 1
    """Searches begin at a multiple of this distance from the low end, a power of two."""
    has_jitter: ClassVar[bool] = True
    """Whether a short search moves the start of the next one by a random number."""

    __slots__ = ("_line",)

    def __init__(self, buckets: BindBuckets, reserved: frozenset[int], start: int, width: int = 0) -> None:
        super().__init__(buckets, reserved, start, width)
        self._line = bytearray([FREE]) * len(buckets.sockets)
        for port in reserved:
            self._line[port - self._low] = RESERVED

    def search(self, low: int, high: int, drawn: int) -> int:
        """See `PortSpace.search`."""
        line, grain, begin, length = self._line, self.grain, low - self._low, high - low + 1
        self.ports_probed = self.lookups = 0
        first = begin + (self.start & -grain) % length
        place, steps = self._walk(line, (begin, begin + length), first, drawn)
        if place < 0:
            return 0
        self.ports_probed += 1
        line[place] = IN_USE
        if self._sockets[place]:
            self.lookups += 1
        self._sockets[place] += 1
        if self.has_jitter and steps < drawn >> JITTER_SHIFT:
            steps = drawn >> JITTER_SHIFT
        self.start = (self.start + (steps + grain & -grain)) % U32
        return self._low + place

    def _place(self, port: int) -> tuple[bytearray, int]:
        return self._line, port - self._low


class EveryPortBefore42(EveryPort):
    """The search of Linux before 4.2: each search begins at the port after the one that the last search found."""

    has_jitter = False
    __slots__ = ()


class EveryPortFrom42(EveryPort):
    """The search of Linux 4.2 to 4.5 (07f4c90062f8): the same, but it begins at an even distance from the low end."""

    grain = 2
    has_jitter = False
    __slots__ = ()


class ParityFirst(TcpPortSpace):
    """The search that goes first through the parity of the low end, then through the other."""

    step = 2

    __slots__ = ("_base", "_lines")

    def __init__(self, buckets: BindBuckets, reserved: frozenset[int], start: int, width: int = 0) -> None:
        super().__init__(buckets, reserved, start, width)
        self._base = self._low & ~1
        places = (self._low + len(buckets.sockets) - self._base + 1) // 2
        self._lines = tuple(bytearray([FREE]) * places for _ in range(2))
        for port in reserved:
            self._lines[port & 1][(port - self._base) >> 1] = RESERVED

    def search(self, low: int, high: int, drawn: int) -> int:
        """See `PortSpace.search`.

        The kernel rounds an odd number of ports down to an even one. It then probes all ports of the first parity but
        one: the last, or the first if the search begins after it, because it goes on to the end before it wraps.
        """
        length = high - low + 1
        half = length // 2 or 1
        offset = self.start % (2 * half) // 2
        self.ports_probed = self.lookups = 0
        skipped = 1 if length % 2 and offset else 0
        begin = ((low - self._base) >> 1) + skipped
        port = self._walk_parity(low, begin, offset - skipped, half, drawn)
        if port or length == 1:
            return port
        return self._walk_parity(low + 1, (low + 1 - self._base) >> 1, offset, half, drawn)

    def _walk_parity(self, low: int, begin: int, offset: int, half: int, drawn: int) -> int:
        """Search the ports of the parity of `low` once round, and add to the counts."""
        line = self._lines[low & 1]
        place, steps = self._walk(line, (begin, begin + half), begin + offset, drawn)
        if place < 0:
            return 0
        self.ports_probed += 1
        line[place] = IN_USE
        port = self._base + 2 * place + (low & 1)
        if self._sockets[port - self._low]:
            self.lookups += 1
        self._sockets[port - self._low] += 1
        jitter = drawn >> JITTER_SHIFT
        self.start = (self.start + 2 * (max(steps, jitter) + 1)) % U32
        return port

    def _place(self, port: int) -> tuple[bytearray, int]:
        return self._lines[port & 1], (port - self._base) >> 1


class SearchOfBind(ParityFirst):
    """The search of bind() to port 0 (`inet_csk_find_open_port`, Linux 4.6): the other parity than connect()'s first.

    Each search begins at a random port. A port in use by any socket of the same address is passed over, also if both
    have SO_REUSEADDR. With it, bind() first searches the lower half of the range, both parities of it.
    """

    begins_in_lower_half: ClassVar[bool] = False

    __slots__ = ()

    def __init__(self, buckets: BindBuckets, reserved: frozenset[int], start: int, _width: int = 0) -> None:
        super().__init__(buckets, reserved, start)  # net.ipv4.ip_local_port_step_width is for connect()'s search alone

    def search(self, low: int, high: int, drawn: int) -> int:
        """See `PortSpace.search`."""
        self.ports_probed = self.lookups = 0
        half = lower_half(high - low + 1)
        if not (self.begins_in_lower_half and half):
            return self._search_part(low, high, drawn)
        port = self._search_part(low, low + half - 1, drawn)
        return port or self._search_part(low + half, high, drawn * GOLDEN_RATIO % U32)

    def _search_part(self, low: int, high: int, drawn: int) -> int:
        """Search a part of the range; with an odd number of ports as `ParityFirst.search` does."""
        length = high - low + 1
        if length == 1:
            port = self._walk_parity(low, (low - self._base) >> 1, 0, 1, drawn)
            # The kernel's loop probes it for each parity.
            return port or self._walk_parity(low, (low - self._base) >> 1, 0, 1, drawn)
        half = length // 2
        offset = (drawn * (2 * half) >> U32_BITS) // 2
        port = self._walk_parity(low + 1, (low + 1 - self._base) >> 1, offset, half, drawn)
        if port:
            return port
        skipped = 1 if length % 2 and offset else 0
        return self._walk_parity(low, ((low - self._base) >> 1) + skipped, offset - skipped, half, drawn)


class SearchOfBindByHalves(SearchOfBind):
    """The same with SO_REUSEADDR."""

    begins_in_lower_half = True
    __slots__ = ()


EVERY_PORT_ALWAYS = {Algorithm.PRE_4_2: EveryPortBefore42, Algorithm.FROM_4_2: EveryPortFrom42}
"""The searches of kernels that never prefer a parity. They have no IP_LOCAL_PORT_RANGE."""


def search_of_connect(algorithm: Algorithm, *, has_option: bool) -> type[EveryPort | ParityFirst]:
    """The search of connect(); `has_option` says whether the socket has IP_LOCAL_PORT_RANGE set."""
    if algorithm.prefers_parity(has_option=has_option):
        return ParityFirst
    return EVERY_PORT_ALWAYS.get(algorithm, EveryPort)


def tcp_port_spaces(
    ports: PortRange,
    starts: Iterable[int],
    search: type[TcpPortSpace],
    *,
    reserved: frozenset[int] = frozenset(),
    step_width: int = 0,
) -> list[TcpPortSpace]:
    """Make the port spaces of some paths over one range; all ports are free.

    Args:
        ports: The range.
        starts: `TcpPortSpace.start` of each path.
        search: Their search: `ParityFirst`, `SearchOfBind`, ...
        reserved: The reserved ports; those outside the range do not matter.
        step_width: net.ipv4.ip_local_port_step_width, which kernels until 7.0 do not have: 0.
    """
    buckets, inside = BindBuckets(ports), frozenset(port for port in reserved if port in ports)
    return [search(buckets, inside, start, step_width) for start in starts]


class UdpHashTable:
    """The hash table: the number of sockets in each slot and in all, of all sources.

    Args:
        number: The number of slots: a power of two, 256 to 65,536.

    Raises:
        ValueError: It is another number.
    """

    def __init__(self, number: int) -> None:
        if number not in {2**power for power in range(8, 17)}:
            raise ValueError(f"{number} is not a number of hash slots: a power of two from 256 to 65536")
        self.sockets = [0] * number
        self.total = 0


class UdpPortSpace:
    """The ports of one source; see `connbench.portmodel.kernel_search.PortSpace`.

    `ports_probed` counts the ports that a search probes, `lookups` the sockets in the slots that it goes through.
    """

    def __init__(self, ports: PortRange, slots: UdpHashTable, reserved: frozenset[int]) -> None:
        self.ports_probed = self.lookups = 0
        self._low, self._table, self._sockets = ports.low, slots, slots.sockets
        self._reserved = frozenset(port for port in reserved if port in ports)
        self._line = bytearray([FREE]) * len(ports)
        for port in self._reserved:
            self._line[port - ports.low] = RESERVED

    def search(self, low: int, high: int, drawn: int) -> int:
        """See `PortSpace.search`."""
        line, sockets, slots, base = self._line, self._sockets, len(self._sockets), self._low
        port = (drawn * (high - low + 1) >> 32) + low
        if line[port - base] == FREE:
            self.ports_probed, self.lookups = 1, sockets[port % slots]
        else:
            passed = self._full_slots(low, high, port)
            self.ports_probed = passed * (ALL_PORTS // slots)
            self.lookups = self._sockets_of(port, min(passed + 1, slots))
            if passed == slots:
                return 0
            port = (port + passed) % ALL_PORTS
            steps, step = 1, (drawn | 1) * slots
            while not (low <= port <= high and line[port - base] == FREE):
                port = (port + step) % ALL_PORTS
                steps += 1
            self.ports_probed += steps
        line[port - base] = IN_USE
        sockets[port % slots] += 1
        self._table.total += 1
        return port

    def _full_slots(self, low: int, high: int, first: int) -> int:
        """The number of slots, from that of `first` on, without a free port from low to high; all if none has one.

        Ports of one slot are `slots` apart, so each stretch of that length has the slots in the same order. The
        stretch with the fewest slots before a free port decides.
        """
        slots, find, fewest = len(self._sockets), self._line.find, len(self._sockets)
        lowest, end = low - self._low, high + 1 - self._low
        begin = lowest - (low - first) % slots
        while begin < end and fewest:
            reach = begin + fewest
            place = find(FREE, begin if begin > lowest else lowest, reach if reach < end else end)  # noqa: FURB136  # hot: max() and min() take as long as the rest
            if place >= 0:
                fewest = place - begin
            begin += slots
        return fewest

    def _sockets_of(self, first: int, number: int) -> int:
        """The number of sockets in a number of slots, from that of a port on."""
        slots = len(self._sockets)
        if number > slots // 2:  # fewer are left out
            return self._table.total - self._sockets_of(first + number, slots - number)
        begin = first % slots
        end = begin + number
        within = sum(self._sockets[begin:end])
        return within + sum(self._sockets[: end - slots]) if end > slots else within

    def take(self, port: int) -> bool:
        """See `PortSpace.take`."""
        if self._line[port - self._low] == IN_USE:
            return False
        self._line[port - self._low] = IN_USE
        self._sockets[port % len(self._sockets)] += 1
        self._table.total += 1
        return True

    def release(self, port: int) -> None:
        """See `PortSpace.release`."""
        self._line[port - self._low] = RESERVED if port in self._reserved else FREE
        self._sockets[port % len(self._sockets)] -= 1
        self._table.total -= 1


class SharedUdpPortSpace(UdpPortSpace):
    """The ports of one source whose sockets all have SO_REUSEADDR or SO_REUSEPORT: none is in the way of another."""

    def search(self, low: int, high: int, drawn: int) -> int:
        """See `PortSpace.search`: the first port that is not reserved."""
        port = super().search(low, high, drawn)
        if port:
            self._line[port - self._low] = FREE
        return port

    def take(self, port: int) -> bool:
        """See `PortSpace.take`: it always succeeds."""
        self._sockets[port % len(self._sockets)] += 1
        self._table.total += 1
        return True
