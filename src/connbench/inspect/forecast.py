"""What the next connect() on a path costs, and how many more find a port, from the ports in use there."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from connbench.inspect.port_usage import TIME_WAIT_MS, PathUsage, Ports
from connbench.inspect.snapshot import Snapshot
from connbench.inspect.sockets import Mask, State
from connbench.model import MAX_PORT, Placement, Protocol, StrategySpec
from connbench.planner.workload import DEFAULT_WINDOW
from connbench.portmodel.algorithm import Algorithm, algorithm_of
from connbench.portmodel.calibration import Calibration, usual_on
from connbench.portmodel.kernel_search import EVERY_PORT_ALWAYS, ParityFirst, search_of_connect
from connbench.portmodel.next_search import Half, NextSearch, next_search
from connbench.strategies import BASELINE, STRATEGIES, Window
from connbench.units import MS_PER_S


@dataclass(frozen=True, slots=True)
class Forecast:
    """The next connect() of a strategy on a path.

    Attributes:
        strategy: The strategy with its parameters, as reports name it.
        half: Where most searches end; None if the search prefers no parity, or in windows of their own.
        ports_probed: The ports that the search probes, in the mean of searches that follow one another round the range,
            or over all windows; None for UDP, where no model knows the slots of the hash table.
        failing: The share of the searches that find no port, 0 to 1; None for UDP.
        connect_ns: How long connect() takes, in ns; None for UDP.
        until_knee: How many connections more until no port of the parity that is probed first is free; None if the
            search has no such knee.
        until_exhaustion: How many connections more find a port.
    """

    strategy: str
    half: Half | None
    ports_probed: float | None
    failing: float | None
    connect_ns: float | None
    until_knee: int | None
    until_exhaustion: int


@dataclass(frozen=True, slots=True)
class Forecaster:
    """Forecasts for paths; None stands for what is usual on the kernel of a snapshot.

    Attributes:
        algorithm: The search of connect(); None for that of the kernel's release.
        calibration: What a search costs; None for the usual costs.
        window: The ports of a random window.
    """

    algorithm: Algorithm | None = None
    calibration: Calibration | None = None
    window: int = DEFAULT_WINDOW

    def search_on(self, kernel: str) -> Algorithm:
        """The search of connect() on a kernel of this release."""
        return self.algorithm or algorithm_of(kernel)

    def costs_on(self, kernel: str) -> Calibration:
        """What a search costs on a kernel of this release."""
        return self.calibration or usual_on(kernel, Protocol.TCP)

    def forecast(self, path: PathUsage, snapshot: Snapshot) -> tuple[Forecast, ...]:
        """The forecast of each strategy that leaves the choice of the port to connect() and searches differently.

        That is the search without an option, that in random windows, and that of the whole range as the option. UDP
        has one search for all, and before Linux 4.6 there is no option.
        """
        settings = snapshot.settings
        passed = _passed(path, snapshot)
        if path.protocol != Protocol.TCP:
            free = len(settings.ports) - settings.ports.count_of(passed.tolist())
            return (Forecast(BASELINE.name, None, None, None, None, None, free),)
        algorithm = self.search_on(settings.kernel)
        costs = self.costs_on(settings.kernel)
        forecasts = []
        for spec in self._strategies(algorithm):
            search = search_of_connect(algorithm, has_option=spec.traits.sets_port_range)
            found = next_search(settings.ports, passed, search, spec.window, settings.step_width)
            has_knee = issubclass(search, ParityFirst) and spec.window is None
            forecasts.append(
                Forecast(
                    spec.label,
                    found.half if has_knee else None,
                    found.following,
                    found.failing,
                    _connect_ns(found, path.used, len(settings.ports), costs, spec, has_knee=has_knee),
                    found.first_parity_free if has_knee else None,
                    found.free,
                )
            )
        return tuple(forecasts)

    def _strategies(self, algorithm: Algorithm) -> Iterator[StrategySpec]:
        yield StrategySpec(BASELINE.name)
        if algorithm in EVERY_PORT_ALWAYS:
            return
        random, every = (
            next(one for one in STRATEGIES.values() if one.window is kind) for kind in (Window.RANDOM, Window.RANGE)
        )
        yield StrategySpec(random.name, self.window, Placement.INSIDE, 0)
        yield StrategySpec(every.name)


USUAL_FORECASTER = Forecaster()
"""Forecasts with nothing chosen by a user."""


def _connect_ns(
    found: NextSearch, in_use: int, ports: int, costs: Calibration, spec: StrategySpec, *, has_knee: bool
) -> float:
    """How long connect() takes, in ns; the working set is that of `Prediction.working_set`."""
    working_set = min(in_use, max(found.following, (ports + 1) // 2)) if has_knee else in_use
    port_ns = costs.at(working_set, costs.port_ns if has_knee else costs.new_port_ns)
    connected_ns = costs.at(in_use, costs.window_base_ns if spec.window else costs.base_ns)
    ended_ns = (1 - found.failing) * connected_ns + found.failing * costs.failure_ns
    return float(ended_ns + found.following * port_ns)


def _passed(path: PathUsage, snapshot: Snapshot) -> Ports:
    """The ports that a search on this path passes over, ascending."""
    is_passed = np.zeros(MAX_PORT + 1, dtype=np.bool_)
    is_passed[path.ports] = True
    is_passed[_reusable(path, snapshot)] = False
    is_passed[path.blocked] = True
    is_passed[list(snapshot.settings.reserved)] = True
    return np.flatnonzero(is_passed).astype(np.uint16)


def _reusable(path: PathUsage, snapshot: Snapshot) -> Ports:
    """The ports in TIME_WAIT that connect() takes all the same, because tcp_tw_reuse allows it and their delay is over.

    If a dump does not say how long they have waited, all are among them: the delay is a second of sixty.
    """
    time_wait = snapshot.settings.time_wait
    if not time_wait.is_reused(is_loopback=path.is_loopback):
        return np.empty(0, dtype=np.uint16)
    sockets, its = snapshot.sockets, path.sockets
    is_reusable: Mask = sockets.state[its] == State.TIME_WAIT
    is_reusable &= sockets.expires_ms[its] <= TIME_WAIT_MS - time_wait.delay_s * MS_PER_S
    ports: Ports = sockets.local_port[its[is_reusable]]
    return ports
