"""Results as Parquet, for DuckDB, pandas, Polars, Spark and the like. connbench does not read it.

A row is an attempt. The columns are those of the CSV, with types and units, and the label of the strategy before them.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import numpy as np

import connbench
from connbench.analysis.soundness import findings
from connbench.model import LOAD_FIELDS, Phase, StrategySpec
from connbench.model.load import LoadField, Unit
from connbench.report.json import json_text
from connbench.results.fleet_file import HOST, Fleet
from connbench.results.result import Result, Round
from connbench.samples import COLUMNS, Column

if TYPE_CHECKING:
    import pyarrow as pa

COMPRESSION = "zstd"

KEY = "connbench"
"""The key of the file's metadata that has plan, environment and findings, as JSON; of several hosts by their names."""

_UNITS = {Unit.SHARE: "share", Unit.MS: "ms", Unit.PER_SECOND: "per second"}
"""The units of the load's fields, as the metadata of their columns has them; the others are plain numbers and words."""

_TYPES = {"q": "int64", "I": "uint32", "H": "uint16"}
"""Arrow's names of the types of an attempt's columns."""


def parquet(result: Result | Fleet) -> bytes:
    """A Parquet file of one row group for each round; of several hosts with a first column `host`.

    Each column of a figure has its unit and its meaning in its metadata; the file's metadata has plan, environment and
    findings. A round without an attempt has no row.
    """
    import pyarrow.parquet as pq

    results = result.results if isinstance(result, Fleet) else [result]
    document = {one.name: _head(one) for one in results} if isinstance(result, Fleet) else _head(result)
    schema = _schema(results, has_hosts=isinstance(result, Fleet)).with_metadata({KEY: json_text(document)})
    of_rounds = [field.name for field in schema if field.name not in {column.name for column in COLUMNS}]
    file = io.BytesIO()
    # Nanoseconds hardly repeat: a dictionary of them would only take time.
    with pq.ParquetWriter(file, schema, compression=COMPRESSION, use_dictionary=of_rounds) as writer:
        for one in results:
            for label, strategy in one.labelled.items():
                repeated: dict[tuple[str, object, int], pa.Array] = {}
                for measured in strategy.rounds:
                    if len(measured.samples):
                        named = {HOST: one.name, "label": label, **_of_round(strategy.strategy, measured)}
                        writer.write_table(_table(named, measured, schema, repeated))
    return file.getvalue()


def _head(result: Result) -> dict[str, Any]:
    """What is known beside the attempts."""
    return {
        "connbench": result.environment.get("connbench") or connbench.__version__,
        "origin": result.origin,
        "plan": result.plan,
        "environment": result.environment,
        "partial": result.is_partial,
        "findings": [asdict(finding) for finding in findings(result)],
    }


def _schema(results: Sequence[Result], *, has_hosts: bool) -> pa.Schema:
    """The columns; they are the same for every result, but that times of a talk CSV have fractions."""
    import pyarrow as pa

    word = pa.dictionary(pa.int32(), pa.string())
    fields = [pa.field(HOST, word)] if has_hosts else []
    fields += [pa.field(name, word) for name in ("label", "strategy")]
    fields += [pa.field("window", pa.int64()), pa.field("placement", word), pa.field("retries", pa.int64())]
    fields += [pa.field("reuse", word), *(pa.field(name, pa.int64()) for name in ("first_port", "stride", "residue"))]
    fields += [_load_field(field, word) for field in LOAD_FIELDS]
    fields += [pa.field("phase", word), pa.field("round", pa.int32()), pa.field("fault", word)]
    samples = [r.samples for one in results for rounds in one.rounds.values() for r in rounds]
    return pa.schema([*fields, *(_column_field(column, samples) for column in COLUMNS)])


def _load_field(field: LoadField, word: pa.DataType) -> pa.Field:
    import pyarrow as pa

    kind = {
        Unit.COUNT: pa.int64(),
        Unit.SHARE: pa.float64(),
        Unit.MS: pa.float64(),
        Unit.PER_SECOND: pa.float64(),
        Unit.SHARES: pa.list_(pa.float64()),
        Unit.SYSCTLS: pa.list_(pa.string()),
    }.get(field.unit, word)
    return pa.field(field.name, kind, metadata={"unit": _UNITS[field.unit]} if field.unit in _UNITS else None)


def _column_field(column: Column, samples: Sequence[Any]) -> pa.Field:
    import pyarrow as pa

    has_fractions = any(getattr(one, column.name).dtype.kind == "f" for one in samples)
    kind = pa.float64() if has_fractions else pa.type_for_alias(_TYPES[column.code])
    unit = {"unit": column.unit} if column.unit else {}
    return pa.field(column.name, kind, metadata={**unit, "meaning": column.meaning})


def _of_round(spec: StrategySpec, measured: Round) -> dict[str, Any]:
    """The values that all attempts of a round have in common, by the column; None where there is none."""
    return {
        "strategy": spec.name,
        "window": spec.window,
        "placement": spec.placement,
        "retries": spec.retries,
        "reuse": spec.reuse,
        "first_port": spec.first_port,
        "stride": spec.stride,
        "residue": spec.residue,
        **{field.name: field.of(spec.load) for field in LOAD_FIELDS},
        "phase": Phase(spec.phase),
        "round": measured.number,
        "fault": measured.fault.message if measured.fault else None,
    }


def _table(
    named: dict[str, Any], measured: Round, schema: pa.Schema, repeated: dict[tuple[str, object, int], pa.Array]
) -> pa.Table:
    """A round: the columns that its attempts have in common, and their own.

    Args:
        named: The values in common, by the column.
        measured: The round.
        schema: The columns.
        repeated: Columns of one value that were made for other rounds, by name, value and rows: most are the same.
    """
    import pyarrow as pa

    rows = len(measured.samples)
    columns = []
    for field in schema:
        values = measured.samples.columns.get(field.name)
        if values is not None:
            columns.append(pa.array(np.ascontiguousarray(values), type=field.type))
            continue
        key = field.name, named[field.name], rows
        if key not in repeated:
            repeated[key] = _repeated(named[field.name], field.type, rows)
        columns.append(repeated[key])
    return pa.Table.from_arrays(columns, schema=schema)


def _repeated(value: object, kind: pa.DataType, rows: int) -> pa.Array:
    """A column that has the same value in all rows; null for None."""
    import pyarrow as pa

    if pa.types.is_dictionary(kind):
        words = pa.array([] if value is None else [str(value)], type=pa.string())
        indices = pa.array(np.zeros(rows, np.int32), mask=np.full(rows, value is None))
        return pa.DictionaryArray.from_arrays(indices, words)
    return pa.repeat(pa.scalar(list(value) if isinstance(value, tuple) else value, type=kind), rows)
