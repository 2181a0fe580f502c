"""What the next search probes, counted over the runs of ports in use, against searches from every place."""

from __future__ import annotations

from collections import Counter
from fractions import Fraction
from statistics import mean

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from connbench.model import PortRange
from connbench.portmodel.algorithm import Algorithm
from connbench.portmodel.kernel_search import (
    EveryPort,
    EveryPortBefore42,
    EveryPortFrom42,
    ParityFirst,
    TcpPortSpace,
    search_of_connect,
    tcp_port_spaces,
)
from connbench.portmodel.next_search import Half, NextSearch, next_search
from factories import unhurried

SEARCHES = st.sampled_from([ParityFirst, EveryPort, EveryPortBefore42, EveryPortFrom42])


def searched(space: TcpPortSpace, start: int, window: tuple[int, int]) -> tuple[int, Half]:
    """What a search from a start probes, and where it ends; the port is free again after it."""
    space.start = start
    port = space.search(*window, 0)
    if not port:
        return space.ports_probed, Half.NONE
    space.release(port)
    return space.ports_probed, Half.FIRST if (port - window[0]) % 2 == 0 else Half.SECOND


def walked(
    ports: PortRange, in_use: set[int], reserved: set[int], search: type[TcpPortSpace], window: int
) -> tuple[Fraction, Counter[Half], int]:
    """The mean of what searches probe from every start in every window, where they end, and how many they are."""
    [space] = tcp_port_spaces(ports, [0], search, reserved=frozenset(reserved))
    for port in in_use:
        assert space.take(port)
    starts = 2 * (max(1, window // 2) if search is ParityFirst else window)  # where each place is begun at as often
    found = [
        searched(space, start, (low, low + window - 1))
        for low in range(ports.low, ports.high - window + 2)
        for start in range(starts)
    ]
    return Fraction(sum(probed for probed, _ in found), len(found)), Counter(end for _, end in found), len(found)


@given(low=st.integers(100, 101), number=st.integers(1, 24), search=SEARCHES, data=st.data())
@unhurried
def test_closed_form_is_the_mean_of_every_start(
    low: int, number: int, search: type[EveryPort | ParityFirst], data: st.DataObject
) -> None:
    """Even and odd lengths, reserved ports, windows of any size, full ranges: equal to the search from each start."""
    ports = PortRange(low, low + number - 1)
    every = range(ports.low, ports.high + 1)
    in_use = set(data.draw(st.lists(st.sampled_from(every), max_size=2 * number)))
    reserved = data.draw(st.sets(st.sampled_from(every), max_size=3)) - in_use
    window = data.draw(st.none() | st.integers(1, number))
    passed = np.array(sorted(in_use | reserved), dtype=np.uint16)
    found = next_search(ports, passed, search, window)
    probed, ends, searches = walked(ports, in_use, reserved, search, window or number)
    assert found.ports_probed == pytest.approx(float(probed))
    assert found.failing == pytest.approx(ends[Half.NONE] / searches)
    assert found.free == number - len(passed)
    assert found.first_parity_free == sum(port not in passed for port in every[::2])
    assert (found.half is None) == (search is not ParityFirst)
    if found.half is not None:
        assert ends[found.half] == max(ends.values())


@given(
    low=st.integers(100, 101),
    number=st.integers(300, 400),
    search=st.sampled_from([ParityFirst, EveryPort]),
    runs=st.lists(st.tuples(st.integers(100, 500), st.integers(1, 60), st.integers(1, 2)), max_size=3),
    window=st.integers(2, 70),
)
@example(100, 400, EveryPort, [(210, 20, 1), (250, 20, 1)], 50)
@example(100, 400, ParityFirst, [(210, 40, 1)], 31)
@example(101, 400, ParityFirst, [(300, 40, 2)], 60)
@example(101, 399, ParityFirst, [(300, 40, 2)], 61)
@settings(deadline=None, max_examples=8)
def test_windows_of_a_nearly_free_range_are_counted_without_a_look_at_each(
    low: int, number: int, search: type[EveryPort | ParityFirst], runs: list[tuple[int, int, int]], window: int
) -> None:
    """The mean of all windows, where few places tell of the others, is that of each window's own range."""
    ports = PortRange(low, low + number - 1)
    passed = sorted({port for begin, many, step in runs for port in range(begin, begin + many * step, step)})
    found = next_search(ports, passed, search, window)
    each = [
        next_search(PortRange(begin, begin + window - 1), passed, search)
        for begin in range(ports.low, ports.high - window + 2)
    ]
    assert found.ports_probed == pytest.approx(mean(one.ports_probed for one in each))
    assert found.failing == pytest.approx(mean(one.failing for one in each))


@pytest.mark.parametrize("search", [ParityFirst, EveryPort])
@pytest.mark.parametrize("window", [None, 64])
@pytest.mark.parametrize("in_use", [range(100, 300), range(100, 612, 2), [*range(100, 302, 2), *range(301, 612)]])
def test_drawn_steps_are_sampled(
    search: type[EveryPort | ParityFirst], window: int | None, in_use: range | list[int]
) -> None:
    """A width of 1 leaves the order as it is, and the sample near the sum; a run costs fewer probes by long steps."""
    ports = PortRange(100, 611)
    every, one, wide = (next_search(ports, in_use, search, window, width) for width in (0, 1, 200))
    assert one.ports_probed == pytest.approx(every.ports_probed, rel=0.1)
    assert one.failing == pytest.approx(every.failing, abs=0.02)
    assert (one.free, one.first_parity_free) == (every.free, every.first_parity_free)
    assert wide.failing == pytest.approx(every.failing, abs=0.02)
    assert wide.ports_probed <= 1.1 * every.ports_probed
    if window is None:
        assert one.half == wide.half == every.half
        assert wide.ports_probed > (256 if every.half is Half.SECOND else 1)


def test_a_run_costs_fewer_probes_by_steps_of_random_length() -> None:
    """200 of 512 ports in a row: a search from port to port probes 40 in the mean, one with other steps few."""
    found = [
        next_search(PortRange(100, 611), range(100, 300), EveryPort, None, width).ports_probed for width in (1, 200)
    ]
    assert found[0] == pytest.approx(1 + 200 * 201 / 2 / 512, rel=0.1)
    assert 513 / 313 <= found[1] < found[0] / 4


@pytest.mark.parametrize("number", [1, 2, 7, 8])
def test_a_full_range_is_probed_whole_and_fails(number: int) -> None:
    """But for the port that the search by parities never reaches, where the number of ports is odd."""
    ports = PortRange(100, 99 + number)
    full = np.arange(99, 102 + number)  # ports outside the range do not matter
    half = max(1, number // 2)
    probed = 1 if number == 1 else 2 * half
    assert next_search(ports, full, ParityFirst) == NextSearch(probed, probed, 1, 0, 0, Half.NONE)
    assert next_search(ports, full, EveryPort) == NextSearch(number, number, 1, 0, 0, None)


def test_the_second_half_costs_the_whole_first() -> None:
    """Over the talk's range: half of the ports and one more, until ports of the other parity are in use, too."""
    ports = PortRange(9024, 65535)
    even = np.arange(9024, 65536, 2)
    assert next_search(ports, even, ParityFirst) == NextSearch(28_257, 28_257, 0, 28_256, 0, Half.SECOND)
    almost = next_search(ports, even[1:], ParityFirst)
    assert almost == NextSearch((28_256 + 1) / 2, 28_256, 0, 28_257, 1, Half.FIRST)
    nothing = next_search(ports, [], ParityFirst)
    assert nothing == NextSearch(1, 1, 0, 56_512, 28_256, Half.FIRST)


@pytest.mark.parametrize("level", [0.3, 0.501, 0.7, 0.95])
@pytest.mark.parametrize("algorithm", [Algorithm.PRE_4_2, Algorithm.FROM_4_2, Algorithm.PRE_6_8, Algorithm.FROM_6_8])
def test_filled_ranges_are_searched_as_predicted(level: float, algorithm: Algorithm) -> None:
    """Ports that searches filled, not chance: the next one from each start, in the mean, and the half it ends in."""
    ports, search = PortRange(20000, 21023), search_of_connect(algorithm, has_option=False)
    [space] = tcp_port_spaces(ports, [77], search)
    drawn = np.random.default_rng(1).integers(2**32, size=int(level * len(ports))).tolist()
    in_use = sorted(space.search(ports.low, ports.high, number) for number in drawn)
    found = next_search(ports, in_use, search)
    ends = [searched(space, start, (ports.low, ports.high)) for start in range(len(ports))]
    assert found.ports_probed == pytest.approx(mean(probed for probed, _ in ends))
    if found.half is not None:
        assert {half for _, half in ends} == {found.half} == {Half.FIRST if level < 0.5 else Half.SECOND}


@pytest.mark.parametrize("number", [1023, 1024])
@pytest.mark.parametrize("search", [ParityFirst, EveryPort])
@pytest.mark.parametrize("level", [0.05, 0.3, 0.49, 0.501, 0.7, 0.95])
def test_searches_that_follow_one_another_are_those_of_the_model(
    number: int, search: type[EveryPort | ParityFirst], level: float
) -> None:
    """Eight times round a range that the search filled: the mean of what each probes, whose port is then given back."""
    ports = PortRange(20000, 19999 + number)
    [space] = tcp_port_spaces(ports, [77], search)
    drawn = iter(np.random.default_rng(1).integers(2**32, size=9 * number).tolist())
    in_use = sorted(space.search(ports.low, ports.high, next(drawn)) for _ in range(int(level * number)))
    probed = []
    for _ in range(8 * number):
        port = space.search(ports.low, ports.high, next(drawn))
        space.release(port)
        probed.append(space.ports_probed)
    assert next_search(ports, in_use, search).following == pytest.approx(mean(probed), rel=0.05)


@pytest.mark.parametrize("search", [ParityFirst, EveryPort])
def test_a_long_run_is_entered_once_each_time_round(search: type[EveryPort | ParityFirst]) -> None:
    """900 ports of 1,000, one after the other: searches that follow one another begin in it by jitter alone."""
    ports, run = PortRange(20000, 20999), range(20050, 20950)
    [space] = tcp_port_spaces(ports, [0], search, reserved=frozenset(run))
    probed = []
    for drawn in np.random.default_rng(1).integers(2**32, size=5000).tolist():
        space.release(space.search(ports.low, ports.high, drawn))
        probed.append(space.ports_probed)
    found = next_search(ports, run, search)
    assert found.following == pytest.approx(mean(probed), rel=0.05)
    assert found.ports_probed > 5 * found.following
