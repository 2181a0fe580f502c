"""Values that the user chooses by a word."""

from __future__ import annotations

from enum import StrEnum


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
        """True if the namespace is the run's own: it may set sysctls, and no other process uses ports."""
        return self is not Namespace.HOST


class Link(StrEnum):
    """What packets travel over (`--link`)."""

    LOOPBACK = "loopback"
    """The loopback; in the host's namespace whatever leads to a target that listens already."""
    VETH = "veth"
    """A veth pair to the listener's own namespace."""
    ROUTED = "routed"
    """A veth pair to the host's namespace, which routes on to a target that listens already."""
    NAT = "nat"
    """Client namespaces, a router that translates their addresses, and the listener's namespace."""

    @property
    def has_two_ends(self) -> bool:
        """Whether connbench's listener has a namespace of its own, so that all addresses are the link's own."""
        return self in {Link.VETH, Link.NAT}


class Loop(StrEnum):
    """The code that makes the attempts (`--loop`): the same loop in C, and in Python."""

    C = "c"
    PYTHON = "python"

    @property
    def language(self) -> str:
        """Its name in a sentence: `C`, `Python`."""
        return self.value.capitalize()


class Listener(StrEnum):
    """Who completes the handshakes."""

    BACKLOG = "backlog"
    ACCEPT = "accept"
    EXTERNAL = "external"
    NONE = "no"
    """UDP has no handshake."""


class Placement(StrEnum):
    """Where a random window may lie: inside the range, or across one of its ends, where it is clipped."""

    INSIDE = "inside"
    CLIPPED = "clipped"


class Reuse(StrEnum):
    """The option with which bind() shares a port among sockets that all set it (socket(7))."""

    ADDRESS = "address"
    PORT = "port"

    @property
    def option(self) -> str:
        """Its name: `SO_REUSEADDR`, `SO_REUSEPORT`."""
        return {Reuse.ADDRESS: "SO_REUSEADDR", Reuse.PORT: "SO_REUSEPORT"}[self]

    @property
    def argument(self) -> str:
        """The option of a command that asks for it: `--reuse-address`, `--reuse-port`."""
        return f"--reuse-{self}"


class Spread(StrEnum):
    """How attempts are divided among several source addresses."""

    ROUND_ROBIN = "round-robin"
    """The addresses in turn, one attempt each."""
    FILL = "fill"
    """One address after the other, each until the range is full."""


class Clock(StrEnum):
    """What the clock of a measurement counts."""

    TIME = "time"
    INSTRUCTIONS = "instructions"
    """Instructions of an emulated processor, each with the same duration: no caches and no noise."""


class Protocol(StrEnum):
    """The kind of the sockets."""

    TCP = "tcp"
    UDP = "udp"


class Close(StrEnum):
    """How churn closes a connection: by RST, or by FIN, which leaves it in TIME_WAIT."""

    RST = "rst"
    FIN = "fin"


class Phase(StrEnum):
    """A part of a round that has its own samples."""

    FILL = "fill"
    """Connections are opened and kept open."""
    CHURN = "churn"
    """Open connections are replaced one at a time."""
    PROFILE = "profile"
    """At one level after the other, connections are opened and closed at once."""
