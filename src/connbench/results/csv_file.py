"""connbench's own CSV files of attempts, which name strategy and round."""

from __future__ import annotations

import csv
import io
import re
from itertools import groupby

import numpy as np

from connbench.errors import InputError, RunFault
from connbench.findings import Finding, Severity
from connbench.model import StrategySpec
from connbench.results.limits import HIGHEST, LOWEST, check_round, check_spec, first_wrong
from connbench.results.result import PARTIAL, Numbers, Origin, Result, Round, Samples, samples_class
from connbench.results.spec_columns import SPEC_COLUMNS, from_columns, to_columns
from connbench.samples import COLUMNS

CSV_COLUMNS = (
    "started_ns",
    "prepare_ns",
    "connect_ns",
    "acquire_ns",
    "port",
    "errno",
    "tries",
    "source",
    "target",
    "lane",
)
"""In the order the design names them; in memory they lie widest first."""

_PREFIX = (*SPEC_COLUMNS, "round")
HEADER = (*_PREFIX, *CSV_COLUMNS)
_PARTIAL_MARK = "# partial"


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
        writer.writerow((_PARTIAL_MARK, *_prefix(spec, number), _in_one_line(message)))
    if result.is_partial and not faults:
        writer.writerow((_PARTIAL_MARK, *[""] * len(_PREFIX), "not all rounds were run"))
    return text.getvalue()


def _prefix(spec: StrategySpec, number: int) -> tuple[str, ...]:
    return (*map(_in_one_line, to_columns(spec)), str(number))


def _in_one_line(text: str) -> str:
    """Without line breaks: every row is a line, which keeps reading a million of them simple and fast."""
    return text.replace("\r", " ").replace("\n", " ")


def is_own_header(line: str) -> bool:
    """Whether a file that begins with this line is one of `csv_rows`."""
    return line.rstrip("\r\n") == ",".join(HEADER)


def read_csv(text: str, name: str) -> Result:
    """Read back what `csv_rows` wrote.

    Raises:
        InputError: A line is cut off or not of this form.
    """
    lines = text.split("\n")  # a row may end in \r, which neither csv nor numpy minds
    if lines.pop():
        raise InputError(f"{name} is cut off in line {len(lines) + 1}", "copy the whole file again")
    comments = [line for line in lines if line.startswith(_PARTIAL_MARK)]
    rows = lines[1 : len(lines) - len(comments)]
    result = Result(None, {}, origin=Origin.CSV, name=name)
    faults, result.known = _read_comments(comments, name)
    first = 2
    for prefix, group in groupby(rows, key=lambda line: line.rsplit(",", len(CSV_COLUMNS))[0]):
        some = list(group)
        place = f"{name}, line {first}"
        spec, number = _read_prefix(_fields(prefix), place)
        samples = _read_rows(some, spec, prefix.count(",") + 1, name, first)
        _add(result, spec, Round(number, samples, fault=faults.pop((spec, number), None)), place)
        first += len(some)
    for (spec, number), fault in faults.items():  # rounds that were cut short before their first attempt
        _add(result, spec, Round(number, _read_rows([], spec, 0, name, first), fault=fault), name)
    return result


def _add(result: Result, spec: StrategySpec, measured: Round, place: str) -> None:
    try:
        check_round(result, spec, measured.number)
    except ValueError as error:
        raise InputError(f"{place}: {error}", "it was changed since it was written") from error
    result.add(spec, measured)


def _fields(line: str) -> list[str]:
    try:
        return next(csv.reader([line]), [])
    except csv.Error:  # too long for a field
        return []


def _read_comments(
    comments: list[str], name: str
) -> tuple[dict[tuple[StrategySpec, int], RunFault], tuple[Finding, ...]]:
    faults, known = {}, []
    for line in comments:
        place = f"{name}, {line[:40]!r}"
        _, *prefix, message = _checked(_fields(line), len(_PREFIX) + 2, place)
        if any(prefix):
            faults[_read_prefix(prefix, place)] = RunFault(message)
        else:
            known.append(Finding(PARTIAL, Severity.WARNING, f"partial: {message}", "run it again for the rest"))
    return faults, tuple(known)


def _checked(fields: list[str], number: int, place: str) -> list[str]:
    if len(fields) != number:
        raise InputError(f"{place}: fields are missing, or there are too many", "copy the whole file again")
    return fields


def _read_prefix(fields: list[str], place: str) -> tuple[StrategySpec, int]:
    columns = dict(zip(_PREFIX, _checked(fields, len(_PREFIX), place), strict=True))
    try:
        spec = from_columns(columns)
        check_spec(spec)
        return spec, int(columns["round"])
    except ValueError as error:
        raise InputError(f"{place}: {error}", "it was changed since it was written") from error


def _read_rows(rows: list[str], spec: StrategySpec, skipped: int, name: str, first: int) -> Samples:
    table = _load(rows, range(skipped, skipped + len(CSV_COLUMNS)), np.int64, name, first)
    by_name = dict(zip(CSV_COLUMNS, table.T, strict=True))
    for column, values in by_name.items():
        wrong = first_wrong(column, values)
        if wrong is not None:
            raise InputError(
                f"{name}, line {first + wrong}: {column} is {values[wrong]}",
                f"it is {LOWEST[column]} to {HIGHEST[column]}",
            )
    return samples_class(spec)(**{c.name: by_name[c.name].astype(c.code) for c in COLUMNS})


def _load(rows: list[str], columns: range, kind: type, name: str, first: int) -> Numbers:
    """The numbers in these columns of the rows, the first of which is line `first` of the file."""
    if not rows:
        return np.empty((0, len(columns)), dtype=kind)
    try:
        return np.loadtxt(rows, delimiter=",", usecols=columns, dtype=kind, ndmin=2, comments=None)
    except ValueError as error:
        line = next((first + i for i, row in enumerate(rows) if not _are_numbers(row, columns)), first)
        raise InputError(
            f"{name}, line {line}: {rows[line - first][:60]!r} does not hold the numbers it should",
            "copy the whole file again",
        ) from error


def _are_numbers(row: str, columns: range) -> bool:
    return all(re.fullmatch(r" *\d{1,19} *", field) for field in row.split(",")[columns.start :])
