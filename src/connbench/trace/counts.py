"""What a trace has counted since it began, put together from the maps that bpftrace prints."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

READY, TICK = "ready\n", "tick\n"
"""What the programs say once all probes are attached, and after the maps of an interval."""

KEPT_APART = 16384
"""Keys a map has room for, two a process at most; the totals count the others too."""

Maps = dict[str, dict[str, Any]]
"""Maps by name, without the @: values by key, keys of several parts joined by commas."""


def read_line(line: bytes, maps: Maps) -> str:
    """Take in a line of bpftrace's JSON: a map replaces its former state.

    Returns:
        What the program printed, or an empty string.

    Raises:
        ValueError: The line is no JSON object as bpftrace writes them.
    """
    if not line.strip():
        return ""
    said = json.loads(line.decode(errors="replace"), strict=False)  # a process's name may hold any character
    kind, data = said["type"], said.get("data")
    if kind in {"map", "hist"}:
        maps.update({name.removeprefix("@"): values for name, values in data.items()})
    return str(data) if kind == "printf" else ""


@dataclass(frozen=True, slots=True)
class Latency:
    """A histogram of times.

    Attributes:
        total_ns: Their sum.
        buckets: How many are of each bucket, by the largest ns that it takes: one less than a power of two.
    """

    total_ns: int = 0
    buckets: dict[int, int] = field(default_factory=dict)

    @property
    def count(self) -> int:
        """How many times there are."""
        return sum(self.buckets.values())

    @property
    def mean_ns(self) -> float:
        """Their mean; nan of none."""
        return self.total_ns / self.count if self.count else float("nan")

    def below_ns(self, share: float) -> int:
        """The upper end of the bucket in which this share of the times is reached; 0 of none."""
        reached = 0
        for top, number in sorted(self.buckets.items()):
            reached += number
            if reached >= share * self.count:
                return top
        return 0


@dataclass(frozen=True, slots=True)
class LatencyCounts:
    """How long connect() took in the kernel: of connections from even and odd ports, and of those that failed.

    Attributes:
        errors: How many failed, by errno.
        lost: Connects whose begin or end the kernel did not tell, and which are in no histogram.
    """

    even: Latency
    odd: Latency
    failed: Latency
    errors: dict[int, int]
    lost: int

    @classmethod
    def of(cls, maps: Maps) -> LatencyCounts:
        """Those of the maps of `latency.bt`, or of `parity.bt`."""
        even, odd, failed = (Latency(_number(maps, "total", key), _buckets(maps, "took", key)) for key in "012")
        errors = {int(number): int(times) for number, times in maps.get("errors", {}).items()}
        return cls(even, odd, failed, errors, _number(maps, "lost", "0"))

    @property
    def by_outcome(self) -> Mapping[str, Latency]:
        """The three histograms by name."""
        return {"even": self.even, "odd": self.odd, "failed": self.failed}


@dataclass(slots=True)
class Process:
    """The connects of one process; `cgroup` is an id of the cgroup-v2 hierarchy, `pid` as the host sees it."""

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
    """Which parity connect() chose.

    Attributes:
        even, odd: Ports that it chose.
        switches: Chosen ports whose parity is another than that of the same process's port before.
        bound: Connections whose port bind() had chosen.
        switches_of: Switches by cgroup and name, 0 of one that has made none; complete when `processes` is not.
        processes: The same by process.
        is_full: Whether there were more processes than are kept apart.
        latency: How long it took, of all of them.
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
        """Those of the maps of `parity.bt`."""
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
            is_full=any(len(maps.get(name, {})) >= KEPT_APART for name in ("ports", "bound", "failed")),
            latency=LatencyCounts.of(maps),
        )

    @property
    def failed(self) -> int:
        """Connects that failed."""
        return self.latency.failed.count

    @property
    def lost(self) -> int:
        """Connects whose end the kernel did not tell: neither how long they took nor whether they failed."""
        return self.latency.lost


@dataclass(frozen=True, slots=True)
class OffsetCounts:
    """Where connect() began to look for a port and where it found one, by the lowest port of each ten thousand.

    Attributes:
        bound: Connects whose port bind() had chosen, which look for none.
        failed: Connects that found none, or were refused for another reason.
        lost: Connects whose begin or end the kernel did not tell; failures, but for few.
    """

    starts: dict[int, int]
    chosen: dict[int, int]
    bound: int
    failed: int
    lost: int

    @classmethod
    def of(cls, maps: Maps) -> OffsetCounts:
        """Those of the maps of `offsets.bt`."""
        starts, chosen = (dict(_lows(maps, name)) for name in ("starts", "chosen"))
        return cls(starts, chosen, *(_number(maps, name, "0") for name in ("bound", "failed", "lost")))


Counts = LatencyCounts | ParityCounts | OffsetCounts


def _process(processes: dict[tuple[str, ...], Process], cgroup: str, pid: str, comm: str) -> Process:
    return processes.setdefault((cgroup, pid, comm), Process(int(cgroup), int(pid), comm))


def _by_cgroup(maps: Maps, name: str) -> Iterator[tuple[tuple[int, str], int]]:
    for key, number in maps.get(name, {}).items():
        cgroup, comm = key.split(",", 1)
        yield (int(cgroup), comm), int(number)


def _number(maps: Maps, name: str, key: str) -> int:
    return int(maps.get(name, {}).get(key, 0))


def _buckets(maps: Maps, name: str, key: str) -> dict[int, int]:
    """A histogram by the largest number each bucket takes; the first, of negative numbers, has no smallest."""
    return {int(bucket.get("max", 0)): int(bucket["count"]) for bucket in maps.get(name, {}).get(key, ())}


def _lows(maps: Maps, name: str) -> list[tuple[int, int]]:
    return [(int(bucket.get("min", 0)), int(bucket["count"])) for bucket in maps.get(name, {}).get("0", ())]
