"""The TCP ports of this network namespace that have a listener, and which programs listen, as /proc shows both."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Final

from connbench.safe_text import printable

TABLE: Final = "/proc/net/tcp"
TABLE_OF_IPV6: Final = "/proc/net/tcp6"
LISTEN: Final = "0A"
"""The state of a listener in these tables (include/net/tcp_states.h)."""

ADDRESS, STATE, INODE = 1, 3, 9
"""Columns of a line of these tables (proc_net_tcp.txt in the kernel's documentation)."""


def read_listeners() -> dict[int, int]:
    """The inode of the listening socket of each port; of several one.

    Raises:
        OSError: The table for IPv4 cannot be read. A host without IPv6 has no other.
        ValueError, IndexError: What is in its place is no such table.
    """
    found: dict[int, int] = {}
    for table in (TABLE, *([TABLE_OF_IPV6] if Path(TABLE_OF_IPV6).exists() else [])):
        for line in Path(table).read_text(encoding="ascii").splitlines()[1:]:
            fields = line.split()
            if fields[STATE] == LISTEN:
                found.setdefault(int(fields[ADDRESS].rpartition(":")[2], 16), int(fields[INODE]))
    return found


def programs_of(inodes: Collection[int]) -> dict[int, str]:
    """The name of a process that has each of these sockets, by inode; without those that this user may not see."""
    wanted = {f"socket:[{inode}]": inode for inode in inodes}
    found: dict[int, str] = {}
    with suppress(OSError):  # /proc shows no processes
        for process in Path("/proc").iterdir():
            if len(found) == len(wanted):
                break
            if process.name.isdecimal():
                held = {wanted[link] for link in _links(process / "fd") if link in wanted} - found.keys()
                with suppress(OSError):  # the process has ended meanwhile
                    found |= dict.fromkeys(held, printable(_name(process)) if held else "")
    return found


def _links(folder: Path) -> Iterator[str]:
    """What the descriptors of a process are; nothing if it has ended, or this user may not look at it."""
    with suppress(OSError):
        for one in folder.iterdir():
            with suppress(OSError):  # the process has closed it meanwhile
                yield str(one.readlink())


def _name(process: Path) -> str:
    return (process / "comm").read_text(encoding="utf-8", errors="replace").rstrip("\n")
