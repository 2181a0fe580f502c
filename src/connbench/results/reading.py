"""Reading a result file: what it is shows in how it begins, whatever it is called."""

from __future__ import annotations

import gzip
import os
import zlib
from pathlib import Path

from connbench.errors import InputError
from connbench.results.csv_file import is_own_header, read_csv
from connbench.results.json_file import read_json
from connbench.results.result import Result
from connbench.results.talk_csv import is_talk_row, read_talk_csv

_GZIP_MAGIC = b"\x1f\x8b"
_KNOWN = "a result is a .json or .csv that connbench wrote, or a CSV of port,seconds as the talk's"


def read(path: Path) -> Result:
    """Read a result file: JSON, JSON in gzip, connbench's CSV or the talk's.

    Raises:
        InputError: It is not there, cut off, empty, of a newer connbench, or no result at all.
    """
    name = os.fsencode(path).decode(errors="replace")  # it will be printed, whatever bytes it is made of
    try:
        data = path.read_bytes()
    except OSError as error:
        raise InputError(f"{name} cannot be read: {error.strerror}", "name a result file") from error
    if data.startswith(_GZIP_MAGIC):
        data = _unpack(data, name)
    if not data.strip():
        raise InputError(f"{name} is empty", "the run that should have written it did not")
    if data.lstrip().startswith((b"{", b"[")):
        return read_json(data, name)
    return _read_text(data, name)


def _unpack(data: bytes, name: str) -> bytes:
    try:
        return gzip.decompress(data)
    except EOFError as error:
        raise InputError(f"{name} is cut off: its gzip stream has no end", "copy the whole file again") from error
    except (OSError, zlib.error) as error:
        raise InputError(f"{name} is broken: {error}", "copy the file again") from error


def _read_text(data: bytes, name: str) -> Result:
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise InputError(f"{name} is no result file: not text from byte {error.start} on", _KNOWN) from error
    first = text.split("\n", 1)[0]
    if is_own_header(first):
        return read_csv(text, name)
    if is_talk_row(first):
        return read_talk_csv(text, name)
    raise InputError(f"{name} is no result file: it begins with {first[:40]!r}", _KNOWN)
