"""Strategies side by side: what a connection costs a program, and when a difference is more than noise."""

from __future__ import annotations

import errno
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest

from connbench.analysis.ranking import LATENCY, cost, cost_of, find_base, speed
from connbench.errors import Interrupted
from connbench.model import Clock, Load, Protocol, StrategySpec
from connbench.report.ranking_table import ranking_of
from connbench.results.result import Origin, Result, Samples, StrategyResult
from factories import BIND, LONG, PLAIN, RANDOM, WINDOW, result_of, round_of, samples_of

RANGE = StrategySpec("range")
UNEQUAL = tuple(int(1000 * factor) for factor in np.random.default_rng(1).lognormal(3, 0.5, 1000))
"""Times of 1,000 attempts, in ns, as different as those of a busy machine."""


def of(*rounds: Samples, spec: StrategySpec = PLAIN) -> StrategyResult:
    """A strategy with these rounds, all complete."""
    return StrategyResult(spec, tuple(round_of(samples, number) for number, samples in enumerate(rounds, 1)))


def times(factor: float, attempts: Sequence[int] = UNEQUAL) -> Samples:
    """The same times, each multiplied by the factor, in bind() and connect() together."""
    return samples_of([int(factor * ns) for ns in attempts], prepare_ns=[0] * len(attempts))


def ranked(*measured: tuple[StrategySpec, Samples]) -> list[tuple[str, ...]]:
    """The rows of a run's table."""
    result = result_of({spec: [round_of(samples)] for spec, samples in measured})
    return [tuple(row) for row in ranking_of([result], [(s.strategy.label, s) for s in result.strategies]).table.rows]


def test_what_a_program_waits_decides_and_not_connect_alone() -> None:
    """`random` has the quickest connect() and waits in bind(): the cheapest strategy stands first."""
    rows = ranked(
        (PLAIN, samples_of([100_000] * 1000, prepare_ns=[0] * 1000)),
        (RANDOM, samples_of([5_000] * 1000, prepare_ns=[45_000] * 1000, tries=[11] * 1000)),
        (RANGE, samples_of([8_000] * 1000, prepare_ns=[2_000] * 1000)),
    )
    assert rows == [
        ("range", "10.0 µs", "10.00 x", "8.00 µs", "0", "0.0%"),
        ("random", "50.0 µs", "2.00 x", "5.00 µs", "0", "0.0%"),
        ("plain", "100 µs", "1.00 x", "100 µs", "0", "0.0%"),
    ]


def test_a_handshake_in_flight_costs_nothing() -> None:
    """Over a path of 50 ms every connection takes as long; a program is busy with its calls alone."""
    path, flying = 50_000_000, Load(in_flight=100)
    quick, slow = (
        replace(samples, handshake_ns=np.full(1000, path), acquire_ns=samples.acquire_ns + path)
        for samples in (times(1, [5_000] * 1000), times(1, [500_000] * 1000))
    )
    result = result_of({replace(s, load=flying): [round_of(m)] for s, m in ((PLAIN, slow), (RANGE, quick))})
    table = ranking_of([result], [(s.strategy.setting, s) for s in result.strategies]).table
    assert [row[:3] for row in table.rows] == [("range", "5.00 µs", "100.00 x"), ("plain", "500 µs", "1.00 x")]
    assert "the time of all attempts, failed ones too, without handshakes, divided by" in table.remarks[0]


def test_an_attempt_that_fails_fast_makes_nothing_cheaper() -> None:
    """Nine of ten attempts fail in a tenth of the time: the connections that remain cost nearly twice as much."""
    fast = samples_of(
        [1_000] * 900 + [10_000] * 100, prepare_ns=[0] * 1000, errno=[errno.EADDRNOTAVAIL] * 900 + [0] * 100
    )
    assert cost_of(fast) == 19_000
    assert [row[0] for row in ranked((WINDOW, fast), (PLAIN, times(1, [10_000] * 1000)))] == ["plain", "window 500"]


def test_further_tries_and_bind_are_part_of_a_connection_s_cost() -> None:
    """Acquire time and latency are two figures."""
    samples = samples_of([5_000] * 10, prepare_ns=[95_000] * 10)
    assert (cost_of(samples), cost_of(samples, LATENCY)) == (100_000, 5_000)


@pytest.mark.parametrize("samples", [samples_of([]), samples_of([5_000] * 3, errno=[errno.EADDRNOTAVAIL] * 3)])
def test_without_a_connection_there_is_no_cost(samples: Samples) -> None:
    """Without connections there is no cost; in the table such a strategy is the last."""
    assert cost_of(samples) is None
    assert speed(of(samples), of(times(1))) is None
    last = ranked((WINDOW, samples), (PLAIN, times(1)))[-1]
    assert last[:4] == ("window 500", "-", "-", "-")


def test_cost_is_that_of_the_median_complete_round() -> None:
    """A disturbed round does not move it, and one that was cut short does not count."""
    strategy = of(*(samples_of([ns] * 10, prepare_ns=[0] * 10) for ns in (60_000, 9_000_000, 62_000)))
    cut = round_of(samples_of([1] * 10), 4, Interrupted(2))
    assert cost(replace(strategy, rounds=(*strategy.rounds, cut))) == 62_000
    assert cost(StrategyResult(PLAIN, (cut,))) is None


def test_a_strategy_cut_short_is_marked_and_last() -> None:
    """It has no complete round to compare."""
    even = times(1, [10_000] * 1000)
    result = result_of({BIND: [round_of(even, 1, Interrupted(2))], PLAIN: [round_of(even)]})
    rows = ranking_of([result], [(s.strategy.label, s) for s in result.strategies]).table.rows
    assert [row[:3] for row in rows] == [("plain", "10.0 µs", "1.00 x"), ("bind", "partial", "-")]


def test_the_same_times_in_another_order_show_no_difference() -> None:
    """A difference by chance alone is not called faster, however many attempts there are."""
    shuffled = times(1, list(np.random.default_rng(2).permutation(UNEQUAL)))
    assert {row[2] for row in ranked((PLAIN, times(1)), (BIND, shuffled))} == {"no difference shown", "1.00 x"}
    found = speed(of(shuffled), of(times(1)))
    assert found is not None
    assert not found.is_shown


def test_one_slow_attempt_shows_no_difference() -> None:
    """One attempt that took as long as all others together makes its strategy no slower."""
    slow = [*UNEQUAL[:-1], 3 * sum(UNEQUAL)]
    found = speed(of(times(1, slow)), of(times(1)))
    assert found is not None
    assert found.ratio < 0.3
    assert not found.is_shown


@pytest.mark.parametrize(("factor", "is_shown"), [(0.8, False), (1.25, False), (0.5, True), (4.0, True)])
def test_one_round_shows_what_rounds_do_not_differ_by_anyhow(factor: float, is_shown: bool) -> None:
    """The attempts of one round cannot show that rounds differ from each other."""
    found = speed(of(times(factor)), of(times(1)))
    assert found is not None
    assert found.ratio == pytest.approx(1 / factor, rel=0.01)
    assert found.is_shown is is_shown


def test_a_difference_that_grows_along_the_range_is_shown() -> None:
    """Every part of the attempts meets each fullness of the range: a cost at the end alone is in all of them."""
    rising = [10_000] * 900 + [2_000_000] * 100
    found = speed(of(times(1, rising)), of(times(1, [10_000] * 1000)))
    assert found is not None
    assert found.is_shown


@pytest.mark.parametrize(("spread", "is_shown"), [(0.01, True), (1.0, False)])
def test_five_rounds_are_judged_by_their_own_spread(spread: float, is_shown: bool) -> None:
    """Rounds that agree show a fifth as faster, and rounds that differ by more do not."""
    random = np.random.default_rng(3)
    base, new = (of(*(times(level * float(random.lognormal(0, spread))) for _ in range(8))) for level in (1.0, 0.8))
    found = speed(new, base)
    assert found is not None
    assert found.is_shown is is_shown


def test_too_few_attempts_show_nothing() -> None:
    """Of a hundred attempts a part has four or five: their spread would be guesswork."""
    found = speed(of(times(10, UNEQUAL[:100])), of(times(1, UNEQUAL[:100])))
    assert found is not None
    assert not found.is_shown


def test_sources_that_take_turns_do_not_make_parts_differ() -> None:
    """Every second attempt is from a slower address: each part has as many of both."""
    found = speed(of(times(1, [30_000, 90_000] * 500)), of(times(1, [10_000, 30_000] * 500)))
    assert found is not None
    assert found.is_shown


def test_counted_instructions_have_no_noise() -> None:
    """Where two runs of the same are equal, one per cent is a difference."""
    found = speed(of(times(1.01)), of(times(1)), clock=Clock.INSTRUCTIONS)
    assert found is not None
    assert found.is_shown


def test_plain_is_the_base_wherever_it_stands_and_else_the_first() -> None:
    """The column names it."""
    assert find_base([of(times(1), spec=RANGE), of(times(1))]).strategy is PLAIN
    assert find_base([of(times(1), spec=RANGE), of(times(1), spec=BIND)]).strategy is RANGE
    result = result_of({RANGE: [round_of(times(1))], BIND: [round_of(times(2))]})
    ranking = ranking_of([result], [(s.strategy.label, s) for s in result.strategies])
    assert ranking.table.header == ("strategy", "acquire", "vs range", "connect()", "errors", "errors, %")
    assert ranking.remark.endswith("vs range: how many times as fast as range by acquire")


def test_a_base_of_a_long_name_is_named_below() -> None:
    """The column stays narrow."""
    result = result_of({LONG: [round_of(times(1))], BIND: [round_of(times(2))]})
    ranking = ranking_of([result], [(s.strategy.label, s) for s in result.strategies])
    assert ranking.versus == "vs base"
    assert ranking.remark.endswith(f"vs base: how many times as fast as {LONG.setting} by acquire")


def test_latencies_alone_are_compared_by_what_there_is() -> None:
    """The talk's CSV has no acquire time: none is made up, and connect() decides."""
    files = [Result(None, {}, (), {PLAIN: [round_of(times(f))]}, Origin.TALK_CSV, f"{f}.csv") for f in (4.0, 1.0)]
    labelled = [(one.name, one.strategies[0]) for one in files]
    ranking = ranking_of(files, labelled)
    assert ranking.table.header == ("strategy", "vs 4.0.csv", "connect()", "errors", "errors, %")
    assert [row[:2] for row in ranking.table.rows] == [("1.0.csv", "4.00 x"), ("4.0.csv", "1.00 x")]


def test_udp_has_one_time() -> None:
    """The latency of UDP is its acquire time: it stands once."""
    load = Load(protocol=Protocol.UDP)
    specs = [replace(spec, load=load) for spec in (PLAIN, BIND)]
    result = result_of({spec: [round_of(times(1))] for spec in specs})
    ranking = ranking_of([result], [(s.strategy.label, s) for s in result.strategies])
    assert ranking.table.header == ("strategy", "acquire", "vs plain", "errors", "errors, %")
