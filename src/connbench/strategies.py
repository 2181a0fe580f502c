"""The table of strategies: what a program does before connect(), and who chooses the local port.

A strategy is a row of data. What follows from a row is a property of the row, and no other module asks for a strategy
by its name: the loop, the model, texts and advice read these properties. A new strategy is a new row.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import Enum, auto


class Bind(Enum):
    """What the program gives to bind(2)."""

    NOTHING = auto()
    """bind() is not called: the kernel chooses the source address, too."""
    ADDRESS = auto()
    """An address and port 0, with IP_BIND_ADDRESS_NO_PORT: connect() chooses the port."""
    EARLY = auto()
    """An address and port 0, without that option: bind() chooses the port (`inet_csk_get_port`)."""
    PORT = auto()
    """An address and a port that the program draws at random (RFC 6056, algorithm 2)."""
    NEXT_PORT = auto()
    """An address and the next port of a list that the program goes through, again and again."""


class Window(Enum):
    """What the program gives to IP_LOCAL_PORT_RANGE (ip(7), Linux 6.3)."""

    NOTHING = auto()
    """The option is not set."""
    RANGE = auto()
    """The whole range."""
    RANDOM = auto()
    """A window of the range, drawn at random for each try."""
    CONSECUTIVE = auto()
    """The range cut into windows: the program fills each before the next."""


@dataclass(frozen=True, slots=True)
class Strategy:
    """A way to get a local port.

    Attributes:
        name: The name that users type.
        summary: One line for `connbench strategies`.
        usage: What a program does, in a few words, as `advise` says it.
        explanation: What happens, as a page says it to a reader who knows none of the names.
        bind: What the program gives to bind().
        window: What it gives to IP_LOCAL_PORT_RANGE.
        takes: The parameters of a `StrategySpec` that it has.
    """

    name: str
    summary: str
    usage: str
    explanation: str
    bind: Bind
    window: Window = Window.NOTHING
    takes: frozenset[str] = frozenset()

    @property
    def chooses_source(self) -> bool:
        """Whether the program chooses the source address."""
        return self.bind is not Bind.NOTHING

    @property
    def chooses_port(self) -> bool:
        """Whether the program chooses the port: bind() says whether it is free, also of a reserved port."""
        return self.bind in {Bind.PORT, Bind.NEXT_PORT}

    @property
    def has_list(self) -> bool:
        """Whether the program goes through a list of ports, one after the other."""
        return self.bind is Bind.NEXT_PORT

    @property
    def searches_in_bind(self) -> bool:
        """Whether the kernel searches for a port in bind(), not in connect()."""
        return self.bind is Bind.EARLY

    @property
    def binds_to_port(self) -> bool:
        """Whether bind() puts the port in use: for every target, and never a port that is in TIME_WAIT.

        SO_REUSEADDR changes that: see `StrategySpec.takes_port_in_bind`.
        """
        return self.chooses_port or self.searches_in_bind

    @property
    def defers_port(self) -> bool:
        """Whether bind() leaves the port to connect() (IP_BIND_ADDRESS_NO_PORT)."""
        return self.bind is Bind.ADDRESS

    @property
    def sets_port_range(self) -> bool:
        """Whether IP_LOCAL_PORT_RANGE is set: from Linux 6.8 on the kernel then prefers no parity."""
        return self.window is not Window.NOTHING

    @property
    def searches_range(self) -> bool:
        """Whether the kernel searches the whole range, in connect() or in bind()."""
        return not self.chooses_port and self.window in {Window.NOTHING, Window.RANGE}

    @property
    def is_default_search(self) -> bool:
        """Whether connect() searches as it does for a program that sets no option."""
        return self.searches_range and not self.sets_port_range and not self.searches_in_bind

    @property
    def draws_again(self) -> bool:
        """Whether a further try can find a port after a failed one: it takes another port or window."""
        return self.chooses_port or self.window is Window.RANDOM

    @property
    def at_one_port(self) -> Strategy:
        """The row of a program that makes the same calls to take one port, which it names in place of what it draws.

        IP_LOCAL_PORT_RANGE names the port, where bind() cannot.
        """
        return replace(self, bind=Bind.PORT) if self.binds_to_port else replace(self, window=Window.RANGE)

    @property
    def is_modelled(self) -> bool:
        """Whether the model knows how it gets a port: whether it is in the table, and not in a file alone."""
        return self.name in STRATEGIES

    @property
    def needs(self) -> tuple[str, ...]:
        """Names of the socket options that the kernel must have."""
        return ("IP_BIND_ADDRESS_NO_PORT",) * self.defers_port + ("IP_LOCAL_PORT_RANGE",) * self.sets_port_range

    @property
    def default_retries(self) -> int | None:
        """Retries without `--retries`: 0, as in the talk; None for as many as a port needs."""
        return None if self.chooses_port else 0


PLAIN = Strategy(
    name="plain",
    summary="connect() alone; the kernel chooses source and port",
    usage="connect() alone",
    explanation="the kernel chooses the port in connect(): all ports of one parity first, then the other parity",
    bind=Bind.NOTHING,
)
BIND = Strategy(
    name="bind",
    summary="bind((source, 0)) without a port; connect() chooses it",
    usage="bind() to an address; connect() chooses the port",
    explanation="the program chooses the source address; the kernel chooses the port in connect(), as for plain",
    bind=Bind.ADDRESS,
)
RANDOM = Strategy(
    name="random",
    summary="bind((source, random port)), again until it has a port",
    usage="bind() to a port drawn at random, again until it is free",
    explanation="the program draws a port, and binds to it; it draws again while the port is in use",
    bind=Bind.PORT,
    takes=frozenset({"retries", "reuse", "stride"}),
)
EARLY = Strategy(
    name="early",
    summary="bind((source, 0)) alone; it chooses a port, for every target",
    usage="bind() to an address; bind() chooses the port",
    explanation="the program chooses the source address; bind() chooses the port, and takes it for every target",
    bind=Bind.EARLY,
    takes=frozenset({"reuse"}),
)
SEQUENTIAL = Strategy(
    name="sequential",
    summary="bind((source, next port)), through the range again and again",
    usage="bind() to the next port of a list, and so on until one is free",
    explanation="the program goes through a list of ports: after each connection, and each port in use, the next",
    bind=Bind.NEXT_PORT,
    takes=frozenset({"retries", "reuse", "first_port", "stride"}),
)
WINDOW = Strategy(
    name="window",
    summary="a random window of --window ports as IP_LOCAL_PORT_RANGE",
    usage="IP_LOCAL_PORT_RANGE set to ports drawn at random",
    explanation="the kernel chooses within some ports only, which IP_LOCAL_PORT_RANGE names; the program draws them",
    bind=Bind.ADDRESS,
    window=Window.RANDOM,
    takes=frozenset({"window", "placement", "retries", "stride"}),
)
RANGE = Strategy(
    name="range",
    summary="the whole range as IP_LOCAL_PORT_RANGE; prefers no parity",
    usage="IP_LOCAL_PORT_RANGE set to the whole range",
    explanation="IP_LOCAL_PORT_RANGE names the whole range: from Linux 6.8 on no parity comes first",
    bind=Bind.ADDRESS,
    window=Window.RANGE,
    takes=frozenset({"stride"}),
)
PARTITION = Strategy(
    name="partition",
    summary="the range in windows of --window ports, each filled in turn",
    usage="IP_LOCAL_PORT_RANGE set to one part of the range after the other",
    explanation="the kernel chooses within one part of the range, until it is full, and then within the next",
    bind=Bind.ADDRESS,
    window=Window.CONSECUTIVE,
    takes=frozenset({"window"}),
)

STRATEGIES = {
    strategy.name: strategy for strategy in (PLAIN, BIND, EARLY, RANDOM, SEQUENTIAL, WINDOW, RANGE, PARTITION)
}
"""The rows by name, in the order of `connbench strategies`."""

PARAMETERS = {
    "window": ("--window",),
    "placement": ("--placement",),
    "retries": ("--retries",),
    "reuse": ("--reuse-address", "--reuse-port"),
    "first_port": ("--from",),
    "stride": ("--stride", "--residue"),
}
"""The parameters that a strategy can have, and the options that set each."""

OPTIONAL_PARAMETERS = frozenset({"reuse", "first_port", "stride"})
"""Those without which a strategy that takes them runs, too."""

DEFAULT_NAMES = (PLAIN.name, BIND.name, RANDOM.name, WINDOW.name)
"""The strategies of `connbench run` without --strategy."""

SHOWN_WHERE_SLOW = (RANGE.name, WINDOW.name)
"""The strategies to measure where connect() becomes slow, to see what helps."""

SWEPT_NAMES = (WINDOW.name,)
"""The strategies of `connbench sweep` without --strategy."""

BASELINE = PLAIN
"""The strategy to which reports compare the others: the program leaves everything to the kernel."""


def takers(parameter: str) -> tuple[Strategy, ...]:
    """The strategies that take a parameter."""
    return tuple(strategy for strategy in STRATEGIES.values() if parameter in strategy.takes)


def strategy_of(name: str) -> Strategy:
    """The row of a name. A name that only a file has gets a row of a program that chooses its source address."""
    return STRATEGIES.get(name) or Strategy(name, "", "", "", Bind.ADDRESS)
