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

_PREFIX = (*SPEC_COLUMNS, "round", "fault")
HEADER = (*_PREFIX, *CSV_COLUMNS)

_BEFORE = (*SPEC_COLUMNS, "round")
"""What stood before the samples until 0.1; a fault was a line of its own at the end, `# partial` and then these."""

_HEADERS = {",".join((*prefix, *CSV_COLUMNS)): prefix for prefix in (_PREFIX, _BEFORE)}
_PARTIAL_MARK = "# partial"
_NO_SAMPLES = "," * len(CSV_COLUMNS)


def csv_rows(result: Result) -> str:
    """A header, then a row an attempt: the strategy with its parameters, the round, and the columns of its samples.

    Every row has all columns. `fault` is why the attempt's round was cut short, empty where it was not; commas and
    quotes in it are replaced. A round that was cut short before its first attempt has one row without samples. If no
    round was cut short and some were never begun, the last row says so, without samples, strategy and round.
    """
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(HEADER)
    rounds = [(s.strategy, measured) for s in result.strategies for measured in s.rounds]
    for spec, measured in rounds:
        columns = [np.rint(getattr(measured.samples, name)).astype(np.int64).tolist() for name in CSV_COLUMNS]
        prefix = _prefix(spec, measured)
        writer.writerows((*prefix, *row) for row in zip(*columns, strict=True))
        if measured.fault and not len(measured.samples):
            writer.writerow((*prefix, *[""] * len(CSV_COLUMNS)))
    if result.is_partial and not any(measured.fault for _, measured in rounds):
        writer.writerow((*[""] * len(_BEFORE), "not all rounds were run", *[""] * len(CSV_COLUMNS)))
    return text.getvalue()


def _prefix(spec: StrategySpec, measured: Round) -> tuple[str, ...]:
    fault = measured.fault.message if measured.fault else ""
    # DuckDB looks for quotes in the first 20,480 rows alone, and a fault is often in the last ones.
    unquoted = _in_one_line(fault).replace(",", ";").replace('"', "'")
    return (*map(_in_one_line, to_columns(spec)), str(measured.number), unquoted)


def _in_one_line(text: str) -> str:
    """Without line breaks: every row is a line, which keeps reading a million of them simple and fast."""
    return text.replace("\r", " ").replace("\n", " ")


def is_own_header(line: str) -> bool:
    """Whether a file that begins with this line is one of `csv_rows`."""
    return line.rstrip("\r\n") in _HEADERS


def read_csv(text: str, name: str) -> Result:
    """Read back what `csv_rows` wrote.

    Raises:
        InputError: A line is cut off or not of this form.
    """
    lines = text.split("\n")  # a row may end in \r, which neither csv nor numpy minds
    if lines.pop():
        raise InputError(f"{name} is cut off in line {len(lines) + 1}", "copy the whole file again")
    names = _HEADERS[lines[0].rstrip("\r")]
    result = Result(None, {}, origin=Origin.CSV, name=name)
    comments = [line for line in lines if line.startswith(_PARTIAL_MARK)] if names is _BEFORE else []
    faults = _read_comments(comments, result)
    first = 2
    rows = lines[1 : len(lines) - len(comments)]
    for prefix, group in groupby(rows, key=lambda line: line.rsplit(",", len(CSV_COLUMNS))[0]):
        some = list(group)
        place = f"{name}, line {first}"
        fields = _checked(_fields(prefix), len(names), place)
        *round_fields, fault = fields if "fault" in names else (*fields, "")
        is_empty = bool(fault) and [row.rstrip("\r") for row in some] == [prefix + _NO_SAMPLES]
        if is_empty and not any(round_fields):
            result.known += (_not_all(fault),)
        else:
            spec, number = _read_prefix(round_fields, place)
            samples = _read_rows([] if is_empty else some, spec, prefix.count(",") + 1, name, first)
            reason = RunFault(fault) if fault else faults.pop((spec, number), None)
            _add(result, spec, Round(number, samples, fault=reason), place)
        first += len(some)
    for (spec, number), of_before in faults.items():  # rounds that were cut short before their first attempt
        _add(result, spec, Round(number, _read_rows([], spec, 0, name, first), fault=of_before), name)
    return result


def _not_all(reason: str) -> Finding:
    return Finding(PARTIAL, Severity.WARNING, f"partial: {reason}", "run it again for the rest")


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


def _read_comments(comments: list[str], result: Result) -> dict[tuple[StrategySpec, int], RunFault]:
    """The faults of a file of before; what is said of the whole run is added to the result."""
    faults = {}
    for line in comments:
        place = f"{result.name}, {line[:40]!r}"
        _, *prefix, message = _checked(_fields(line), len(_BEFORE) + 2, place)
        if any(prefix):
            faults[_read_prefix(prefix, place)] = RunFault(message)
        else:
            result.known += (_not_all(message),)
    return faults


def _checked(fields: list[str], number: int, place: str) -> list[str]:
    if len(fields) != number:
        raise InputError(f"{place}: fields are missing, or there are too many", "copy the whole file again")
    return fields


def _read_prefix(fields: list[str], place: str) -> tuple[StrategySpec, int]:
    columns = dict(zip(_BEFORE, fields, strict=True))
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
