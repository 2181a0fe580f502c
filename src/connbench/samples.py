"""The columns of an attempt, and the shared memory that the engine writes them to.

`AttemptColumns` is the one list of them. All else follows from it: the layout of the memory, the arrays of
`connbench.results.result.Samples`, the columns and limits of CSV and JSON files, the table in docs/figures.md, and the
samples that tests make.

The engine writes through `views()` while it measures. The parent maps the same memory, so it has all finished attempts
however the engine ends. The engine writes `tries` last: an attempt is finished when its `tries` is not 0.

The memory begins with a control page, which has the round's stop flag; the columns follow.
"""

from __future__ import annotations

import errno
import mmap
import os
import resource
import struct
from array import array
from dataclasses import dataclass, field, fields
from typing import Generic, TypeVar

from connbench.errors import EnvironmentFault

Array = TypeVar("Array")

LONGEST_NS = 10**15
"""The highest time of a column: more than eleven days, and a thousand such times still add up within 64 bits."""


@dataclass(frozen=True, eq=False)
class AttemptColumns(Generic[Array]):
    """An array for each column of an attempt, all of one length, in the order that files have them.

    The metadata of a field are the attributes of its `Column`. To add a column, add a field at the end, mark it as
    optional because files of earlier versions lack it, let the loops fill it (`loop.py`, `in_flight.py`, `_loop.c`),
    and run `make columns`.
    """

    started_ns: Array = field(
        metadata={"code": "q", "unit": "ns", "meaning": "from the begin of the round to the attempt's first call"}
    )
    prepare_ns: Array = field(
        metadata={"code": "q", "unit": "ns", "meaning": "setsockopt() and bind() of the last try"}
    )
    connect_ns: Array = field(
        metadata={"code": "q", "unit": "ns", "meaning": "connect() of the last try; 0 if it was not called"}
    )
    acquire_ns: Array = field(
        metadata={
            "code": "q",
            "unit": "ns",
            "meaning": "from the first try's first call to the outcome, all tries",
        }
    )
    port: Array = field(metadata={"code": "H", "meaning": "the local port; 0 if the attempt failed"})
    errno: Array = field(metadata={"code": "H", "meaning": "0, or the errno that the attempt failed with"})
    tries: Array = field(metadata={"code": "I", "meaning": "tries to get a port", "lowest": 1})
    source: Array = field(metadata={"code": "H", "meaning": "position in the plan's source addresses, from 0"})
    target: Array = field(metadata={"code": "H", "meaning": "position in the plan's targets, from 0"})
    client: Array = field(metadata={"code": "H", "meaning": "the concurrent client that made the attempt, from 0"})
    handshake_ns: Array = field(
        metadata={
            "code": "q",
            "unit": "ns",
            "meaning": "from the end of connect() to the outcome of the handshake; 0 without `--in-flight`",
            "is_optional": True,
        }
    )
    in_use: Array = field(
        metadata={
            "code": "I",
            "meaning": "`connbench profile`: the ports in use when the attempt began; else 0",
            "is_optional": True,
        }
    )


@dataclass(frozen=True, slots=True)
class Column:
    """A column of an attempt.

    Attributes:
        name: Its key in JSON, its heading in CSV, its attribute of `AttemptColumns`.
        code: The type of its values, as `array`, `memoryview` and numpy write it: q, I and H are 8, 4 and 2 bytes.
        meaning: For docs/figures.md.
        unit: ns, or empty for a plain number. Times may have fractions where they come from another program's file.
        lowest: Its lowest value; an attempt without a known value has this one, too.
        is_optional: Whether a file without it is read; its values are `lowest` then.
    """

    name: str
    code: str
    meaning: str
    unit: str = ""
    lowest: int = 0
    is_optional: bool = False

    @property
    def size(self) -> int:
        """Bytes of a value."""
        return struct.calcsize(self.code)

    @property
    def highest(self) -> int:
        """Its highest value: what its type can hold, or `LONGEST_NS`."""
        return LONGEST_NS if self.unit == "ns" else 256**self.size - 1


COLUMNS = tuple(Column(one.name, **one.metadata) for one in fields(AttemptColumns))

NO_PORT_FREE = frozenset({errno.EADDRINUSE, errno.EADDRNOTAVAIL, errno.EAGAIN})
"""The errnos of an attempt that found no free port: bind() found its port in use, or connect() found none.

A further try can succeed. EAGAIN comes from UDP: connect() of an unbound socket binds it first (inet_autobind() in the
kernel), and fails with EAGAIN if that fails.
"""

TIMED_OUT = errno.EINPROGRESS
"""The errno of a blocking connect() that took longer than SO_SNDTIMEO (socket(7))."""

GIVEN_UP = errno.ETIME
"""The errno that connbench gives an attempt that took longer than `--give-up-after`; no system call of it has this."""

UNKNOWN_ERRNO = 0xFFFF
"""The errno of a failed attempt in a file that does not contain the reason."""

ROW_BYTES = sum(column.size for column in COLUMNS)

CONTROL_BYTES = 4096
"""Size of the control page. Its first four bytes are the stop flag, an int; the rest is not used."""


def offsets(rows: int) -> dict[str, int]:
    """Byte offset of each column in the memory for `rows` attempts: the widest first, so that each begins aligned."""
    found, end = {}, CONTROL_BYTES
    for column in sorted(COLUMNS, key=lambda column: -column.size):
        found[column.name] = end
        end += column.size * rows
    return found


def _bytes_for(rows: int) -> int:
    return CONTROL_BYTES + ROW_BYTES * rows


def create(rows: int) -> int:
    """Create anonymous shared memory for `rows` attempts, and return its file descriptor, which the caller closes.

    Raises:
        EnvironmentFault: RLIMIT_FSIZE, which limits memory files too, is too low.
    """
    descriptor = os.memfd_create("connbench-samples", os.MFD_CLOEXEC)
    try:
        os.ftruncate(descriptor, _bytes_for(rows))
    except OSError as error:
        os.close(descriptor)
        if error.errno != errno.EFBIG:
            raise
        limit, _ = resource.getrlimit(resource.RLIMIT_FSIZE)
        raise EnvironmentFault(
            f"RLIMIT_FSIZE is {limit:,} bytes, and the samples of a round take {_bytes_for(rows):,} in shared memory",
            "raise it: ulimit -f unlimited",
        ) from error
    return descriptor


def attach(descriptor: int, rows: int) -> mmap.mmap:
    """Map the shared memory of `create`, with all its pages, so that no write of the measured loop faults a page in."""
    return mmap.mmap(descriptor, _bytes_for(rows), flags=mmap.MAP_SHARED | mmap.MAP_POPULATE)


def views(memory: mmap.mmap, rows: int) -> dict[str, memoryview]:
    """The columns as typed, writable views of `rows` elements each, by name."""
    whole, begin = memoryview(memory), offsets(rows)
    return {
        column.name: whole[begin[column.name] :][: column.size * rows].cast(column.code)  # type: ignore[call-overload]  # the code is not a literal
        for column in COLUMNS
    }


def stop_flag(descriptor: int) -> memoryview[int]:
    """Map the stop flag of a round: the only element of the view.

    Its value is 0 until somebody wants the round to end early, and another one from then on. Any process of the round
    may set it; nobody clears it.

    Args:
        descriptor: The memory of `create`, which may be closed afterwards.
    """
    return memoryview(mmap.mmap(descriptor, CONTROL_BYTES))[: struct.calcsize("i")].cast("i")


def scratch(rows: int) -> dict[str, memoryview]:
    """The columns of as many attempts as views of memory that nobody reads, for attempts that are not measured."""
    return {column.name: memoryview(array(column.code, bytes(column.size * rows))) for column in COLUMNS}


def count_done(tries: memoryview, rows: range) -> int:
    """Count the finished attempts of one client: it finishes them in order, so a binary search finds the end.

    In flight they finish in any order. Then it finds a place between the first unfinished and the last finished one,
    which is good enough to show progress.

    Args:
        tries: The column of that name, from `views`.
        rows: The rows of the client.
    """
    low, high = rows.start, rows.stop
    while low < high:
        middle = (low + high) // 2
        if tries[middle]:
            low = middle + 1
        else:
            high = middle
    return low - rows.start
