"""What a reader should take away from a run, in one to three sentences with figures."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from connbench.analysis.course import Course, course_of
from connbench.analysis.knee import FEWEST
from connbench.analysis.soundness import GROWTH, findings
from connbench.analysis.summary import errno_name, summarize
from connbench.findings import Finding, Severity, printable
from connbench.model import MAX_PORT, Phase, PortRange, Protocol, RoundPlan
from connbench.results.result import Origin, Result, StrategyResult
from connbench.samples import GIVEN_UP, NO_PORT_FREE, TIMED_OUT, UNKNOWN_ERRNO
from connbench.units import about, count

FEWEST_PORTS = 1000
"""Ports of the smaller range that is recommended: walking fewer in vain hardly shows beside the rest of a connect()."""

WITHOUT_PARITY = {"range", "window", "partition"}
"""Strategies that a kernel from 6.8 on searches for without a preferred parity."""


def run_verdict(result: Result) -> tuple[str, ...]:
    """The verdict on a result that is no sweep: sentences without any markup; none where nothing was measured.

    The last one says what to run next. Where figures cannot be used, the first one says so. A strategy is called fast
    to the last connection only where enough of its ports were in use to show it.
    """
    measured = [s for s in result.strategies if any(len(r.samples) for r in s.rounds)]
    if not measured:
        return ()
    invalid = [f for f in findings(result) if f.severity is Severity.INVALID]
    unsound = {f.strategy for f in invalid}
    usable = [] if None in unsound else [s for s in measured if s.strategy.label not in unsound]
    if not usable:
        first = invalid[0]
        return (f"Do not use these figures: {first.text}.", f"Next: {printable(first.advice)}; then measure again.")
    warning = [_unusable(invalid)] if invalid else []
    churned = [s for s in usable if s.strategy.phase is Phase.CHURN]
    said = _of_churn(result, churned) if churned else _of_filling(result, usable)
    return (*warning, *said, _next(result, churned or usable))


def _unusable(invalid: Sequence[Finding]) -> str:
    labels = list(dict.fromkeys(f.strategy for f in invalid if f.strategy))
    return f"Do not use the figures of {_listed(labels)}: {printable(invalid[0].message)}."


def _name(result: Result, strategy: StrategyResult) -> str:
    """Without the load where, as in each run, all strategies have the same."""
    spec = strategy.strategy
    settings = [other.setting for other in result.specs if other.phase is spec.phase]
    return spec.setting if len(set(settings)) == len(settings) else spec.label


def _of_filling(result: Result, strategies: Sequence[StrategyResult]) -> Iterator[str]:
    courses = [(s, course_of(s, result.plan)) for s in strategies]
    slow = [(s, course) for s, course in courses if course.knee.connection is not None]
    rest = [(s, course) for s, course in courses if course.knee.connection is None]
    if slow:
        yield f"{'; '.join(_turns(result, slow))}."
    shown = [(s, course) for s, course in rest if course.shows_half is not False and course.median_ns is not None]
    if shown:
        is_unknown = any(course.shows_half is None for _, course in shown)
        beyond = (
            "; the file does not tell how many ports there were, so a knee may lie further on" if is_unknown else ""
        )
        yield f"{'; '.join(_stays(result, shown))}{beyond}."
    hidden = [(s, course) for s, course in rest if (s, course) not in shown]
    if hidden:
        yield _too_small(result, hidden)


def _turns(result: Result, slow: Sequence[tuple[StrategyResult, Course]]) -> Iterator[str]:
    """Where strategies turn slow; those that do at the same share of their ports, and fail alike, are told together."""
    groups: dict[tuple[str, str], list[tuple[StrategyResult, Course]]] = {}
    for strategy, course in slow:
        share = _share(course.knee.in_use, course) or f"connection {course.knee.connection}"
        groups.setdefault((share, _failures(strategy, course)), []).append((strategy, course))
    for (_, failures), alike in groups.items():
        courses = [course for _, course in alike]
        numbers = sorted({course.knee.connection or 0 for course in courses})
        where = " to ".join(map(count, dict.fromkeys((numbers[0], numbers[-1]))))
        share = _share(courses[0].knee.in_use, courses[0])
        before, after = _span([c.before_ns for c in courses]), _span([c.after_ns for c in courses])
        yield (
            f"{_listed([_name(result, s) for s, _ in alike])} {'turns' if len(alike) == 1 else 'turn'} slow at "
            f"connection {where}{' of the first address' if courses[0].is_of_first else ''}"
            f"{f' ({share})' if share else ''}: {_figure(result)} {before} before, {after} after{failures}"
        )


def _stays(result: Result, shown: Sequence[tuple[StrategyResult, Course]]) -> Iterator[str]:
    """What became of strategies without a knee: those that stay as they are and do not fail first, and together."""
    steady: list[tuple[StrategyResult, Course]] = []
    growing, failing = steady.copy(), steady.copy()
    for strategy, course in shown:
        if (course.last_ns or 0.0) > GROWTH * (course.first_ns or 0.0):
            growing.append((strategy, course))
        elif summarize(strategy).errored.latency.count:
            failing.append((strategy, course))
        else:
            steady.append((strategy, course))
    if steady:
        yield f"{_stay(result, steady)} to the last connection, without an error"
    for failures in dict.fromkeys(_failures(*one) for one in failing):
        alike = [one for one in failing if _failures(*one) == failures]
        yield f"{_stay(result, alike)}{failures}"
    for position, (strategy, course) in enumerate(growing):
        first, last = about(course.first_ns or 0.0), about(course.last_ns or 0.0)
        words = (
            f"from {first} to {last}"
            if position
            else f"slows down from {first} in the first 5 % of the connections to {last} in the last 5 % "
            f"({_figure(result)})"
        )
        yield f"{_name(result, strategy)} {words}{_failures(strategy, course)}"


def _stay(result: Result, alike: Sequence[tuple[StrategyResult, Course]]) -> str:
    names = _listed([_name(result, s) for s, _ in alike])
    span = _span([course.median_ns for _, course in alike])
    return f"{names} {'stays' if len(alike) == 1 else 'stay'} at {span} ({_figure(result)})"


def _too_small(result: Result, hidden: Sequence[tuple[StrategyResult, Course]]) -> str:
    names = _listed([_name(result, s) for s, _ in hidden])
    most = max((course for _, course in hidden), key=lambda course: course.held)
    if not most.held:
        failures = "; ".join(_failures(s, None).removeprefix(", ") for s, _ in hidden)
        return f"{names} opened no connection: {failures}."
    of = f" of {count(most.ports)} ports" if most.ports else ""
    why = f"{FEWEST} are needed" if most.held < FEWEST else "connect() turns slow when more than half are in use"
    verb = "turns" if len(hidden) == 1 else "turn"
    return f"{count(most.held)} connections{of} cannot show whether {names} {verb} slow: {why}."


def _of_churn(result: Result, churned: Sequence[StrategyResult]) -> Iterator[str]:
    """What a replacement takes with each strategy, the quickest first."""
    medians = sorted((summarize(s).all.acquire.p50, _name(result, s)) for s in churned)
    words = ", ".join(f"{about(median)} with {name}" for median, name in medians)
    yield f"{_in_use(result, churned[0])} a new connection takes {words} ({_figure(result)})."
    failing = [s for s in churned if summarize(s).errored.latency.count]
    if failing:
        told = "; ".join(f"with {_name(result, s)}{_failures(s, None)}" for s in failing)
        yield f"{told[0].upper()}{told[1:]}."
    else:
        yield "No replacement failed."


def _in_use(result: Result, strategy: StrategyResult) -> str:
    if result.plan is None:
        return "During churn"
    planned = RoundPlan(result.plan, strategy.strategy, 1)
    share = _percent(planned.connections / planned.capacity)
    return f"With {count(planned.connections)} of {count(planned.capacity)} ports ({share}) in use"


def _failures(strategy: StrategyResult, course: Course | None) -> str:
    """The failed attempts by their reason, and where the first one was; empty without any."""
    summary = summarize(strategy)
    if not summary.errored.latency.count:
        return ""
    numbers, counts = np.unique(strategy.samples.errno, return_counts=True)
    by_reason: dict[str, int] = {}
    for number, times in zip(numbers.tolist(), counts.tolist(), strict=True):
        if number:
            by_reason[_reason(number)] = by_reason.get(_reason(number), 0) + times
    told = " and ".join(
        f"{count(times)} of {count(summary.attempts)} attempts ({times / summary.attempts:.1%}) {reason}".replace(
            "%", " %"
        )
        for reason, times in by_reason.items()
    )
    if course and course.ports and course.knee.in_use_at_failure == course.ports:
        return f", {told}, for all ports are in use"
    share = _share(course.knee.in_use_at_failure, course) if course else ""
    return f", {told}" + (f", the first with {share} in use" if share else "")


def _reason(number: int) -> str:
    if number in NO_PORT_FREE:
        return "find no port"
    known = {GIVEN_UP: "are given up", TIMED_OUT: "get no answer in time", UNKNOWN_ERRNO: "fail"}
    return known.get(number, f"fail with {errno_name(number)}")


def _share(in_use: int | None, course: Course) -> str:
    if in_use is None or not course.ports:
        return ""
    whose = "its ports" if course.is_of_first else "the ports"
    return f"{_percent(in_use / course.ports)} of {whose}"


def _percent(share: float, digits: int = 0) -> str:
    return f"{share * 100:.{digits}f} %"


def _figure(result: Result) -> str:
    return "connect() p50" if result.origin is Origin.TALK_CSV else "acquire p50"


def _span(values: Sequence[float | None]) -> str:
    """Times as one where they read alike, else from the smallest to the largest."""
    known = sorted(value for value in values if value is not None)
    return " to ".join(dict.fromkeys(map(about, (known[0], known[-1])))) if known else "-"


def _listed(names: Sequence[str]) -> str:
    return " and ".join(filter(None, (", ".join(names[:-1]), names[-1])))


def _next(result: Result, strategies: Sequence[StrategyResult]) -> str:
    plan = result.plan
    if result.is_partial:
        return "Next: the run was cut short; run it again for the rest."
    if plan is None:
        return "Next: connbench run measures the same on this machine."
    if any(s.strategy.phase is Phase.CHURN for s in strategies) or plan.strategies[0].load.protocol is Protocol.UDP:
        return "Next: connbench sweep finds the cheapest setting as the range fills; see connbench sweep --help."
    courses = [course_of(s, plan) for s in strategies]
    if any(course.shows_half is False and course.knee.connection is None for course in courses):
        return _next_larger(
            plan.port_range, max(courses, key=lambda one: one.held), can_set_range=plan.namespace.is_own
        )
    ports = f" --port-range {plan.port_range}" if plan.namespace.is_own else ""
    if not {s.strategy.name for s in strategies} & WITHOUT_PARITY:
        return f"Next: connbench run --strategy range --strategy window{ports} shows what helps."
    planned = RoundPlan(plan, strategies[0].strategy, 1)
    sources = f" --sources {len(planned.sources)}" if len(planned.sources) > 1 else ""
    load = f"-n {planned.connections}{sources}{ports}"
    return f"Next: connbench advise {load} says which strategy and setting fit such a load."


def _next_larger(ports: PortRange, course: Course, *, can_set_range: bool) -> str:
    if not can_set_range:
        return f"Next: the same with -n {course.ports}, as many connections as there are ports."
    size = max(course.held, FEWEST_PORTS)
    low = min(ports.low, MAX_PORT + 1 - size)
    narrower = PortRange(low, low + size - 1)
    return f"Next: the same with --port-range {narrower} and without -n, so that the connections fill the range."
