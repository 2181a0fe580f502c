"""The knee: found where a made run turns slow for good, and nowhere else."""

from __future__ import annotations

import errno
from collections.abc import Sequence
from dataclasses import replace
from math import ceil

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from connbench.analysis.chart_data import rolling_percentiles
from connbench.analysis.knee import SLOWDOWN, Knee, find_knee, knee_of
from connbench.errors import RunFault
from connbench.model.knee_rule import FEWEST_CONNECTIONS, NARROWEST_WINDOW, WIDEST_WINDOW, rolling_width
from connbench.results.result import Samples, StrategyResult
from factories import PLAIN, round_of, samples_of, unhurried

FAST, SLOW = 10_000, 100_000
EVEN = 9024


def step(fast: int, slow: int, **columns: Sequence[int]) -> Samples:
    """Fast connections and then slow ones, all of one parity."""
    return samples_of([FAST] * fast + [SLOW] * slow, **{"port": [EVEN] * (fast + slow), **columns})


@unhurried
@given(st.integers(FEWEST_CONNECTIONS, 3000), st.floats(0.06, 0.94))
def test_knee_is_at_the_step(connections: int, share: float) -> None:
    """The first slow connection, counted from 1, is the knee; all before it were in use already."""
    fast = int(connections * share)
    slow = connections - fast
    knee = knee_of(step(fast, slow))
    if slow <= rolling_width(connections) // 2 or fast <= rolling_width(connections) // 2:
        return  # less than the rolling median sees at either end
    assert (knee.connection, knee.in_use) == (fast + 1, fast)
    assert (knee.baseline_ns, knee.is_judged, knee.first_failed) == (FAST, True, None)


def with_stray(half: int, positions: list[int]) -> Samples:
    """As many fast as slow connections, but at these positions a slow one is fast and a fast one very slow."""
    latencies = np.array([FAST] * half + [SLOW] * half)
    latencies[positions] = np.where(latencies[positions] == FAST, SLOW * 50, FAST // 10)
    return samples_of(latencies.tolist(), port=[EVEN] * 2 * half)


@unhurried
@given(st.integers(200, 3000), st.integers(0, 19))
def test_outliers_far_from_the_step_do_not_move_it(half: int, first: int) -> None:
    """One stray latency in twenty, slow or fast, leaves the knee where it is."""
    away = [at for at in range(first, 2 * half, 20) if abs(at - half) > rolling_width(2 * half)]
    assert len(away) > 5
    assert knee_of(with_stray(half, away)).connection == half + 1


@pytest.mark.parametrize("at", [*range(-12, 0), *range(1, 12)])
def test_outlier_beside_the_step_moves_it_by_two_at_most(at: int) -> None:
    """Within the rolling median's reach a stray latency shifts its turn by one, where the stray itself may lie."""
    assert abs((knee_of(with_stray(500, [500 + at])).connection or 0) - 501) <= 2


@pytest.mark.parametrize("at", range(-6, -1))
def test_slow_outlier_before_the_step_is_not_taken_for_it(at: int) -> None:
    """It makes the rolling median turn early, at a fast connection; the knee is the next slow one."""
    assert knee_of(with_stray(500, [500 + at])).connection == 501


@pytest.mark.parametrize("ratio", [1.0, 2.9, 3.0])
def test_step_of_up_to_three_times_is_none(ratio: float) -> None:
    """3 x the baseline is the limit, and not yet above it."""
    latencies = [FAST] * 500 + [int(FAST * ratio)] * 500
    knee = knee_of(samples_of(latencies, port=[EVEN] * 1000))
    assert (knee.connection, knee.in_use, knee.is_judged) == (None, None, True)
    assert knee.limit_ns == 3 * FAST


def test_step_of_more_than_three_times_is_a_knee() -> None:
    """One nanosecond above the limit is enough."""
    assert knee_of(samples_of([FAST] * 500 + [3 * FAST + 1] * 500, port=[EVEN] * 1000)).connection == 501


def test_slow_stretch_that_ends_is_no_knee() -> None:
    """Connections have to stay slow: a stretch of them, however long, with fast ones after it, is none."""
    latencies = [FAST] * 500 + [SLOW] * 400 + [FAST] * 100
    assert knee_of(samples_of(latencies, port=[EVEN] * 1000)).connection is None


def test_last_of_several_steps_counts() -> None:
    """Where it falls back and turns slow again, the knee is where it turned slow for good."""
    latencies = [FAST] * 300 + [SLOW] * 300 + [FAST] * 300 + [SLOW] * 300
    assert knee_of(samples_of(latencies, port=[EVEN] * 1200)).connection == 901


def test_slow_from_the_start_has_no_knee() -> None:
    """The baseline is what the first connections took: nothing is slow beside itself."""
    assert knee_of(step(0, 1000)).connection is None


@pytest.mark.parametrize("unmeasured", [3, 50, 500])
def test_connections_of_no_time_at_first_are_searched_to_an_end(unmeasured: int) -> None:
    """A file may say 0 ns, which has no multiples."""
    latencies = [0] * unmeasured + [FAST] * (1000 - unmeasured)
    assert knee_of(samples_of(latencies, port=[EVEN] * 1000)).connection in {None, unmeasured + 1}


def test_baseline_is_the_median_of_the_first_twentieth() -> None:
    """5 % of the connections, and outliers among them count for nothing."""
    latencies = [FAST] * 40 + [SLOW * 100] * 10 + [FAST * 2] * 950
    knee = knee_of(samples_of(latencies, port=[EVEN] * 1000))
    assert knee.baseline_ns == FAST
    assert knee_of(samples_of([5, 7], port=[2, 4])).baseline_ns == 5


def noise(seed: int, connections: int, spread: float) -> NDArray[np.float64]:
    """Factors about 1, spread as latencies are: most of them close, some of them far above."""
    return np.exp(np.random.default_rng(seed).normal(0, spread, connections))


def shaped(heights: NDArray[np.float64]) -> Knee:
    """The knee of connections of such heights, in multiples of a fast one; all ports are of one parity."""
    return knee_of(samples_of((FAST * heights).astype(int).tolist(), port=[EVEN] * len(heights)))


CURVES = {
    "line": lambda along, most: 1 + (most - 1) * along,
    "square root": lambda along, most: 1 + (most - 1) * np.sqrt(along),
    "square": lambda along, most: 1 + (most - 1) * along**2,
    "logarithm": lambda along, most: 1 + (most - 1) * np.log1p(99 * along) / np.log(100),
}


@unhurried
@given(
    st.sampled_from(sorted(CURVES)),
    st.integers(1000, 4000),
    st.floats(1.5, 40),
    st.floats(0, 0.2),
    st.integers(0, 2**32),
)
def test_growth_is_no_knee(curve: str, connections: int, most: float, spread: float, seed: int) -> None:
    """However slow the last connections are: where each is a little slower than the one before, none turns slow."""
    heights = CURVES[curve](np.linspace(0, 1, connections), most) * noise(seed, connections, spread)
    knee = shaped(heights)
    assert knee.connection is None
    assert knee.is_judged
    assert knee.is_growing or knee.last_ns < 6 * knee.baseline_ns  # where it is less the noise may be as large


@pytest.mark.parametrize("connections", [FEWEST_CONNECTIONS, 100, 1000])
@pytest.mark.parametrize("most", [2.0, 5.0, 10.0])
def test_exponential_growth_is_no_knee(connections: int, most: float) -> None:
    """Each doubling takes as many connections as the one before; few connections are enough to tell."""
    knee = shaped(most ** np.linspace(0, 1, connections))
    assert (knee.connection, knee.is_growing) == (None, True)


@unhurried
@given(
    st.integers(500, 3000),
    st.floats(0.15, 0.85),
    st.tuples(st.floats(1, 3.5), st.floats(5, 400), st.floats(1, 3)),
    st.floats(0, 0.2),
    st.integers(0, 2**32),
)
def test_step_amid_growth_is_the_knee(
    connections: int, share: float, factors: tuple[float, float, float], spread: float, seed: int
) -> None:
    """Connections grow up to a step and beyond it: the knee is the step, not where growth passes 3 x the baseline."""
    fast, (before, cliff, after) = int(share * connections), factors
    heights = np.concatenate(
        (np.linspace(1, before, fast), before * cliff * np.linspace(1, after, connections - fast))
    ) * noise(seed, connections, spread)
    knee = shaped(heights)
    assert knee.connection is not None
    assert abs(knee.connection - fast - 1) <= rolling_width(connections) // 2
    assert not knee.is_growing


@unhurried
@given(st.integers(500, 3000), st.lists(st.tuples(st.floats(0, 0.9), st.floats(2, 500)), max_size=4), st.integers(1, 9))
def test_bursts_that_end_are_no_knee(connections: int, bursts: list[tuple[float, float]], width: int) -> None:
    """A neighbour on the CPU makes stretches of connections slow; the last twentieth at least is as it was."""
    heights = np.ones(connections)
    for begin, height in bursts:
        heights[int(begin * connections) :][: connections * width // 200] *= height
    knee = shaped(heights)
    assert (knee.connection, knee.is_growing) == (None, False)


@unhurried
@given(st.integers(2000, 5000), st.floats(0.97, 1), st.floats(0, 0.1), st.integers(0, 2**32))
def test_growth_that_speeds_up_has_its_knee_where_it_is_slow(
    connections: int, fullest: float, spread: float, seed: int
) -> None:
    """Tries grow as 1 / (1 - share in use), of UDP's search and of drawn ports: slow for good at 3 x, two thirds."""
    in_use = np.linspace(0, fullest, connections, endpoint=False)
    baseline = 1 / (1 - 0.025 * fullest)
    knee = shaped(noise(seed, connections, spread) / (1 - in_use))
    assert knee.connection is not None
    assert in_use[knee.connection - 1] == pytest.approx(1 - 1 / (SLOWDOWN * baseline), abs=0.08)


def test_growth_of_twentieths_as_measured_is_no_knee() -> None:
    """A million connections of 20 addresses on a kernel with 262,144 entries in its table of connections: 6.4 times."""
    twentieths = [5.5, 9.7, 13.9, 14.3, 16, 17, 18, 19, 20, 21.5, 22, 23, 24, 25, 26.5, 28, 29.5, 31, 33, 34.5]
    knee = shaped(np.repeat(twentieths, 100))
    assert (knee.connection, knee.is_growing) == (None, True)
    assert knee.last_ns / knee.baseline_ns == pytest.approx(34.5 / 5.5)


def test_sources_one_after_the_other_have_a_knee_of_their_own() -> None:
    """Where an address is used up before the next, connections turn fast again; the last address's step is for good."""
    each = np.repeat([1, 20], 500)
    assert shaped(np.tile(each, 3)).connection == 2 * 1000 + 501
    assert shaped(np.concatenate((np.tile(each, 2), np.ones(500)))).connection is None


def test_growth_is_reported_of_the_middle_round() -> None:
    """Growth comes with the round whose knee is told."""
    growing = samples_of((FAST * np.linspace(1, 7, 1000)).astype(int).tolist(), port=[EVEN] * 1000)
    assert find_knee(strategy_of(growing, growing, step(500, 500))).is_growing
    assert not find_knee(strategy_of(growing, step(500, 500))).is_growing


@pytest.mark.parametrize("early", [0, 1, 3, 7])
def test_knee_beside_the_change_of_parity_is_at_the_change(early: int) -> None:
    """The last ports of the first parity are hard to find already; the knee is where the other parity begins."""
    half = 1000
    latencies = [FAST] * (half - early) + [SLOW] * (half + early)
    samples = samples_of(latencies, port=[EVEN] * half + [EVEN + 1] * half)
    assert knee_of(samples).connection == half + 1


def test_change_of_parity_far_from_the_step_moves_nothing() -> None:
    """Only a change within the rolling median's reach is taken for the cause."""
    samples = samples_of([FAST] * 1000 + [SLOW] * 1000, port=[EVEN] * 700 + [EVEN + 1] * 1300)
    assert knee_of(samples).connection == 1001


def test_parities_that_take_turns_move_nothing() -> None:
    """A strategy that takes both parities from the start has no change of parity."""
    assert knee_of(samples_of([FAST] * 1000 + [SLOW] * 1000)).connection == 1001


def test_failed_attempts_are_left_out() -> None:
    """A failure's cost is no connection's: it neither makes a knee nor hides one, but counts as an attempt."""
    pattern = [0, 0, 0, errno.EADDRNOTAVAIL]
    latencies = [FAST, FAST, FAST, SLOW * 10] * 250 + [SLOW, SLOW, SLOW, 1] * 250
    knee = knee_of(samples_of(latencies, errno=pattern * 500, port=[EVEN, EVEN, EVEN, 0] * 500))
    assert (knee.connection, knee.in_use, knee.baseline_ns) == (1001, 750, FAST)
    assert (knee.first_failed, knee.in_use_at_failure) == (4, 3)
    only_failures_slow = samples_of([FAST] * 600 + [SLOW] * 400, errno=[0] * 600 + [99] * 400)
    assert knee_of(only_failures_slow).connection is None


def test_calls_that_failed_before_connect_are_no_baseline() -> None:
    """A bind() refused at once is no fast connection."""
    samples = samples_of([0] * 50 + [FAST] * 950, errno=[98] * 50 + [0] * 950, prepare_ns=[1] * 1000)
    assert (knee_of(samples).baseline_ns, knee_of(samples).first_failed) == (FAST, 1)


@pytest.mark.parametrize(
    ("connections", "is_judged"), [(0, False), (1, False), (FEWEST_CONNECTIONS - 1, False), (FEWEST_CONNECTIONS, True)]
)
def test_few_connections_are_not_judged(connections: int, is_judged: bool) -> None:
    """Where there is too little to roll over, nothing is said, rather than that there is no knee."""
    half = connections // 2
    knee = knee_of(step(half, connections - half))
    assert knee.is_judged is is_judged
    assert (knee.connection == half + 1) is is_judged


def test_nothing_measured_has_no_knee() -> None:
    """No attempt, no figure."""
    assert knee_of(samples_of([])) == Knee()
    all_failed = knee_of(samples_of([SLOW] * 100, errno=[99] * 100))
    assert all_failed == Knee(first_failed=1, in_use_at_failure=0)


def strategy_of(*rounds: Samples) -> StrategyResult:
    """A strategy with these rounds."""
    return StrategyResult(PLAIN, tuple(round_of(samples, number) for number, samples in enumerate(rounds, 1)))


@pytest.mark.parametrize(
    ("knees", "middle"),
    [
        ([300], 300),
        ([500, 300, 400], 400),
        ([500, 300], 300),
        ([None, 300, 400], 400),
        ([None, 300], 300),
        ([None, None, 300], None),
        ([600, 300, 400, 500], 400),
    ],
)
def test_several_rounds_have_the_middle_ones_knee(knees: list[int | None], middle: int | None) -> None:
    """One round's knee is taken whole, not a mean of several; rounds without one count as after the end."""
    rounds = [step(1000, 0) if knee is None else step(knee - 1, 1001 - knee) for knee in knees]
    found = find_knee(strategy_of(*rounds))
    assert (found.connection, found.in_use) == (middle, None if middle is None else middle - 1)


def test_first_failure_of_several_rounds_is_the_middle_ones_too() -> None:
    """It is chosen by itself: the round in the middle by its knee may have no failure."""
    failing = [step(100, 0, errno=[0] * at + [99] * (100 - at)) for at in (50, 70, 60)]
    found = find_knee(strategy_of(*failing))
    assert (found.first_failed, found.in_use_at_failure) == (61, 60)
    found = find_knee(strategy_of(step(500, 500), failing[2]))
    assert (found.connection, found.first_failed) == (501, 61)


def test_round_cut_short_before_its_first_attempt_is_no_hindrance() -> None:
    """A broken round has no knee, and the others' is found."""
    broken = replace(round_of(samples_of([]), 2), fault=RunFault("x"))
    assert find_knee(StrategyResult(PLAIN, (round_of(step(500, 500)), broken))).connection == 501


@pytest.mark.parametrize(
    ("connections", "width"),
    [(0, NARROWEST_WINDOW), (1199, 11), (1200, 13), (2000, 21), (5000, 51), (10**6, WIDEST_WINDOW)],
)
def test_rolling_width_is_a_hundredth_and_odd(connections: int, width: int) -> None:
    """One connection in a hundred, at least 11 and at most 101."""
    assert rolling_width(connections) == width


@unhurried
@given(st.lists(st.integers(0, 1000), max_size=120), st.integers(1, 30), st.sampled_from([(50.0,), (50.0, 99.0)]))
def test_rolling_percentiles_are_those_of_the_values_around(
    values: list[int], points: int, shares: tuple[float, ...]
) -> None:
    """At each position they are numpy's percentiles of a window around it, wholly inside the values."""
    positions, found = rolling_percentiles(np.array(values), shares, points)
    width = max(rolling_width(len(values)), ceil(len(values) / points) | 1)
    half = width // 2
    assert found.shape == (len(shares), len(positions))
    assert len(positions) <= points
    assert (len(positions) == 0) == (len(values) < width)
    for i, position in enumerate(positions.tolist()):
        around = values[position - half : position + half + 1]
        assert len(around) == width
        assert found[:, i].tolist() == pytest.approx(np.percentile(around, shares).tolist())
    if len(positions) > 1:
        assert (positions[0], positions[-1]) == (half, len(values) - 1 - half)
        assert (np.diff(positions) > 0).all()


@pytest.mark.parametrize("connections", [56_512, 56_513, 40_399, 40_401, 1_000_000])
@pytest.mark.parametrize("points", [150, 400])
def test_rolling_percentiles_pass_over_no_value(connections: int, points: int) -> None:
    """However many connections there are, each lies in the window of a position: no outlier is lost between two."""
    _, (lowest, highest) = rolling_percentiles(np.arange(connections), (0, 100), points)
    assert (lowest[0], highest[-1]) == (0, connections - 1)
    assert (lowest[1:] <= highest[:-1] + 1).all()
