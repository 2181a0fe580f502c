"""Compares predictions with measurements: errors, times, and the correlation of ports probed and latency."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from connbench.portmodel.calibration import Calibration, Floats
from connbench.results.result import Samples
from connbench.thresholds import GROUPS

if TYPE_CHECKING:
    from connbench.portmodel.prediction import Pair, Prediction  # which loads what reads the kernel's settings


@dataclass(frozen=True, slots=True)
class PredictedFigure:
    """A figure as predicted and as measured; None where it does not exist."""

    predicted: float | None
    measured: float | None

    @property
    def ratio(self) -> float | None:
        """Predicted divided by measured."""
        return self.predicted / self.measured if self.predicted is not None and self.measured else None


@dataclass(frozen=True, slots=True)
class Agreement:
    """A strategy's phase, predicted and measured; each figure is the mean of its rounds.

    Attributes:
        label: The strategy's label.
        attempts: The attempts of a round.
        errors: Attempts without a port; those given up do not count.
        ports_probed: The mean number of ports that an attempt probes in the model.
        rank_correlation: Spearman's correlation of ports probed and latency, over the attempts that connect in both.
            None where one of the two is constant.
        total_ns: The talk's total time; where bind() searches, the sum of the acquire times. Only a
            calibration predicts it, and `mean_ns` and `median_ns`.
        mean_ns: Mean latency by group.
        median_ns: Median latency by group. Other programs on the machine, which the model does not know, hardly
            change it.
        extrapolates: Whether the calibration was fitted to fewer connections.
    """

    label: str
    attempts: float
    errors: PredictedFigure
    ports_probed: float
    rank_correlation: float | None
    total_ns: PredictedFigure
    mean_ns: Mapping[str, PredictedFigure]
    median_ns: Mapping[str, PredictedFigure]
    extrapolates: bool


def agreement(pair: Pair, calibration: Calibration | None) -> Agreement:
    """Compare a pair; with a calibration its times, too."""
    rounds = pair.rounds
    latencies = [None if calibration is None else calibration.searched_ns(p) for p, _ in rounds]
    return Agreement(
        label=pair.strategy.strategy.label,
        attempts=_mean([len(samples) for _, samples in rounds]) or 0.0,
        errors=PredictedFigure(
            _mean([p.failures for p, _ in rounds]), _mean([int((s.failed & ~s.given_up).sum()) for _, s in rounds])
        ),
        ports_probed=_mean([float(p.attempts.ports_probed.mean()) for p, _ in rounds if len(p.attempts)]) or 0.0,
        rank_correlation=_mean([c for c in (_correlation(p, s) for p, s in rounds) if c is not None]),
        total_ns=PredictedFigure(
            _mean([float(one.sum()) for one in latencies if one is not None]),
            _mean([float(s.searched_ns.sum()) for _, s in rounds]),
        ),
        mean_ns={name: PredictedFigure(*map(_mean_of, _pooled(pair, latencies, name))) for name in GROUPS},
        median_ns={name: PredictedFigure(*map(_median, _pooled(pair, latencies, name))) for name in GROUPS},
        extrapolates=calibration is not None and any(calibration.extrapolates(p) for p, _ in rounds),
    )


def _measured(samples: Samples, name: str) -> npt.NDArray[np.bool_]:
    if name == "all":
        return np.ones(len(samples), dtype=np.bool_)
    chosen: npt.NDArray[np.bool_] = {"even": samples.even, "odd": samples.odd, "errored": samples.failed}[name]
    return chosen


def _mean(values: list[float] | list[int]) -> float | None:
    return sum(values) / len(values) if values else None


def _pooled(pair: Pair, latencies: list[Floats | None], name: str) -> tuple[Floats, Floats]:
    """The latencies of a group in all rounds, as predicted and as measured."""
    predicted = [one[p.groups[name]] for one, (p, _) in zip(latencies, pair.rounds, strict=True) if one is not None]
    measured = [samples.searched_ns[_measured(samples, name)].astype(np.float64) for _, samples in pair.rounds]
    return np.concatenate([np.empty(0), *predicted]), np.concatenate([np.empty(0), *measured])


def _mean_of(values: Floats) -> float | None:
    return float(values.mean()) if len(values) else None


def _median(values: Floats) -> float | None:
    return float(np.median(values)) if len(values) else None


def _correlation(prediction: Prediction, samples: Samples) -> float | None:
    both = ~prediction.attempts.failed & ~samples.failed
    ports_probed, latency = prediction.attempts.ports_probed[both], samples.searched_ns[both]
    if not prediction.searches:
        return None
    return rank_correlation(ports_probed, latency)


def rank_correlation(one: npt.NDArray[np.number], other: npt.NDArray[np.number]) -> float | None:
    """Spearman's rank correlation, with mean ranks for equal values; None if either has no two different values."""
    if len(one) < 2 or one.min() == one.max() or other.min() == other.max():
        return None
    return float(np.corrcoef(_ranks(one), _ranks(other))[0, 1])


def _ranks(values: npt.NDArray[np.number]) -> npt.NDArray[np.float64]:
    _, where, counts = np.unique(values, return_inverse=True, return_counts=True)
    ranked: npt.NDArray[np.float64] = (np.cumsum(counts) - (counts - 1) / 2)[where]
    return ranked
