"""The six lines of the talk 'connect() - why you so slow?', to the letter."""

from __future__ import annotations

from connbench.analysis.summary import Distribution, Summary, summarize
from connbench.results.result import Result
from connbench.units import MS_PER_S, NS_PER_S


def talk(result: Result) -> str:
    """The six lines of each strategy as the talk's script prints them, with an empty line between two strategies."""
    return "\n\n".join(six_lines(summarize(strategy), with_empty=True) for strategy in result.strategies)


def six_lines(summary: Summary, *, with_empty: bool = False) -> str:
    """The talk's summary of a strategy: milliseconds with three decimals, without trailing zeros after the first.

    The line of a group that has no attempt, `latency min: infms`, is there `with_empty` only, as the talk prints it.
    """
    errored = summary.errored.latency
    groups = {
        "": summary.all.latency,
        f"even ports: {summary.even.latency.count} ": summary.even.latency,
        f"odd ports: {summary.odd.latency.count} ": summary.odd.latency,
        f"errored ports: {errored.count} ": errored,
    }
    return "\n".join(
        (
            f"connection attempts: {summary.attempts} errored: {errored.count} total: {summary.connected}",
            f"total time: {_rounded(summary.total_ns / NS_PER_S)}s",
            *(name + _latency(group) for name, group in groups.items() if with_empty or group.count),
        )
    )


def _latency(latency: Distribution) -> str:
    if not latency.count:
        return "latency min: infms max: 0ms avg: 0.0ms"
    # By way of seconds, which is what the talk's script has: what lies between two figures goes where it goes there.
    lowest, highest, average = (
        _rounded(value / NS_PER_S * MS_PER_S) for value in (latency.minimum, latency.maximum, latency.mean)
    )
    return f"latency min: {lowest}ms max: {highest}ms avg: {average}ms"


def _rounded(value: float) -> str:
    """A number with three decimals, without trailing zeros after the first decimal."""
    whole, _, decimals = f"{value:.3f}".partition(".")
    return f"{whole}.{decimals.rstrip('0') or '0'}"
