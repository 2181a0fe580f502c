"""The draws of a round: each strategy's numbers, and the generator behind them."""

from __future__ import annotations

from array import array
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from connbench import draws
from connbench.draws import Draws, Kind, below, key_of, mix, order_of_ports
from connbench.model import (
    MAX_PORT,
    Churn,
    Endpoint,
    Load,
    Phase,
    Placement,
    PortRange,
    Reuse,
    RoundPlan,
    Spread,
    StrategySpec,
)
from connbench.strategies import DEFAULT_NAMES, STRATEGIES
from factories import PLAN, PORTS, unhurried

SEEDS = st.integers(0, 2**32)
ATTEMPTS = st.integers(0, 200)


@st.composite
def ranges_with_window(draw: st.DrawFn) -> tuple[PortRange, int]:
    """A range, and a window that fits it."""
    low, high = sorted((draw(st.integers(1, MAX_PORT)), draw(st.integers(1, MAX_PORT))))
    ports = PortRange(low, high)
    return ports, draw(st.integers(1, len(ports)))


ranges = ranges_with_window().map(lambda both: both[0])


class Chosen:
    """Stands in for `mix`: the bits that a test chooses, as a share of their range."""

    value = 0.0

    def __call__(self, _key: int, _row: int, _try: int = 0) -> int:
        """The chosen bits."""
        return int(self.value * 2**32) << 32


@pytest.fixture
def chosen(monkeypatch: pytest.MonkeyPatch) -> Chosen:
    """The bits of every draw."""
    bits = Chosen()
    monkeypatch.setattr(draws, "mix", bits)
    return bits


def drawn_by(
    spec: StrategySpec, ports: PortRange, seed: int = 1, reserved: frozenset[int] = frozenset(), number: int = 1
) -> Draws:
    """The draws of a strategy, from one source to one target."""
    return Draws.of(RoundPlan(replace(PLAN, port_range=ports, seed=seed), spec, number), reserved)


def firsts(made: Draws, attempts: int) -> list[int]:
    """The number of each attempt's first try."""
    return [made.number(row) for row in range(attempts)]


def window_spec(width: int, placement: Placement = Placement.INSIDE, retries: int = 0) -> StrategySpec:
    """A `window` strategy."""
    return StrategySpec("window", width, placement, retries)


def unpacked(value: int) -> PortRange:
    """The window that a value of IP_LOCAL_PORT_RANGE stands for."""
    return PortRange(value & 0xFFFF, value >> 16)


def test_partition_has_an_attempt_for_each_port_that_is_not_reserved() -> None:
    """The search passes over reserved ports: an attempt for one would fail while other windows have free ports."""
    ports, reserved = PortRange(10, 21), frozenset({10, 14, 15, 16, 17, 21, 30})
    made = drawn_by(StrategySpec("partition", 4), ports, reserved=reserved)
    assert [unpacked(value) for value in firsts(made, 8)] == [PortRange(10, 13)] * 3 + [PortRange(18, 21)] * 3 + [
        PortRange(10, 13)
    ] * 2
    nothing_left = drawn_by(StrategySpec("partition", 4), ports, reserved=frozenset(range(10, 22)))
    assert [unpacked(value) for value in firsts(nothing_left, 2)] == [ports] * 2


@given(ranges_with_window(), ATTEMPTS, SEEDS)
@unhurried
def test_inside_window_is_whole_and_inside_the_range(drawn: tuple[PortRange, int], attempts: int, seed: int) -> None:
    """A window placed inside has exactly the ports asked for, all of the range, first try and retry alike."""
    ports, width = drawn
    made = drawn_by(window_spec(width), ports, seed)
    for value in [*firsts(made, attempts), made.number(0, 1)]:
        assert len(unpacked(value)) == width
        assert ports.covers(unpacked(value))


@given(ranges_with_window(), ATTEMPTS, SEEDS)
@unhurried
def test_clipped_window_is_inside_the_range_and_never_too_wide(
    drawn: tuple[PortRange, int], attempts: int, seed: int
) -> None:
    """A clipped window has at most the ports asked for, all of the range, first try and retry alike."""
    ports, width = drawn
    made = drawn_by(window_spec(width, Placement.CLIPPED), ports, seed)
    for value in [*firsts(made, attempts), made.number(0, 1)]:
        assert 1 <= len(unpacked(value)) <= width
        assert ports.covers(unpacked(value))


@pytest.mark.parametrize(
    ("count", "width"), [(1, 1), (2, 1), (2, 2), (5, 3), (8, 1), (8, 3), (8, 8), (12, 5), (12, 11)]
)
@pytest.mark.parametrize("low", [1, 40000, MAX_PORT - 11])
def test_every_port_lies_under_as_many_clipped_windows(low: int, count: int, width: int, chosen: Chosen) -> None:
    """Of the count + width - 1 equally likely places of a clipped window, exactly `width` hold any given port."""
    ports = PortRange(low, low + count - 1)
    made = drawn_by(window_spec(width, Placement.CLIPPED), ports)
    places = count + width - 1
    windows = []
    for place in range(places):
        chosen.value = (place + 0.5) / places
        windows.append(unpacked(made.number(0)))
    for port in range(ports.low, ports.high + 1):
        assert sum(port in window for window in windows) == width


ONLY_FUNCTION = settings(unhurried, suppress_health_check=[HealthCheck.function_scoped_fixture])
"""The fixture is the same for all examples, and each sets its own value."""


@given(ranges_with_window())
@ONLY_FUNCTION
def test_inside_windows_reach_both_ends(chosen: Chosen, drawn: tuple[PortRange, int]) -> None:
    """The lowest and the highest bits place the window at the ends of the range, not past them."""
    ports, width = drawn
    made = drawn_by(window_spec(width), ports)
    chosen.value = 0.0
    assert unpacked(made.number(0)) == PortRange(ports.low, ports.low + width - 1)
    chosen.value = 1 - 2**-33
    assert unpacked(made.number(0)) == PortRange(ports.high - width + 1, ports.high)


@given(ranges_with_window())
@ONLY_FUNCTION
def test_clipped_windows_begin_with_one_port_at_either_end(chosen: Chosen, drawn: tuple[PortRange, int]) -> None:
    """A clipped window extends beyond the range until a single port of it is left, and no further."""
    ports, width = drawn
    made = drawn_by(window_spec(width, Placement.CLIPPED), ports)
    chosen.value = 0.0
    assert unpacked(made.number(0)) == PortRange(ports.low, ports.low)
    chosen.value = 1 - 2**-33
    assert unpacked(made.number(0)) == PortRange(ports.high, ports.high)


def test_inside_places_are_equally_likely(chosen: Chosen) -> None:
    """Each of the places inside a range is drawn for the same share of the bits."""
    ports, width, steps = PortRange(100, 109), 4, 70
    made = drawn_by(window_spec(width), ports)
    lows = []
    for step in range(steps):
        chosen.value = (step + 0.5) / steps
        lows.append(unpacked(made.number(0)).low)
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
    made = drawn_by(StrategySpec("partition", width), PortRange(10, 9 + count))
    assert [(window.low, window.high) for window in map(unpacked, firsts(made, attempts))] == expected


@given(ranges_with_window())
@settings(unhurried, max_examples=30)
def test_partition_windows_follow_each_other(drawn: tuple[PortRange, int]) -> None:
    """In one filling of the range every window begins after the one before it, and together they are the range."""
    ports, width = drawn
    first = firsts(drawn_by(StrategySpec("partition", width), ports), len(ports))
    windows = list(map(unpacked, dict.fromkeys(first)))
    following = ports.low
    for window in windows:
        assert window.low == following
        assert first[window.low - ports.low : window.high - ports.low + 1] == [window.low | window.high << 16] * len(
            window
        )
        following = window.high + 1
    assert following == ports.high + 1
    assert all(len(window) == width for window in windows[:-1])
    assert 1 <= len(windows[-1]) <= width


@given(ranges, ATTEMPTS)
@unhurried
def test_range_is_always_the_whole_range(ports: PortRange, attempts: int) -> None:
    """Every attempt of `range` searches all of the range."""
    assert set(map(unpacked, firsts(drawn_by(StrategySpec("range"), ports), attempts))) <= {ports}


@given(ranges, ATTEMPTS, SEEDS)
@unhurried
def test_random_port_is_of_the_range(ports: PortRange, attempts: int, seed: int) -> None:
    """A drawn port is one of the range, first try and retry alike."""
    made = drawn_by(StrategySpec("random"), ports, seed)
    assert all(port in ports for port in [*firsts(made, attempts), made.number(0, 1)])


@given(ranges)
@ONLY_FUNCTION
def test_random_reaches_both_ends(chosen: Chosen, ports: PortRange) -> None:
    """The lowest and the highest bits are the ends of the range."""
    made = drawn_by(StrategySpec("random"), ports)
    chosen.value = 0.0
    assert made.number(0) == ports.low
    chosen.value = 1 - 2**-33
    assert made.number(0) == ports.high


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
        StrategySpec("early"),
        StrategySpec("early", reuse=Reuse.ADDRESS),
        StrategySpec("sequential"),
        StrategySpec("sequential", first_port=ports.high),
        *(with_stride(ports, spec) for spec in ("random", "sequential", "range", "window")),
    ]


def with_stride(ports: PortRange, name: str) -> StrategySpec:
    """A strategy that takes every third port of a range, the first of them the high end."""
    window, placement, retries = (1, Placement.INSIDE, 0) if name == "window" else (None, None, None)
    return StrategySpec(name, window, placement, retries, stride=3, residue=ports.high % 3)


@given(ranges, ATTEMPTS, SEEDS)
@unhurried
def test_a_seed_gives_the_same_numbers_in_any_order(ports: PortRange, attempts: int, seed: int) -> None:
    """A number depends on no other draw, so a worker can begin at any row."""
    for spec in specs_for(ports):
        made, again = drawn_by(spec, ports, seed), drawn_by(spec, ports, seed)
        assert firsts(made, attempts) == [again.number(row) for row in reversed(range(attempts))][::-1]


@given(ranges, st.integers(1, 40), st.integers(0, 39), SEEDS, st.integers(0, 100))
@unhurried
def test_a_stride_leaves_the_ports_with_its_residue(
    ports: PortRange, stride: int, residue: int, seed: int, row: int
) -> None:
    """Every draw and every port of a list has port % stride = residue, and lies in the range."""
    fitting = [port for port in range(ports.low, ports.high + 1) if port % stride == residue % stride]
    for name in ("random", "sequential", "range", "window"):
        spec = replace(with_stride(ports, name), stride=stride, residue=residue % stride)
        assert list(spec.port_numbers(ports)) == fitting
        if not fitting:
            with pytest.raises(ValueError, match="can take no port"):
                drawn_by(spec, ports, seed)
            continue
        drawn = drawn_by(spec, ports, seed)
        number = drawn.port_at(row) if spec.traits.has_list else drawn.number(row, 3)
        bounds = (number,) if spec.traits.chooses_port else (number & 0xFFFF, number >> 16)
        assert len(set(bounds)) == 1
        assert bounds[0] in fitting


@given(ranges, st.integers(1, 9), st.integers(1, 65535))
@unhurried
def test_a_list_of_ports_begins_where_it_is_told_and_begins_again(ports: PortRange, stride: int, first: int) -> None:
    """The list has each port once, from the first one that is not below --from on."""
    first = min(max(first, ports.low), ports.high)
    spec = StrategySpec("sequential", first_port=first, stride=stride, residue=ports.low % stride)
    drawn, fitting = drawn_by(spec, ports), list(range(ports.low, ports.high + 1, stride))
    listed = [drawn.port_at(position) for position in range(2 * len(fitting))]
    assert listed[0] == next((port for port in fitting if port >= first), fitting[0])
    assert sorted(listed[: len(fitting)]) == fitting
    assert listed[len(fitting) :] == listed[: len(fitting)]
    assert list(fitting[fitting.index(listed[0]) :]) == listed[: len(fitting) - fitting.index(listed[0])]


def test_every_strategy_is_among_those_tested() -> None:
    """The property tests above draw from every strategy."""
    assert {spec.name for spec in specs_for(PORTS)} == set(STRATEGIES)


@pytest.mark.parametrize("spec", [StrategySpec("random"), window_spec(500), window_spec(500, Placement.CLIPPED)])
def test_other_seed_gives_other_draws(spec: StrategySpec) -> None:
    """A strategy that draws at random has other draws with another seed, and in another round."""
    drawn = [firsts(drawn_by(spec, PORTS, seed, number=number), 50) for seed in (1, 2) for number in (1, 2)]
    assert len(set(map(tuple, drawn))) == 4


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
        expected = firsts(drawn_by(without, ports, seed), attempts)
        assert firsts(drawn_by(with_retries, ports, seed), attempts) == expected


def test_generator_is_splitmix64() -> None:
    """The first outputs of SplitMix64 with the seed 1234567, as its authors' C code prints them."""
    expected = [6457827717110365317, 3203168211198807973, 9817491932198370423, 4593380528125082431]
    assert [mix(1234567, 0, try_) for try_ in range(4)] == expected


KEYS = st.integers(0, 2**64 - 1)


@given(KEYS, st.lists(st.integers(0, 10**7), min_size=1, max_size=20), st.integers(0, 2**31), st.integers(1, 2**32))
@unhurried
def test_numpy_has_the_same_bits(key: int, rows: list[int], try_: int, number: int) -> None:
    """Arrays give what whole numbers give."""
    bits = mix(key, np.array(rows, dtype=np.uint64), try_)
    assert bits.dtype == np.uint64
    assert bits.tolist() == [mix(key, row, try_) for row in rows]
    assert below(bits, number).tolist() == [below(mix(key, row, try_), number) for row in rows]


@given(
    ranges,
    SEEDS,
    st.sampled_from(Spread),
    st.integers(1, 3),
    st.integers(1, 3),
    st.integers(1, 300),
    st.integers(1, 50),
)
@unhurried
def test_numpy_has_the_same_numbers_paths_and_rows(  # noqa: PLR0917  # what a plan is made of
    ports: PortRange, seed: int, spread: Spread, sources: int, targets: int, connections: int, replacements: int
) -> None:
    """Of every strategy: numbers, paths and replaced rows, as arrays and one by one."""
    plan = replace(
        PLAN,
        port_range=ports,
        seed=seed,
        spread=spread,
        connections=connections,
        sources=tuple(f"127.9.9.{1 + i}" for i in range(sources)),
        targets=tuple(Endpoint("127.9.8.1", 1 + i) for i in range(targets)),
    )
    load = Load(churn=Churn(replacements))
    for spec in specs_for(ports):
        made = Draws.of(RoundPlan(plan, replace(spec, load=load), 1))
        as_arrays = replace(made, fixed=np.frombuffer(array("I", made.fixed), np.uint32).astype(np.uint64))
        rows = np.arange(connections + replacements, dtype=np.uint64)
        churning, filled = rows[connections:], range(connections // 2, connections)
        for try_ in (0, 3):
            assert as_arrays.number(rows, try_).tolist() == [made.number(row, try_) for row in range(len(rows))]
        assert as_arrays.path(rows).tolist() == [made.path(row) for row in range(len(rows))]
        if filled:
            replaced = as_arrays.replaced(churning, filled).tolist()
            assert replaced == [made.replaced(row, filled) for row in map(int, churning)]
            assert all(row in filled for row in replaced)


def test_keys_differ() -> None:
    """Texts that differ in one character, or in their order, have other keys."""
    texts = ["", "a", "b", "ab", "ba", "1/plain None None/1/tries", "1/plain None None/2/tries"]
    assert len({key_of(text) for text in texts}) == len(texts)


BITS_LIMIT = 4 * 0.5 / (64 * 1000) ** 0.5
"""Four standard deviations of the share of ones among 64 bits of a thousand numbers."""


@pytest.mark.parametrize("key", [0, 1, 2**63, 2**64 - 1])
def test_neighbours_have_nothing_in_common(key: int) -> None:
    """Half of the bits differ from one row to the next, and from one try to the next."""
    rows = np.arange(1000, dtype=np.uint64)
    for other in (mix(key, rows + 1), mix(key, rows, 1), mix(key ^ 1, rows)):
        differing = np.unpackbits((mix(key, rows) ^ other).view(np.uint8))
        assert abs(differing.mean() - 0.5) < BITS_LIMIT


@pytest.mark.parametrize(
    "spec", [StrategySpec("random"), window_spec(1), window_spec(500), window_spec(500, Placement.CLIPPED)]
)
def test_places_are_uniform(spec: StrategySpec) -> None:
    """In sixteen equal parts of the places lie as many of 160,000 draws each, within five standard deviations."""
    made = drawn_by(spec, PORTS)
    places = made.count - made.width + 1 + 2 * made.overhang if made.kind is Kind.WINDOW else made.count
    rows = np.arange(160_000, dtype=np.uint64)
    for try_ in (0, 1):
        counts = np.bincount((below(mix(made.key, rows, try_), places) * 16 // places).astype(int), minlength=16)
        assert abs(counts - 10_000).max() < 5 * 100


def test_every_connection_is_replaced_as_often() -> None:
    """Of 40 connections each is replaced by about one in 40 of 40,000 rows of the churn."""
    spec = StrategySpec("plain", load=Load(40, churn=Churn(40_000)))
    plan = RoundPlan(PLAN, spec, 1)
    rows = plan.rows_of(Phase.CHURN)
    replaced = Draws.of(plan).replaced(np.arange(rows.start, rows.stop, dtype=np.uint64), range(40))
    assert abs(np.bincount(replaced.astype(int), minlength=40) - 1000).max() < 5 * 1000**0.5


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
    assert drawn_by(spec, PortRange(10, 19)).max_tries == tries


@pytest.mark.parametrize(
    ("name", "chooses_port", "sets_port_range", "binds", "defers_port"),
    [
        ("plain", False, False, False, False),
        ("bind", False, False, True, True),
        ("early", False, False, True, False),
        ("random", True, False, True, False),
        ("sequential", True, False, True, False),
        ("window", False, True, True, True),
        ("range", False, True, True, True),
        ("partition", False, True, True, True),
    ],
)
def test_row_says_what_the_loop_does(
    name: str, *, chooses_port: bool, sets_port_range: bool, binds: bool, defers_port: bool
) -> None:
    """The strategy says what a number means, whether bind() is called, and whether it leaves the port to connect()."""
    row = STRATEGIES[name]
    assert (row.chooses_port, row.sets_port_range) == (chooses_port, sets_port_range)
    assert (row.chooses_source, row.defers_port) == (binds, defers_port)


@pytest.mark.parametrize("name", ["window", "partition"])
def test_window_strategy_without_a_window_is_refused(name: str) -> None:
    """A strategy with windows needs a width to draw them."""
    with pytest.raises(ValueError, match=f"{name} needs a window"):
        drawn_by(StrategySpec(name), PORTS)


def test_default_strategies_exist() -> None:
    """The strategies that connbench measures without --strategy are in the table."""
    assert set(DEFAULT_NAMES) <= set(STRATEGIES)
    assert all(name == strategy.name for name, strategy in STRATEGIES.items())


short_ranges = ranges.map(lambda ports: PortRange(ports.low, min(ports.high, ports.low + 300)))


def ordered(spec: StrategySpec, ports: PortRange, kernel: str, seed: int = 1) -> list[int]:
    """The ports in the order in which a profile puts them in use."""
    plan = replace(PLAN, strategies=(spec,), port_range=ports, seed=seed)
    return [number & MAX_PORT for number in order_of_ports(RoundPlan(plan, spec, 1), kernel)]


@unhurried
@given(short_ranges, SEEDS, st.sampled_from(["4.4.0", "5.10.0", "6.8.0", ""]))
def test_a_profile_takes_each_port_once(ports: PortRange, seed: int, kernel: str) -> None:
    """In an order that follows from the seed."""
    for spec in specs_for(ports):
        order = ordered(spec, ports, kernel, seed)
        assert sorted(order) == list(spec.port_numbers(ports))
        assert order == ordered(spec, ports, kernel, seed)


def test_a_profile_takes_no_reserved_port_that_a_search_passes_over() -> None:
    """A program that chooses the port takes those, too; as many as a profile counts."""
    ports = PortRange(1000, 1099)
    load = Load(sysctls=("net.ipv4.ip_local_reserved_ports=1010-1029,2000",))
    for spec in specs_for(ports):
        if not spec.stride:
            with_reserved = replace(spec, load=load)
            order = ordered(with_reserved, ports, "6.8.0")
            is_passed = not spec.traits.chooses_port
            assert sorted(order) == [port for port in range(1000, 1100) if not (is_passed and 1010 <= port <= 1029)]
            assert len(order) == RoundPlan(replace(PLAN, port_range=ports), with_reserved, 1).ports_each


@pytest.mark.parametrize(
    ("name", "kernel", "has_parity"),
    [
        ("plain", "6.8.0", True),
        ("bind", "6.8.0", True),
        ("range", "6.7.0", True),
        ("range", "6.8.0", False),
        ("plain", "4.4.0", False),
        ("random", "6.8.0", False),
        ("window", "6.7.0", False),
    ],
)
def test_a_profile_takes_the_parity_first_that_the_search_tries_first(name: str, kernel: str, has_parity: bool) -> None:
    """Within it the order is that of searches. Windows at random leave ports of both parities."""
    ports = PortRange(1001, 1200)
    [spec] = [spec for spec in specs_for(ports) if spec.name == name][:1]
    first, second = np.split(np.array(ordered(spec, ports, kernel)), 2)
    assert ((first % 2 == 1).all() and (second % 2 == 0).all()) == has_parity
    assert (np.diff(first) < 0).any()


def test_a_profile_takes_ports_as_one_search_after_the_other_does() -> None:
    """The next is at most 8 free ports behind, as the kernel's offset table has it; so a few passes take all."""
    ports = PortRange(1000, 2999)
    for kernel, step in (("6.7.0", 2), ("6.8.0", 1)):
        order = np.array(ordered(StrategySpec("range"), ports, kernel))[: 2000 // step]
        assert (np.diff(order) < 0).sum() < 30
        ahead = np.diff(order)[:100]
        assert set(ahead[ahead > 0].tolist()) == {step * n for n in range(1, 9)}


def test_a_profile_fills_one_window_after_the_other() -> None:
    """The last one has what is left; before 6.8 the parity of its lowest port comes first in each."""
    ports, spec = PortRange(1000, 1249), StrategySpec("partition", 101)
    for kernel in ("6.7.0", "6.8.0"):
        order = ordered(spec, ports, kernel)
        assert [set(order[begin : begin + 101]) for begin in (0, 101, 202)] == [
            set(range(1000, 1101)),
            set(range(1101, 1202)),
            set(range(1202, 1250)),
        ]
        assert ({port % 2 for port in order[101:152]} == {1}) == (kernel == "6.7.0")


@given(ranges_with_window(), SEEDS, st.integers(0, 2**31), st.integers(0, 700), st.sampled_from(Spread))
def test_first_numbers_are_the_numbers_of_first_tries(
    range_: tuple[PortRange, int], seed: int, begin: int, rows: int, spread: Spread
) -> None:
    """Drawn many at once, or one at a time: each row gets the same number, whatever the strategy draws."""
    ports, window = range_
    for name, row in STRATEGIES.items():
        for placement in Placement if "placement" in row.takes else (None,):
            spec = StrategySpec(name, window if "window" in row.takes else None, placement)
            plan = replace(PLAN, strategies=(spec,), port_range=ports, seed=seed, spread=spread)
            drawn = Draws.of(RoundPlan(plan, spec, 1))
            some = range(begin, begin + rows)
            assert list(drawn.first_numbers(some)) == [drawn.number(row) for row in some]
