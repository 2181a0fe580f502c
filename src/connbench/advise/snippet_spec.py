"""What code to paste is to do."""

from __future__ import annotations

from dataclasses import dataclass

from connbench.model import PortRange

FEW = 254
"""So many addresses of documents (RFC 5737) stand for the reader's own; of benchmarks (RFC 2544) if it takes more."""


@dataclass(frozen=True, slots=True)
class SnippetSpec:
    """What code is to do.

    Attributes:
        ports: The range.
        window: Ports of a random window; as many as the range has for the whole; None for no option.
        tries: Tries of a connection, 1 or more.
        sources: How many addresses to take in turn; with one the code binds to none, and the kernel chooses it.
        draws_port: Whether bind() is given a random port.
        is_udp: Whether the sockets are UDP's.
        listed: The ports that a program may go through by itself, as haproxy does: none of them reserved; None for
            `ports`.
    """

    ports: PortRange
    window: int | None = None
    tries: int = 1
    sources: int = 1
    draws_port: bool = False
    is_udp: bool = False
    listed: PortRange | None = None

    @property
    def addresses(self) -> list[str]:
        """Placeholders for the source addresses."""
        few = self.sources <= FEW
        return [f"192.0.2.{i}" if few else f"198.18.{i // 256}.{i % 256}" for i in range(1, self.sources + 1)]

    @property
    def takes_turns(self) -> bool:
        """Whether there are several addresses to bind to."""
        return self.sources > 1

    @property
    def defers_port(self) -> bool:
        """Whether bind() is to leave the port to connect(); UDP's search is in bind()."""
        return self.takes_turns and not self.draws_port and not self.is_udp

    @property
    def is_random(self) -> bool:
        """Whether the code draws numbers at random."""
        return self.draws_port or (self.window is not None and not self.is_whole)

    @property
    def is_whole(self) -> bool:
        """Whether the window is the range."""
        return self.window == len(self.ports)

    @property
    def numbers(self) -> dict[str, int]:
        """The numbers that the code has, by the templates' names for them."""
        low, high, window = self.ports.low, self.ports.high, self.window or len(self.ports)
        return {
            "low": low,
            "high": high,
            "count": len(self.ports),
            "last": high - window + 1,
            "more": window - 1,
            "offsets": len(self.ports) - window + 1,
            "tries": self.tries,
        }
