"""Predictions as one JSON document each; times in ns."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from connbench.analysis.summary import Distribution
from connbench.model import Protocol
from connbench.portmodel.agreement import Agreement
from connbench.portmodel.algorithm import ALGORITHMS, Algorithm
from connbench.portmodel.calibration import Calibration
from connbench.portmodel.prediction import Pair, Prediction
from connbench.report.json_text import json_text
from connbench.report.prediction_report import knee
from connbench.results.result import Result

SCHEMA = 1


def predicted(predictions: Sequence[Prediction], algorithm: Algorithm, calibration: Calibration | None) -> str:
    """The plan, and per strategy its errors, ports looked at, knee and, with a calibration, its times."""
    return json_text(
        {
            "schema": SCHEMA,
            "algorithm": _word(algorithm),
            "plan": predictions[0].plan.plan,
            "reserved": predictions[0].reserved,
            "tcp_tw_reuse": predictions[0].time_wait.reuse,
            "calibration": calibration,
            "strategies": [_strategy(one, calibration) for one in predictions],
        }
    )


def compared(
    result: Result,
    found: Sequence[tuple[Pair, Agreement]],
    algorithm: Algorithm,
    calibrations: Mapping[Protocol, Calibration],
) -> str:
    """Per strategy its figures as predicted and as measured."""
    return json_text(
        {
            "schema": SCHEMA,
            "file": result.name,
            "kernel": result.environment.get("kernel"),
            "reserved": max((p.reserved for pair, _ in found for p, _ in pair.rounds), default=0),
            "tcp_tw_reuse": max((p.time_wait.reuse for pair, _ in found for p, _ in pair.rounds), default=None),
            "algorithm": _word(algorithm),
            "calibrations": {protocol.value: one for protocol, one in calibrations.items()},
            "strategies": [agreement for _, agreement in found],
        }
    )


def _strategy(prediction: Prediction, calibration: Calibration | None) -> dict[str, Any]:
    walk = prediction.walk
    found = {
        "strategy": prediction.plan.strategy,
        "label": prediction.plan.strategy.label,
        "attempts": len(walk),
        "errors": prediction.failures,
        "looked_at": {name: Distribution.of(walk.looked_at[mask]) for name, mask in prediction.groups.items()},
        "knee": knee(prediction, calibration) if calibration else _without_times(prediction),
    }
    if calibration:
        latency = calibration.latency_ns(prediction)
        found |= {
            "total_ns": float(latency.sum()),
            "latency_ns": {name: Distribution.of(latency[mask]) for name, mask in prediction.groups.items()},
            "extrapolated": calibration.extrapolates(prediction),
        }
    return found


def _without_times(prediction: Prediction) -> dict[str, int | None]:
    found = knee(prediction, None)
    return {
        "connection": found.connection,
        "in_use": found.in_use,
        "first_failed": found.first_failed,
        "in_use_at_failure": found.in_use_at_failure,
    }


def _word(algorithm: Algorithm) -> str:
    return next(word for word, one in ALGORITHMS.items() if one is algorithm)
