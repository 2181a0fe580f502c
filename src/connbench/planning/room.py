"""Whether this machine has room for so many connections: memory, open files, processes; asked before they are used."""

from __future__ import annotations

from dataclasses import dataclass

from connbench.errors import EnvironmentFault
from connbench.linux import limits
from connbench.model import Listener

KERNEL_BYTES = 8 << 10
"""Slab memory of a connection with both ends on this machine: 7.8 GB were seen for a million, and some to spare."""

RESERVE = 256 << 20
"""Bytes of memory left to everything else."""

SPARE_DESCRIPTORS = 64
"""What a process that holds sockets has open besides, generously."""


@dataclass(frozen=True, slots=True)
class Room:
    """What this machine and user have left.

    Attributes:
        memory: Bytes available.
        files: Files that may still be opened by all processes together (fs.file-max).
        files_each: Files one process may open (RLIMIT_NOFILE, hard).
        processes: Processes that may still be started.
    """

    memory: int
    files: int
    files_each: int
    processes: int

    @classmethod
    def here(cls) -> Room:
        """As the kernel tells it now."""
        return cls(limits.available_memory(), limits.free_files(), limits.open_files()[1], limits.free_processes())


def refuse_without_room(connections: int, listener: Listener, room: Room, replaced: int = 0) -> None:
    """Make sure that so many connections can be open at once.

    Args:
        connections: How many.
        listener: Who holds the other ends; a backlog listener keeps those of closed connections, too.
        room: What there is.
        replaced: How many are closed and opened again meanwhile.

    Raises:
        EnvironmentFault: They cannot, with what they need and what there is.
    """
    ends = 1 if listener in {Listener.EXTERNAL, Listener.NONE} else 2
    queued = replaced * KERNEL_BYTES // 2 if listener is Listener.BACKLOG else 0
    needed = connections * KERNEL_BYTES * ends // 2 + RESERVE
    if needed <= room.memory < needed + queued:
        raise EnvironmentFault(
            f"{replaced:,} closed connections in the listener's queue, and {connections:,} open ones, need about "
            f"{(needed + queued) / 1e9:.1f} GB, and {room.memory / 1e9:.1f} GB are free",
            f"--listener accept keeps no closed ones; or --churn {(room.memory - needed) * 2 // KERNEL_BYTES} fits",
        )
    if needed > room.memory:
        raise EnvironmentFault(
            f"{connections:,} connections need about {needed / 1e9:.1f} GB, and {room.memory / 1e9:.1f} GB are free",
            f"ask for fewer: -n {max(1, (room.memory - RESERVE) * 2 // (KERNEL_BYTES * ends))} fits",
        )
    sockets = connections * (2 if listener is Listener.ACCEPT else 1)
    if sockets > room.files:
        raise EnvironmentFault(
            f"{connections:,} connections need {sockets:,} open files, and fs.file-max leaves {room.files:,}",
            f"raise it: sysctl fs.file-max={sockets * 2}, or ask for fewer with -n or --fill",
        )
    holders = -(-sockets // max(1, room.files_each - SPARE_DESCRIPTORS))
    if holders > room.processes:
        raise EnvironmentFault(
            f"{connections:,} connections need {holders:,} processes of {room.files_each:,} files each, "
            f"and {room.processes:,} more may be started",
            "raise RLIMIT_NOFILE, kernel.pid_max or the cgroup's pids.max, or ask for fewer with -n or --fill",
        )
