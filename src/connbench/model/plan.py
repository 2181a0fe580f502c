"""The plan of a run, and the plan of one round of one strategy."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from functools import lru_cache
from itertools import pairwise
from typing import Any, Self

from connbench.model.addresses import MAX_PORT, Endpoint, PortRange, ResolvedName
from connbench.model.choices import Close, Link, Listener, Loop, Namespace, Phase, Protocol, Spread
from connbench.model.knee_rule import can_show_half
from connbench.model.rebuild import rebuilt
from connbench.model.strategy import HALF, StrategySpec

MOST_EHASH_ENTRIES = 1 << 24
"""The kernel's limit of net.ipv4.tcp_child_ehash_entries."""

DEFAULT_TIMEOUT = 5.0
"""How long a connect() waits for an answer, in seconds."""

DRAWS = 2
"""The version of the rules of `connbench.draws`: the same seed has other draws with another version. Version 1, up to
schema 5 of the JSON document, was a Mersenne twister, and its draws are not known any more.
"""

FIRST_NAT_PORT = 1024
"""The lowest port that a NAT gives to a connection from such a port or a higher one (nf_nat_core.c)."""

FEWEST_PROPOSED_PORTS = 1000
"""Ports of the smallest range that connbench proposes: in a smaller one a knee is hard to tell from noise."""


@dataclass(frozen=True, slots=True)
class Plan:
    """Everything that decides what a run does.

    Attributes:
        strategies: The strategies in the order they take turns.
        connections: Connections that a strategy opens if its load does not say another number.
        port_range: The local ports.
        sources: The addresses to connect from.
        targets: The addresses and ports to connect to.
        listener: Who completes the handshakes.
        namespace: The network namespace of each round.
        seed: The seed of all draws.
        rounds: How often each strategy is measured.
        timeout: SO_SNDTIMEO of each connect(), in seconds.
        cpus: The CPUs of the clients, in turn; empty for any.
        spread: How the attempts are divided among the sources.
        link: What the packets travel over.
        delay_ms: What the link adds to each round trip, in milliseconds.
        nat_ports: The ports that the router of `--link nat` may give a connection; None for any.
        nat_random: Whether it draws them at random; otherwise it keeps the client's port where it can.
        reserved: How many ports of the range the kernel's search skips (net.ipv4.ip_local_reserved_ports) where a
            strategy's load does not say which.
        draws: The version of the rules of `connbench.draws`.
        loop: The code that makes the attempts. The default is that of the versions that had the loop in Python alone,
            whose files do not name it.
        ehash_entries: The entries of each round's own established-hash table, a power of two; None for the table that a
            new namespace gets.
        masquerade: Whether the host of a routed link gives the packets its own address, because the target has no route
            back to the sources.
        names: The host names among the targets, as they were resolved before the run.
        start_at_us: When the first turn begins, in us of CLOCK_REALTIME; None for as soon as it can. A turn is one
            round of one strategy.
        start_every_us: The time from the start of a turn to that of the next, in us; 0 for a next turn that begins as
            soon as it can.
    """

    strategies: tuple[StrategySpec, ...]
    connections: int
    port_range: PortRange
    sources: tuple[str, ...]
    targets: tuple[Endpoint, ...]
    listener: Listener
    namespace: Namespace
    seed: int
    rounds: int = 1
    timeout: float = DEFAULT_TIMEOUT
    cpus: tuple[int, ...] = ()
    spread: Spread = Spread.ROUND_ROBIN
    link: Link = Link.LOOPBACK
    delay_ms: float = 0.0
    nat_ports: PortRange | None = None
    nat_random: bool = False
    reserved: int = 0
    draws: int = DRAWS
    loop: Loop = Loop.PYTHON
    ehash_entries: int | None = None
    masquerade: bool = False
    names: tuple[ResolvedName, ...] = ()
    start_at_us: int | None = None
    start_every_us: int = 0

    @property
    def client_namespaces(self) -> int:
        """How many namespaces connect, each from one of the sources; with another link than a NAT one, from all."""
        return len(self.sources) if self.link is Link.NAT else 1

    @property
    def nat_capacity(self) -> int | None:
        """How many connections can pass the router of `--link nat` at once; None without a router.

        Each has a port of the router to itself, among the connections to its target.
        """
        if self.link is not Link.NAT:
            return None
        ports = self.nat_ports or PortRange(FIRST_NAT_PORT, MAX_PORT)
        return len(ports) * len(self.targets)

    @property
    def phases(self) -> tuple[StrategySpec, ...]:
        """The phases of all strategies, in the order of a round."""
        return tuple(phase for spec in self.strategies for phase in spec.phases)


def format_addresses(addresses: Sequence[object], kind: str) -> str:
    """Addresses as a header names them: `127.9.9.1`, or `127.9.9.1 and 2 more sources`."""
    more = len(addresses) - 1
    return (
        f"{addresses[0]} and {more} more {kind}{'s' if more > 1 else ''}" if more > 0 else "".join(map(str, addresses))
    )


@dataclass(frozen=True, slots=True)
class RoundPlan:
    """One round of one strategy, which an engine process runs.

    Attributes:
        plan: The plan that it is a part of.
        strategy: The strategy.
        number: Of the round, from 1.
        waits: Whether the engine waits, once it is set up, until its parent tells it when to begin.
    """

    plan: Plan
    strategy: StrategySpec
    number: int
    waits: bool = False

    @property
    def start_at_us(self) -> int | None:
        """When the plan has it begin, in us of CLOCK_REALTIME; None for as soon as it can."""
        if self.plan.start_at_us is None:
            return None
        turns = self.plan.strategies
        turn = (self.number - 1) * len(turns) + turns.index(replace(self.strategy, phase=turns[0].phase))
        return self.plan.start_at_us + turn * self.plan.start_every_us if self.plan.start_every_us or not turn else None

    @property
    def connections(self) -> int:
        """The number of attempts of the filling; of a profile the ports in use at its highest level."""
        load = self.strategy.load
        if load.profile:
            return self.levels[-1]
        if load.fill is not None:
            of_all = max(1, round(load.fill * self.capacity))
            return max(1, of_all // self.plan.client_namespaces) * self.plan.client_namespaces  # equally many in each
        return load.connections or self.plan.connections

    @property
    def replacements(self) -> int:
        """The number of attempts of the churn."""
        churn = self.strategy.load.churn
        return churn.replacements if churn else 0

    @property
    def rows(self) -> int:
        """The number of attempts of the round: the filling and then the churn, or those of all levels of a profile."""
        profile = self.strategy.load.profile
        return len(profile.levels) * profile.samples if profile else self.connections + self.replacements

    @property
    def handshakes(self) -> int:
        """The connections that the listener's end gets during the round; those that take ports of a profile count."""
        return self.rows + (self.connections if self.strategy.load.profile else 0)

    @property
    def levels(self) -> tuple[int, ...]:
        """The ports in use at each level of a profile; empty without one."""
        profile = self.strategy.load.profile
        return tuple(round(level * self.capacity) for level in profile.levels) if profile else ()

    def rows_of(self, phase: Phase) -> range:
        """The rows of a phase."""
        if self.strategy.load.profile:
            return range(self.rows)
        return range(self.connections) if phase is Phase.FILL else range(self.connections, self.rows)

    @property
    def attempts(self) -> int:
        """The number of attempts of the strategy's phase."""
        return len(self.rows_of(self.strategy.phase))

    @property
    def sources(self) -> tuple[str, ...]:
        """The addresses that this round connects from."""
        return self.plan.sources[: self.strategy.load.sources]

    @property
    def spaces(self) -> int:
        """How many connections can use one port at once: one per source, and per target if each has its own ports."""
        return len(self.sources) * (len(self.plan.targets) if self.strategy.has_ports_per_target else 1)

    @property
    def ports_each(self) -> int:
        """How many ports of the range one source can use for one target.

        The kernel's search skips reserved ports; a program can bind() to one by its number.
        """
        ports = len(self.strategy.port_numbers(self.plan.port_range))
        return ports - (0 if self.strategy.traits.chooses_port else self.reserved)

    @property
    def reserved(self) -> int:
        """How many of these ports the kernel's search skips: those that the load names, else as many as the plan's."""
        ports = self.strategy.load.reserved
        if ports is None:
            return self.plan.reserved
        return _count_reserved(ports, self.strategy.port_numbers(self.plan.port_range))

    @property
    def capacity(self) -> int:
        """The largest number of connections that can be open at once, as far as the ports of the sources decide it."""
        return self.ports_each * self.spaces

    @property
    def most_in_use(self) -> int:
        """The number of ports that can be in use at once, including those in TIME_WAIT."""
        churn = self.strategy.load.churn
        return self.connections + (churn.replacements if churn and churn.close is Close.FIN else 0)

    @property
    def fullest(self) -> float:
        """The largest share of the ports of one source and target that can be in use at once, 0 to 1."""
        in_one = self.most_in_use if self.plan.spread is Spread.FILL else -(-self.most_in_use // self.spaces)
        return min(1.0, in_one / self.ports_each)

    @property
    def shows_half(self) -> bool:
        """Whether the round can show a knee at half of the ports.

        Sources that are used in turn fill at the same pace, so that all their ports count as one range. Sources that
        are filled one after the other have a knee each, and the first one counts.
        """
        ports = self.ports_each if self.plan.spread is Spread.FILL else self.capacity
        return can_show_half(min(self.most_in_use, ports), ports)

    @property
    def smaller_range(self) -> PortRange | None:
        """A smaller range that the same number of connections fills, so that they show the knee; None without one.

        It has at least `FEWEST_PORTS`.
        """
        ports = self.plan.port_range
        each = max(FEWEST_PROPOSED_PORTS, -(-self.connections // self.spaces)) * (self.strategy.stride or 1)
        widest = max((spec.window or 0 for spec in self.plan.strategies), default=0)
        begins = max((spec.first_port or 0 for spec in self.plan.strategies), default=0)
        if not self.plan.namespace.is_own or each > len(ports) * HALF or widest > each or begins >= ports.low + each:
            return None
        return PortRange(ports.low, ports.low + each - 1)

    def rows_of_clients(self, phase: Phase) -> list[range]:
        """The rows of each client in a phase: one contiguous range each, of sizes that differ by one at most."""
        rows, clients = self.rows_of(phase), self.strategy.load.concurrency
        bounds = [len(rows) * client // clients for client in range(clients + 1)]
        return [rows[begin:end] for begin, end in pairwise(bounds)]

    def client_namespace_of(self, client: int) -> int:
        """The number of the client namespace that a client connects from; each has equally many clients."""
        return client * self.plan.client_namespaces // self.strategy.load.concurrency

    @property
    def resets_while_others_connect(self) -> bool:
        """Whether one client closes connections by reset while other clients take ports."""
        load = self.strategy.load
        resets = load.give_up_ms is not None or (load.churn is not None and load.churn.close is Close.RST)
        others = load.concurrency > self.plan.client_namespaces  # those of another namespace have other ports
        return resets and others and load.protocol is Protocol.TCP

    @property
    def is_listener_ours(self) -> bool:
        """Whether connbench starts the listener."""
        return self.plan.listener in {Listener.BACKLOG, Listener.ACCEPT}

    def cpu_of(self, client: int) -> int | None:
        """The CPU that a client connects on; None for any."""
        return self.plan.cpus[client % len(self.plan.cpus)] if self.plan.cpus else None

    @property
    def cpus(self) -> frozenset[int]:
        """The CPUs that this round's clients connect on; empty for any."""
        return frozenset(self.plan.cpus[: self.strategy.load.concurrency])

    def seed_text(self, stream: str) -> str:
        """Seed of one random stream: the same seed, strategy and round give the same draws, whatever else differs."""
        strategy = self.strategy
        return f"{self.plan.seed}/{strategy.name} {strategy.window} {strategy.placement}/{self.number}/{stream}"

    def in_phase(self, phase: Phase) -> RoundPlan:
        """The same round, seen from one of its phases."""
        return replace(self, strategy=replace(self.strategy, phase=phase))

    def to_dict(self) -> dict[str, Any]:
        """As JSON takes it; `from_dict` is the way back."""
        return asdict(self)

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> Self:
        """Rebuild what `to_dict` took apart."""
        plan: Self = rebuilt(cls, data)
        return plan


@lru_cache(maxsize=64)  # reports ask for the ports of a round many times
def _count_reserved(reserved: frozenset[int], numbers: range) -> int:
    return sum(port in numbers for port in reserved)
