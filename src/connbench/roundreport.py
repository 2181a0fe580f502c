"""What one round says of itself besides its samples: settings, counters, and what each worker reported."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class WorkerReport:
    """What a worker reports of a phase; memory is private memory in bytes, without and with its connections."""

    first: int
    attempts: int
    opened: int
    involuntary_switches: int
    memory_idle: int
    memory_full: int
    floor_ns: int | None = None
    client: int = 0


@dataclass(frozen=True, slots=True)
class RoundReport:
    """A round's account of itself, besides the samples; of one phase where it has two.

    Attributes:
        settings: The namespace's sysctls by name, as read back from it.
        counters: How far the namespace's protocol counters moved, by the kernel's name (`TcpExt.ListenDrops`).
        held: Connections that the workers had not closed at the end of the phase, all held at once.
        established: Those of them that the other end had not closed either.
        time_wait: Sockets in TIME_WAIT in the namespace at the end of the phase.
        steal: Share of the CPU time the hypervisor kept for others, 0 to 1.
        engine_rss: Resident memory of the idle engine, in bytes.
    """

    settings: dict[str, str] = field(default_factory=dict)
    counters: dict[str, int] = field(default_factory=dict)
    workers: tuple[WorkerReport, ...] = ()
    held: int = 0
    established: int = 0
    time_wait: int = 0
    steal: float = 0.0
    engine_rss: int = 0

    @property
    def floor_ns(self) -> int | None:
        """The harness's own cost of a connect_ex(), by its first worker; None if nothing connected."""
        return next((h.floor_ns for h in self.workers if h.floor_ns is not None), None)
