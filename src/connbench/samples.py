"""What one attempt leaves behind: the columns, their units, and where they lie in shared memory.

The engine writes through `views()` while it measures; the parent maps the same memory, so that what was measured
survives whatever happens to the engine. `tries` is written last: a row counts once its `tries` is not 0.
"""

from __future__ import annotations

import errno
import mmap
import os
import resource
from dataclasses import dataclass
from itertools import accumulate

from connbench.errors import EnvironmentFault


@dataclass(frozen=True, slots=True)
class Column:
    """A column's name, its element as a `memoryview`/numpy type code, its unit, and what it means."""

    name: str
    code: str
    size: int
    unit: str
    meaning: str


COLUMNS = (
    Column("started_ns", "q", 8, "ns", "when the attempt began, counted from the round's beginning"),
    Column("prepare_ns", "q", 8, "ns", "setsockopt() and bind() of the last try"),
    Column("connect_ns", "q", 8, "ns", "connect() of the last try; 0 where it was never reached"),
    Column("acquire_ns", "q", 8, "ns", "first call of the first try to the outcome, every try counted"),
    Column("tries", "I", 4, "", "1 or more"),
    Column("port", "H", 2, "", "local port; 0 if the attempt failed"),
    Column("errno", "H", 2, "", "0, or why the attempt failed"),
    Column("source", "H", 2, "", "index into the plan's source addresses"),
    Column("target", "H", 2, "", "index into the plan's targets"),
    Column("client", "H", 2, "", "which of the concurrent clients made the attempt, counted from 0"),
)
"""Widest first, so that every column starts aligned."""

NO_PORT_FREE = frozenset({errno.EADDRINUSE, errno.EADDRNOTAVAIL, errno.EAGAIN})
"""What the errno column says where bind() found its port taken, or connect() found none: a further try can mend it.

EAGAIN is UDP's: connect() of an unbound socket binds it first (inet_autobind), and says so where that fails.
"""

TIMED_OUT = errno.EINPROGRESS
"""What it says where SO_SNDTIMEO passed in a blocking connect() (socket(7))."""

GIVEN_UP = errno.ETIME
"""What it says where the attempt took longer than `--give-up-after`: no system call here fails with it by itself."""

UNKNOWN_ERRNO = 0xFFFF
"""What it says where a file tells that an attempt failed, but not why."""

ROW_BYTES = sum(column.size for column in COLUMNS)


def offsets(rows: int) -> list[int]:
    """Byte offset of each column of `COLUMNS` for `rows` attempts."""
    return [0, *accumulate(column.size * rows for column in COLUMNS)][:-1]


def create(rows: int) -> int:
    """Make anonymous shared memory for `rows` attempts; returns its file descriptor, which the caller closes.

    Raises:
        EnvironmentFault: RLIMIT_FSIZE, which counts for it as for a file, allows less.
    """
    descriptor = os.memfd_create("connbench-samples", os.MFD_CLOEXEC)
    try:
        os.ftruncate(descriptor, ROW_BYTES * rows)
    except OSError as error:
        os.close(descriptor)
        if error.errno != errno.EFBIG:
            raise
        limit, _ = resource.getrlimit(resource.RLIMIT_FSIZE)
        raise EnvironmentFault(
            f"RLIMIT_FSIZE is {limit:,} bytes, and the samples of a round take {ROW_BYTES * rows:,} in shared memory",
            "raise it: ulimit -f unlimited",
        ) from error
    return descriptor


def attach(descriptor: int, rows: int) -> mmap.mmap:
    """Map the shared memory of `create`, every page present, so that no write of the measured loop takes a fault."""
    return mmap.mmap(descriptor, ROW_BYTES * rows, flags=mmap.MAP_SHARED | mmap.MAP_POPULATE)


def views(memory: mmap.mmap, rows: int) -> dict[str, memoryview]:
    """The columns as typed, writable views of `rows` elements each, by name."""
    whole = memoryview(memory)
    return {
        column.name: whole[start : start + column.size * rows].cast(column.code)  # type: ignore[call-overload]  # the code is not a literal
        for column, start in zip(COLUMNS, offsets(rows), strict=True)
    }


def count_done(tries: memoryview, rows: range) -> int:
    """How many attempts among `rows` are finished: they are written in order, so the end is found by halving.

    Args:
        tries: The column of that name, from `views`.
        rows: Those of one lane.
    """
    low, high = rows.start, rows.stop
    while low < high:
        middle = (low + high) // 2
        if tries[middle]:
            low = middle + 1
        else:
            high = middle
    return low - rows.start
