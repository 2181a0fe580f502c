"""Writing a result file: never over another by accident, never half."""

from __future__ import annotations

import gzip
import os
from collections.abc import Mapping
from pathlib import Path

from connbench.errors import OutputError, UsageError

SUFFIXES = {".json": "json", ".json.gz": "json", ".csv": "csv"}
"""What a result may be written as, by the file name's ending, and the format's name."""

PICTURE_SUFFIXES = {".png": "png", ".svg": "svg"}
"""What a chart may be written as."""

GZIP_LEVEL = 1
"""Samples shrink to a third at the lowest level already; the highest would take many times as long."""


def check_output(path: Path, *, force: bool, suffixes: Mapping[str, str] = SUFFIXES, option: str = "-o") -> str:
    """Make sure, before anything is measured or read, that a file can be written to `path`.

    Args:
        path: Where to.
        force: Whether an existing file may be replaced.
        suffixes: Endings that may be written, and the names of their formats.
        option: Under which the user named it, for messages.

    Returns:
        The format's name, by the ending.

    Raises:
        UsageError: An ending that names no format.
        OutputError: The folder is missing or not writable, or the file exists and `force` is not given.
    """
    ending = next((s for s in suffixes if path.name.endswith(s) and path.name != s), None)
    if ending is None:
        raise UsageError(f"{option} {path}: unknown ending {path.suffix!r}", f"use {', '.join(suffixes)}")
    try:
        _check_place(path, f"{option} {path}", force=force)
    except OSError as error:
        raise _cannot_write(f"{option} {path}", error) from error
    return suffixes[ending]


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


def write_atomically(path: Path, content: str | bytes, *, option: str = "-o") -> None:
    """Replace `path` in one step, packed if the name ends in .gz: a reader sees the old file or the new one.

    Raises:
        OutputError: It cannot be written; what was there before still is.
    """
    temporary = _temporary(path)
    try:
        try:
            data = content.encode() if isinstance(content, str) else content
            temporary.write_bytes(gzip.compress(data, GZIP_LEVEL, mtime=0) if path.suffix == ".gz" else data)
            temporary.replace(path.resolve())
        finally:
            temporary.unlink(missing_ok=True)
    except OSError as error:
        raise _cannot_write(f"{option} {path}", error) from error


def _temporary(path: Path) -> Path:
    return path.resolve().with_name(f".connbench-{os.getpid()}.tmp")


def _cannot_write(named: str, error: OSError) -> OutputError:
    return OutputError(f"{named} cannot be written: {error.strerror}", "choose another place")
