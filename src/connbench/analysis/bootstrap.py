"""Bootstrap intervals for the difference between two sets of rounds, corrected for few rounds; and what they show.

Sources: T. C. Hesterberg, 'What Teachers Should Know About the Bootstrap', The American Statistician 69 (2015), on why
the percentile interval is too narrow for small samples and how Student's t widens it; B. Efron and R. J. Tibshirani,
'An Introduction to the Bootstrap' (1993), chapter 13, on the percentile interval itself.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from math import exp, fsum, sqrt
from statistics import NormalDist

import numpy as np
import numpy.typing as npt

CONFIDENCE = 0.95

FEWEST = 5
"""The fewest values a side that an interval is computed from: the spread of fewer is a guess."""

RESAMPLES = 10_000
"""With 10,000 resamples, another seed moves the interval's ends by about a hundredth of its width."""

SEED = 2015
"""Fixed, so that the same two files always give the same interval."""

Values = npt.NDArray[np.float64]


RESOLUTION = 0.005
"""Two runs that count the instructions of the same work agree within this share, so that one round is enough for a
verdict: a larger difference is a change."""


class ChangeVerdict(StrEnum):
    """What an interval of the differences from BASE to NEW shows."""

    FASTER = "faster"
    SLOWER = "slower"
    FEWER_ERRORS = "fewer errors"
    MORE_ERRORS = "more errors"
    NO_DIFFERENCE = "no difference shown"
    UNDETERMINED = "undetermined"


@dataclass(frozen=True, slots=True)
class Interval:
    """An estimate and the bounds of its 95 % interval, in the unit of the estimate."""

    estimate: float
    low: float
    high: float

    def excludes(self, value: float) -> bool:
        """Whether `value` lies outside of the interval."""
        return value < self.low or value > self.high


def difference_of_means(base: Values, new: Values) -> Interval:
    """The mean of `new` less the mean of `base`, in their own unit, with its 95 % interval.

    Both sides are resampled independently; the ends are the 2.5 % and 97.5 % percentiles of the resampled differences.
    With n values, the spread of resampled means is too small by sqrt((n - 1) / n), and their normal shape ignores that
    the spread is an estimate itself (Hesterberg 2015). So each side's deviations are stretched by sqrt(n / (n - 1)),
    and the interval's arms by the quotient of Student's t and the normal quantile, with the conservative degrees of
    freedom: those of the smaller side. Hesterberg's expanded percentile interval takes percentiles further out in the
    tail instead; five values have hardly a tail, and it is still too narrow if one side varies more than the other.

    Raises:
        ValueError: Fewer than `FEWEST` values on a side.
    """
    fewest = min(len(base), len(new))
    if fewest < FEWEST:
        raise ValueError(f"an interval takes {FEWEST} values a side, and here are {len(base)} and {len(new)}")
    random = np.random.default_rng(SEED)
    deviations = _resampled_deviations(new, random) - _resampled_deviations(base, random)
    return _stretched(_mean(new) - _mean(base), deviations, fewest)


def mean_of(values: Values) -> Interval:
    """The mean of `values`, in their own unit, with its 95 % interval, stretched as that of `difference_of_means`.

    Raises:
        ValueError: Fewer than `FEWEST` values.
    """
    if len(values) < FEWEST:
        raise ValueError(f"an interval takes {FEWEST} values, and here are {len(values)}")
    deviations = _resampled_deviations(values, np.random.default_rng(SEED))
    return _stretched(_mean(values), deviations, len(values))


def geometric_mean_of(values: Values) -> Interval:
    """The geometric mean of positive `values`, with its 95 % interval, computed on logarithms as `ratio_of_means`.

    Raises:
        ValueError: Fewer than `FEWEST` values, or one that is not positive.
    """
    if values.min(initial=np.inf) <= 0:
        raise ValueError("a geometric mean takes positive values")
    found = mean_of(np.log(values))
    return Interval(exp(found.estimate), exp(found.low), exp(found.high))


def _stretched(estimate: float, deviations: Values, fewest: int) -> Interval:
    """The interval of resampled deviations, its arms stretched as `fewest` values a side need it."""
    tail = (1 - CONFIDENCE) / 2
    low, high = np.quantile(deviations, (tail, 1 - tail))
    stretch = t_quantile(1 - tail, fewest - 1) / NormalDist().inv_cdf(1 - tail)
    return Interval(estimate, estimate + stretch * float(low), estimate + stretch * float(high))


def ratio_of_means(base: Values, new: Values) -> Interval:
    """The geometric mean of `new` divided by that of `base`, with its 95 % interval.

    Computed on logarithms: the noise of times is relative, and half and twice are equally far from 1.

    Raises:
        ValueError: Fewer than `FEWEST` values on a side, or one that is not positive.
    """
    if min(base.min(initial=np.inf), new.min(initial=np.inf)) <= 0:
        raise ValueError("a ratio takes positive values")
    found = difference_of_means(np.log(base), np.log(new))
    return Interval(exp(found.estimate), exp(found.low), exp(found.high))


def geometric_mean(values: Values) -> float:
    """The n-th root of the product of n positive values, in their unit."""
    return exp(_mean(np.log(values)))


def _mean(values: Values) -> float:
    """The mean; of equal values exactly their value, because an error in the last bit would look like a difference."""
    first = float(values[0])
    return first + fsum(values - first) / len(values)


def t_quantile(probability: float, degrees: int) -> float:
    """Quantile of Student's t distribution, for four degrees of freedom or more.

    The expansion in powers of 1 / degrees of Abramowitz and Stegun, 'Handbook of Mathematical Functions' (1964),
    formula 26.7.5. At 97.5 % it is right to 1 in 3,000 with four degrees of freedom, and ever closer with more.
    """
    z = NormalDist().inv_cdf(probability)
    terms = (
        z,
        (z**3 + z) / 4,
        (5 * z**5 + 16 * z**3 + 3 * z) / 96,
        (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / 384,
        (79 * z**9 + 776 * z**7 + 1482 * z**5 - 1920 * z**3 - 945 * z) / 92160,
    )
    return float(sum(term / degrees**power for power, term in enumerate(terms)))


def _resampled_deviations(values: Values, random: np.random.Generator) -> Values:
    """Means of resamples less the mean of all, stretched to the spread that the mean of n values has."""
    n = len(values)
    deviations = values - _mean(values)
    means: Values = deviations[random.integers(0, n, (RESAMPLES, n))].mean(axis=1)
    return means * sqrt(n / (n - 1))
