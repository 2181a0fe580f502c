"""Reads the JSON document of a result, and writes the part of it that is read back: its rounds.

`connbench.report.json` writes the rest. Only what was measured or planned is read; figures are computed from it again.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from typing import Annotated, Any, get_type_hints

import msgspec
import numpy as np

import connbench
from connbench.errors import ERRORS_BY_EXIT_CODE, INTERRUPTIONS, ConnbenchError, InputError, Interrupted, UsageError
from connbench.findings import Finding
from connbench.model import MAX_JSON_INTEGER, Plan, StrategySpec
from connbench.model.round_report import RoundReport
from connbench.results.file_checks import (
    CHANGED,
    MAX_INT64,
    RENAMED,
    ImpossibleRow,
    Rounds,
    check_column,
    check_numbers,
    check_plan,
    check_settings,
    out_of_bounds,
    shown,
)
from connbench.results.plain_document import SCHEMA
from connbench.results.result import Numbers, Origin, Result, Round, samples_class
from connbench.samples import COLUMNS, Column

READ = (3, 4, 5, 6, SCHEMA)
"""The schemas that are read. Schema 4 added units to the names of figures, which are not read, and null. Schema 5
changed the names in `connbench.results.file_checks.RENAMED`. Schema 6 records the version of a plan's
draws, and its loop. Schema 7 records the sysctls of a load, and of a strategy reuse, first port, stride and residue.
"""

HAS_NAMES_OF_TODAY = 5
"""The first schema with the names of today."""

RECORDS_DRAWS = 6
"""The first schema that records the version of a plan's draws; before it was 1."""

MOST_BYTES = 8 << 20
"""The largest part of a document that is no column, such as its plan; several times the largest plan of a run.

In memory such a part takes up to thirty times its size. Columns are read one at a time.
"""

LONGEST_REASON = 200
"""Characters of a reason in an error message: it may quote the file."""

Positive = Annotated[int, msgspec.Meta(ge=1)]
Whole = Annotated[int, msgspec.Meta(ge=-MAX_INT64 - 1, le=MAX_INT64)]

Value = str | Whole | float | bool | None
Environment = dict[str, Value | list[Value] | dict[str, Value]]
"""What `connbench.host.environment.collect` returns: values, lists of values and groups of values."""

_OBJECT, _LIST_OF_OBJECTS = re.compile(rb"\s*\{"), re.compile(rb"\s*\[\s*\{")

WORDS = ("hostname", "kernel", "cpu_model", "clock", "governor", "python", "time", "command", "connbench")
"""The keys of an environment whose values are text."""


@dataclass(frozen=True, slots=True)
class FaultRecord:
    """The fault that ended a round early, as the document has it."""

    message: str
    hint: str
    exit_code: int

    @classmethod
    def of(cls, fault: ConnbenchError) -> FaultRecord:
        """The record of a fault."""
        return cls(fault.message, fault.hint, int(fault.exit_code))

    def revive(self) -> ConnbenchError:
        """The fault, of the class that its exit code belongs to.

        Raises:
            ValueError: No round ends with that exit code.
        """
        if self.exit_code in INTERRUPTIONS:
            return Interrupted(self.exit_code - 128)
        if self.exit_code not in ERRORS_BY_EXIT_CODE:
            raise ValueError(f"no round ends with exit code {self.exit_code}")
        return ERRORS_BY_EXIT_CODE[self.exit_code](self.message, self.hint)


_Head = msgspec.defstruct("_Head", [(key, msgspec.Raw, msgspec.Raw()) for key in ("schema", "strategies", "fleet")])
_Columns = msgspec.defstruct("_Columns", [(column.name, msgspec.Raw, msgspec.Raw()) for column in COLUMNS])


_REPORT = get_type_hints(RoundReport)
_RoundRecord = msgspec.defstruct(
    "_RoundRecord",
    [
        ("number", Positive),
        ("fault", FaultRecord | None),
        ("samples", msgspec.Raw),
        *((name, msgspec.Raw, msgspec.Raw()) for name in _REPORT),
    ],
)
"""A round; the fields of its report stand beside the others, null where a figure is not known."""


class _StrategyRecord(msgspec.Struct, frozen=True):
    strategy: StrategySpec
    rounds: Annotated[list[_RoundRecord], msgspec.Meta(min_length=1)]  # type: ignore[valid-type]  # it is made of fields


class _Document(msgspec.Struct, frozen=True):
    """The parts of a document that are read. Those of type Raw are decoded later, each for an error of its own."""

    plan: msgspec.Raw
    environment: msgspec.Raw
    known_findings: msgspec.Raw
    strategies: list[_StrategyRecord]
    origin: Origin
    reproduction: msgspec.Raw = msgspec.Raw()


def read_json(data: bytes | memoryview, name: str) -> Result:
    """Read what `connbench.report.json.json_document` of this or an earlier version wrote.

    Args:
        data: The whole file.
        name: The file's name, for messages.

    Raises:
        InputError: The document is cut off, has a schema that is not read, or holds what no run writes.
    """
    with as_input_errors(data, name):
        schema = check_schema(data, name)
        document = data if schema >= HAS_NAMES_OF_TODAY else msgspec.json.encode(_rename_keys(data))
        return _result(msgspec.json.decode(document, type=_Document), name, schema)


@contextmanager
def as_input_errors(data: bytes | memoryview, name: str) -> Iterator[None]:
    """Name the file, and say what is wrong with it, where its document cannot be decoded.

    Raises:
        InputError: In place of what the decoder and the checks raise.
    """
    try:
        yield
    except msgspec.DecodeError as error:
        if not isinstance(error, msgspec.ValidationError):
            ends_early = "truncated" in str(error) or f"(byte {len(data)})" in str(error)  # the latter within a number
            fault = "cut off: its JSON does not end" if ends_early else f"broken: {error}"
            raise InputError(f"{name} is {fault}", "copy the whole file again") from error
        raise _unsound(name, error) from error
    except (UsageError, ValueError) as error:
        raise _unsound(name, error) from error
    except RecursionError as error:
        raise InputError(f"{name} is broken: its JSON is nested too deeply", "copy the whole file again") from error


def _unsound(name: str, error: Exception) -> InputError:
    return InputError(f"{name} is not a sound result: {str(error)[:LONGEST_REASON]}", CHANGED)


def check_schema(data: bytes | memoryview, name: str, content: str = "strategies") -> int:
    """The schema of a document that has this key beside it.

    Raises:
        InputError: It has no such key, or a schema that is not read.
        msgspec.DecodeError: It is no JSON.
    """
    no_result = InputError(f"{name} is JSON, but not a result of connbench", "name the file that run -o wrote")
    try:
        head: Any = msgspec.json.decode(data, type=_Head)
    except msgspec.ValidationError as error:  # no object
        raise no_result from error
    told = bytes(head.schema)
    if not re.fullmatch(rb"\d{1,18}", told) or not (int(told) > SCHEMA or getattr(head, content)):
        raise no_result
    schema = int(told)
    if schema not in READ:
        raise InputError(
            f"{name} has schema {schema}; connbench {connbench.__version__} reads {READ[0]} to {READ[-1]}",
            "read it with a newer connbench" if schema > SCHEMA else "measure again, or use an older connbench",
        )
    return schema


def _rename_keys(data: msgspec.Raw | bytes | memoryview) -> object:
    """A document of an earlier schema with the keys of today. Lists of numbers are not decoded."""
    if _OBJECT.match(memoryview(data)):
        members = msgspec.json.decode(data, type=dict[str, msgspec.Raw])
        return {RENAMED.get(key, key): _rename_keys(value) for key, value in members.items()}
    if _LIST_OF_OBJECTS.match(memoryview(data)):
        return [_rename_keys(item) for item in msgspec.json.decode(data, type=list[msgspec.Raw])]
    return msgspec.Raw(data)


def part(name: str, raw: msgspec.Raw, kind: Any) -> Any:  # noqa: ANN401  # whatever the type says
    """A part of a document; None if it is missing or null.

    Raises:
        ValueError: It is larger than `MOST_BYTES`, or not of this type; the message has `name`.
    """
    if not raw:
        return None
    if memoryview(raw).nbytes > MOST_BYTES:
        raise ValueError(f"its {name} takes more than {MOST_BYTES >> 20} MiB")
    try:
        return msgspec.json.decode(raw, type=kind | None)
    except msgspec.ValidationError as error:
        raise ValueError(f"{name}: {error}") from error


def _result(document: _Document, name: str, schema: int) -> Result:
    plan: Plan | None = part("plan", document.plan, Plan)
    if plan and schema < RECORDS_DRAWS:
        plan = replace(plan, draws=1)
    is_reproduction = bytes(memoryview(document.reproduction)[:5]) not in {b"", b"null"}
    if plan:
        check_plan(plan)
    elif document.origin is Origin.RUN or is_reproduction:
        raise ValueError("it has no plan")
    result = Result(
        plan,
        _environment(document.environment),
        _findings(document.known_findings),
        origin=document.origin,
        name=name,
        is_reproduction=is_reproduction,
    )
    rounds = Rounds(result)
    for record in document.strategies:
        for measured in record.rounds:
            _add(rounds, record.strategy, measured)
    rounds.close()
    return result


def _environment(raw: msgspec.Raw) -> dict[str, object]:
    environment: dict[str, object] = part("environment", raw, Environment) or {}
    for name in WORDS:
        if not isinstance(environment.get(name), str | None):
            raise ValueError(f"environment: {name} is not a text")  # noqa: TRY004  # of the file, not of an argument
    for name in ("host_sysctls", "namespace_sysctls"):
        if not isinstance(environment.get(name), dict | None):
            raise ValueError(f"environment: {name} is not a group of values")  # noqa: TRY004  # as above
    return environment


def _findings(raw: msgspec.Raw) -> tuple[Finding, ...]:
    known: tuple[Finding, ...] = part("known_findings", raw, tuple[Finding, ...]) or ()
    for number in (finding.round for finding in known):
        if number is not None and not 1 <= number <= MAX_JSON_INTEGER:
            raise ValueError(f"known_findings: round {shown(number)} is not 1 to {MAX_JSON_INTEGER}")
    return known


def _add(rounds: Rounds, spec: StrategySpec, record: Any) -> None:  # noqa: ANN401  # a _RoundRecord
    """Read a round, one column after the other, and add it."""
    rounds.open(spec, record.number)
    place = f"round {record.number} of {spec.label}"
    try:
        samples: Any = msgspec.json.decode(record.samples, type=_Columns)
    except msgspec.ValidationError as error:
        raise ValueError(f"{place}: samples: {error}") from error
    try:
        found = ((column, getattr(samples, column.name)) for column in COLUMNS)
        columns = {column.name: _column(values, column) for column, values in found if values or not column.is_optional}
        lengths = {name: len(values) for name, values in columns.items()}
        if len(set(lengths.values())) > 1:
            raise ValueError(f"columns of different lengths: {lengths}")
        fault = record.fault.revive() if record.fault else None
        rounds.add(spec, Round(record.number, samples_class(spec).of(**columns), _report(record), fault))
    except ImpossibleRow as error:
        raise ValueError(f"{place}, {error}") from error


def _report(record: Any) -> RoundReport:  # noqa: ANN401  # a _RoundRecord
    """The report of a round."""
    told = {name: part(name, getattr(record, name), kind) for name, kind in _REPORT.items()}
    report = RoundReport(**{name: value for name, value in told.items() if value is not None})
    check_settings(report.settings)
    check_numbers("counters", report.counters.values(), -MAX_JSON_INTEGER, MAX_JSON_INTEGER)
    for worker in report.workers:
        check_numbers("workers", asdict(worker).values(), 0, MAX_JSON_INTEGER)
    for name, value in told.items():
        if isinstance(value, int | float):
            check_numbers(name, [value], 0, 1 if name == "steal" else MAX_JSON_INTEGER)
    return report


def write_round(measured: Round, origin: Origin) -> dict[str, Any]:
    """A round as the document has it; a figure is null if files of this origin do not contain it."""
    report = asdict(measured.report)
    figures = {"wall_ns": measured.samples.wall_ns, **report}
    if origin is not Origin.RUN:
        figures |= {name: None for name, value in report.items() if isinstance(value, int | float)}
    if origin is Origin.TALK_CSV:
        figures["wall_ns"] = None
    return {
        "number": measured.number,
        "fault": measured.fault and FaultRecord.of(measured.fault),
        **figures,
        "samples": measured.samples.columns,
    }


def _column(raw: msgspec.Raw, column: Column) -> Numbers:
    """The values of a column. Times from a talk CSV keep their fractions."""
    zeros = _zeros(bytes(raw))
    if zeros and column.lowest <= 0:
        return np.zeros(zeros, column.code)
    try:
        values: list[Any] = msgspec.json.decode(raw or b"null", type=list[int])
        kind: type = np.int64
    except msgspec.ValidationError:
        values, kind = _fractions(raw, column), np.float64
    try:
        array: Numbers = np.array(values, dtype=kind)
    except OverflowError as error:
        row = next(row for row, value in enumerate(values) if not column.lowest <= value <= column.highest)
        raise ImpossibleRow(row, out_of_bounds(column, values[row])) from error
    check_column(column, array)
    return array if array.dtype.kind == "f" else array.astype(column.code, copy=False)


def _zeros(raw: bytes) -> int:
    """The length of a list of zeros alone, as connbench writes it; 0 of any other list.

    Half of a usual run's columns are zeros, and to decode them as numbers takes as long as the other half.
    """
    length = (len(raw) - 1) // 2
    return length if raw.startswith(b"[0") and raw == b"[" + b"0," * (length - 1) + b"0]" else 0


def _fractions(raw: msgspec.Raw, column: Column) -> list[Any]:
    is_time = column.unit == "ns"
    try:
        if is_time:
            return list(msgspec.json.decode(raw or b"null", type=list[int | float]))
    except msgspec.ValidationError:
        pass
    raise ValueError(f"column {column.name} is not a list of {'' if is_time else 'whole '}numbers")
