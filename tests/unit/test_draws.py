"""The draws of each strategy for the loop."""

from __future__ import annotations

from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from connbench.draws import Draws, draw
from connbench.model import MAX_PORT, Placement, PortRange, StrategySpec
from connbench.strategies import DEFAULT_NAMES, STRATEGIES
from factories import PORTS, unhurried

SEEDS = st.integers(0, 2**32)
ATTEMPTS = st.integers(0, 200)


@st.composite
def ranges_with_window(draw: st.DrawFn) -> tuple[PortRange, int]:
    """A range, and a window that fits it."""
    low, high = sorted((draw(st.integers(1, MAX_PORT)), draw(st.integers(1, MAX_PORT))))
    ports = PortRange(low, high)
    return ports, draw(st.integers(1, len(ports)))


ranges = ranges_with_window().map(lambda both: both[0])


class Chosen(Random):
    """A generator whose next number the test chooses."""

    value = 0.0

    def random(self) -> float:
        """The chosen number."""
        return self.value


def generator(seed: int) -> Random:
    """A generator as the engine makes it."""
    return Random(seed)  # reproducible, not secret


def drawn_by(
    spec: StrategySpec,
    ports: PortRange,
    attempts: int,
    rng: Random | None = None,
    reserved: frozenset[int] = frozenset(),
) -> Draws:
    """The draws of a strategy."""
    return draw(spec, ports, attempts, rng or generator(1), reserved)


def window_spec(width: int, placement: Placement = Placement.INSIDE, retries: int = 0) -> StrategySpec:
    """A `window` strategy."""
    return StrategySpec("window", width, placement, retries)


def unpacked(value: int) -> PortRange:
    """The window that a value of IP_LOCAL_PORT_RANGE stands for."""
    return PortRange(value & 0xFFFF, value >> 16)


def test_partition_has_an_attempt_for_each_port_that_is_not_reserved() -> None:
    """The search passes over reserved ports: an attempt for one would fail while other windows have free ports."""
    ports, reserved = PortRange(10, 21), frozenset({10, 14, 15, 16, 17, 21, 30})
    made = drawn_by(StrategySpec("partition", 4), ports, 8, reserved=reserved)
    assert [unpacked(value) for value in made.first] == [PortRange(10, 13)] * 3 + [PortRange(18, 21)] * 3 + [
        PortRange(10, 13)
    ] * 2
    nothing_left = drawn_by(StrategySpec("partition", 4), ports, 2, reserved=frozenset(range(10, 22)))
    assert [unpacked(value) for value in nothing_left.first] == [ports] * 2


@given(ranges_with_window(), ATTEMPTS, SEEDS)
@unhurried
def test_inside_window_is_whole_and_inside_the_range(drawn: tuple[PortRange, int], attempts: int, seed: int) -> None:
    """A window placed inside has exactly the ports asked for, all of the range, first try and retry alike."""
    ports, width = drawn
    made = drawn_by(window_spec(width), ports, attempts, generator(seed))
    for value in [*made.first, made.redraw(generator(seed + 1))]:
        assert len(unpacked(value)) == width
        assert ports.covers(unpacked(value))


@given(ranges_with_window(), ATTEMPTS, SEEDS)
@unhurried
def test_clipped_window_is_inside_the_range_and_never_too_wide(
    drawn: tuple[PortRange, int], attempts: int, seed: int
) -> None:
    """A clipped window has at most the ports asked for, all of the range, first try and retry alike."""
    ports, width = drawn
    made = drawn_by(window_spec(width, Placement.CLIPPED), ports, attempts, generator(seed))
    for value in [*made.first, made.redraw(generator(seed + 1))]:
        assert 1 <= len(unpacked(value)) <= width
        assert ports.covers(unpacked(value))


@pytest.mark.parametrize(
    ("count", "width"), [(1, 1), (2, 1), (2, 2), (5, 3), (8, 1), (8, 3), (8, 8), (12, 5), (12, 11)]
)
@pytest.mark.parametrize("low", [1, 40000, MAX_PORT - 11])
def test_every_port_lies_under_as_many_clipped_windows(low: int, count: int, width: int) -> None:
    """Of the count + width - 1 equally likely places of a clipped window, exactly `width` hold any given port."""
    ports = PortRange(low, low + count - 1)
    redraw = drawn_by(window_spec(width, Placement.CLIPPED), ports, 0).redraw
    places = count + width - 1
    rng, windows = Chosen(), []
    for place in range(places):
        rng.value = (place + 0.5) / places
        windows.append(unpacked(redraw(rng)))
    for port in range(ports.low, ports.high + 1):
        assert sum(port in window for window in windows) == width


@given(ranges_with_window())
@unhurried
def test_inside_windows_reach_both_ends(drawn: tuple[PortRange, int]) -> None:
    """The lowest and the highest number a generator has place the window at the ends of the range, not past them."""
    ports, width = drawn
    rng = Chosen()
    redraw = drawn_by(window_spec(width), ports, 0).redraw
    assert unpacked(redraw(rng)) == PortRange(ports.low, ports.low + width - 1)
    rng.value = 1 - 2**-53
    assert unpacked(redraw(rng)) == PortRange(ports.high - width + 1, ports.high)


@given(ranges_with_window())
@unhurried
def test_clipped_windows_begin_with_one_port_at_either_end(drawn: tuple[PortRange, int]) -> None:
    """A clipped window extends beyond the range until a single port of it is left, and no further."""
    ports, width = drawn
    rng = Chosen()
    redraw = drawn_by(window_spec(width, Placement.CLIPPED), ports, 0).redraw
    assert unpacked(redraw(rng)) == PortRange(ports.low, ports.low)
    rng.value = 1 - 2**-53
    assert unpacked(redraw(rng)) == PortRange(ports.high, ports.high)


def test_inside_places_are_equally_likely() -> None:
    """Each of the places inside a range is drawn for the same share of the generator's numbers."""
    ports, width, steps = PortRange(100, 109), 4, 70
    redraw = drawn_by(window_spec(width), ports, 0).redraw
    rng, lows = Chosen(), []
    for step in range(steps):
        rng.value = (step + 0.5) / steps
        lows.append(unpacked(redraw(rng)).low)
    assert {low: lows.count(low) for low in lows} == dict.fromkeys(range(100, 107), 10)


@pytest.mark.parametrize(
    ("count", "width", "attempts", "expected"),
    [
        (6, 2, 6, [(10, 11)] * 2 + [(12, 13)] * 2 + [(14, 15)] * 2),
        (5, 2, 5, [(10, 11)] * 2 + [(12, 13)] * 2 + [(14, 14)]),
        (3, 2, 7, [(10, 11), (10, 11), (12, 12), (10, 11), (10, 11), (12, 12), (10, 11)]),
        (4, 4, 2, [(10, 13)] * 2),
        (2, 1, 3, [(10, 10), (11, 11), (10, 10)]),
    ],
)
def test_partition_fills_window_after_window(
    count: int, width: int, attempts: int, expected: list[tuple[int, int]]
) -> None:
    """Each window gets one attempt for each of its ports, the last is narrower, and then it begins again."""
    made = drawn_by(StrategySpec("partition", width), PortRange(10, 9 + count), attempts)
    assert [(window.low, window.high) for window in map(unpacked, made.first)] == expected


@given(ranges_with_window())
@settings(unhurried, max_examples=30)
def test_partition_windows_follow_each_other(drawn: tuple[PortRange, int]) -> None:
    """In one filling of the range every window begins after the one before it, and together they are the range."""
    ports, width = drawn
    first = drawn_by(StrategySpec("partition", width), ports, len(ports)).first
    windows = list(map(unpacked, dict.fromkeys(first)))
    following = ports.low
    for window in windows:
        assert window.low == following
        assert list(first[window.low - ports.low : window.high - ports.low + 1]) == [
            window.low | window.high << 16
        ] * len(window)
        following = window.high + 1
    assert following == ports.high + 1
    assert all(len(window) == width for window in windows[:-1])
    assert 1 <= len(windows[-1]) <= width


@given(ranges, ATTEMPTS)
@unhurried
def test_range_is_always_the_whole_range(ports: PortRange, attempts: int) -> None:
    """Every attempt of `range` searches all of the range."""
    assert set(map(unpacked, drawn_by(StrategySpec("range"), ports, attempts).first)) <= {ports}


@given(ranges, ATTEMPTS, SEEDS)
@unhurried
def test_random_port_is_of_the_range(ports: PortRange, attempts: int, seed: int) -> None:
    """A drawn port is one of the range, first try and retry alike."""
    made = drawn_by(StrategySpec("random"), ports, attempts, generator(seed))
    assert all(port in ports for port in [*made.first, made.redraw(generator(seed + 1))])


@given(ranges)
@unhurried
def test_random_reaches_both_ends(ports: PortRange) -> None:
    """The lowest and the highest number a generator has are the ends of the range."""
    rng = Chosen()
    redraw = drawn_by(StrategySpec("random"), ports, 0).redraw
    assert redraw(rng) == ports.low
    rng.value = 1 - 2**-53
    assert redraw(rng) == ports.high


def specs_for(ports: PortRange) -> list[StrategySpec]:
    """Every strategy, in every placement, with a window that fits the range."""
    width = max(1, len(ports) // 3)
    return [
        StrategySpec("plain"),
        StrategySpec("bind"),
        StrategySpec("random"),
        StrategySpec("random", retries=0),
        window_spec(width),
        window_spec(width, Placement.CLIPPED, 2),
        StrategySpec("range"),
        StrategySpec("partition", width),
    ]


@given(ranges, ATTEMPTS, SEEDS)
@unhurried
def test_each_attempt_has_a_number_and_repeats_with_its_seed(ports: PortRange, attempts: int, seed: int) -> None:
    """Each attempt has its first number in advance, and the same seed gives the same numbers."""
    for spec in specs_for(ports):
        first = drawn_by(spec, ports, attempts, generator(seed)).first
        assert len(first) == attempts
        assert drawn_by(spec, ports, attempts, generator(seed)).first == first


def test_every_strategy_is_among_those_tested() -> None:
    """The property tests above draw from every strategy."""
    assert {spec.name for spec in specs_for(PORTS)} == set(STRATEGIES)


@pytest.mark.parametrize("spec", [StrategySpec("random"), window_spec(500), window_spec(500, Placement.CLIPPED)])
def test_other_seed_gives_other_draws(spec: StrategySpec) -> None:
    """A strategy that draws at random uses the generator that it gets."""
    one, other = (drawn_by(spec, PORTS, 50, generator(seed)).first for seed in (1, 2))
    assert one != other


@given(ranges_with_window(), ATTEMPTS, SEEDS, st.integers(1, 1000), st.sampled_from(Placement))
@unhurried
def test_first_draws_do_not_depend_on_retries(
    drawn: tuple[PortRange, int], attempts: int, seed: int, retries: int, placement: Placement
) -> None:
    """The number of retries changes no first draw."""
    ports, width = drawn
    pairs = [
        (window_spec(width, placement), window_spec(width, placement, retries)),
        (StrategySpec("random"), StrategySpec("random", retries=retries)),
    ]
    for without, with_retries in pairs:
        expected = drawn_by(without, ports, attempts, generator(seed)).first
        assert drawn_by(with_retries, ports, attempts, generator(seed)).first == expected


@given(ranges, SEEDS)
@unhurried
def test_longer_run_begins_like_a_shorter_one(ports: PortRange, seed: int) -> None:
    """More attempts add draws at the end and leave the first ones as they were."""
    for spec in specs_for(ports):
        short = drawn_by(spec, ports, 20, generator(seed)).first
        assert drawn_by(spec, ports, 50, generator(seed)).first[:20] == short


@pytest.mark.parametrize(
    ("spec", "tries"),
    [
        (window_spec(3), 1),
        (window_spec(3, retries=4), 5),
        (StrategySpec("window", 3, Placement.INSIDE), 1),
        (StrategySpec("random", retries=0), 1),
        (StrategySpec("random", retries=7), 8),
        (StrategySpec("random"), 1 + 20 * 10),
        (StrategySpec("plain"), 1),
        (StrategySpec("bind"), 1),
        (StrategySpec("range"), 1),
        (StrategySpec("partition", 3), 1),
    ],
)
def test_tries_are_one_more_than_retries(spec: StrategySpec, tries: int) -> None:
    """An attempt takes one try and its retries; by default `random` alone retries, 20 times a port of the range."""
    assert drawn_by(spec, PortRange(10, 19), 5).max_tries == tries


@pytest.mark.parametrize(
    ("name", "draws_port", "sets_port_range", "binds", "defers_port"),
    [
        ("plain", False, False, False, False),
        ("bind", False, False, True, True),
        ("random", True, False, True, False),
        ("window", False, True, True, True),
        ("range", False, True, True, True),
        ("partition", False, True, True, True),
    ],
)
def test_row_says_what_the_loop_does(
    name: str, *, draws_port: bool, sets_port_range: bool, binds: bool, defers_port: bool
) -> None:
    """The strategy says what a number means, whether bind() is called, and whether it leaves the port to connect()."""
    row = STRATEGIES[name]
    assert (row.draws_port, row.sets_port_range) == (draws_port, sets_port_range)
    assert (row.chooses_source, row.defers_port) == (binds, defers_port)


@pytest.mark.parametrize("name", ["window", "partition"])
def test_window_strategy_without_a_window_is_refused(name: str) -> None:
    """A strategy with windows needs a width to draw them."""
    with pytest.raises(ValueError, match=f"{name} needs a window"):
        drawn_by(StrategySpec(name), PORTS, 1)


def test_default_strategies_exist() -> None:
    """The strategies that connbench measures without --strategy are in the table."""
    assert set(DEFAULT_NAMES) <= set(STRATEGIES)
    assert all(name == strategy.name for name, strategy in STRATEGIES.items())
