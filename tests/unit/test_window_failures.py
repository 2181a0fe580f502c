"""The model of random windows: how many connections find no port."""

from __future__ import annotations

from math import sqrt

import pytest
from hypothesis import given
from hypothesis import strategies as st

from connbench.portmodel.algorithm import Algorithm
from connbench.reproduce.window_failures import SEARCHES, Expectation, expect_failures, simulate_failures
from factories import unhurried

BY_BOTH = pytest.mark.parametrize("search", SEARCHES, ids=lambda search: search.name)


@BY_BOTH
@given(ports=st.integers(2, 200), data=st.data(), seed=st.integers(0, 1000))
@unhurried
def test_failures_lie_between_unavoidable_and_all(
    search: Algorithm, ports: int, data: st.DataObject, seed: int
) -> None:
    """At least the attempts beyond the range fail, and never all of them."""
    window = data.draw(st.integers(1, ports))
    attempts = data.draw(st.integers(1, 3 * ports))
    failures = simulate_failures(ports, window, attempts, search, seed)
    assert max(0, attempts - ports) <= failures < attempts


@BY_BOTH
@pytest.mark.parametrize("ports", [2, 3, 64, 100])
def test_window_of_all_ports_fails_only_beyond_them(search: Algorithm, ports: int) -> None:
    """A window as large as the range finds every port; an odd one is short of one of a pair at a time."""
    failures = simulate_failures(ports, ports, ports + 7, search, 1)
    assert failures == 7 + (ports % 2 if search is Algorithm.PRE_6_8 else 0)


@BY_BOTH
def test_window_of_one_port_fails_where_it_was_drawn_before(search: Algorithm) -> None:
    """One port a window is throwing balls into bins: (1 - 1/n)^n of the bins stay empty, and as many balls fail."""
    ports = 2000
    failures = [simulate_failures(ports, 1, ports, search, seed) for seed in range(20)]
    assert sum(failures) / 20 == pytest.approx(ports * (1 - 1 / ports) ** ports, rel=0.02)


def test_expectation_holds_a_fresh_trial() -> None:
    """Trials with seeds that the expectation was not made from lie within it."""
    expected = expect_failures(1000, 16, 1000)
    trials = [simulate_failures(1000, 16, 1000, search, seed) for search in SEARCHES for seed in range(100, 120)]
    assert all(trial in expected for trial in trials)
    assert expected.low < expected.mean < expected.high < 1.6 * expected.mean


def test_expectation_is_of_the_size_the_talk_saw() -> None:
    """The talk's own counts for windows of 500 and 10,000 of 56,512 ports are what the model expects, within 5 %."""
    assert 868 in expect_failures(56512, 500, 56512)
    assert expect_failures(56512, 10000, 56512).mean == pytest.approx(6695, rel=0.05)


@pytest.mark.parametrize(("ports", "window", "attempts"), [(56512, 5000, 56512), (1000, 16, 1000), (4096, 362, 4096)])
def test_expectation_is_never_narrower_than_chance(ports: int, window: int, attempts: int) -> None:
    """However alike the few trials are, the bounds lie four times the square root of the mean to either side."""
    expected = expect_failures(ports, window, attempts)
    reach = 4 * sqrt(expected.mean)
    assert expected.low <= expected.mean - reach
    assert expected.high >= expected.mean + reach


def test_expectation_of_the_talks_windows_reaches_far_enough() -> None:
    """Windows of 5,000 fail some 3,600 times: 60 is one standard deviation."""
    expected = expect_failures(56512, 5000, 56512)
    assert 3500 < expected.mean < 4200
    assert min(expected.mean - expected.low, expected.high - expected.mean) >= 4 * 60


def test_expectation_knows_its_bounds() -> None:
    """Both bounds belong to it, what lies beyond does not."""
    expected = Expectation(5.0, 4.0, 6.0)
    assert [count in expected for count in (3, 4, 6, 7)] == [False, True, True, False]
