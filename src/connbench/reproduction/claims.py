"""Whether what the talk says of each measurement holds for the one made here."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from connbench.analysis.knee import SLOWDOWN, find_knee
from connbench.analysis.soundness import findings
from connbench.analysis.summary import Summary, summarize
from connbench.findings import Severity
from connbench.portsearch.windows import expect_failures
from connbench.reproduction.cases import Case
from connbench.reproduction.published import published
from connbench.results.result import Result, StrategyResult

ALIKE = 1.25
"""Medians of odd and even ports no further apart than this show no parity split; the cliff is 7 x and more."""

NOISE, NOISE_OF_FEW, FEW_PORTS = 0.9, 0.7, 10_000
"""A longer window may come out so much cheaper than a shorter one by chance, the more so where few ports take
milliseconds in all: the short ones cost nearly the same."""

NEARLY_FULL = (0.88, 0.92)
"""Share of the range in use at which the talk's 8 to 12 tries an attempt are due: 1 / (1 - share) is 8.3 to 12.5."""

TRIES = (8.0, 12.5)
SLACK = 1.25
"""The mean of that many geometric draws on a range of 4,096 ports stays within a quarter of what is expected."""


@dataclass(frozen=True, slots=True)
class Claim:
    """One thing the talk says, and whether it holds here."""

    holds: bool
    text: str


def judge(case: Case, result: Result) -> tuple[Claim, ...]:
    """Hold a row's measurement against what the talk claims of it; nothing to say without a sound and whole one.

    Rows that it is compared with, plain and the next smaller window, are looked up in the result.
    """
    strategy = next((s for s in result.strategies if s.strategy == case.spec), None)
    if strategy is None or strategy.is_partial or not result.plan:
        return ()
    if any(f.severity is Severity.INVALID and f.strategy == case.spec.label for f in findings(result)):
        return ()
    rule = _shared if case.spec.name == "bind" and case.spec.load.connections else _RULES[case.spec.name]
    return tuple(rule(case, strategy, result))


def _cliff(case: Case, strategy: StrategyResult, _result: Result) -> Iterator[Claim]:
    summary, knee = summarize(strategy), find_knee(strategy)
    yield _no_errors(summary)
    talk = published()[case.published or "plain"]
    ratio = _odd_to_even_means(summary)
    yield Claim(ratio > SLOWDOWN, f"odd ports cost {ratio:.3g} x even ones (the talk: {talk.odd_to_even:.3g} x)")
    at_half = knee.in_use is not None and strategy.capacity is not None and knee.in_use == (strategy.capacity + 1) // 2
    where = "no knee" if knee.connection is None else f"the knee is at connection {knee.connection:,}"
    yield Claim(at_half, f"{where}; half the range is {(strategy.capacity or 0) // 2:,}")


def _shared(_case: Case, strategy: StrategyResult, _result: Result) -> Iterator[Claim]:
    """Each address has a half of its own: from so many connections on they are slow, and beyond all ports they fail."""
    summary, knee = summarize(strategy), find_knee(strategy)
    capacity, attempts = strategy.capacity or 0, summary.attempts
    errors, due = summary.errored.latency.count, max(0, attempts - capacity)
    yield Claim(errors == due, f"{errors:,} of {attempts:,} connections failed; there are ports for {capacity:,}")
    half = capacity // 2
    expected = half if half < attempts else None
    slow = 0 if knee.in_use is None else summary.connected - knee.in_use
    yield Claim(knee.in_use == expected, f"{slow:,} connections are slow, those beyond half of {capacity:,} ports")


def _random(case: Case, strategy: StrategyResult, result: Result) -> Iterator[Claim]:
    summary = summarize(strategy)
    yield _no_errors(summary)
    yield from _faster_than_plain(case, summary, result)
    samples = strategy.rounds[0].samples
    in_use = np.cumsum(~samples.failed) / (strategy.capacity or 1)
    chosen = samples.tries[(in_use >= NEARLY_FULL[0]) & (in_use < NEARLY_FULL[1])]
    tries = float(chosen.mean()) if len(chosen) else 0.0
    holds = TRIES[0] / SLACK <= tries <= TRIES[1] * SLACK
    low, high = NEARLY_FULL
    yield Claim(holds, f"{tries:.1f} tries an attempt at {low:.0%} to {high:.0%} of the range (the talk: 8 to 12)")


def _window(case: Case, strategy: StrategyResult, result: Result) -> Iterator[Claim]:
    summary = summarize(strategy)
    errors, window = summary.errored.latency.count, case.spec.window or 0
    expected = expect_failures(strategy.capacity or 0, window, summary.attempts)
    yield Claim(
        errors in expected,
        f"{errors:,} errors; the model of the search expects {expected.low:,.0f} to {expected.high:,.0f}",
    )
    yield _no_split(summary)
    yield from _faster_than_plain(case, summary, result)
    smaller = [
        s for s in result.strategies if s.strategy.name == "window" and (s.strategy.window or 0) < window and s.rounds
    ]
    if smaller:
        other = max(smaller, key=lambda s: s.strategy.window or 0)
        ratio = summary.round_total_ns / summarize(other).round_total_ns
        least = NOISE_OF_FEW if (strategy.capacity or 0) < FEW_PORTS else NOISE
        text = f"{ratio:.2f} x the total time of {other.strategy.label}; at least {least:g} x is expected"
        yield Claim(ratio >= least, text)


def _filled(_case: Case, strategy: StrategyResult, _result: Result) -> Iterator[Claim]:
    summary = summarize(strategy)
    yield _no_errors(summary)
    even, odd = summary.even.latency.count, summary.odd.latency.count
    yield Claim(abs(even - odd) <= 1, f"every port was had: {even:,} even, {odd:,} odd")


def _flat(case: Case, strategy: StrategyResult, result: Result) -> Iterator[Claim]:
    summary = summarize(strategy)
    yield _no_errors(summary)
    yield _no_split(summary)
    yield from _faster_than_plain(case, summary, result)


def _no_errors(summary: Summary) -> Claim:
    errors = summary.errored.latency.count
    return Claim(errors == 0, "no connection failed" if errors == 0 else f"{errors:,} connections failed")


def _no_split(summary: Summary) -> Claim:
    even, odd = summary.even.latency.p50, summary.odd.latency.p50
    ratio = odd / even if even else 0.0
    return Claim(1 / ALIKE <= ratio <= ALIKE, f"the median of odd ports is {ratio:.2f} x that of even ones")


def _faster_than_plain(case: Case, summary: Summary, result: Result) -> Iterator[Claim]:
    ratio = speed_up(summary, result)
    if ratio is None:
        return
    talk = talk_speed_up(case)
    yield Claim(ratio > 1, f"{ratio:.3g} x as fast as plain" + (f" (the talk: {talk:.3g} x)" if talk else ""))


def speed_up(summary: Summary, result: Result) -> float | None:
    """Plain's time an attempt over this row's; None without either."""
    plain = next((summarize(s) for s in result.strategies if s.strategy.name == "plain" and not s.is_partial), None)
    return None if plain is None else summary.speed_up(plain)


def talk_speed_up(case: Case) -> float | None:
    """The same of the talk's figures; None where it has none."""
    if case.published is None:
        return None
    talk, plain = published()[case.published], published()["plain"]
    return (plain.total_ns / plain.attempts) / (talk.total_ns / talk.attempts)


def _odd_to_even_means(summary: Summary) -> float:
    return summary.odd.latency.mean / summary.even.latency.mean if summary.even.latency.mean else 0.0


_RULES = {
    "plain": _cliff,
    "bind": _cliff,
    "random": _random,
    "window": _window,
    "partition": _filled,
    "range": _flat,
}
"""What the talk claims, by the strategy's name."""
