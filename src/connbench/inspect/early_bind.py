"""Whether programs bind early: the paths of a source that share no port, or whose ports have bind()'s parity.

connect() takes a port for one path, so two paths of one source share ports by chance; bind() to port 0
without IP_BIND_ADDRESS_NO_PORT, or to a port by its number, takes the port for every target, so such paths never share
one. How probable that is by chance depends on how each path's ports lie: a search goes on where the last one of its
path stopped, so the ports of a path lie together, and two paths with 1,000 ports of 28,232 each are often apart. Their
places are random, though (the offset of a path is a hash with a secret, and each search skips up to 7 steps, see
`__inet_hash_connect`). So the test moves ports, and keeps what lies together together: it cuts the ports of a parity
into stretches of 64, turns each path's ports in a stretch by 0 to 63 places, and counts the turns in which they meet no
port of the other paths. If chance alone placed them, the probability that no path meets another in any stretch, and
that the product of these shares is p or less, is p at most: 1 / the product has the mean 1 (Markov's inequality).
"""

from __future__ import annotations

import math
import socket
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from connbench.inspect.port_usage import Usage, distinct_ports, mix, usable_ports
from connbench.inspect.sockets import Array, Indices, Mask
from connbench.model.addresses import MAX_PORT

Words = npt.NDArray[np.uint64]

IMPROBABLE = 1e-6
"""A probability of chance below which paths that share no port are reported, of all tests of an inspection together."""

STRETCH = 64
"""Ports of one parity that are turned together: as many as a number has bits."""

PERIODIC = 0.02
"""The share of turns, the same in all stretches, above which paths may miss each other by a period that both have.

A kernel without the random steps (before 5.19 and its stable releases of 2022) gives successive connections every
second port. If a program closes every second one of them, two such paths meet at each port or at none.
"""

FEWEST_PORTS = 38
"""Ports that a source needs: the fewest that can reach `IMPROBABLE`, each alone on its path and all in one stretch."""

FEWEST_OF_PARITY, MOSTLY = 64, 0.9
"""How many ports of a path have to have bind()'s parity, and which share, to be a sign of early bind by themselves."""


@dataclass(frozen=True, slots=True, eq=False)
class PortsOfPaths:
    """The ports in use of TCP paths, a value of each array for each port of each path.

    Attributes:
        source: The number of the path's source address.
        path: The number of the path.
        port: The local port.
    """

    source: Indices
    path: Indices
    port: Indices

    def __len__(self) -> int:
        return len(self.port)

    def __getitem__(self, chosen: Mask | Indices) -> PortsOfPaths:
        return PortsOfPaths(self.source[chosen], self.path[chosen], self.port[chosen])

    @property
    def is_shared(self) -> Mask:
        """Whether another path of the same source has the port, too."""
        key = self.source * (MAX_PORT + 1) + self.port
        order = np.argsort(key, kind="stable")
        is_same = np.diff(key[order]) == 0
        shared = np.zeros(len(key), dtype=np.bool_)
        shared[order[1:]] |= is_same
        shared[order[:-1]] |= is_same
        return shared


@dataclass(frozen=True, slots=True, eq=False)
class Apart:
    """Paths of one source of which one shares no port with another, although by chance they would.

    Attributes:
        paths: The numbers of the paths in `Usage.grouped`.
        among: The number of paths of the source.
        ports: The number of local ports of these paths.
        late: How many of them have the parity that connect() searches last, and bind() first.
        expected: How many ports two of the paths would share by chance, on average.
    """

    paths: Indices
    among: int
    ports: int
    late: int
    expected: float


@dataclass(frozen=True, slots=True, eq=False)
class Late:
    """Paths of which nearly all ports have the parity that connect() searches last, although others are free.

    Attributes:
        paths: The numbers of the paths in `Usage.grouped`.
        ports: The number of their ports.
        late: How many of these have that parity.
        free: How many of the other parity are free on each of these paths, at least.
    """

    paths: Indices
    ports: int
    late: int
    free: int


def find_apart(usage: Usage, ports: PortsOfPaths | None = None) -> list[Apart]:
    """The TCP paths of each source that share no port although by chance they would.

    Three tests look for them, as other programs on the same source share ports: all paths of a source against each
    other; the paths that have more ports of bind()'s parity than of the other, likewise; and each path that shares none
    against all others.

    Args:
        usage: The port usage of a namespace.
        ports: Its ports, as `ports_of` has them; None to ask it.
    """
    ports = ports_of(usage) if ports is None else ports
    late, places = (usage.snapshot.settings.ports.low + 1) % 2, _places(usage)
    among = np.bincount(ports.source[np.diff(ports.path, prepend=-1) != 0], minlength=1)
    ports = ports[among[ports.source] > 1] if len(ports) else ports
    has_shared = _any_of(ports.source, ports.is_shared)
    whole, rest = ports[~has_shared], ports[has_shared]
    of_bind = rest[2 * _sum_of(rest.path, rest.port % 2 == late) > _sum_of(rest.path, np.ones(len(rest)))]
    of_bind = of_bind[~_any_of(of_bind.source, of_bind.is_shared)]
    is_single = ~_any_of(rest.path, rest.is_shared)
    single = rest[is_single]
    tests = (
        (whole, whole.source, _turn(whole, places)),
        (of_bind, of_bind.source, _turn(of_bind, places)),
        (single, single.path, _turn(rest, places, is_single)),
    )
    limit = math.log(IMPROBABLE / max(1, sum(len(np.unique(group)) for _, group, _ in tests)))
    found: list[Apart] = []
    known: set[int] = set()
    for tested, group, turned in tests:
        is_below = np.isin(group, turned.groups_below(limit, group, tested.path))
        for chosen in _split(tested[is_below], group[is_below]):
            paths = np.unique(chosen.path)
            if not known.issuperset(paths.tolist()):
                known.update(paths.tolist())
                found.append(
                    Apart(
                        paths=paths,
                        among=int(among[chosen.source[0]]),
                        ports=len(np.unique(chosen.port)),
                        late=len(np.unique(chosen.port[chosen.port % 2 == late])),
                        expected=float(turned.expected[np.isin(turned.path, paths)].sum()),
                    )
                )
    return found


def find_late(usage: Usage, ports: PortsOfPaths) -> list[Late]:
    """The TCP paths of each source whose ports bind() seems to have chosen, by their parity alone.

    A path needs enough ports for that; those with fewer are judged together.
    """
    late = (usage.snapshot.settings.ports.low + 1) % 2
    is_late = ports.port % 2 == late
    is_large = _sum_of(ports.path, np.ones(len(ports))) >= FEWEST_OF_PARITY
    group = np.where(is_large, ports.path + usage.paths, ports.source)  # a source has a number below that of paths
    number, total = _sum_of(group, is_late), _sum_of(group, np.ones(len(ports)))
    ports = ports[(number >= FEWEST_OF_PARITY) & (number >= MOSTLY * total)]
    usable = np.flatnonzero(usable_ports(usage.snapshot.settings))
    first = np.setdiff1d(usable[usable % 2 != late], usage.blocked, assume_unique=True)
    found = []
    for chosen in _split(ports, ports.source):
        many = int(np.count_nonzero(chosen.port % 2 == late))
        free = len(np.setdiff1d(first, distinct_ports(chosen.port), assume_unique=True))
        if free >= many:
            found.append(Late(np.unique(chosen.path), len(chosen), many, free))
    return found


def ports_of(usage: Usage) -> PortsOfPaths:
    """The ports in use of TCP paths, of sources that have enough for a test."""
    sockets, (order, bounds) = usage.snapshot.sockets, usage.grouped
    first = order[bounds[:-1]]
    local = sockets.local[first]
    _, source = np.unique(
        mix(local[:, 0], local[:, 1], sockets.interface[first], sockets.family[first]), return_inverse=True
    )
    port = sockets.local_port[order].astype(np.intp)
    path = np.repeat(np.arange(usage.paths), np.diff(bounds))
    chosen = usable_ports(usage.snapshot.settings)[port] & (sockets.protocol[order] == socket.IPPROTO_TCP)
    pairs = np.sort(path[chosen] * (MAX_PORT + 1) + port[chosen])
    path, port = np.divmod(pairs[np.diff(pairs, prepend=-1) != 0], MAX_PORT + 1)
    found = PortsOfPaths(source[path], path, port)
    return found[_sum_of(found.source, np.ones(len(found))) >= FEWEST_PORTS]


def _split(ports: PortsOfPaths, group: Indices) -> Iterator[PortsOfPaths]:
    """The ports of each group."""
    order = np.argsort(group, kind="stable")
    for chosen in np.split(order, np.flatnonzero(np.diff(group[order])) + 1):
        if len(chosen):
            yield ports[chosen]


@dataclass(frozen=True, slots=True, eq=False)
class _Turned:
    """What turning the ports of paths showed, a value of each array for each path.

    Attributes:
        path: The number of the path, ascending.
        log_apart: The logarithm of the product of the shares of turns, in each stretch, that meet no other path.
        log_periodic: The logarithm of the share of turns, the same in all stretches, that meet no other path.
        expected: The mean number of ports that it shares with others.
    """

    path: Indices
    log_apart: Array
    log_periodic: Array
    expected: Array

    def groups_below(self, limit: float, group: Indices, path: Indices) -> list[int]:
        """The groups whose paths are too improbably apart, given the group of each path, one value for each port."""
        paths, first = np.unique(path, return_index=True)
        here = group[first][np.searchsorted(paths, self.path)]
        numbers, where = np.unique(here, return_inverse=True)
        apart, periodic = (np.bincount(where, one) for one in (self.log_apart, self.log_periodic))
        below: list[int] = numbers[(apart <= limit) & (periodic <= math.log(PERIODIC))].tolist()
        return below


def _turn(ports: PortsOfPaths, places: Indices, is_each: Mask | None = None) -> _Turned:
    """Turn the ports of paths in each stretch by each number of places.

    Args:
        ports: The ports of the paths.
        places: The place of each port number: 64 times the number of its stretch, plus its place in it; negative for
            one that is in no stretch.
        is_each: Which ports are those of paths to turn against all other paths of their source; None turns each path
            against those of its source that have a lower number.
    """
    place = places[ports.port]
    stretch = ports.source * (MAX_PORT + 1) + place // STRETCH
    order = np.lexsort((ports.path, stretch))
    order = order[place[order] >= 0]
    stretch, path = stretch[order], ports.path[order]
    begins = np.flatnonzero((np.diff(stretch, prepend=-1) != 0) | (np.diff(path, prepend=-1) != 0))
    if not len(begins):
        return _Turned(begins, *(np.empty(0) for _ in range(3)))
    own = np.bitwise_or.reduceat(np.uint64(1) << (place[order] % STRETCH).astype(np.uint64), begins)
    number = np.diff(begins, append=len(order))
    first = np.flatnonzero(np.diff(stretch[begins], prepend=-1))
    which = np.repeat(np.arange(len(first)), np.diff(first, append=len(begins)))
    if is_each is None:
        before = np.bitwise_xor.accumulate(own) ^ own
        others = before ^ before[first][which]
        so_far = np.cumsum(number) - number
        number_others = so_far - so_far[first][which]
    else:
        others = np.bitwise_or.reduceat(own, first)[which] & ~own
        number_others = np.add.reduceat(number, first)[which] - number
    chosen = others != 0
    if is_each is not None:
        chosen &= is_each[order][begins]
    paths, where = np.unique(path[begins][chosen], return_inverse=True)
    free, free_everywhere = _count_free(own[chosen], others[chosen], where, len(paths))
    return _Turned(
        paths,
        np.bincount(where, np.log(free / STRETCH), len(paths)),
        np.log(free_everywhere / STRETCH),
        np.bincount(where, number[chosen] * number_others[chosen] / STRETCH, len(paths)),
    )


def _count_free(own: Words, others: Words, path: Indices, paths: int) -> tuple[Indices, Indices]:
    """How many of the 64 turns meet no other port: in each stretch, and in all stretches of a path at once."""
    free, free_everywhere = np.zeros(len(own), dtype=np.intp), np.zeros(paths, dtype=np.intp)
    for places in range(STRETCH):
        left, right = np.uint64(places), np.uint64(-places % STRETCH)
        meets = ((own << left | own >> right) & others) != 0
        free += ~meets
        free_everywhere += np.bincount(path, meets, paths) == 0
    return free, free_everywhere


def _places(usage: Usage) -> Indices:
    """The place of each port number in the stretches, as `_turn` takes it."""
    places = np.full(MAX_PORT + 1, -1)
    every = np.flatnonzero(usable_ports(usage.snapshot.settings))
    for parity in (0, 1):
        usable = every[every % 2 == parity]
        whole = usable[: len(usable) // STRETCH * STRETCH]
        places[whole] = np.arange(len(whole)) + parity * (MAX_PORT + 1) // 2
    return places


def _sum_of(group: Indices, values: Array) -> Array:
    """The sum of the values of each group, at each value."""
    return np.bincount(group, values)[group] if len(group) else np.empty(0)


def _any_of(group: Indices, values: Mask) -> Mask:
    """Whether a value of the group is true, at each value."""
    return _sum_of(group, values) > 0
