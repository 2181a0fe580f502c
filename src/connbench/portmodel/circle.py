"""Ports as bytes of a line, and the next free one of them.

Ports lie in byte lines, one byte each, so that the next free one is found by `bytearray.find` (memchr). A search goes
round a *circle*, a stretch of a line that begins somewhere inside it and comes round to where it began.
"""

from __future__ import annotations

TAKEN, FREE, RESERVED = range(3)
"""What a byte of a line says. Reserved ports (net.ipv4.ip_local_reserved_ports) are passed over, at a step each."""


def distance(line: bytearray, begin: int, first: int, end: int) -> int:
    """Steps from `first` to the next free place of the circle from `begin` to before `end`; -1 if none is free."""
    place = line.find(FREE, first, end)
    if place >= 0:
        return place - first
    place = line.find(FREE, begin, first)
    return place - begin + end - first if place >= 0 else -1


def reserved_within(line: bytearray, begin: int, first: int, end: int, steps: int) -> int:
    """Reserved places among the first `steps` of a circle."""
    last = first + steps
    if last <= end:
        return line.count(RESERVED, first, last)
    return line.count(RESERVED, first, end) + line.count(RESERVED, begin, begin + last - end)
