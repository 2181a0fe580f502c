"""CSV files as the talk's author publishes them: `port,seconds` an attempt, port -1 where it failed.

His have no header. Others write one, blanks after the comma, and other units: `port, latency_us`.
"""

from __future__ import annotations

import re
from array import array
from collections.abc import Iterable, Iterator
from itertools import chain
from pathlib import PurePath

import numpy as np

from connbench.errors import InputError, UsageError
from connbench.findings import Finding, Severity
from connbench.model import MAX_PORT, StrategySpec
from connbench.results.csv_file import LINE_END, lines_of
from connbench.results.result import UNIT, Numbers, Origin, Result, Round, Samples
from connbench.samples import LONGEST_NS, UNKNOWN_ERRNO
from connbench.units import NS_IN, NS_PER_S, duration, elapsed

FAILED = -1
"""What stands for the port of a failed attempt."""

LONGEST_S = LONGEST_NS / NS_PER_S
LONGEST_HEADER = 1000
"""Characters; a longer line would take the square of its length to compare with the form of a header."""

_ROW = re.compile(r"\s*(-?\d{1,9})\s*,\s*(\d{1,99}(?:\.\d{0,99})?(?:e[+-]?\d{1,9})?)\s*", re.IGNORECASE | re.ASCII)
_HEADER = re.compile(r'\s*"?[\w ]*port"?\s*,\s*"?(?P<time>[^\W\d][^",]{0,99})"?\s*', re.IGNORECASE)
_NAME = re.compile(r"\d+-(?P<kernel>.+)")

_UNIT_WORDS = {
    "s": ("seconds", "second", "secs", "sec", "s"),
    "ms": ("milliseconds", "millisecond", "millis", "msecs", "msec", "ms"),
    "us": ("microseconds", "microsecond", "micros", "usecs", "usec", "us", "µs", "\N{GREEK SMALL LETTER MU}s"),
    "ns": ("nanoseconds", "nanosecond", "nanos", "nsecs", "nsec", "ns"),
}
"""What a header calls the units of `connbench.units.NS_IN`; the first word is the one that messages have."""

SHORTEST_MEDIAN_NS, LONGEST_MEDIAN_NS = 10.0, 1e9
"""A system call takes longer than the one, and what takes longer than the other waits for a timer of TCP, most of the
attempts together hardly ever."""

SLOW_NS = 1e6
"""Within one host the quickest tenth of the attempts takes microseconds, near exhaustion too."""


def is_talk_csv(line: str) -> bool:
    """Whether a file that begins with this line is one of the talk author's, with or without a header."""
    return len(line) <= LONGEST_HEADER and bool(_ROW.fullmatch(line) or _HEADER.fullmatch(line))


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


def read_talk_csv(text: str, name: str, unit: str | None = None) -> Result:
    """Read one of the talk author's files; its name stands for a strategy and may tell the kernel (`EPOCH-KERNEL.csv`).

    Args:
        text: The whole file.
        name: What the user calls it.
        unit: What its times are in, a key of `connbench.units.NS_IN`; None takes the unit that its header names, or
            else seconds, and looks whether a connect() can take so long.

    Raises:
        InputError: A line is cut off or not `port,time`; without `unit` also times that no connect() takes.
    """
    if not text.endswith(LINE_END):
        raise InputError(
            f"{name} is cut off in line {len(text.splitlines())}: it has no line break at its end",
            "copy the whole file again, or add one if nothing is missing",
        )
    lines = (line for piece in lines_of(text, name) for line in piece.splitlines() or [""])
    begin = next(lines)
    header = _HEADER.fullmatch(begin)
    named = _unit_of(header["time"]) if header else None
    ports, times = _columns(lines if header else chain((begin,), lines), name, skipped=1 if header else 0)
    with np.errstate(over="ignore"):  # what is infinite then is refused below
        latency = times * NS_IN[unit or named or "s"]
    known = () if unit else _question(latency, named, name)
    _check(latency, name, 2 if header else 1)
    failed = ports == FAILED
    samples = Samples.of(
        started_ns=np.concatenate(([0.0], np.cumsum(latency)[:-1])),
        prepare_ns=np.zeros(len(latency)),
        connect_ns=latency,
        acquire_ns=latency,
        port=np.where(failed, 0, ports).astype("H"),
        errno=np.where(failed, UNKNOWN_ERRNO, 0).astype("H"),
    )
    stem = PurePath(name).stem
    kernel = _NAME.fullmatch(stem)
    environment: dict[str, object] = {"kernel": kernel["kernel"]} if kernel else {}
    result = Result(None, environment, known, origin=Origin.TALK_CSV, name=name)
    result.add(StrategySpec(stem), Round(1, samples))
    return result


def _unit_of(heading: str) -> str | None:
    """The unit that the name of a column tells: `latency_us`, `connect (ms)`."""
    words = re.split(r"[\W_]+", heading.lower())
    return next((unit for word in reversed(words) for unit, some in _UNIT_WORDS.items() if word in some), None)


def _question(latency: Numbers, named: str | None, name: str) -> tuple[Finding, ...]:
    """Refuse times that no connect() takes in this unit, and doubt those that none takes within one host.

    Raises:
        InputError: The median is not between 10 ns and a second.
    """
    bounded = np.minimum(latency, 1000.0 * LONGEST_NS)  # percentiles of infinite values are no numbers
    median = float(np.median(bounded))
    taken = f"its times are taken as {_UNIT_WORDS[named or 's'][0]}{' (its header says so)' if named else ''}"
    if median and not SHORTEST_MEDIAN_NS <= median <= LONGEST_MEDIAN_NS:
        raise InputError(
            f"{name}: {taken}, and then the median connect() takes {_roughly(median)}",
            "give the unit that they are in: --unit s, ms, us or ns",
        )
    quick = float(np.percentile(bounded, 10))
    if named or quick < SLOW_NS:
        return ()
    return (
        Finding(
            UNIT,
            Severity.WARNING,
            f"{taken}, and then nine of ten attempts take more than {duration(quick)}",
            "within one host it takes microseconds: if these are milliseconds, give --unit ms; if seconds, --unit s",
        ),
    )


def _roughly(ns: float) -> str:
    return f"{ns:.2g} ns" if ns < 1 else elapsed(ns / NS_PER_S) if ns >= NS_PER_S else duration(ns)


def _columns(lines: Iterable[str], name: str, skipped: int) -> tuple[Numbers, Numbers]:
    """The ports, -1 among them, and the times as they are written."""
    ports, times = array("i"), array("d")
    for number, line in enumerate(lines, 1 + skipped):
        row = _ROW.fullmatch(line)
        if not row:
            raise InputError(f"{name}, line {number}: {line[:40]!r} is not port,seconds", "copy the whole file again")
        port = int(row[1])
        if not (1 <= port <= MAX_PORT or port == FAILED):
            raise InputError(f"{name}, line {number}: {port} is no port", f"ports are 1 to {MAX_PORT}, or {FAILED}")
        ports.append(port)
        times.append(float(row[2]))
    if not ports:
        raise InputError(f"{name} holds no attempts", "it ends after its header")
    return np.array(ports), np.array(times)


def _check(latency: Numbers, name: str, first: int) -> None:
    """Refuse a time that no run has; the first row is line `first`."""
    wrong = np.flatnonzero(~(latency <= LONGEST_NS))
    if len(wrong):
        raise InputError(
            f"{name}, line {first + wrong[0]}: {latency[wrong[0]] / NS_PER_S:g} s is no latency",
            f"at most {LONGEST_S:.0f} s can be; --unit says what the times are in",
        )
