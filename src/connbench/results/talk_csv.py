"""CSV files as the talk's author publishes them: no header, `port,seconds` an attempt, port -1 where it failed."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import PurePath

import numpy as np

from connbench.errors import InputError, UsageError
from connbench.model import MAX_PORT, StrategySpec
from connbench.results.limits import LONGEST_NS
from connbench.results.result import Numbers, Origin, Result, Round, Samples
from connbench.samples import NS_PER_S, UNKNOWN_ERRNO

FAILED = -1
"""What stands for the port of a failed attempt."""

LONGEST_S = LONGEST_NS / NS_PER_S
_ROW = re.compile(r"(-?\d{1,9}),(\d{1,99}(?:\.\d{0,99})?(?:e[+-]?\d{1,9})?)\s*", re.IGNORECASE | re.ASCII)
_NAME = re.compile(r"\d+-(?P<kernel>.+)")


def is_talk_row(line: str) -> bool:
    """Whether a file that begins with this line is one of the talk author's."""
    return bool(_ROW.fullmatch(line))


def talk_rows(result: Result) -> str:
    """The talk author's CSV: no header, `port,seconds` an attempt in order, port -1 where it failed.

    Raises:
        UsageError: More than one strategy or round, which this form cannot tell apart.
    """
    rounds = [measured for some in result.rounds.values() for measured in some]
    refuse_several(len(rounds))
    return "".join(line for measured in rounds for line in _talk_lines(measured.samples))


def refuse_several(rounds: int) -> None:
    """Make sure that the talk's CSV can hold so many rounds of all strategies together.

    Raises:
        UsageError: More than one.
    """
    if rounds > 1:
        raise UsageError(
            f"a {Origin.TALK_CSV} holds one round of one strategy, and here are {rounds}",
            "measure one strategy alone, or use --format csv",
        )


def _talk_lines(samples: Samples) -> Iterator[str]:
    ports = np.where(samples.failed, FAILED, samples.port.astype(np.int32)).tolist()
    for port, seconds in zip(ports, (samples.latency_ns / NS_PER_S).tolist(), strict=True):
        yield f"{port},{seconds!r}\n"


def read_talk_csv(text: str, name: str) -> Result:
    """Read one of the talk author's files; its name stands for a strategy and may tell the kernel (`EPOCH-KERNEL.csv`).

    Raises:
        InputError: A line is cut off or not `port,seconds`.
    """
    ports, seconds = _columns(text, name)
    failed = ports == FAILED
    latency = seconds * NS_PER_S
    rows = len(latency)
    samples = Samples(
        started_ns=np.concatenate(([0.0], np.cumsum(latency)[:-1])),
        prepare_ns=np.zeros(rows),
        connect_ns=latency,
        acquire_ns=latency,
        tries=np.ones(rows, dtype="I"),
        port=np.where(failed, 0, ports).astype("H"),
        errno=np.where(failed, UNKNOWN_ERRNO, 0).astype("H"),
        source=np.zeros(rows, dtype="H"),
        target=np.zeros(rows, dtype="H"),
        lane=np.zeros(rows, dtype="H"),
    )
    stem = PurePath(name).stem
    kernel = _NAME.fullmatch(stem)
    environment: dict[str, object] = {"kernel": kernel["kernel"]} if kernel else {}
    result = Result(None, environment, origin=Origin.TALK_CSV, name=name)
    result.add(StrategySpec(stem), Round(1, samples))
    return result


def _columns(text: str, name: str) -> tuple[Numbers, Numbers]:
    """The ports, -1 among them, and the seconds."""
    lines = text.splitlines()
    if not text.endswith("\n"):
        raise InputError(
            f"{name} is cut off in line {len(lines)}: it has no line break at its end",
            "copy the whole file again, or add one if nothing is missing",
        )
    ports, times = [], []
    for number, line in enumerate(lines, 1):
        row = _ROW.fullmatch(line)
        if not row:
            raise InputError(f"{name}, line {number}: {line[:40]!r} is not port,seconds", "copy the whole file again")
        port, seconds = int(row[1]), float(row[2])
        if not (1 <= port <= MAX_PORT or port == FAILED):
            raise InputError(f"{name}, line {number}: {port} is no port", f"ports are 1 to {MAX_PORT}, or {FAILED}")
        if seconds > LONGEST_S:
            raise InputError(f"{name}, line {number}: {seconds:g} s is no latency", f"at most {LONGEST_S:.0f} s can be")
        ports.append(port)
        times.append(seconds)
    return np.array(ports), np.array(times)
