"""Several source addresses: how they are read and shared out, and each one's part of the result."""

from __future__ import annotations

import tracemalloc
from collections import Counter
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from connbench.analysis.knee import find_knee
from connbench.analysis.parts import By, split_by
from connbench.draws import Draws
from connbench.errors import UsageError
from connbench.model import (
    MOST_SOURCES,
    Endpoint,
    Load,
    Namespace,
    PortRange,
    RoundPlan,
    Spread,
    StrategySpec,
    format_addresses,
)
from connbench.planner.endpoints import choose_sources, parse_sources
from connbench.report import run_report
from connbench.report.run_report import part_tables
from connbench.report.series import series_of
from connbench.results.result import Result
from factories import BIND, PLAN, RANDOM, WINDOW, result_of, round_of, samples_of, unhurried

THREE = ("127.9.9.1", "127.9.9.2", "127.9.9.3")
V4, V6, OWN = Endpoint("127.9.9.2", 9023), Endpoint("2001:db8::2", 9023), Namespace.NETWORK
SMALL = PortRange(40000, 40007)


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        ("127.9.9.1", THREE[:1]),
        ("127.9.9.1, 127.9.9.3", (THREE[0], THREE[2])),
        ("127.9.9.1-127.9.9.3", THREE),
        ("127.9.9.0/30", THREE[:2]),
        ("2001:db8::1-2001:db8::3", ("2001:db8::1", "2001:db8::2", "2001:db8::3")),
        ("127.9.9.3/32,127.9.9.1-127.9.9.2", (THREE[2], *THREE[:2])),
    ],
)
def test_sources_are_a_list_a_range_or_a_network(written: str, expected: tuple[str, ...]) -> None:
    """Addresses, ranges and networks, by commas, in the order they are written."""
    assert parse_sources(written) == expected


@pytest.mark.parametrize(
    ("written", "fault"),
    [
        ("127.9.9.3-127.9.9.1", "reversed"),
        ("127.9.9.1-", "not an IP address"),
        ("127.9.9.0/33", "not an IP address"),
        ("127.9.9.1,,127.9.9.2", "not an IP address"),
        ("127.9.9.1,127.9.9.0/29", "127.9.9.1 is named twice"),
        ("127.0.0.0/8", f"more than {MOST_SOURCES} addresses"),
        ("2001:db8::/32", f"more than {MOST_SOURCES} addresses"),
        ("2001:db8::1-127.9.9.1", "IPv4 and IPv6 ends"),
        ("127.9.9.1,::1", "IPv4 and IPv6 addresses"),
        ("224.0.0.1", "single host"),
        ("127.9.9.1,255.255.255.255", "single host"),
        ("::ffff:255.255.255.255", "single host"),
        ("::ffff:127.0.0.1", "an IPv4 address in the form of IPv6"),
        ("0.0.0.0", "single host"),  # noqa: S104  # to be refused
        ("::", "single host"),
        ("ff02::1", "single host"),
    ],
)
def test_sources_that_are_none_are_refused(written: str, fault: str) -> None:
    """The message names the fault, whatever the form, and no endless list is made."""
    with pytest.raises(UsageError, match=fault) as refused:
        parse_sources(written)
    assert refused.value.hint


def test_number_of_sources_counts_from_the_talks() -> None:
    """--sources N is the first N addresses from 127.9.9.1 on, beyond the last byte too."""
    assert choose_sources(None, 3, V4, OWN) == THREE
    assert choose_sources(None, 2, V6, OWN) == ("2001:db8::1", "2001:db8::2")
    assert choose_sources("2001:db8::7", None, V6, OWN) == ("2001:db8::7",)
    with pytest.raises(UsageError, match=r"127\.9\.9\.1 and target .* are not both IPv6"):
        choose_sources("127.9.9.1", None, V6, OWN)
    assert choose_sources(None, 300, V4, OWN)[-1] == "127.9.10.44"
    for number in (0, -1, MOST_SOURCES + 1):
        with pytest.raises(UsageError, match="is not a number of addresses"):
            choose_sources(None, number, V4, OWN)
    with pytest.raises(UsageError, match="both set the source addresses"):
        choose_sources("127.0.0.1", 2, V4, OWN)


def round_plan(spec: StrategySpec, attempts: int, spread: Spread, sources: tuple[str, ...] = THREE) -> RoundPlan:
    """A round over eight ports."""
    plan = replace(PLAN, sources=sources, port_range=SMALL, connections=attempts, spread=spread)
    return RoundPlan(plan, spec, 1)


def paths(plan: RoundPlan) -> list[int]:
    """The path of each attempt."""
    return list(map(Draws.of(plan).path, range(plan.connections)))


def test_attempts_are_shared_out_in_turn_or_one_address_after_the_other() -> None:
    """Round-robin takes the addresses in turn; filling gives each one attempt a port, and the rest to the last."""
    assert paths(round_plan(BIND, 7, Spread.ROUND_ROBIN)) == [0, 1, 2, 0, 1, 2, 0]
    assert paths(round_plan(BIND, 30, Spread.FILL)) == [0] * 8 + [1] * 8 + [2] * 14
    two = replace(BIND, load=Load(sources=2))
    assert paths(round_plan(two, 5, Spread.ROUND_ROBIN)) == [0, 1, 0, 1, 0]


@given(st.sampled_from(list(Spread)), st.integers(1, 60), st.integers(1, 4))
@unhurried
def test_each_source_has_draws_of_its_own(spread: Spread, attempts: int, number: int) -> None:
    """A partition is filled anew from each address, and one address alone draws as if there were no others."""
    partition = StrategySpec("partition", 4)
    sources = tuple(f"127.9.9.{i + 1}" for i in range(number))
    plan = round_plan(partition, attempts, spread, sources)
    order = paths(plan)
    drawn = list(map(Draws.of(plan).number, range(attempts)))
    for source, count in Counter(order).items():
        alone = round_plan(partition, count, spread, sources[:1])
        own = [draw for draw, of in zip(drawn, order, strict=True) if of == source]
        assert own == list(map(Draws.of(alone).number, range(count)))


def test_a_port_space_costs_nothing() -> None:
    """4,096 addresses to 1,000 targets are four million port spaces, and a draw needs none of them."""
    partition = StrategySpec("partition", 4)
    sources = tuple(map(str, range(4096)))
    plan = round_plan(partition, 10, Spread.ROUND_ROBIN, sources)
    many = replace(plan, plan=replace(plan.plan, targets=tuple(Endpoint("127.0.0.1", 1 + i) for i in range(1000))))
    tracemalloc.start()
    try:
        drawn = list(map(Draws.of(many).number, range(10)))
        assert tracemalloc.get_traced_memory()[1] < 1 << 20
    finally:
        tracemalloc.stop()
    assert len(set(drawn)) == 1


def two_sources() -> Result:
    """200 connections from each of two addresses in turn; those of the second turn slow at their hundredth."""
    order = [i % 2 for i in range(400)]
    slow = [i % 2 == 1 and i // 2 >= 100 for i in range(400)]
    ports = [9024 + 2 * (i // 2) + (1 if is_slow else 0) for i, is_slow in enumerate(slow)]
    samples = samples_of([100_000 if is_slow else 10_000 for is_slow in slow], source=order, port=ports)
    return result_of({BIND: [round_of(samples)]}, replace(PLAN, sources=THREE[:2]))


def test_each_source_has_a_knee_of_its_own() -> None:
    """The half of one address ends where its own attempts turn slow, whatever the other does."""
    result = two_sources()
    first, second = split_by(result, result.strategies[0], By.SOURCE)
    assert (first.name, second.name) == THREE[:2]
    assert (find_knee(first.strategy).connection, find_knee(second.strategy).connection) == (None, 101)
    assert (first.strategy.capacity, result.strategies[0].capacity) == (len(PLAN.port_range), 2 * len(PLAN.port_range))


def test_report_has_a_row_a_source() -> None:
    """The text has the number of sources, and a row for each; a single one has no such table."""
    report = run_report.text(two_sources())
    assert "127.9.9.1 and 1 more source -> " in report
    assert "127.9.9.1  200       0  10.0 µs  10.0 µs  10.0 µs     -             -" in report
    assert "127.9.9.2  200       0  55.0 µs  55.0 µs   100 µs   101             -" in report
    assert "source  " not in run_report.text(result_of({BIND: [round_of(samples_of([1000]))]}))


def test_table_of_many_sources_ends_somewhere() -> None:
    """Sixteen are shown, and the number of further ones."""
    samples = samples_of([1000] * 40, source=list(range(20)) * 2)
    result = result_of({WINDOW: [round_of(samples)]}, replace(PLAN, sources=tuple(f"127.9.9.{i}" for i in range(20))))
    [(by, table)] = part_tables(result, result.strategies[0])
    assert by is By.SOURCE
    assert [row[0] for row in table.rows[-2:]] == ["127.9.9.15", "... and 4 more"]


def test_charts_can_be_of_each_source() -> None:
    """A series for each address, under a name that says so; without a plan by its position."""
    result = two_sources()
    assert [one.label for one in series_of([result])] == ["bind"]
    assert [one.label for one in series_of([result], by_source=True)] == ["bind from 127.9.9.1", "bind from 127.9.9.2"]
    result.plan = None
    assert [one.label for one in series_of([result], by_source=True)] == ["bind from source 0", "bind from source 1"]


def test_sources_are_named_by_the_first_and_how_many_more() -> None:
    """A header stays short, however many there are."""
    assert [format_addresses(THREE[:n], "source") for n in (1, 2, 3)] == [
        "127.9.9.1",
        "127.9.9.1 and 1 more source",
        "127.9.9.1 and 2 more sources",
    ]
    assert replace(RANDOM, load=Load(9, sources=2)).label == "random, 2 sources, n=9"
    assert replace(RANDOM, load=Load(sources=1)).label == "random"


@pytest.mark.parametrize(
    ("addresses", "fault"),
    [
        ([f"127.1.{number >> 8}.{number & 255}" for number in range(65_536)], "more than 4096 addresses"),
        ([f"127.1.{number >> 8}.{number & 255}" for number in range(4000)] * 2, "more than 4096 addresses"),
        ([f"127.1.{number >> 8}.{number & 255}" for number in (*range(4000), 3999)], "127.1.15.159 is named twice"),
        (["x" * 100_000], "is not an IP address"),
    ],
    ids=["too many", "twice as many", "one twice", "no address"],
)
def test_a_long_list_is_refused_in_two_lines(addresses: list[str], fault: str) -> None:
    """The message repeats only its beginning."""
    with pytest.raises(UsageError) as refused:
        parse_sources(",".join(addresses))
    assert len(refused.value.message) < 300
    assert fault in refused.value.message
