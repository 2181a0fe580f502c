"""What the control groups of this process allow: memory and processes, of cgroup v1 and v2.

The limits of all groups above a process's own group apply, too, so every folder up to the mount point is read. The
groups above a container's mount point are hidden; of these, only `hierarchical_memory_limit` of cgroup v1 tells.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

PROC = Path("/proc")


class Remaining(NamedTuple):
    """The amount that a limit still allows, and the name of the limit. The least of several applies."""

    amount: int
    limit: str


V1_UNLIMITED = 1 << 60
"""From this value on there is no limit: cgroup v1 then reports a multiple of the page size just below 2^63."""


def folders(controller: str, proc: Path = PROC) -> list[Path]:
    """The folders of this process's groups that can have files of a controller, its own group first.

    Args:
        controller: Its name in /proc/self/cgroup: `memory` or `pids`.
        proc: The mount point of proc(5).

    Returns:
        No folder if /proc cannot be read, or no hierarchy is mounted in this mount namespace.
    """
    try:
        groups = (proc / "self/cgroup").read_text(encoding="utf-8", errors="surrogateescape")
        mounts = (proc / "self/mountinfo").read_text(encoding="utf-8", errors="surrogateescape")
    except OSError:
        return []
    found: dict[Path, None] = {}
    for path, is_unified in _paths(groups, controller):
        for root, point in _mounts(mounts, controller, is_unified=is_unified):
            found |= dict.fromkeys(_upwards(path, root, point))
    return list(found)


def _paths(text: str, controller: str) -> Iterator[tuple[str, bool]]:
    """The paths in /proc/self/cgroup (cgroups(7)) of the controller's hierarchy, and whether that is cgroup v2."""
    for line in text.splitlines():
        number, _, rest = line.partition(":")
        controllers, colon, path = rest.partition(":")
        if colon and (controller in controllers.split(",") or (number == "0" and not controllers)):
            yield path.removesuffix(" (deleted)"), not controllers


def _mounts(text: str, controller: str, *, is_unified: bool) -> Iterator[tuple[str, Path]]:
    """Root and mount point of each mount of the hierarchy in /proc/self/mountinfo (proc_pid_mountinfo(5))."""
    for line in text.splitlines():
        before, dash, after = line.partition(" - ")
        fields, kind = before.split(" "), after.split(" ")
        if not dash or len(fields) < 5 or len(kind) < 3:
            continue
        if kind[0] == "cgroup2" if is_unified else kind[0] == "cgroup" and controller in kind[2].split(","):
            yield _unescaped(fields[3]), Path(_unescaped(fields[4]))


def _unescaped(text: str) -> str:
    r"""Decode a path of the kernel, which writes a blank or a backslash as `\040` or the like."""
    return re.sub(r"\\([0-7]{3})", lambda match: chr(int(match[1], 8)), text)


def _upwards(path: str, root: str, point: Path) -> Iterator[Path]:
    """The folder of a group and those above it, up to the mount point.

    In a container without a cgroup namespace the mount has the container's own group as root (`/docker/1234`). If the
    path does not lie below the root, as in a group that was entered from outside the namespace (`/../other`), only the
    mount point is visible.
    """
    inner = os.path.relpath(path, root) if path.startswith(root.rstrip("/") + "/") else "."
    if ".." in inner.split("/"):
        inner = "."
    folder = point / inner
    yield folder
    while folder != point:
        folder = folder.parent
        yield folder


def memory_left(proc: Path = PROC) -> Remaining | None:
    """The memory in bytes that the group with the least allows, and the file of that limit; None without a limit.

    The file cache that the kernel frees first (inactive_file of memory.stat) does not count as used.
    """
    found = [left for folder in folders("memory", proc) for left in _memory_of(folder)]
    return min(found, default=None)


def _memory_of(folder: Path) -> Iterator[Remaining]:
    stat = _stat(folder / "memory.stat")
    for used_name, limit_names, cache in (
        ("memory.current", ("memory.max", "memory.high"), "inactive_file"),
        ("memory.usage_in_bytes", ("memory.limit_in_bytes",), "total_inactive_file"),
    ):
        used = _number(folder / used_name)
        if used is None:
            continue
        used = max(0, used - stat.get(cache, 0))
        for name in limit_names:
            limit = _number(folder / name)
            if limit is not None and limit < V1_UNLIMITED:
                yield Remaining(max(0, limit - used), str(folder / name))
        limit = stat.get("hierarchical_memory_limit", V1_UNLIMITED)
        if limit < V1_UNLIMITED:
            yield Remaining(max(0, limit - used), f"hierarchical_memory_limit of {folder / 'memory.stat'}")


def processes_left(proc: Path = PROC) -> Remaining | None:
    """The processes and threads that the group with the least allows (pids.max), and the file; None without a limit."""
    found = []
    for folder in folders("pids", proc):
        limit, used = _number(folder / "pids.max"), _number(folder / "pids.current")
        if limit is not None and used is not None:
            found.append(Remaining(max(0, limit - used), str(folder / "pids.max")))
    return min(found, default=None)


def _number(path: Path) -> int | None:
    """The number in a file; None for `max`, and if the file is missing, unreadable or has something else."""
    try:
        text = path.read_text(encoding="ascii").strip()
    except (OSError, ValueError):  # not ASCII, or a path with a NUL
        return None
    return int(text) if re.fullmatch(r"[0-9]{1,20}", text, re.ASCII) else None


def _stat(path: Path) -> dict[str, int]:
    """The numbers in memory.stat by name."""
    try:
        words = [line.split() for line in path.read_text(encoding="ascii").splitlines()]
    except (OSError, ValueError):  # not ASCII, or a path with a NUL
        return {}
    return {pair[0]: int(pair[1]) for pair in words if len(pair) == 2 and pair[1].isdecimal()}
