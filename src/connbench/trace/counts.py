"""The counts of a trace since it began, read from the maps that bpftrace prints; and the paths of cgroups."""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from connbench.trace.program import Trace

READY, TICK = "ready\n", "tick\n"
"""What the programs print when all probes are attached, and after the maps of each interval."""

MAX_KEYS = 16384
"""Keys that a map can hold, at most two for each process. Totals also count the processes that have no key."""

Maps = dict[str, dict[str, Any]]
"""Maps by their name without the @: values by key; commas join the parts of a key."""


def read_line(line: bytes, maps: Maps) -> str:
    """Read a line of bpftrace's JSON; a map replaces the older state of that map.

    Returns:
        What the program printed by printf(); empty if the line is a map.

    Raises:
        ValueError: The line is not JSON.
    """
    if not line.strip():
        return ""
    said = json.loads(line.decode(errors="replace"), strict=False)  # the name of a process may contain any character
    kind, data = said["type"], said.get("data")
    if kind in {"map", "hist"}:
        maps.update({name.removeprefix("@"): values for name, values in data.items()})
    return str(data) if kind == "printf" else ""


def errno_name(number: int) -> str:
    """`EADDRNOTAVAIL` for 99; the number where it has no name."""
    return errno.errorcode.get(number, str(number))


@dataclass(frozen=True, slots=True)
class Latency:
    """A histogram of times.

    Attributes:
        total_ns: The sum of all times.
        buckets: The number of times in each bucket, by the bucket's largest time in ns: a power of two, minus one.
    """

    total_ns: int = 0
    buckets: dict[int, int] = field(default_factory=dict)

    @property
    def count(self) -> int:
        """The number of times."""
        return sum(self.buckets.values())

    @property
    def mean_ns(self) -> float:
        """The mean in ns; nan without any time."""
        return self.total_ns / self.count if self.count else float("nan")

    def percentile_ns(self, percent: float) -> int:
        """The upper end of the bucket that contains this percentile (0 to 100); 0 without any time."""
        reached = 0
        for top, number in sorted(self.buckets.items()):
            reached += number
            if reached >= percent / 100 * self.count:
                return top
        return 0


@dataclass(frozen=True, slots=True)
class LatencyCounts:
    """How long connect() took in the kernel: for even ports, for odd ports, and for failed calls.

    Attributes:
        errors: The number of failed calls by errno.
        lost: Calls whose begin or end the kernel did not report; they are in no histogram.
    """

    even: Latency
    odd: Latency
    failed: Latency
    errors: dict[int, int]
    lost: int

    @classmethod
    def of(cls, maps: Maps) -> LatencyCounts:
        """Read the maps of `latency.bt` or `parity.bt`."""
        even, odd, failed = (Latency(_number(maps, "total", key), _buckets(maps, "took", key)) for key in "012")
        errors = {int(number): int(times) for number, times in maps.get("errors", {}).items()}
        return cls(even, odd, failed, errors, _number(maps, "lost", "0"))

    @property
    def by_outcome(self) -> Mapping[str, Latency]:
        """The three histograms by name."""
        return {"even": self.even, "odd": self.odd, "failed": self.failed}


@dataclass(slots=True)
class Process:
    """The connects of one process; `cgroup` is an id of the cgroup-v2 hierarchy, `pid` that of the host."""

    cgroup: int
    pid: int
    comm: str
    even: int = 0
    odd: int = 0
    switches: int = 0
    bound: int = 0
    failed: int = 0


@dataclass(frozen=True, slots=True)
class ParityCounts:
    """The parity of the ports that connect() chose.

    Attributes:
        even, odd: Ports that connect() chose.
        switches: Chosen ports whose parity differs from that of the port that the same process got before.
        bound: Connections whose port bind() had chosen.
        switches_of: Switches by cgroup and process name, 0 for a process without any; complete even if `processes` is
            not.
        processes: The same counts for each process.
        is_full: Whether there were more processes than `processes` can hold.
        latency: How long all these calls took.
    """

    even: int
    odd: int
    switches: int
    bound: int
    switches_of: dict[tuple[int, str], int]
    processes: tuple[Process, ...]
    is_full: bool
    latency: LatencyCounts

    @classmethod
    def of(cls, maps: Maps) -> ParityCounts:
        """Read the maps of `parity.bt`."""
        processes: dict[tuple[str, ...], Process] = {}
        for name in ("switches", "bound", "failed"):
            for key, number in maps.get(name, {}).items():
                cgroup, pid, comm = key.split(",", 2)
                setattr(_process(processes, cgroup, pid, comm), name, int(number))
        for key, number in maps.get("ports", {}).items():
            cgroup, pid, parity, comm = key.split(",", 3)
            setattr(_process(processes, cgroup, pid, comm), ("even", "odd")[int(parity)], int(number))
        return cls(
            even=_number(maps, "all_ports", "0"),
            odd=_number(maps, "all_ports", "1"),
            switches=_number(maps, "all_switches", "0"),
            bound=_number(maps, "all_bound", "0"),
            switches_of=dict(_by_cgroup(maps, "switches_of")),
            processes=tuple(processes.values()),
            is_full=any(len(maps.get(name, {})) >= MAX_KEYS for name in ("ports", "bound", "failed")),
            latency=LatencyCounts.of(maps),
        )

    @property
    def failed(self) -> int:
        """Calls of connect() that failed."""
        return self.latency.failed.count

    @property
    def lost(self) -> int:
        """Calls whose return the kernel did not report: their time and result are not known."""
        return self.latency.lost


@dataclass(frozen=True, slots=True)
class OffsetCounts:
    """Where connect() began its search for a port and where it found one.

    Attributes:
        starts: Searches by the first port that they probed; the key is the lowest port of each ten thousand.
        chosen: Searches by the port that they found, likewise.
        bound: Calls whose port bind() had chosen: they search for none.
        failed: Calls that found no port, or that failed for another reason.
        lost: Calls whose begin or end the kernel did not report; nearly all of them are failures.
    """

    starts: dict[int, int]
    chosen: dict[int, int]
    bound: int
    failed: int
    lost: int

    @classmethod
    def of(cls, maps: Maps) -> OffsetCounts:
        """Read the maps of `offsets.bt`."""
        starts, chosen = (dict(_lows(maps, name)) for name in ("starts", "chosen"))
        return cls(starts, chosen, *(_number(maps, name, "0") for name in ("bound", "failed", "lost")))


Counts = LatencyCounts | ParityCounts | OffsetCounts

READ_COUNTS: dict[Trace, Callable[[Maps], Counts]] = {
    Trace.LATENCY: LatencyCounts.of,
    Trace.PARITY: ParityCounts.of,
    Trace.OFFSETS: OffsetCounts.of,
}
"""Reads the counts of a trace from its maps."""


def _process(processes: dict[tuple[str, ...], Process], cgroup: str, pid: str, comm: str) -> Process:
    return processes.setdefault((cgroup, pid, comm), Process(int(cgroup), int(pid), comm))


def _by_cgroup(maps: Maps, name: str) -> Iterator[tuple[tuple[int, str], int]]:
    for key, number in maps.get(name, {}).items():
        cgroup, comm = key.split(",", 1)
        yield (int(cgroup), comm), int(number)


def _number(maps: Maps, name: str, key: str) -> int:
    return int(maps.get(name, {}).get(key, 0))


def _buckets(maps: Maps, name: str, key: str) -> dict[int, int]:
    """A histogram by the largest number of each bucket; the first bucket, of negative numbers, has no smallest."""
    return {int(bucket.get("max", 0)): int(bucket["count"]) for bucket in maps.get(name, {}).get(key, ())}


def _lows(maps: Maps, name: str) -> list[tuple[int, int]]:
    return [(int(bucket.get("min", 0)), int(bucket["count"])) for bucket in maps.get(name, {}).get("0", ())]


MOUNTS = (Path("/sys/fs/cgroup"), Path("/sys/fs/cgroup/unified"))
"""Where the cgroup-v2 hierarchy is mounted: by itself, or beside version 1."""


class CgroupPaths:
    """The paths of cgroups by their id, which is the inode of their folder in the cgroup-v2 hierarchy.

    Args:
        mounts: Where the hierarchy may be mounted.
    """

    def __init__(self, mounts: tuple[Path, ...] = MOUNTS) -> None:
        self._root = next((path for path in mounts if (path / "cgroup.controllers").exists()), None)
        self._names: dict[int, str] = {}

    def learn(self, ids: set[int]) -> None:
        """Look up the ids that are new, by walking the hierarchy; a cgroup that no longer exists keeps its number."""
        unknown = ids - self._names.keys()
        if not unknown or self._root is None:
            return
        for folder, _, _ in os.walk(self._root):
            with suppress(OSError):  # a cgroup may be removed meanwhile
                inode = Path(folder).stat().st_ino
                if inode in unknown:
                    self._names[inode] = folder.removeprefix(str(self._root)) or "/"
        for number in unknown:
            self._names.setdefault(number, f"id {number}")

    def name(self, number: int) -> str:
        """The path of a cgroup below the root of the hierarchy; `id N` if it is not known."""
        return self._names.get(number, f"id {number}")
