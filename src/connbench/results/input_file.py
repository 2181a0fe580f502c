"""Reading a result file: what it is shows in how it begins, whatever it is called.

A file may be anybody's. What is read of it is bounded: its size, what a small one may unpack to, the length of a line,
the parts of a document, and, whatever else it holds, the memory that reading it takes.
"""

from __future__ import annotations

import gzip
import io
import os
import re
import resource
import zlib
from codecs import BOM_UTF8
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from connbench.errors import InputError, UsageError
from connbench.findings import printable
from connbench.results.csv_file import is_own_header, read_csv
from connbench.results.json_file import read_json
from connbench.results.result import Origin, Result
from connbench.results.talk_csv import is_talk_csv, read_talk_csv

_GZIP_MAGIC = b"\x1f\x8b"
LARGEST_FILE = 2 << 30
"""Bytes, unpacked: fifty times what a million attempts take."""

MOST_TIMES, ALWAYS_UNPACKED = 100, 16 << 20
"""How many times its size a gzip may unpack to, beyond so many bytes: results shrink to a third or a tenth.

Blanks or zeros shrink to a thousandth: a megabyte would unpack to a gigabyte."""

PIECE = 1 << 20
_BLANKS = re.compile(rb"\s*")

MEMORY, MEMORY_TIMES = 256 << 20, 8
"""Bytes of memory that reading a file may take: so many, and so many times its unpacked size.

A million attempts, 50 MB of JSON, take 4 times theirs; the reports take more afterwards, by what was read."""

_KNOWN = "a result is a .json or .csv that connbench wrote, or a CSV of port,seconds as the talk's"


def read_all(paths: Iterable[Path], unit: str | None) -> list[Result]:
    """Read result files; `unit` is what the times of those are in that are a CSV of port and time.

    Raises:
        InputError: One of them is none.
        UsageError: There is a `unit`, and no such CSV.
    """
    results = [read(path, unit) for path in paths]
    if unit and not any(result.origin is Origin.TALK_CSV for result in results):
        names = " and ".join(result.name for result in results)
        raise UsageError(
            f"--unit is for a CSV of port and time, and {names} says itself what its times are", "leave it out"
        )
    return results


def read(path: Path, unit: str | None = None) -> Result:
    """Read a result file: JSON, JSON in gzip, connbench's CSV or the talk's.

    Args:
        path: The file.
        unit: What the times are in if it is the talk's CSV; see `connbench.results.talk_csv.read_talk_csv`.

    Raises:
        InputError: It is not there, cut off, empty, of a newer connbench, without an attempt, or no result at all.
    """
    name = printable(os.fsencode(path).decode(errors="replace"))  # whatever bytes it is made of
    try:
        result = _read(path, name, unit)
    except OSError as error:
        raise InputError(f"{name} cannot be read: {error.strerror}", "name a result file") from error
    if not result.rounds:
        raise InputError(f"{name} holds no attempts", "the run that wrote it was stopped before the first of them")
    return result


def _read(path: Path, name: str, unit: str | None) -> Result:
    with path.open("rb") as file:
        data = _unpack(file, name) if file.peek(2).startswith(_GZIP_MAGIC) else _take(file, name)
    limit = MEMORY + MEMORY_TIMES * len(data)
    try:
        with _memory_of_at_most(limit):
            return _parse(data, name, unit)
    except MemoryError as error:
        raise InputError(
            f"{name} takes more memory to read than there is, or than the {limit >> 20} MiB for a file of its size",
            "if connbench wrote it, read it on a machine with more memory",
        ) from error


@contextmanager
def _memory_of_at_most(size: int) -> Iterator[None]:
    """Let this process take at most so many bytes more; whoever asks for more gets a MemoryError.

    RLIMIT_DATA counts all that a process allocates since Linux 4.7 (getrlimit(2)). Without /proc what it has already is
    not known, and nothing is limited.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_DATA)
    try:
        pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[5])
    except (OSError, ValueError, IndexError):
        yield
        return
    limit = pages * resource.getpagesize() + size
    others = [one for one in (soft, hard) if one != resource.RLIM_INFINITY]
    resource.setrlimit(resource.RLIMIT_DATA, (min([limit, *others]), hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_DATA, (soft, hard))


class _Counted:
    """A file that counts what is read of it."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self.size = 0

    def read(self, size: int = -1) -> bytes:
        """As a file's."""
        data = self._file.read(size)
        self.size += len(data)
        return data


def _take(file: IO[bytes], name: str, packed: _Counted | None = None) -> bytes:
    """All of a file that begins as a result does; `packed` is what it is unpacked from, and counts."""
    buffer = io.BytesIO()
    # All at once, memory of the largest size would be asked for, however small the file is.
    while piece := file.read(min(PIECE, LARGEST_FILE + 1 - buffer.tell())):
        if not buffer.tell():
            _check_begin(piece, name)
        buffer.write(piece)
        if buffer.tell() > LARGEST_FILE:
            raise InputError(f"{name} is no result file: it holds more than {LARGEST_FILE >> 30} GiB", _KNOWN)
        if packed and buffer.tell() > max(ALWAYS_UNPACKED, MOST_TIMES * packed.size):
            raise InputError(
                f"{name} is no result file: it unpacks to more than {MOST_TIMES} times its size",
                "a result unpacks to three to ten times its size",
            )
    return buffer.getvalue()


def _check_begin(piece: bytes, name: str) -> None:
    """Refuse what is endless, as /dev/zero is, before all of it is read."""
    text = piece.removeprefix(BOM_UTF8).lstrip()
    if not text and len(piece) >= PIECE:
        raise InputError(f"{name} is no result file: it begins with {PIECE >> 20} MiB of blanks", _KNOWN)
    if len(piece) >= PIECE and not text.startswith((b"{", b"[")):
        _is_own(piece.partition(b"\n")[0].decode("utf-8-sig", errors="replace"), name)


def _unpack(file: IO[bytes], name: str) -> bytes:
    packed = _Counted(file)
    try:
        with gzip.GzipFile(fileobj=packed) as stream:  # type: ignore[call-overload]  # it reads, and does nothing else
            return _take(stream, name, packed)
    except EOFError as error:
        raise InputError(f"{name} is cut off: its gzip stream has no end", "copy the whole file again") from error
    except (gzip.BadGzipFile, zlib.error) as error:
        raise InputError(f"{name} is broken: {error}", "copy the file again") from error


def _parse(data: bytes, name: str, unit: str | None) -> Result:
    begin = len(BOM_UTF8) if data.startswith(BOM_UTF8) else 0
    text = _BLANKS.match(data, begin)
    first = data[text.end() : text.end() + 1] if text else b""
    if not first:
        raise InputError(f"{name} is empty", "the run that should have written it did not")
    if first in {b"{", b"["}:
        return read_json(data[begin:] if begin else data, name)
    return _read_text(data, name, unit)


def _read_text(data: bytes, name: str, unit: str | None) -> Result:
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise InputError(f"{name} is no result file: not text from byte {error.start} on", _KNOWN) from error
    if _is_own(text.partition("\n")[0], name):
        return read_csv(text, name)
    return read_talk_csv(text, name, unit)


def _is_own(first: str, name: str) -> bool:
    """Whether a CSV that begins with this line is connbench's own, and not the talk's.

    Raises:
        InputError: It is neither.
    """
    if is_own_header(first):
        return True
    if is_talk_csv(first):
        return False
    raise InputError(f"{name} is no result file: it begins with {first[:40]!r}", _KNOWN)
