"""Which local ports are in use towards each target: the sockets of a namespace, grouped as the port search sees them.

connect() takes a port for one 4-tuple: the same port serves another target. So ports are counted for each path: source,
target and target port. bind() takes a port for every target (`inet_bind_bucket` with fastreuse >= 0), and connect()
passes over it: so a listener, or a socket bound to a port, blocks that port on every path.
"""

from __future__ import annotations

import socket
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import numpy.typing as npt

from connbench.inspect.snapshot import Settings, Snapshot
from connbench.inspect.sockets import PROTOCOLS, STATE_NAMES, Indices, Mask, Sockets, State, address_text
from connbench.model import Protocol
from connbench.model.addresses import MAX_PORT, Endpoint
from connbench.model.time_wait import TIMES_LEFT_S
from connbench.units import MS_PER_S

Ports = npt.NDArray[np.uint16]
Numbers = npt.NDArray[np.uint64]

TIME_WAIT_MS = 60 * MS_PER_S
RECENT_S = 10
"""The seconds over which TIME_WAIT's timers give a rate."""

LOOPBACK_INDEX = 1
"""The index of `lo` in every network namespace."""

FEW_LEFT = 0.1
"""The share of its usable ports up to which a path is short of them."""

FEWEST_ACCEPTED = 3
"""Connections of one local port to ports of one peer, each the only one to that port, that no connect() made.

connect() gives the same port to two of a few such targets by chance, and hardly to three.
"""

_INCOMING = (State.SYN_RECV, State.NEW_SYN_RECV)
_WITHOUT_PEER = (State.LISTEN, State.BOUND_INACTIVE, State.CLOSE)


@dataclass(frozen=True, slots=True, eq=False)
class PathUsage:
    """The ports in use on one path, from one source to one target and target port.

    Attributes:
        namespace: The name of the network namespace; empty for that of this process.
        protocol: `tcp` or `udp`.
        source: The local address.
        target: The address of the other end.
        target_port: Its port.
        interface: The index of the device that the sockets are bound to; 0 for none.
        device: The same as reports name it: by its index, or a file's name for it; empty for none.
        ports: The local ports in use that lie in the usable range, ascending, each once.
        usable: The ports that this path could have in use: the range without reserved ones, and without those that
            sockets of others block.
        blocked: The ports of the range that bind() took for every target, ascending; none of them is in `ports`. If the
            sockets are bound to a device, also those of the same path's sockets that are bound to none.
        established: Connections in ESTABLISHED.
        time_wait: Connections in TIME_WAIT.
        others: The number of connections in each further state, by its name in `ss`.
        time_wait_left: The number of connections in TIME_WAIT for at most so many seconds more, by the seconds; empty
            if timers are not known.
        closing_per_s: Connections a second that entered TIME_WAIT in the last 10 s; None if timers are not known.
        expiring_per_s: Connections a second that leave it in the next 10 s; likewise.
        outside: Connections whose port does not lie in the usable range: bind() named it.
        sockets: The sockets of the path, as indices into `Snapshot.sockets`.
    """

    namespace: str
    protocol: str
    source: str
    target: str
    target_port: int
    interface: int
    device: str
    ports: Ports
    usable: int
    blocked: Ports
    established: int
    time_wait: int
    others: Mapping[str, int]
    time_wait_left: Mapping[int, int]
    closing_per_s: float | None
    expiring_per_s: float | None
    outside: int
    sockets: Indices

    @property
    def name(self) -> str:
        """The path as a reader names it, in its namespace: `10.0.0.5 -> 10.1.2.3:53 (udp)`."""
        protocol = "" if self.protocol == Protocol.TCP else f" ({self.protocol})"
        return f"{self.bound_source} -> {Endpoint(self.target, self.target_port)}{protocol}"

    @property
    def bound_source(self) -> str:
        """The source, with the device that its sockets are bound to, as in `fe80::1%2`."""
        return f"{self.source}%{self.device}" if self.device else self.source

    @property
    def used(self) -> int:
        """The number of ports in use."""
        return len(self.ports)

    @property
    def free(self) -> int:
        """The number of usable ports that are not in use."""
        return self.usable - self.used

    @property
    def share(self) -> float:
        """The share of the usable ports that is in use, 0 to 1; 1 where no port is usable."""
        return self.used / self.usable if self.usable else 1.0

    @property
    def is_loopback(self) -> bool:
        """Whether its connections are on the loopback for net.ipv4.tcp_tw_reuse=2 (`tcp_twsk_unique`)."""
        return self.interface == LOOPBACK_INDEX or any(
            Endpoint(one, 0).is_loopback for one in (self.source, self.target)
        )

    @property
    def odd(self) -> int:
        """The number of odd ports in use."""
        return int(np.count_nonzero(self.ports & 1))

    @property
    def even(self) -> int:
        """The number of even ports in use."""
        return self.used - self.odd


class Usage:
    """The port usage of one namespace; `rows` gives its paths, the one with the most ports in use first.

    Attributes:
        snapshot: What was read.
        outgoing: The sockets that connected from a port of the range, or from another one that is no listener's.
        listeners: The TCP sockets in LISTEN and those bound to a port without a peer whose port is in the range and not
            reserved, as indices.
        paths: The number of paths.
    """

    def __init__(self, snapshot: Snapshot) -> None:
        self.snapshot = snapshot
        sockets, settings = snapshot.sockets, snapshot.settings
        self._is_usable = usable_ports(settings)
        is_tcp = sockets.protocol == socket.IPPROTO_TCP
        is_alone = np.isin(sockets.state, _WITHOUT_PEER) | (sockets.remote_port == 0)
        self.listeners: Indices = np.flatnonzero(is_tcp & is_alone & self._is_usable[sockets.local_port])
        is_outgoing = ~is_alone & ~np.isin(sockets.state, _INCOMING) & ~_is_accepted(sockets, is_alone)
        is_outgoing &= self._is_usable[sockets.local_port] | _shares_path(sockets, is_outgoing, self._is_usable)
        self.outgoing: Indices = np.flatnonzero(is_outgoing)
        self._order, self._bounds = _group(sockets, self.outgoing)
        accepted = _left_of_listeners(sockets, self._order, self._bounds)
        if len(accepted):
            is_outgoing[self._order[self._bounds[accepted]]] = False
            self.outgoing = np.flatnonzero(is_outgoing)
            self._order, self._bounds = _without(self._order, self._bounds, accepted)
        self._used = self._count_ports()
        self._fullest: Indices = np.argsort(-self._used, kind="stable")

    @property
    def paths(self) -> int:
        """The number of paths."""
        return len(self._bounds) - 1

    @property
    def grouped(self) -> tuple[Indices, Indices]:
        """The outgoing sockets by their path's number, as indices; where each path's begin, and the end of the last."""
        return self._order, self._bounds

    @cached_property
    def _numbers(self) -> Numbers:
        """The number of each path, ascending."""
        return path_numbers(self.snapshot.sockets[self._order[self._bounds[:-1]]])

    @cached_property
    def blocked(self) -> Ports:
        """The ports of the usable range that a TCP socket took for every target, ascending."""
        return distinct_ports(self.snapshot.sockets.local_port[self.listeners])

    def rows(self, number: int | None = None, among: Mask | None = None) -> list[PathUsage]:
        """The paths with the most ports in use, the fullest first.

        Args:
            number: How many; None for all.
            among: Whether each path is one of those to choose from, by the path's number; None for all.
        """
        fullest = self._fullest if among is None else self._fullest[among[self._fullest]]
        return [self.row(int(group)) for group in fullest[:number]]

    def _count_ports(self) -> Indices:
        """The number of distinct ports in use that are usable, of each path."""
        ports = self.snapshot.sockets.local_port[self._order].astype(np.int64)
        groups = np.repeat(np.arange(self.paths), np.diff(self._bounds))
        inside = self._is_usable[ports]
        pairs = np.sort(groups[inside] * (MAX_PORT + 1) + ports[inside])
        is_first = np.diff(pairs, prepend=-1) != 0
        return np.bincount(pairs[is_first] // (MAX_PORT + 1), minlength=self.paths)

    def row(self, group: int) -> PathUsage:
        """The path of this number in `grouped`."""
        indices = self._order[self._bounds[group] : self._bounds[group + 1]]
        sockets, first = self.snapshot.sockets, self.snapshot.sockets[indices[:1]]
        local_port, states_of, expires_ms = (
            column[indices] for column in (sockets.local_port, sockets.state, sockets.expires_ms)
        )
        family = int(first.family[0])
        protocol, interface = PROTOCOLS[int(first.protocol[0])], int(first.interface[0])
        inside = self._is_usable[local_port]
        ports = distinct_ports(local_port[inside])
        if protocol == "udp":
            taken = self._taken_from_udp(family)
        else:
            taken = np.union1d(self.blocked, self._taken_on_every_device(indices))
        blocked = np.setdiff1d(taken, ports, assume_unique=True)
        states = np.bincount(states_of, minlength=max(State) + 1)
        others = {
            STATE_NAMES[state]: int(states[state])
            for state in State
            if states[state] and state not in {State.ESTABLISHED, State.TIME_WAIT}
        }
        left = expires_ms[(states_of == State.TIME_WAIT) & (expires_ms >= 0)]
        knows_timers = len(left) > 0 or not states[State.TIME_WAIT]
        return PathUsage(
            namespace=self.snapshot.namespace,
            protocol=protocol,
            source=address_text(family, first.local[0]),
            target=address_text(family, first.remote[0]),
            target_port=int(first.remote_port[0]),
            interface=interface,
            device=self.snapshot.devices.get(interface, str(interface)) if interface else "",
            ports=ports,
            usable=int(np.count_nonzero(self._is_usable)) - len(blocked),
            blocked=blocked,
            established=int(states[State.ESTABLISHED]),
            time_wait=int(states[State.TIME_WAIT]),
            others=others,
            time_wait_left={s: int(np.count_nonzero(left <= s * MS_PER_S)) for s in TIMES_LEFT_S if knows_timers},
            closing_per_s=_rate(left > TIME_WAIT_MS - RECENT_S * MS_PER_S) if knows_timers else None,
            expiring_per_s=_rate(left <= RECENT_S * MS_PER_S) if knows_timers else None,
            outside=int(np.count_nonzero(~inside)),
            sockets=indices,
        )

    def _taken_on_every_device(self, indices: Indices) -> Ports:
        """The usable ports of the same path's sockets that are bound to no device; none for such a path itself.

        The search of a socket that is bound to a device passes over them, and not the other way round
        (`inet_bound_dev_eq()`).
        """
        here = self.snapshot.sockets[indices[:1]]
        if not here.interface[0]:
            return np.empty(0, dtype=np.uint16)
        [number] = path_numbers(replace(here, interface=np.zeros_like(here.interface)))
        group = int(np.searchsorted(self._numbers, number))
        if group == self.paths or self._numbers[group] != number:
            return np.empty(0, dtype=np.uint16)
        ports = self.snapshot.sockets.local_port[self._order[self._bounds[group] : self._bounds[group + 1]]]
        return distinct_ports(ports[self._is_usable[ports]])

    def _taken_from_udp(self, family: int) -> Ports:
        """The usable ports that connect() of an unbound UDP socket cannot choose.

        It binds the socket to every address of its family before it knows the target (`inet_autobind()`), and IPv6's
        every address is IPv4's, too. A program that binds to its source first has the ports of other sources besides.
        """
        sockets = self.snapshot.sockets
        is_met = sockets.protocol == socket.IPPROTO_UDP
        if family == 4:
            is_met &= (sockets.family == 4) | (sockets.local == 0).all(axis=1)
        return distinct_ports(sockets.local_port[is_met & self._is_usable[sockets.local_port]])


def usage(snapshot: Snapshot) -> Usage:
    """The port usage of a namespace."""
    return Usage(snapshot)


def usable_ports(settings: Settings) -> Mask:
    """Whether the search may choose a port, of each of the 65,536."""
    usable = np.zeros(MAX_PORT + 1, dtype=np.bool_)
    usable[settings.ports.low : settings.ports.high + 1] = True
    usable[list(settings.reserved)] = False
    return usable


def _is_accepted(sockets: Sockets, is_alone: Mask) -> Mask:
    """Whether each socket has the address and port of a listener, so that it is the accepted end of a connection.

    Of UDP a socket without a peer is the listener: a server has one beside those that it connected to its clients.

    Args:
        sockets: All of them.
        is_alone: Which of them have no peer.
    """
    is_listener = np.where(sockets.protocol == socket.IPPROTO_TCP, sockets.state == State.LISTEN, is_alone)
    listeners = sockets[is_listener]
    is_every = (listeners.local == 0).all(axis=1)
    on_every = np.zeros((max(PROTOCOLS) + 1, 7, MAX_PORT + 1), dtype=np.bool_)  # by protocol, and family: 4 or 6
    on_every[listeners.protocol[is_every], listeners.family[is_every], listeners.local_port[is_every]] = True
    on_every[:, 4] |= on_every[:, 6]  # unless it has IPV6_V6ONLY, which a dump does not say
    accepted: Mask = on_every[sockets.protocol, sockets.family, sockets.local_port]
    accepted |= np.isin(_local_numbers(sockets), _local_numbers(listeners))
    accepted[is_listener] = False
    return accepted


def _local_numbers(sockets: Sockets) -> Numbers:
    """A number for each socket's protocol, local address and port."""
    return mix(sockets.local[:, 0], sockets.local[:, 1], sockets.local_port, sockets.protocol)


def _shares_path(sockets: Sockets, is_candidate: Mask, is_usable: Mask) -> Mask:
    """Whether a socket's path has a socket whose port is usable: then it is outgoing, whatever its own port is."""
    inside = is_candidate & is_usable[sockets.local_port]
    beside = np.flatnonzero(is_candidate & ~inside)
    found = np.zeros(len(sockets), dtype=np.bool_)
    if len(beside):
        found[beside] = np.isin(path_numbers(sockets[beside]), np.unique(path_numbers(sockets[inside])))
    return found


def _group(sockets: Sockets, chosen: Indices) -> tuple[Indices, Indices]:
    """Sort sockets by path.

    Returns:
        The indices in that order, and where each path begins in it, with the end of the last one.
    """
    paths = path_numbers(sockets[chosen])
    order = np.argsort(paths, kind="stable")
    sorted_paths = paths[order]
    begins = np.flatnonzero(np.diff(sorted_paths, prepend=sorted_paths[:1] + np.uint64(1)))
    return chosen[order], np.append(begins, len(chosen))


def _left_of_listeners(sockets: Sockets, order: Indices, bounds: Indices) -> Indices:
    """The paths whose only socket is the accepted end of a connection whose listener is closed.

    Such ends have one local port, and the peer has another port each time. connect() has it the other way round: one
    port of the peer, and another local port each time.

    Args:
        sockets: All of them.
        order: Those of paths, as `_group` sorts them.
        bounds: Where each path begins in `order`.

    Returns:
        The numbers of the paths.
    """
    alone = np.flatnonzero(np.diff(bounds) == 1)
    its = sockets[order[bounds[alone]]]
    numbers = mix(_local_numbers(its), its.remote[:, 0], its.remote[:, 1])
    _, which, many = np.unique(numbers, return_inverse=True, return_counts=True)
    return alone[many[which] >= FEWEST_ACCEPTED]


def _without(order: Indices, bounds: Indices, paths: Indices) -> tuple[Indices, Indices]:
    """Leave out paths that have one socket each from what `_group` returns."""
    return np.delete(order, bounds[paths]), np.append(0, np.cumsum(np.delete(np.diff(bounds), paths)))


def path_numbers(sockets: Sockets) -> Numbers:
    """A number for each socket's path; two paths among a million have the same number once in 37 million dumps."""
    kinds = sockets.protocol.astype(np.uint64) << np.uint64(8) | sockets.family
    return mix(
        sockets.local[:, 0],
        sockets.local[:, 1],
        sockets.remote[:, 0],
        sockets.remote[:, 1],
        sockets.remote_port.astype(np.uint64) << np.uint64(32) | sockets.interface,
        kinds,
    )


def mix(*columns: npt.NDArray[np.unsignedinteger]) -> Numbers:
    """One number of 64 bits of the values of several columns (SplitMix64's finalizer, once for each column)."""
    mixed = np.zeros(len(columns[0]), dtype=np.uint64)
    for column in columns:
        mixed ^= column
        mixed *= np.uint64(0x9E3779B97F4A7C15)
        mixed ^= mixed >> np.uint64(30)
        mixed *= np.uint64(0xBF58476D1CE4E5B9)
        mixed ^= mixed >> np.uint64(27)
    return mixed


def distinct_ports(ports: npt.NDArray[np.integer]) -> Ports:
    """The ports, ascending, each once; np.unique takes ten times as long."""
    return np.flatnonzero(np.bincount(ports, minlength=MAX_PORT + 1)).astype(np.uint16)


def _rate(happened: Mask) -> float:
    return int(np.count_nonzero(happened)) / RECENT_S
