"""The reports on real runs under each kind of load, on ranges of a few ports."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from connbench.analysis.knee import find_knee
from connbench.analysis.parts import fill_steps
from connbench.analysis.soundness import findings
from connbench.analysis.summary import achieved_rate
from connbench.interrupts import Interrupts
from connbench.model import Churn, Close, Listener, Load, Protocol
from connbench.report.run_report import part_tables, strategy_blocks
from connbench.report.text import write
from connbench.results.result import Result
from connbench.runner import run
from run_connbench import OVER_VETH, make_plan, measure, spec


def result_of(name: str, ports: int, connections: int, load: Load, **changes: object) -> Result:
    """The result of one strategy under a load."""
    plan = make_plan(replace(spec(name), load=load), ports, connections, **changes)
    result = Result(plan, {"kernel": "under test"})
    run(plan, result, lambda _: None, lambda _: None, Interrupts())
    return result


def test_two_clients_use_up_one_half_between_them() -> None:
    """Two clients use up one range: its first parity ends for both at once, and each has a row of its own."""
    result = result_of("plain", 4096, 4096, Load(concurrency=2))
    [strategy] = result.strategies
    samples = strategy.samples
    assert not samples.failed.any()
    for client in (0, 1):  # one may begin an attempt before the other and end it after: the order is that of each alone
        assert (np.diff(samples.port[samples.client == client] % 2) >= 0).all()
    [(_, table)] = part_tables(result, strategy)
    assert [row[:3] for row in table.rows] == [("0", "2,048", "0"), ("1", "2,048", "0"), ("all", "4,096", "0")]


def test_fin_runs_out_of_ports_and_is_reported_why() -> None:
    """Unpaced closing by FIN leaves every free port in TIME_WAIT: a note names the rate that fits.

    Over a veth pair, where a port stays there for 60 s; on the loopback a slow machine would have it back after one.
    """
    result = result_of("plain", 200, 160, Load(churn=Churn(400, Close.FIN)), listener=Listener.ACCEPT, **OVER_VETH)
    filled, churned = result.strategies
    assert churned.samples.failed.any()
    assert [f.strategy for f in findings(result) if f.code == "time-wait"] == [churned.strategy.label]
    assert f"; {churned.rounds[0].report.established} open at the end" in write(strategy_blocks(result, churned))
    assert "160 open at the end" in write(strategy_blocks(result, filled))


def test_rate_that_nobody_can_do_is_found() -> None:
    """A billion replacements a second are not possible: the warning and the report's line say how many were made."""
    result = result_of("bind", 200, 160, Load(churn=Churn(40, rate=1e9)))
    [_, churned] = result.strategies
    rate = achieved_rate(churned.strategy, churned.rounds[0])
    assert rate is not None
    [found] = [f for f in findings(result) if f.code == "churn-rate"]
    made = f"the churn made {rate:,.0f} replacements a second, and --churn-rate asks for 1,000,000,000"
    assert found.message.startswith(made)
    assert f"closed by rst, {rate:,.0f}/s of " in write(strategy_blocks(result, churned))


def test_given_up_connections_leave_their_ports_free() -> None:
    """Under a limit that no connect() keeps every attempt is given up: nothing is ever open, and no port is missing."""
    strategy = measure(replace(spec("plain"), load=Load(give_up_ms=1e-6)), 100, 200)
    assert [(step.connected, step.given_up, step.failed, step.open) for step in fill_steps(strategy)][-1] == (
        0,
        100,
        0,
        0,
    )
    assert find_knee(strategy).first_failed is None


def test_udp_has_no_port_for_a_second_target() -> None:
    """A port of UDP is taken whatever the target: the targets have a table, and no range of their own."""
    targets = make_plan(spec("bind"), 1, 1).targets
    targets = (*targets, replace(targets[0], port=targets[0].port - 1))
    load = Load(protocol=Protocol.UDP)
    result = result_of("bind", 100, 150, load, targets=targets, listener=Listener.NONE)
    [strategy] = result.strategies
    assert (strategy.capacity, int(strategy.samples.failed.sum())) == (100, 50)
    [(_, table)] = part_tables(result, strategy)
    assert table.header[-1] == "p99"
