"""The talk's claims about each measurement, and whether they hold for the measurement made here."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import numpy as np

from connbench.analysis.knee import SLOWDOWN, find_knee
from connbench.analysis.soundness import findings
from connbench.analysis.summary import Summary, summarize
from connbench.findings import Severity
from connbench.model import StrategySpec
from connbench.reproduce.cases import Case, published
from connbench.reproduce.window_failures import expect_failures
from connbench.results.result import Result, StrategyResult
from connbench.strategies import BASELINE, Window

NO_SPLIT = 1.25
"""The largest ratio of the medians of odd and even ports without a parity split; with one it is 7 and more."""

NOISE, NOISE_OF_FEW, FEW_PORTS = 0.9, 0.7, 10_000
"""The least ratio of a longer window's total time to that of a shorter one. By chance the longer one can be cheaper,
above all on fewer than `FEW_PORTS` ports, which take only milliseconds."""

NEARLY_FULL = (0.88, 0.92)
"""The share of the range in use at which the talk counts 8 to 12 tries an attempt: 1 / (1 - share) is 8.3 to 12.5."""

TRIES = (8.0, 12.5)
SLACK = 1.25
"""On a range of 4,096 ports the mean number of tries stays within a quarter of its expectation."""


@dataclass(frozen=True, slots=True)
class Claim:
    """A claim of the talk, and the figure that was measured for it.

    Attributes:
        figure: The name of the figure: a ratio if its name says so, else a count.
        measured: Its value here; None if there is none, and then the claim does not hold.
        text: The claim with its figures, for people.
        at_least: The least value for which the claim holds; None for no limit.
        at_most: The greatest value for which it holds; None for no limit.
        more_than: A limit that the value must exceed; None for no limit.
        talk: The value that the talk published; None if it published none.
    """

    figure: str
    measured: float | None
    text: str
    at_least: float | None = None
    at_most: float | None = None
    more_than: float | None = None
    talk: float | None = None

    @property
    def holds(self) -> bool:
        """Whether the measured value lies within the limits."""
        value = self.measured
        return (
            value is not None
            and (self.at_least is None or value >= self.at_least)
            and (self.at_most is None or value <= self.at_most)
            and (self.more_than is None or value > self.more_than)
        )


def claims_of(case: Case, result: Result) -> tuple[Claim, ...]:
    """The talk's claims about a case, judged; empty if the case was not measured whole, or not soundly.

    Args:
        case: The case.
        result: The reproduction. Some claims compare the case with plain, or with the next smaller window.
    """
    strategy = next((s for s in result.strategies if s.strategy == case.spec), None)
    if strategy is None or strategy.is_partial or not result.plan:
        return ()
    if any(f.severity is Severity.INVALID and f.strategy == case.spec.label for f in findings(result)):
        return ()
    return tuple(_rule(case.spec)(case, strategy, result))


def _parity_split(case: Case, strategy: StrategyResult, _result: Result) -> Iterator[Claim]:
    summary, knee = summarize(strategy), find_knee(strategy)
    yield _no_errors(summary)
    talk = published()[case.published or BASELINE.name]
    ratio = odd_to_even(summary)
    yield _of_parities(
        Claim(
            "odd_to_even_mean_ratio", ratio, "odd ports cost {} x even ones", more_than=SLOWDOWN, talk=talk.odd_to_even
        )
    )
    half = None if strategy.capacity is None else (strategy.capacity + 1) // 2
    where = "no knee" if knee.connection is None else f"the knee is at connection {knee.connection:,}"
    text = f"{where}; half the range is {(strategy.capacity or 0) // 2:,}"
    measured = None if half is None else knee.in_use
    yield Claim("connections_before_knee", measured, text, at_least=half, at_most=half)


def _several_sources(_case: Case, strategy: StrategyResult, _result: Result) -> Iterator[Claim]:
    """Each source address has a fast half: the connections beyond it are slow, and those beyond all ports fail."""
    summary, knee = summarize(strategy), find_knee(strategy)
    capacity, attempts = strategy.capacity or 0, summary.attempts
    errors, due = summary.errored.latency.count, max(0, attempts - capacity)
    text = f"{errors:,} of {attempts:,} connections failed; there are ports for {capacity:,}"
    yield Claim("errors", errors, text, at_least=due, at_most=due)
    half = capacity // 2
    slow = 0 if knee.in_use is None else summary.connected - knee.in_use
    expected = summary.connected - half if half < attempts else 0
    text = f"{slow:,} connections are slow, those beyond half of {capacity:,} ports"
    if slow != expected:
        text = f"{slow:,} connections are slow; beyond half of {capacity:,} ports there are {expected:,}"
    yield Claim("slow_connections", slow, text, at_least=expected, at_most=expected)


def _random(case: Case, strategy: StrategyResult, result: Result) -> Iterator[Claim]:
    summary = summarize(strategy)
    yield _no_errors(summary)
    yield from _faster_than_plain(case, summary, result)
    samples = strategy.rounds[0].samples
    in_use = np.cumsum(~samples.failed) / (strategy.capacity or 1)
    chosen = samples.tries[(in_use >= NEARLY_FULL[0]) & (in_use < NEARLY_FULL[1])]
    tries = float(chosen.mean()) if len(chosen) else None
    low, high = NEARLY_FULL
    yield Claim(
        "tries_mean_at_90_percent",
        tries,
        f"{tries or 0:.1f} tries an attempt at {low:.0%} to {high:.0%} of the range (the talk: 8 to 12)",
        at_least=TRIES[0] / SLACK,
        at_most=TRIES[1] * SLACK,
    )


def _window(case: Case, strategy: StrategyResult, result: Result) -> Iterator[Claim]:
    summary = summarize(strategy)
    errors, window = summary.errored.latency.count, case.spec.window or 0
    expected = expect_failures(strategy.capacity or 0, window, summary.attempts)
    yield Claim(
        "errors",
        errors,
        f"{errors:,} errors; the model of the search expects {expected.low:,.0f} to {expected.high:,.0f}",
        at_least=expected.low,
        at_most=expected.high,
        talk=published()[case.published].errored if case.published else None,
    )
    yield _no_split(summary)
    yield from _faster_than_plain(case, summary, result)
    smaller = [
        s
        for s in result.strategies
        if s.strategy.traits.window is Window.RANDOM and (s.strategy.window or 0) < window and s.rounds
    ]
    if smaller:
        other = max(smaller, key=lambda s: s.strategy.window or 0)
        ratio = summary.round_total_ns / summarize(other).round_total_ns
        least = NOISE_OF_FEW if (strategy.capacity or 0) < FEW_PORTS else NOISE
        text = f"{ratio:.2f} x the total time of {other.strategy.label}; at least {least:g} x is expected"
        yield Claim("total_to_shorter_window_ratio", ratio, text, at_least=least)


def _every_port(_case: Case, strategy: StrategyResult, _result: Result) -> Iterator[Claim]:
    summary = summarize(strategy)
    yield _no_errors(summary)
    even, odd = summary.even.latency.count, summary.odd.latency.count
    is_whole = abs(even - odd) <= 1 and not summary.errored.latency.count
    text = f"{'every port was taken: ' if is_whole else ''}{even:,} even, {odd:,} odd" + ("" if is_whole else " ports")
    yield Claim("even_less_odd_ports", even - odd, text, at_least=-1, at_most=1)


def _no_slow_half(case: Case, strategy: StrategyResult, result: Result) -> Iterator[Claim]:
    summary = summarize(strategy)
    yield _no_errors(summary)
    yield _no_split(summary)
    yield from _faster_than_plain(case, summary, result)


def _no_errors(summary: Summary) -> Claim:
    errors = summary.errored.latency.count
    return Claim(
        "errors", errors, "no connection failed" if errors == 0 else f"{errors:,} connections failed", at_most=0
    )


def _no_split(summary: Summary) -> Claim:
    even, odd = summary.even.latency, summary.odd.latency
    ratio = odd.p50 / even.p50 if odd.count and even.p50 > 0 else None
    words = "the median of odd ports is {} x that of even ones"
    return _of_parities(Claim("odd_to_even_median_ratio", ratio, words, at_least=1 / NO_SPLIT, at_most=NO_SPLIT))


def _of_parities(claim: Claim) -> Claim:
    """The claim with the ratio in its text, the limits if it does not hold, and the talk's ratio."""
    if claim.measured is None:
        return replace(claim, text="there are no connections of both parities to compare")
    text = claim.text.format(f"{claim.measured:.3g}" if claim.more_than else f"{claim.measured:.2f}")
    if not claim.holds:
        limits = f"more than {claim.more_than:g}" if claim.more_than else f"{claim.at_least:g} to {claim.at_most:g}"
        text += f"; {limits} x is expected"
    return replace(claim, text=text + (f" (the talk: {claim.talk:.3g} x)" if claim.talk else ""))


def _faster_than_plain(case: Case, summary: Summary, result: Result) -> Iterator[Claim]:
    ratio = speed_up(summary, result)
    if ratio is None:
        return
    talk = talk_speed_up(case)
    text = f"{ratio:.3g} x as fast as {BASELINE.name}" + (f" (the talk: {talk:.3g} x)" if talk else "")
    yield Claim("speed_up_over_plain_ratio", ratio, text, more_than=1, talk=talk)


def speed_up(summary: Summary, result: Result) -> float | None:
    """The time of an attempt with plain, divided by that of this case; None without either."""
    plain = next(
        (summarize(s) for s in result.strategies if s.strategy.name == BASELINE.name and not s.is_partial), None
    )
    return None if plain is None else summary.connect_speed_up(plain)


def talk_speed_up(case: Case) -> float | None:
    """The speed-up that the talk published; None if it published none."""
    if case.published is None:
        return None
    talk, plain = published()[case.published], published()[BASELINE.name]
    return (plain.total_ns / plain.attempts) / (talk.total_ns / talk.attempts)


def odd_to_even(summary: Summary) -> float | None:
    """The mean time of odd ports divided by that of even ports; None without a connection of each."""
    even, odd = summary.even.latency, summary.odd.latency
    return odd.mean / even.mean if odd.count and even.mean > 0 else None


Rule = Callable[[Case, StrategyResult, Result], Iterator[Claim]]
_RULES: dict[Window, Rule] = {
    Window.NOTHING: _parity_split,
    Window.RANDOM: _window,
    Window.CONSECUTIVE: _every_port,
    Window.RANGE: _no_slow_half,
}
"""What the talk claims of strategies that leave the port to the kernel."""


def _rule(spec: StrategySpec) -> Rule:
    if spec.traits.chooses_port:
        return _random
    return _several_sources if spec.traits.is_default_search and spec.load.connections else _RULES[spec.traits.window]
