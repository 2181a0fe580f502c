"""CSV files of attempts: connbench's own, which name strategy and round, and the talk author's, without a header."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterable, Iterator
from itertools import groupby
from pathlib import PurePath

import numpy as np

from connbench.errors import InputError, RunFault, UsageError
from connbench.model import Finding, Placement, Severity, StrategySpec
from connbench.results.result import PARTIAL, Numbers, Origin, Result, Round, Samples
from connbench.samples import COLUMNS, UNKNOWN_ERRNO

CSV_COLUMNS = ("started_ns", "prepare_ns", "connect_ns", "acquire_ns", "port", "errno", "tries", "source")
"""In the order the design names them; in memory they lie widest first."""

_PREFIX = ("strategy", "window", "placement", "retries", "connections", "round")
HEADER = (*_PREFIX, *CSV_COLUMNS)
_PARTIAL_MARK = "# partial"

NS_PER_S = 1e9
_TALK_ROW = re.compile(r"-?\d+,\d[\d.]*(e[+-]?\d+)?\s*", re.IGNORECASE)
_TALK_NAME = re.compile(r"\d+-(?P<kernel>.+)")


def csv_rows(result: Result) -> str:
    """A header, then a row an attempt: the strategy with its parameters, the round, and the columns of its samples.

    A round that was cut short adds a comment line after the last row, with the same first fields and the reason.
    """
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(HEADER)
    for strategy in result.strategies:
        for measured in strategy.rounds:
            columns = [np.rint(getattr(measured.samples, name)).astype(np.int64).tolist() for name in CSV_COLUMNS]
            prefix = _prefix(strategy.strategy, measured.number)
            writer.writerows((*prefix, *row) for row in zip(*columns, strict=True))
    faults = [(s.strategy, m.number, m.fault.message) for s in result.strategies for m in s.rounds if m.fault]
    for spec, number, message in faults:
        writer.writerow((_PARTIAL_MARK, *_prefix(spec, number), message))
    if result.is_partial and not faults:
        writer.writerow((_PARTIAL_MARK, *[""] * len(_PREFIX), "not all rounds were run"))
    return text.getvalue()


def _prefix(spec: StrategySpec, number: int) -> tuple[str, ...]:
    values = (spec.window, spec.placement, spec.retries, spec.connections, number)
    return (spec.name, *("" if value is None else str(value) for value in values))


def is_own_header(line: str) -> bool:
    """Whether a file that begins with this line is one of `csv_rows`."""
    return line.rstrip("\r\n") == ",".join(HEADER)


def read_csv(text: str, name: str) -> Result:
    """Read back what `csv_rows` wrote.

    Raises:
        InputError: A line is cut off or not of this form.
    """
    lines = text.splitlines()[1:]
    if not text.endswith("\n"):
        raise InputError(f"{name} is cut off in line {len(lines) + 1}", "copy the whole file again")
    comments = [line for line in lines if line.startswith(_PARTIAL_MARK)]
    rows = lines[: len(lines) - len(comments)]
    result = Result(None, {}, origin=Origin.CSV, name=name)
    faults, result.known = _read_comments(comments, name)
    first = 2
    for prefix, group in groupby(rows, key=lambda line: line.rsplit(",", len(CSV_COLUMNS))[0]):
        some = list(group)
        spec, number = _read_prefix(next(csv.reader([prefix])), f"{name}, line {first}")
        samples = _read_rows(some, prefix.count(",") + 1, name, first)
        result.add(spec, Round(number, samples, fault=faults.get((spec, number))))
        first += len(some)
    return result


def _read_comments(
    comments: list[str], name: str
) -> tuple[dict[tuple[StrategySpec, int], RunFault], tuple[Finding, ...]]:
    faults, known = {}, []
    for _, *prefix, message in csv.reader(comments):
        if prefix[0]:
            faults[_read_prefix(prefix, name)] = RunFault(message)
        else:
            known.append(Finding(PARTIAL, Severity.WARNING, f"partial: {message}", "run it again for the rest"))
    return faults, tuple(known)


def _read_prefix(fields: list[str], place: str) -> tuple[StrategySpec, int]:
    try:
        name, window, placement, retries, connections, number = fields
        spec = StrategySpec(
            name,
            int(window) if window else None,
            Placement(placement) if placement else None,
            int(retries) if retries else None,
            int(connections) if connections else None,
        )
        return spec, int(number)
    except ValueError as error:
        raise InputError(
            f"{place}: not a row of a {Origin.CSV}: {error}", "see docs/figures.md for its columns"
        ) from error


def _read_rows(rows: list[str], skipped: int, name: str, first: int) -> Samples:
    columns = range(skipped, skipped + len(CSV_COLUMNS))
    table = _load(rows, ",", columns, np.int64, name, first)
    by_name = dict(zip(CSV_COLUMNS, table.T, strict=True))
    limits = {column.name: np.iinfo(column.code).max for column in COLUMNS}
    for column, values in by_name.items():
        wrong = np.flatnonzero((values < 0) | (values > limits[column]))
        if len(wrong):
            raise InputError(
                f"{name}, line {first + int(wrong[0])}: {column} is {values[wrong[0]]}", f"it is 0 to {limits[column]}"
            )
    return Samples(**{c.name: by_name[c.name].astype(c.code) for c in COLUMNS})


def _load(rows: Iterable[str], delimiter: str, columns: range, dtype: type, name: str, first: int) -> Numbers:
    try:
        return np.loadtxt(rows, delimiter=delimiter, usecols=columns, dtype=dtype, ndmin=2, comments=None)
    except ValueError as error:
        # numpy counts rows from 0 or 1, by the kind of error: it is said of the block, not of the file.
        reason = str(error).split(";", maxsplit=1)[0]
        raise InputError(f"{name}, from line {first} on: {reason}", "copy the whole file again") from error


def is_talk_row(line: str) -> bool:
    """Whether a file that begins with this line is one of the talk author's."""
    return bool(_TALK_ROW.fullmatch(line))


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
            "choose one with --strategy, or use --format csv",
        )


def _talk_lines(samples: Samples) -> Iterator[str]:
    ports = np.where(samples.failed, -1, samples.port.astype(np.int32)).tolist()
    for port, seconds in zip(ports, (samples.latency_ns / NS_PER_S).tolist(), strict=True):
        yield f"{port},{seconds!r}\n"


def read_talk_csv(text: str, name: str) -> Result:
    """Read one of the talk author's files; its name stands for a strategy and may tell the kernel (`EPOCH-KERNEL.csv`).

    Raises:
        InputError: A line is cut off or not `port,seconds`.
    """
    lines = text.splitlines()
    for number, line in enumerate(lines, 1):
        if not is_talk_row(line):
            raise InputError(f"{name}, line {number}: {line[:40]!r} is not port,seconds", "copy the whole file again")
    table = _load(lines, ",", range(2), np.float64, name, 1)
    failed = table[:, 0] < 0
    ports = np.where(failed, 0, table[:, 0])
    if ports.max() > np.iinfo("H").max:
        raise InputError(
            f"{name}, line {np.argmax(ports) + 1}: {ports.max():.0f} is no port", "ports are 1 to 65535, or -1"
        )
    latency = table[:, 1] * NS_PER_S
    rows = len(table)
    samples = Samples(
        started_ns=np.concatenate(([0.0], np.cumsum(latency)[:-1])),
        prepare_ns=np.zeros(rows),
        connect_ns=latency,
        acquire_ns=latency,
        tries=np.ones(rows, dtype="I"),
        port=ports.astype("H"),
        errno=np.where(failed, UNKNOWN_ERRNO, 0).astype("H"),
        source=np.zeros(rows, dtype="H"),
    )
    stem = PurePath(name).stem
    kernel = _TALK_NAME.fullmatch(stem)
    environment: dict[str, object] = {"kernel": kernel["kernel"]} if kernel else {}
    result = Result(None, environment, origin=Origin.TALK_CSV, name=name)
    result.add(StrategySpec(stem), Round(1, samples))
    return result
