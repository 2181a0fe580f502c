"""The interval of a difference: honest with few rounds, sharp enough for real changes, and always the same."""

from __future__ import annotations

from collections.abc import Callable
from math import log, sqrt

import numpy as np
import numpy.typing as npt
import pytest

from connbench.analysis import bootstrap
from connbench.analysis.bootstrap import difference_of_means, geometric_mean, ratio_of_means, t_quantile

Values = npt.NDArray[np.float64]
Noise = Callable[[np.random.Generator, int], Values]

TRIALS = 400
FEW, MANY = np.array([10.0, 11.0, 12.0, 13.0, 14.0]), np.arange(20.0, 30.0)


def normal(random: np.random.Generator, rounds: int) -> Values:
    """Round totals with 3 % of normal noise."""
    return 1 + 0.03 * random.standard_normal(rounds)


def skewed(random: np.random.Generator, rounds: int) -> Values:
    """Round totals of a restless machine: lognormal, half of them off by more than a third."""
    return np.exp(0.5 * random.standard_normal(rounds))


def heavy_tailed(random: np.random.Generator, rounds: int) -> Values:
    """Round totals of which a few are far off: Student's t with three degrees of freedom."""
    return np.exp(0.03 * random.standard_t(3, rounds))


@pytest.mark.parametrize(
    ("noise", "rounds"),
    [(normal, 5), (normal, 10), (skewed, 10), (heavy_tailed, 5)],
    ids=lambda value: getattr(value, "__name__", value),
)
def test_no_difference_is_rarely_taken_for_one(noise: Noise, rounds: int) -> None:
    """Where nothing has changed, at most 5 % of 400 comparisons find a change."""
    random = np.random.default_rng(1)
    wrong = sum(ratio_of_means(noise(random, rounds), noise(random, rounds)).excludes(1) for _ in range(TRIALS))
    assert wrong <= 0.05 * TRIALS


def test_real_difference_is_found() -> None:
    """With 3 % of noise and ten rounds a side, 95 of 100 comparisons or more find that 1.2 times as long is longer."""
    random = np.random.default_rng(2)
    found = sum(ratio_of_means(normal(random, 10), 1.2 * normal(random, 10)).low > 1 for _ in range(100))
    assert found >= 95


@pytest.mark.parametrize("others", [FEW, MANY], ids=["as many", "more"])
def test_interval_is_students_where_noise_is_even(others: Values) -> None:
    """For values without outliers it is the textbook's: t of the smaller side times the standard error, both ways."""
    found = difference_of_means(FEW, others + 3)
    error = sqrt(FEW.var(ddof=1) / len(FEW) + others.var(ddof=1) / len(others))
    assert found.estimate == pytest.approx(others.mean() + 3 - FEW.mean())
    assert found.estimate - found.low == pytest.approx(t_quantile(0.975, 4) * error, rel=0.04)
    assert found.high - found.estimate == pytest.approx(t_quantile(0.975, 4) * error, rel=0.04)


def test_one_far_round_makes_the_interval_wide_on_its_side() -> None:
    """An outlier upwards lengthens the upper arm, where the textbook's two are always alike."""
    found = ratio_of_means(MANY, np.append(MANY[:-1], 300.0))
    assert log(found.high / found.estimate) > 1.3 * log(found.estimate / found.low)


def test_same_values_always_give_the_same_interval() -> None:
    """The resamples come from a seed of their own, whatever else draws numbers."""
    first = ratio_of_means(FEW, MANY)
    np.random.default_rng().random(10)
    assert ratio_of_means(FEW, MANY) == first


def test_another_seed_hardly_moves_the_interval(monkeypatch: pytest.MonkeyPatch) -> None:
    """There are enough resamples for the ends to stay within a few hundredths of the interval's width."""
    before = ratio_of_means(FEW, MANY)
    monkeypatch.setattr(bootstrap, "SEED", bootstrap.SEED + 1)
    after = ratio_of_means(FEW, MANY)
    assert after != before
    assert abs(after.low - before.low) + abs(after.high - before.high) < 0.05 * (before.high - before.low)


def test_ratio_is_that_of_the_geometric_means() -> None:
    """The estimate is the quotient of what is shown for each side, whatever the unit."""
    found = ratio_of_means(FEW * 1e6, MANY * 1e6)
    assert found.estimate == pytest.approx(geometric_mean(MANY) / geometric_mean(FEW))
    assert found.low < found.estimate < found.high
    assert geometric_mean(np.array([2.0, 8.0])) == pytest.approx(4.0)


def test_values_without_noise_have_an_interval_without_width() -> None:
    """Where every round is the same the interval is a point."""
    found = difference_of_means(np.zeros(5), np.full(5, 0.25))
    assert (found.low, found.estimate, found.high) == (0.25, 0.25, 0.25)
    assert found.excludes(0)
    assert not found.excludes(0.25)


@pytest.mark.parametrize("compare", [difference_of_means, ratio_of_means])
def test_fewer_than_five_have_no_interval(compare: Callable[[Values, Values], object]) -> None:
    """Four values on a side are refused, on either."""
    for sides in ((FEW[:4], MANY), (MANY, FEW[:4])):
        with pytest.raises(ValueError, match="5 values a side"):
            compare(*sides)


def test_ratio_of_what_is_not_positive_is_refused() -> None:
    """A time of 0 has no logarithm."""
    with pytest.raises(ValueError, match="positive"):
        ratio_of_means(FEW, MANY - 20)


@pytest.mark.parametrize(
    ("degrees", "expected"),
    [(4, 2.776445), (5, 2.570582), (6, 2.446912), (9, 2.262157), (19, 2.093024), (99, 1.984217)],
)
def test_t_quantile_agrees_with_the_published_table(degrees: int, expected: float) -> None:
    """The 97.5 % column of Student's table, to 1 in 3,000."""
    assert t_quantile(0.975, degrees) == pytest.approx(expected, rel=1 / 3000)
    assert t_quantile(0.025, degrees) == pytest.approx(-expected, rel=1 / 3000)
