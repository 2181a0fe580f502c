"""Clients, churn, giving up and several targets, on ranges of a few ports and with real sockets."""

from __future__ import annotations

import errno
import json
import socket
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from connbench.analysis.soundness import findings
from connbench.draws import Draws
from connbench.interrupts import Interrupts
from connbench.linux.sockopts import LOCAL_PORT_RANGE, is_supported
from connbench.model import Churn, Close, Endpoint, Listener, Load, Namespace, Phase, RoundPlan, Spread, StrategySpec
from connbench.results.result import Result, Samples, StrategyResult
from connbench.runner import run
from connbench.samples import GIVEN_UP, TIMED_OUT
from run_connbench import LOW, OVER_VETH, connbench, make_plan, measure, measure_phases, spec

PORTS = 32
STRATEGIES = ("plain", "bind", "random", "window", "range")
TWO_TARGETS = (Endpoint("127.9.9.2", LOW - 1), Endpoint("127.9.9.3", LOW - 1))


def under(name: str, load: Load) -> StrategySpec:
    """A strategy under a load; a window is of half the ports."""
    if name in {"window", "range"} and not is_supported(LOCAL_PORT_RANGE):
        pytest.skip("this kernel has no IP_LOCAL_PORT_RANGE (Linux 6.3)")
    return replace(spec(name, PORTS // 2 if name == "window" else None), load=load)


def ports_of(samples: Samples) -> list[int]:
    """The local ports of the connections, in order."""
    ports: list[int] = sorted(samples.port[~samples.failed].tolist())
    return ports


@pytest.mark.usefixtures("each_loop")
@pytest.mark.parametrize("name", STRATEGIES)
def test_clients_make_every_attempt_between_them(name: str) -> None:
    """Three clients divide the attempts, none is made twice or left out, and each connection has a port of its own."""
    result = measure(under(name, Load(concurrency=3)), PORTS, PORTS - 1)
    samples = result.samples
    assert np.bincount(samples.client).tolist() == [10, 10, 11]
    assert len(set(ports_of(samples))) == PORTS - 1 - int(samples.failed.sum())
    assert name == "window" or not samples.failed.any()
    assert (np.diff(samples.started_ns) >= 0).all(), "attempts are in the order they were begun"
    [report] = [r.report for r in result.rounds]
    assert sorted(worker.client for worker in report.workers) == [0, 1, 2]
    assert report.established == report.held == PORTS - 1 - int(samples.failed.sum())


def test_clients_run_at_the_same_time() -> None:
    """No client ends before another begins, on one CPU neither: each has work for many time slices."""
    samples = measure(under("bind", Load(concurrency=2)), 8192, 8192).samples
    first, second = (samples.chosen(samples.client == client) for client in (0, 1))
    assert first.started_ns[0] < second.started_ns[-1]
    assert second.started_ns[0] < first.started_ns[-1]


@pytest.mark.usefixtures("each_loop")
def test_worker_has_2_mb_of_its_own() -> None:
    """A worker of two hundred shares the rest with the engine: it writes to few pages of what it got by fork()."""
    load = Load(fill=0.5, concurrency=200, churn=Churn(400))
    for phase in measure_phases(under("bind", load), 1024, 0):
        workers = phase.rounds[0].report.workers
        assert len(workers) == 200
        assert max(worker.memory_full for worker in workers) <= 2 << 20
        assert phase.rounds[0].report.held == 512


@pytest.mark.usefixtures("each_loop")
@pytest.mark.parametrize("name", STRATEGIES)
@pytest.mark.parametrize("clients", [1, 2])
def test_churn_replaces_held_connections(name: str, clients: int) -> None:
    """Filling and churn have samples of their own; as many connections are open afterwards, less failed ones."""
    load = Load(fill=0.5, concurrency=clients, churn=Churn(40))
    filled, churned = measure_phases(under(name, load), PORTS, 0)
    assert (filled.strategy.phase, churned.strategy.phase) == (Phase.FILL, Phase.CHURN)
    assert (len(filled.samples), len(churned.samples)) == (PORTS // 2, 40)
    [before], [after] = filled.rounds, churned.rounds
    assert before.report.held == PORTS // 2 - int(filled.samples.failed.sum())
    assert after.report.established == after.report.held
    assert name == "window" or after.report.held == PORTS // 2
    assert (churned.samples.port[~churned.samples.failed] >= LOW).all()
    assert int(churned.samples.started_ns.min()) > int(filled.samples.started_ns.max())


@pytest.mark.usefixtures("each_loop")
def test_churn_never_holds_a_port_twice() -> None:
    """Each replacement frees a port before it takes one: the ports in use never exceed what was filled."""
    filled, churned = measure_phases(under("plain", Load(fill=1.0, churn=Churn(100))), 8, 0)
    assert not filled.samples.failed.any()
    assert not churned.samples.failed.any()
    assert churned.rounds[0].report.established == 8


@pytest.mark.usefixtures("each_loop")
def test_closing_in_good_order_keeps_the_port() -> None:
    """Over a veth pair a port closed by FIN is in use for a minute; closed by reset it is free at once."""
    by_fin = Load(fill=1.0, churn=Churn(8, Close.FIN))
    by_reset = Load(fill=1.0, churn=Churn(8))
    _, left = measure_phases(under("bind", by_fin), 16, 0, listener=Listener.ACCEPT, **OVER_VETH)
    _, gone = measure_phases(under("bind", by_reset), 16, 0)
    assert set(left.samples.errno.tolist()) == {errno.EADDRNOTAVAIL}
    assert not gone.samples.failed.any()
    assert (gone.rounds[0].report.held, gone.rounds[0].report.time_wait) == (16, 0)
    assert "net.ipv4.tcp_tw_reuse" in left.rounds[0].report.settings


@pytest.mark.skipif(
    not Path("/proc/sys/net/ipv4/tcp_child_ehash_entries").exists(), reason="this kernel has no such sysctl (Linux 6.1)"
)
def test_more_closings_than_time_wait_takes_are_found() -> None:
    """The kernel allows half as many TIME_WAITs as its table of connections has entries; beyond that there is none."""
    load = ("--strategy", "bind", "-n", "16", "--churn", "600", "--close", "fin", "--port-range", "40000-41999")
    run = connbench("run", *load, "--format", "json", inside=("--sysctl", "net.ipv4.tcp_child_ehash_entries=512"))
    told = json.loads(run.stdout)
    [churned] = told["strategies"][1]["rounds"]
    most = int(churned["settings"]["net.ipv4.tcp_max_tw_buckets"])
    overflow = churned["counters"]["TcpExt.TCPTimeWaitOverflow"]
    assert (churned["time_wait"] <= most, overflow > 0) == (True, True)
    [found] = [finding for finding in told["findings"] if finding["code"] == "time-wait-overflow"]
    assert found["message"].startswith(f"{overflow} closed connections had no TIME_WAIT")


@pytest.mark.usefixtures("each_loop")
def test_partition_goes_on_where_the_filling_ended() -> None:
    """The first replacements take the windows that the filling left, and so none of them fails."""
    if not is_supported(LOCAL_PORT_RANGE):
        pytest.skip("this kernel has no IP_LOCAL_PORT_RANGE (Linux 6.3)")
    strategy = replace(spec("partition", 4), load=Load(fill=0.5, churn=Churn(PORTS // 2)))
    filled, churned = measure_phases(strategy, PORTS, 0)
    assert sorted(filled.samples.port.tolist()) == list(range(LOW, LOW + PORTS // 2))
    assert not churned.samples.failed.any()
    assert (churned.samples.port >= LOW + PORTS // 2).all()


@pytest.mark.usefixtures("each_loop")
def test_syn_without_an_answer_is_waited_for_up_to_the_limit() -> None:
    """A listener whose queue is full answers no SYN: the limit ends the wait, and not the time-out of an hour.

    That is no slow search, and so no attempt that was given up.
    """
    with socket.socket() as full:
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        place = {
            "targets": (Endpoint(*full.getsockname()),),
            "listener": Listener.EXTERNAL,
            "namespace": Namespace.HOST,
        }
        strategy = replace(spec("bind"), load=Load(give_up_ms=50.0))
        result = measure(strategy, 8, 4, timeout=3600.0, sources=("127.0.0.1",), **place)
    assert set(result.samples.errno.tolist()) <= {0, TIMED_OUT}
    assert result.samples.errno[-1] == TIMED_OUT


@pytest.mark.usefixtures("each_loop")
def test_slow_attempts_are_given_up() -> None:
    """An attempt that takes longer than the limit counts as given up, and its port is free again."""
    result = measure(under("bind", Load(give_up_ms=0.000_001)), 8, 20)
    assert set(result.samples.errno.tolist()) == {GIVEN_UP}
    assert (result.rounds[0].report.held, result.rounds[0].report.time_wait) == (0, 0)
    assert measure(under("bind", Load(give_up_ms=60_000)), 8, 8).samples.errno.tolist() == [0] * 8


@pytest.mark.usefixtures("each_loop")
@pytest.mark.parametrize("strategy", [spec("random"), spec("window", 4, retries=9)], ids=["random", "window"])
def test_draws_are_promised_and_ports_are_not(strategy: StrategySpec) -> None:
    """Two clients race for a port in the kernel: tries and ports may differ, what a try draws may not.

    A client's attempts are its rows in order. `random` has the port that the row's last try drew; `window` has one of
    the window that it drew.
    """
    if strategy.name == "window" and not is_supported(LOCAL_PORT_RANGE):
        pytest.skip("this kernel has no IP_LOCAL_PORT_RANGE (Linux 6.3)")
    strategy = replace(strategy, load=Load(concurrency=2))
    planned = RoundPlan(make_plan(strategy, 64, 60), strategy, 1)
    draws = Draws.of(planned)
    for _ in range(2):
        samples = measure(strategy, 64, 60).samples
        for client, rows in enumerate(planned.rows_of_clients(Phase.FILL)):
            of_client = samples.chosen(samples.client == client)
            for row, tries, port in zip(rows, of_client.tries.tolist(), of_client.port.tolist(), strict=True):
                drawn = draws.number(row, tries - 1)
                assert port in {0, drawn} if strategy.name == "random" else _lies_in(port, drawn)
        assert samples.tries.max() > 1


def _lies_in(port: int, window: int) -> bool:
    """Whether a value of IP_LOCAL_PORT_RANGE allows a port; 0 is none."""
    return port == 0 or window & 0xFFFF <= port <= window >> 16


@pytest.mark.usefixtures("each_loop")
def test_giving_up_ends_further_tries() -> None:
    """Once the time is over no port is drawn any more."""
    full = replace(spec("random", retries=10**9), load=Load(give_up_ms=1.0))
    samples = measure(full, 8, 9).samples
    assert samples.failed.any()  # there are eight ports, or fewer are held where an attempt before was given up, too
    assert set(samples.errno[samples.failed].tolist()) == {GIVEN_UP}
    assert samples.tries.max() < 10**9


def tracked(result: StrategyResult, target: int) -> list[int]:
    """The ports taken for one target, in order."""
    return ports_of(result.samples.chosen(result.samples.target == target))


@pytest.mark.usefixtures("each_loop")
@pytest.mark.parametrize("spread", list(Spread))
@pytest.mark.parametrize("name", ["plain", "bind", "range"])
def test_each_target_has_all_ports(name: str, spread: Spread) -> None:
    """The search of connect() goes by source and target: twice the targets, twice the connections."""
    result = measure(under(name, Load()), 16, 33, targets=TWO_TARGETS, spread=spread)
    everything = list(range(LOW, LOW + 16))
    assert [tracked(result, target) for target in (0, 1)] == [everything, everything]
    assert (int(result.samples.failed.sum()), result.capacity) == (1, 32)


@pytest.mark.usefixtures("each_loop")
@pytest.mark.parametrize("spread", list(Spread))
def test_bound_port_is_taken_for_every_target(spread: Spread) -> None:
    """bind() to a port knows no target: all targets together have one range."""
    result = measure(spec("random"), 16, 16, targets=TWO_TARGETS, spread=spread)
    assert sorted(tracked(result, 0) + tracked(result, 1)) == list(range(LOW, LOW + 16))
    assert min(len(tracked(result, target)) for target in (0, 1)) == 8
    assert result.capacity == 16
    more = measure(spec("random", retries=200), 16, 17, targets=TWO_TARGETS, spread=spread).samples
    assert more.errno[-1] == errno.EADDRINUSE


@pytest.mark.usefixtures("each_loop")
def test_shapes_go_together() -> None:
    """Two clients churn over two sources and two targets, and lose nothing."""
    load = Load(fill=0.5, concurrency=2, churn=Churn(64))
    sources = ("127.9.9.1", "127.9.9.4")
    filled, churned = measure_phases(under("bind", load), 32, 0, targets=TWO_TARGETS, sources=sources)
    assert len(filled.samples) == churned.rounds[0].report.established == 64
    for samples in (filled.samples, churned.samples):
        assert not samples.failed.any()
        assert {*zip(samples.source.tolist(), samples.target.tolist(), strict=True)} == {(0, 0), (1, 0), (0, 1), (1, 1)}


@pytest.mark.parametrize("is_far", [False, True])
def test_loopback_hides_that_ports_in_time_wait_run_out(is_far: bool) -> None:
    """Of 50 ports 25 are free: over veth 60 replacements by FIN use them up; the loopback soon has them free again."""
    link = OVER_VETH if is_far else {}
    strategy = under("bind", Load(fill=0.5, churn=Churn(60, Close.FIN, rate=50.0)))
    plan = make_plan(strategy, 50, 0, listener=Listener.ACCEPT, **link)
    result = Result(plan, {})
    run(plan, result, lambda _: None, lambda _: None, Interrupts())
    settings = result.strategies[-1].rounds[0].report.settings
    assert settings["net.ipv4.tcp_tw_reuse"] == "2"
    failed = int(result.strategies[-1].samples.failed.sum())
    codes = {finding.code for finding in findings(result)}
    if is_far:
        assert failed == 60 - 25
    assert ("loopback-reuse" in codes) is not is_far
