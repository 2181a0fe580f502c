"""What a search costs on a machine: the time of each port probed, fitted to what was measured."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Self

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
class Machine:
    """The machine that costs were measured on; None where it does not say.

    Attributes:
        cpu: The model of its CPU.
        kernel: The release of its kernel.
        time: When it was measured, as ISO 8601 has it.
    """

    cpu: str | None
    kernel: str | None
    time: str | None

    @classmethod
    def of(cls, environment: Mapping[str, object]) -> Machine:
        """The machine of a recorded environment."""
        values = (environment.get(key) for key in ("cpu_model", "kernel", "time"))
        return cls(*(one if isinstance(one, str) else None for one in values))

    def differences(self, other: Machine) -> list[str]:
        """In what this machine and another one differ, as far as both are known, in words; of releases X.Y counts."""
        found = []
        if self.cpu and other.cpu and self.cpu != other.cpu:
            found.append(f"{self.cpu}, not {other.cpu}")
        if self.kernel and other.kernel and version_of(self.kernel) != version_of(other.kernel):
            found.append(f"Linux {self.kernel}, not {other.kernel}")
        return found


USUAL_BIND_FACTOR = 1.37
"""16,000 ports on one machine: 708 us a search of bind() in the second half, 516 us one of connect()."""


@dataclass(frozen=True, slots=True)
class Calibration:
    """latency = cost of a connection + ports probed x cost of a port; each is a line through knots.

    A port costs more when the hash tables no longer fit the CPU's caches: its cost goes by the working set (see
    `Prediction.working_set`), that of a connection by the connections open. Each line is one over the logarithm of
    that number. Below the first knot the cost is constant. Beyond the last knot a measured rise goes on.

    Attributes:
        sizes: The number of ports in use at each knot, ascending; at least one.
        base_ns: The cost of a connect() that succeeds, without its search, at each knot; as many.
        port_ns: The cost of a port that the search before has probed, too, at each knot; as many. So are most ports of
            a search that prefers one parity, once that is full.
        window_base_ns: As `base_ns`, where the search begins in a random window.
        new_port_ns: The cost of a port that the search before has not probed: its entries were not read for long.
        failure_ns: The cost of a call that finds no port, without its search.
        residual: The median of |predicted - measured| / measured over the blocks of the fit; None without a fit.
        origin: Where it comes from, in words.
        largest: The most connections that were open in the fit.
        machine: Where it was measured; None for the usual costs.
        bind_factor: The cost of a port that bind()'s search probes, divided by that of connect()'s in `port_ns`.
    """

    sizes: tuple[float, ...]
    base_ns: tuple[float, ...]
    port_ns: tuple[float, ...]
    window_base_ns: tuple[float, ...]
    new_port_ns: tuple[float, ...]
    failure_ns: float
    residual: float | None
    origin: str
    largest: int
    machine: Machine | None = None
    bind_factor: float = USUAL_BIND_FACTOR

    @property
    def curves(self) -> Floats:
        """The costs at the knots, a row each: `base_ns`, `port_ns`, `window_base_ns`, `new_port_ns`."""
        return np.array((self.base_ns, self.port_ns, self.window_base_ns, self.new_port_ns))

    def with_curves(self, sizes: Floats, curves: Floats) -> Self:
        """The calibration with other knots and costs, as `curves` has them."""
        base, port, window_base, new_port = (tuple(curve.tolist()) for curve in curves)
        return replace(
            self,
            sizes=tuple(sizes.tolist()),
            base_ns=base,
            port_ns=port,
            window_base_ns=window_base,
            new_port_ns=new_port,
        )

    def port_ns_at(self, working_set: npt.ArrayLike) -> Floats:
        """The cost of a port that the search before has probed, too, in ns, for each working set; the same shape."""
        return self.at(working_set, self.port_ns)

    def base_ns_at(self, connections: npt.ArrayLike) -> Floats:
        """The cost of a connection without its search, in ns, for each number of open connections; the same shape."""
        return self.at(connections, self.base_ns)

    def at(self, numbers: npt.ArrayLike, costs: npt.ArrayLike) -> Floats:
        """Costs given at the knots, for each number of ports in use; the same shape."""
        place = np.log2(np.maximum(np.asarray(numbers, dtype=np.float64), 1.0))
        knots, curve = np.log2(np.array(self.sizes)), np.asarray(costs, dtype=np.float64)
        found: Floats = np.interp(place, knots, curve)
        if len(knots) > 1:
            # A measured rise goes on beyond the last knot; a fall at the end is chance, and does not go on.
            slope = max(0.0, (curve[-1] - curve[-2]) / (knots[-1] - knots[-2]))
            found = found + slope * np.maximum(0.0, place - knots[-1])
        return found

    def latency_ns(self, prediction: Prediction) -> Floats:
        """The latency of each attempt, in ns, as samples define it: with UDP the acquire time.

        With TCP it is the talk's: connect() of the last try. All tries of an attempt count as equally long. With a
        port that the program draws, connect() does not search: it costs `base_ns`, or `failure_ns`.
        """
        if prediction.searches_in_bind:
            return self._ended(prediction)
        return self.searched_ns(prediction)

    def searched_ns(self, prediction: Prediction) -> Floats:
        """The time that shows the search, in ns, as `Samples.searched_ns` has it.

        It is the latency; where bind() searches, the acquire time.
        """
        if not prediction.is_of_last_try or prediction.searches_in_bind:
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
        base = self.window_base_ns if prediction.searches_window else self.base_ns
        connected = self.at(prediction.open_before, base)
        return np.where(prediction.attempts.failed, self.failure_ns, connected)

    def _searched(self, prediction: Prediction) -> Floats:
        if not prediction.searches:
            return np.zeros(len(prediction.attempts))
        costs = self.port_ns if prediction.prefers_parity else self.new_port_ns
        factor = self.bind_factor if prediction.searches_in_bind else 1.0
        return prediction.attempts.ports_probed * self.at(prediction.working_set, costs) * factor

    def extrapolates(self, prediction: Prediction) -> bool:
        """Whether the prediction has a tenth more connections open than were open in the fit."""
        return self.residual is not None and prediction.most_open > 1.1 * self.largest


USUAL = Calibration(
    sizes=(4_096.0, 16_384.0, 28_256.0, 56_512.0),
    base_ns=(13_000.0,) * 4,
    port_ns=(44.0, 48.0, 78.0, 85.0),
    window_base_ns=(13_000.0,) * 4,
    new_port_ns=(48.0, 51.0, 53.0, 93.0),
    failure_ns=3_000.0,
    residual=None,
    origin="usual costs of one machine",
    largest=56_512,
)
"""Costs for a rough idea without a measurement. Other machines have other costs; kernels before 6.15 `USUAL_BEFORE`.

Measured on a virtual machine with Linux 6.18: 46 ns a port in the second half of up to 32,768 ports, at any time. With
more, the tables that a search reads (some 10 MB) compete for a cache with other virtual machines: over the talk's range
50 to 57 ns on a quiet day, 70 to 120 ns within a run on others. In windows it is 65 to 88 ns. A further try of `random`
takes 2.8 µs.
"""

USUAL_UDP = Calibration(
    sizes=(56_512.0,),
    base_ns=(2_600.0,),
    port_ns=(60.0,),
    window_base_ns=(2_600.0,),
    new_port_ns=(60.0,),
    failure_ns=2_800.0,
    residual=None,
    origin="usual costs of UDP on one machine",
    largest=56_512,
)
"""The same for UDP: there is no handshake, and a further try of `random` costs as much as a connection."""

USUAL_OF = {Protocol.TCP: USUAL, Protocol.UDP: USUAL_UDP}

CHEAPER_STEPS_SINCE = (6, 15)
"""The first Linux that looks up the sockets of a port without a lock (86c2bc293b81, d4438ce68bf1)."""

USUAL_BEFORE = Calibration(
    sizes=(4_096.0, 28_256.0, 56_512.0),
    base_ns=(25_000.0,) * 3,
    port_ns=(80.0, 160.0, 170.0),
    window_base_ns=(25_000.0,) * 3,
    new_port_ns=(112.0, 204.0, 238.0),
    failure_ns=5_000.0,
    residual=None,
    origin="usual costs of one machine before Linux 6.15, the talk's",
    largest=56_512,
)
"""The same for older kernels, where a port costs several times as much.

The talk's plain run: 25 µs from even ports, 4.593 ms from odd ones, which probe 28,260; its full range of 5,000 ports;
its windows' failures, 1.174 ms of 5,000 ports and 2.212 ms of 10,000.
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


BLOCKS, SMALLEST_BLOCK, FEWEST = 128, 16, 5
"""The number of blocks of a round, the fewest attempts of a block, and the fewest attempts of a mean.

The port at which the kernel begins a search is not known, so an attempt of the model agrees with one of the kernel only
in the mean of many.
"""

SLOWEST = 0.02
"""The share of a mean's values that count as much as the least of them: what interrupts an attempt is among them."""

LONG_SEARCH = 64
"""Ports probed from which on a search shows in a latency, which varies by itself."""

FLAT = 0.05
"""The weight, in blocks, of equal costs from knot to knot, where blocks are few."""

EXACT_WITHIN, REFITS = 0.1, 20
"""Blocks that deviate by more than this share weigh less the further off they are (Huber's loss, by least squares with
new weights this many times): blocks of a disturbed machine are far off, and on one side."""

USUAL_PORT_COST = "; no search there is long enough to show the cost of a port, so it is the usual one"

WEAK, FIRM = 1e-3, 1e3
"""The weight, in blocks, of what is assumed where blocks show otherwise, and of what they cannot show."""

COLUMNS = 8
PROBED, OPEN, WORKING_SET, LATENCY, FAILED, IN_WINDOW, IS_NEW, WEIGHT = range(COLUMNS)
"""The columns of the blocks."""


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
    every = [pair for pair in pairs if pair.strategy.strategy.load.protocol is protocol]
    of_bind = [pair for pair in every if pair.strategy.strategy.searches_in_bind]
    of_protocol = [pair for pair in every if pair not in of_bind]
    blocks = np.array([row for pair in of_protocol for row in _of_pair(pair)]).reshape(-1, COLUMNS)
    if not (blocks[:, FAILED] == 0).any():
        return None
    defaults = replace(
        usual or USUAL_OF[protocol],
        origin=origin,
        largest=max(prediction.most_open for pair in of_protocol for prediction, _ in pair.rounds),
    )
    fitted = _fitted(blocks, defaults)
    for _ in range(REFITS):
        blocks[:, WEIGHT] = EXACT_WITHIN / np.maximum(_deviations(fitted, blocks), EXACT_WITHIN)
        fitted = _fitted(blocks, defaults)
    residual = float(np.median(_deviations(fitted, blocks)))
    return replace(fitted, residual=residual, bind_factor=_bind_factor(of_bind, fitted))


def _bind_factor(pairs: Sequence[Pair], fitted: Calibration) -> float:
    """By the long searches of bind(): what they took beyond a connection, divided by as many ports of connect()'s."""
    factors = [
        (took - base) / (probed * port)
        for pair in pairs
        for probed, opened, working_set, took, failed, *_ in _of_pair(pair)
        for base, port in ((float(fitted.base_ns_at(opened)), float(fitted.port_ns_at(working_set))),)
        if not failed and probed >= LONG_SEARCH and took > base and port
    ]
    return float(np.median(factors)) if len(factors) >= FEWEST else fitted.bind_factor


def _of_pair(pair: Pair) -> Iterator[tuple[float, ...]]:
    for prediction, samples in pair.rounds:
        profile, number = prediction.plan.strategy.load.profile, len(samples)
        part = profile.samples if profile else max(1, number)  # no block has attempts of two levels
        size = SMALLEST_BLOCK if profile else max(SMALLEST_BLOCK, number // BLOCKS)
        for begin in range(0, number, part):
            for first in range(begin, min(begin + part, number), size):
                yield from _of_block(prediction, samples, slice(first, min(first + size, begin + part)))


def _of_block(prediction: Prediction, samples: Samples, block: slice) -> Iterator[tuple[float, ...]]:
    """The means of a block's connections, and of its failures, over attempts whose latency is that of one try."""
    attempts = prediction.attempts
    tries = attempts.tries[block]
    ports_probed = attempts.ports_probed[block] / tries if prediction.searches else np.zeros(len(tries))
    latency, failed, given_up = samples.searched_ns[block], samples.failed[block], samples.given_up[block]
    for is_failure in (False, True):
        any_number = prediction.is_of_last_try and (is_failure or not prediction.searches)
        model = (attempts.failed[block] == is_failure) & (any_number | (tries == 1))
        kernel = (failed == is_failure) & ~given_up & (any_number | (samples.tries[block] == 1))
        if model.sum() >= FEWEST and kernel.sum() >= FEWEST and (took := typical(latency[kernel])) > 0:
            yield (
                typical(ports_probed[model]),
                max(1.0, float(np.median(prediction.open_before[block]))),
                max(1.0, float(np.median(prediction.working_set[block]))),
                took,
                float(is_failure),
                float(prediction.searches_window),
                float(not prediction.prefers_parity),
                1.0,
            )


def typical(values: npt.NDArray[np.number]) -> float:
    """The mean of values of which the largest count as no more than the others."""
    return float(np.minimum(values, np.quantile(values, 1 - SLOWEST, method="lower")).mean())


def _fitted(blocks: Floats, usual: Calibration) -> Calibration:
    """Fit the costs to blocks, by least squares of relative deviations.

    The unknowns are multiples of the usual costs: of each curve at each knot, and of a failure. What the blocks do not
    show has the multiple of its like: a new port that of a port probed again, a failure that of a connection. If
    all failures of a kind probe about as many ports, they cannot separate the cost of a failure from that of a port.
    """
    probed, failed, in_window = blocks[:, [PROBED]], blocks[:, [FAILED]] == 1, blocks[:, [IN_WINDOW]] == 1
    is_long, is_new = probed >= LONG_SEARCH, blocks[:, [IS_NEW]] == 1
    kinds = (~is_new, is_new)
    shown = [int((is_long & kind).sum()) >= FEWEST for kind in kinds]
    if any(shown):
        least = blocks[is_long[:, 0], WORKING_SET].min()
        usual = _at_knots(usual, least, blocks[:, (OPEN, WORKING_SET)].max())
    else:
        usual = replace(usual, origin=f"{usual.origin}{USUAL_PORT_COST}")
    shows_failure = any(
        is_shown and _differ(blocks[(failed & kind)[:, 0], PROBED]) for kind, is_shown in zip(kinds, shown, strict=True)
    )

    curves = usual.curves
    opened, working_set = (_shares(blocks[:, column], usual.sizes) for column in (OPEN, WORKING_SET))
    rows = np.hstack(
        (
            opened * curves[0] * (~failed & ~in_window),
            working_set * curves[1] * probed * ~is_new,
            opened * curves[2] * (~failed & in_window),
            working_set * curves[3] * probed * is_new,
            failed * usual.failure_ns,
        )
    )
    unknowns = np.eye(rows.shape[1])
    base, port, window_base, new_port = np.split(unknowns[:-1], len(curves))
    straight, new_straight = (
        FIRM * _is_straight(blocks[(is_long & kind)[:, 0], WORKING_SET], usual.sizes) * is_shown + WEAK
        for kind, is_shown in zip(kinds, shown, strict=True)
    )
    flat, window_flat = (
        FIRM * _is_flat(blocks[(~is_long & ~failed & kind)[:, 0], OPEN], usual.sizes) + FLAT
        for kind in (~in_window, in_window)
    )
    rules = np.vstack(
        (
            flat * _differences(base, curves[0], 1),
            window_flat * _differences(window_base, curves[2], 1),
            FLAT * _differences(port, curves[1], 1),
            FLAT * _differences(new_port, curves[3], 1),
            straight * _differences(port, curves[1], 2),
            new_straight * _differences(new_port, curves[3], 2),
            WEAK * (window_base - base),
            (WEAK if all(shown) else FIRM) * (new_port - port),
            (WEAK if shows_failure else FIRM) * (unknowns[-1:] - base[:1]),
        )
    )
    as_usual = (WEAK**2 if any(shown) else FIRM) * port
    roots = np.sqrt(blocks[:, [WEIGHT]])
    wanted = np.concatenate((roots[:, 0], np.zeros(len(rules)), as_usual.sum(axis=1)))
    equations = np.vstack((rows / blocks[:, [LATENCY]] * roots, rules, as_usual))
    multiples = np.maximum(np.linalg.lstsq(equations, wanted, rcond=None)[0], 0.0)
    fitted = usual.with_curves(np.array(usual.sizes), curves * multiples[:-1].reshape(curves.shape))
    return replace(fitted, failure_ns=usual.failure_ns * float(multiples[-1]))


def _at_knots(calibration: Calibration, low: float, high: float) -> Calibration:
    """The same costs at other knots: from `low` to `high`, about a factor of two apart."""
    first, last = np.log2(low), np.log2(high)
    number = max(1, round(last - first)) + 1 if last - first > 0.1 else 1
    sizes = 2 ** np.linspace(first, last, number)
    return calibration.with_curves(sizes, np.array([calibration.at(sizes, curve) for curve in calibration.curves]))


def _shares(numbers: Floats, sizes: Sequence[float]) -> Floats:
    """The weights of the knots in a line through them, at each number: a row each, a column for each knot."""
    knots = np.log2(sizes)
    return np.stack([np.interp(np.log2(numbers), knots, one) for one in np.eye(len(sizes))], axis=1)


def _differences(unknowns: Floats, curve: Floats, order: int) -> Floats:
    """The differences of the costs of a curve from knot to knot (1), or of these differences (2), as shares."""
    return np.diff(unknowns * (curve / curve[0])[:, None], order, axis=0)


def _is_flat(opened: Floats, sizes: Sequence[float]) -> npt.NDArray[np.bool_]:
    """Whether no short search shows how a connection's cost differs from knot to knot: a column, of each two in turn.

    Long searches hide it. Beyond the knots that a short search is near, it stays as it is there.
    """
    is_near = np.any(_shares(opened, sizes) >= 0.5, axis=0, keepdims=True)[0]
    flat: npt.NDArray[np.bool_] = ~is_near[1:] | (np.arange(1, len(sizes)) <= is_near.argmax())
    return flat[:, None]


def _is_straight(working_sets: Floats, sizes: Sequence[float]) -> npt.NDArray[np.bool_]:
    """Whether long searches do not show how a line bends, at each knot but the first and the last: a column.

    They show it near the knot, if they also are near the end of the line where that is the next knot. Elsewhere the
    line is straight: short searches tell more of a connection than of a port.
    """
    is_near = np.any(_shares(working_sets, sizes) >= 0.5, axis=0, keepdims=True)[0]
    is_bent = is_near[1:-1].copy()
    is_bent[:1] &= is_near[:1][: len(is_bent)]
    is_bent[-1:] &= is_near[-1:][: len(is_bent)]
    straight: npt.NDArray[np.bool_] = ~is_bent[:, None]
    return straight


def _differ(ports_probed: Floats) -> bool:
    """Whether some searches probe more than twice as many ports as others."""
    return len(ports_probed) > 0 and bool(ports_probed.max() > 2 * ports_probed.min())


def _deviations(calibration: Calibration, blocks: Floats) -> Floats:
    """The deviation of each block from the calibration, as a share of its latency."""
    in_window, is_new = blocks[:, IN_WINDOW] == 1, blocks[:, IS_NEW] == 1
    opened, working_set = blocks[:, OPEN], blocks[:, WORKING_SET]
    places = (opened, working_set) * 2
    base, port, window_base, new_port = map(calibration.at, places, calibration.curves)
    connected = np.where(in_window, window_base, base)
    ended = np.where(blocks[:, FAILED] == 1, calibration.failure_ns, connected)
    said = ended + blocks[:, PROBED] * np.where(is_new, new_port, port)
    off: Floats = np.abs(said - blocks[:, LATENCY]) / blocks[:, LATENCY]
    return off
