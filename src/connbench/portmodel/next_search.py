"""What the next connect() probes, from the ports that are in use now: the mean over the places where it can begin.

The kernel begins a search at a place that no program can read. Two means are known without it:

Over all places it is exact, without a walk: a search that begins within a run of L ports in use probes 1 to L of them
before the free port behind the run, L(L + 1)/2 in all. So begin searches in random windows.

Searches of the whole range follow one another: each begins behind the port that the last one found. These enter a run
at its first ports, once each time round the range, however long it is. Where runs are long, as when a range is nearly
full, the mean of these is a small part of the other.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import StrEnum
from functools import partial

import numpy as np
import numpy.typing as npt

from connbench.draws import mix
from connbench.model import PortRange
from connbench.portmodel.kernel_search import JITTER_SHIFT, U32, EveryPort, ParityFirst, TcpPortSpace, tcp_port_spaces

Places = npt.NDArray[np.int64]
Mask = npt.NDArray[np.bool_]
Sums = npt.NDArray[np.int64]
"""The ports that searches probe, the searches that fail, and those that end in the second half: a row each."""


SAMPLES = 1000
"""Searches of a sample, where there is no sum over all."""


WALKS, LEAD = 1024, 32
"""The walks that follow searches, and the places that each walks before the stretch of places where it counts."""


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
        following: The same for searches that follow one another round the range, each of whose ports is given back; in
            windows, and where no port is free, `ports_probed`.
        failing: The share of the searches that find no port, 0 to 1.
        free: The free ports of the range.
        first_parity_free: Those of the parity of the low end.
        half: Where most searches end; None if the search prefers no parity.
    """

    ports_probed: float
    following: float
    failing: float
    free: int
    first_parity_free: int
    half: Half | None


def next_search(
    ports: PortRange,
    in_use: npt.ArrayLike,
    search: type[EveryPort | ParityFirst],
    window: int | None = None,
    step_width: int = 0,
) -> NextSearch:
    """Count what the next search probes.

    Args:
        ports: The range.
        in_use: The ports that the search passes over, reserved ones included, ascending, each once; those outside the
            range do not matter.
        search: The order in which the kernel probes; `search_of_connect` gives it.
        window: The ports of a window within the range, all equally likely, in which the search takes place; None for
            the whole range. A window of more ports than the range is the range.
        step_width: net.ipv4.ip_local_port_step_width. Unless it is 0, each search draws the distance between its
            probes, and the figures are those of `SAMPLES` searches: the mean is then off by about 3 %.
    """
    passed: Places = np.asarray(in_use, dtype=np.int64) - ports.low
    passed = passed[(passed >= 0) & (passed < len(ports))]
    is_odd = passed % 2 == 1
    length = min(window or len(ports), len(ports))
    windows = len(ports) - length + 1
    walk, places = None, 0
    if step_width:
        [space] = tcp_port_spaces(
            ports, [0], search, reserved=frozenset((passed + ports.low).tolist()), step_width=step_width
        )
        searches = SAMPLES
        probed, failing, second = map(sum, zip(*_sample(space, ports.low, windows, length), strict=True))
    elif issubclass(search, ParityFirst):
        lines = _Line(passed[~is_odd] // 2, len(ports)), _Line(passed[is_odd] // 2, len(ports))
        cuts = _cuts(lines, length // 2)
        of_parities = (
            _sum(partial(_parity_first, lines, parity, length), cuts, (windows + 1 - parity) // 2) for parity in (0, 1)
        )
        probed, failing, second = map(sum, zip(*of_parities, strict=True))
        searches = max(1, length // 2) * windows
        walk, places = partial(_probed_by_parities, lines, length), max(1, length // 2)
    else:
        line = _Line(passed, len(ports))
        step = search.grain if length % search.grain == 0 else 1  # else a multiple of the grain is any place at last
        probed, failing, second = _sum(partial(_every_port, line, step, length), _cuts((line,), length), windows)
        searches = length // step * windows
        walk, places = partial(line.probed_from, begin=np.array(0), length=length), length
    ends = {Half.FIRST: searches - failing - second, Half.SECOND: second, Half.NONE: failing}
    return NextSearch(
        ports_probed=float(probed / searches),
        following=_following(walk, places, search) if walk and windows == 1 and not failing else probed / searches,
        failing=float(failing / searches),
        free=len(ports) - len(passed),
        first_parity_free=(len(ports) + 1) // 2 - int(np.count_nonzero(~is_odd)),
        half=max(ends, key=ends.__getitem__) if issubclass(search, ParityFirst) else None,
    )


def _following(probed_from: Callable[[Places], Places], places: int, search: type[EveryPort | ParityFirst]) -> float:
    """The mean of what searches probe that follow one another, once round the places.

    Stretches of the places are walked all at once, and each counts the searches that begin in it. A walk begins before
    its stretch: after a few searches it is anywhere that one could be which came from afar.

    Args:
        probed_from: What a search from each of some places probes; it finds a port.
        places: The number of places where a search can begin.
        search: The order in which the kernel probes.
    """
    grain, has_jitter = (1, True) if issubclass(search, ParityFirst) else (search.grain, search.has_jitter)
    drawn = np.random.default_rng(1)
    stretches = max(1, min(WALKS, places // LEAD))
    bounds = np.linspace(0, places, stretches + 1).astype(np.int64)
    begin, end = (np.repeat(bound, WALKS // stretches) for bound in (bounds[:-1], bounds[1:]))
    place, probed, searches = begin - LEAD, 0, 0
    while len(place):
        found, is_counted = probed_from((place & -grain) % places), place >= begin
        probed += int(found[is_counted].sum())
        searches += int(np.count_nonzero(is_counted))
        steps = (found - 1) % places  # those through the parity of the port, if there are two
        if has_jitter:
            steps = np.maximum(steps, drawn.integers(U32 >> JITTER_SHIFT, size=len(steps)))
        place = place + (steps + grain & -grain)
        goes_on = place < end
        place, begin, end = place[goes_on], begin[goes_on], end[goes_on]
    return probed / searches


def _sample(space: TcpPortSpace, low: int, windows: int, length: int) -> Iterator[tuple[int, bool, bool]]:
    """Of searches in an even sample of windows: the ports probed, and whether it fails or ends in the second half."""
    for number in range(SAMPLES):
        drawn, space.start = divmod(mix(0, number), U32)
        first = low + windows * number // SAMPLES
        port = space.search(first, first + length - 1, drawn)
        yield space.ports_probed, not port, bool(port) and (port - first) % 2 == 1
        if port:
            space.release(port)


class _Line:
    """Places that a search goes through from one to the next, once round within bounds.

    Args:
        in_use: The places that are not free, ascending.
        places: As many places as there are, or more.
    """

    def __init__(self, in_use: Places, places: int) -> None:
        is_first = np.diff(in_use, prepend=-2) != 1
        # An empty run before all places is the one before those that no run comes before.
        self.begins: Places = np.append(-1, in_use[is_first])
        self.ends: Places = np.append(-1, in_use[np.roll(is_first, -1)] + 1)
        self._lengths: Places = self.ends - self.begins
        runs = self._lengths * (self._lengths + 1) // 2
        self._steps: Places = np.cumsum(runs) - runs
        # The last run that begins at each place or before it.
        self._run: Places = np.repeat(np.arange(len(runs)), np.diff(self.begins[1:], prepend=0, append=places))

    def has_free(self, begin: Places, length: int) -> Mask:
        """Whether a place is free within each of some bounds, all of one length."""
        found: Mask = self.ends[self._run[begin]] < begin + length
        return found

    def probed_from(self, first: Places, begin: Places, length: int) -> Places:
        """What a search probes from a place on, within each of some bounds."""
        end = begin + length
        found = np.maximum(self.ends[self._run[first]], first)
        wrapped = np.maximum(self.ends[self._run[begin]], begin)
        after_wrap = end - first + wrapped - begin + 1
        probed: Places = np.where(found < end, found - first + 1, np.where(wrapped < end, after_wrap, length))
        return probed

    def probed_from_all(self, begin: Places, length: int) -> Places:
        """What the searches probe that begin at each place, in all, within each of some bounds."""
        end = begin + length
        first, last = self._run[begin], self._run[end - 1]
        leading = np.maximum(self.ends[first] - begin, 0)
        wrapping = np.where(self.ends[last] >= end, end - self.begins[last], 0)  # go on to the leading ones
        steps = self._before(end - wrapping, last) - self._before(begin, first)
        steps += wrapping * (wrapping + 1) // 2 + wrapping * leading
        probed: Places = np.where(leading < length, steps + length, length * length)
        return probed

    def _before(self, place: Places, run: Places) -> Places:
        """The steps to the next free place from each place before this one, whose `run` is this."""
        passed, length = np.minimum(place, self.ends[run]) - self.begins[run], self._lengths[run]
        steps: Places = self._steps[run] + passed * length - passed * (passed - 1) // 2
        return steps


def _every_port(line: _Line, step: int, length: int, begin: Places) -> Sums:
    """For windows that begin at these places of the range, a row each for the fields of `Sums`."""
    if step == 1:
        probed = line.probed_from_all(begin, length)
    else:
        probed = line.probed_from(begin[:, None] + np.arange(0, length, step), begin[:, None], length).sum(axis=1)
    failing = np.where(line.has_free(begin, length), 0, length // step)
    return np.array((probed, failing, np.zeros_like(probed)))


def _parity_first(lines: tuple[_Line, _Line], parity: int, length: int, number: Places) -> Sums:
    """The same for the searches of `ParityFirst.search`.

    Args:
        lines: The places of each parity of the range.
        parity: The parity at which the windows begin, 0 for that of the low end.
        length: The ports of a window.
        number: The numbers of the windows, in their order.
    """
    first, second = lines[parity], lines[1 - parity]
    half, other = max(1, length // 2), number + parity
    # Of an odd number of ports, a search that begins at the first port leaves out the last; any other, the first.
    rest = number + (length % 2 if length > 1 else 0)
    of_first = first.probed_from(number, number, half)
    of_rest = first.probed_from_all(rest, half) - first.probed_from(number + (rest - number) * half, rest, half)
    goes_on, rest_goes_on = ~first.has_free(number, half), ~first.has_free(rest, half)
    if length == 1:
        return np.array((of_first, goes_on, np.zeros_like(number)))
    on = second.probed_from(other, other, half)
    going_on = goes_on + rest_goes_on * (half - 1)
    probed = of_first + of_rest + goes_on * on + rest_goes_on * (second.probed_from_all(other, half) - on)
    is_found = second.has_free(other, half)
    return np.array((probed, going_on * ~is_found, going_on * is_found))


def _probed_by_parities(lines: tuple[_Line, _Line], length: int, offset: Places) -> Places:
    """What a search of `ParityFirst.search` probes in the whole range from each of some offsets on."""
    (first, second), half = lines, max(1, length // 2)
    begin = length % 2 * (offset > 0) if length > 1 else offset
    other: Places = np.where(first.has_free(begin, half), 0, second.probed_from(offset, np.zeros_like(offset), half))
    return first.probed_from(offset, begin, half) + other


def _cuts(lines: tuple[_Line, ...], length: int) -> Places:
    """Where a bound of a window, or of one that lies a place on, passes an end of a run."""
    ends = np.concatenate([side for line in lines for side in (line.begins, line.ends)])
    return np.concatenate([ends - distance for distance in (0, 1, length - 1, length)])


def _sum(function: Callable[[Places], Sums], cuts: Places, number: int) -> list[int]:
    """Sum each row of a function's values over 0 to below a number.

    From one cut to the next it is a polynomial of degree 2 or less, which three of its values settle: that is quicker
    where cuts are few.
    """
    if 3 * len(cuts) >= number:
        return list(map(int, function(np.arange(number)).sum(axis=1)))
    begin = np.unique(np.append(cuts[(cuts > 0) & (cuts < number)], 0))
    many = np.diff(begin, append=number)
    one, two, three = (function(np.minimum(begin + step, number - 1)) for step in range(3))
    pairs = many * (many - 1) // 2
    sums: Sums = many * one + pairs * (two - one) + pairs * (many - 2) // 3 * (three - 2 * two + one)
    return list(map(int, sums.sum(axis=1)))
