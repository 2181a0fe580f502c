"""RLIMIT_NOFILE: how many sockets one process can hold."""

from __future__ import annotations

import errno
import resource
from pathlib import Path

OUT_OF_RESOURCES = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.EAGAIN})
"""What calls fail with where a limit of the process, the user or the machine is reached."""


def open_files() -> tuple[int, int]:
    """RLIMIT_NOFILE of this process: soft, hard."""
    return resource.getrlimit(resource.RLIMIT_NOFILE)


def raise_open_files() -> int:
    """Raise the soft limit to the hard one, which anyone may; returns it."""
    _, hard = open_files()
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return hard


def free_descriptors() -> int:
    """How many more files this process can open under its soft limit."""
    soft, _ = open_files()
    used = sum(1 for _ in Path("/proc/self/fd").iterdir()) - 1  # one of them is the listing's own
    return soft - used
