"""connbench's own CSV files of attempts, which name strategy and round."""

from __future__ import annotations

import csv
import io
import re
import warnings
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from itertools import chain, groupby, islice

import numpy as np

from connbench.errors import InputError, RunFault
from connbench.findings import Finding, Severity
from connbench.model import LOAD_FIELDS, StrategySpec
from connbench.model.load import parse_whole
from connbench.results.file_checks import CHANGED, ImpossibleRow, Rounds, check_column
from connbench.results.old_names import RENAMED
from connbench.results.result import PARTIAL, Numbers, Origin, Result, Round, Samples, samples_class
from connbench.results.spec_columns import SPEC_COLUMNS, from_columns, to_columns
from connbench.samples import COLUMNS, Column

_ROUND = (*SPEC_COLUMNS, "round")
"""The columns that tell the rows of one round from those of another."""

HEADER = (*_ROUND, "fault", *(column.name for column in COLUMNS))

_LATER = {
    "fault",
    *(field.name for field in LOAD_FIELDS if field.is_optional),
    *(column.name for column in COLUMNS if column.is_optional),
}
"""Columns that files of earlier versions lack.

Until 0.1 a fault was a line of its own at the end: `# partial`, and then the columns `_BEFORE` of the round.
"""

_BEFORE = [name for name in _ROUND if name not in _LATER]

LINE_END = "\n"
LONGEST_LINE = 1 << 20
"""Characters: an attempt takes a hundred, and the rest is what names its strategy or tells of a fault."""

_PARTIAL_MARK = "# partial"
_FORMULA = ("=", "+", "-", "@", "\t", "'")
"""How a formula begins in a spreadsheet, or what `_cell` adds."""

_NO_SAMPLES = [""] * len(COLUMNS)
_ROWS_AT_ONCE = 1 << 16


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
        columns = [np.rint(values).astype(np.int64).tolist() for values in measured.samples.columns.values()]
        prefix = _prefix(spec, measured)
        writer.writerows((*prefix, *row) for row in zip(*columns, strict=True))
        if measured.fault and not len(measured.samples):
            writer.writerow((*prefix, *_NO_SAMPLES))
    if result.is_partial and not any(measured.fault for _, measured in rounds):
        writer.writerow((*[""] * len(_ROUND), "not all rounds were run", *_NO_SAMPLES))
    return text.getvalue()


def _prefix(spec: StrategySpec, measured: Round) -> tuple[str, ...]:
    fault = measured.fault.message if measured.fault else ""
    # DuckDB looks for quotes in the first 20,480 rows alone, and a fault is often in the last ones.
    unquoted = _cell(fault.replace(",", ";").replace('"', "'"))
    name, *numbers_and_words = to_columns(spec)
    return (_cell(name), *numbers_and_words, str(measured.number), unquoted)


def _cell(text: str) -> str:
    """Words in one line, and no formula to a spreadsheet: as OWASP advises, an apostrophe says that it is text.

    Every row is a line, which keeps reading a million of them simple and fast.
    """
    words = text.replace("\r", " ").replace("\n", " ")
    return f"'{words}" if words.startswith(_FORMULA) else words


def _words(cell: str) -> str:
    """What `_cell` was made of."""
    return cell[1:] if cell.startswith("'") and cell[1:].startswith(_FORMULA) else cell


def is_own_header(line: str) -> bool:
    """Whether a file that begins with this line is one of `csv_rows`, by this version or an earlier one."""
    names = _column_names(line)
    return names == [name for name in HEADER if name in names or name not in _LATER]


def _column_names(header: str) -> list[str]:
    """The columns that a header names, by today's names."""
    return [RENAMED.get(name, name) for name in header.rstrip("\r\n").split(",")]


def read_csv(text: str, name: str) -> Result:
    """Read back what `csv_rows` wrote.

    Raises:
        InputError: A line is cut off or not of this form.
    """
    if not text.endswith("\n"):
        raise InputError(f"{name} is cut off in line {text.count(LINE_END) + 1}", "copy the whole file again")
    lines = lines_of(text, name)
    names = _column_names(next(lines))
    result = Result(None, {}, origin=Origin.CSV, name=name)
    rounds, faults = Rounds(result), {}
    has_faults = "fault" in names
    if not has_faults and (end := text.find(f"{LINE_END}{_PARTIAL_MARK}") + 1):
        faults = _read_comments(text[end:], text.count(LINE_END, 0, end) + 1, result)
        lines = islice(lines_of(text[:end], name), 1, None)
    columns = [column for column in COLUMNS if column.name in names]
    of_round = [name for name in _ROUND if name in names]
    first = 2
    for prefix, group in groupby(lines, key=lambda line: line.rsplit(",", len(columns))[0]):
        fields = _checked(_fields(prefix), len(names) - len(columns), f"{name}, line {first}")
        *round_fields, fault = fields if has_faults else (*fields, "")
        begin, rest = _cut(group)
        is_empty = bool(fault) and [row.rstrip("\r") for row in begin] == [prefix + "," * len(columns)]
        if is_empty and not any(round_fields):
            result.known += (_not_all(fault),)
            first += 1
        else:
            spec, number = _read_prefix(of_round, round_fields, f"{name}, line {first}")
            reason = RunFault(fault) if fault else faults.pop((spec, number), None)
            with _placed(name, first):
                rounds.open(spec, number)
                rows = [] if is_empty else chain([begin], rest)
                samples = _read_rows(rows, spec, columns, prefix.count(",") + 1, name, first)
                rounds.add(spec, Round(number, samples, fault=reason))
            first += len(samples) or 1
    with _placed(name, first - 1):
        for (spec, number), of_before in faults.items():  # rounds that were cut short before their first attempt
            rounds.open(spec, number)
            rounds.add(spec, Round(number, _read_rows([], spec, columns, 0, name, first), fault=of_before))
        rounds.close()
    return result


@contextmanager
def _placed(name: str, first: int) -> Iterator[None]:
    """Refuse the file for what is wrong with a round, the first row of which is line `first`.

    Raises:
        InputError: Something is.
    """
    try:
        yield
    except ImpossibleRow as error:
        raise InputError(f"{name}, line {first + error.row}: {error.reason}", CHANGED) from error
    except ValueError as error:
        raise InputError(f"{name}, line {first}: {error}", CHANGED) from error


def _cut(rows: Iterable[str]) -> tuple[list[str], Iterator[list[str]]]:
    """Rows in lists of some thousands, the first by itself: the text of all of them takes twice their file's size."""
    rest = iter(rows)
    return list(islice(rest, _ROWS_AT_ONCE)), iter(lambda: list(islice(rest, _ROWS_AT_ONCE)), [])


def _not_all(reason: str) -> Finding:
    return Finding(PARTIAL, Severity.WARNING, f"partial: {reason}", "run it again for the rest")


def _fields(line: str) -> list[str]:
    try:
        return [_words(cell) for cell in next(csv.reader([line]), [])]
    except csv.Error:  # too long for a field
        return []


def _read_comments(comments: str, first: int, result: Result) -> dict[tuple[StrategySpec, int], RunFault]:
    """The faults of a file of before; what is said of the whole run is added to the result."""
    faults = {}
    for number, line in enumerate(lines_of(comments, result.name), first):
        if not line.startswith(_PARTIAL_MARK):
            raise InputError(f"{result.name}, line {number}: {line[:40]!r} follows a comment", CHANGED)
        place = f"{result.name}, {line[:40]!r}"
        _, *prefix, message = _checked(_fields(line), len(_BEFORE) + 2, place)
        if any(prefix):
            faults[_read_prefix(_BEFORE, prefix, place)] = RunFault(message)
        else:
            result.known += (_not_all(message),)
    return faults


def _checked(fields: list[str], number: int, place: str) -> list[str]:
    if len(fields) != number:
        raise InputError(f"{place}: fields are missing, or there are too many", "copy the whole file again")
    return fields


def _read_prefix(names: Sequence[str], fields: list[str], place: str) -> tuple[StrategySpec, int]:
    columns = dict(zip(names, fields, strict=True))
    try:
        return from_columns(columns), parse_whole(columns["round"])
    except ValueError as error:
        raise InputError(f"{place}: {error}", CHANGED) from error


def _read_rows(
    rows: Iterable[list[str]], spec: StrategySpec, columns: list[Column], skipped: int, name: str, first: int
) -> Samples:
    """The samples of rows that have these columns after some to skip; the first row is line `first` of the file."""
    kind = samples_class(spec)
    parts, begin = [kind.of(**{column.name: np.empty(0, column.code) for column in columns})], first
    for some in rows:
        table = _load(some, range(skipped, skipped + len(columns)), np.int64, name, begin)
        by_column = list(zip(columns, table.T, strict=True))
        with _placed(name, begin):
            for column, values in by_column:
                check_column(column, values)
        parts.append(kind.of(**{column.name: values.astype(column.code) for column, values in by_column}))
        begin += len(some)
    return Samples.pooled(parts)


def _load(rows: list[str], columns: range, kind: type, name: str, first: int) -> Numbers:
    """The numbers in these columns of the rows, the first of which is line `first` of the file."""
    try:
        with warnings.catch_warnings():
            # numpy 1 takes a fraction for a whole number, and warns; numpy 2 refuses it.
            warnings.simplefilter("error", DeprecationWarning)
            return np.loadtxt(rows, delimiter=",", usecols=columns, dtype=kind, ndmin=2, comments=None)
    except (ValueError, DeprecationWarning) as error:
        line = next((first + i for i, row in enumerate(rows) if not _are_numbers(row, columns)), first)
        raise InputError(
            f"{name}, line {line}: {rows[line - first][:60]!r} does not hold the numbers it should",
            "copy the whole file again",
        ) from error


def _are_numbers(row: str, columns: range) -> bool:
    return all(re.fullmatch(r" *\d{1,19} *", field) for field in row.split(",")[columns.start :])


def lines_of(text: str, name: str) -> Iterator[str]:
    """Each line of a text that ends in a line break, without it; a list of them takes several times its memory.

    Raises:
        InputError: A line is longer than any result's.
    """
    begin, count = 0, 0
    while begin < len(text):
        end = text.rfind(LINE_END, begin, begin + LONGEST_LINE)
        if end < 0:
            raise InputError(
                f"{name} is no result file: line {count + 1} is longer than {LONGEST_LINE >> 20} MiB",
                "an attempt takes a line of a hundred characters",
            )
        lines = text[begin:end].split(LINE_END)
        yield from lines
        count += len(lines)
        begin = end + 1
