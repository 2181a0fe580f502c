"""Each shape of load over the talk's range in full, the million connections among them; run by `make test-all`."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest

from connbench.analysis.knee import find_knee
from connbench.analysis.parts import By, split
from connbench.analysis.soundness import findings
from connbench.findings import Severity
from connbench.linux.families import has_ipv6
from connbench.model import DEFAULT_RANGE_LOW, MAX_PORT, Churn, Close, Endpoint, Link, Listener, Load, Protocol
from connbench.planning import first_sources
from connbench.results.result import Result, StrategyResult
from connbench.samples import GIVEN_UP
from support import make_plan, measure, measure_phases, needs_port_range, spec

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(900),
    needs_port_range,
]
LOW = DEFAULT_RANGE_LOW
PORTS = MAX_PORT - LOW + 1
HALF = PORTS // 2


def means(result: StrategyResult) -> Iterator[float]:
    """Mean latency of the first and of the last twentieth of the attempts, in ns."""
    latency = result.samples.latency_ns
    part = len(latency) // 20
    yield from (float(latency[:part].mean()), float(latency[-part:].mean()))


def test_two_sources_turn_slow_each_at_its_own_half() -> None:
    """70,000 connections from two addresses, as in the talk: each address's first half ends by its own count."""
    sources = first_sources(2)
    result = measure(spec("bind"), PORTS, 70_000, low=LOW, sources=sources)
    whole = Result(make_plan(spec("bind"), PORTS, 70_000, low=LOW, sources=sources), {})
    parts = split(whole, result, By.SOURCE)
    assert [find_knee(part.strategy).connection for part in parts] == [HALF + 1] * 2
    assert not result.samples.failed.any()


@pytest.mark.skipif(not has_ipv6(), reason="this kernel has no IPv6")
def test_ipv6_has_the_same_two_halves() -> None:
    """Over IPv6 the even ports go first, too, and the odd ones cost many times as much."""
    target = Endpoint("2001:db8::2", LOW - 1)
    result = measure(spec("bind"), PORTS, PORTS, low=LOW, sources=("2001:db8::1",), targets=(target,))
    assert find_knee(result).connection == HALF + 1
    assert not result.samples.failed.any()


def test_udp_has_no_halves() -> None:
    """Of UDP all ports are had, and the first half of the connections costs what the second does."""
    load = Load(protocol=Protocol.UDP)
    samples = measure(replace(spec("bind"), load=load), PORTS, PORTS, low=LOW, listener=Listener.NONE).samples
    even, odd = (float(np.median(samples.latency_ns[chosen])) for chosen in (samples.even, samples.odd))
    assert not samples.failed.any()
    assert 0.8 < odd / even < 1.25


def test_two_targets_are_twice_the_ports() -> None:
    """The port space is per target: 113,024 connections from one address."""
    targets = (Endpoint("127.9.9.2", LOW - 1), Endpoint("127.9.9.3", LOW - 1))
    result = measure(spec("range"), PORTS, 2 * PORTS, low=LOW, targets=targets)
    assert not result.samples.failed.any()
    assert result.rounds[0].report.established == 2 * PORTS


def test_veth_carries_them_all() -> None:
    """Over a veth pair, with the listener in a second namespace."""
    ends = {"sources": ("198.18.0.1",), "targets": (Endpoint("198.19.0.1", LOW - 1),), "link": Link.VETH}
    result = measure(spec("range"), PORTS, PORTS, low=LOW, **ends)
    assert not result.samples.failed.any()
    assert result.rounds[0].report.established == PORTS


def test_two_lanes_take_every_port() -> None:
    """Two lanes at once find all ports between them, and the even ones still go first."""
    result = measure(replace(spec("bind"), load=Load(lanes=2)), PORTS, PORTS, low=LOW, cpus=(1, 0))
    samples = result.samples
    assert not samples.failed.any()
    assert samples.even[:HALF].mean() > 0.99
    assert np.median(samples.latency_ns[HALF:]) > 20 * np.median(samples.latency_ns[:HALF])


@pytest.mark.parametrize("close", list(Close))
def test_churn_at_four_fifths(close: Close) -> None:
    """20,000 replacements at 80 %: the range is as full afterwards, and random windows find a port nearly always."""
    load = Load(fill=0.8, churn=Churn(20_000, close))
    listener = Listener.ACCEPT if close is Close.FIN else Listener.BACKLOG
    filled, churned = measure_phases(replace(spec("window", 500), load=load), PORTS, 0, low=LOW, listener=listener)
    assert len(churned.samples) == 20_000
    assert churned.rounds[0].report.established == churned.rounds[0].report.held
    if close is Close.RST:
        assert churned.samples.failed.mean() < 0.01
        assert churned.rounds[0].report.established > 0.99 * len(filled.samples)
    else:
        assert churned.rounds[0].report.time_wait > 0


def test_what_is_past_the_half_is_given_up() -> None:
    """With a limit between the two halves' costs the first is had, and the second is given up nearly all."""
    result = measure(replace(spec("bind"), load=Load(give_up_ms=1.0)), PORTS, HALF + 2000, low=LOW)
    samples = result.samples
    assert samples.failed[:HALF].mean() < 0.01
    assert (samples.errno[HALF:] == GIVEN_UP).mean() > 0.9


def test_a_million_connections() -> None:
    """All open at once from 20 addresses, with 600 bytes of memory each at most; and why later ones are slower."""
    strategy, million = spec("range"), 1_000_000
    sources = first_sources(20)
    result = measure(strategy, PORTS, million, low=LOW, sources=sources)
    [measured] = result.rounds
    assert not result.samples.failed.any()
    assert measured.report.established == million
    memory = sum(holder.memory_full for holder in measured.report.holders)
    assert memory / million <= 600
    first, last = means(result)
    plan = make_plan(strategy, PORTS, million, low=LOW, sources=sources)
    found = findings(Result(plan, {}, rounds={strategy: [measured]}))
    assert last <= 1.3 * first or "hash-table" in {finding.code for finding in found}
    assert not [finding for finding in found if finding.severity is Severity.INVALID]
