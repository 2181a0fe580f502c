"""Searches by distance against the kernel's loops, walked port by port."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from functools import partial
from itertools import islice
from math import gcd

import pytest
from hypothesis import given
from hypothesis import strategies as st

from connbench.model import PortRange
from connbench.portmodel.kernel_search import (
    ALL_PORTS,
    GOLDEN_RATIO,
    EveryPort,
    ParityFirst,
    SearchOfBind,
    SearchOfBindByHalves,
    UdpHashTable,
    UdpPortSpace,
    random_step,
    tcp_port_spaces,
)
from factories import unhurried
from reference_walk import Scan, Search, tcp_order, traced, udp_order

U32 = st.integers(0, 2**32 - 1)
"""What the kernel draws."""

Outcome = tuple[int, int, int]
"""Port, number of ports probed, and number of lookups for a socket."""


def test_walk_is_the_kernels() -> None:
    """Worked out by hand: the parity of the low end first, round within an even number of ports; or every port."""
    assert list(tcp_order(10, 15, 3, 1)) == [13, 14, 15, 10, 11, 12]
    assert list(tcp_order(10, 15, 3, 2)) == [12, 14, 10, 13, 15, 11]
    assert list(tcp_order(11, 15, 0, 2)) == [11, 13, 12, 14]
    assert list(tcp_order(11, 15, 2, 2)) == [13, 15, 14, 12]
    assert list(tcp_order(11, 11, 0, 2)) == list(tcp_order(11, 11, 0, 1)) == [11]


def test_udp_order_is_the_kernels() -> None:
    """Worked out by hand: from the drawn port on, slot by slot, and in each an odd multiple of the slots apart."""
    slots = 2**14
    order = list(udp_order(100, 102, 2, slots))
    assert order[:6] == [100, 100 + 3 * slots, 100 + 2 * slots, 100 + slots, 101, 101 + 3 * slots]
    assert sorted(order) == list(range(ALL_PORTS))
    assert list(islice(udp_order(100, 102, 2**31, slots), 2)) == [101, 101 + slots]


def test_trace_names_the_ports_of_a_search() -> None:
    """A search is told port by port up to the one it took, the second walk after the first; in vain, to the end."""
    [space] = tcp_port_spaces(PortRange(10, 13), [0], ParityFirst)
    space.start = 3
    assert traced(space, 10, 13) == Search((12,), 12)
    space.start = 3
    assert traced(space, 10, 13) == Search((12, 10), 10)
    space.start = 3
    assert traced(space, 10, 13) == Search((12, 10, 13), 13)
    space.start = 0
    assert traced(space, 10, 13) == Search((10, 12, 11), 11)
    space.start = 2
    assert traced(space, 10, 13) == Search((12, 10, 13, 11), 0)


def scan_of(drawn: int, width: int) -> Scan | None:
    """The distance of the model's search for a random number and a width; its own test says what it may be."""
    return partial(random_step, drawn, width) if width else None


@given(drawn=U32, width=st.integers(1, 2**32 - 1), places=st.integers(2, 30_000))
@unhurried
def test_a_random_step_reaches_every_port(drawn: int, width: int, places: int) -> None:
    """ip_local_port_step_width is the most; a step that shared a factor with the places would leave some out."""
    step = random_step(drawn, width, places)
    assert 1 <= step <= min(width, places)
    assert gcd(step, places) == 1


def test_random_steps_differ() -> None:
    """Of 7 places, coprime with all of 1 to 6, each step is drawn; a width of 1 leaves the order as it was."""
    drawn = [number * 2**29 // 997 for number in range(997)]
    assert {random_step(number, 6, 7) for number in drawn} == {1, 2, 3, 4, 5, 6}
    assert {random_step(number, 1, 7) for number in drawn} == {1}
    assert list(tcp_order(10, 23, 3, 2, lambda _: 3)) == [12, 18, 10, 16, 22, 14, 20, 13, 19, 11, 17, 23, 15, 21]


class Loop:
    """Paths whose connect() walks, with a bind bucket a port in use."""

    def __init__(self, starts: list[int], step: int, reserved: frozenset[int], width: int) -> None:
        self.starts, self.step, self.reserved, self.width = list(starts), step, reserved, width
        self.held: list[set[int]] = [set() for _ in starts]

    def search(self, path: int, low: int, high: int, drawn: int) -> Outcome:
        """Walk until a port is free."""
        half = max(1, (high - low + 1) // 2)
        buckets = Counter(port for held in self.held for port in held)
        ports_probed = lookups = 0
        scan = scan_of(drawn, self.width)
        for number, port in enumerate(tcp_order(low, high, self.starts[path], self.step, scan)):
            ports_probed += 1
            lookups += port not in self.reserved and buckets[port] > 0
            if port not in self.held[path] and port not in self.reserved:
                steps = number % half if self.step == 2 else number
                entry = max(steps, drawn * 8 >> 32) * self.step + self.step
                self.starts[path] = (self.starts[path] + entry) % 2**32
                self.held[path].add(port)
                return port, ports_probed, lookups
        return 0, ports_probed, lookups


@given(
    low=st.integers(100, 101),
    number=st.integers(1, 20),
    paths=st.integers(1, 2),
    step=st.integers(1, 2),
    width=st.sampled_from([0, 0, 1, 4, 1000]),
    data=st.data(),
)
@unhurried
def test_search_ends_as_the_kernels_loop_does(
    low: int, number: int, paths: int, step: int, width: int, data: st.DataObject
) -> None:
    """Windows of any size, several paths, reserved ports, and ports given up in between: port for port the same."""
    ports = PortRange(low, low + number - 1)
    reserved = frozenset(data.draw(st.sets(st.integers(ports.low, ports.high + 5), max_size=3)))
    starts = data.draw(st.lists(U32, min_size=paths, max_size=paths))
    searched = tcp_port_spaces(
        ports, starts, ParityFirst if step == 2 else EveryPort, reserved=reserved, step_width=width
    )
    walked = Loop(starts, step, reserved, width)
    for _ in range(data.draw(st.integers(1, 40))):
        path = data.draw(st.integers(0, paths - 1))
        first = data.draw(st.integers(ports.low, ports.high))
        last = data.draw(st.integers(first, ports.high))
        space, held, drawn = searched[path], walked.held[path], data.draw(U32)
        search = traced(space, first, last, drawn, scan_of(drawn, width))
        assert (search.port, space.ports_probed, space.lookups) == walked.search(path, first, last, drawn)
        assert search.port in {0, search.ports_probed[-1]}
        if held and data.draw(st.integers(0, 3)) == 0:
            given_up = data.draw(st.sampled_from(sorted(held)))
            held.remove(given_up)
            space.release(given_up)


def find_open_port(  # noqa: C901  # the kernel's function, too, is one loop
    ports: PortRange,
    draws: Iterator[int],
    in_use: set[int],
    reserved: frozenset[int],
    sockets: Counter[int],
    *,
    reuse: bool,
) -> Outcome:
    """The loop of `inet_csk_find_open_port` (net/ipv4/inet_connection_sock.c), line by line."""
    attempt_half, ports_probed, lookups = int(reuse), 0, 0
    while True:
        first, end = ports.low, ports.high + 1
        if end - first < 4:
            attempt_half = 0
        if attempt_half:
            half = first + ((end - first >> 2) << 1)
            first, end = (first, half) if attempt_half == 1 else (half, end)
        remaining = end - first
        if remaining > 1:
            remaining &= ~1
        offset = (next(draws) * remaining >> 32) | 1
        for start in (offset, offset - 1):
            port = first + start
            for _ in range(0, remaining, 2):
                if port >= end:
                    port -= remaining
                ports_probed += 1
                if port not in reserved:
                    lookups += sockets[port] > 0
                    if port not in in_use:
                        return port, ports_probed, lookups
                port += 2
        if attempt_half != 1:
            return 0, ports_probed, lookups
        attempt_half = 2


@given(
    low=st.integers(100, 101),
    number=st.integers(1, 20),
    sources=st.integers(1, 2),
    reuse=st.booleans(),
    data=st.data(),
)
@unhurried
def test_search_of_bind_ends_as_the_kernels_loop_does(
    low: int, number: int, sources: int, reuse: bool, data: st.DataObject
) -> None:
    """Ranges of any size, several sources, reserved ports, and ports given up in between: port for port the same."""
    ports = PortRange(low, low + number - 1)
    reserved = frozenset(data.draw(st.sets(st.integers(ports.low, ports.high + 5), max_size=3)))
    kind = SearchOfBindByHalves if reuse else SearchOfBind
    spaces = tcp_port_spaces(ports, [0] * sources, kind, reserved=reserved)
    held: list[set[int]] = [set() for _ in spaces]
    for _ in range(data.draw(st.integers(1, 40))):
        source, drawn = data.draw(st.integers(0, sources - 1)), data.draw(U32)
        space, in_use, sockets = spaces[source], held[source], Counter(port for one in held for port in one)
        draws = iter((drawn, drawn * GOLDEN_RATIO % 2**32))
        found = find_open_port(ports, draws, in_use, reserved, sockets, reuse=reuse)
        assert (space.search(ports.low, ports.high, drawn), space.ports_probed, space.lookups) == found
        in_use.update(port for port in found[:1] if port)
        if in_use and data.draw(st.integers(0, 3)) == 0:
            given_up = data.draw(st.sampled_from(sorted(in_use)))
            in_use.remove(given_up)
            space.release(given_up)


@pytest.mark.parametrize("has_parity", [True, False])
def test_port_is_bound_to_once(has_parity: bool) -> None:
    """bind() takes a free or reserved port, a search then passes it over, and given up it is what it was before."""
    [space] = tcp_port_spaces(
        PortRange(100, 101), [0], ParityFirst if has_parity else EveryPort, reserved=frozenset({101})
    )
    assert [space.take(port) for port in (100, 101, 100, 101)] == [True, True, False, False]
    assert space.search(100, 101, 0) == 0
    assert (space.ports_probed, space.lookups) == (2, 2)
    space.release(100)
    space.release(101)
    assert [space.search(100, 101, 0), space.search(100, 101, 0)] == [100, 0]
    assert (space.ports_probed, space.lookups) == (2, 1)


class DatagramLoop:
    """UDP sockets of one address whose bind() walks slot by slot and port by port."""

    def __init__(self, slots: int, reserved: frozenset[int]) -> None:
        self.slots, self.reserved = slots, reserved
        self.held: set[int] = set()

    def search(self, low: int, high: int, drawn: int) -> Outcome:
        """Go through the slots from a random port's on, and through the ports of each from that port on."""
        ports_probed = lookups = 0
        for number, port in enumerate(udp_order(low, high, drawn, self.slots)):
            if number % (ALL_PORTS // self.slots) == 0:
                lookups += sum(1 for held in self.held if held % self.slots == port % self.slots)
            ports_probed += 1
            if low <= port <= high and port not in self.held and port not in self.reserved:
                self.held.add(port)
                return port, ports_probed, lookups
        return 0, ports_probed, lookups


@given(
    low=st.sampled_from([300, 40000, 65000]),
    number=st.sampled_from([1, 2, 7, 255, 256, 257, 530]),
    data=st.data(),
)
@unhurried
def test_udp_search_ends_as_the_kernels_loop_does(low: int, number: int, data: st.DataObject) -> None:
    """Ranges narrower and wider than the table has slots, in windows, with reserved ports: port for port the same."""
    ports = PortRange(low, low + number - 1)
    reserved = frozenset(data.draw(st.sets(st.integers(ports.low, ports.high), max_size=3)))
    space = UdpPortSpace(ports, UdpHashTable(256), reserved)
    walked = DatagramLoop(256, reserved)
    full = data.draw(st.integers(0, number))
    for port in range(ports.low, ports.low + full):
        assert space.take(port)
        walked.held.add(port)
    for _ in range(5):
        first = data.draw(st.integers(ports.low, ports.high))
        last = data.draw(st.integers(first, ports.high))
        drawn = data.draw(U32)
        found = space.search(first, last, drawn)
        assert (found, space.ports_probed, space.lookups) == walked.search(first, last, drawn)
        if walked.held:
            given_up = data.draw(st.sampled_from(sorted(walked.held)))
            walked.held.remove(given_up)
            space.release(given_up)


@pytest.mark.parametrize("number", [0, 128, 300, 2**17])
def test_hash_table_has_a_power_of_two_of_slots(number: int) -> None:
    """Anything but a power of two from 256 to 65,536 is refused, and named."""
    with pytest.raises(ValueError, match=f"{number} is not a number of hash slots"):
        UdpHashTable(number)
