"""Trend, bins, buckets and changes of parity, from figures worked out by hand."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from connbench.analysis.chart_data import (
    Line,
    attempt_numbers,
    bucket_edges,
    bucket_width,
    fit_line,
    held_before,
    latency_edges,
    switches_so_far,
)
from connbench.results.result import StrategyResult
from factories import PLAIN, round_of, samples_of, unhurried


def test_line_through_points_that_lie_on_one() -> None:
    """Slope and intercept of points on a line are that line's, far from the origin too."""
    numbers = np.arange(1_000_001, 1_000_101)
    line = fit_line(numbers, 3 * numbers + 7)
    assert line is not None
    assert (line.slope, line.intercept) == pytest.approx((3, 7), rel=1e-6)
    assert line.at([2]).tolist() == pytest.approx([13], rel=1e-6)


def test_line_through_a_cloud_is_the_least_squares_one() -> None:
    """For points that lie on no line, it is the line that numpy's own fit finds."""
    rng = np.random.default_rng(1)
    numbers, values = np.arange(1, 51), rng.integers(10_000, 90_000, 50)
    line = fit_line(numbers, values)
    slope, intercept = np.polyfit(numbers, values, 1)
    assert line is not None
    assert (line.slope, line.intercept) == pytest.approx((slope, intercept))


@pytest.mark.parametrize(("numbers", "values"), [([], []), ([5], [9]), ([5, 5], [1, 2])])
def test_no_line_without_two_places(numbers: list[int], values: list[int]) -> None:
    """Nothing, one point, or points one above the other have no line, and give no warning."""
    assert fit_line(np.array(numbers), np.array(values)) is None


def test_line_of_equal_values_is_level() -> None:
    """Attempts of equal latency have a slope of 0."""
    assert fit_line(np.array([1, 2, 3]), np.array([50, 50, 50])) == Line(0.0, 50.0)


def test_attempts_are_numbered_within_their_round() -> None:
    """The second round begins at 1 again."""
    rounds = (round_of(samples_of([10, 20, 30])), round_of(samples_of([10, 20]), 2))
    assert attempt_numbers(StrategyResult(PLAIN, rounds)).tolist() == [1, 2, 3, 1, 2]


def test_connections_held_count_no_failures() -> None:
    """A failed attempt takes no port of the range."""
    assert held_before(samples_of([10, 20, 30], errno=[0, 99, 0])).tolist() == [0, 1]


@unhurried
@given(st.lists(st.integers(1, 10**12), min_size=1, max_size=30))
def test_bins_hold_every_value(values: list[int]) -> None:
    """Each latency lies in a bin, and the edges rise."""
    edges = latency_edges(np.array(values))
    assert (np.diff(edges) > 0).all()
    assert np.histogram(values, edges)[0].sum() == len(values)


def test_bins_lie_at_fixed_places() -> None:
    """The bins of two results are the same where both have values."""
    some, others = (latency_edges(np.array(values)) for values in ([13_000, 900_000], [15_000, 100_000]))
    assert set(np.round(others[1:-1], 3)) <= set(np.round(some, 3))


def test_bins_are_narrow_enough_to_show_a_peak() -> None:
    """A power of ten has forty bins, each of which ends at 1.06 times its beginning."""
    edges = latency_edges(np.array([10_000, 99_999]))
    assert len(edges) - 1 == 40
    assert edges[1:] / edges[:-1] == pytest.approx(1.06, abs=0.001)


@pytest.mark.parametrize("values", [[], [0], [0, 0]])
def test_no_bins_without_a_latency(values: list[int]) -> None:
    """A logarithmic axis has no place for 0."""
    assert len(latency_edges(np.array(values))) == 0


@pytest.mark.parametrize(
    ("ports", "width"), [(56_512, 10_000), (65_535, 10_000), (28_232, 5_000), (4096, 500), (16, 2), (4, 1), (1, 1)]
)
def test_buckets_are_the_talks_and_scale_with_the_range(ports: int, width: int) -> None:
    """The talk's range has buckets of 10,000; a smaller one has narrower ones, five or more if it has the ports."""
    assert bucket_width(ports) == width


def test_buckets_begin_with_the_range_and_end_with_it() -> None:
    """They are those of the talk's lhist(), and the last one holds the remainder."""
    assert bucket_edges(9024, 65535).tolist() == [9024, 19024, 29024, 39024, 49024, 59024, 65536]


@pytest.mark.parametrize(
    ("ports", "expected"),
    [
        ([], []),
        ([9024], [0]),
        ([9024, 9026, 9025, 9027], [0, 0, 1, 1]),
        ([1, 2, 3, 4], [0, 1, 2, 3]),
        ([65535, 9025, 65534], [0, 0, 1]),
    ],
)
def test_switches_are_counted_where_parity_changes(ports: list[int], expected: list[int]) -> None:
    """The count goes up with each connection whose port has another parity than the one before."""
    assert switches_so_far(np.array(ports, dtype="H")).tolist() == expected
