"""What a search costs on a machine: from ports looked at to ns."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from connbench.model import Protocol
from connbench.portmodel.algorithm import Algorithm
from connbench.portmodel.prediction import Prediction
from connbench.release import version_of
from connbench.results.result import Samples, samples_class

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Calibration:
    """latency = connection + ports looked at x what one costs while so many connections are open.

    A port costs more as the hash tables leave the CPU's caches, so that its cost is a line through knots over the
    logarithm of the connections open. Below the first knot it stays. Beyond the last the last stretch goes on, or the
    cost grows as it usually does if that is more: smaller tables cannot tell that larger ones will not fit.

    Attributes:
        base_ns: A connect() that succeeds, beside its search.
        failure_ns: A call that finds no port, beside its search.
        sizes: Connections open at each knot, rising; at least one.
        port_ns: What a port looked at costs at each, as many.
        window_factor: Times that a port costs in a window drawn at random, where no search has just been.
        residual: Median of |predicted - measured| / measured over the medians it was fitted to; None if it was not.
        origin: Where it comes from, in words.
        largest: Most connections that were open where it was fitted.
        growth: Times the last knot's cost that a port usually costs beyond it, by connections open; rising.
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
        """Of a failure's base in that of a connection."""
        return self.failure_ns / self.base_ns

    def port_ns_at(self, connections: npt.ArrayLike) -> Floats:
        """What a port looked at costs while so many connections are open, in ns; the same shape."""
        place = np.log2(np.maximum(np.asarray(connections, dtype=np.float64), 1.0))
        knots = np.log2(np.array(self.sizes))
        costs = np.interp(place, knots, self.port_ns)
        if len(knots) > 1:
            # What has been seen to rise goes on rising; a fall at the end is chance, and is not carried on.
            slope = max(0.0, (self.port_ns[-1] - self.port_ns[-2]) / (knots[-1] - knots[-2]))
            costs = costs + slope * np.maximum(0.0, place - knots[-1])
        if self.growth:
            sizes, factors = np.array([(self.sizes[-1], 1.0), *self.growth]).T
            usual = self.port_ns[-1] * np.interp(place, np.log2(sizes), factors)
            costs = np.where(place > knots[-1], np.maximum(costs, usual), costs)
        return costs

    def latency_ns(self, prediction: Prediction) -> Floats:
        """The latency of each attempt as its samples have it, in ns: of UDP the acquire time.

        TCP's is the talk's, of the last try, for which all tries are taken to be alike. A bind() to a port is no
        search there, and outside connect(): it costs `base_ns`, or `failure_ns`, alone.
        """
        if not prediction.is_of_last_try:
            return self.acquire_ns(prediction)
        return self._ended(prediction) + self._searched(prediction) / prediction.walk.tries

    def acquire_ns(self, prediction: Prediction) -> Floats:
        """What the program waits in the calls that search, every try counted, in ns."""
        walk = prediction.walk
        return self._ended(prediction) + self._searched(prediction) + (walk.tries - 1.0) * self.failure_ns

    def samples(self, prediction: Prediction) -> Samples:
        """The attempts as a run that takes as long as predicted would have left them, one after the other."""
        walk = prediction.walk
        latency, acquire = (np.rint(one(prediction)).astype(np.int64) for one in (self.latency_ns, self.acquire_ns))
        return samples_class(prediction.plan.strategy).of(
            started_ns=np.cumsum(acquire) - acquire,
            connect_ns=latency,
            acquire_ns=acquire,
            tries=walk.tries,
            port=walk.port,
            errno=walk.errno,
            source=walk.source,
            target=walk.target,
            client=walk.lane,
        )

    def _ended(self, prediction: Prediction) -> Floats:
        return np.where(prediction.walk.failed, self.failure_ns, self.base_ns)

    def _searched(self, prediction: Prediction) -> Floats:
        if not prediction.searches:
            return np.zeros(len(prediction.walk))
        factor = self.window_factor if prediction.jumps else 1.0
        searched: Floats = prediction.walk.ports_probed * self.port_ns_at(prediction.open_before) * factor
        return searched

    def extrapolates(self, prediction: Prediction) -> bool:
        """Whether more connections are open in it, by a tenth, than wherever this was fitted."""
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
"""For a rough idea where nothing was measured; other machines have others, and kernels before 6.15 `USUAL_BEFORE`.

Seen there: 46 ns a port with up to 32,768 open, whoever else is there. Beyond, the tables that a search walks (some
10 MB) compete for a cache with other machines: over the talk's range 50 to 57 ns on a quiet day, 70 to 120 ns within a
run on others. In windows it is 65 to 88 ns. A further try of `random` takes 2.8 µs.
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
"""The same of UDP: no handshake, and a further try of `random` costs what a connection does."""

USUAL_OF = {Protocol.TCP: USUAL, Protocol.UDP: USUAL_UDP}

CHEAPER_STEPS_SINCE = (6, 15)
"""The first Linux that looks at sockets of a port without a lock (86c2bc293b81, d4438ce68bf1)."""

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
"""The same of older kernels, where a port costs several times as much.

The talk's plain run: 25 µs from even ports, 4.593 ms from odd ones, which look at 28,260 with 42,000 open on average;
its full range of 5,000 ports; its windows' failures, 1.174 ms of 5,000 ports and 2.212 ms of 10,000.
"""


def usual(kernel: tuple[int, int], algorithm: Algorithm) -> Calibration:
    """What searches of TCP usually cost on a Linux of this version, which searches so."""
    return usual_of(Protocol.TCP, algorithm) if kernel >= CHEAPER_STEPS_SINCE else USUAL_BEFORE


def usual_of(protocol: Protocol, algorithm: Algorithm) -> Calibration:
    """The same where the search is all that is known: those before 6.8 are of a kernel before 6.15."""
    is_old = protocol is Protocol.TCP and algorithm in {Algorithm.PRE_4_2, Algorithm.FROM_4_2, Algorithm.PRE_6_8}
    return USUAL_BEFORE if is_old else USUAL_OF[protocol]


def usual_on(release: str, protocol: Protocol) -> Calibration:
    """The same on a machine whose kernel is known by its release, and measured: its own search does not matter then."""
    version = version_of(release)
    is_dearer = protocol is Protocol.TCP and version is not None and version < CHEAPER_STEPS_SINCE
    return USUAL_BEFORE if is_dearer else USUAL_OF[protocol]
