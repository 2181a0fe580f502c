"""Reading a result file: what it is shows in how it begins, whatever it is called."""

from __future__ import annotations

import gzip
import io
import os
import zlib
from codecs import BOM_UTF8
from collections.abc import Iterable
from pathlib import Path
from typing import BinaryIO, cast

from connbench.errors import InputError, UsageError
from connbench.findings import printable
from connbench.results.csv_file import is_own_header, read_csv
from connbench.results.json_file import read_json
from connbench.results.result import Origin, Result
from connbench.results.talk_csv import is_talk_csv, read_talk_csv

_GZIP_MAGIC = b"\x1f\x8b"
LARGEST_FILE = 2 << 30
"""Bytes, unpacked: fifty times what a million attempts take."""

PIECE = 1 << 24

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
    except MemoryError as error:
        raise InputError(f"{name} does not fit into memory", "read it on a machine with more of it") from error
    if not result.rounds:
        raise InputError(f"{name} holds no attempts", "the run that wrote it was stopped before the first of them")
    return result


def _read(path: Path, name: str, unit: str | None) -> Result:
    try:
        with path.open("rb") as file:
            data = _take(file, name)
    except OSError as error:
        raise InputError(f"{name} cannot be read: {error.strerror}", "name a result file") from error
    if data.startswith(_GZIP_MAGIC):
        data = _unpack(data, name)
    data = data.removeprefix(BOM_UTF8)
    if not data.strip():
        raise InputError(f"{name} is empty", "the run that should have written it did not")
    if data.lstrip().startswith((b"{", b"[")):
        return read_json(data, name)
    return _read_text(data, name, unit)


def _take(file: BinaryIO, name: str) -> bytes:
    pieces, size = [], 0
    # All at once, memory of the largest size would be asked for, however small the file is.
    while piece := file.read(min(PIECE, LARGEST_FILE + 1 - size)):
        pieces.append(piece)
        size += len(piece)
        if size > LARGEST_FILE:
            raise InputError(f"{name} is no result file: it holds more than {LARGEST_FILE >> 30} GiB", _KNOWN)
    return b"".join(pieces)


def _unpack(data: bytes, name: str) -> bytes:
    try:
        with gzip.open(io.BytesIO(data)) as file:
            return _take(cast(BinaryIO, file), name)
    except EOFError as error:
        raise InputError(f"{name} is cut off: its gzip stream has no end", "copy the whole file again") from error
    except (OSError, zlib.error) as error:
        raise InputError(f"{name} is broken: {error}", "copy the file again") from error


def _read_text(data: bytes, name: str, unit: str | None) -> Result:
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise InputError(f"{name} is no result file: not text from byte {error.start} on", _KNOWN) from error
    first = text.split("\n", 1)[0]
    if is_own_header(first):
        return read_csv(text, name)
    if is_talk_csv(first):
        return read_talk_csv(text, name, unit)
    raise InputError(f"{name} is no result file: it begins with {first[:40]!r}", _KNOWN)
