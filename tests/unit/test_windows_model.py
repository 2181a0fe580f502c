"""The model of random windows: how many connections find no port."""

from __future__ import annotations

from collections.abc import Iterator
from math import sqrt
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from connbench.portsearch.windows import Expectation, Search, expect_failures, simulate_failures
from made import unhurried

SEARCHES = pytest.mark.parametrize("search", list(Search), ids=lambda search: search.name)


@SEARCHES
@given(ports=st.integers(2, 200), data=st.data(), seed=st.integers(0, 1000))
@unhurried
def test_failures_lie_between_unavoidable_and_all(search: Search, ports: int, data: st.DataObject, seed: int) -> None:
    """At least the attempts beyond the range fail, and never all of them."""
    window = data.draw(st.integers(1, ports))
    attempts = data.draw(st.integers(1, 3 * ports))
    failures = simulate_failures(ports, window, attempts, search, Random(seed))
    assert max(0, attempts - ports) <= failures < attempts


def walk(low: int, high: int, offset: int, step: int) -> Iterator[int]:
    """The ports that `__inet_hash_connect` looks at from low to high, both included, as its loop goes through them.

    `offset` is the kernel's; with step 2 one is taken away from an odd one, and a first walk that finds nothing is
    followed by one over the other parity.
    """
    end = high + 1
    remaining = end - low
    if step == 2 and remaining > 1:
        remaining -= remaining % 2
    offset %= remaining
    if step == 2:
        offset -= offset % 2
    for _ in range(step if remaining > 1 else 1):
        port = low + offset
        for _ in range(0, remaining, step):
            if port >= end:
                port -= remaining
            yield port
            port += step
        offset += 1


def failures_by_walking(ports: int, window: int, attempts: int, search: Search, rng: Random) -> list[int]:
    """How many of the first 1, 2, 3 ... attempts fail, each of which walks; drawn as `simulate_failures` draws."""
    free = [True] * ports
    failures, so_far = 0, []
    for _ in range(attempts):
        low = rng.randrange(ports - window + 1)
        if search is Search.EVERY_PORT:
            looked_at = walk(low, low + window - 1, rng.randrange(window), 1)
        else:
            looked_at = walk(low, low + window - 1, 2 * rng.randrange(max(1, window // 2)), 2)
        port = next((port for port in looked_at if free[port]), None)
        if port is None:
            failures += 1
        else:
            free[port] = False
        so_far.append(failures)
    return so_far


def test_walk_is_the_kernels() -> None:
    """Worked out by hand: the parity of the low end first, round within an even number of ports; or every port."""
    assert list(walk(10, 15, 3, 1)) == [13, 14, 15, 10, 11, 12]
    assert list(walk(10, 15, 3, 2)) == [12, 14, 10, 13, 15, 11]
    assert list(walk(11, 15, 0, 2)) == [11, 13, 12, 14]
    assert list(walk(11, 15, 2, 2)) == [13, 15, 14, 12]
    assert list(walk(11, 11, 0, 2)) == list(walk(11, 11, 0, 1)) == [11]


@SEARCHES
@pytest.mark.parametrize("ports", range(1, 13))
def test_each_attempt_ends_as_the_kernels_loop_does(search: Search, ports: int) -> None:
    """With the same draws the same attempts fail as where the loop is walked port by port, in windows of any size."""
    attempts = ports + 3
    for window in range(1, ports + 1):
        for seed in range(10):
            found = [simulate_failures(ports, window, n, search, Random(seed)) for n in range(1, attempts + 1)]
            assert found == failures_by_walking(ports, window, attempts, search, Random(seed)), (window, seed)


@SEARCHES
@pytest.mark.parametrize("ports", [2, 3, 64, 100])
def test_window_of_all_ports_fails_only_beyond_them(search: Search, ports: int) -> None:
    """A window as large as the range finds every port; an odd one is short of one of a pair at a time."""
    failures = simulate_failures(ports, ports, ports + 7, search, Random(1))
    assert failures == 7 + (ports % 2 if search is Search.PARITY_FIRST else 0)


@SEARCHES
def test_window_of_one_port_fails_where_it_was_drawn_before(search: Search) -> None:
    """One port a window is throwing balls into bins: (1 - 1/n)^n of the bins stay empty, and so many balls fail."""
    ports = 2000
    failures = [simulate_failures(ports, 1, ports, search, Random(seed)) for seed in range(20)]
    assert sum(failures) / 20 == pytest.approx(ports * (1 - 1 / ports) ** ports, rel=0.02)


def test_expectation_holds_a_fresh_trial() -> None:
    """Trials with seeds that the expectation was not made from lie within it."""
    expected = expect_failures(1000, 16, 1000)
    trials = [simulate_failures(1000, 16, 1000, search, Random(seed)) for search in Search for seed in range(100, 120)]
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
