"""How fast the connections of a path come and go, from two dumps one after the other.

A connection is known again by the kernel's cookie, which it keeps in TIME_WAIT. So a port that another connection has
in the second dump counts as one gone and one opened. A connection that came and went between the dumps is in neither:
the rates of a short interval miss fewer.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from connbench.inspect.port_usage import Numbers, PathUsage, Usage, mix, path_numbers
from connbench.inspect.sockets import Indices, Sockets


@dataclass(frozen=True, slots=True)
class Rates:
    """What changed on a path between two dumps.

    Attributes:
        seconds: The time from one dump to the next.
        opened: Connections that only the second has.
        gone: Connections that only the first has, those whose TIME_WAIT ended among them.
    """

    seconds: float
    opened: int
    gone: int

    @property
    def opened_per_s(self) -> float:
        """Connections opened a second."""
        return self.opened / self.seconds

    @property
    def gone_per_s(self) -> float:
        """Connections gone a second."""
        return self.gone / self.seconds

    @property
    def growth_per_s(self) -> float:
        """Connections a second that came more than went; below 0 if more went."""
        return (self.opened - self.gone) / self.seconds


@dataclass(frozen=True, slots=True)
class _Seen:
    """The outgoing connections of a namespace in a dump: 8 bytes each.

    Attributes:
        taken_at: When, by time.monotonic().
        paths: The number of each path, ascending.
        bounds: Where the connections of each path begin, and the end of the last.
        connections: A number for each connection.
    """

    taken_at: float
    paths: Numbers
    bounds: Indices
    connections: Numbers

    def of(self, path: np.uint64) -> Numbers:
        """The connections of a path."""
        place = int(np.searchsorted(self.paths, path))
        if place == len(self.paths) or self.paths[place] != path:
            return self.connections[:0]
        return self.connections[self.bounds[place] : self.bounds[place + 1]]


class Comparison:
    """Compares each dump with the one before, of which it keeps what that needs."""

    def __init__(self) -> None:
        self._before: dict[str, _Seen] = {}

    def compare(self, usages: Sequence[Usage], paths: Sequence[PathUsage]) -> list[Rates | None]:
        """The rates of paths since the dump before.

        Args:
            usages: The port usage of each namespace in the new dump.
            paths: Some of the paths in it.

        Returns:
            One for each of `paths`; None if the dump before lacks its namespace.
        """
        now = {usage.snapshot.namespace: _seen(usage) for usage in usages}
        sockets = {usage.snapshot.namespace: usage.snapshot.sockets for usage in usages}
        numbers = [path_numbers(sockets[path.namespace][path.sockets[:1]])[0] for path in paths]
        before, self._before = self._before, now
        return [
            _rates(before[path.namespace], now[path.namespace], number) if path.namespace in before else None
            for path, number in zip(paths, numbers, strict=True)
        ]


def _rates(before: _Seen, now: _Seen, path: np.uint64) -> Rates:
    old, new = before.of(path), now.of(path)
    kept = len(np.intersect1d(new, old))
    return Rates(now.taken_at - before.taken_at, len(new) - kept, len(old) - kept)


def _seen(usage: Usage) -> _Seen:
    order, bounds = usage.grouped
    sockets = usage.snapshot.sockets
    return _Seen(usage.snapshot.taken_at, path_numbers(sockets[order[bounds[:-1]]]), bounds, _numbers(sockets, order))


def _numbers(sockets: Sockets, chosen: Indices) -> Numbers:
    """A number for each connection: its cookie, or if the kernel gave it none a number of its 4-tuple."""
    cookies = sockets.cookie[chosen]
    unknown = np.flatnonzero(cookies == 0)
    cookies[unknown] = mix(path_numbers(sockets[chosen[unknown]]), sockets.local_port[chosen[unknown]])
    return cookies
