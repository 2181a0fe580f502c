"""UDP's search, in bind() to port 0 or in connect() of an unbound socket: `udp_lib_get_port` (net/ipv4/udp.c).

The kernel hashes UDP sockets by port alone. Beginning at a random port, it goes from slot to slot; in each it notes
which ports its sockets have, then tries all of the slot's 65,536 / slots ports in an order of chance, an odd multiple
of the number of slots apart, those outside the range too.
"""

from __future__ import annotations

from random import Random

from connbench.model import PortRange
from connbench.portmodel.circle import FREE, RESERVED, TAKEN

ALL_PORTS = 2**16


class Slots:
    """The hash table: how many sockets each slot has, of whatever source.

    Args:
        number: Slots; a power of two, 256 to 65,536.

    Raises:
        ValueError: It is not.
    """

    def __init__(self, number: int) -> None:
        if number not in {2**power for power in range(8, 17)}:
            raise ValueError(f"{number} is not a number of hash slots: a power of two from 256 to 65536")
        self.sockets = [0] * number


class UdpPorts:
    """The ports of one source; see `connbench.portmodel.tcp.Ports`.

    `ports_probed` counts the ports a search tries, and `checked` the sockets of the slots it goes through.
    """

    def __init__(self, ports: PortRange, slots: Slots, reserved: frozenset[int], rng: Random) -> None:
        self.ports_probed = self.checked = 0
        self._low, self._sockets, self._rng = ports.low, slots.sockets, rng
        self._reserved = frozenset(port for port in reserved if port in ports)
        self._line = bytearray([FREE]) * len(ports)
        for port in self._reserved:
            self._line[port - ports.low] = RESERVED

    def search(self, low: int, high: int) -> int:
        """See `Ports.search`."""
        slots = len(self._sockets)
        drawn = self._rng.getrandbits(32)
        first = (drawn * (high - low + 1) >> 32) + low
        passed = self._full_slots(low, high, first)
        self.ports_probed = passed * (ALL_PORTS // slots)
        self.checked = self._sockets_of(first, min(passed + 1, slots))
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
        """Slots from that of `first` on without a free port of low to high; their number if none has one.

        Ports of one slot are `slots` apart: each stretch of that length has the slots in their order, and the one that
        comes to a free port first is the stretch that matters.
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
        """Sockets in so many slots, from that of a port on."""
        slots = len(self._sockets)
        begin = first % slots
        end = begin + number
        return sum(self._sockets[begin:end]) + sum(self._sockets[: max(0, end - slots)])

    def take(self, port: int) -> bool:
        """See `Ports.take`."""
        if self._line[port - self._low] == TAKEN:
            return False
        self._line[port - self._low] = TAKEN
        self._sockets[port % len(self._sockets)] += 1
        return True

    def release(self, port: int) -> None:
        """See `Ports.release`."""
        self._line[port - self._low] = RESERVED if port in self._reserved else FREE
        self._sockets[port % len(self._sockets)] -= 1
