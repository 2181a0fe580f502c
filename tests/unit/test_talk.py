"""The talk's six lines, exactly."""

from __future__ import annotations

import errno

import pytest

from connbench.analysis.summary import summarize
from connbench.report.formats import FORMATS
from connbench.report.talk import six_lines
from connbench.results.result import Samples, StrategyResult
from factories import PLAIN, WINDOW, result_of, round_of, samples_of


def lines_of(samples: Samples) -> list[str]:
    """The six lines of these samples."""
    return six_lines(summarize(StrategyResult(PLAIN, (round_of(samples),))), with_empty=True).split("\n")


def spread(count: int, lowest: int, highest: int, mean: int) -> list[int]:
    """Latencies in ns, with this minimum, maximum and mean."""
    middle = (count * mean - lowest - highest) // (count - 2)
    return [lowest, highest, *[middle] * (count - 2)]


def test_talks_own_run_comes_out_as_it_was_shown() -> None:
    """Samples with the figures of the talk's run over windows of 500 give its six lines."""
    even = spread(27843, 11_000, 2_884_000, 29_920)
    odd = spread(27801, 11_000, 1_161_000, 30_950)
    errored = spread(868, 68_000, 759_000, 209_000)
    samples = samples_of(
        even + odd + errored,
        port=[9024] * len(even) + [9025] * len(odd) + [0] * len(errored),
        errno=[0] * (len(even) + len(odd)) + [errno.EADDRNOTAVAIL] * len(errored),
    )
    assert lines_of(samples) == [
        "connection attempts: 56512 errored: 868 total: 55644",
        "total time: 1.875s",
        "latency min: 0.011ms max: 2.884ms avg: 0.033ms",
        "even ports: 27843 latency min: 0.011ms max: 2.884ms avg: 0.03ms",
        "odd ports: 27801 latency min: 0.011ms max: 1.161ms avg: 0.031ms",
        "errored ports: 868 latency min: 0.068ms max: 0.759ms avg: 0.209ms",
    ]


def test_group_without_a_port_has_no_minimum() -> None:
    """A group without an attempt is printed as the talk's script prints it."""
    assert lines_of(samples_of([2_000_000], port=[9024])) == [
        "connection attempts: 1 errored: 0 total: 1",
        "total time: 0.002s",
        "latency min: 2.0ms max: 2.0ms avg: 2.0ms",
        "even ports: 1 latency min: 2.0ms max: 2.0ms avg: 2.0ms",
        "odd ports: 0 latency min: infms max: 0ms avg: 0.0ms",
        "errored ports: 0 latency min: infms max: 0ms avg: 0.0ms",
    ]


def test_lines_of_empty_groups_can_be_left_out() -> None:
    """The default text has no `infms`; the rest is unchanged."""
    summary = summarize(StrategyResult(PLAIN, (round_of(samples_of([10_000, 30_000], port=[9024, 9026])),)))
    whole, short = (six_lines(summary, with_empty=with_empty).splitlines() for with_empty in (True, False))
    assert [line for line in whole if line not in short] == whole[4:]
    assert short == whole[:4]
    assert not any("inf" in line for line in short)


def test_run_without_an_attempt_still_has_six_lines() -> None:
    """Without attempts every group is an empty one."""
    nothing = "latency min: infms max: 0ms avg: 0.0ms"
    assert lines_of(samples_of([])) == [
        "connection attempts: 0 errored: 0 total: 0",
        "total time: 0.0s",
        nothing,
        f"even ports: 0 {nothing}",
        f"odd ports: 0 {nothing}",
        f"errored ports: 0 {nothing}",
    ]


@pytest.mark.parametrize(
    ("nanoseconds", "text"),
    [
        (30_000, "0.03ms"),
        (400, "0.0ms"),
        (501, "0.001ms"),
        (1_000, "0.001ms"),
        (2_000_000, "2.0ms"),
        (10_000_000, "10.0ms"),
        (100_100_000, "100.1ms"),
        (23_551_000, "23.551ms"),
        (999_999_600, "1000.0ms"),
        (4_593_270, "4.593ms"),
    ],
)
def test_milliseconds_have_three_decimals_less_their_trailing_zeros(nanoseconds: int, text: str) -> None:
    """Figures are rounded to three decimals, and zeros at their end are dropped, except one."""
    assert lines_of(samples_of([nanoseconds]))[2] == f"latency min: {text} max: {text} avg: {text}"


def test_total_time_counts_failed_attempts_too() -> None:
    """The talk's total time is the sum of all latencies, those of failed attempts included."""
    samples = samples_of([1_000_000_000, 500_000_000], errno=[0, errno.EADDRNOTAVAIL])
    assert lines_of(samples)[1] == "total time: 1.5s"


def test_talk_format_is_a_paragraph_a_strategy() -> None:
    """Several strategies come one after the other, a blank line between."""
    first, second = samples_of([2_000_000]), samples_of([3_000_000, 3_000_000])
    result = result_of({PLAIN: [round_of(first)], WINDOW: [round_of(second)]})
    assert FORMATS["talk"](result).split("\n") == [*lines_of(first), "", *lines_of(second)]
