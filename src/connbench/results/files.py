"""Writing a result file: never over another by accident, never half."""

from __future__ import annotations

import gzip
import os
from collections.abc import Mapping
from pathlib import Path

from connbench.errors import OutputError, UsageError

SUFFIXES = {".json": "json", ".json.gz": "json", ".csv": "csv"}
"""What may be written, by the file name's ending, and the format's name."""

GZIP_LEVEL = 1
"""Samples shrink to a third at the lowest level already; the highest would take many times as long."""


def check_output(path: Path, *, force: bool, endings: Mapping[str, str] = SUFFIXES, option: str = "-o") -> str:
    """Make sure, before anything is measured, that a result can be written to `path`.

    Args:
        path: The file to be.
        force: Whether it may replace another.
        endings: What the name may end in, and the format's name of each.
        option: Under which the user named it, for messages.

    Returns:
        The format's name, by the ending.

    Raises:
        UsageError: An ending that names no format.
        OutputError: The folder is missing or not writable, or the file exists and `force` is not given.
    """
    ending = next((s for s in endings if path.name.endswith(s) and path.name != s), None)
    if ending is None:
        raise UsageError(f"{option} {path}: unknown ending {path.suffix!r}", f"use {', '.join(endings)}")
    try:
        _check_place(path, f"{option} {path}", force=force)
    except OSError as error:
        raise _cannot_write(path, option, error) from error
    return endings[ending]


def _check_place(path: Path, named: str, *, force: bool) -> None:
    if not path.parent.is_dir():
        raise OutputError(f"{named}: folder {path.parent} does not exist", "create it first")
    if path.is_dir():
        raise OutputError(f"{named} is a folder", "name a file in it")
    if path.exists() and not force:
        raise OutputError(f"{named} exists already", "add --force to replace it")
    if path.exists() and not os.access(path, os.W_OK):
        raise OutputError(f"{named} is read-only", "choose another file")
    temporary = _temporary(path)
    temporary.touch(exist_ok=False)
    temporary.unlink()


def write_atomically(path: Path, text: str, *, option: str = "-o") -> None:
    """Replace `path` by `text`, packed if the name ends in .gz, in one step: a reader sees the old file or the new one.

    Raises:
        OutputError: It cannot be written; what was there before still is.
    """
    temporary = _temporary(path)
    try:
        try:
            data = text.encode()
            temporary.write_bytes(gzip.compress(data, GZIP_LEVEL, mtime=0) if path.suffix == ".gz" else data)
            temporary.replace(path.resolve())
        finally:
            temporary.unlink(missing_ok=True)
    except OSError as error:
        raise _cannot_write(path, option, error) from error


def _temporary(path: Path) -> Path:
    return path.resolve().with_name(f".connbench-{os.getpid()}.tmp")


def _cannot_write(path: Path, option: str, error: OSError) -> OutputError:
    return OutputError(f"{option} {path} cannot be written: {error.strerror}", "choose another place")
