"""The model of a round as a plain loop: one attempt, one try and one port after the other; the model is held to it."""

from __future__ import annotations

import errno
from collections import Counter
from itertools import zip_longest
from typing import NamedTuple

from connbench.draws import MOST_DRAWS, Draws, Kind, mix
from connbench.model import Close, Phase, Protocol, Reuse, RoundPlan
from connbench.model.time_wait import is_over_loopback
from connbench.portmodel.algorithm import Algorithm
from connbench.portmodel.kernel_search import ALL_PORTS
from connbench.portmodel.simulation import KernelParameters, port_spaces_of, search_key
from reference_walk import bind_order, tcp_order, udp_order


class Attempt(NamedTuple):
    """A row of `SimulatedAttempts`."""

    ports_probed: int
    lookups: int
    tries: int
    port: int
    errno: int
    source: int
    target: int
    client: int


class Round:
    """A round, the ports in use of each port space, and those in TIME_WAIT with the turn of their closing."""

    def __init__(self, plan: RoundPlan, algorithm: Algorithm, kernel: KernelParameters) -> None:
        self.plan, self.algorithm, self.kernel = plan, algorithm, kernel
        self.strategy, self.load = plan.strategy.traits, plan.strategy.load
        self.draws, self.key = Draws.of(plan, kernel.reserved), search_key(plan, kernel)
        self.is_udp = self.load.protocol is Protocol.UDP
        self.searches_in_bind, self.is_shared = plan.strategy.searches_in_bind, plan.strategy.shares_4_tuples
        if not self.is_udp:
            self.starts = [space.start for space in port_spaces_of(plan, algorithm, kernel)]  # type: ignore[attr-defined]  # TCP's have one
        self.has_parity = algorithm.prefers_parity(has_option=self.strategy.sets_port_range)
        self.in_use: list[Counter[int]] = [Counter() for _ in range(plan.spaces)]
        self.positions = {
            (client, space): self.draws.first_position(rows, space)
            for client, rows in enumerate(plan.rows_of_clients(Phase.FILL))
            for space in range(plan.spaces)
        }
        self.held: dict[int, int] = {}
        self.waiting: list[tuple[int, int, int]] = []

    def run(self, phase: Phase) -> list[Attempt]:
        """The attempts of a phase, in turns of the clients."""
        turns = [
            (client, row)
            for rows in zip_longest(*self.plan.rows_of_clients(phase))
            for client, row in enumerate(rows)
            if row is not None
        ]
        self.opened: Counter[tuple[int, int]] = Counter()
        self.exhausted: set[tuple[int, int]] = set()
        return [self.attempt(phase, turn, client, row) for turn, (client, row) in enumerate(turns)]

    def attempt(self, phase: Phase, turn: int, client: int, row: int) -> Attempt:
        """One attempt; in the churn it takes the place of a connection, which ends before."""
        slot = row
        if phase is Phase.CHURN:
            slot = self.draws.replaced(row, self.plan.rows_of_clients(Phase.FILL)[client])
            self.close(turn, slot)
        path = self.draws.path(slot)
        source, space = path % len(self.plan.sources), path % self.plan.spaces
        most = self.draws.max_tries
        unlimited = phase is Phase.FILL and not self.strategy.has_list and self.plan.strategy.retries is None
        if unlimited and ((client, space) in self.exhausted or self.opened[client, space] == self.draws.count):
            most = min(most, MOST_DRAWS)
        port = tries = ports_probed = lookups = 0
        while not port and tries < most:
            port, probed, looked_up = self.probe(client, space, row, tries)
            tries, ports_probed, lookups = tries + 1, ports_probed + probed, lookups + looked_up
        if port:
            self.in_use[space][port] += 1
            self.held[slot] = port
            self.opened[client, space] += 1
        else:
            self.exhausted.add((client, space))
        failure = 0 if port else self.errno_of_failure()
        return Attempt(ports_probed, lookups, tries, port, failure, source, path // len(self.plan.sources), client)

    def close(self, turn: int, slot: int) -> None:
        """Close the connection of a slot, if it has one, and let each TIME_WAIT end that is over at this turn."""
        space, time_wait, churn = self.draws.path(slot) % self.plan.spaces, self.kernel.time_wait, self.load.churn
        assert churn is not None
        spec, is_loopback = self.plan.strategy, is_over_loopback(self.plan.plan)
        binds, shares = spec.takes_port_in_bind, spec.shares_ports
        seconds = time_wait.seconds(is_loopback=is_loopback, binds_to_port=binds, shares_ports=shares)
        if slot in self.held:
            port = self.held.pop(slot)
            is_kept = churn.close is Close.FIN and not self.is_udp and seconds > 0
            if is_kept and (time_wait.most is None or len(self.waiting) < time_wait.most):
                self.waiting.append((turn, space, port))
            else:
                self.free(space, port)
        for closed in list(self.waiting):
            if churn.rate is not None and turn - closed[0] >= churn.rate * seconds:
                self.waiting.remove(closed)
                self.free(*closed[1:])

    def free(self, space: int, port: int) -> None:
        """One socket less has the port."""
        self.in_use[space][port] -= 1
        self.in_use[space] += Counter()  # without the ports that no socket has

    def probe(self, client: int, space: int, row: int, tries: int) -> tuple[int, int, int]:
        """The port that a try finds, or 0, the ports that it probes, and its lookups."""
        number, drawn = self.draws.number(row, tries), mix(self.key, row, tries) >> 32
        if self.draws.kind is Kind.SEQUENTIAL:
            number = self.draws.port_at(self.positions[client, space])
            self.positions[client, space] += 1
        if self.strategy.chooses_port:
            return (number if self.is_shared or number not in self.in_use[space] else 0), 1, 0
        ports = self.plan.plan.port_range
        low, high = (ports.low, ports.high) if self.draws.kind is Kind.NOTHING else (number & 0xFFFF, number >> 16)
        if self.is_udp:
            return self.probe_udp(space, low, high, drawn)
        half, sockets = max(1, (high - low + 1) // 2), sum(self.in_use, Counter[int]())
        step, start = 2 if self.has_parity else 1, self.starts[space]
        if self.algorithm is Algorithm.FROM_4_2:
            start &= ~1
        order = tcp_order(low, high, start, step)
        if self.searches_in_bind:
            order = bind_order(low, high, drawn, by_halves=self.plan.strategy.reuse is Reuse.ADDRESS)
        ports_probed = lookups = 0
        for steps, port in enumerate(order):
            ports_probed += 1
            is_reserved = port in self.kernel.reserved
            lookups += not is_reserved and sockets[port] > 0 and self.plan.strategy.stride is None
            if port not in self.in_use[space] and not is_reserved:
                self.starts[space] += self.advance(steps % half if self.has_parity else steps, drawn, step)
                self.starts[space] %= 2**32
                return port, ports_probed, lookups
        return 0, ports_probed, lookups

    def advance(self, steps: int, drawn: int, step: int) -> int:
        """How far a search of this many steps moves the start of the next one."""
        if self.algorithm is Algorithm.PRE_4_2:
            return steps + 1
        if self.algorithm is Algorithm.FROM_4_2:
            return (steps + 2) & ~1
        return (max(steps, drawn * 8 >> 32) + 1) * step

    def probe_udp(self, space: int, low: int, high: int, drawn: int) -> tuple[int, int, int]:
        """The same of UDP, slot by slot."""
        slots = self.kernel.udp_slots
        sockets = Counter(port % slots for used in self.in_use for port in used.elements())
        in_the_way = set() if self.is_shared else set(self.in_use[space])
        if not set(range(low, high + 1)) - in_the_way - self.kernel.reserved:
            return 0, ALL_PORTS, sum(sockets.values())
        lookups = number = port = 0
        for number, port in enumerate(udp_order(low, high, drawn, slots)):
            if number % (ALL_PORTS // slots) == 0:
                lookups += sockets[port % slots]
            if low <= port <= high and port not in in_the_way and port not in self.kernel.reserved:
                break
        return port, number + 1, lookups

    def errno_of_failure(self) -> int:
        """EADDRNOTAVAIL of connect(), EADDRINUSE of bind(), and EAGAIN of an unbound UDP socket's connect()."""
        if self.is_udp:
            return errno.EADDRINUSE if self.strategy.chooses_source else errno.EAGAIN
        return errno.EADDRINUSE if self.plan.strategy.takes_port_in_bind else errno.EADDRNOTAVAIL


def simulate_one_by_one(plan: RoundPlan, algorithm: Algorithm, kernel: KernelParameters) -> dict[Phase, list[Attempt]]:
    """What `connbench.portmodel.simulation.simulate` returns, as rows."""
    one = Round(plan, algorithm, kernel)
    return {spec.phase: one.run(spec.phase) for spec in plan.strategy.phases}
