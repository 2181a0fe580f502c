"""What `connbench serve` says of itself: where it listens, and what has come of that."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

OVERFLOW_COUNTERS = (
    "TcpExt.ListenOverflows",
    "TcpExt.ListenDrops",
    "TcpExt.TCPReqQFullDrop",
    "TcpExt.TCPReqQFullDoCookies",
)
"""What moves when a connection finds no place in the queue; of all listeners in the network namespace together."""

MOST_PROCESSES = 4096
"""Accepting processes of one listener."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where it listens and with what.

    Attributes:
        address: Address and port.
        processes: How many accept.
        processes_wanted: How many it takes to hold as many connections as there are ports, one from each.
        bounded_by: Why there are not as many as that; empty if there are, or if their number was asked for.
        files: Open files each may have (RLIMIT_NOFILE).
        room: Connections each can hold.
        somaxconn: net.core.somaxconn, as it was when it began to listen.
        backlog: Connections that may wait in the queue, as the kernel keeps it.
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
class ProcessAccount:
    """What one accepting process has done.

    Attributes:
        pid: Its process id.
        accepted: Connections it has taken from the queue.
        open: Those it holds; those it held at its end, if it has ended.
        ended: Those whose peer closed them in good order (FIN).
        reset: Those whose peer reset them, or was lost.
        is_full: Whether it accepts no more until one of its connections is closed.
        end: How it ended before its time, empty if it did not.
        advice: What to do about that.
    """

    pid: int
    accepted: int
    open: int
    ended: int
    reset: int
    is_full: bool
    end: str = ""
    advice: str = ""


@dataclass(frozen=True, slots=True)
class Account:
    """What all have done since it began to listen.

    Attributes:
        processes: The accepting processes.
        most_open: The most connections that were open at once.
        waiting: Connections in the queue that nobody has accepted.
        backlog: How many may wait there.
        counters: How far each of `OVERFLOW_COUNTERS` moved; those this kernel lacks are left out.
    """

    processes: tuple[ProcessAccount, ...]
    most_open: int
    waiting: int
    backlog: int
    counters: dict[str, int]

    @property
    def running(self) -> tuple[ProcessAccount, ...]:
        """Those that have not ended."""
        return tuple(process for process in self.processes if not process.end)

    @property
    def is_full(self) -> bool:
        """Whether nobody accepts any more."""
        return bool(self.running) and all(process.is_full for process in self.running)

    @property
    def has_overflowed(self) -> bool:
        """Whether a connection found no place in the queue."""
        return any(self.counters.values())

    def totals(self) -> dict[str, int]:
        """Counts over all processes; connections of a process that has ended are `lost`, and not open."""
        return {
            "accepted": sum(process.accepted for process in self.processes),
            "open": sum(process.open for process in self.running),
            "most_open": self.most_open,
            "closed_by_fin": sum(process.ended for process in self.processes),
            "closed_by_reset": sum(process.reset for process in self.processes),
            "lost": sum(process.open for process in self.processes if process.end),
            "waiting": self.waiting,
        }

    def to_dict(self) -> dict[str, Any]:
        """As JSON takes it."""
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
                    "closed_by_fin": process.ended,
                    "closed_by_reset": process.reset,
                    "full": process.is_full,
                    "end": process.end or None,
                }
                for process in self.processes
            ],
        }
