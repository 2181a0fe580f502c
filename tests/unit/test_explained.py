"""The page that explains the search: its pictures and figures agree with the model."""

from __future__ import annotations

import re
from dataclasses import replace
from functools import cache
from math import log
from pathlib import Path

import numpy as np
import pytest

import explain
from connbench.model import Load, Phase, PortRange, Protocol, StrategySpec
from connbench.portmodel.algorithm import Algorithm
from connbench.portmodel.simulation import USUAL, KernelParameters, SimulatedAttempts, simulate
from connbench.report.charts.canvas import styled
from run_connbench import spec

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
PAGE = (DOCS / "how-connect-picks-a-port.md").read_text(encoding="utf-8")
WORDS = " ".join(PAGE.split())
FROM_6_8 = Algorithm.FROM_6_8
UDP = Load(protocol=Protocol.UDP)
LARGEST_PICTURE = 60_000
RANGE: PortRange = explain.TALK
HALF = len(RANGE) // 2


@cache
def filled(
    strategy: StrategySpec, algorithm: Algorithm = FROM_6_8, machine: KernelParameters = USUAL
) -> SimulatedAttempts:
    """The page's filling of the whole range."""
    return simulate(explain.round_of(strategy), algorithm, machine)[Phase.FILL]


def figure(value: float) -> str:
    """A count as the page writes it: of hundreds without decimals."""
    return f"{value:,.0f}" if value >= 100 else f"{value:.1f}"


def row(*cells: str) -> str:
    """A row of a table."""
    return f"| {' | '.join(cells)} |"


def test_pictures_are_there() -> None:
    """The script draws each picture that the page names, and no other; none is large."""
    named = re.findall(r"\]\(([\w-]+)\.png\)", PAGE)
    assert sorted(named) == sorted(explain.PICTURES)
    for name in named:
        data = (DOCS / f"{name}.png").read_bytes()
        assert data.startswith(b"\x89PNG")
        assert len(data) < LARGEST_PICTURE


@pytest.mark.parametrize(
    ("strategy", "ports", "connections"),
    [
        (spec("plain"), explain.EIGHT, 9),
        (spec("range"), explain.EIGHT, 9),
        (spec("window", 4), explain.SIXTEEN, 16),
        (explain.EARLY, explain.EIGHT, 9),
        (explain.REUSING, explain.EIGHT, 9),
    ],
    ids=["plain", "range", "window", "early", "reuse"],
)
def test_searches_drawn_are_the_models(strategy: StrategySpec, ports: PortRange, connections: int) -> None:
    """They find the ports that the walk through the same plan finds, and probe as many."""
    plan = explain.round_of(strategy, ports, connections)
    found = [search for _, search in explain.searches(plan, FROM_6_8)]
    attempts = simulate(plan, FROM_6_8)[Phase.FILL]
    assert [search.port for search in found] == attempts.port.tolist()
    assert [len(search.ports_probed) for search in found] == attempts.ports_probed.tolist()


def test_picture_numbers_the_ports_as_they_are_probed() -> None:
    """In each row of the eight ports stand 1, 2, 3 ... at the ports that the search probes, and nothing else."""
    with styled():
        panels = explain.eight().axes
    for panel, strategy in zip(panels, (explain.PLAIN, explain.RANGE), strict=True):
        drawn = {
            (int(text.get_position()[1]), int(text.get_position()[0])): int(text.get_text())
            for text in panel.texts
            if text.get_text().isdigit()
        }
        found = explain.searches(explain.round_of(strategy, explain.EIGHT, 9), FROM_6_8)
        assert drawn == {
            (place, port - explain.EIGHT.low): number
            for place, (_, search) in enumerate(found)
            for number, port in enumerate(search.ports_probed, 1)
        }


def test_curves_are_what_was_simulated() -> None:
    """A line goes through its means, and those are of all attempts."""
    curves = explain.churned([0.4])
    with styled():
        [panel] = explain.draw_curves(curves, "ports", "log").axes
    assert [np.asarray(line.get_ydata()).tolist() for line in panel.lines] == [
        values.tolist() for _, values in curves.values()
    ]
    assert [np.asarray(line.get_xdata()).tolist() for line in panel.lines] == [[40.0]] * len(curves)
    ports_probed = filled(explain.PLAIN).ports_probed
    assert explain.sliced(ports_probed, 2).tolist() == [ports_probed[:HALF].mean(), ports_probed[HALF:].mean()]


def test_worked_example_is_the_models() -> None:
    """The page shows the fifth connection's walk, after four even ports, and the ninth's end."""
    found = [search for _, search in explain.searches(explain.round_of(explain.PLAIN, explain.EIGHT, 9), FROM_6_8)]
    *vain, last = found[4].ports_probed
    assert f"probes {', '.join(map(str, vain))} in vain, and only then an odd port, {last}." in WORDS
    assert [search.port % 2 for search in found[:8]] == [0] * 4 + [1] * 4
    assert all({9024, 9026, 9028, 9030} <= set(search.ports_probed) for search in found[4:])
    assert (len(found[8].ports_probed), found[8].port) == (8, 0)


@pytest.mark.parametrize("label", explain.SEARCHED)
def test_table_of_the_filling(label: str) -> None:
    """Means of both halves and of all, and the failures; those of random ports by formula, close to the model."""
    attempts = filled(explain.SEARCHED[label])
    first, second, both = (
        part.mean() for part in (attempts.ports_probed[:HALF], attempts.ports_probed[HALF:], attempts.ports_probed)
    )
    if label.startswith("random port"):
        harmonic, expected = log(len(RANGE)) + 0.58, 2 * log(2)
        assert first == pytest.approx(expected, rel=0.02)
        assert abs(both - harmonic) < 4 * 1.28  # pi / sqrt 6, the scatter of collecting coupons
        first, second, both = expected, 2 * harmonic - expected, harmonic
        assert f"filling R ports takes ln R + 0.58 draws each: {harmonic:.1f}" in WORDS
    failed = int(attempts.failed.sum())
    assert row(label, figure(first), figure(second), figure(both), f"{failed:,}" if failed else "none") in PAGE


@pytest.mark.parametrize("label", explain.IN_BIND)
def test_table_of_bind(label: str) -> None:
    """Means of each quarter of the filling, and the searches in vain of each quarter with SO_REUSEADDR."""
    quarters = explain.sliced(filled(explain.IN_BIND[label]).ports_probed, 4)
    assert row(label, *map(figure, quarters)) in PAGE
    assert f"probes {HALF // 2:,} ports in vain, from half on all {HALF:,} ports of the lower half" in WORDS
    assert f"from three quarters on {HALF + HALF // 2:,}." in WORDS


def test_example_of_bind_is_the_models() -> None:
    """Odd ports first, the fifth connection's walk, and the lower half first with SO_REUSEADDR."""
    plans = [explain.round_of(strategy, explain.EIGHT, 9) for strategy in (explain.EARLY, explain.REUSING)]
    early, reusing = ([search for _, search in explain.searches(plan, FROM_6_8)] for plan in plans)
    *vain, last = early[4].ports_probed
    assert f"Connection 5 probes {', '.join(map(str, vain))} in vain, and then gets an even port, {last}." in WORDS
    assert [search.port % 2 for search in early[:8]] == [1] * 4 + [0] * 4
    assert (len(early[8].ports_probed), early[8].port) == (8, 0)
    assert all(search.port < 9028 for search in reusing[:4])
    assert [search.port % 2 for search in reusing[:8]] == [1, 1, 0, 0, 1, 1, 0, 0]


def test_half_of_the_range_is_where_it_turns_slow() -> None:
    """28,256 connections are fast, the next one probes one port more than that, and the sums are those of the page."""
    plain, option = filled(explain.PLAIN).ports_probed, filled(explain.RANGE)
    assert f"The first {HALF:,} connections" in WORDS
    assert f"Connection {HALF + 1:,} is the first" in WORDS
    assert f"probes {plain[HALF]:,} ports" in WORDS
    assert (plain[HALF:] > HALF).all()
    old = filled(explain.RANGE, Algorithm.PRE_6_8).ports_probed.sum()
    assert f"{plain.sum() / 1e6:.0f} million probes; with the option" in WORDS
    assert f"gains nothing: {old / 1e6:.0f} million probes again" in WORDS
    assert f"it takes {option.ports_probed.sum() / 1e3:.0f} thousand" in WORDS


@pytest.mark.parametrize("size", [100, 500, 1000, 5000, 10000])
def test_table_of_windows(size: int) -> None:
    """How many fail, when the first does, and what a search costs."""
    attempts = filled(explain.WINDOWS[size])
    share = int(np.argmax(attempts.failed)) / len(RANGE)
    cells = [
        re.escape(f"{size:,}"),
        f"{attempts.failed.sum():,}",
        "[0-9,]*",
        f"{share:.0%}",
        figure(attempts.ports_probed.mean()),
    ]
    assert re.search(r" *\| *".join(cells), PAGE)
    if size == 500:
        old = filled(explain.WINDOWS[size], Algorithm.PRE_6_8).failed.sum()
        assert f"{old} failures with windows of {size}" in WORDS


def test_table_of_sources() -> None:
    """A second source has a half of its own."""
    plan = explain.round_of(spec("bind"), RANGE, 40_000)
    two = replace(plan, plan=replace(plan.plan, sources=("127.9.9.1", "127.9.9.4")))
    one_source, two_sources = (simulate(each, FROM_6_8)[Phase.FILL] for each in (plan, two))
    odd = int((one_source.port % 2).sum())
    assert row("from one source", f"{one_source.ports_probed.sum() / 1e6:.0f} million", f"{odd:,}") in PAGE
    assert row("from two", f"{two_sources.ports_probed.sum() / 1e3:.0f} thousand", "none") in PAGE
    assert not (two_sources.port % 2).any()


def test_table_of_churn() -> None:
    """The probes of a replacement; for plain they follow from how many of the ports in use are even."""
    assert f"only below half, at 49% say (some {explain.replaced(explain.PLAIN, 0.49):.0f} ports)" in WORDS
    for fill in (0.5, 0.8, 0.95):
        counts = [explain.replaced(strategy, fill) for strategy in (explain.PLAIN, spec("window", 500), explain.RANGE)]
        times = r" \| [\d.]+ (?:ms|µs) \| "
        assert re.search(rf"^\| {fill:.0%} \| {times.join(map(figure, counts))} \|", PAGE, re.MULTILINE)
        assert counts[0] == pytest.approx(len(RANGE) / 2 - len(RANGE) / (8 * fill), rel=0.02)


@pytest.mark.parametrize(
    ("label", "strategy"), [("whole range", spec("plain")), ("random window of 500", spec("window", 500))]
)
def test_table_of_udp(label: str, strategy: StrategySpec) -> None:
    """Ports tried and sockets met, with the hash table the page speaks of."""
    attempts = filled(replace(strategy, load=UDP), FROM_6_8, explain.UDP_MACHINE)
    failed = f"{attempts.failed.sum():,}" if attempts.failed.any() else "none"
    assert row(label, figure(attempts.ports_probed.mean()), figure(attempts.lookups.mean()), failed) in PAGE
    slots = explain.UDP_MACHINE.udp_slots
    assert f"here {slots:,} of them" in WORDS
    assert f"the {slots - 500:,} slots that have nothing to do with the window" in WORDS
    assert f"{(slots - 500) * 65536 // slots:,} probes for nothing" in WORDS
