"""The summary's figures, against plain Python's and numpy's."""

from __future__ import annotations

import errno
import gc
import statistics
import weakref
from dataclasses import asdict, replace
from math import isnan, nan

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from connbench.analysis.knee import find_knee
from connbench.analysis.summary import Distribution, Group, Summary, count_errors, samples_for, summarize
from connbench.errors import Interrupted
from connbench.model import MAX_PORT
from connbench.results.result import Round, Samples, StrategyResult
from factories import PLAIN, round_of, samples_of, unhurried

ERRORS = (errno.EADDRNOTAVAIL, errno.EADDRINUSE, errno.EINPROGRESS)
latencies = st.integers(1, 10**13)


@st.composite
def measured(draw: st.DrawFn) -> Samples:
    """The samples of a round: any mix of latencies, ports, tries and errors; some attempts never reached connect()."""
    rows = draw(st.lists(st.tuples(latencies, latencies, st.integers(1, 50), st.integers(1, MAX_PORT)), max_size=60))
    failed = draw(st.lists(st.sampled_from((0, 0, *ERRORS)), min_size=len(rows), max_size=len(rows)))
    return samples_of(
        [0 if number == errno.EADDRINUSE else row[0] for row, number in zip(rows, failed, strict=True)],
        prepare_ns=[row[1] for row in rows],
        tries=[row[2] for row in rows],
        port=[0 if number else row[3] for row, number in zip(rows, failed, strict=True)],
        errno=failed,
    )


def summary_of(*rounds: Samples) -> Summary:
    """The summary of a strategy with these samples, a round each."""
    return summarize(StrategyResult(PLAIN, tuple(round_of(s, number) for number, s in enumerate(rounds, 1))))


def percentile(values: list[int], share: float) -> float:
    """By hand: between the two values nearest to that share of the sorted list, in proportion."""
    ordered = sorted(values)
    position = (len(ordered) - 1) * share
    below = int(position)
    above = min(below + 1, len(ordered) - 1)
    return ordered[below] + (ordered[above] - ordered[below]) * (position - below)


def same(value: float) -> object:
    """Equal except for the last digits of a float, which depend on the order of summing."""
    return pytest.approx(value, rel=1e-9, nan_ok=True)


@given(st.lists(latencies, min_size=1, max_size=200))
@unhurried
def test_distribution_is_what_plain_python_says(values: list[int]) -> None:
    """Minimum, mean, percentiles and maximum agree with the statistics module and a percentile made by hand."""
    found = Distribution.of(np.array(values))
    assert found.count == len(values)
    assert (found.minimum, found.maximum) == (min(values), max(values))
    assert found.mean == same(statistics.fmean(values))
    assert found.p50 == same(statistics.median(values))
    assert found.p75 == same(percentile(values, 0.75))
    assert found.p90 == same(percentile(values, 0.9))
    assert found.p95 == same(percentile(values, 0.95))
    assert found.p99 == same(percentile(values, 0.99))


@given(st.integers(1000, 1100), st.integers(0, 2**32 - 1))
@settings(unhurried, max_examples=10)
def test_percentiles_are_numpys_default(count: int, seed: int) -> None:
    """Percentiles are the linearly interpolated ones that anyone gets from numpy."""
    values = np.random.default_rng(seed).integers(0, 10**10, count)  # so long a list is more than hypothesis likes
    found = Distribution.of(values)
    expected = np.percentile(values, [50, 75, 90, 95, 99, 99.9])
    assert [found.p50, found.p75, found.p90, found.p95, found.p99, found.p999] == [same(float(v)) for v in expected]


@pytest.mark.parametrize("count", [1, 500, 999])
def test_p999_is_left_out_below_a_thousand_samples(count: int) -> None:
    """The 99.9th percentile of fewer than 1,000 values would be little more than their maximum."""
    assert Distribution.of(np.arange(1, count + 1)).p999 is None


def test_p999_is_there_from_a_thousand_samples_on() -> None:
    """The 99.9th percentile of 1,000 values lies between the last two."""
    values = list(range(1, 1001))
    assert Distribution.of(np.array(values)).p999 == same(percentile(values, 0.999))


def test_distribution_of_nothing_has_no_figures() -> None:
    """Without a value there is no figure: a 0 reads as a call that takes no time."""
    figures = asdict(Distribution.of(np.array([], dtype="q")))
    assert (figures.pop("count"), figures.pop("p999")) == (0, None)
    assert all(isnan(value) for value in figures.values())


@pytest.mark.parametrize(("percent", "samples"), [(50, 1), (99, 1), (1, 1), (99.9, 1000), (99.99, 10_000), (0.1, 1000)])
def test_far_percentiles_need_samples(percent: float, samples: int) -> None:
    """A percentile beyond p99 needs enough samples for one of them to lie beyond it."""
    assert samples_for(percent) == samples


@given(measured())
@unhurried
def test_groups_split_the_attempts_by_parity_and_failure(samples: Samples) -> None:
    """Every attempt is even, odd or errored, and each group's latencies are those of its attempts."""
    found = summary_of(samples)
    groups: dict[str, list[int]] = {"all": [], "even": [], "odd": [], "errored": []}
    for connect, prepare, port, number in zip(
        samples.connect_ns.tolist(),
        samples.prepare_ns.tolist(),
        samples.port.tolist(),
        samples.errno.tolist(),
        strict=True,
    ):
        latency = connect or prepare
        groups["all"].append(latency)
        groups["errored" if number else "odd" if port % 2 else "even"].append(latency)
    assert {name: group.latency.count for name, group in found.groups.items()} == {
        name: len(values) for name, values in groups.items()
    }
    for name, values in groups.items():
        if values:
            latency = found.groups[name].latency
            assert (latency.minimum, latency.maximum) == (min(values), max(values))
            assert latency.mean == same(statistics.fmean(values))
    assert found.even.latency.count + found.odd.latency.count + found.errored.latency.count == found.attempts
    assert found.connected == found.attempts - found.errored.latency.count
    assert found.total_ns == sum(groups["all"])


@given(measured())
@unhurried
def test_acquire_and_tries_are_those_of_the_group(samples: Samples) -> None:
    """Acquire time and tries of a group are of the same attempts as its latency."""
    found = summary_of(samples)
    odd = [i for i in range(len(samples)) if samples.port[i] % 2 and not samples.errno[i]]
    acquire = [int(samples.acquire_ns[i]) for i in odd]
    tries = [int(samples.tries[i]) for i in odd]
    assert found.odd.acquire.count == len(odd)
    assert found.odd.acquire.mean == same(statistics.fmean(acquire) if acquire else nan)
    assert found.odd.tries_mean == same(statistics.fmean(tries) if tries else nan)
    assert found.odd.tries_max == same(max(tries, default=nan))


@pytest.mark.parametrize(
    ("connect_ns", "prepare_ns", "number", "latency"),
    [
        (7000, 300, 0, 7000),
        (7000, 300, errno.EADDRNOTAVAIL, 7000),
        (0, 300, errno.EADDRINUSE, 300),
    ],
)
def test_latency_is_that_of_the_call_that_decided(connect_ns: int, prepare_ns: int, number: int, latency: int) -> None:
    """Latency is connect(), or the call before it that failed so that connect() never ran."""
    found = summary_of(samples_of([connect_ns], prepare_ns=[prepare_ns], errno=[number]))
    assert found.all.latency.mean == found.total_ns == latency


def test_summary_of_no_attempt_has_no_figures() -> None:
    """A round that broke before its first attempt has a summary without figures."""
    empty = repr(Group(Distribution(), Distribution(), Distribution(), Distribution(), nan, nan))
    found = summary_of(samples_of([]))
    assert {name: repr(group) for name, group in found.groups.items()} == dict.fromkeys(
        ("all", "even", "odd", "errored"), empty
    )
    assert (found.attempts, found.connected, found.total_ns, found.wall_ns, found.errors) == (0, 0, 0, 0, {})


def test_errors_are_named_and_the_most_frequent_come_first() -> None:
    """Errors are counted by the name of their errno; a number without a name stands for itself."""
    numbers = np.array([0, 9999, *[errno.EADDRINUSE] * 2, 0, *[errno.EADDRNOTAVAIL] * 3])
    assert list(count_errors(numbers).items()) == [("EADDRNOTAVAIL", 3), ("EADDRINUSE", 2), ("errno 9999", 1)]


@given(st.lists(st.sampled_from((0, *errno.errorcode, 9999))))
@unhurried
def test_every_error_is_counted(numbers: list[int]) -> None:
    """The counts are in falling order, and together they are the failed attempts."""
    counts = list(count_errors(np.array(numbers, dtype="H")).values())
    assert counts == sorted(counts, reverse=True)
    assert sum(counts) == sum(number != 0 for number in numbers)


@given(st.lists(measured(), min_size=1, max_size=4))
@settings(unhurried, max_examples=50)
def test_rounds_are_summarized_as_one(rounds: list[Samples]) -> None:
    """Groups and errors of several rounds are those of all their attempts; totals are kept by round as well."""
    found = summary_of(*rounds)
    at_once = summary_of(Samples.pooled(rounds))
    alone = [summary_of(samples) for samples in rounds]
    assert repr(found.groups) == repr(at_once.groups)  # of nothing each figure is nan, which equals nothing
    assert (found.errors, found.total_ns) == (at_once.errors, at_once.total_ns)
    assert found.rounds_total_ns == tuple(one.total_ns for one in alone)
    assert (found.attempts, found.total_ns) == (sum(map(len, rounds)), sum(one.total_ns for one in alone))
    assert found.wall_ns == sum(one.wall_ns for one in alone)
    assert found.round_total_ns == same(statistics.median(one.total_ns for one in alone))


def test_wall_time_is_from_the_first_begin_to_the_last_outcome() -> None:
    """Time between attempts belongs to the wall time, time before the first does not."""
    samples = samples_of([10, 10, 10], started_ns=[100, 300, 500], acquire_ns=[50, 50, 70])
    assert summary_of(samples).wall_ns == 470


def with_report(measured: Round, established: int, floor_ns: int | None) -> Round:
    """The round with other figures from its worker."""
    worker = replace(measured.report.workers[0], floor_ns=floor_ns)
    return replace(measured, report=replace(measured.report, workers=(worker,), established=established))


def test_established_is_the_smallest_and_floor_the_median_of_the_rounds() -> None:
    """Connections open at the end are those of the round with fewest; the floor is the median of the rounds' floors."""
    base = round_of(samples_of([1000, 1000, 1000]))
    rounds = [
        with_report(base, 3, 500),
        with_report(base, 2, None),
        with_report(base, 3, 900),
        with_report(base, 3, 600),
    ]
    found = summarize(StrategyResult(PLAIN, tuple(rounds)))
    assert (found.established, found.floor_ns) == (2, 600)


def test_floor_is_none_where_no_round_has_one() -> None:
    """Without a connection there is no floor."""
    assert summarize(StrategyResult(PLAIN, (with_report(round_of(samples_of([])), 0, None),))).floor_ns is None


def test_speed_up_is_by_the_attempt() -> None:
    """Strategies with different numbers of attempts are compared by the cost of one."""
    plain, filled = summary_of(samples_of([90_000] * 100)), summary_of(samples_of([10_000] * 7))
    assert filled.connect_speed_up(plain) == same(9)
    assert plain.connect_speed_up(filled) == same(1 / 9)
    assert plain.connect_speed_up(plain) == 1


def test_speed_up_is_of_the_median_rounds() -> None:
    """A disturbed round moves it neither way, and each round of another length counts by its mean."""
    plain = summary_of(*(samples_of([ns] * 10) for ns in (60_000, 9_000_000, 62_000)))
    faster = summary_of(samples_of([1] * 10), samples_of([31_000] * 4), samples_of([32_000] * 1000))
    assert faster.connect_speed_up(plain) == same(2)


def test_speed_up_is_of_complete_rounds_alone() -> None:
    """A round that was cut short does not count; a strategy without another has no speed-up, and gives none."""
    cut = round_of(samples_of([1] * 10), 2, Interrupted(2))
    whole = summarize(StrategyResult(PLAIN, (round_of(samples_of([20_000] * 10)),)))
    mended = summarize(StrategyResult(PLAIN, (round_of(samples_of([10_000] * 10)), cut)))
    partial = summarize(StrategyResult(PLAIN, (cut,)))
    assert mended.connect_speed_up(whole) == same(2)
    assert (partial.connect_speed_up(whole), whole.connect_speed_up(partial), partial.connect_speed_up(partial)) == (
        None,
        None,
        None,
    )


def test_speed_up_without_an_attempt_or_a_time_is_none() -> None:
    """Nothing has a speed-up over a strategy that was not measured, or took no time at all."""
    some, nothing = summary_of(samples_of([10_000])), summary_of(samples_of([]))
    no_time = summary_of(samples_of([0], prepare_ns=[0]))
    assert (nothing.connect_speed_up(some), some.connect_speed_up(nothing), no_time.connect_speed_up(some)) == (
        None,
        None,
        None,
    )


def test_no_pooled_copy_outlives_its_summary(monkeypatch: pytest.MonkeyPatch) -> None:
    """What the summary of a growing strategy keeps is its figures, not a copy of all its attempts."""
    copies: list[weakref.ref[Samples]] = []

    def pooled(parts: list[Samples]) -> Samples:
        copy = pool(parts)
        copies.append(weakref.ref(copy))
        return copy

    pool = Samples.pooled
    monkeypatch.setattr(Samples, "pooled", pooled)
    measured: list[Round] = []
    for number in range(1, 7):
        measured.append(round_of(samples_of([10_000] * 100), number))
        strategy = StrategyResult(PLAIN, tuple(measured))
        assert summarize(strategy).attempts == len(strategy.samples) == 100 * number
        find_knee(strategy)
    gc.collect()
    kept = [copy() for copy in copies if copy() is not None]
    assert len(copies) >= 6
    assert [samples for samples in kept if not any(samples is one.samples for one in measured)] == []
