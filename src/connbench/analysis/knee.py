"""Finds the knee of a filling: the connection from which on connections stay slow, and the first one that fails."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np
import numpy.typing as npt

from connbench.analysis.levels import levels_of, slow_from
from connbench.model import HALF, Phase, Spread, StrategySpec
from connbench.model.knee_rule import FEWEST_CONNECTIONS, NARROWEST_WINDOW, can_show_half, rolling_width
from connbench.results.result import Mask, Numbers, Samples, StrategyResult

BASELINE_SHARE = 0.05
"""The baseline is the median of the first 5 % of the connections, whose searches are short."""

SLOWDOWN = 3.0
"""Times the baseline above which a connection counts as slow."""

STEP, STRETCH = 2.0, 0.02
"""At a step the rolling median doubles within 2 % of the connections.

Linear growth takes longer: its baseline is the latency at 2.5 % of the connections, and twice that comes at 5 % at the
earliest.
"""

HEIGHTS_PER_DOUBLING = 4
"""A step is looked for at four heights in each doubling: so a step of 2.4 times is found wherever it begins."""

TAIL = 0.05
"""A step on top of growth lies before the last 5 % of the connections: growth that speeds up is as steep there."""

SPEEDS_UP = 0.75
"""Growth speeds up if doubling from 3 to 6 x the baseline takes at most 0.75 times as many connections as doubling
from 1.5 to 3 x.

The tries of a strategy that draws ports grow as 1 / (1 - share in use): each doubling takes half of the one before.
With exponential growth each takes as many, with linear growth twice as many.
"""

GROWTH = 1.5
"""Times the baseline above which the last 5 % of the connections count as slower."""

PARTS, STEADILY = 20, 0.9
"""Growth is steady if the medians of 20 parts have a rank correlation of 0.9 or more; a step at half has 0.75."""


@dataclass(frozen=True, slots=True)
class Knee:
    """The knee and the first failure of a round; attempts are counted from 1.

    Attributes:
        baseline_ns: The median latency of the first 5 % of the connections; 0 without any.
        last_ns: That of the last 5 %; 0 without any.
        is_judged: Whether there were enough connections to look for a knee.
        is_growing: Whether the connections became slower steadily, and not by a step.
        connection: The first attempt from which on the rolling median stays above 3 x the baseline, or the change of
            parity right beside it; on top of growth, the first after a step. None without one, or if it grows steadily.
        in_use: Connections that were held when that attempt was made.
        first_failed: The first attempt that failed. One given up does not count, because ports may have been free.
        in_use_at_failure: Connections that were held when that attempt was made.
        ports: How many ports the connections were to fill; None if the range is not known. If each address is used up
            before the next (`Spread.FILL`), ports, connections and the knee are those of the first: `is_of_first`.
        held: The connections of the fullest source (and target, if each has its own ports), times the number
            of such; 0 if the range is not known.
        fullest: The largest share of the ports of one source (and target) that was in use, 0 to 1; None likewise.
        shows_half: Whether a knee at half of the ports would have been seen; None likewise.
    """

    baseline_ns: float = 0.0
    last_ns: float = 0.0
    is_judged: bool = False
    is_growing: bool = False
    connection: int | None = None
    in_use: int | None = None
    first_failed: int | None = None
    in_use_at_failure: int | None = None
    ports: int | None = None
    held: int = 0
    is_of_first: bool = False
    fullest: float | None = None
    shows_half: bool | None = None

    @property
    def share(self) -> float | None:
        """The share of the ports in use at the knee; None without a knee, or if the ports are not known."""
        return None if self.in_use is None or not self.ports else self.in_use / self.ports

    @property
    def limit_ns(self) -> float:
        """The latency above which the rolling median shows the knee."""
        return SLOWDOWN * self.baseline_ns


@lru_cache(maxsize=32)
def find_knee(result: StrategyResult) -> Knee:
    """The knee and the first failure of a strategy: of several rounds each the median one, by its attempt.

    A round without one counts as if it came after the last attempt. Of two median rounds the earlier counts. Churn
    has no knee: its range is as full at the end as at the beginning. That of a profile is a level.
    """
    if result.strategy.phase is Phase.CHURN:
        return Knee()
    if result.strategy.phase is Phase.PROFILE:
        return _knee_of_levels(result)
    first = first_address(result)
    knee = _middle([knee_of(r.samples) for r in (first or result).rounds], lambda knee: knee.connection)
    failure = _middle([knee_of(r.samples) for r in result.rounds], lambda knee: knee.first_failed)
    return replace(
        _reaching(knee, first or result),
        first_failed=failure.first_failed,
        in_use_at_failure=failure.in_use_at_failure,
        is_of_first=first is not None,
    )


def _knee_of_levels(result: StrategyResult) -> Knee:
    """The first level from which on the median acquire time of each level stays above 3 x that of the first level.

    Connections of all rounds count. Attempts are numbered as in a round without a fault.
    """
    levels, profile = levels_of(result), result.strategy.load.profile
    made = [level for level in levels if level.connected_ns is not None]
    if not made or not profile:
        return Knee()
    baseline_ns, ports = made[0].connected_ns or 0.0, result.capacity
    slow = slow_from(levels, SLOWDOWN * baseline_ns)
    failed = np.flatnonzero(result.samples.failed & ~result.samples.given_up)
    first_failed = int(failed[0]) % (len(levels) * profile.samples) if len(failed) else None
    most = levels[-1].in_use
    return Knee(
        baseline_ns=baseline_ns,
        last_ns=made[-1].connected_ns or 0.0,
        is_judged=len(made) > 1 and made[0].share < HALF,
        connection=None if slow is None else slow * profile.samples + 1,
        in_use=None if slow is None else levels[slow].in_use,
        first_failed=None if first_failed is None else first_failed + 1,
        in_use_at_failure=None if first_failed is None else int(result.samples.in_use[failed[0]]),
        ports=ports,
        held=most,
        fullest=most / ports if ports else None,
        shows_half=most >= HALF * ports if ports else None,
    )


def is_unseen(strategy: StrategySpec, knee: Knee, kernel: str = "") -> bool:
    """Whether a run without a knee does not show that there is none: its search has one, and too few ports were in use.

    Verdict, next step, tables and lines use this. A gate is stricter: it expects enough ports of every strategy.
    """
    too_few = knee.is_judged and knee.connection is None and knee.shows_half is False
    return too_few and strategy.searches_one_parity_first(kernel)


def first_address(result: StrategyResult) -> StrategyResult | None:
    """The attempts of the first source (and target), if each is used up before the next; else None.

    Addresses that are used in turns are equally full at any time: the ports of all of them count as one range.
    """
    if result.spread is not Spread.FILL or not result.ports_each or result.capacity == result.ports_each:
        return None
    rounds = tuple(
        replace(r, samples=r.samples.chosen(of_first_address(r.samples, result.strategy))) for r in result.rounds
    )
    return replace(result, rounds=rounds, capacity=result.ports_each)


def of_first_address(samples: Samples, strategy: StrategySpec) -> Mask:
    """Which attempts are from the first source, and to the first target if each target has its own ports."""
    mask: Mask = samples.source == 0
    return mask & (samples.target == 0) if strategy.has_ports_per_target else mask


def _reaching(knee: Knee, result: StrategyResult) -> Knee:
    """The knee with its ports, and whether enough were in use; of several rounds in the median one."""
    if not result.ports_each or not result.capacity:
        return replace(knee, ports=result.capacity)
    most = []
    for measured in result.rounds:
        made = measured.samples.chosen(~measured.samples.failed)
        spaces = made.source.astype(np.int64)
        if result.strategy.has_ports_per_target:
            spaces += made.target.astype(np.int64) << 16  # a source's number has 16 bits
        most.append(int(np.unique(spaces, return_counts=True)[1].max(initial=0)))
    in_one = sorted(most)[(len(most) - 1) // 2]
    held = in_one * (result.capacity // result.ports_each)
    return replace(
        knee,
        ports=result.capacity,
        held=held,
        fullest=in_one / result.ports_each,
        shows_half=can_show_half(held, result.capacity),
    )


def _middle(knees: list[Knee], attempt: Callable[[Knee], int | None]) -> Knee:
    return sorted(knees, key=lambda knee: attempt(knee) or float("inf"))[(len(knees) - 1) // 2]


def knee_of(samples: Samples) -> Knee:
    """The knee of one round that fills a range.

    Failed attempts do not count for baseline and rolling median, because their cost is not that of a connection. Those
    given up count: the knee is where they begin.
    """
    made = _made(samples)
    latency = samples.searched_ns[made]
    part = max(1, int(len(latency) * BASELINE_SHARE))
    baseline, last = (float(np.median(some)) if len(some) else 0.0 for some in (latency[:part], latency[-part:]))
    found = _knee(samples, made, _step(latency, baseline))
    is_growing = found.is_judged and found.connection is None and last > GROWTH * baseline and _is_steady(latency)
    return replace(found, baseline_ns=baseline, last_ns=last, is_growing=is_growing)


def _step(latency: Numbers, baseline: float) -> int | None:
    """Position of the first slow connection; None if none stays slow, or if all become slower steadily."""

    def passed(times: float) -> int | None:
        return _turn(latency > times * baseline)

    def is_step(height: float, position: int) -> bool:
        """Whether the rolling median passes half of the height just before the position, and not from the start."""
        half = passed(height / STEP) or 0
        return half > rolling_width(len(latency)) // 2 and position - half <= stretch

    slow = passed(SLOWDOWN)
    if slow is None or not baseline:
        return slow
    stretch = max(NARROWEST_WINDOW // 2, int(STRETCH * len(latency)))
    if is_step(SLOWDOWN, slow):
        return slow
    height = STEP * 2 ** (1 / HEIGHTS_PER_DOUBLING)
    while (position := passed(height)) is not None and position <= (1 - TAIL) * len(latency):
        if is_step(height, position):
            return position
        height *= 2 ** (1 / HEIGHTS_PER_DOUBLING)
    before, doubled = passed(SLOWDOWN / STEP) or 0, passed(STEP * SLOWDOWN)
    return slow if doubled is not None and doubled - slow <= SPEEDS_UP * (slow - before) else None


def _is_steady(latency: Numbers) -> bool:
    """Whether the medians of consecutive parts rise all the way, by Spearman's rank correlation."""
    medians = np.array([np.median(part) for part in np.array_split(latency, PARTS)])
    ranks = medians.argsort(kind="stable").argsort(kind="stable")
    return float(np.corrcoef(np.arange(PARTS), ranks)[0, 1]) >= STEADILY


def knee_of_searches(samples: Samples, ports_probed: npt.NDArray[np.int64], ports: int) -> Knee:
    """The knee by the number of ports that each attempt probed, if the times are not known.

    It is the first connection from which on the rolling median of the ports probed stays above half of the range. Every
    search probes as many once the parity that it begins with is full, and no search does before.

    Args:
        samples: One round; its times are not used.
        ports_probed: Ports that each attempt probed.
        ports: Ports of the range.
    """
    made = _made(samples)
    return _knee(samples, made, _turn(ports_probed[made] > ports // 2))


def _made(samples: Samples) -> Numbers:
    """The attempts that count for a knee: connections, and what was given up."""
    return np.flatnonzero(~samples.failed | samples.given_up)


def _knee(samples: Samples, made: Numbers, position: int | None) -> Knee:
    failures = np.flatnonzero(samples.failed & ~samples.given_up)
    first_failed = int(failures[0]) if len(failures) else None
    if position is not None:
        position = _at_change_of_parity(_parities(samples, made), position)
    return Knee(
        is_judged=len(made) >= FEWEST_CONNECTIONS,
        connection=None if position is None else int(made[position]) + 1,
        in_use=None if position is None else _connected_before(samples, int(made[position])),
        first_failed=None if first_failed is None else first_failed + 1,
        in_use_at_failure=None if first_failed is None else _connected_before(samples, first_failed),
    )


def _connected_before(samples: Samples, attempt: int) -> int:
    return attempt - int(samples.failed[:attempt].sum())


def _parities(samples: Samples, made: Numbers) -> Numbers:
    """The parity of each attempt's port; an attempt given up has no port, and takes that of the connection before."""
    own = np.where(samples.failed[made], 0, np.arange(len(made)))
    parities: Numbers = samples.port[made][np.maximum.accumulate(own)] % 2
    return parities


def _turn(is_slow: Mask) -> int | None:
    """Position of the first slow connection from which on the rolling median is slow, to the end.

    A median over an odd number of values lies above a limit exactly if more than half of the values do: so a running
    count finds it in one pass. A lone outlier beside the turn can move the rolling median's turn by some positions: the
    position is that of the first connection at or after the turn that is slow itself.
    """
    if len(is_slow) < FEWEST_CONNECTIONS:
        return None
    half = rolling_width(len(is_slow)) // 2
    counts = np.concatenate(([0], np.cumsum(is_slow)))
    width = 2 * half + 1
    median_is_slow = counts[width:] - counts[:-width] > half
    if not median_is_slow[-1]:
        return None
    still_fast = np.flatnonzero(~median_is_slow)
    turned = (int(still_fast[-1]) + 1 if len(still_fast) else 0) + half
    return turned + int(np.argmax(is_slow[turned:]))


def _at_change_of_parity(parity: Numbers, turned: int) -> int:
    """The position where the ports' parity changes, if it changes exactly once near the turn; else the turn.

    The last free ports of the first half are far apart, so that the search for each of them is long already. That moves
    the turn of the rolling median forward by some connections.
    """
    width = rolling_width(len(parity))
    first = max(0, turned - width)
    changes = np.flatnonzero(np.diff(parity[first : turned + width].astype(np.int8)))
    return first + int(changes[0]) + 1 if len(changes) == 1 else turned


@dataclass(frozen=True, slots=True)
class Trend:
    """Median acquire times of the connections of a filling, in ns; None for a part without a connection.

    In flight they are without the handshake, in which a path would hide the search.

    The connections of all rounds count, each by its place in its own round.

    Attributes:
        knee: The knee of the filling.
        held: Connections over the ports of the knee.
        before_ns: The median before the knee, and `after_ns` from there on; None without a knee.
        median_ns: The median of all connections.
        first_ns: The median of the first 5 %, and `last_ns` of the last 5 %.
    """

    knee: Knee
    held: int
    before_ns: float | None
    after_ns: float | None
    median_ns: float | None
    first_ns: float | None
    last_ns: float | None

    @property
    def grows(self) -> bool:
        """Whether the last connections took longer than the first."""
        return self.first_ns is not None and self.last_ns is not None and self.last_ns > GROWTH * self.first_ns


@lru_cache(maxsize=32)
def find_trend(strategy: StrategyResult) -> Trend:
    """How the acquire time changed during the filling of a strategy."""
    had = [r.samples.calls_ns[~r.samples.failed] for r in strategy.rounds]
    knee = find_knee(strategy)
    before_ns, after_ns = medians_around_knee(strategy)
    return Trend(
        knee=knee,
        held=knee.held or max(map(len, had)),
        before_ns=before_ns,
        after_ns=after_ns,
        median_ns=_median(had),
        first_ns=_median([acquire[: _part(acquire)] for acquire in had]),
        last_ns=_median([acquire[len(acquire) - _part(acquire) :] for acquire in had]),
    )


def medians_around_knee(strategy: StrategyResult, times: str = "calls_ns") -> tuple[float | None, float | None]:
    """Medians of the times of connections before and after each round's own knee, in the rounds that have one.

    Attempts given up count, as they do for the knee.

    Args:
        strategy: A filling.
        times: The attribute of `Samples` with the times.

    Returns:
        In ns, None for a part without a connection.
    """
    before, after = [], []
    for measured in (first_address(strategy) or strategy).rounds:
        samples, knee = measured.samples, knee_of(measured.samples).connection
        if knee is not None:
            made, values = ~samples.failed | samples.given_up, getattr(samples, times)
            before.append(values[: knee - 1][made[: knee - 1]])
            after.append(values[knee - 1 :][made[knee - 1 :]])
    return _median(before), _median(after)


def _part(acquire: Numbers) -> int:
    return min(len(acquire), max(1, int(len(acquire) * BASELINE_SHARE)))


def _median(parts: list[Numbers]) -> float | None:
    values = np.concatenate(parts) if parts else np.empty(0)
    return float(np.median(values)) if len(values) else None
