"""The ports that a search probes, in their order, walked one by one as the kernel's loops do.

`connbench.portmodel.kernel_search` counts by distances what these walk: tests hold it to them, and a picture of a
search is drawn from them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import islice

from connbench.portmodel.kernel_search import ALL_PORTS, GOLDEN_RATIO, U32, SearchOfBind, TcpPortSpace

Scan = Callable[[int], int]
"""The distance between probes in steps, by the number of ports that are walked with it."""


@dataclass(frozen=True, slots=True)
class Search:
    """One search of connect() or bind().

    Attributes:
        ports_probed: The ports that it probed, in their order; the last is the one it found, if it found one.
        port: That port; 0 if none was free.
    """

    ports_probed: tuple[int, ...]
    port: int


def traced(space: TcpPortSpace, low: int, high: int, drawn: int = 0, scan: Scan | None = None) -> Search:
    """Take a port as `space.search` does, and return the ports that it probed; `scan` as for `tcp_order`."""
    if isinstance(space, SearchOfBind):
        order = bind_order(low, high, drawn, by_halves=space.begins_in_lower_half)
    else:
        order = tcp_order(low, high, space.start, space.step, scan)
    port = space.search(low, high, drawn)
    return Search(tuple(islice(order, space.ports_probed)), port)


def tcp_order(low: int, high: int, start: int, step: int, scan: Scan | None = None) -> Iterator[int]:
    """The ports of low to high, both included, in the order of the loop of `__inet_hash_connect`.

    Of an odd number of ports step 2 leaves one out. A single port is probed once.

    Args:
        low: The lowest port.
        high: The highest.
        start: Hash and table entry; see `connbench.portmodel.kernel_search.TcpPortSpace`.
        step: 2 goes through the parity of `low`, then through the other; 1 through all at once.
        scan: The distance that net.ipv4.ip_local_port_step_width draws; None without it.
    """
    end = high + 1
    remaining = end - low
    if step == 2 and remaining > 1:
        remaining -= remaining % 2
    offset = start % remaining
    if step == 2:
        offset -= offset % 2
    scan_step = step * (scan(remaining // step) if scan and remaining > 1 else 1)
    for _ in range(step if remaining > 1 else 1):
        port = low + offset
        for _ in range(0, remaining, step):
            if port >= end:
                port -= remaining
            yield port
            port += scan_step
        offset += 1


def bind_order(low: int, high: int, drawn: int, *, by_halves: bool) -> Iterator[int]:
    """The ports of low to high, both included, in the order of the loop of `inet_csk_find_open_port`.

    Args:
        low: The lowest port.
        high: The highest.
        drawn: The random number that settles the first port, 32 bits.
        by_halves: Whether the socket has SO_REUSEADDR: the lower half of the range, then the upper one.
    """
    half = (high - low + 1) // 4 * 2
    parts = [(low, low + half, drawn), (low + half, high + 1, drawn * GOLDEN_RATIO % U32)]
    for first, end, number in parts if by_halves and half else [(low, high + 1, drawn)]:
        remaining = end - first if end - first == 1 else (end - first) // 2 * 2
        offset = (number * remaining // U32) | 1
        for begin in (offset, offset - 1):
            port = first + begin
            for _ in range(0, remaining, 2):
                if port >= end:
                    port -= remaining
                yield port
                port += 2


def udp_order(low: int, high: int, drawn: int, slots: int) -> Iterator[int]:
    """The 65,536 ports as the loop of `udp_lib_get_port` tries them, whether they lie within low to high or not.

    Args:
        low: The lowest port that may be had.
        high: The highest.
        drawn: The random number that settles the first port and the step, 32 bits.
        slots: Slots of the hash table; each has 65,536 / slots ports, tried one after the other.
    """
    first = low + (drawn * (high - low + 1) >> 32)
    for slot in range(slots):
        port = (first + slot) % ALL_PORTS
        for _ in range(ALL_PORTS // slots):
            yield port
            port = (port + (drawn | 1) * slots) % ALL_PORTS
