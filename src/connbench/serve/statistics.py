"""What `connbench serve` reports: how it listens (`ServerInfo`), and how many connections it had (`Statistics`)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

MOST_PROCESSES = 4096
"""The most accepting processes that `--processes` takes."""


@dataclass(frozen=True, slots=True)
class ServerInfo:
    """The address that a server listens on, its processes and their limits.

    Attributes:
        address: Address and port.
        processes: The number of accepting processes.
        processes_wanted: The number of processes that can hold a connection from each of the 65,535 ports.
        bounded_by: Why there are fewer processes than that; empty if there are not, or if --processes was given.
        files: The most files that each process may open (RLIMIT_NOFILE).
        room: The most connections that each process can hold.
        somaxconn: net.core.somaxconn when the server began to listen.
        backlog: The most connections that may wait in the queue, as the kernel limits it.
    """

    address: str
    processes: int
    processes_wanted: int
    bounded_by: str
    files: int
    room: int
    somaxconn: int
    backlog: int


@dataclass(frozen=True, slots=True)
class ProcessStatistics:
    """What one accepting process has done.

    Attributes:
        pid: Its process id.
        accepted: Connections that it has accepted.
        open: Connections that it holds; if it has ended, those that it held at its end.
        closed_by_fin: Connections that the peer closed with a FIN.
        closed_by_reset: Connections that the peer reset, or that failed otherwise.
        is_full: Whether it does not accept until one of its connections is closed.
        end: How the process ended; empty while it runs.
        advice: What to do about that.
    """

    pid: int
    accepted: int
    open: int
    closed_by_fin: int
    closed_by_reset: int
    is_full: bool
    end: str = ""
    advice: str = ""


@dataclass(frozen=True, slots=True)
class Statistics:
    """What all accepting processes have done since the server began to listen.

    Attributes:
        processes: Each of them.
        most_open: The most connections that were open at once.
        waiting: Connections in the queue, which no process has accepted yet.
        backlog: The most connections that may wait there.
        counters: By how much each of `OVERFLOW_COUNTERS` rose, without those that this kernel lacks.
    """

    processes: tuple[ProcessStatistics, ...]
    most_open: int
    waiting: int
    backlog: int
    counters: dict[str, int]

    @property
    def running(self) -> tuple[ProcessStatistics, ...]:
        """The processes that have not ended."""
        return tuple(process for process in self.processes if not process.end)

    @property
    def is_full(self) -> bool:
        """Whether all processes that run are full."""
        return bool(self.running) and all(process.is_full for process in self.running)

    @property
    def has_overflowed(self) -> bool:
        """Whether the kernel dropped a connection because the queue was full."""
        return any(self.counters.values())

    def totals(self) -> dict[str, int]:
        """The sums over all processes, by JSON key. Connections of a process that has ended are `lost`, not `open`."""
        return {
            "accepted": sum(process.accepted for process in self.processes),
            "open": sum(process.open for process in self.running),
            "most_open": self.most_open,
            "closed_by_fin": sum(process.closed_by_fin for process in self.processes),
            "closed_by_reset": sum(process.closed_by_reset for process in self.processes),
            "lost": sum(process.open for process in self.processes if process.end),
            "waiting": self.waiting,
        }

    def to_dict(self) -> dict[str, Any]:
        """The statistics as JSON values, by key."""
        return {
            **self.totals(),
            "backlog": self.backlog,
            "full": self.is_full,
            "counters": self.counters,
            "processes": [
                {
                    "pid": process.pid,
                    "accepted": process.accepted,
                    "open": process.open,
                    "closed_by_fin": process.closed_by_fin,
                    "closed_by_reset": process.closed_by_reset,
                    "full": process.is_full,
                    "end": process.end or None,
                }
                for process in self.processes
            ],
        }
