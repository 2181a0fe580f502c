"""What `connbench inspect` found, as one value that reports, gates and exporters read."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from connbench.findings import Finding
from connbench.inspect.forecast import USUAL_FORECASTER, Forecast, Forecaster
from connbench.inspect.port_usage import FEW_LEFT, RECENT_S, PathUsage, Usage, usage
from connbench.inspect.rates import Comparison, Rates
from connbench.inspect.snapshot import Snapshot
from connbench.inspect.suspicions import find_suspicions
from connbench.model.time_wait import TIME_WAIT_S
from connbench.portmodel.algorithm import Algorithm
from connbench.portmodel.calibration import Calibration
from connbench.portmodel.next_search import Half
from connbench.safe_text import printable

if TYPE_CHECKING:
    from connbench.inspect.remedy import Remedy

MANY_PROBES = 500
"""Ports that a search probes in about the time that the rest of connect() takes; one that probes fewer is not slow."""

NEAR_KNEE = 0.1
"""A path stands out if this share of its usable ports is left until its knee: by default from 40 % in use on."""

SOON_S = 600
"""A path stands out, too, if it is slow or its ports are exhausted within so many seconds."""

FEWEST_JUDGED = 20
"""Paths that the verdict is about, however few are shown: a path may be slow that is not the fullest."""

CHANCE = 2
"""Two counts differ by chance if the difference is at most this many standard deviations, the root of their sum each.
"""


@dataclass(frozen=True, slots=True, eq=False)
class Row:
    """A path, and what it belongs to.

    Attributes:
        path: Its ports in use.
        usage: All that is in use in its namespace.
        rates: What changed on it since the dump before; None without an earlier one.
        forecasts: What the next connect() costs, for each way to get a port, the kernel's own choice first; empty if
            nothing is known about that.
    """

    path: PathUsage
    usage: Usage
    rates: Rates | None = None
    forecasts: Sequence[Forecast] = ()

    @property
    def name(self) -> str:
        """The path as a reader names it: `web: 10.0.0.5 -> 10.1.2.3:53 (udp)`; without namespace for this one."""
        return f"{printable(self.path.namespace)}: {self.path.name}" if self.path.namespace else self.path.name

    @property
    def next(self) -> Forecast | None:
        """The forecast for a program that leaves the port to the kernel."""
        return self.forecasts[0] if self.forecasts else None

    @property
    def until_exhaustion(self) -> int:
        """How many more connections the path has ports for."""
        return self.next.until_exhaustion if self.next else self.path.free

    @property
    def growth_per_s(self) -> float | None:
        """By how many ports in use the path grows a second, below 0 if it shrinks; None if that is not known.

        It is that since the dump before. Without one it is what TIME_WAIT's timers tell: how it grows if connections
        close as they did in the last 10 s, and each is replaced by another; 0 if that may be chance.
        """
        if self.rates:
            return self.rates.growth_per_s
        path, time_wait = self.path, self.usage.snapshot.settings.time_wait
        entering, leaving = path.closing_per_s, path.expiring_per_s
        if entering is None or leaving is None or time_wait.is_reused(is_loopback=path.is_loopback):
            return None
        is_chance = abs(entering - leaving) * RECENT_S <= CHANCE * ((entering + leaving) * RECENT_S) ** 0.5
        return 0.0 if is_chance else entering - leaving

    @property
    def exhausted_in_s(self) -> float | None:
        """The seconds until its ports are exhausted at this growth; None if it does not grow, or nobody knows."""
        return self.time_until(self.until_exhaustion)

    @property
    def slow_in_s(self) -> float | None:
        """The seconds until connect() is slow at this growth: from the knee on. None if it never is, or is already."""
        until_knee = self.next.until_knee if self.next else None
        return self.time_until(until_knee) if until_knee and self._is_slow_past_knee else None

    @property
    def is_slow(self) -> bool:
        """Whether connect() probes in vain all ports of the parity that it searches first, and these are many."""
        return self.next is not None and self.next.half is Half.SECOND and self._is_slow_past_knee

    @property
    def is_near_knee(self) -> bool:
        """Whether connect() is not slow yet, and few more connections make it so."""
        until_knee = self.next.until_knee if self.next else None
        return bool(until_knee and self._is_slow_past_knee and until_knee <= NEAR_KNEE * self.path.usable)

    @property
    def _is_slow_past_knee(self) -> bool:
        return len(self.usage.snapshot.settings.ports) >= 2 * MANY_PROBES

    @property
    def needs_attention(self) -> bool:
        """Whether connect() on it is slow or fails, or nearly so, or will soon at its growth."""
        return (
            self.is_slow
            or self.is_near_knee
            or self.until_exhaustion <= FEW_LEFT * self.path.usable
            or any(seconds is not None and seconds <= SOON_S for seconds in (self.exhausted_in_s, self.slow_in_s))
        )

    def time_until(self, connections: int) -> float | None:
        """The seconds until so many more ports are in use, at this growth; None if they never are, or nobody knows.

        TIME_WAIT by itself stops to grow after 60 s, when as many connections leave it as enter it.
        """
        growth = self.growth_per_s
        if growth is None or growth <= 0:
            return None
        if not self.rates and connections > (self.path.closing_per_s or 0) * TIME_WAIT_S - self.path.time_wait:
            return None
        return connections / growth


@dataclass(frozen=True, slots=True)
class Model:
    """What the forecasts rest on.

    Attributes:
        algorithm: The search that they simulate.
        known_by: How it is known: `probed`, `by its release`, `--algorithm`.
        calibration: The costs of a connection and of each port probed.
    """

    algorithm: Algorithm
    known_by: str
    calibration: Calibration

    @property
    def is_usual(self) -> bool:
        """Whether the costs are those of another machine, so that times are rough."""
        return self.calibration.residual is None


@dataclass(frozen=True, slots=True, eq=False)
class Inspection:
    """What was found.

    Attributes:
        usages: The port usage of each namespace.
        rows: The fullest paths of all, by share of their usable ports, the fullest first, to be shown.
        further: The next ones, which are judged and not shown.
        model: What the forecasts rest on; None without forecasts.
        findings: What else a reader must know, with advice.
        remedy: What to do about the fullest path that needs attention; None if none does.
        assumed: What a file does not say and the report takes for granted, each in words with the option that says it.
    """

    usages: Sequence[Usage]
    rows: Sequence[Row]
    further: Sequence[Row] = ()
    model: Model | None = None
    findings: Sequence[Finding] = ()
    remedy: Remedy | None = None
    assumed: Sequence[str] = ()

    @property
    def paths(self) -> int:
        """The number of paths, of which `rows` may be a part."""
        return sum(one.paths for one in self.usages)

    @property
    def judged(self) -> Sequence[Row]:
        """The paths that are known, the fullest first."""
        return (*self.rows, *self.further)

    @property
    def troubled(self) -> Sequence[Row]:
        """Those of them that need attention."""
        return [row for row in self.judged if row.needs_attention]

    @property
    def sockets(self) -> int:
        """The number of sockets that were read."""
        return sum(len(one.snapshot.sockets) for one in self.usages)


def inspect(
    snapshots: Sequence[Snapshot],
    most_rows: int | None = None,
    comparison: Comparison | None = None,
    forecaster: Forecaster = USUAL_FORECASTER,
    advise_options: Sequence[str] = (),
) -> Inspection:
    """Group the sockets of namespaces by path, and forecast the next connect() on the fullest paths.

    Args:
        snapshots: One for each namespace, all of one kernel.
        most_rows: How many paths to show, the fullest; None for all. The `FEWEST_JUDGED` fullest are judged, anyhow.
        comparison: Has the dump before, if each row is to have its rates since then.
        forecaster: Makes the forecasts.
        advise_options: The options of advise with which it would make such forecasts, too, for the remedy.
    """
    usages = [usage(snapshot) for snapshot in snapshots]
    number = most_rows and max(most_rows, FEWEST_JUDGED)
    paths = [(path, one) for one in usages for path in one.rows(number)]
    paths.sort(key=lambda pair: pair[0].share, reverse=True)
    rows = [Row(path, one, None, forecaster.forecast(path, one.snapshot)) for path, one in paths[:number]]
    if comparison:
        rates = comparison.compare(usages, [row.path for row in rows])
        rows = [replace(row, rates=one) for row, one in zip(rows, rates, strict=True)]
    kernel = snapshots[0].settings.kernel
    known_by = (
        "--algorithm" if forecaster.algorithm else "by its release" if kernel else "assumed; --algorithm names another"
    )
    model = Model(forecaster.search_on(kernel), known_by, forecaster.costs_on(kernel))
    found = Inspection(usages, rows[:most_rows], rows[len(rows[:most_rows]) :], model, find_suspicions(usages))
    return replace(found, remedy=_find_remedy(found, model.algorithm, advise_options))


def _find_remedy(found: Inspection, algorithm: Algorithm, advise_options: Sequence[str]) -> Remedy | None:
    """What to do about the first path that needs attention; None if none does."""
    row = next(iter(found.troubled), None)
    if row is None:
        return None
    from connbench.inspect.remedy import find_remedy  # noqa: PLC0415  # a calm host needs nothing of what it loads

    return find_remedy(row.path, row.usage, row.forecasts, algorithm, found.findings, advise_options)
