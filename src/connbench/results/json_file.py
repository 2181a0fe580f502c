"""The JSON document of a result, read back; `connbench.report.machine` writes it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any

import msgspec
import numpy as np
import orjson

import connbench
from connbench.errors import ERRORS_BY_EXIT_CODE, INTERRUPTIONS, ConnbenchError, InputError, Interrupted, UsageError
from connbench.findings import Finding
from connbench.model import Plan, StrategySpec
from connbench.results.limits import HIGHEST, LOWEST, check_plan, check_round, check_spec, first_wrong
from connbench.results.result import Numbers, Origin, Result, Round, samples_class
from connbench.roundreport import RoundReport
from connbench.samples import COLUMNS

SCHEMA = 4
"""Version of the JSON document; raised when a field changes its name or meaning."""

READ = (3, SCHEMA)
"""Schemas that are read. From 3 to 4 the figures changed their names (units) and what nothing of is 0 became null: none
of that is read back, for it is worked out from the samples."""

Positive = Annotated[int, msgspec.Meta(ge=1)]


@dataclass(frozen=True, slots=True)
class FaultRecord:
    """What ended a round early, as the document has it."""

    message: str
    hint: str
    exit_code: int

    @classmethod
    def of(cls, fault: ConnbenchError) -> FaultRecord:
        """Take down a fault."""
        return cls(fault.message, fault.hint, int(fault.exit_code))

    def revive(self) -> ConnbenchError:
        """The fault again, of its own class."""
        if self.exit_code in INTERRUPTIONS:
            return Interrupted(self.exit_code - 128)
        return ERRORS_BY_EXIT_CODE.get(self.exit_code, ConnbenchError)(self.message, self.hint)


@dataclass(frozen=True, slots=True)
class _RoundRecord:
    """A round but for its report, whose fields stand beside these."""

    number: Positive
    fault: FaultRecord | None
    samples: dict[str, Any]


@dataclass(frozen=True, slots=True)
class _StrategyRecord:
    strategy: StrategySpec
    rounds: Annotated[list[Any], msgspec.Meta(min_length=1)]


@dataclass(frozen=True, slots=True)
class _Document:
    """What of the document is not worked out from the rest of it."""

    plan: Plan | None
    environment: dict[str, Any]
    known_findings: tuple[Finding, ...]
    strategies: list[_StrategyRecord]
    origin: Origin
    reproduction: dict[str, Any] | None = None


def read_json(data: bytes, name: str) -> Result:
    """Read back what `connbench.report.machine.json_document` wrote.

    Raises:
        InputError: Cut off, of a newer schema, or not such a document.
    """
    try:
        raw = orjson.loads(data)
    except orjson.JSONDecodeError as error:
        text = data.decode(errors="replace").rstrip()
        fault = "cut off" if error.pos >= len(text) or "end of data" in error.msg else "broken"
        raise InputError(f"{name} is {fault}: {error.msg}", "copy the whole file again") from error
    _check_schema(raw, name)
    try:
        return _result(raw, name)
    except (msgspec.ValidationError, UsageError, ValueError) as error:
        raise InputError(f"{name} is no sound result: {error}", "it was changed since it was written") from error


def _result(raw: Any, name: str) -> Result:  # noqa: ANN401  # JSON not looked into yet
    document = msgspec.convert(raw, _Document)
    if document.plan:
        check_plan(document.plan)
    elif document.origin is Origin.RUN or document.reproduction is not None:
        raise ValueError("it has no plan")
    result = Result(
        document.plan,
        document.environment,
        document.known_findings,
        origin=document.origin,
        name=name,
        is_reproduction=document.reproduction is not None,
    )
    for record in document.strategies:
        check_spec(record.strategy)
        for measured in (_round(raw_round, record.strategy) for raw_round in record.rounds):
            check_round(result, record.strategy, measured.number)
            result.add(record.strategy, measured)
    return result


def _check_schema(raw: Any, name: str) -> None:  # noqa: ANN401  # JSON not looked into yet
    schema = raw.get("schema") if isinstance(raw, dict) else None
    if not isinstance(schema, int) or isinstance(schema, bool) or not (schema > SCHEMA or "strategies" in raw):
        raise InputError(f"{name} is JSON, but no result of connbench", "name the file that run -o wrote")
    if schema not in READ:
        raise InputError(
            f"{name} has schema {schema}; connbench {connbench.__version__} reads {' and '.join(map(str, READ))}",
            "read it with a newer connbench" if schema > SCHEMA else "measure again, or use an older connbench",
        )


def _round(raw: Any, spec: StrategySpec) -> Round:  # noqa: ANN401  # JSON not looked into yet
    record = msgspec.convert(raw, _RoundRecord)
    columns = {column.name: _column(record.samples, column.name, column.code) for column in COLUMNS}
    lengths = {name: len(values) for name, values in columns.items()}
    if len(set(lengths.values())) > 1:
        raise ValueError(f"columns of different lengths: {lengths}")
    return Round(
        record.number,
        samples_class(spec)(**columns),
        msgspec.convert({name: value for name, value in raw.items() if value is not None}, RoundReport),
        record.fault.revive() if record.fault else None,
    )


def _column(samples: dict[str, Any], name: str, code: str) -> Numbers:
    values = np.asarray(samples.get(name))
    is_time = name.endswith("_ns")  # those of a talk CSV have fractions
    if values.ndim != 1 or (len(values) and values.dtype.kind not in ("iuf" if is_time else "iu")):
        raise ValueError(f"column {name} is not a list of {'' if is_time else 'whole '}numbers")
    wrong = first_wrong(name, values)
    if wrong is not None:
        raise ValueError(f"row {wrong + 1}: {name} is {values[wrong]}, not {LOWEST[name]} to {HIGHEST[name]}")
    return values if values.dtype.kind == "f" and len(values) else values.astype(code)
