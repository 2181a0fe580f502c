"""A result as it grows, and samples of several rounds pooled."""

from __future__ import annotations

from dataclasses import replace

import pytest

from connbench.errors import Interrupted
from connbench.results.result import Result, Samples
from connbench.samples import COLUMNS
from factories import BIND, PLAIN, PLAN, WINDOW, round_of, samples_of

PARTS = (samples_of([1, 2]), samples_of([]), samples_of([3], source=[1], tries=[9]))


@pytest.mark.parametrize("number", [1, 2, 3])
@pytest.mark.parametrize("first", [0, 2])
def test_pooled_samples_are_all_attempts_in_order(number: int, first: int) -> None:
    """Pooling concatenates the rounds, in every column."""
    parts = [PARTS[(first + i) % len(PARTS)] for i in range(number)]
    pooled = Samples.pooled(parts)
    for column in COLUMNS:
        expected = [value for part in parts for value in getattr(part, column.name).tolist()]
        assert getattr(pooled, column.name).tolist() == expected
    assert len(pooled) == sum(map(len, parts))


def test_result_grows_round_by_round() -> None:
    """A result is partial until every strategy has all its rounds, and lists those that have one."""
    result = Result(replace(PLAN, strategies=(PLAIN, BIND), rounds=3), {})
    assert (result.is_partial, result.strategies) == (True, [])
    seen = []
    for number in (1, 2, 3):
        for spec in (PLAIN, BIND):
            result.add(spec, round_of(samples_of([1]), number))
            seen.append((result.is_partial, [(s.strategy, len(s.rounds)) for s in result.strategies]))
    assert seen == [
        (True, [(PLAIN, 1)]),
        (True, [(PLAIN, 1), (BIND, 1)]),
        (True, [(PLAIN, 2), (BIND, 1)]),
        (True, [(PLAIN, 2), (BIND, 2)]),
        (True, [(PLAIN, 3), (BIND, 2)]),
        (False, [(PLAIN, 3), (BIND, 3)]),
    ]


def test_result_with_a_fault_is_partial() -> None:
    """A round with a fault makes its strategy and the result partial, even if it was the last one."""
    result = Result(replace(PLAN, strategies=(WINDOW,)), {})
    result.add(WINDOW, round_of(samples_of([1]), fault=Interrupted(2)))
    assert result.is_partial
    assert result.strategies[0].is_partial
