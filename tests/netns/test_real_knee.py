"""The knee of real runs, from counts of the port search and without a clock."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from connbench.analysis.knee import GROWTH, find_knee
from connbench.analysis.summary import summarize
from connbench.results.result import Round, StrategyResult
from run_connbench import connbench, measure, needs_port_range, spec

PORTS = 4096
PORTS_OF_HALVES = 60
ONE, TWO = ("127.9.9.1",), ("127.9.9.1", "127.9.9.3")


def timed_by_search(result: StrategyResult, first_parity: int | None) -> StrategyResult:
    """The attempts of a real run, with the time that a port of each parity would take: 10 µs, or 1 ms after a walk."""
    [measured] = result.rounds
    samples = measured.samples
    is_fast = np.ones(len(samples), bool) if first_parity is None else samples.port % 2 == first_parity
    times = np.where(is_fast | samples.failed, 10_000, 1_000_000)
    made = replace(samples, connect_ns=times, acquire_ns=times)
    return replace(result, rounds=(Round(1, made, measured.report),))


@pytest.mark.parametrize("name", ["plain", "bind", "early"])
def test_knee_is_where_the_other_parity_begins(name: str) -> None:
    """The kernel's own search reaches the other parity at exactly half of the range, and the knee is there."""
    result = measure(spec(name), PORTS, PORTS)
    port = result.samples.port
    assert set((port[: PORTS // 2] % 2).tolist()) == {port[0] % 2}
    assert set((port[PORTS // 2 :] % 2).tolist()) == {1 - port[0] % 2}
    knee = find_knee(timed_by_search(result, port[0] % 2))
    assert (knee.connection, knee.in_use) == (PORTS // 2 + 1, PORTS // 2)
    assert knee.first_failed is None


@pytest.mark.usefixtures("each_loop")
@pytest.mark.parametrize("name", ["early", "random", "sequential"])
def test_time_that_is_not_in_connect_is_in_bind(name: str) -> None:
    """Of a single try it is the column of setsockopt() and bind(); of more tries that of the last one, and more."""
    [one, several] = [
        measure(spec(name), PORTS_OF_HALVES, PORTS_OF_HALVES * len(some), sources=some) for some in (ONE, TWO)
    ]
    for result in (one, several):
        samples, halves = result.samples, summarize(result).halves
        once = samples.tries == 1
        assert (samples.bind_ns[once] == samples.prepare_ns[once]).all()
        assert (samples.bind_ns[~once] > samples.prepare_ns[~once]).all()
        assert [half.bind.count for half in halves.values()] == [len(samples) / 2] * 2
    if name == "early":
        assert (one.samples.port[: PORTS_OF_HALVES // 2] % 2 != one.samples.port.min() % 2).all()


@needs_port_range
def test_windows_have_no_knee_but_failures() -> None:
    """Random windows of a quarter of a tiny range fail once they are full; that makes no knee."""
    result = measure(spec("window", 64), 1024, 1024)
    knee = find_knee(timed_by_search(result, None))
    failures = result.samples.failed.nonzero()[0]
    assert knee.is_judged
    assert knee.connection is None
    assert knee.first_failed == failures[0] + 1
    assert knee.in_use_at_failure == failures[0]


@pytest.mark.skipif(
    not Path("/proc/sys/net/ipv4/tcp_child_ehash_entries").exists(), reason="this kernel has no such sysctl (Linux 6.1)"
)
@pytest.mark.parametrize(("entries", "is_crowded"), [(512, True), (2048, False)])
def test_the_advised_table_takes_effect(entries: int, is_crowded: bool) -> None:
    """--ehash-entries gives a run a table of its own; no finding names one that is large enough."""
    command = ("run", "--strategy", "bind", "--port-range", "40000-42047", "-n", "1000", "--format", "json")
    told = json.loads(connbench(*command, "--ehash-entries", str(entries)).stdout)
    [strategy] = told["strategies"]
    assert strategy["rounds"][0]["settings"]["net.ipv4.tcp_ehash_entries"] == str(entries)
    knee = strategy["knee"]
    slower = knee["connection"] is None and knee["last_ns"] > GROWTH * knee["baseline_ns"]
    assert ("hash-table" in {finding["code"] for finding in told["findings"]}) == (is_crowded and slower)
