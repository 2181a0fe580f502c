"""connbench's own CSV files: a row for each attempt, with its strategy, the load, its round and its figures.

The columns of a strategy's load are those of `LOAD_FIELDS`, those of an attempt the `COLUMNS` of `connbench.samples`.
"""

from __future__ import annotations

import csv
import io
import re
import warnings
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from enum import StrEnum
from itertools import chain, groupby, islice
from typing import TypeVar

import numpy as np

from connbench.errors import InputError, RunFault
from connbench.findings import Finding, Severity
from connbench.model import LOAD_FIELDS, Load, Phase, Placement, Reuse, StrategySpec
from connbench.model.load import parse_whole
from connbench.results.file_checks import CHANGED, RENAMED, ImpossibleRow, Rounds, check_column
from connbench.results.result import PARTIAL, Numbers, Origin, Result, Round, Samples, samples_class
from connbench.safe_text import FORMULA, csv_cell
from connbench.samples import COLUMNS, Column

Word = TypeVar("Word", bound=StrEnum)

_OF_PORTS = ("reuse", "first_port", "stride", "residue")
"""The columns of a strategy's parameters that earlier versions do not have."""

SPEC_COLUMNS = ("strategy", "window", "placement", "retries", *_OF_PORTS, *(one.name for one in LOAD_FIELDS), "phase")
_ROUND = (*SPEC_COLUMNS, "round")
"""The columns that name a round: all its rows have the same values there."""

HEADER = (*_ROUND, "fault", *(column.name for column in COLUMNS))

_LATER = {
    "fault",
    *_OF_PORTS,
    *(field.name for field in LOAD_FIELDS if field.is_optional),
    *(column.name for column in COLUMNS if column.is_optional),
}
"""Columns that a file may lack, because an earlier version of connbench wrote it.

Until 0.1 a fault was a line of its own at the end: `# partial`, and then the columns of the round.
"""

LINE_END = "\n"
LONGEST_LINE = 1 << 20
"""Characters. An attempt takes a hundred; the name of a strategy or the message of a fault can be longer."""

NOT_ALL = "not all rounds were run"
"""The fault of a run that ended between two rounds."""

NO_MESSAGE = "it ended early"
"""The fault of a round that says no more."""

_PARTIAL_MARK = "# partial"
_NO_SAMPLES = [""] * len(COLUMNS)
_ROWS_AT_ONCE = 1 << 16


def csv_rows(result: Result) -> str:
    """A header, then a row for each attempt: the strategy with its load, the round, and the columns of the samples.

    Every row has all columns. `fault` is why the attempt's round ended early, and empty if it did not; other characters
    replace its commas and quotes. A round that ended before its first attempt has one row without figures. If a run
    ended between two rounds, the last row says so; it has a fault and nothing else.
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
        text.write(fault_row(NOT_ALL))
    return text.getvalue()


def fault_row(message: str) -> str:
    """The row of a fault that belongs to no round, with its line break: it has no figures."""
    return ",".join((*[""] * len(_ROUND), _unquoted(message), *_NO_SAMPLES)) + LINE_END


def fault_in(row: str) -> str:
    """The fault in a row of `fault_row`, and "" if the row is another one."""
    begin, end = "," * len(_ROUND), "," * len(_NO_SAMPLES)
    fault = row.rstrip("\r\n").removeprefix(begin).removesuffix(end)
    return words_of(fault) if row.rstrip("\r\n") == f"{begin}{fault}{end}" and "," not in fault else ""


def _prefix(spec: StrategySpec, measured: Round) -> tuple[str, ...]:
    name, *numbers_and_words = to_columns(spec)
    fault = _unquoted(measured.fault.message) if measured.fault else ""
    return (csv_cell(name), *numbers_and_words, str(measured.number), fault)


def _unquoted(message: str) -> str:
    """The message of a fault as a cell that needs no quotes, and that is not empty.

    DuckDB looks for quotes in the first 20,480 rows alone, and a fault is often in the last ones.
    """
    return csv_cell(message.replace(",", ";").replace('"', "'") or NO_MESSAGE)


def words_of(cell: str) -> str:
    """The text that `csv_cell` was given, but for its line breaks."""
    return cell[1:] if cell.startswith("'") and cell[1:].startswith(FORMULA) else cell


def is_own_header(line: str) -> bool:
    """Whether a file that begins with this line is one of `csv_rows`, by this version or an earlier one."""
    names = _column_names(line)
    return names == [name for name in HEADER if name in names or name not in _LATER]


def _column_names(header: str) -> list[str]:
    """The columns that a header names, by today's names."""
    return [RENAMED.get(name, name) for name in header.rstrip("\r\n").split(",")]


def to_columns(spec: StrategySpec) -> tuple[str, ...]:
    """The values of a strategy for `SPEC_COLUMNS`; an empty one is not set."""
    load = (field.column(spec.load) for field in LOAD_FIELDS)
    of_ports = (getattr(spec, name) for name in _OF_PORTS)
    values = (spec.name, spec.window, spec.placement, spec.retries, *of_ports, *load, spec.phase)
    return tuple("" if value is None else str(value) for value in values)


def from_columns(fields: Mapping[str, str]) -> StrategySpec:
    """The strategy with these values of `SPEC_COLUMNS`, by name; a field of the load that is missing has its default.

    Raises:
        ValueError: A column cannot have its value.
    """
    return StrategySpec(
        name=fields["strategy"],
        window=_whole(fields["window"]),
        placement=_word(Placement, fields["placement"]) if fields["placement"] else None,
        retries=_whole(fields["retries"]),
        reuse=_word(Reuse, fields["reuse"]) if fields.get("reuse") else None,
        **{name: _whole(fields.get(name, "")) for name in _OF_PORTS[1:]},
        load=Load.of({field.name: field.parse(fields[field.name]) for field in LOAD_FIELDS if field.name in fields}),
        phase=_word(Phase, fields["phase"]),
    )


def _word(kind: type[Word], text: str) -> Word:
    if text not in set(kind):
        raise ValueError(f"{text[:40]!r} is not one of {', '.join(kind)}")
    return kind(text)


def _whole(text: str) -> int | None:
    return parse_whole(text) if text else None


def read_csv(text: str, name: str, first: int = 2) -> Result:
    """Read what `csv_rows` of this or an earlier version wrote.

    Args:
        text: The whole file; `is_own_header` holds for its first line.
        name: The file's name, for messages.
        first: The number of the first line after the header, for messages.

    Raises:
        InputError: A line is cut off, has another form, or holds what no run writes.
    """
    if not text.endswith("\n"):
        line = text.count(LINE_END) - 1 + first
        raise InputError(f"{name} is cut off in line {line}", "copy the whole file again")
    lines = lines_of(text, name)
    names = _column_names(next(lines))
    of_round = [name for name in names if name in _ROUND]
    columns = [column for column in COLUMNS if column.name in names]
    result = Result(None, {}, origin=Origin.CSV, name=name)
    rounds, faults = Rounds(result), {}
    has_faults = "fault" in names
    if not has_faults and (end := text.find(f"{LINE_END}{_PARTIAL_MARK}") + 1):
        faults = _read_comments(text[end:], text.count(LINE_END, 0, end) - 1 + first, of_round, result)
        lines = islice(lines_of(text[:end], name), 1, None)
    for prefix, group in groupby(lines, key=lambda line: line.rsplit(",", len(columns))[0]):
        fields = _check_count(_fields(prefix), len(names) - len(columns), f"{name}, line {first}")
        *round_fields, fault = fields if has_faults else (*fields, "")
        begin, rest = _in_pieces(group)
        is_empty = bool(fault) and [row.rstrip("\r") for row in begin] == [prefix + "," * len(columns)]
        if is_empty and not any(round_fields):
            result.known += (_not_all(fault),)
            first += 1
        else:
            spec, number = _read_prefix(of_round, round_fields, f"{name}, line {first}")
            reason = RunFault(fault) if fault else faults.pop((spec, number), None)
            with with_line(name, first):
                rounds.open(spec, number)
                rows = [] if is_empty else chain([begin], rest)
                samples = _read_rows(rows, spec, columns, prefix.count(",") + 1, name, first)
                rounds.add(spec, Round(number, samples, fault=reason))
            first += len(samples) or 1
    with with_line(name, first - 1):
        for (spec, number), of_before in faults.items():  # rounds that ended before their first attempt
            rounds.open(spec, number)
            rounds.add(spec, Round(number, _read_rows([], spec, columns, 0, name, first), fault=of_before))
        rounds.close()
    return result


@contextmanager
def with_line(name: str, first: int) -> Iterator[None]:
    """Name the file and the line in what is raised about a round whose first row is line `first`.

    Raises:
        InputError: In place of an ImpossibleRow or another ValueError.
    """
    try:
        yield
    except ImpossibleRow as error:
        raise InputError(f"{name}, line {first + error.row}: {error.reason}", CHANGED) from error
    except ValueError as error:
        raise InputError(f"{name}, line {first}: {error}", CHANGED) from error


def _in_pieces(rows: Iterable[str]) -> tuple[list[str], Iterator[list[str]]]:
    """The rows as a first list and further ones, of some thousands each: all at once take twice the file's size."""
    rest = iter(rows)
    return list(islice(rest, _ROWS_AT_ONCE)), iter(lambda: list(islice(rest, _ROWS_AT_ONCE)), [])


def _not_all(reason: str) -> Finding:
    return Finding(PARTIAL, Severity.WARNING, f"partial: {reason}", "run it again for the rest")


def _fields(line: str) -> list[str]:
    try:
        return [words_of(cell) for cell in next(csv.reader([line]), [])]
    except csv.Error:  # too long for a field
        return []


def _read_comments(
    comments: str, first: int, names: list[str], result: Result
) -> dict[tuple[StrategySpec, int], RunFault]:
    """The faults of rounds in a file of 0.1; a fault of the whole run becomes a finding of the result."""
    faults = {}
    for number, line in enumerate(lines_of(comments, result.name), first):
        if not line.startswith(_PARTIAL_MARK):
            raise InputError(f"{result.name}, line {number}: {line[:40]!r} follows a comment", CHANGED)
        place = f"{result.name}, {line[:40]!r}"
        _, *prefix, message = _check_count(_fields(line), len(names) + 2, place)
        if any(prefix):
            faults[_read_prefix(names, prefix, place)] = RunFault(message)
        else:
            result.known += (_not_all(message),)
    return faults


def _check_count(fields: list[str], number: int, place: str) -> list[str]:
    if len(fields) != number:
        raise InputError(f"{place}: fields are missing, or there are too many", "copy the whole file again")
    return fields


def _read_prefix(names: list[str], fields: list[str], place: str) -> tuple[StrategySpec, int]:
    columns = dict(zip(names, fields, strict=True))
    try:
        return from_columns(columns), parse_whole(columns["round"])
    except ValueError as error:
        raise InputError(f"{place}: {error}", CHANGED) from error


def _read_rows(
    rows: Iterable[list[str]], spec: StrategySpec, columns: list[Column], skipped: int, name: str, first: int
) -> Samples:
    """The samples of rows: `columns` follow after the `skipped` first cells; the first row is line `first`."""
    kind = samples_class(spec)
    parts, begin = [kind.of(**{column.name: np.empty(0, column.code) for column in columns})], first
    for some in rows:
        table = _load(some, range(skipped, skipped + len(columns)), np.int64, name, begin)
        by_column = list(zip(columns, table.T, strict=True))
        with with_line(name, begin):
            for column, values in by_column:
                check_column(column, values)
        parts.append(kind.of(**{column.name: values.astype(column.code) for column, values in by_column}))
        begin += len(some)
    return Samples.pooled(parts)


def _load(rows: list[str], columns: range, kind: type, name: str, first: int) -> Numbers:
    """The numbers in these columns of the rows; the first row is line `first` of the file."""
    try:
        with warnings.catch_warnings():
            # numpy 1 only warns of a fraction where a whole number belongs; numpy 2 raises.
            warnings.simplefilter("error", DeprecationWarning)
            return np.loadtxt(rows, delimiter=",", usecols=columns, dtype=kind, ndmin=2, comments=None)
    except (ValueError, DeprecationWarning) as error:
        line = next((first + i for i, row in enumerate(rows) if not _are_numbers(row, columns)), first)
        raise InputError(
            f"{name}, line {line}: {rows[line - first][:60]!r} does not have the numbers of its columns",
            "copy the whole file again",
        ) from error


def _are_numbers(row: str, columns: range) -> bool:
    return all(re.fullmatch(r" *\d{1,19} *", field) for field in row.split(",")[columns.start :])


def lines_of(text: str, name: str) -> Iterator[str]:
    """The lines of a text that ends in a line break, without it; a list of all takes several times its memory.

    Raises:
        InputError: A line has more than `LONGEST_LINE` characters.
    """
    begin, count = 0, 0
    while begin < len(text):
        end = text.rfind(LINE_END, begin, begin + LONGEST_LINE)
        if end < 0:
            raise InputError(
                f"{name} is not a result file: line {count + 1} is longer than {LONGEST_LINE >> 20} MiB",
                "an attempt takes a line of a hundred characters",
            )
        lines = text[begin:end].split(LINE_END)
        yield from lines
        count += len(lines)
        begin = end + 1
