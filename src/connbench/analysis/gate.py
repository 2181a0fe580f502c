"""Evaluates the thresholds of `--fail-if` on results: which came true, what was measured, and what cannot be judged.

What cannot be judged has failed: a gate without data must not pass.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from operator import attrgetter

from connbench.analysis.bootstrap import ChangeVerdict
from connbench.analysis.comparison import compare_totals
from connbench.analysis.knee import find_knee
from connbench.analysis.summary import percentile, samples_for, summarize
from connbench.model import Phase, StrategySpec, fewest_to_show_half
from connbench.model.knee_rule import FEWEST_CONNECTIONS
from connbench.results.fleet_file import Fleet
from connbench.results.result import Origin, Result, StrategyResult
from connbench.thresholds import (
    KNEE,
    OF_GROUP,
    OF_STRATEGY,
    Dimension,
    Expression,
    Failure,
    Figure,
    Metric,
    Multiple,
    Slower,
    applies_to,
    judge_limit,
    judge_multiple,
)

_NOTHING_OF = {
    "all": "no attempt",
    "even": "no even connection",
    "odd": "no odd connection",
    "errored": "no failed attempt",
}

_NOT_IN_BASE = "the base run does not have this strategy"


@dataclass(frozen=True, slots=True)
class _Measured:
    """A strategy's rounds, and the kind of file they are from, which decides what is known of them."""

    strategy: StrategyResult
    origin: Origin = Origin.RUN

    @classmethod
    def of(cls, result: Result, spec: StrategySpec) -> _Measured | None:
        """A result's strategy; None where the result has no round of it."""
        return cls(result.strategy(spec), result.origin) if result.rounds.get(spec) else None


class _NoValueError(Exception):
    """A metric has no value; the message says why."""


def evaluate(
    expressions: Iterable[Expression],
    result: Result,
    base: Result | None = None,
    expected: Iterable[StrategySpec] = (),
) -> list[Failure]:
    """Evaluate every expression for every strategy that it applies to.

    A partial result is judged by what it has. A strategy that was planned or expected, or that the base has, and of
    which the result has no round, fails.

    Args:
        expressions: Thresholds; those that need a base only together with one.
        result: The run to judge.
        base: The run that `base.` and `slower` mean; strategies are matched by name and parameters.
        expected: Strategies that the result should have beside those of its plan.

    Returns:
        What failed, strategy by strategy.
    """
    found = judged(expressions, result, base, expected)
    return [Failure(subject, condition, outcome) for subject, condition, outcome in found if outcome]


def judged(
    expressions: Iterable[Expression],
    result: Result,
    base: Result | None = None,
    expected: Iterable[StrategySpec] = (),
) -> Iterator[tuple[str, str, str | None]]:
    """Evaluate every expression for every strategy that it applies to; the arguments are those of `evaluate`.

    Yields:
        The strategy's label, the condition, and the outcome of a `Failure`; None where the condition is not true.
    """
    asked = list(expressions)
    for spec in dict.fromkeys((*result.specs, *(base.specs if base else ()), *expected)):
        new, old = _Measured.of(result, spec), _Measured.of(base, spec) if base else None
        for expression in asked:
            if applies_to(expression, spec):
                outcome = _outcome(expression, new, old) if new else _unjudged("it was not measured")
                yield spec.label, expression.condition, outcome


def evaluate_fleet(
    expressions: Iterable[Expression], fleet: Fleet, base: Fleet | None = None
) -> list[tuple[str, Failure]]:
    """Evaluate every expression for every strategy on every host; see `evaluate`.

    Each host should have the strategies of all hosts. A host that measured nothing fails, unless it was left out; so
    does one that only the base has. Hosts are matched by their names.

    Returns:
        What failed, with the name of the host.
    """
    asked = list(expressions)
    of_base = {result.name: result for result in base.results} if base else {}
    expected = dict.fromkeys(spec for result in fleet.results for spec in result.specs)
    failures = []
    for host in fleet.hosts:
        if host.result and host.is_measured:
            found = evaluate(asked, host.result, of_base.get(host.name), expected)
        elif host.left_out and host.name not in of_base:
            found = []
        else:
            found = _of_no_host(asked, "the host measured nothing")
        failures += [(host.name, failure) for failure in found]
    for name in of_base.keys() - {host.name for host in fleet.hosts}:
        failures += [(name, failure) for failure in _of_no_host(asked, "NEW does not have this host")]
    return failures


def _of_no_host(expressions: Iterable[Expression], reason: str) -> list[Failure]:
    return [Failure(one.strategy or "every strategy", one.condition, _unjudged(reason)) for one in expressions]


def _outcome(expression: Expression, new: _Measured, base: _Measured | None = None) -> str | None:
    """How an expression fails for one strategy, as the end of a sentence that begins with it; None if it does not."""
    try:
        if isinstance(expression, Slower):
            return _judge_slower(new, base)
        if isinstance(expression.bound, Multiple):
            left, right = (
                _per_round(metric, expression.bound.dimension, _side(metric, new, base))
                for metric in (expression.metric, expression.bound.metric)
            )
            return judge_multiple(expression, expression.bound, left, right)
        measured = _value(expression.metric, expression.bound.dimension, _side(expression.metric, new, base))
        return judge_limit(expression, expression.bound, measured)
    except _NoValueError as reason:
        return _unjudged(str(reason))


def _unjudged(reason: str) -> str:
    return f" cannot be judged: {reason}"


def _judge_slower(new: _Measured, base: _Measured | None) -> str | None:
    if base is None:
        raise _NoValueError(_NOT_IN_BASE)
    total = compare_totals(base.strategy, new.strategy)
    what = "mean acquire time" if base.strategy.strategy.searches_in_bind else "total time"
    if total.change is None:
        raise _NoValueError("there are too few rounds for a verdict")
    return f": the {what} is {total.change.estimate:.3g}x the base's" if total.verdict is ChangeVerdict.SLOWER else None


def _side(metric: Metric, new: _Measured, base: _Measured | None) -> _Measured:
    if not metric.of_base:
        return new
    if base is None:
        raise _NoValueError(_NOT_IN_BASE)
    return base


def _per_round(metric: Metric, dimension: Dimension, measured: _Measured) -> float:
    """A value that does not grow with the rounds, so that results of different numbers of them can be compared."""
    if metric.quantity or dimension not in OF_STRATEGY[metric.figure].sums:
        return _value(metric, dimension, measured)
    complete = tuple(r for r in measured.strategy.rounds if not r.fault)
    if not complete:
        raise _NoValueError("no round is complete")
    strategy = replace(measured.strategy, rounds=complete)
    return _value(metric, dimension, replace(measured, strategy=strategy)) / len(complete)


def _value(metric: Metric, dimension: Dimension, measured: _Measured) -> float:
    """A metric's value in ns, pieces or percent."""
    if measured.origin is Origin.TALK_CSV and not metric.is_in_ports_csv:
        raise _NoValueError(f"a {measured.origin} does not contain it")
    if metric.quantity:
        return _of_group(metric, measured.strategy)
    if metric.figure == KNEE:
        return _knee(measured.strategy)
    return _of_strategy(OF_STRATEGY[metric.figure], dimension, measured.strategy)


def _of_group(metric: Metric, strategy: StrategyResult) -> float:
    group, quantity = summarize(strategy).groups[metric.group], OF_GROUP[metric.quantity]
    if not group.latency.count:
        raise _NoValueError(_NOTHING_OF[metric.group])
    number: int = attrgetter(quantity.count)(group)
    if not number:
        raise _NoValueError(quantity.unknown)
    percent = metric.percent
    if percent is None:
        return float(attrgetter(quantity.attributes[metric.figure])(group))
    if number < samples_for(percent):
        raise _NoValueError(f"{metric.figure} needs {samples_for(percent):,} samples, and there are {number:,}")
    return percentile(strategy, metric.group, metric.quantity, percent)


def _of_strategy(figure: Figure, dimension: Dimension, strategy: StrategyResult) -> float:
    summary = summarize(strategy)
    if not summary.attempts:
        raise _NoValueError(_NOTHING_OF["all"])
    value: float | None = attrgetter(figure.attributes[dimension])(summary)
    if value is None:
        raise _NoValueError(figure.unknown)
    return value


def _knee(strategy: StrategyResult) -> float:
    """Percent of the range in use at the knee; 100 where nothing turned slow, as if the knee came after the end.

    That nothing turned slow shows something only where more than half of the range was in use, whatever the strategy.
    """
    knee = find_knee(strategy)
    if strategy.strategy.phase is Phase.CHURN:
        raise _NoValueError("churn has no knee")
    if not knee.is_judged:
        raise _NoValueError(f"a knee needs {FEWEST_CONNECTIONS} connections in a round")
    if not knee.ports:
        raise _NoValueError("the range is not known")
    if knee.share is not None:
        return 100 * knee.share
    if not knee.shows_half:
        few = f"only {knee.held:,} of {knee.ports:,} ports were in use"
        raise _NoValueError(f"{few}, and a knee at half of them needs {fewest_to_show_half(knee.ports):,} or more")
    return 100.0
