"""What was asked for, before anything is filled in."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from connbench.model import Isolation, Link, Listener, Placement, PortRange, Spread


class CpuChoice(Enum):
    """`--cpu` where it is not a number: the last usable CPU, or whichever the scheduler likes."""

    LAST = "last"
    ANY = "none"


@dataclass(frozen=True, slots=True)
class Request:
    """What the command line asks for; None (or an empty tuple) where it leaves the choice to connbench."""

    strategies: tuple[str, ...] = ()
    connections: int | None = None
    port_range: PortRange | None = None
    source: str | None = None
    sources: int | None = None
    spread: Spread = Spread.ROUND_ROBIN
    family: int | None = None
    target: str | None = None
    listener: Listener | None = None
    isolate: Isolation = Isolation.AUTO
    link: Link = Link.LOOPBACK
    delay_ms: float = 0.0
    window: int | None = None
    placement: Placement | None = None
    retries: int | None = None
    seed: int | None = None
    rounds: int = 1
    timeout: float = 5.0
    cpu: int | CpuChoice = CpuChoice.LAST
    allow_remote: bool = False
