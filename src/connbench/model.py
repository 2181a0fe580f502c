"""The vocabulary: ranges, endpoints, strategies by name, the plan of a run and of a round.

Everything here is frozen, made of plain values, and survives a trip through JSON: the engine is another process.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import Any, Self

from connbench.errors import UsageError
from connbench.findings import printable

MAX_PORT = 65535
LARGEST = 2**63 - 1
"""The largest whole number that a JSON file keeps as one."""

DEFAULT_RANGE_LOW = 9024
"""The talk's range, 9024-65535: 56,512 ports, the first of them even."""


class Isolation(StrEnum):
    """Whether a run must, may or must not have a network namespace of its own (`--isolate`)."""

    AUTO = "auto"
    ALWAYS = "always"
    NEVER = "never"


class Namespace(StrEnum):
    """The network namespace a round runs in."""

    NETWORK = "own network namespace"
    USER = "own user and network namespace"
    HOST = "host namespace"

    @property
    def is_own(self) -> bool:
        """True where the sysctls may be set and the ports are all ours."""
        return self is not Namespace.HOST


class Link(StrEnum):
    """What packets travel over (`--link`): the loopback, or a veth pair to a second namespace with the listener."""

    LOOPBACK = "loopback"
    VETH = "veth"


class Listener(StrEnum):
    """Who completes the handshakes."""

    BACKLOG = "backlog"
    ACCEPT = "accept"
    EXTERNAL = "external"


class Placement(StrEnum):
    """Where a random window may lie: wholly inside the range, or hanging over an end and clipped there."""

    INSIDE = "inside"
    CLIPPED = "clipped"


class Spread(StrEnum):
    """How attempts are shared out among several source addresses."""

    ROUND_ROBIN = "round-robin"
    """One attempt from each in turn."""
    FILL = "fill"
    """As many from each as the range has ports, one address after the other."""


@dataclass(frozen=True, slots=True)
class PortRange:
    """Ports low to high, both included.

    Raises:
        UsageError: Reversed, or outside 1-65535.
    """

    low: int
    high: int

    def __post_init__(self) -> None:
        if not (1 <= self.low <= MAX_PORT and 1 <= self.high <= MAX_PORT):
            raise UsageError(f"port range {self} is outside 1-{MAX_PORT}", "ports are 1 to 65535")
        if self.low > self.high:
            raise UsageError(f"port range {self} is reversed", f"write it as {self.high}-{self.low}")

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read `LOW-HIGH`, as in `9024-65535`.

        Raises:
            UsageError: Not two whole numbers, reversed, or outside 1-65535.
        """
        low, dash, high = text.strip().partition("-")
        if not (dash and low.strip().isdecimal() and high.strip().isdecimal()):
            raise UsageError(f"port range {text!r} is not LOW-HIGH", "for example 9024-65535")
        return cls(int(low), int(high))

    def __str__(self) -> str:
        return f"{self.low}-{self.high}"

    def __len__(self) -> int:
        return self.high - self.low + 1

    def __contains__(self, port: int) -> bool:
        return self.low <= port <= self.high

    def covers(self, other: PortRange) -> bool:
        """Whether every port of `other` is one of these."""
        return self.low <= other.low and other.high <= self.high


@dataclass(frozen=True, slots=True)
class Endpoint:
    """An IPv4 or IPv6 address and a TCP port."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


@dataclass(frozen=True, slots=True)
class StrategySpec:
    """A strategy by name and the parameters it takes; None for those it does not take.

    `retries` is None for `random` too where it may draw until it has a port. `connections` is how many it is to open
    where that is not the plan's number, `sources` how many of the plan's source addresses it uses where not all.
    """

    name: str
    window: int | None = None
    placement: Placement | None = None
    retries: int | None = None
    connections: int | None = None
    sources: int | None = None

    @property
    def label(self) -> str:
        """Name and parameters where they are not the usual ones, as in `window 500 clipped, 3 retries`."""
        words = [printable(self.name)]
        if self.window is not None:
            words.append(str(self.window))
        if self.placement is Placement.CLIPPED:
            words.append(self.placement)
        text = " ".join(words)
        if self.retries or (self.retries == 0 and self.name == "random"):
            text += f", {self.retries} {'retry' if self.retries == 1 else 'retries'}"
        if self.sources is not None and self.sources > 1:
            text += f", {self.sources} sources"
        if self.connections is not None:
            text += f", n={self.connections}"
        return text


@dataclass(frozen=True, slots=True)
class Plan:
    """All that decides what a run does; nothing in it is left to be looked up later.

    `sources` are the addresses to connect from, and `spread` how attempts are shared out among them; `timeout` is in
    seconds (SO_SNDTIMEO of each connect()); `cpu` is the CPU the connects run on, None for any; `delay_ms` is what the
    link adds to each round trip, in milliseconds.
    """

    strategies: tuple[StrategySpec, ...]
    connections: int
    port_range: PortRange
    sources: tuple[str, ...]
    target: Endpoint
    listener: Listener
    namespace: Namespace
    seed: int
    rounds: int = 1
    timeout: float = 5.0
    cpu: int | None = None
    spread: Spread = Spread.ROUND_ROBIN
    link: Link = Link.LOOPBACK
    delay_ms: float = 0.0


def sources_text(sources: tuple[str, ...]) -> str:
    """Addresses as a header names them: `127.9.9.1`, or `127.9.9.1 and 2 more sources`."""
    more = len(sources) - 1
    return f"{sources[0]} and {more} more source{'s' if more > 1 else ''}" if more > 0 else "".join(sources)


@dataclass(frozen=True, slots=True)
class RoundPlan:
    """One strategy's turn: what an engine process is told. `number` counts from 1."""

    plan: Plan
    strategy: StrategySpec
    number: int

    @property
    def connections(self) -> int:
        """Attempts of this round."""
        return self.strategy.connections or self.plan.connections

    @property
    def sources(self) -> tuple[str, ...]:
        """Addresses this round connects from."""
        return self.plan.sources[: self.strategy.sources]

    @property
    def capacity(self) -> int:
        """Connections there are ports for."""
        return len(self.plan.port_range) * len(self.sources)

    def seed_text(self, stream: str) -> str:
        """Seed of one random stream: the same seed, strategy and round give the same draws, whatever else differs."""
        strategy = self.strategy
        return f"{self.plan.seed}/{strategy.name} {strategy.window} {strategy.placement}/{self.number}/{stream}"

    def to_dict(self) -> dict[str, Any]:
        """As JSON takes it; `from_dict` is the way back."""
        return asdict(self)

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> Self:
        """Rebuild what `to_dict` took apart."""
        plan = data["plan"]
        return cls(
            plan=Plan(
                **{
                    **plan,
                    "strategies": tuple(map(_strategy_from, plan["strategies"])),
                    "sources": tuple(plan["sources"]),
                    "spread": Spread(plan["spread"]),
                    "link": Link(plan["link"]),
                    "port_range": PortRange(**plan["port_range"]),
                    "target": Endpoint(**plan["target"]),
                    "listener": Listener(plan["listener"]),
                    "namespace": Namespace(plan["namespace"]),
                }
            ),
            strategy=_strategy_from(data["strategy"]),
            number=data["number"],
        )


def _strategy_from(data: dict[str, Any]) -> StrategySpec:
    placement = data["placement"]
    return StrategySpec(**{**data, "placement": placement and Placement(placement)})
