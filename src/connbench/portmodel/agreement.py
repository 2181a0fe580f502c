"""How well what the model says goes with what was measured."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from connbench.portmodel.calibration import Calibration, Floats
from connbench.results.result import Samples

if TYPE_CHECKING:
    from connbench.portmodel.prediction import Pair, Prediction  # which loads what reads the kernel's settings

GROUPS = ("all", "even", "odd", "errored")


@dataclass(frozen=True, slots=True)
class Both:
    """A figure as predicted and as measured; None where there is nothing to take it of."""

    predicted: float | None
    measured: float | None

    @property
    def ratio(self) -> float | None:
        """Predicted by measured."""
        return self.predicted / self.measured if self.predicted is not None and self.measured else None


@dataclass(frozen=True, slots=True)
class Agreement:
    """A strategy's phase, predicted and measured; each figure is the mean of its rounds.

    Attributes:
        label: The strategy's.
        attempts: Of a round.
        errors: Attempts without a port; those given up are none.
        ports_probed: Ports that the model looks at in an attempt, the mean.
        rank_correlation: Spearman's, of the ports looked at and the latency, attempt by attempt; of the connections
            that both have. None where one of them is always the same.
        total_ns: The talk's total time; predicted only with a calibration, as `mean_ns`.
        mean_ns: Mean latency by group.
        median_ns: The median, which what else runs on the machine hardly moves; the model knows nothing of that.
        extrapolates: Whether the calibration was fitted to fewer connections.
    """

    label: str
    attempts: float
    errors: Both
    ports_probed: float
    rank_correlation: float | None
    total_ns: Both
    mean_ns: Mapping[str, Both]
    median_ns: Mapping[str, Both]
    extrapolates: bool


def agreement(pair: Pair, calibration: Calibration | None) -> Agreement:
    """Compare a pair, its times too where there is a calibration."""
    rounds = pair.rounds
    latencies = [None if calibration is None else calibration.latency_ns(p) for p, _ in rounds]
    return Agreement(
        label=pair.strategy.strategy.label,
        attempts=_mean([len(samples) for _, samples in rounds]) or 0.0,
        errors=Both(
            _mean([p.failures for p, _ in rounds]), _mean([int((s.failed & ~s.given_up).sum()) for _, s in rounds])
        ),
        ports_probed=_mean([float(p.attempts.ports_probed.mean()) for p, _ in rounds if len(p.attempts)]) or 0.0,
        rank_correlation=_mean([c for c in (_correlation(p, s) for p, s in rounds) if c is not None]),
        total_ns=Both(
            _mean([float(one.sum()) for one in latencies if one is not None]),
            _mean([float(s.latency_ns.sum()) for _, s in rounds]),
        ),
        mean_ns={name: Both(*map(_mean_of, _pooled(pair, latencies, name))) for name in GROUPS},
        median_ns={name: Both(*map(_median, _pooled(pair, latencies, name))) for name in GROUPS},
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
    measured = [samples.latency_ns[_measured(samples, name)].astype(np.float64) for _, samples in pair.rounds]
    return np.concatenate([np.empty(0), *predicted]), np.concatenate([np.empty(0), *measured])


def _mean_of(values: Floats) -> float | None:
    return float(values.mean()) if len(values) else None


def _median(values: Floats) -> float | None:
    return float(np.median(values)) if len(values) else None


def _correlation(prediction: Prediction, samples: Samples) -> float | None:
    both = ~prediction.attempts.failed & ~samples.failed
    ports_probed, latency = prediction.attempts.ports_probed[both], samples.latency_ns[both]
    if not prediction.searches:
        return None
    return rank_correlation(ports_probed, latency)


def rank_correlation(one: npt.NDArray[np.number], other: npt.NDArray[np.number]) -> float | None:
    """Spearman's; equal values share their ranks. None where there are fewer than two different values of either."""
    if len(one) < 2 or one.min() == one.max() or other.min() == other.max():
        return None
    return float(np.corrcoef(_ranks(one), _ranks(other))[0, 1])


def _ranks(values: npt.NDArray[np.number]) -> npt.NDArray[np.float64]:
    _, where, counts = np.unique(values, return_inverse=True, return_counts=True)
    ranked: npt.NDArray[np.float64] = (np.cumsum(counts) - (counts - 1) / 2)[where]
    return ranked
