"""What the next connect() probes, from the ports that are in use now: the mean over all places where it can begin.

The kernel begins a search at a place that no program can read. So this is a mean over all of them, exact and without a
walk: a search that begins within a run of L ports in use probes 1 to L of them before the free port behind the run,
L(L + 1)/2 in all. Searches that follow one another do not begin anywhere: each begins behind the port that the last one
found, and those probe a little less.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

import numpy as np
import numpy.typing as npt

from connbench.model import PortRange
from connbench.portmodel.kernel_search import EveryPort, ParityFirst

Places = npt.NDArray[np.int64]
Mask = npt.NDArray[np.bool_]


class Half(StrEnum):
    """Where a search ends that probes all ports of one parity before the others."""

    FIRST = "first"
    SECOND = "second"
    NONE = "none"
    """It finds no port."""


@dataclass(frozen=True, slots=True)
class NextSearch:
    """The next search, in the mean over all places where it can begin, and over all windows that can be drawn.

    Attributes:
        ports_probed: The ports that it probes, reserved ones and the one that it takes included.
        failing: The share of the searches that find no port, 0 to 1.
        free: The free ports of the range.
        first_parity_free: Those of the parity of the low end.
        half: Where most searches end; None if the search prefers no parity.
    """

    ports_probed: float
    failing: float
    free: int
    first_parity_free: int
    half: Half | None


def next_search(
    ports: PortRange, in_use: npt.ArrayLike, search: type[EveryPort | ParityFirst], window: int | None = None
) -> NextSearch:
    """Count what the next search probes.

    Args:
        ports: The range.
        in_use: The ports that the search passes over, reserved ones included, in any order; those outside the range do
            not matter.
        search: The order in which the kernel probes; `search_of_connect` gives it.
        window: The ports of a window within the range, all equally likely, in which the search takes place; None for
            the whole range. A window of more ports than the range is the range.
    """
    is_free = np.ones(len(ports), dtype=np.bool_)
    passed = np.asarray(in_use, dtype=np.int64) - ports.low
    is_free[passed[(passed >= 0) & (passed < len(ports))]] = False
    length = min(window or len(ports), len(ports))
    begins = np.arange(len(ports) - length + 1)
    if issubclass(search, ParityFirst):
        lines = _Line(is_free[::2]), _Line(is_free[1::2])
        probed, failing, second = np.array(
            [_parity_first(lines, begins[parity::2], length, parity) for parity in (0, 1)]
        ).sum(axis=0)
        starts = max(1, length // 2) * len(begins)
    else:
        probed, failing, starts = _every_port(_Line(is_free), begins, length, search.grain)
        second = None
    return NextSearch(
        ports_probed=float(probed / starts),
        failing=float(failing / starts),
        free=int(np.count_nonzero(is_free)),
        first_parity_free=int(np.count_nonzero(is_free[::2])),
        half=None if second is None else _half(starts, failing, second),
    )


def _half(starts: int, failing: int, second: int) -> Half:
    ends = {Half.FIRST: starts - failing - second, Half.SECOND: second, Half.NONE: failing}
    return max(ends, key=ends.__getitem__)


class _Line:
    """Places that a search goes through from one to the next, once round within bounds.

    Args:
        is_free: Whether each place is free.
    """

    def __init__(self, is_free: Mask) -> None:
        many = len(is_free)
        places = np.arange(many)
        following = np.minimum.accumulate(np.where(is_free, places, many)[::-1])[::-1]
        self._next: Places = np.append(following, many)
        self._last: Places = np.maximum.accumulate(np.where(is_free, places, -1))
        self._steps: Places = np.concatenate(([0], np.cumsum(following - places)))

    def has_free(self, begin: Places, length: int) -> Mask:
        """Whether a place is free within each of some bounds, all of one length."""
        found: Mask = self._next[begin] < begin + length
        return found

    def probed_from(self, first: Places, begin: Places, length: int) -> Places:
        """What a search probes from a place on, within each of some bounds."""
        end, found, wrapped = begin + length, self._next[first], self._next[begin]
        after_wrap = end - first + wrapped - begin + 1
        probed: Places = np.where(found < end, found - first + 1, np.where(wrapped < end, after_wrap, length))
        return probed

    def probed_from_all(self, begin: Places, length: int) -> Places:
        """What the searches probe that begin at each place, in all, within each of some bounds."""
        end = begin + length
        last = np.maximum(self._last[end - 1], begin)
        behind = end - 1 - last  # places whose search wraps, and goes on to the first free place
        wrapping = behind * (behind + 1) // 2 + behind * (self._next[begin] - begin)
        found = self._steps[last + 1] - self._steps[begin] + wrapping + length
        probed: Places = np.where(self.has_free(begin, length), found, length * length)
        return probed


def _every_port(line: _Line, begins: Places, length: int, grain: int) -> tuple[int, int, int]:
    """The ports probed, the searches that fail, and all searches, of every place where one can begin."""
    step = grain if length % grain == 0 else 1  # a multiple of the grain, modulo another length, is any place
    starts = length // step
    if step == 1:
        probed = line.probed_from_all(begins, length)
    else:
        probed = line.probed_from(begins[:, None] + np.arange(0, length, step), begins[:, None], length)
    failing = int(np.count_nonzero(~line.has_free(begins, length))) * starts
    return int(probed.sum()), failing, starts * len(begins)


def _parity_first(lines: tuple[_Line, _Line], begins: Places, length: int, parity: int) -> tuple[int, int, int]:
    """The ports probed, the searches that fail, and those that end in the second half; see `ParityFirst.search`.

    Args:
        lines: The places of each parity of the range.
        begins: Where windows begin in the range, all at one parity.
        length: The ports of a window.
        parity: That parity, the one that is probed first.
    """
    first, second = lines[parity], lines[1 - parity]
    begin, opposite = begins // 2, (begins + 1) // 2
    half = length // 2 or 1
    # Of an odd number of ports, a search that begins after the first port skips that one, any other the last.
    skipped = 1 if length % 2 and length > 1 else 0
    rest = begin + skipped
    probed = {
        0: first.probed_from(begin, begin, half),
        1: first.probed_from_all(rest, half) - first.probed_from(begin + skipped * half, rest, half),
    }
    total = failing = seconds = 0
    for later, bounds in ((0, begin), (1, rest)):
        goes_on = ~first.has_free(bounds, half)
        total += int(probed[later].sum())
        if length == 1:
            return total, int(np.count_nonzero(goes_on)), 0
        other = opposite[goes_on]
        of_first = second.probed_from(other, other, half)
        on = second.probed_from_all(other, half) - of_first if later else of_first
        found = second.has_free(other, half)
        searches = half - 1 if later else 1
        total += int(on.sum())
        seconds += int(np.count_nonzero(found)) * searches
        failing += int(np.count_nonzero(~found)) * searches
    return total, failing, seconds
