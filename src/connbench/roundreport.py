"""What one round says of itself besides its samples: settings, counters, and what each holder process reported."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Self


@dataclass(frozen=True, slots=True)
class HolderReport:
    """What one holder process says of its part in a phase. Memory is private memory, in bytes, of an open share."""

    first: int
    attempts: int
    opened: int
    involuntary_switches: int
    memory_idle: int
    memory_full: int
    floor_ns: int | None = None
    lane: int = 0


@dataclass(frozen=True, slots=True)
class RoundReport:
    """A round's account of itself, besides the samples; of one phase where it has two.

    Attributes:
        settings: The namespace's sysctls by name, as read back from it.
        counters: How far the namespace's protocol counters moved, by the kernel's name (`TcpExt.ListenDrops`).
        held: Connections that the holders had not closed at the end of the phase, all held at once.
        established: Those of them that the other end had not closed either.
        time_wait: Sockets in TIME_WAIT in the namespace at the end of the phase.
        close_ns: What closing everything took.
        steal: Share of the CPU time the hypervisor kept for others, 0 to 1.
        engine_rss: Resident memory of the idle engine, in bytes.
    """

    settings: dict[str, str] = field(default_factory=dict)
    counters: dict[str, int] = field(default_factory=dict)
    holders: tuple[HolderReport, ...] = ()
    held: int = 0
    established: int = 0
    time_wait: int = 0
    close_ns: int = 0
    steal: float = 0.0
    engine_rss: int = 0

    @property
    def floor_ns(self) -> int | None:
        """The harness's own cost of a connect_ex(), by its first holder; None if nothing connected."""
        return next((h.floor_ns for h in self.holders if h.floor_ns is not None), None)

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> Self:
        """Rebuild what `dataclasses.asdict` took apart."""
        return cls(**{**data, "holders": tuple(HolderReport(**holder) for holder in data["holders"])})
