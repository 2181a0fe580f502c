"""A calibration from result files: least squares over medians of attempts that follow each other."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np

from connbench.model import Protocol
from connbench.portmodel.calibration import USUAL_OF, Calibration, Floats
from connbench.portmodel.prediction import Pair, Prediction
from connbench.results.result import Samples

BLOCKS, SMALLEST_BLOCK, FEWEST = 256, 16, 5
"""A round is cut into so many blocks, of so many attempts at least; a median is of so many at least.

Which port the kernel begins at cannot be known, so that an attempt of the model and one of the kernel are the same only
in the middle of many. Medians withstand outliers, too.
"""

TELLING = 64
"""Ports looked at from which on a search shows in a latency that scatters by itself."""

SMOOTH = 1.0
"""Weight of keeping the cost's course straight, in medians: where a stretch has fewer, its neighbours decide."""

EXACT, REFITS = 0.01, 20
"""A median that deviates by more than this share of it counts the less, the further off it is (Huber's loss, by least
squares that are weighted anew so often): those of a disturbed machine lie far off, and on one side."""

NOT_TOLD = "; no search there is long enough to tell what a port costs: the usual cost is taken"

PROBED, OPEN, LATENCY, FAILED, JUMPS, WEIGHT = range(6)
"""Columns of the medians."""


def calibrate(
    pairs: Sequence[Pair], protocol: Protocol, origin: str, usual: Calibration | None = None
) -> Calibration | None:
    """Fit what a connection, a failure and a port looked at cost.

    Args:
        pairs: Measured strategies with their model.
        protocol: Whose searches are meant; those of UDP are others than TCP's.
        origin: Where `pairs` come from, for `Calibration.origin`.
        usual: What is usual where they were measured, for what they do not tell; None for `USUAL_OF` the protocol.

    Returns:
        The calibration; None where no connection of the protocol was measured. Where no search is long enough to tell
        what a port costs, that cost is the usual one, and `origin` says so.
    """
    of_protocol = [pair for pair in pairs if pair.strategy.strategy.load.protocol is protocol]
    found = [row for pair in of_protocol for row in _of_pair(pair)]
    medians = np.array(found, dtype=np.float64).reshape(-1, 6)
    connected = medians[:, FAILED] == 0
    if not connected.any():
        return None
    untold = replace(
        usual or USUAL_OF[protocol],
        origin=origin,
        largest=max(prediction.most_open for pair in of_protocol for prediction, _ in pair.rounds),
    )
    fitted = _fitted(medians, untold)
    for _ in range(REFITS):
        medians[:, WEIGHT] = EXACT / np.maximum(_deviations(fitted, medians), EXACT)
        fitted = _fitted(medians, untold)
    residual = float(np.median(_deviations(fitted, medians)))
    return replace(fitted, residual=residual, growth=_growth(fitted.sizes[-1], untold))


def _growth(last: float, usual: Calibration) -> tuple[tuple[float, float], ...]:
    """How a port's cost usually grows beyond the last knot: connections open, and times the cost there."""
    at_last = float(usual.port_ns_at(last))
    return tuple((size, cost / at_last) for size, cost in zip(usual.sizes, usual.port_ns, strict=True) if size > last)


def _of_pair(pair: Pair) -> Iterator[tuple[float, ...]]:
    for prediction, samples in pair.rounds:
        size = max(SMALLEST_BLOCK, len(samples) // BLOCKS)
        for begin in range(0, len(samples), size):
            yield from _of_block(prediction, samples, slice(begin, begin + size))


def _of_block(prediction: Prediction, samples: Samples, block: slice) -> Iterator[tuple[float, ...]]:
    """Medians of the connections, and of the failures, of some attempts, as far as a try can be told apart."""
    walk = prediction.walk
    tries = walk.tries[block]
    ports_probed = walk.ports_probed[block] / tries if prediction.searches else np.zeros(len(tries))
    latency, failed, given_up = samples.latency_ns[block], samples.failed[block], samples.given_up[block]
    for is_failure in (False, True):
        any_number = prediction.is_of_last_try and (is_failure or not prediction.searches)
        model = (walk.failed[block] == is_failure) & (any_number | (tries == 1))
        kernel = (failed == is_failure) & ~given_up & (any_number | (samples.tries[block] == 1))
        if model.sum() >= FEWEST and kernel.sum() >= FEWEST and (middle := float(np.median(latency[kernel]))) > 0:
            opened = float(np.median(prediction.open_before[block]))
            yield (
                float(np.median(ports_probed[model])),
                max(1.0, opened),
                middle,
                float(is_failure),
                float(prediction.jumps),
                1.0,
            )


def _fitted(medians: Floats, usual: Calibration) -> Calibration:
    """The usual costs, fitted: by ports that are walked time and again where there are such, and windows beside them.

    Failures that all look at about as many ports, as in windows of one size or in one range that is full, cannot tell
    base and cost apart: the base is then the usual share.
    """
    is_telling, jumps = medians[:, PROBED] >= TELLING, medians[:, JUMPS] == 1
    has_walks = int((is_telling & ~jumps).sum()) >= FEWEST
    factor = usual.window_factor
    if has_walks:
        told = medians[~(is_telling & jumps)]
    else:
        told = medians * np.where(jumps[:, None] & (np.arange(medians.shape[1]) == PROBED), factor, 1.0)
    telling = told[told[:, PROBED] >= TELLING]
    if len(telling) >= FEWEST:
        knots = _knots(telling[:, OPEN])
        fits_failures = has_walks and _differ(told[told[:, FAILED] == 1])
        base, failure, costs = _least_squares(told, knots, usual, fits_failures=fits_failures)
        found = replace(usual, sizes=tuple((2**knots).tolist()), port_ns=tuple(costs))
    else:
        connected = told[told[:, FAILED] == 0]
        rest = connected[:, LATENCY] - connected[:, PROBED] * usual.port_ns_at(connected[:, OPEN])
        base = float(np.median(rest))
        failure = base * usual.failure_share
        found = replace(usual, origin=f"{usual.origin}{NOT_TOLD}")
    found = replace(found, base_ns=max(base, 0.0), failure_ns=max(failure, 0.0))
    in_windows = medians[is_telling & jumps]
    return _with_windows(found, in_windows) if has_walks and len(in_windows) >= FEWEST else found


def _differ(failures: Floats) -> bool:
    """Whether some look at more than twice as many ports as others."""
    ports_probed = failures[:, PROBED]
    return len(ports_probed) > 0 and bool(ports_probed.max() > 2 * ports_probed.min())


def _with_windows(calibration: Calibration, medians: Floats) -> Calibration:
    """The calibration with the factor that these medians of windows tell: the middle one."""
    base = np.where(medians[:, FAILED] == 1, calibration.failure_ns, calibration.base_ns)
    walked = medians[:, PROBED] * calibration.port_ns_at(medians[:, OPEN])
    factors = (medians[:, LATENCY] - base) / np.maximum(walked, 1.0)
    return replace(calibration, window_factor=max(0.0, float(np.median(factors))))


def _knots(opened: Floats) -> Floats:
    """An octave apart, as logarithms, from the fewest connections open to the most."""
    low, high = np.log2(opened.min()), np.log2(opened.max())
    knots: Floats = np.linspace(low, high, max(1, round(high - low)) + 1) if high - low > 0.1 else np.array([low])
    return knots


def _least_squares(
    medians: Floats, knots: Floats, usual: Calibration, *, fits_failures: bool
) -> tuple[float, float, list[float]]:
    """Base, base of failures and the costs at the knots: relative deviations count.

    The unknowns are the height at each knot of a line through all of them. Failures whose base is not fitted, or that
    there are none of, have the usual share of the base.
    """
    place, failed = np.log2(medians[:, OPEN]), medians[:, FAILED] == 1
    hats = np.stack([np.interp(place, knots, unit) for unit in np.eye(len(knots))], axis=1)
    bases = [~failed, failed] if fits_failures and failed.any() else [np.where(failed, usual.failure_share, 1.0)]
    rows = np.column_stack([*bases, hats * medians[:, [PROBED]]]) / medians[:, [LATENCY]]
    bends = np.zeros((max(0, len(knots) - 2), rows.shape[1]))
    for i, bend in enumerate(bends):
        bend[len(bases) + i : len(bases) + i + 3] = (1, -2, 1)
    bends *= SMOOTH / usual.port_ns[0]
    roots = np.sqrt(medians[:, WEIGHT])
    wanted = np.concatenate([roots, np.zeros(len(bends))])
    solution = np.linalg.lstsq(np.vstack([rows * roots[:, None], bends]), wanted, rcond=None)[0].tolist()
    found, costs = solution[: len(bases)], solution[len(bases) :]
    failure = found[1] if len(found) > 1 else found[0] * usual.failure_share
    return found[0], failure, [max(0.0, cost) for cost in costs]


def _deviations(calibration: Calibration, medians: Floats) -> Floats:
    """How far each median is from what the calibration says, as a share of it."""
    base = np.where(medians[:, FAILED] == 1, calibration.failure_ns, calibration.base_ns)
    factor = np.where(medians[:, JUMPS] == 1, calibration.window_factor, 1.0)
    said = base + medians[:, PROBED] * calibration.port_ns_at(medians[:, OPEN]) * factor
    off: Floats = np.abs(said - medians[:, LATENCY]) / medians[:, LATENCY]
    return off
