"""Reads network namespaces of this host as they are now.

numpy is loaded only while the kernel lists the sockets of the first one.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from connbench.linux.network_namespaces import NamespaceGoneError, NetworkNamespace
from connbench.linux.sock_dump import SockDump
from connbench.safe_text import printable

if TYPE_CHECKING:
    from connbench.inspect.snapshot import Snapshot


def read_live(namespaces: Sequence[NetworkNamespace], *, with_processes: bool = False) -> list[Snapshot]:
    """The sockets and the settings of namespaces. Of several, one that ends meanwhile is left out.

    Args:
        namespaces: The namespaces, at least one.
        with_processes: Whether to look for the programs that have the sockets.

    Raises:
        EnvironmentFault: The only one exists no more, this user may not enter one, or the kernel does not list its
            sockets.
    """
    found = []
    for namespace in namespaces:
        try:
            found.append(_read(namespace))
        except NamespaceGoneError:
            if len(namespaces) == 1:
                raise
    return _with_processes(found) if with_processes else found


def _with_processes(snapshots: Sequence[Snapshot]) -> list[Snapshot]:
    """The same with their programs, for which all processes are read once: an inode has one socket of the host."""
    import numpy as np  # noqa: PLC0415  # it is loaded by now

    from connbench.inspect.processes import find_processes  # noqa: PLC0415  # only where they are wanted

    inodes = np.concatenate([one.sockets.inode for one in snapshots])
    processes = find_processes(inodes[inodes > 0])
    return [replace(one, processes=processes) for one in snapshots]


def _read(namespace: NetworkNamespace) -> Snapshot:
    with namespace.entered():
        begun = time.monotonic()
        dump = SockDump()
        # While the kernel lists the sockets, all is loaded that the caller needs for them.
        import connbench.inspect.inspection  # noqa: F401, PLC0415  # as above
        from connbench.inspect.snapshot import Snapshot  # noqa: PLC0415  # as above
        from connbench.inspect.sock_diag import read_settings, read_sockets  # noqa: PLC0415  # as above

        sockets, fallback = read_sockets(dump)
        settings = read_settings()
    seconds = dump.seconds or time.monotonic() - begun  # /proc/net may have been read instead
    name = printable(namespace.name)  # any bytes, as of a mount
    return Snapshot(sockets, settings, name, seconds=seconds, taken_at=begun, fallback=fallback)
