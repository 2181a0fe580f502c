"""Results for programs: one JSON document, or CSV with a row an attempt."""

from __future__ import annotations

import csv
import io
import json
from dataclasses import asdict
from math import isfinite
from typing import Any

from connbench.analysis.soundness import findings
from connbench.analysis.summary import summarize
from connbench.results.result import Result, Round, StrategyResult
from connbench.samples import COLUMNS

SCHEMA = 1
"""Version of the JSON document; raised when a field changes its name or meaning."""


def json_document(result: Result) -> str:
    """Plan, environment, and per strategy its summary and rounds, samples as columns; times in ns."""
    document = {
        "schema": SCHEMA,
        "plan": asdict(result.plan),
        "environment": result.environment | {"namespace_sysctls": _settings(result)},
        "partial": result.is_partial,
        "strategies": [_strategy(strategy) for strategy in result.strategies],
        "findings": [asdict(finding) for finding in findings(result)],
    }
    return json.dumps(document, allow_nan=False) + "\n"


def _settings(result: Result) -> dict[str, str]:
    """The sysctls that the connections met, as the first round read them back from its namespace."""
    return next((rounds[0].report.settings for rounds in result.rounds.values()), {})


def _strategy(strategy: StrategyResult) -> dict[str, Any]:
    summary = summarize(strategy)
    return {
        "strategy": asdict(strategy.strategy),
        "label": strategy.strategy.label,
        "partial": strategy.is_partial,
        "summary": _finite(asdict(summary) | {"connected": summary.connected}),
        "rounds": [_round(measured) for measured in strategy.rounds],
    }


def _finite(value: object) -> object:
    """JSON has no infinity: the minimum of no samples becomes null."""
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    return None if isinstance(value, float) and not isfinite(value) else value


def _round(measured: Round) -> dict[str, Any]:
    return {
        "number": measured.number,
        "fault": measured.fault.message if measured.fault else None,
        "wall_ns": measured.samples.wall_ns,
        **asdict(measured.report),
        "samples": {c.name: getattr(measured.samples, c.name).tolist() for c in COLUMNS},
    }


def csv_rows(result: Result) -> str:
    """A header, then a row an attempt: strategy, round, and the columns of `connbench.samples` by their names.

    A run that was cut short ends in a comment line that says so.
    """
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(("strategy", "round", *CSV_COLUMNS))
    for strategy in result.strategies:
        for measured in strategy.rounds:
            columns = [getattr(measured.samples, name).tolist() for name in CSV_COLUMNS]
            prefix = (strategy.strategy.name, measured.number)
            writer.writerows((*prefix, *row) for row in zip(*columns, strict=True))
    if result.is_partial:
        faults = {m.fault.message for s in result.strategies for m in s.rounds if m.fault}
        text.write(f"# partial: {'; '.join(sorted(faults)) or 'not all rounds were run'}\n")
    return text.getvalue()


CSV_COLUMNS = (
    "started_ns",
    "prepare_ns",
    "connect_ns",
    "acquire_ns",
    "port",
    "errno",
    "tries",
    "source",
)
"""In the order the design names them; in memory they lie widest first."""
