"""The plan's types: ranges, labels, seeds, and how a round's plan reaches another process."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from connbench.errors import UsageError
from connbench.findings import Finding, Severity
from connbench.model import (
    MAX_PORT,
    Endpoint,
    Link,
    Listener,
    Namespace,
    Placement,
    Plan,
    PortRange,
    RoundPlan,
    StrategySpec,
)
from connbench.safe_text import printable
from factories import BIND, PLAIN, PLAN, RANDOM, WINDOW, unhurried

ports = st.integers(1, MAX_PORT)
ranges = st.tuples(ports, ports).map(sorted).map(lambda ends: PortRange(*ends))
addresses = st.ip_addresses(v=4).map(str)
specs = st.builds(
    StrategySpec,
    name=st.text(),
    window=st.none() | ports,
    placement=st.none() | st.sampled_from(Placement),
    retries=st.none() | st.integers(0),
)
plans = st.builds(
    Plan,
    strategies=st.lists(specs, min_size=1, max_size=4).map(tuple),
    connections=st.integers(1),
    port_range=ranges,
    sources=st.lists(addresses, min_size=1, max_size=3).map(tuple),
    targets=st.lists(st.builds(Endpoint, addresses, ports), min_size=1, max_size=2).map(tuple),
    listener=st.sampled_from(Listener),
    namespace=st.sampled_from(Namespace),
    seed=st.integers(0),
    rounds=st.integers(1),
    timeout=st.floats(0.001, 86400),
    cpus=st.lists(st.integers(0, 4096), max_size=2).map(tuple),
    link=st.sampled_from(Link),
    delay_ms=st.floats(0, 900),
    ehash_entries=st.none() | st.integers(1),
)
round_plans = st.builds(RoundPlan, plan=plans, strategy=specs, number=st.integers(1))


@given(ranges)
@unhurried
def test_range_is_read_back_as_written(ports: PortRange) -> None:
    """A range parses to itself from its own text."""
    assert PortRange.parse(str(ports)) == ports


@pytest.mark.parametrize(
    ("text", "low", "high"),
    [
        ("9024-65535", 9024, 65535),
        (" 1 - 65535 ", 1, 65535),
        ("1-1", 1, 1),
        ("65535-65535", 65535, 65535),
        ("0080-00443", 80, 443),
    ],
)
def test_range_may_have_blanks_and_leading_zeros(text: str, low: int, high: int) -> None:
    """LOW-HIGH is two whole numbers with a dash between, and may have blanks around them."""
    assert PortRange.parse(text) == PortRange(low, high)


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("65535-9024", "port range 65535-9024 is reversed"),
        ("0-10", "port range 0-10 is outside 1-65535"),
        ("10-65536", "port range 10-65536 is outside 1-65535"),
        ("65536-10", "port range 65536-10 is outside 1-65535"),
        ("", "port range '' is not LOW-HIGH"),
        ("9024", "port range '9024' is not LOW-HIGH"),
        ("9024-", "port range '9024-' is not LOW-HIGH"),
        ("-9024", "port range '-9024' is not LOW-HIGH"),
        ("1-2-3", "port range '1-2-3' is not LOW-HIGH"),
        ("1:2", "port range '1:2' is not LOW-HIGH"),
        ("a-b", "port range 'a-b' is not LOW-HIGH"),
        ("1e3-2e3", "port range '1e3-2e3' is not LOW-HIGH"),
        ("²-³", "port range '²-³' is not LOW-HIGH"),
    ],
)
def test_range_that_is_none_is_refused_by_its_value(text: str, fault: str) -> None:
    """A text that is no range is refused with its value and a remedy."""
    with pytest.raises(UsageError) as caught:
        PortRange.parse(text)
    assert caught.value.message == fault
    assert caught.value.hint


def test_reversed_range_is_offered_the_right_way_round() -> None:
    """The hint for a reversed range is the range that the user meant."""
    with pytest.raises(UsageError) as caught:
        PortRange(65535, 9024)
    assert caught.value.hint == "write it as 9024-65535"


@given(ranges)
@unhurried
def test_range_includes_both_ends(ports: PortRange) -> None:
    """Both ends are ports of the range, their neighbours are not, and all are counted."""
    assert ports.low in ports
    assert ports.high in ports
    assert ports.low - 1 not in ports
    assert ports.high + 1 not in ports
    assert len(ports) == len(range(ports.low, ports.high + 1))


@given(ranges, ranges)
@unhurried
def test_range_covers_another_if_it_has_both_its_ends(one: PortRange, other: PortRange) -> None:
    """A range covers another exactly if the other's ends are among its ports."""
    assert one.covers(other) == (other.low in one and other.high in one)


@pytest.mark.parametrize(
    ("spec", "label"),
    [
        (StrategySpec("plain"), "plain"),
        (StrategySpec("random"), "random"),
        (StrategySpec("random", retries=1), "random, 1 retry"),
        (StrategySpec("partition", window=1000), "partition 1000"),
        (StrategySpec("window", 500, Placement.INSIDE, 0), "window 500"),
        (StrategySpec("window", 500, Placement.CLIPPED, 0), "window 500 clipped"),
        (StrategySpec("window", 500, Placement.CLIPPED, 3), "window 500 clipped, 3 retries"),
    ],
)
def test_label_names_the_parameters_that_differ_from_the_talk(spec: StrategySpec, label: str) -> None:
    """A label is the name and those parameters that change what is measured."""
    assert spec.label == label


@pytest.mark.parametrize("character", ["\x1b", "\x07", "\n", "\r", "\0", "\x7f", "\x85", "\x9b", "\u2028", "\u202e"])
def test_printable_has_a_mark_for_what_is_none(character: str) -> None:
    """A character that ends a line, controls a terminal or reverses text becomes a mark, in labels and findings too."""
    mark = "\N{REPLACEMENT CHARACTER}"
    assert printable(f"a {character}b") == f"a {mark}b"
    assert StrategySpec(f"a{character}b", 5).label == f"a{mark}b 5"
    finding = Finding("x", Severity.NOTE, f"m{character}", "advice", f"s{character}", 2)
    assert finding.text == f"s{mark}, round 2: m{mark}"


@given(st.text())
@unhurried
def test_printable_keeps_what_can_be_shown(text: str) -> None:
    """The rest of a text is unchanged, and a second pass changes nothing."""
    shown = printable(text)
    assert shown.isprintable()
    assert len(shown) == len(text)
    assert all(after in {before, "\N{REPLACEMENT CHARACTER}"} for before, after in zip(text, shown, strict=True))
    assert printable(shown) == shown
    assert (shown == text) is text.isprintable()


@given(round_plans)
@settings(unhurried, max_examples=50)
def test_round_plan_survives_json(plan: RoundPlan) -> None:
    """The engine process reads the very plan that its parent wrote."""
    assert RoundPlan.from_dict(json.loads(json.dumps(plan.to_dict()))) == plan


def test_no_two_streams_have_one_seed() -> None:
    """Strategies, windows, rounds, streams and the plan's own seed each give other draws."""
    clipped = replace(WINDOW, placement=Placement.CLIPPED)
    texts = [
        RoundPlan(replace(PLAN, seed=seed), spec, number).seed_text(stream)
        for seed in (1, 2)
        for spec in (PLAIN, BIND, RANDOM, WINDOW, clipped, replace(WINDOW, window=1000))
        for number in (1, 2)
        for stream in ("first tries", "retries from 0")
    ]
    assert len(set(texts)) == 2 * 6 * 2 * 2


@pytest.mark.parametrize("spec", [RANDOM, WINDOW])
def test_seed_does_not_depend_on_retries(spec: StrategySpec) -> None:
    """The number of retries changes no first draw."""
    texts = {RoundPlan(PLAN, replace(spec, retries=retries), 1).seed_text("first tries") for retries in (None, 0, 1, 9)}
    assert len(texts) == 1


def test_seed_is_the_same_whatever_else_runs() -> None:
    """A strategy draws the same alone and beside others, with few rounds and with many."""
    alone = RoundPlan(replace(PLAN, strategies=(WINDOW,)), WINDOW, 2)
    in_company = RoundPlan(replace(PLAN, strategies=(PLAIN, WINDOW), rounds=9, connections=7), WINDOW, 2)
    assert alone.seed_text("first tries") == in_company.seed_text("first tries")
