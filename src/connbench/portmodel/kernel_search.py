"""The kernel's port searches, TCP's and UDP's. They find the same port as the kernel's loop, without a step for each.

The ports of a range are the bytes of a line: FREE, IN_USE or RESERVED. A search finds the next free byte, and counts
the ports that the kernel's loop would probe on the way.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from array import array
from random import Random
from typing import Protocol

from connbench.model import PortRange

JITTER = 8
"""After fewer steps the next search begins a random number of steps on: get_random_u32_below(8), since Linux 5.12."""

U32, ALL_PORTS = 2**32, 2**16


IN_USE, FREE, RESERVED = range(3)
"""The state of a port. A search passes over reserved ports (net.ipv4.ip_local_reserved_ports), at a step each."""


def distance(line: bytearray, begin: int, first: int, end: int) -> int:
    """Steps from `first` to the next free place, wrapping at `end` to `begin`; -1 if none is free."""
    place = line.find(FREE, first, end)
    if place >= 0:
        return place - first
    place = line.find(FREE, begin, first)
    return place - begin + end - first if place >= 0 else -1


def reserved_within(line: bytearray, begin: int, first: int, end: int, steps: int) -> int:
    """The number of reserved places among the first `steps`, wrapping as in `distance`."""
    last = first + steps
    if last <= end:
        return line.count(RESERVED, first, last)
    return line.count(RESERVED, first, end) + line.count(RESERVED, begin, begin + last - end)


class BindBuckets:
    """The number of sockets on each port of a range, of all paths: the kernel keeps a bind bucket for each port in use.

    A search calls `__inet_check_established` only for ports that have one.
    """

    def __init__(self, ports: PortRange) -> None:
        self.low = ports.low
        self.sockets = array("I", bytes(4 * len(ports)))


class PortSpace(Protocol):
    """The ports of one path or source, and the search for a free one.

    Attributes:
        ports_probed: Ports that the last search probed.
        lookups: Lookups of sockets in the last search.
    """

    ports_probed: int
    lookups: int

    def search(self, low: int, high: int) -> int:
        """Choose a port from low to high, both included, as the kernel does; 0 if none is free."""

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
        step: 1 or 2.
        rng: Draws hash and entry, which a run cannot know, and the small random numbers.

    Attributes:
        start: Where the search begins, modulo the number of ports.
        step: The distance from a port that it probes to the next.
    """

    def __init__(self, buckets: BindBuckets, step: int, rng: Random) -> None:
        self.ports_probed = self.lookups = 0
        self.start, self.step = rng.getrandbits(32), step
        self._low, self._sockets, self._random = buckets.low, buckets.sockets, rng.random

    @abstractmethod
    def search(self, low: int, high: int) -> int:
        """See `PortSpace.search`."""

    @abstractmethod
    def take(self, port: int) -> bool:
        """See `PortSpace.take`."""

    @abstractmethod
    def release(self, port: int) -> None:
        """See `PortSpace.release`."""

    def _found(self, port: int, steps: int) -> int:
        """Record a search that found this port after a number of steps, and return the port."""
        bucket = port - self._low
        if self._sockets[bucket]:
            self.lookups += 1
        self._sockets[bucket] += 1
        self.start = (self.start + self._advance(steps)) % U32
        return port

    def _advance(self, steps: int) -> int:
        """How far a search of this many steps moves the start of the next one."""
        return (max(steps, int(self._random() * JITTER)) + 1) * self.step


class EveryPort(TcpPortSpace):
    """The search that goes from port to port: step 1."""

    def __init__(self, buckets: BindBuckets, reserved: frozenset[int], rng: Random) -> None:
        super().__init__(buckets, 1, rng)
        self._reserved = reserved
        self._line = bytearray([FREE]) * len(buckets.sockets)
        for port in reserved:
            self._line[port - self._low] = RESERVED

    def search(self, low: int, high: int) -> int:
        """See `PortSpace.search`."""
        line, begin, length = self._line, low - self._low, high - low + 1
        first = begin + self._offset() % length
        steps = distance(line, begin, first, begin + length)
        self.lookups = length if steps < 0 else steps
        self.ports_probed = self.lookups + (steps >= 0)
        if self._reserved:
            self.lookups -= reserved_within(line, begin, first, begin + length, self.lookups)
        if steps < 0:
            return 0
        place = first + steps
        if place >= begin + length:
            place -= length
        line[place] = IN_USE
        return self._found(self._low + place, steps)

    def _offset(self) -> int:
        """Where a search begins, before the modulus."""
        return self.start

    def take(self, port: int) -> bool:
        """See `PortSpace.take`; bind() can use a reserved port, because only searches pass over it."""
        place = port - self._low
        if self._line[place] == IN_USE:
            return False
        self._line[place] = IN_USE
        self._sockets[place] += 1
        return True

    def release(self, port: int) -> None:
        """See `PortSpace.release`."""
        self._line[port - self._low] = RESERVED if port in self._reserved else FREE
        self._sockets[port - self._low] -= 1


class EveryPortBefore42(EveryPort):
    """The search of Linux before 4.2: each search begins at the port after the one that the last search found."""

    def _advance(self, steps: int) -> int:
        return steps + 1


class EveryPortFrom42(EveryPort):
    """The search of Linux 4.2 to 4.5 (07f4c90062f8): the same, but it begins at an even distance from the low end."""

    def _offset(self) -> int:
        return self.start & ~1

    def _advance(self, steps: int) -> int:
        return (steps + 2) & ~1


class ParityFirst(TcpPortSpace):
    """The search with step 2: first through the parity of the low end, then through the other."""

    def __init__(self, buckets: BindBuckets, reserved: frozenset[int], rng: Random) -> None:
        super().__init__(buckets, 2, rng)
        self._reserved = reserved
        self._base = self._low & ~1
        places = (self._low + len(buckets.sockets) - self._base + 1) // 2
        self._lines = tuple(bytearray([FREE]) * places for _ in range(2))
        for port in reserved:
            self._lines[port & 1][(port - self._base) >> 1] = RESERVED

    def search(self, low: int, high: int) -> int:
        """See `PortSpace.search`.

        The kernel rounds an odd number of ports down to an even one. It then probes all ports of the first parity but
        one: the last, or the first if the search begins after it, because it goes on to the end before it wraps.
        """
        length = high - low + 1
        half = length // 2 or 1
        offset = self.start % (2 * half) // 2
        self.ports_probed = self.lookups = 0
        skipped = 1 if length % 2 and offset else 0
        port = self._walk(low, (low - self._base) // 2 + skipped, offset - skipped, half)
        if port or length == 1:
            return port
        return self._walk(low + 1, (low + 1 - self._base) // 2, offset, half)

    def _walk(self, low: int, begin: int, offset: int, half: int) -> int:
        """Search the ports of the parity of `low` once round, and add to the counts."""
        line, first, end = self._lines[low & 1], begin + offset, begin + half
        steps = distance(line, begin, first, end)
        passed = half if steps < 0 else steps
        self.ports_probed += passed + (steps >= 0)
        self.lookups += passed
        if self._reserved:
            self.lookups -= reserved_within(line, begin, first, end, passed)
        if steps < 0:
            return 0
        place = first + steps
        if place >= end:
            place -= half
        line[place] = IN_USE
        return self._found(self._base + 2 * place + (low & 1), steps)

    def take(self, port: int) -> bool:
        """See `PortSpace.take`."""
        line, place = self._lines[port & 1], (port - self._base) >> 1
        if line[place] == IN_USE:
            return False
        line[place] = IN_USE
        self._sockets[port - self._low] += 1
        return True

    def release(self, port: int) -> None:
        """See `PortSpace.release`."""
        self._lines[port & 1][(port - self._base) >> 1] = RESERVED if port in self._reserved else FREE
        self._sockets[port - self._low] -= 1


def tcp_port_spaces(
    ports: PortRange,
    number: int,
    rng: Random,
    *,
    has_parity: bool,
    reserved: frozenset[int] = frozenset(),
    every_port: type[EveryPort] = EveryPort,
) -> list[TcpPortSpace]:
    """Make the port spaces of a number of paths over one range; all ports are free.

    Args:
        ports: The range.
        number: The number of paths.
        rng: See `TcpPortSpace`.
        has_parity: Whether their searches probe all ports of one parity before the others.
        reserved: The reserved ports; those outside the range do not matter.
        every_port: Their search if no parity comes first.
    """
    buckets, inside = BindBuckets(ports), frozenset(port for port in reserved if port in ports)
    kind = ParityFirst if has_parity else every_port
    spaces: list[TcpPortSpace] = [kind(buckets, inside, rng) for _ in range(number)]
    return spaces


class UdpHashTable:
    """The hash table: the number of sockets in each slot, of all sources.

    Args:
        number: The number of slots: a power of two, 256 to 65,536.

    Raises:
        ValueError: It is another number.
    """

    def __init__(self, number: int) -> None:
        if number not in {2**power for power in range(8, 17)}:
            raise ValueError(f"{number} is not a number of hash slots: a power of two from 256 to 65536")
        self.sockets = [0] * number


class UdpPortSpace:
    """The ports of one source; see `connbench.portmodel.kernel_search.PortSpace`.

    `ports_probed` counts the ports that a search probes, `lookups` the sockets in the slots that it goes through.
    """

    def __init__(self, ports: PortRange, slots: UdpHashTable, reserved: frozenset[int], rng: Random) -> None:
        self.ports_probed = self.lookups = 0
        self._low, self._sockets, self._rng = ports.low, slots.sockets, rng
        self._reserved = frozenset(port for port in reserved if port in ports)
        self._line = bytearray([FREE]) * len(ports)
        for port in self._reserved:
            self._line[port - ports.low] = RESERVED

    def search(self, low: int, high: int) -> int:
        """See `PortSpace.search`."""
        slots = len(self._sockets)
        drawn = self._rng.getrandbits(32)
        first = (drawn * (high - low + 1) >> 32) + low
        passed = self._full_slots(low, high, first)
        self.ports_probed = passed * (ALL_PORTS // slots)
        self.lookups = self._sockets_of(first, min(passed + 1, slots))
        if passed == slots:
            return 0
        port = (first + passed) % ALL_PORTS
        self.ports_probed += 1
        while not (low <= port <= high and self._line[port - self._low] == FREE):
            port = (port + (drawn | 1) * slots) % ALL_PORTS
            self.ports_probed += 1
        self.take(port)
        return port

    def _full_slots(self, low: int, high: int, first: int) -> int:
        """The number of slots, from that of `first` on, without a free port from low to high; all if none has one.

        Ports of one slot are `slots` apart, so each stretch of that length has the slots in the same order. The
        stretch with the fewest slots before a free port decides.
        """
        slots, base = len(self._sockets), self._low
        fewest = slots
        begin = first - (first - low + slots - 1) // slots * slots
        while begin <= high and fewest:
            place = self._line.find(FREE, max(begin, low) - base, min(begin + fewest, high + 1) - base)
            if place >= 0:
                fewest = place + base - begin
            begin += slots
        return fewest

    def _sockets_of(self, first: int, number: int) -> int:
        """The number of sockets in a number of slots, from that of a port on."""
        slots = len(self._sockets)
        begin = first % slots
        end = begin + number
        return sum(self._sockets[begin:end]) + sum(self._sockets[: max(0, end - slots)])

    def take(self, port: int) -> bool:
        """See `PortSpace.take`."""
        if self._line[port - self._low] == IN_USE:
            return False
        self._line[port - self._low] = IN_USE
        self._sockets[port % len(self._sockets)] += 1
        return True

    def release(self, port: int) -> None:
        """See `PortSpace.release`."""
        self._line[port - self._low] = RESERVED if port in self._reserved else FREE
        self._sockets[port % len(self._sockets)] -= 1
