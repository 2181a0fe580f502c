"""Judges the conditions of `inspect`, each on the path that is the worst for it, and writes what Nagios reads.

The line and its performance data follow the Monitoring Plugins Development Guidelines.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from enum import IntEnum
from functools import partial
from math import inf, isfinite

from connbench.errors import ConnbenchError
from connbench.inspect.forecast import Forecast
from connbench.inspect.inspection import Inspection, Row
from connbench.inspect.measures import OF_PATH, UnknownError
from connbench.inspect.port_usage import PathUsage, Usage
from connbench.inspect.snapshot import Snapshot
from connbench.inspect.sockets import Mask, address_words
from connbench.inspect.suspicions import listeners_in_range
from connbench.path_conditions import LISTENERS, Subject
from connbench.safe_text import printable
from connbench.thresholds import (
    Dimension,
    Failure,
    Limit,
    Metric,
    Multiple,
    Operator,
    Threshold,
    format_number,
    judge_limit,
    judge_multiple,
)
from connbench.units import NS_PER_S, count

FULLEST = 100
"""Paths of a namespace on which conditions without a target are judged, those with the most ports in use."""

_UPPER = {Operator.OVER, Operator.AT_LEAST}
"""The operators of an upper limit."""

MOST_OF_TARGET = 1000
"""Paths of a namespace on which a condition with a target is judged."""

Forecasts = Callable[[PathUsage, Snapshot], Sequence[Forecast]]
"""What forecasts the next connect() on a path."""

_Figure = Callable[[Metric], float | None]
"""The value of a metric in pieces, ns or percent; None where there is no such figure. It raises `UnknownError`."""


@dataclass(frozen=True, slots=True)
class Judgement:
    """A condition, and the path or namespace that is the worst for it.

    Attributes:
        condition: The condition.
        subject: The name of the path or namespace.
        value: Its figure in pieces, ns or percent; None if it is not known, or there is none.
        outcome: What was measured, or why it cannot be judged; empty if the condition is not true.
    """

    condition: Threshold
    subject: str
    value: float | None
    outcome: str = ""

    @property
    def failure(self) -> Failure:
        """What to report of a condition that is true or cannot be judged."""
        return Failure(self.subject, self.condition.condition, self.outcome)

    @property
    def is_unknown(self) -> bool:
        """Whether it cannot be judged."""
        return self.value is None and bool(self.outcome)


def evaluate(conditions: Sequence[Threshold], inspection: Inspection, forecasts: Forecasts) -> list[Judgement]:
    """Judge each condition on each path that it is about.

    Without a target that is each of the `FULLEST` paths of each namespace, and those that the inspection judged. Where
    no connection is open, nothing is in use. What is not known fails: a gate without data must not pass.

    Args:
        conditions: The conditions.
        inspection: What was found.
        forecasts: What forecasts the next connect() of a path that has no forecast yet.
    """
    paths = _Paths(inspection, forecasts)
    return [_judge(condition, paths.figures(condition)) for condition in conditions]


class _Paths:
    """The paths that conditions are about, each described and forecast once."""

    def __init__(self, inspection: Inspection, forecasts: Forecasts) -> None:
        self._usages, self._forecasts, self._judged = inspection.usages, forecasts, inspection.judged
        self._rows = {_key(row.path): row for row in inspection.judged}

    def figures(self, condition: Threshold) -> list[tuple[str, _Figure]]:
        """Name and figures of each path, or of each namespace, that a condition is about."""
        bound = condition.bound
        metrics = [condition.metric, *([bound.metric] if isinstance(bound, Multiple) else [])]
        if any(one.figure == LISTENERS for one in metrics):
            return [_of_namespace(usage) for usage in self._usages]
        found = self._about(condition.strategy, with_forecast=any(OF_PATH[one.figure].is_forecast for one in metrics))
        if not found:
            return [(condition.strategy or "no connection", lambda metric: OF_PATH[metric.figure].without_path)]
        return [(row.name, partial(_figure, row, bound.dimension)) for row in found]

    def _about(self, subject: str | None, *, with_forecast: bool) -> list[Row]:
        if subject is None:
            keys = dict.fromkeys([*map(_key, (row.path for row in self._judged)), *self._fullest(FULLEST, None)])
        else:
            keys = dict.fromkeys(self._fullest(MOST_OF_TARGET, Subject.parse(subject)))
        for key in keys if with_forecast else ():
            row = self._rows[key]
            if not row.forecasts:
                self._rows[key] = replace(row, forecasts=self._forecasts(row.path, row.usage.snapshot))
        return [self._rows[key] for key in keys]

    def _fullest(self, number: int, subject: Subject | None) -> Iterator[tuple[str, int]]:
        for usage in self._usages:
            for path in usage.rows(number, _find(usage, subject) if subject else None):
                self._rows.setdefault(_key(path), Row(path, usage))
                yield _key(path)


def _find(usage: Usage, subject: Subject) -> Mask:
    """Whether a subject has each path of a namespace, by the path's number."""
    order, bounds = usage.grouped
    sockets = usage.snapshot.sockets[order[bounds[:-1]]]
    family, words = address_words(subject.target)
    found: Mask = (sockets.family == family) & (sockets.remote == words).all(axis=1)
    if subject.port is not None:
        found &= sockets.remote_port == subject.port
    if subject.source is not None:
        found &= (sockets.local == address_words(subject.source)[1]).all(axis=1)
    return found


def _key(path: PathUsage) -> tuple[str, int]:
    """What tells one path from another in all namespaces: its first socket."""
    return path.namespace, int(path.sockets[0])


def _figure(row: Row, dimension: Dimension, metric: Metric) -> float | None:
    value = OF_PATH[metric.figure].value(row)
    if value is None or dimension is not Dimension.SHARE:
        return value
    return 100 * value / row.path.usable if row.path.usable else 100.0


def _of_namespace(usage: Usage) -> tuple[str, _Figure]:
    ports = len({int(port) for port in usage.snapshot.sockets.local_port[listeners_in_range(usage)]})
    snapshot = usage.snapshot
    return snapshot.namespace or printable(snapshot.origin) or "this namespace", lambda _metric: float(ports)


def _judge(condition: Threshold, figures: Sequence[tuple[str, _Figure]]) -> Judgement:
    bound = condition.bound
    worst, most = Judgement(condition, "no path", None), (False, -inf)
    unknown: Judgement | None = None
    crossed = 0
    for name, figure in figures:
        try:
            value = figure(condition.metric)
            other = figure(bound.metric) if isinstance(bound, Multiple) else None
        except UnknownError as reason:
            unknown = unknown or Judgement(condition, name, None, f" cannot be judged: {reason}")
            continue
        if isinstance(bound, Limit) and value is not None:
            left, right, outcome = value / bound.unit.scale, bound.value, judge_limit(condition, bound, value)
        elif isinstance(bound, Multiple) and value is not None and other is not None:
            left, right = (value / other if other else value * inf if value else 0.0), bound.factor
            outcome = judge_multiple(condition, bound, value, other)
        else:
            continue
        crossed += outcome is not None
        over = outcome is not None, (left - right) * (1 if condition.operator in _UPPER else -1)
        if over > most or worst.value is None:
            worst, most = Judgement(condition, name, value, outcome or ""), over
    if worst.outcome and crossed > 1:
        more = crossed - 1
        where = "namespace" if condition.metric.figure == LISTENERS else "path"
        return replace(worst, outcome=f"{worst.outcome}; and on {count(more)} more {where}{'s' if more > 1 else ''}")
    return worst if worst.outcome or unknown is None else unknown


def _number(value: float) -> str:
    return format_number(float(f"{value:.6g}")) if isfinite(value) else "no limit"


class Status(IntEnum):
    """The exit codes of a Nagios plugin."""

    OK = 0
    WARNING = 1
    CRITICAL = 2
    UNKNOWN = 3


def nagios(summary: str, warning: Sequence[Judgement], critical: Sequence[Judgement]) -> tuple[Status, str]:
    """The status of a check and its line, as the Monitoring Plugins guidelines want them.

    Args:
        summary: What to say if nothing is wrong.
        warning: The judgements of --warn-if.
        critical: Those of --fail-if.
    """
    failed = {
        Status.CRITICAL: [one for one in critical if one.outcome and not one.is_unknown],
        Status.WARNING: [one for one in warning if one.outcome and not one.is_unknown],
        Status.UNKNOWN: [one for one in (*critical, *warning) if one.is_unknown],
    }
    status = next((one for one, its in failed.items() if its), Status.OK)
    said = "; ".join(dict.fromkeys(one.failure.text for its in failed.values() for one in its)) or summary
    data = " ".join(_performance(warning, critical))
    return status, f"{_line(status, said)} | {data}" if data else _line(status, said)


def _line(status: Status, said: str) -> str:
    """One line; a bar would begin the performance data."""
    return f"CONNBENCH {status.name} - {' '.join(printable(said).replace('|', '/').split())}"


def unknown_line(error: ConnbenchError) -> str:
    """The line of a check that failed."""
    message, *shown = error.message.split("\n")  # a condition may follow, and a caret under its fault
    said = ": ".join([message, *(line.strip() for line in shown if line.strip() not in {"", "^"})])
    return _line(Status.UNKNOWN, f"{said} ({error.hint})" if error.hint else said)


def _performance(warning: Sequence[Judgement], critical: Sequence[Judgement]) -> Iterator[str]:
    """'label'=value[unit];warning;critical for each figure that a condition with a limit is about."""
    kinds: dict[tuple[str, Dimension], dict[str, Judgement]] = {}
    for name, judgements in (("warning", warning), ("critical", critical)):
        for one in judgements:
            if isinstance(one.condition.bound, Limit):
                kinds.setdefault((_label(one.condition), one.condition.bound.dimension), {}).setdefault(name, one)
    for (label, dimension), its in kinds.items():
        known = [one.value for one in its.values() if one.value is not None and isfinite(one.value)]
        scale, unit = _PERFORMANCE_UNITS[dimension]
        value = f"{_number(known[-1] / scale)}{unit}" if known else "U"
        limits = [_range(its[name].condition, scale) if name in its else "" for name in ("warning", "critical")]
        is_second = dimension is Dimension.SHARE and (label, Dimension.COUNT) in kinds
        yield f"'{label}{' %' * is_second}'={value};{';'.join(limits)}".rstrip(";")


_PERFORMANCE_UNITS = {Dimension.TIME: (NS_PER_S, "s"), Dimension.COUNT: (1.0, ""), Dimension.SHARE: (1.0, "%")}


def _label(condition: Threshold) -> str:
    metric = str(condition.metric)
    return f"{condition.strategy} {metric}" if condition.strategy else metric


def _range(condition: Threshold, scale: float) -> str:
    """The range of values that raise no alert: `80` is 0 to 80, and `1000:` is 1000 and more."""
    if not isinstance(condition.bound, Limit):
        return ""
    limit = _number(condition.bound.value * condition.bound.unit.scale / scale)
    return limit if condition.operator in _UPPER else f"{limit}:"
