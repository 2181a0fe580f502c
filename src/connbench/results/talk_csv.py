"""CSV files of port and time, as the author of the talk publishes them: a line `port,seconds` for each attempt.

The port is -1 if the attempt failed. The author's files have no header. Other programs write a header, a blank after
the comma, and other units, as in `port, latency_us`.
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
"""The port of a failed attempt."""

LONGEST_S = LONGEST_NS / NS_PER_S
LONGEST_HEADER = 1000
"""Characters: to match a line with the form of a header takes a time that grows with the square of its length."""

_ROW = re.compile(r"\s*(-?\d{1,9})\s*,\s*(\d{1,99}(?:\.\d{0,99})?(?:e[+-]?\d{1,9})?)\s*", re.IGNORECASE | re.ASCII)
_HEADER = re.compile(r'\s*"?[\w ]*port"?\s*,\s*"?(?P<time>[^\W\d][^",]{0,99})"?\s*', re.IGNORECASE)
_NAME = re.compile(r"\d+-(?P<kernel>.+)")

_UNIT_WORDS = {
    "s": ("seconds", "second", "secs", "sec", "s"),
    "ms": ("milliseconds", "millisecond", "millis", "msecs", "msec", "ms"),
    "us": ("microseconds", "microsecond", "micros", "usecs", "usec", "us", "µs", "\N{GREEK SMALL LETTER MU}s"),
    "ns": ("nanoseconds", "nanosecond", "nanos", "nsecs", "nsec", "ns"),
}
"""The words for each unit of `connbench.units.NS_IN` in a header; messages use the first."""

SHORTEST_MEDIAN_NS, LONGEST_MEDIAN_NS = 10.0, 1e9
"""The median of a connect() lies between these. A system call takes longer than the shorter one; only an attempt that
waits for a timer of TCP takes longer than the other, and most attempts do not.
"""

SLOW_NS = 1e6
"""Within one host the quickest tenth of the attempts takes microseconds, even when few ports are free."""


def is_talk_csv(line: str) -> bool:
    """Whether a file that begins with this line is a CSV of port and time, with or without a header."""
    return len(line) <= LONGEST_HEADER and bool(_ROW.fullmatch(line) or _HEADER.fullmatch(line))


def talk_rows(result: Result) -> str:
    """The attempts of a result as a CSV of port and seconds, without a header.

    Raises:
        UsageError: The result has more than one strategy or round, which this format cannot distinguish.
    """
    rounds = [measured for some in result.rounds.values() for measured in some]
    check_one_round(len(rounds))
    return "".join(line for measured in rounds for line in _talk_lines(measured.samples))


def check_one_round(rounds: int) -> None:
    """Check that a CSV of port and time can contain this number of rounds, all strategies counted.

    Raises:
        UsageError: It is more than one.
    """
    if rounds > 1:
        raise UsageError(
            f"a {Origin.TALK_CSV} contains one round of one strategy, and this result has {rounds}",
            "measure one strategy alone, or use --format csv",
        )


def _talk_lines(samples: Samples) -> Iterator[str]:
    ports = np.where(samples.failed, FAILED, samples.port.astype(np.int32)).tolist()
    for port, seconds in zip(ports, (samples.latency_ns / NS_PER_S).tolist(), strict=True):
        yield f"{port},{seconds!r}\n"


def read_talk_csv(text: str, name: str, unit: str | None = None) -> Result:
    """Read a CSV of port and time. The file's name becomes the strategy's; `EPOCH-KERNEL.csv` names the kernel too.

    Args:
        text: The whole file.
        name: The file's name, for messages.
        unit: The unit of the times, a key of `connbench.units.NS_IN`. None stands for the unit that the header names,
            or else seconds; then the median must be possible for a connect().

    Raises:
        InputError: A line is cut off or not `port,time`, or a time is not possible.
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
    with np.errstate(over="ignore"):  # `_check` refuses what becomes infinite
        latency = times * NS_IN[unit or named or "s"]
    known = () if unit else _find_wrong_unit(latency, named, name)
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
    """The unit that the heading of a column names, as in `latency_us` or `connect (ms)`."""
    words = re.split(r"[\W_]+", heading.lower())
    return next((unit for word in reversed(words) for unit, some in _UNIT_WORDS.items() if word in some), None)


def _find_wrong_unit(latency: Numbers, named: str | None, name: str) -> tuple[Finding, ...]:
    """Find times in a wrong unit: a finding if they are not those of one host.

    Raises:
        InputError: The median is not between 10 ns and a second.
    """
    bounded = np.minimum(latency, 1000.0 * LONGEST_NS)  # a percentile of infinite values is NaN
    median = float(np.median(bounded))
    assumed = f"its times are read as {_UNIT_WORDS[named or 's'][0]}{' (its header says so)' if named else ''}"
    if median and not SHORTEST_MEDIAN_NS <= median <= LONGEST_MEDIAN_NS:
        raise InputError(
            f"{name}: {assumed}, and the median connect() then takes {_roughly(median)}",
            "give their unit: --unit s, ms, us or ns",
        )
    quick = float(np.percentile(bounded, 10))
    if named or quick < SLOW_NS:
        return ()
    return (
        Finding(
            UNIT,
            Severity.WARNING,
            f"{assumed}, and nine of ten attempts then take more than {duration(quick)}",
            "within one host it takes microseconds: if these are milliseconds, give --unit ms; if seconds, --unit s",
        ),
    )


def _roughly(ns: float) -> str:
    return f"{ns:.2g} ns" if ns < 1 else elapsed(ns / NS_PER_S) if ns >= NS_PER_S else duration(ns)


def _columns(lines: Iterable[str], name: str, skipped: int) -> tuple[Numbers, Numbers]:
    """The ports, -1 for a failed attempt, and the times as the file has them."""
    ports, times = array("i"), array("d")
    for number, line in enumerate(lines, 1 + skipped):
        row = _ROW.fullmatch(line)
        if not row:
            raise InputError(f"{name}, line {number}: {line[:40]!r} is not port,seconds", "copy the whole file again")
        port = int(row[1])
        if not (1 <= port <= MAX_PORT or port == FAILED):
            raise InputError(f"{name}, line {number}: {port} is not a port", f"ports are 1 to {MAX_PORT}, or {FAILED}")
        ports.append(port)
        times.append(float(row[2]))
    if not ports:
        raise InputError(f"{name} holds no attempts", "it ends after its header")
    return np.array(ports), np.array(times)


def _check(latency: Numbers, name: str, first: int) -> None:
    """Check that no time is longer than `LONGEST_NS`; the first row is line `first`."""
    wrong = np.flatnonzero(~(latency <= LONGEST_NS))
    if len(wrong):
        raise InputError(
            f"{name}, line {first + wrong[0]}: {latency[wrong[0]] / NS_PER_S:g} s is not a latency",
            f"the longest is {LONGEST_S:.0f} s; give the unit of the times with --unit",
        )
