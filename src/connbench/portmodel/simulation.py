"""Simulates a round's plan, without a socket."""

from __future__ import annotations

import errno
from array import array
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields, replace
from functools import cached_property
from itertools import zip_longest
from random import Random
from typing import Self

import numpy as np
import numpy.typing as npt

from connbench.draws import MOST_DRAWS, Draws
from connbench.model import Close, Phase, Protocol, RoundPlan, StrategySpec
from connbench.model.time_wait import USUAL as AS_USUAL
from connbench.model.time_wait import TimeWait, is_over_loopback
from connbench.portmodel.algorithm import Algorithm
from connbench.portmodel.kernel_search import (
    EveryPort,
    EveryPortBefore42,
    EveryPortFrom42,
    PortSpace,
    UdpHashTable,
    UdpPortSpace,
    tcp_port_spaces,
)

EVERY_PORT = {Algorithm.PRE_4_2: EveryPortBefore42, Algorithm.FROM_4_2: EveryPortFrom42}
"""The searches of kernels that prefer no parity. All others use `EveryPort` where they prefer none."""


@dataclass(frozen=True, slots=True)
class KernelParameters:
    """What the search depends on besides the plan.

    Attributes:
        reserved: net.ipv4.ip_local_reserved_ports.
        udp_slots: Slots of UDP's hash table, a power of two: `UDP hash table entries` of the kernel's log.
        trial: The number of a trial. Each has its own hashes and random numbers of the kernel; the draws that follow
            from the plan's seed are the same.
        time_wait: When connect() may reuse a port that churn closed by FIN.
    """

    reserved: frozenset[int] = frozenset()
    udp_slots: int = 4096
    trial: int = 0
    time_wait: TimeWait = AS_USUAL


USUAL = KernelParameters()


@dataclass(frozen=True, eq=False)
class SimulatedAttempts:
    """The attempts of one phase, in their order: an array for each column, all of one length.

    Columns that `connbench.samples.COLUMNS` also has mean the same.

    Attributes:
        ports_probed: Ports that all tries of an attempt probe, int64: the steps of the kernel's loop, reserved ports
            included. A bind() to a port probes that one.
        lookups: Lookups of sockets in all tries, int64. With TCP: the ports with a bind bucket, for which the search
            calls `__inet_check_established` (once; from 6.15 on twice for the port that it takes). With UDP: the
            sockets in the hash slots of the search. A bind() to a port has none.
        tries: 1 or more, uint32.
        port: The port, uint16; 0 if the attempt failed.
        errno: 0, or the errno of the failure, uint16.
        source: Index into the plan's sources, `target` into its targets; `client` is the client's number; uint16.
    """

    ports_probed: npt.NDArray[np.int64]
    lookups: npt.NDArray[np.int64]
    tries: npt.NDArray[np.uint32]
    port: npt.NDArray[np.uint16]
    errno: npt.NDArray[np.uint16]
    source: npt.NDArray[np.uint16]
    target: npt.NDArray[np.uint16]
    client: npt.NDArray[np.uint16]

    def __len__(self) -> int:
        return len(self.tries)

    def part(self, rows: slice) -> Self:
        """The attempts of a slice."""
        return replace(self, **{column.name: getattr(self, column.name)[rows] for column in fields(self)})

    @cached_property
    def failed(self) -> npt.NDArray[np.bool_]:
        """Which attempts have no connection."""
        failed: npt.NDArray[np.bool_] = self.errno != 0
        return failed


def simulate(plan: RoundPlan, algorithm: Algorithm, kernel: KernelParameters = USUAL) -> dict[Phase, SimulatedAttempts]:
    """Simulate each phase of a round; its windows, drawn ports and replaced rows are those of a real run.

    Clients take turns, attempt by attempt. The simulation has no time: no attempt is given up, and a port that churn
    closed by FIN becomes free only if the churn has a rate. There are no sockets but those of the round.

    Args:
        plan: The round.
        algorithm: The search of connect(); UDP has its own.
        kernel: What else the search depends on.

    Raises:
        ValueError: `kernel.udp_slots` is not a number of slots.
    """
    simulation = _Simulation(plan, algorithm, kernel)
    return {spec.phase: simulation.run(spec.phase) for spec in plan.strategy.phases}


def port_spaces_of(plan: RoundPlan, algorithm: Algorithm, kernel: KernelParameters) -> Sequence[PortSpace]:
    """The port spaces of a round, all ports free: one for each path if a port serves one target, else for each source.

    Arguments and errors are those of `simulate`.
    """
    rng = Random(plan.seed_text(f"kernel {kernel.trial}"))  # noqa: S311  # reproducible, not secret
    ports, strategy = plan.plan.port_range, plan.strategy
    number = plan.spaces
    if strategy.load.protocol is Protocol.UDP:
        slots = UdpHashTable(kernel.udp_slots)
        return [UdpPortSpace(ports, slots, kernel.reserved, rng) for _ in range(number)]
    has_parity = algorithm.prefers_parity(has_option=strategy.traits.sets_port_range)
    every_port = EVERY_PORT.get(algorithm, EveryPort)
    return tcp_port_spaces(ports, number, rng, has_parity=has_parity, reserved=kernel.reserved, every_port=every_port)


class _Simulation:
    """A round during its simulation: the open connections, and the columns of all rows."""

    def __init__(self, plan: RoundPlan, algorithm: Algorithm, kernel: KernelParameters) -> None:
        strategy, load = plan.strategy, plan.strategy.load
        self._plan, self._draws = plan, Draws.of(plan, kernel.reserved)
        self._replaced = replaced_rows(plan, self._draws)
        filling = self._draws.path(np.arange(plan.connections, dtype=np.uint64))
        self._paths = array("I", np.concatenate((filling, filling[self._replaced])).astype(np.uint32).tobytes())
        self._spaces = port_spaces_of(plan, algorithm, kernel)
        self._draws_port = strategy.traits.draws_port
        self._errno = _errno_of_failure(strategy)
        # As in the engine: unlimited draws end once the client has every port of a source, or an attempt used up all.
        self._is_unbounded = self._draws_port and strategy.retries is None
        ports, many = plan.plan.port_range, len(plan.sources)
        self._unused = [[len(ports)] * many for _ in range(load.concurrency)]
        self._time_wait = _TimeWaitPorts(plan, kernel.time_wait)
        rows = plan.rows
        self._ports_probed, self._lookups = array("q", bytes(8 * rows)), array("q", bytes(8 * rows))
        self._tries, self._port = array("I", bytes(4 * rows)), array("H", bytes(2 * rows))
        self._held = array("H", bytes(2 * plan.connections))

    def run(self, phase: Phase) -> SimulatedAttempts:
        """Simulate the attempts of a phase."""
        made = list(_in_turns(self._plan.rows_of_clients(phase)))
        for client, row in made:
            if phase is Phase.FILL:
                self._open(row, client)
            else:
                self._replace(row)
        rows = np.array([row for _, row in made], dtype=np.int64)
        port = np.frombuffer(self._port, np.uint16)[rows]
        path = np.frombuffer(self._paths, np.uint32)[rows]
        many = len(self._plan.sources)
        return SimulatedAttempts(
            ports_probed=np.frombuffer(self._ports_probed, np.int64)[rows],
            lookups=np.frombuffer(self._lookups, np.int64)[rows],
            tries=np.frombuffer(self._tries, np.uint32)[rows],
            port=port,
            errno=np.where(port == 0, self._errno, 0).astype(np.uint16),
            source=(path % many).astype(np.uint16),
            target=(path // many).astype(np.uint16),
            client=np.array([client for client, _ in made], dtype=np.uint16),
        )

    def _open(self, row: int, client: int) -> None:
        unused, source = self._unused[client], self._paths[row] % len(self._plan.sources)
        max_tries = self._draws.max_tries
        if self._is_unbounded and unused[source] <= 0:
            max_tries = min(max_tries, MOST_DRAWS)
        self._held[row] = self._acquire(row, max_tries)
        if self._held[row]:
            unused[source] -= 1
        elif self._is_unbounded:
            unused[source] = 0

    def _replace(self, row: int) -> None:
        slot = int(self._replaced[row - self._plan.connections])
        space = self._spaces[self._paths[slot] % len(self._spaces)]
        if self._held[slot]:
            self._time_wait.close(row, space, self._held[slot])
        self._time_wait.end(row)
        self._held[slot] = self._acquire(row, self._draws.max_tries)

    def _acquire(self, row: int, max_tries: int) -> int:
        """Make the tries of an attempt; returns its port, 0 if it fails."""
        space = self._spaces[self._paths[row] % len(self._spaces)]
        if self._draws_port:
            number, tries = self._draws.number(row), 1
            while not (had := space.take(number)) and tries < max_tries:
                number = self._draws.number(row, tries)
                tries += 1
            self._ports_probed[row] = tries
            port = number if had else 0
        else:
            port, tries = self._search(row, space, max_tries)
        self._tries[row], self._port[row] = tries, port
        return port

    def _search(self, row: int, space: PortSpace, max_tries: int) -> tuple[int, int]:
        """Search once a try, until a port is found or no try is left; returns the port, or 0, and the tries."""
        number = self._draws.number(row)
        if not self._plan.strategy.traits.sets_port_range:
            low, high = self._plan.plan.port_range.low, self._plan.plan.port_range.high
            number = low | high << 16
        tries = 0
        while True:
            port = space.search(number & 0xFFFF, number >> 16)
            tries += 1
            self._ports_probed[row] += space.ports_probed
            self._lookups[row] += space.lookups
            if port or tries >= max_tries:
                return port, tries
            number = self._draws.number(row, tries)


def replaced_rows(plan: RoundPlan, draws: Draws) -> npt.NDArray[np.int64]:
    """For each row of the churn, the row of the filling whose connection it replaces; int64."""
    rows_of_clients = zip(plan.rows_of_clients(Phase.FILL), plan.rows_of_clients(Phase.CHURN), strict=True)
    found = [
        draws.replaced(np.arange(churning.start, churning.stop, dtype=np.uint64), filled)
        for filled, churning in rows_of_clients
    ]
    return np.concatenate(found).astype(np.int64)


class _TimeWaitPorts:
    """The ports that churn closed by FIN and that are still in use; the churn's rate is the clock."""

    def __init__(self, plan: RoundPlan, time_wait: TimeWait) -> None:
        load = plan.strategy.load
        churn, binds_to_port = load.churn, plan.strategy.traits.binds_to_port
        self._is_left = churn is not None and churn.close is Close.FIN and load.protocol is Protocol.TCP
        rate = churn.rate if churn else None
        seconds = time_wait.seconds(is_loopback=is_over_loopback(plan.plan), binds_to_port=binds_to_port)
        self._rows = None if rate is None else rate * seconds
        self._most = time_wait.most
        self._ports: deque[tuple[int, PortSpace, int]] = deque()

    def close(self, row: int, space: PortSpace, port: int) -> None:
        """Close the connection of a port before the attempt of a row."""
        if self._is_left and (self._most is None or len(self._ports) < self._most):
            self._ports.append((row, space, port))
        else:
            space.release(port)

    def end(self, row: int) -> None:
        """Free the ports whose TIME_WAIT is over when the attempt of a row begins."""
        while self._rows is not None and self._ports and row - self._ports[0][0] >= self._rows:
            _, space, port = self._ports.popleft()
            space.release(port)


def _in_turns(clients: list[range]) -> Iterator[tuple[int, int]]:
    """The client and the row of each attempt, one attempt of each client in turn."""
    for rows in zip_longest(*clients):
        yield from ((client, row) for client, row in enumerate(rows) if row is not None)


def _errno_of_failure(spec: StrategySpec) -> int:
    """The errno of an attempt without a port: that of connect(), or that of bind().

    connect() of an unbound UDP socket has another errno.
    """
    is_udp = spec.load.protocol is Protocol.UDP
    if is_udp and not spec.traits.chooses_source:
        return errno.EAGAIN
    return errno.EADDRINUSE if is_udp or spec.traits.binds_to_port else errno.EADDRNOTAVAIL
