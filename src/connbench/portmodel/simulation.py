"""Simulates a round's plan, without a socket."""

from __future__ import annotations

import errno
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from functools import cached_property
from itertools import repeat
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from connbench.draws import MOST_DRAWS, Draws, Kind, key_of, mix, order_of_ports
from connbench.errors import UsageError
from connbench.model import (
    MAX_PORT,
    Close,
    Phase,
    Protocol,
    RoundPlan,
    StrategySpec,
    parse_ports,
    port_range_value,
)
from connbench.model.addresses import RESERVED_PORTS, STEP_WIDTH
from connbench.model.time_wait import SETTINGS as TIME_WAIT_SETTINGS
from connbench.model.time_wait import USUAL as AS_USUAL
from connbench.model.time_wait import TimeWait
from connbench.portmodel.algorithm import Algorithm
from connbench.portmodel.kernel_search import (
    ALL_PORTS,
    EVERY_PORT_ALWAYS,
    PortSpace,
    SearchOfBind,
    SearchOfBindByHalves,
    SharedUdpPortSpace,
    TcpPortSpace,
    UdpHashTable,
    UdpPortSpace,
    search_of_connect,
    tcp_port_spaces,
)

Rows = npt.NDArray[np.uint64]
Counts = npt.NDArray[np.int64]

Attempt = tuple[int, PortSpace, Any, int]
"""Row, port space, number of the first try (its first numbers where the program draws ports; the number of the list
where it has one), and the kernel's."""

Made = tuple[int, int, int, int]
"""Port or 0, tries, ports probed, lookups."""

HIGH_HALF, PORT_BITS = 32, 16

BLOCK = 16384
"""Attempts that are simulated at once: their numbers as Python's objects take 200 bytes each."""

FIRST_TRIES = 16
"""Ports that are drawn at once for each attempt of a churn."""

PLACES, DRAWS_AT_ONCE = 2**21, 2**15
"""Ports of all spaces, and draws, that are held in arrays at once."""


@dataclass(frozen=True, slots=True)
class KernelParameters:
    """What the search depends on besides the plan.

    Attributes:
        reserved: net.ipv4.ip_local_reserved_ports.
        udp_slots: Slots of UDP's hash table, a power of two: `UDP hash table entries` of the kernel's log.
        trial: The number of a trial. Each has its own hashes and random numbers of the kernel; the draws that follow
            from the plan's seed are the same.
        time_wait: When connect() may reuse a port that churn closed by FIN.
        step_width: net.ipv4.ip_local_port_step_width, after Linux 7.0; 0, the default, for steps of one.
    """

    reserved: frozenset[int] = frozenset()
    udp_slots: int = 4096
    trial: int = 0
    time_wait: TimeWait = AS_USUAL
    step_width: int = 0

    def with_settings(self, settings: Mapping[str, str]) -> Self:
        """The same with the values of sysctls, of those in `SETTINGS`; missing ones stay.

        Raises:
            UsageError: A value is not of the form that the kernel takes.
        """
        ports, width = settings.get(RESERVED_PORTS), settings.get(STEP_WIDTH, str(self.step_width))
        if not width.isdecimal():
            raise UsageError(f"{STEP_WIDTH} is {width!r}, which is not a number", "give it a whole number")
        return replace(
            self,
            step_width=int(width),
            reserved=self.reserved if ports is None else parse_ports(ports),
            time_wait=self.time_wait.with_settings(settings),
        )


USUAL = KernelParameters()

SETTINGS = (RESERVED_PORTS, STEP_WIDTH, *TIME_WAIT_SETTINGS)
"""The sysctls that the model of the port search heeds."""


@dataclass(frozen=True, eq=False)
class SimulatedAttempts:
    """The attempts of one phase, in their order: an array for each column, all of one length.

    Columns that `connbench.samples.COLUMNS` also has mean the same.

    Attributes:
        ports_probed: Ports that all tries of an attempt probe, int64: the steps of the kernel's loop, reserved ports
            included. A bind() to a port probes that one.
        lookups: Lookups of sockets in all tries, int64. With TCP: the ports with a bind bucket, for which the search
            calls `__inet_check_established` (once; from 6.15 on twice for the port that it takes). With UDP: the
            sockets in the hash slots of the search. A bind() to a port has none, and none counts with TCP and a stride,
            where the search has one port.
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
    ports, strategy = plan.plan.port_range, plan.strategy
    if strategy.load.protocol is Protocol.UDP:
        slots, space = UdpHashTable(kernel.udp_slots), SharedUdpPortSpace if strategy.reuse else UdpPortSpace
        return [space(ports, slots, kernel.reserved) for _ in range(plan.spaces)]
    key = key_of(plan.seed_text(f"starts {kernel.trial}"))
    starts = mix(key, np.arange(plan.spaces, dtype=np.uint64)) >> HIGH_HALF
    search = _search_of(strategy, algorithm)
    return tcp_port_spaces(ports, starts.tolist(), search, reserved=kernel.reserved, step_width=kernel.step_width)


def _search_of(strategy: StrategySpec, algorithm: Algorithm) -> type[TcpPortSpace]:
    """The search of TCP that finds the strategy's ports."""
    if strategy.traits.searches_in_bind:
        if algorithm in EVERY_PORT_ALWAYS:
            raise UsageError(
                f"the model does not know the search of bind() before Linux 4.6, which {strategy.name} needs",
                "leave it out, or choose the search of a later kernel",
            )
        return SearchOfBindByHalves if strategy.searches_by_halves else SearchOfBind
    return search_of_connect(algorithm, has_option=strategy.traits.sets_port_range)


def search_key(plan: RoundPlan, kernel: KernelParameters) -> int:
    """The key of the numbers that the kernel draws: for a try's search the high half of `mix(key, row, try)`."""
    return key_of(plan.seed_text(f"kernel {kernel.trial}"))


def replaced_rows(plan: RoundPlan, draws: Draws) -> Rows:
    """For each row of the churn, the row of the filling whose connection it replaces."""
    rows_of_clients = zip(plan.rows_of_clients(Phase.FILL), plan.rows_of_clients(Phase.CHURN), strict=True)
    return np.concatenate([draws.replaced(_rows(churning), filled) for filled, churning in rows_of_clients])


def _rows(rows: range) -> Rows:
    return np.arange(rows.start, rows.stop, dtype=np.uint64)


def _in_turns(clients: list[range]) -> tuple[Rows, Counts]:
    """The row and the client of each attempt, one attempt of each client in turn."""
    turns = np.concatenate([np.arange(len(rows)) for rows in clients])
    order = np.argsort(turns, kind="stable")
    numbers = np.repeat(np.arange(len(clients)), [len(rows) for rows in clients])
    return np.concatenate([_rows(rows) for rows in clients])[order], numbers[order]


class _Simulation:
    """A round during its simulation: its draws, its port spaces, and the ports that connections hold."""

    def __init__(self, plan: RoundPlan, algorithm: Algorithm, kernel: KernelParameters) -> None:
        draws = Draws.of(plan, kernel.reserved)
        self._plan, self._draws = plan, replace(draws, fixed=np.array(draws.fixed, dtype=np.uint64))
        self._release = algorithm.release
        self._spaces, self._key = port_spaces_of(plan, algorithm, kernel), search_key(plan, kernel)
        self._is_list, is_udp = draws.kind is Kind.SEQUENTIAL, plan.strategy.load.protocol is Protocol.UDP
        # With a stride IP_LOCAL_PORT_RANGE is one port. If it is in use, UDP's search goes on to all 65,536.
        has_one_port = plan.strategy.stride is not None and draws.kind is Kind.WINDOW
        self._draws_ports, self._searches_for_one = draws.kind is Kind.PORT or has_one_port, has_one_port and is_udp
        self._names_port = self._draws_ports and not self._searches_for_one
        self._attempt = self._take_next if self._is_list else self._bind if self._names_port else self._search
        self._reserved = frozenset() if plan.strategy.traits.chooses_port else kernel.reserved
        self._positions = [
            draws.first_position(rows, space)
            for rows in plan.rows_of_clients(Phase.FILL) * self._is_list
            for space in range(draws.spaces)
        ]
        self._full: set[PortSpace] = set()  # those in which a list has no free port, until the churn begins
        self._time_wait = _TimeWaitPorts(plan, kernel.time_wait)
        self._held: list[int] = []  # the port of each row of the filling, for the churn

    def run(self, phase: Phase) -> SimulatedAttempts:
        """Simulate the attempts of a phase; the filling comes first."""
        plan, draws = self._plan, self._draws
        if phase is Phase.PROFILE:
            path = client = np.zeros(plan.rows, dtype=np.int64)
            return self._columns(np.array(list(self._profile()), dtype=np.int64), path, client)
        rows, client = _in_turns(plan.rows_of_clients(phase))
        is_fill = phase is Phase.FILL
        filled = rows if is_fill else replaced_rows(plan, draws)[rows - plan.connections]
        path = draws.path(filled).astype(np.int64)
        if is_fill and self._draws_ports and not plan.strategy.shares_4_tuples:
            made = self._fill_drawn_ports(rows, path % draws.spaces, client)
        else:
            made = np.empty((len(rows), 4), dtype=np.int64)
            for begin in range(0, len(rows), BLOCK):
                part = slice(begin, begin + BLOCK)
                attempts = self._attempts(rows[part], path[part] % draws.spaces, client[part])
                if is_fill:
                    made[part] = [self._attempt(*attempt) for attempt in attempts]
                else:
                    made[part] = list(self._replace(begin, filled[part].tolist(), attempts))
        if is_fill and plan.replacements:
            held = np.zeros(plan.connections, dtype=np.int64)
            held[rows] = made[:, 0]
            self._held = held.tolist()
        return self._columns(made, path, client)

    def _columns(self, made: Counts, path: Counts, client: Counts) -> SimulatedAttempts:
        """The attempts, from a row of `Made` each."""
        (port, tries, ports_probed, lookups), many = made.T, len(self._plan.sources)
        return SimulatedAttempts(
            ports_probed=ports_probed.copy(),
            lookups=lookups.copy(),
            tries=tries.astype(np.uint32),
            port=port.astype(np.uint16),
            errno=np.where(port == 0, _errno_of_failure(self._plan.strategy), 0).astype(np.uint16),
            source=(path % many).astype(np.uint16),
            target=(path // many).astype(np.uint16),
            client=client.astype(np.uint16),
        )

    def _profile(self) -> Iterator[Made]:
        """Put ports in use up to each level, and make the attempts there; each connection is closed at once."""
        plan, spaces, draws = self._plan, self._spaces, self._draws
        order, each, taken = order_of_ports(plan, self._release), plan.rows // len(plan.levels), 0
        for number, level in enumerate(plan.levels):
            for row in range(taken, level):
                spaces[row % len(spaces)].take(order[row // len(spaces)] & MAX_PORT)
            taken = level
            at_level = draws.at_level(plan, level)
            self._draws = replace(at_level, fixed=np.array(at_level.fixed, dtype=np.uint64))
            rows = _rows(range(number * each, (number + 1) * each))
            nothing = np.zeros_like(rows, dtype=np.int64)
            if self._is_list:
                self._positions[0], self._full = level, set()
            for attempt in self._attempts(rows, nothing, nothing):
                made = self._attempt(*attempt)
                if made[0]:
                    attempt[1].release(made[0])
                yield made

    def _attempts(self, rows: Rows, space: Counts, client: Counts) -> Iterator[Attempt]:
        """What an attempt needs, for each row: its row, its port space, and the numbers of its first try."""
        draws = self._draws
        spaces = map(self._spaces.__getitem__, space.tolist())
        if self._is_list:
            return zip(rows.tolist(), spaces, (client * draws.spaces + space).tolist(), repeat(0))
        if self._names_port:
            tries = np.arange(min(FIRST_TRIES, draws.max_tries), dtype=np.uint64)
            return zip(rows.tolist(), spaces, _ports(draws, rows[:, None], tries).tolist(), repeat(0))
        numbers = draws.number(rows)
        if draws.kind is Kind.NOTHING:
            ports = self._plan.plan.port_range
            numbers[:] = port_range_value(ports.low, ports.high)
        drawn = mix(self._key, rows) >> HIGH_HALF
        return zip(rows.tolist(), spaces, numbers.tolist(), drawn.tolist(), strict=True)

    def _replace(self, turn: int, slots: list[int], attempts: Iterator[Attempt]) -> Iterator[Made]:
        """Close the connection of each row of the filling, and make an attempt in its place."""
        self._full = set()
        held, time_wait = self._held, self._time_wait
        for now, (slot, attempt) in enumerate(zip(slots, attempts, strict=True), turn):
            if held[slot]:
                time_wait.close(now, attempt[1], held[slot])
            time_wait.end(now)
            made = self._attempt(*attempt)
            held[slot] = made[0]
            yield made

    def _search(self, row: int, space: PortSpace, number: int, drawn: int) -> Made:
        """Search once a try, until a port is found or no try is left."""
        port = space.search(number & MAX_PORT, number >> PORT_BITS, drawn)
        tries, ports_probed, lookups = 1, space.ports_probed, space.lookups
        while not port and tries < self._draws.max_tries:
            number = self._draws.number(row, tries)
            port = space.search(number & MAX_PORT, number >> PORT_BITS, mix(self._key, row, tries) >> HIGH_HALF)
            tries += 1
            ports_probed += space.ports_probed
            lookups += space.lookups
        return port, tries, ports_probed, lookups

    def _bind(self, row: int, space: PortSpace, ports: list[int], _drawn: int) -> Made:
        """Try one drawn port after the other, until one is free or no try is left."""
        tries = 0
        while ports:
            for port in ports:
                tries += 1
                if port not in self._reserved and space.take(port):
                    return port, tries, tries, 0
            more = np.arange(tries, min(2 * tries, self._draws.max_tries), dtype=np.uint64)
            ports = _ports(self._draws, np.full_like(more, row), more).tolist()
        return 0, tries, tries, 0

    def _take_next(self, _row: int, space: PortSpace, number: int, _drawn: int) -> Made:
        """Try one port of a list after the other, until one is free or no try is left."""
        begin, port_at, most = self._positions[number], self._draws.port_at, self._draws.max_tries
        if space not in self._full:
            for position in range(begin, begin + most):
                port = port_at(position)
                if space.take(port):
                    self._positions[number], tries = position + 1, position + 1 - begin
                    return port, tries, tries, 0
            if most >= self._draws.count and not self._held:
                self._full.add(space)
        self._positions[number] = begin + most
        return 0, most, most, 0

    def _fill_drawn_ports(self, rows: Rows, space: Counts, client: Counts) -> Counts:
        """The columns of a filling whose ports the program draws."""
        draws, strategy = self._draws, self._plan.strategy
        port, tries = match_drawn_ports(draws, rows, space, self._reserved)
        if strategy.retries is None:
            # As in the engine: unlimited draws end at MOST_DRAWS once the client has every port of a source, or an
            # attempt of it used up all. That an attempt does so before all ports are in use has a chance of e^-20.
            failed, chain = np.flatnonzero(port == 0), client * draws.spaces + space
            opened = np.bincount(chain[port > 0], minlength=int(chain.max()) + 1)
            _, first = np.unique(chain[failed], return_index=True)
            is_told = np.ones(len(failed), dtype=np.bool_)
            is_told[first] = opened[chain[failed[first]]] == draws.count
            tries[failed[is_told]] = np.minimum(tries[failed[is_told]], MOST_DRAWS)
        if self._searches_for_one:
            probes = np.array(list(self._searches_of_udp(space.tolist(), port.tolist(), tries.tolist())))
        else:
            probes = np.stack((tries, np.zeros_like(tries)), axis=1)
            if self._plan.replacements:
                for index, taken in zip(space[port > 0].tolist(), port[port > 0].tolist(), strict=True):
                    self._spaces[index].take(taken)
        return np.column_stack((port, tries, probes))

    def _searches_of_udp(self, spaces: list[int], ports: list[int], tries: list[int]) -> Iterator[tuple[int, int]]:
        """Take the port of each attempt; the ports that its tries probe, each for one port, and their lookups."""
        in_use = 0
        for index, port, number in zip(spaces, ports, tries, strict=True):
            space, in_vain = self._spaces[index], number - (port > 0)
            ports_probed, lookups = in_vain * ALL_PORTS, in_vain * in_use
            if port:
                space.search(port, port, 0)
                ports_probed, lookups, in_use = ports_probed + 1, lookups + space.lookups, in_use + 1
            yield ports_probed, lookups


def _ports(draws: Draws, rows: Rows, tries: Rows) -> Rows:
    """The ports that the program draws, where a value of IP_LOCAL_PORT_RANGE has one port, too."""
    return draws.number(rows, tries) & np.uint64(MAX_PORT)


def match_drawn_ports(
    draws: Draws, rows: Rows, space: Counts, reserved: frozenset[int] = frozenset()
) -> tuple[Counts, Counts]:
    """The port that each attempt of a filling binds to, or 0, and its tries, where the program draws ports.

    Each attempt takes the first of its draws that no earlier one has. That is the stable matching of attempts, which
    prefer their earlier draws, with ports, which prefer the earlier attempt; so all attempts may draw at once, in
    rounds: a port goes to the earliest attempt that drew it, and the others draw again (Gale and Shapley, 1962).

    Args:
        draws: The draws of the round.
        rows: The rows of the attempts in the order of their turns.
        space: The port space of each.
        reserved: Ports that no attempt gets.
    """
    many, count, nobody = len(rows), draws.count, len(rows)
    port, tries = np.zeros(many, dtype=np.int64), np.zeros(many, dtype=np.int64)
    at_once = max(1, PLACES // count)
    grid = range(draws.low, draws.low + count * draws.stride, draws.stride)
    every_port = np.array([-1 if port in reserved else nobody for port in grid] if reserved else [nobody] * count)
    # Attempts beyond the ports of a space come after the others: then it is known that no port is left.
    order = np.argsort(space, kind="stable")
    begins = np.searchsorted(space[order], np.arange(draws.spaces))
    rank = np.empty(many, dtype=np.int64)
    rank[order] = np.arange(many) - begins[space[order]]
    batch = space // at_once
    for first_space in range(0, draws.spaces, at_once):
        owner = np.tile(every_port, min(at_once, draws.spaces - first_space))
        here = np.flatnonzero(batch == first_space // at_once)
        lap = rank[here] // count
        for number in range(int(lap.max(initial=-1)) + 1):
            seeking = here[lap == number]
            is_full = owner.reshape(-1, count).max(axis=1) < nobody
            hopeless = is_full[space[seeking] - first_space]
            tries[seeking[hopeless]] = draws.max_tries
            _bid(draws, rows, (space - first_space) * count, seeking[~hopeless], tries, owner)
        held = np.flatnonzero((owner >= 0) & (owner < nobody))
        port[owner[held]] = draws.low + held % count * draws.stride
    return port, tries


def _bid(draws: Draws, rows: Rows, base: Counts, seeking: Counts, tries: Counts, owner: Counts) -> None:
    """Let attempts draw until each holds a port or has no try left.

    Args:
        draws: The draws of the round.
        rows: The row of each attempt.
        base: Where in `owner` the ports of its space begin.
        seeking: The attempts without a port.
        tries: The tries of each attempt so far.
        owner: The attempt that has each port; as many as there are attempts if nobody does.
    """
    while len(seeking):
        # In which order they ask does not matter.
        asking, seeking = seeking[:DRAWS_AT_ONCE], seeking[DRAWS_AT_ONCE:]
        width = max(1, min(DRAWS_AT_ONCE // len(asking), draws.max_tries))
        tried = tries[asking, None] + np.arange(width)
        ports = _ports(draws, rows[asking, None], tried.astype(np.uint64)).astype(np.int64)
        places = (ports - draws.low) // draws.stride + base[asking, None]
        fits = (owner[places] > asking[:, None]) & (tried < draws.max_tries)
        first = fits.argmax(axis=1)
        index = np.arange(len(asking))
        has_found = fits[index, first]
        tries[asking] = np.minimum(tries[asking] + np.where(has_found, first + 1, width), draws.max_tries)
        bidders, wanted = asking[has_found], places[index, first][has_found]
        before = owner[wanted]
        np.minimum.at(owner, wanted, bidders)
        has_won = owner[wanted] == bidders
        displaced = before[has_won & (before < len(rows))]
        vain = asking[~has_found]
        seeking = np.concatenate((seeking, vain, bidders[~has_won], displaced))
        seeking = seeking[tries[seeking] < draws.max_tries]


class _TimeWaitPorts:
    """The ports that churn closed by FIN and that are still in use; the churn's rate is the clock."""

    def __init__(self, plan: RoundPlan, time_wait: TimeWait) -> None:
        load = plan.strategy.load
        churn, seconds = load.churn, time_wait.seconds_of(plan.plan, plan.strategy)
        self._is_left = churn is not None and churn.close is Close.FIN and load.protocol is Protocol.TCP and seconds > 0
        rate = churn.rate if churn else None
        self._turns = None if rate is None else rate * seconds
        self._most = time_wait.most
        self._ports: deque[tuple[int, PortSpace, int]] = deque()

    def close(self, turn: int, space: PortSpace, port: int) -> None:
        """Close the connection of a port before an attempt of the churn, which `turn` counts."""
        if self._is_left and (self._most is None or len(self._ports) < self._most):
            self._ports.append((turn, space, port))
        else:
            space.release(port)

    def end(self, turn: int) -> None:
        """Free the ports whose TIME_WAIT is over when an attempt begins."""
        while self._turns is not None and self._ports and turn - self._ports[0][0] >= self._turns:
            _, space, port = self._ports.popleft()
            space.release(port)


def _errno_of_failure(spec: StrategySpec) -> int:
    """The errno of an attempt without a port: that of connect(), or that of bind().

    connect() of an unbound UDP socket has another errno.
    """
    is_udp = spec.load.protocol is Protocol.UDP
    if is_udp and not spec.traits.chooses_source:
        return errno.EAGAIN
    return errno.EADDRINUSE if is_udp or spec.takes_port_in_bind else errno.EADDRNOTAVAIL
