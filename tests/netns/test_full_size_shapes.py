"""Each shape of load over the talk's range in full, the million connections among them; run by `make test-all`."""

from __future__ import annotations

import os
from dataclasses import replace
from itertools import groupby

import pytest

from connbench.analysis.knee import GROWTH, find_knee
from connbench.analysis.soundness import findings
from connbench.findings import Severity
from connbench.linux.address_family import has_ipv6
from connbench.model import (
    DEFAULT_RANGE_LOW,
    MAX_PORT,
    Churn,
    Close,
    Endpoint,
    Link,
    Listener,
    Load,
    Protocol,
    first_sources,
)
from connbench.results.result import Result, Samples
from run_connbench import make_plan, measure, measure_phases, needs_port_range, spec

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(1800),
    needs_port_range,
]
LOW = DEFAULT_RANGE_LOW
PORTS = MAX_PORT - LOW + 1
HALF = PORTS // 2


def parities(samples: Samples) -> list[tuple[int, int]]:
    """The parities of the ports taken, in order, each with the length of its stretch."""
    return [(parity, len([*group])) for parity, group in groupby((samples.port[~samples.failed] % 2).tolist())]


def test_two_sources_have_a_first_half_each() -> None:
    """70,000 connections from two addresses, as in the talk: each address's first half ends by its own count."""
    result = measure(spec("bind"), PORTS, 70_000, low=LOW, sources=first_sources(2))
    samples = result.samples
    assert not samples.failed.any()
    for source in (0, 1):
        assert parities(samples.chosen(samples.source == source)) == [(0, HALF), (1, 35_000 - HALF)]


@pytest.mark.skipif(not has_ipv6(), reason="this kernel has no IPv6")
def test_ipv6_has_the_same_two_halves() -> None:
    """Over IPv6 the even ports go first, too."""
    target = Endpoint("2001:db8::2", LOW - 1)
    result = measure(spec("bind"), PORTS, PORTS, low=LOW, sources=("2001:db8::1",), targets=(target,))
    assert not result.samples.failed.any()
    assert parities(result.samples) == [(0, HALF), (1, HALF)]


def test_udp_has_no_halves() -> None:
    """UDP takes all ports, and about half of the first half of the connections are from odd ones."""
    load = Load(protocol=Protocol.UDP)
    samples = measure(replace(spec("bind"), load=load), PORTS, PORTS, low=LOW, listener=Listener.NONE).samples
    assert not samples.failed.any()
    assert 0.45 < samples.even[:HALF].mean() < 0.55


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


def test_two_clients_take_every_port() -> None:
    """Two clients at once find all ports between them, and the even ones still go first."""
    cpus = tuple(sorted(os.sched_getaffinity(0))[-2:])
    samples = measure(replace(spec("bind"), load=Load(concurrency=2)), PORTS, PORTS, low=LOW, cpus=cpus).samples
    assert not samples.failed.any()
    for client in (0, 1):
        assert [parity for parity, _ in parities(samples.chosen(samples.client == client))] == [0, 1]


@pytest.mark.parametrize("close", list(Close))
def test_churn_at_four_fifths(close: Close) -> None:
    """20,000 replacements at 80 %: the range is as full afterwards, and random windows nearly always find a port."""
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


def test_a_million_connections() -> None:
    """All open at once from 20 addresses, with 600 bytes of memory each at most; a finding says what slows the last."""
    strategy, million = spec("range"), 1_000_000
    sources = first_sources(20)
    result = measure(strategy, PORTS, million, low=LOW, sources=sources)
    [measured] = result.rounds
    assert not result.samples.failed.any()
    assert measured.report.established == million
    memory = sum(worker.memory_full for worker in measured.report.workers)
    assert memory / million <= 600
    plan = make_plan(strategy, PORTS, million, low=LOW, sources=sources)
    found = findings(Result(plan, {}, rounds={strategy: [measured]}))
    assert not [finding for finding in found if finding.severity is Severity.INVALID]
    knee, entries = find_knee(result), abs(int(measured.report.settings["net.ipv4.tcp_ehash_entries"]))
    is_slower = knee.connection is None and knee.last_ns > GROWTH * knee.baseline_ns
    assert ("hash-table" in {finding.code for finding in found}) == (is_slower and 2 * million > entries)
