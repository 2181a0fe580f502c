"""Reads a result file of any format. Its first bytes tell the format; its name does not matter.

A file may come from anybody. Limits hold for its size, for what a small file unpacks to, for the length of a line, for
the parts of a document, and for the memory that reading it takes.
"""

from __future__ import annotations

import gzip
import io
import os
import re
import resource
import zlib
from codecs import BOM_UTF8
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TypeVar

from connbench.errors import InputError, UsageError
from connbench.results.csv_file import is_own_header, read_csv
from connbench.results.fleet_file import (
    Fleet,
    is_fleet_header,
    is_fleet_json,
    of_several_hosts,
    read_fleet_csv,
    read_fleet_json,
)
from connbench.results.json_file import read_json
from connbench.results.result import Origin, Result
from connbench.results.talk_csv import is_talk_csv, read_talk_csv
from connbench.safe_text import printable

_Document = TypeVar("_Document")
_GZIP_MAGIC = b"\x1f\x8b"
_PARQUET_MAGIC = b"PAR1"
LARGEST_FILE = 2 << 30
"""Bytes, unpacked: fifty times the size of a million attempts."""

MOST_TIMES, ALWAYS_UNPACKED = 100, 16 << 20
"""A gzip file may unpack to ALWAYS_UNPACKED bytes, and to more if that is at most MOST_TIMES its size.

gzip packs results to a third or a tenth. It packs blanks or zeros to a thousandth, so that a megabyte unpacks to a
gigabyte.
"""

PIECE = 1 << 20
_BLANKS = re.compile(rb"\s*")

MEMORY, MEMORY_TIMES = 256 << 20, 8
"""Reading a file may take MEMORY bytes and MEMORY_TIMES its unpacked size.

A million attempts are 50 MB of JSON, and take 4 times that. Reports take more memory afterwards.
"""


@dataclass(frozen=True, slots=True)
class FileKind:
    """What a file has to be.

    Attributes:
        noun: As messages name it.
        known: What that is, as a hint.
        check_begin: Refuses a file that has no end, such as /dev/zero: raises InputError for its first PIECE bytes and
            its name.
    """

    noun: str
    known: str
    check_begin: Callable[[bytes, str], None]


_KNOWN = "a result is a .json or .csv that connbench wrote, or a CSV of two columns, port and seconds"


def read_all(paths: Iterable[Path], unit: str | None) -> list[Result | Fleet]:
    """Read result files, of one host or of several each.

    Args:
        paths: The files.
        unit: The unit of the times in files that are a CSV of port and time; None for the unit that they name, or
            seconds.

    Raises:
        InputError: A file is no result; see `read_any`.
        UsageError: `unit` is given, and no file is such a CSV.
    """
    results = [read_any(path, unit) for path in paths]
    if unit and not any(isinstance(one, Result) and one.origin is Origin.TALK_CSV for one in results):
        names = " and ".join(result.name for result in results)
        raise UsageError(f"--unit is for a CSV of port and time; {names} names the unit of its times", "leave it out")
    return results


def read(path: Path, unit: str | None = None) -> Result:
    """Read a result file of one host: JSON, JSON in gzip, connbench's CSV or the talk's.

    Args:
        path: The file.
        unit: The unit of the times if the file is the talk's CSV; see `connbench.results.talk_csv.read_talk_csv`.

    Raises:
        InputError: The file is missing, cut off, empty, of a newer connbench, without an attempt, no result, or of
            several hosts.
    """
    return read_document(path, lambda data, name: parse_result(data, name, unit))


def read_any(path: Path, unit: str | None = None) -> Result | Fleet:
    """Read a result file of one host or of several; arguments and errors as for `read`."""
    return read_document(path, lambda data, name: parse_any(data, name, unit))


def read_document(
    path: Path, parse: Callable[[bytes, str], _Document], kind: FileKind | None = None, *, takes_stdin: bool = False
) -> _Document:
    """Read a file within the limits above.

    Args:
        path: The file.
        parse: Makes what is returned of the unpacked bytes and of the name of the file, which can be printed.
        kind: What the file has to be; None for a result.
        takes_stdin: Whether `-` is the standard input.

    Raises:
        InputError: The file is missing, cut off or too large, or `parse` raises this.
    """
    kind = kind or RESULT
    is_stdin = takes_stdin and path == Path("-")
    name = "stdin" if is_stdin else printable(os.fsencode(path).decode(errors="replace"))  # a name may have any bytes
    try:
        with open(0, "rb", closefd=False) if is_stdin else path.open("rb") as file:  # a descriptor
            is_packed = file.peek(2).startswith(_GZIP_MAGIC)
            data = _unpack(file, name, kind) if is_packed else _take(file, name, kind)
        limit = MEMORY + MEMORY_TIMES * len(data)
        try:
            with _memory_of_at_most(limit):
                return parse(data, name)
        except MemoryError as error:
            raise InputError(
                f"{name} takes more memory to read than there is, or than the {limit >> 20} MiB for a file of its size",
                "if connbench wrote it, read it on a machine with more memory",
            ) from error
    except OSError as error:
        raise InputError(f"{name} cannot be read: {error.strerror}", f"name a {kind.noun}") from error


@contextmanager
def _memory_of_at_most(size: int) -> Iterator[None]:
    """Limit the memory of this process to `size` bytes more than now; an allocation beyond raises MemoryError.

    Since Linux 4.7 RLIMIT_DATA counts all that a process allocates (getrlimit(2)). Without /proc there is no limit,
    because the memory that the process has already is not known.
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
    """A file that counts the bytes read from it."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self.size = 0

    def read(self, size: int = -1) -> bytes:
        """The next bytes, as the `read` of a file."""
        data = self._file.read(size)
        self.size += len(data)
        return data


def _take(file: IO[bytes], name: str, kind: FileKind, packed: _Counted | None = None) -> bytes:
    """Read a file completely, after a check of its begin; `packed` is the file that it is unpacked from."""
    buffer = io.BytesIO()
    # read(LARGEST_FILE) would allocate as many bytes, however small the file is.
    while piece := file.read(min(PIECE, LARGEST_FILE + 1 - buffer.tell())):
        if not buffer.tell():
            kind.check_begin(piece, name)
        buffer.write(piece)
        if buffer.tell() > LARGEST_FILE:
            raise InputError(f"{name} is not a {kind.noun}: it holds more than {LARGEST_FILE >> 30} GiB", kind.known)
        if packed and buffer.tell() > max(ALWAYS_UNPACKED, MOST_TIMES * packed.size):
            raise InputError(
                f"{name} is not a {kind.noun}: it unpacks to more than {MOST_TIMES} times its size",
                f"a {kind.noun} unpacks to at most thirty times its size",
            )
    return buffer.getvalue()


def _check_begin(piece: bytes, name: str) -> None:
    """Refuse a file that has no end, such as /dev/zero, by its first piece."""
    text = piece.removeprefix(BOM_UTF8).lstrip()
    if not text and len(piece) >= PIECE:
        raise InputError(f"{name} is not a result file: it begins with {PIECE >> 20} MiB of blanks", _KNOWN)
    if len(piece) >= PIECE and not text.startswith((b"{", b"[")):
        _is_own(piece.partition(b"\n")[0].decode("utf-8-sig", errors="replace"), name)


RESULT = FileKind("result file", _KNOWN, _check_begin)


def _unpack(file: IO[bytes], name: str, kind: FileKind) -> bytes:
    packed = _Counted(file)
    try:
        with gzip.GzipFile(fileobj=packed) as stream:  # type: ignore[call-overload]  # GzipFile calls its read() alone
            return _take(stream, name, kind, packed)
    except EOFError as error:
        raise InputError(f"{name} is cut off: its gzip stream has no end", "copy the whole file again") from error
    except (gzip.BadGzipFile, zlib.error) as error:
        raise InputError(f"{name} is broken: {error}", "copy the file again") from error


def parse_result(data: bytes, name: str, unit: str | None) -> Result:
    """The result in the unpacked bytes of a file; arguments and errors as for `read`."""
    result = _parse(data, name, unit, is_one=True)
    assert isinstance(result, Result)  # noqa: S101  # that is what `is_one` asks for
    return result


def parse_any(data: bytes, name: str, unit: str | None) -> Result | Fleet:
    """The result or the fleet in the unpacked bytes of a file; arguments and errors as for `read_any`."""
    return _parse(data, name, unit, is_one=False)


def _parse(data: bytes, name: str, unit: str | None, *, is_one: bool) -> Result | Fleet:
    found = _parse_whole(data, name, unit, is_one=is_one)
    if isinstance(found, Result) and not found.rounds:
        raise InputError(f"{name} holds no attempts", "the run that wrote it was stopped before the first of them")
    return found


def _parse_whole(data: bytes, name: str, unit: str | None, *, is_one: bool) -> Result | Fleet:
    begin = len(BOM_UTF8) if data.startswith(BOM_UTF8) else 0
    text = _BLANKS.match(data, begin)
    first = data[text.end() : text.end() + 1] if text else b""
    if data.startswith(_PARQUET_MAGIC):
        raise InputError(f"{name} is Parquet, which connbench writes and does not read", "name the run's .json or .csv")
    if not first:
        raise InputError(f"{name} is empty", "the run that should have written it did not")
    if first in {b"{", b"["}:
        document = data[begin:] if begin else data
        if not is_fleet_json(document):
            return read_json(document, name)
        if is_one:
            raise of_several_hosts(name)
        return read_fleet_json(document, name)
    return _read_text(data, name, unit, is_one=is_one)


def _read_text(data: bytes, name: str, unit: str | None, *, is_one: bool) -> Result | Fleet:
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise InputError(f"{name} is not a result file: not text from byte {error.start} on", _KNOWN) from error
    header = text.partition("\n")[0]
    if is_fleet_header(header):
        if is_one:
            raise of_several_hosts(name)
        return read_fleet_csv(text, name)
    if _is_own(header, name):
        return read_csv(text, name)
    return read_talk_csv(text, name, unit)


def _is_own(first: str, name: str) -> bool:
    """Whether a CSV that begins with this line is connbench's own; otherwise it is the talk's.

    Raises:
        InputError: It is neither.
    """
    if is_own_header(first) or is_fleet_header(first):
        return True
    if is_talk_csv(first):
        return False
    raise InputError(f"{name} is not a result file: it begins with {first[:40]!r}", _KNOWN)
