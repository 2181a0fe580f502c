"""What a search costs on a machine: the time of each port probed, fitted to result files."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from connbench.kernel_release import version_of
from connbench.model import Protocol
from connbench.portmodel.algorithm import Algorithm
from connbench.results.result import Samples, samples_class

if TYPE_CHECKING:
    from connbench.portmodel.prediction import Pair, Prediction  # which loads what reads the kernel's settings

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Calibration:
    """latency = cost of a connection + ports probed x cost of a port, which depends on the connections open.

    A port costs more when the hash tables no longer fit the CPU's caches. Its cost is a line through knots over the
    logarithm of the connections open. Below the first knot the cost is constant. Beyond the last knot the line goes
    on, or the cost grows as it usually does, whichever is more: small tables cannot show that large ones do not fit.

    Attributes:
        base_ns: The cost of a connect() that succeeds, without its search.
        failure_ns: The cost of a call that finds no port, without its search.
        sizes: The connections open at each knot, ascending; at least one.
        port_ns: The cost of a port probed at each knot; as many.
        window_factor: Times that a port costs more in a random window, whose entries are in no cache.
        residual: The median of |predicted - measured| / measured over the medians of the fit; None without a fit.
        origin: Where it comes from, in words.
        largest: The most connections that were open in the files of the fit.
        growth: The usual cost of a port beyond the last knot, as a multiple of its cost there, by connections open.
    """

    base_ns: float
    failure_ns: float
    sizes: tuple[float, ...]
    port_ns: tuple[float, ...]
    window_factor: float
    residual: float | None
    origin: str
    largest: int
    growth: tuple[tuple[float, float], ...] = ()

    @property
    def failure_share(self) -> float:
        """The cost of a failure divided by that of a connection, both without their searches."""
        return self.failure_ns / self.base_ns

    def port_ns_at(self, connections: npt.ArrayLike) -> Floats:
        """The cost of a port probed, in ns, for each number of open connections; the same shape."""
        place = np.log2(np.maximum(np.asarray(connections, dtype=np.float64), 1.0))
        knots = np.log2(np.array(self.sizes))
        costs = np.interp(place, knots, self.port_ns)
        if len(knots) > 1:
            # A measured rise goes on beyond the last knot; a fall at the end is chance, and does not go on.
            slope = max(0.0, (self.port_ns[-1] - self.port_ns[-2]) / (knots[-1] - knots[-2]))
            costs = costs + slope * np.maximum(0.0, place - knots[-1])
        if self.growth:
            sizes, factors = np.array([(self.sizes[-1], 1.0), *self.growth]).T
            usual = self.port_ns[-1] * np.interp(place, np.log2(sizes), factors)
            costs = np.where(place > knots[-1], np.maximum(costs, usual), costs)
        return costs

    def latency_ns(self, prediction: Prediction) -> Floats:
        """The latency of each attempt, in ns, as samples define it: with UDP the acquire time.

        With TCP it is the talk's: connect() of the last try. All tries of an attempt count as equally long. With a
        port that the program draws, connect() does not search: it costs `base_ns`, or `failure_ns`.
        """
        if not prediction.is_of_last_try:
            return self.acquire_ns(prediction)
        return self._ended(prediction) + self._searched(prediction) / prediction.attempts.tries

    def acquire_ns(self, prediction: Prediction) -> Floats:
        """The time that the program waits in the calls that search, over all tries, in ns."""
        attempts = prediction.attempts
        return self._ended(prediction) + self._searched(prediction) + (attempts.tries - 1.0) * self.failure_ns

    def samples(self, prediction: Prediction) -> Samples:
        """The samples of a run whose attempts take the predicted times, one after the other."""
        attempts = prediction.attempts
        latency, acquire = (np.rint(one(prediction)).astype(np.int64) for one in (self.latency_ns, self.acquire_ns))
        return samples_class(prediction.plan.strategy).of(
            started_ns=np.cumsum(acquire) - acquire,
            connect_ns=latency,
            acquire_ns=acquire,
            tries=attempts.tries,
            port=attempts.port,
            errno=attempts.errno,
            source=attempts.source,
            target=attempts.target,
            client=attempts.client,
        )

    def _ended(self, prediction: Prediction) -> Floats:
        return np.where(prediction.attempts.failed, self.failure_ns, self.base_ns)

    def _searched(self, prediction: Prediction) -> Floats:
        if not prediction.searches:
            return np.zeros(len(prediction.attempts))
        factor = self.window_factor if prediction.searches_window else 1.0
        searched: Floats = prediction.attempts.ports_probed * self.port_ns_at(prediction.open_before) * factor
        return searched

    def extrapolates(self, prediction: Prediction) -> bool:
        """Whether the prediction has a tenth more connections open than any file of the fit."""
        return self.residual is not None and prediction.most_open > 1.1 * self.largest


USUAL = Calibration(
    base_ns=13_000.0,
    failure_ns=3_000.0,
    sizes=(8_192.0, 32_768.0, 42_000.0, 56_512.0),
    port_ns=(44.0, 48.0, 78.0, 85.0),
    window_factor=1.1,
    residual=None,
    origin="usual ones: a virtual machine with Linux 6.18",
    largest=56_512,
)
"""Costs for a rough idea without a measurement. Other machines have other costs; kernels before 6.15 `USUAL_BEFORE`.

Measured: 46 ns a port with up to 32,768 open connections, at any time. Beyond, the tables that a search reads (some
10 MB) compete for a cache with other virtual machines: over the talk's range 50 to 57 ns on a quiet day, 70 to 120 ns
within a run on others. In windows it is 65 to 88 ns. A further try of `random` takes 2.8 µs.
"""

USUAL_UDP = Calibration(
    base_ns=2_600.0,
    failure_ns=2_800.0,
    sizes=(56_512.0,),
    port_ns=(60.0,),
    window_factor=1.0,
    residual=None,
    origin="usual ones of UDP: a virtual machine with Linux 6.18",
    largest=56_512,
)
"""The same for UDP: there is no handshake, and a further try of `random` costs as much as a connection."""

USUAL_OF = {Protocol.TCP: USUAL, Protocol.UDP: USUAL_UDP}

CHEAPER_STEPS_SINCE = (6, 15)
"""The first Linux that looks up the sockets of a port without a lock (86c2bc293b81, d4438ce68bf1)."""

USUAL_BEFORE = Calibration(
    base_ns=25_000.0,
    failure_ns=5_000.0,
    sizes=(4_096.0, 42_000.0),
    port_ns=(80.0, 160.0),
    window_factor=1.4,
    residual=None,
    origin="usual ones before Linux 6.15: the talk's figures",
    largest=56_512,
)
"""The same for older kernels, where a port costs several times as much.

The talk's plain run: 25 µs from even ports, 4.593 ms from odd ones, which probe 28,260 with 42,000 open on average;
its full range of 5,000 ports; its windows' failures, 1.174 ms of 5,000 ports and 2.212 ms of 10,000.
"""


def usual(kernel: tuple[int, int], algorithm: Algorithm) -> Calibration:
    """The usual costs of TCP on a Linux of this version with this search."""
    return usual_of(Protocol.TCP, algorithm) if kernel >= CHEAPER_STEPS_SINCE else USUAL_BEFORE


def usual_of(protocol: Protocol, algorithm: Algorithm) -> Calibration:
    """The usual costs if only the search is known: a search from before 6.8 is that of a kernel before 6.15."""
    is_old = protocol is Protocol.TCP and algorithm in {Algorithm.PRE_4_2, Algorithm.FROM_4_2, Algorithm.PRE_6_8}
    return USUAL_BEFORE if is_old else USUAL_OF[protocol]


def usual_on(release: str, protocol: Protocol) -> Calibration:
    """The usual costs of the measured kernel, by its release; the simulated search does not matter."""
    version = version_of(release)
    is_dearer = protocol is Protocol.TCP and version is not None and version < CHEAPER_STEPS_SINCE
    return USUAL_BEFORE if is_dearer else USUAL_OF[protocol]


BLOCKS, SMALLEST_BLOCK, FEWEST = 256, 16, 5
"""The number of blocks of a round, the fewest attempts of a block, and the fewest attempts of a median.

The port at which the kernel begins a search is not known, so an attempt of the model agrees with one of the kernel only
in the middle of many. Medians also withstand outliers.
"""

LONG_SEARCH = 64
"""Ports probed from which on a search shows in a latency, which varies by itself."""

SMOOTH = 1.0
"""The weight of a straight line of costs, in medians: between knots with fewer medians the neighbours decide."""

EXACT_WITHIN, REFITS = 0.01, 20
"""Medians that deviate by more than this share weigh less the further off they are (Huber's loss, by least squares with
new weights this many times): medians of a disturbed machine are far off, and on one side."""

USUAL_PORT_COST = "; no search there is long enough to show the cost of a port, so it is the usual one"

PROBED, OPEN, LATENCY, FAILED, IN_WINDOW, WEIGHT = range(6)
"""The columns of the medians."""


def calibrate(
    pairs: Sequence[Pair], protocol: Protocol, origin: str, usual: Calibration | None = None
) -> Calibration | None:
    """Fit the costs of a connection, of a failure and of a port probed.

    Args:
        pairs: Measured strategies with their predictions.
        protocol: The protocol whose connections count: UDP has another search than TCP.
        origin: Where `pairs` come from, for `Calibration.origin`.
        usual: The usual costs, for what `pairs` do not show; None for those of the protocol.

    Returns:
        The calibration; None if no connection of the protocol was measured. If no search is long enough to show the
        cost of a port, that cost is the usual one, and `origin` says so.
    """
    of_protocol = [pair for pair in pairs if pair.strategy.strategy.load.protocol is protocol]
    found = [row for pair in of_protocol for row in _of_pair(pair)]
    medians = np.array(found, dtype=np.float64).reshape(-1, 6)
    connected = medians[:, FAILED] == 0
    if not connected.any():
        return None
    defaults = replace(
        usual or USUAL_OF[protocol],
        origin=origin,
        largest=max(prediction.most_open for pair in of_protocol for prediction, _ in pair.rounds),
    )
    fitted = _fitted(medians, defaults)
    for _ in range(REFITS):
        medians[:, WEIGHT] = EXACT_WITHIN / np.maximum(_deviations(fitted, medians), EXACT_WITHIN)
        fitted = _fitted(medians, defaults)
    residual = float(np.median(_deviations(fitted, medians)))
    return replace(fitted, residual=residual, growth=_growth(fitted.sizes[-1], defaults))


def _growth(last: float, usual: Calibration) -> tuple[tuple[float, float], ...]:
    """How a port's cost usually grows beyond the last knot: pairs of connections open and factor of the cost there."""
    at_last = float(usual.port_ns_at(last))
    return tuple((size, cost / at_last) for size, cost in zip(usual.sizes, usual.port_ns, strict=True) if size > last)


def _of_pair(pair: Pair) -> Iterator[tuple[float, ...]]:
    for prediction, samples in pair.rounds:
        size = max(SMALLEST_BLOCK, len(samples) // BLOCKS)
        for begin in range(0, len(samples), size):
            yield from _of_block(prediction, samples, slice(begin, begin + size))


def _of_block(prediction: Prediction, samples: Samples, block: slice) -> Iterator[tuple[float, ...]]:
    """The medians of a block's connections, and of its failures, over attempts whose latency is that of one try."""
    attempts = prediction.attempts
    tries = attempts.tries[block]
    ports_probed = attempts.ports_probed[block] / tries if prediction.searches else np.zeros(len(tries))
    latency, failed, given_up = samples.latency_ns[block], samples.failed[block], samples.given_up[block]
    for is_failure in (False, True):
        any_number = prediction.is_of_last_try and (is_failure or not prediction.searches)
        model = (attempts.failed[block] == is_failure) & (any_number | (tries == 1))
        kernel = (failed == is_failure) & ~given_up & (any_number | (samples.tries[block] == 1))
        if model.sum() >= FEWEST and kernel.sum() >= FEWEST and (middle := float(np.median(latency[kernel]))) > 0:
            opened = float(np.median(prediction.open_before[block]))
            yield (
                float(np.median(ports_probed[model])),
                max(1.0, opened),
                middle,
                float(is_failure),
                float(prediction.searches_window),
                1.0,
            )


def _fitted(medians: Floats, usual: Calibration) -> Calibration:
    """Fit the costs to medians: first to searches of the whole range, if there are any, then to random windows.

    If all failures probe about as many ports, as in windows of one size or in one full range, they cannot separate the
    base from the cost of a port: the base is then the usual share of a connection's.
    """
    is_long, in_window = medians[:, PROBED] >= LONG_SEARCH, medians[:, IN_WINDOW] == 1
    has_range_searches = int((is_long & ~in_window).sum()) >= FEWEST
    factor = usual.window_factor
    if has_range_searches:
        usable = medians[~(is_long & in_window)]
    else:
        usable = medians * np.where(in_window[:, None] & (np.arange(medians.shape[1]) == PROBED), factor, 1.0)
    long_searches = usable[usable[:, PROBED] >= LONG_SEARCH]
    if len(long_searches) >= FEWEST:
        knots = _knots(long_searches[:, OPEN])
        fits_failures = has_range_searches and _differ(usable[usable[:, FAILED] == 1])
        base, failure, costs = _least_squares(usable, knots, usual, fits_failures=fits_failures)
        found = replace(usual, sizes=tuple((2**knots).tolist()), port_ns=tuple(costs))
    else:
        connected = usable[usable[:, FAILED] == 0]
        rest = connected[:, LATENCY] - connected[:, PROBED] * usual.port_ns_at(connected[:, OPEN])
        base = float(np.median(rest))
        failure = base * usual.failure_share
        found = replace(usual, origin=f"{usual.origin}{USUAL_PORT_COST}")
    found = replace(found, base_ns=max(base, 0.0), failure_ns=max(failure, 0.0))
    window_medians = medians[is_long & in_window]
    return _with_windows(found, window_medians) if has_range_searches and len(window_medians) >= FEWEST else found


def _differ(failures: Floats) -> bool:
    """Whether some failures probe more than twice as many ports as others."""
    ports_probed = failures[:, PROBED]
    return len(ports_probed) > 0 and bool(ports_probed.max() > 2 * ports_probed.min())


def _with_windows(calibration: Calibration, medians: Floats) -> Calibration:
    """The calibration with the median factor of these medians of windows."""
    base = np.where(medians[:, FAILED] == 1, calibration.failure_ns, calibration.base_ns)
    probing = medians[:, PROBED] * calibration.port_ns_at(medians[:, OPEN])
    factors = (medians[:, LATENCY] - base) / np.maximum(probing, 1.0)
    return replace(calibration, window_factor=max(0.0, float(np.median(factors))))


def _knots(opened: Floats) -> Floats:
    """The knots, as logarithms: from the fewest connections open to the most, a factor of two apart."""
    low, high = np.log2(opened.min()), np.log2(opened.max())
    knots: Floats = np.linspace(low, high, max(1, round(high - low)) + 1) if high - low > 0.1 else np.array([low])
    return knots


def _least_squares(
    medians: Floats, knots: Floats, usual: Calibration, *, fits_failures: bool
) -> tuple[float, float, list[float]]:
    """The base, the base of failures and the costs at the knots, by least squares of relative deviations.

    The unknowns are the costs at the knots of a line through all of them. If the base of failures is not fitted, or
    there are no failures, it is the usual share of the base.
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
    """The deviation of each median from the calibration, as a share of the median."""
    base = np.where(medians[:, FAILED] == 1, calibration.failure_ns, calibration.base_ns)
    factor = np.where(medians[:, IN_WINDOW] == 1, calibration.window_factor, 1.0)
    said = base + medians[:, PROBED] * calibration.port_ns_at(medians[:, OPEN]) * factor
    off: Floats = np.abs(said - medians[:, LATENCY]) / medians[:, LATENCY]
    return off
