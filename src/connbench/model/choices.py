"""What can be chosen by a word."""

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
    NONE = "no"
    """Nobody: UDP has no handshake."""


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


class Clock(StrEnum):
    """What the clock of a measurement counted."""

    TIME = "time"
    INSTRUCTIONS = "instructions"
    """Those an emulated processor executed, a fixed time each: without caches, and without noise."""


class Protocol(StrEnum):
    """What kind of sockets are opened."""

    TCP = "tcp"
    UDP = "udp"


class Close(StrEnum):
    """How churn closes a connection: by a reset, or in good order, which leaves it in TIME_WAIT."""

    RST = "rst"
    FIN = "fin"


class Phase(StrEnum):
    """A part of a round whose samples stand by themselves."""

    FILL = "fill"
    """Connections are opened and held."""
    CHURN = "churn"
    """Held connections are replaced, one at a time."""
