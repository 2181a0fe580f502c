"""The knee: where connections turn slow for good, and where the first one fails."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np
import numpy.typing as npt

from connbench.model import Phase, Spread, StrategySpec
from connbench.model.half import FEWEST, NARROWEST, can_show_half, rolling_width
from connbench.results.result import Mask, Numbers, Samples, StrategyResult

BASELINE_SHARE = 0.05
"""The baseline is the median of so many first connections: long before any search has to go far."""

SLOWDOWN = 3.0
"""Times the baseline above which a connection counts as slow."""

STEP, STRETCH = 2.0, 0.02
"""At a step the rolling median doubles within one connection in fifty.

Growth along a line takes longer: its baseline lies at 2.5 % of the connections, twice that at 5 % at the earliest.
"""

RUNGS = 4
"""Heights in each doubling at which a step is looked for: one of 2.4 times is found at whatever height it begins."""

TAIL = 0.05
"""Share of the connections that come after a step on top of growth: growth that speeds up is as steep at its end."""

SPEEDS_UP = 0.75
"""Growth speeds up where from 3 to 6 x the baseline takes at most so much of what from 1.5 to 3 x took.

Tries of a strategy that draws ports grow as 1 / (1 - share in use): each doubling takes half of the one before.
Exponential growth takes as much as before, growth along a line twice as much.
"""

GROWTH = 1.5
"""Times the baseline above which the last 5 % of the connections are said to have become slower."""

PARTS, STEADILY = 20, 0.9
"""Growth is steady where the medians of so many parts rise with such a rank correlation; a step at half has 0.75."""


@dataclass(frozen=True, slots=True)
class Knee:
    """Where one round turned slow, and where it first failed; attempts are counted from 1.

    Attributes:
        baseline_ns: The median latency of the first 5 % of the connections; 0 without any.
        last_ns: That of the last 5 %; 0 without any.
        is_judged: Whether there were connections enough to look for a knee.
        is_growing: Whether the connections became slower all the way, and not by a step.
        connection: The first attempt from which on the rolling median stays above 3 x the baseline, or the change of
            parity right beside it; on top of growth, the first after a step. None where it does not, or grows steadily.
        in_use: Connections held already when that attempt was made.
        first_failed: The first attempt that failed; one given up is none, for it shows no want of ports.
        in_use_at_failure: Connections held already when that attempt was made.
        ports: How many ports the connections were to fill; None if the range is not known. Where each address is used
            up before the next (`Spread.FILL`), ports, connections and the knee are the first one's: `is_of_first`.
        held: The connections that these ports can be said to hold: of the fullest source (and target, where a port is
            taken for one), as often as there are such; 0 if the range is not known.
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
        """The share of the ports in use at the knee; None without a knee, or where the ports are not known."""
        return None if self.in_use is None or not self.ports else self.in_use / self.ports

    @property
    def limit_ns(self) -> float:
        """The latency above which the rolling median shows the knee."""
        return SLOWDOWN * self.baseline_ns


@lru_cache(maxsize=32)
def find_knee(result: StrategyResult) -> Knee:
    """The knee and the first failure of a strategy; of several rounds the middle ones, each by the attempt it lies at.

    Rounds without count as if it came after the last attempt. With an even number the earlier of the two in the middle
    is taken. Churn has none: its range is as full at the end as at the beginning.
    """
    if result.strategy.phase is Phase.CHURN:
        return Knee()
    first = first_address(result)
    knee = _middle([knee_of(r.samples) for r in (first or result).rounds], lambda knee: knee.connection)
    failure = _middle([knee_of(r.samples) for r in result.rounds], lambda knee: knee.first_failed)
    return replace(
        _reaching(knee, first or result),
        first_failed=failure.first_failed,
        in_use_at_failure=failure.in_use_at_failure,
        is_of_first=first is not None,
    )


def is_unseen(strategy: StrategySpec, knee: Knee, kernel: str = "") -> bool:
    """Whether a run without a knee tells nothing of one: too few ports were in use for a search that has one.

    The one judgement of verdict, next step, tables and lines. A gate is stricter: it asks the same of every strategy.
    """
    too_few = knee.is_judged and knee.connection is None and knee.shows_half is False
    return too_few and strategy.searches_one_parity_first(kernel)


def first_address(result: StrategyResult) -> StrategyResult | None:
    """The attempts of the first source (and target), where each is used up before the next; else None.

    Addresses that are taken in turn are equally full at any time: there the ports of all are as one range.
    """
    if result.spread is not Spread.FILL or not result.ports_each or result.capacity == result.ports_each:
        return None
    rounds = tuple(
        replace(r, samples=r.samples.chosen(of_first_address(r.samples, result.strategy))) for r in result.rounds
    )
    return replace(result, rounds=rounds, capacity=result.ports_each)


def of_first_address(samples: Samples, strategy: StrategySpec) -> Mask:
    """Which attempts are from the first source, and to the first target where a port is taken for one."""
    mask: Mask = samples.source == 0
    return mask & (samples.target == 0) if strategy.has_ports_per_target else mask


def _reaching(knee: Knee, result: StrategyResult) -> Knee:
    """With the ports, and whether enough were in use; of several rounds the middle one, as of the knee."""
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

    Failed attempts are left out of baseline and rolling median: what they cost is not a connection's cost. Those given
    up count: the knee is where they begin.
    """
    made = _made(samples)
    latency = samples.latency_ns[made]
    part = max(1, int(len(latency) * BASELINE_SHARE))
    baseline, last = (float(np.median(some)) if len(some) else 0.0 for some in (latency[:part], latency[-part:]))
    found = _knee(samples, made, _step(latency, baseline))
    is_growing = found.is_judged and found.connection is None and last > GROWTH * baseline and _is_steady(latency)
    return replace(found, baseline_ns=baseline, last_ns=last, is_growing=is_growing)


def _step(latency: Numbers, baseline: float) -> int | None:
    """Position of the first slow connection; None where none stays slow, or all become slower steadily."""

    def passed(times: float) -> int | None:
        return _turn(latency > times * baseline)

    def is_step(height: float, position: int) -> bool:
        """Whether half of the height is passed just before the position, and not from the start."""
        half = passed(height / STEP) or 0
        return half > rolling_width(len(latency)) // 2 and position - half <= stretch

    slow = passed(SLOWDOWN)
    if slow is None or not baseline:
        return slow
    stretch = max(NARROWEST // 2, int(STRETCH * len(latency)))
    if is_step(SLOWDOWN, slow):
        return slow
    height = STEP * 2 ** (1 / RUNGS)
    while (position := passed(height)) is not None and position <= (1 - TAIL) * len(latency):
        if is_step(height, position):
            return position
        height *= 2 ** (1 / RUNGS)
    before, doubled = passed(SLOWDOWN / STEP) or 0, passed(STEP * SLOWDOWN)
    return slow if doubled is not None and doubled - slow <= SPEEDS_UP * (slow - before) else None


def _is_steady(latency: Numbers) -> bool:
    """Whether the medians of consecutive parts rise all the way, by Spearman's rank correlation."""
    medians = np.array([np.median(part) for part in np.array_split(latency, PARTS)])
    ranks = medians.argsort(kind="stable").argsort(kind="stable")
    return float(np.corrcoef(np.arange(PARTS), ranks)[0, 1]) >= STEADILY


def knee_of_searches(samples: Samples, looked_at: npt.NDArray[np.int64], ports: int) -> Knee:
    """The knee where it is known what each attempt looked at, and not what that takes.

    It is the first connection from which on the rolling median of the ports looked at is more than half of the range,
    to the end: that is what every search comes to once the parity it begins with is full, and no other does so soon.

    Args:
        samples: One round; its times do not matter.
        looked_at: Ports that each attempt looked at.
        ports: Of the range.
    """
    made = _made(samples)
    return _knee(samples, made, _turn(looked_at[made] > ports // 2))


def _made(samples: Samples) -> Numbers:
    """The attempts that count for a knee."""
    return np.flatnonzero(~samples.failed | samples.given_up)


def _knee(samples: Samples, made: Numbers, position: int | None) -> Knee:
    failures = np.flatnonzero(samples.failed & ~samples.given_up)
    first_failed = int(failures[0]) if len(failures) else None
    if position is not None:
        position = _at_change_of_parity(_parities(samples, made), position)
    return Knee(
        is_judged=len(made) >= FEWEST,
        connection=None if position is None else int(made[position]) + 1,
        in_use=None if position is None else _connected_before(samples, int(made[position])),
        first_failed=None if first_failed is None else first_failed + 1,
        in_use_at_failure=None if first_failed is None else _connected_before(samples, first_failed),
    )


def _connected_before(samples: Samples, attempt: int) -> int:
    return attempt - int(samples.failed[:attempt].sum())


def _parities(samples: Samples, made: Numbers) -> Numbers:
    """The parity of each attempt's port; of those given up, which have none, that of the connection before."""
    own = np.where(samples.failed[made], 0, np.arange(len(made)))
    parities: Numbers = samples.port[made][np.maximum.accumulate(own)] % 2
    return parities


def _turn(is_slow: Mask) -> int | None:
    """Position of the first slow connection from which on the rolling median is slow, to the end.

    A median over an odd number lies above a limit exactly if more than half of the values do: so a running count does,
    in one pass. The rolling median can turn some positions early or late where a lone outlier stands beside the turn;
    the first connection at or after it that is itself slow is meant.
    """
    if len(is_slow) < FEWEST:
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
    """Where the ports' parity changes once and for all near the turn, the knee is there.

    The last ports of the first half are few and far between: the search for each of them is long already, which moves
    the rolling median's turn forward by some connections.
    """
    width = rolling_width(len(parity))
    first = max(0, turned - width)
    changes = np.flatnonzero(np.diff(parity[first : turned + width].astype(np.int8)))
    return first + int(changes[0]) + 1 if len(changes) == 1 else turned


@dataclass(frozen=True, slots=True)
class Trend:
    """Median acquire times of the connections of a filling, in ns; None without a connection in that part of it.

    With several rounds the connections of all of them count, each by its own round's order.

    Attributes:
        knee: Where it turned slow, and of how many ports.
        held: Connections over the ports of the knee.
        before_ns: The median before the knee, and `after_ns` from there on; None without a knee.
        median_ns: That of all connections.
        first_ns: That of the first 5 %, and `last_ns` of the last 5 %.
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
    """How the filling of a strategy went on."""
    had = [r.samples.acquire_ns[~r.samples.failed] for r in strategy.rounds]
    knee = find_knee(strategy)
    fast, slow = _around_knees(first_address(strategy) or strategy)
    return Trend(
        knee=knee,
        held=knee.held or max(map(len, had)),
        before_ns=_median(fast),
        after_ns=_median(slow),
        median_ns=_median(had),
        first_ns=_median([acquire[: _part(acquire)] for acquire in had]),
        last_ns=_median([acquire[len(acquire) - _part(acquire) :] for acquire in had]),
    )


def _around_knees(strategy: StrategyResult) -> tuple[list[Numbers], list[Numbers]]:
    """The acquire times before and after each round's own knee, of the rounds that have one.

    What was given up counts, as it does for the knee.
    """
    before, after = [], []
    for measured in strategy.rounds:
        samples, knee = measured.samples, knee_of(measured.samples).connection
        if knee is not None:
            made = ~samples.failed | samples.given_up
            before.append(samples.acquire_ns[: knee - 1][made[: knee - 1]])
            after.append(samples.acquire_ns[knee - 1 :][made[knee - 1 :]])
    return before, after


def _part(acquire: Numbers) -> int:
    return min(len(acquire), max(1, int(len(acquire) * BASELINE_SHARE)))


def _median(parts: list[Numbers]) -> float | None:
    values = np.concatenate(parts) if parts else np.empty(0)
    return float(np.median(values)) if len(values) else None
