"""The report on churn: its rate, what TIME_WAIT holds, and what churn does not have."""

from __future__ import annotations

import errno
import re
from dataclasses import replace

import numpy as np
import pytest

from connbench.analysis.knee import Knee, find_knee
from connbench.analysis.soundness import findings
from connbench.analysis.summary import achieved_rate, rate_of_all
from connbench.findings import Finding, Severity
from connbench.model import (
    Churn,
    Close,
    Endpoint,
    Listener,
    Load,
    Namespace,
    Phase,
    Plan,
    PortRange,
    Protocol,
    StrategySpec,
)
from connbench.report import run_report
from connbench.report.html.figures import utilisation
from connbench.report.ranking_table import ranking_of
from connbench.report.run_report import closing_blocks, strategy_blocks
from connbench.report.series import series_of
from connbench.report.text import write
from connbench.results.result import Result, Round
from factories import BIND, PLAIN, PLAN, RANDOM, result_of, round_of, samples_of

ATTEMPTS = 100
HUNDRED_PORTS = replace(PLAN, port_range=PortRange(9024, 9123))
DEFAULTS = {"net.ipv4.tcp_tw_reuse": "2", "net.ipv4.tcp_tw_reuse_delay": "1000", "net.ipv4.tcp_timestamps": "1"}


def churning(spec: StrategySpec = BIND, *, clients: int = 1, **churn: float | Close | None) -> StrategySpec:
    """The churn of a strategy."""
    load = Load(fill=0.8, concurrency=clients, churn=Churn(ATTEMPTS, **churn))  # type: ignore[arg-type]  # fields of Churn
    return replace(spec, load=load, phase=Phase.CHURN)


def every(interval_ns: int, *, failing: int = 0, time_wait: int = 0, **settings: str) -> Round:
    """A replacement each `interval_ns`; the last of them find no port, and sockets are left in TIME_WAIT."""
    samples = samples_of(
        [10_000] * ATTEMPTS,
        started_ns=range(0, interval_ns * ATTEMPTS, interval_ns),
        errno=[0] * (ATTEMPTS - failing) + [errno.EADDRNOTAVAIL] * failing,
    )
    measured = round_of(samples)
    report = replace(measured.report, time_wait=time_wait, settings=DEFAULTS | settings)
    return replace(measured, report=report)


def found_in(
    spec: StrategySpec, measured: Round, plan: Plan = HUNDRED_PORTS, kernel: str = "6.8.0-test"
) -> list[Finding]:
    """The findings on a churn; its plan is that of the whole strategy."""
    result = result_of({spec: [measured]}, plan)
    result.environment["kernel"] = kernel
    result.rounds = {replace(spec, phase=Phase.FILL): [round_of(samples_of([1_000_000] * 80))], spec: [measured]}
    result.plan = replace(plan, strategies=(replace(spec, phase=Phase.FILL),))
    return findings(result)


@pytest.mark.parametrize(("clients", "rate"), [(1, 1000.0), (2, 98 / 0.099)])
def test_rate_leaves_out_what_each_client_begins_with(clients: int, rate: float) -> None:
    """A client's first replacement waits for nothing, and so does not count in the time between first and last."""
    assert achieved_rate(churning(clients=clients), every(1_000_000)) == pytest.approx(rate)


def test_rate_of_all_clients_leaves_out_the_time_in_which_one_is_alone() -> None:
    """Client 0 makes an attempt each ms from 0 to 6; client 1 begins at 3.5: from there to 6 there are four."""
    begun = [0, 1_000_000, 2_000_000, 3_000_000, 3_500_000, 4_000_000, 4_500_000, 5_000_000, 6_000_000, 8_500_000]
    samples = samples_of([10_000] * 10, started_ns=begun, client=[0, 0, 0, 0, 1, 0, 1, 0, 0, 1])
    assert rate_of_all(churning(clients=2), round_of(samples)) == pytest.approx(4 / 0.0025)
    assert rate_of_all(churning(clients=1), round_of(samples)) is None
    assert rate_of_all(churning(clients=3), round_of(samples)) is None
    apart = replace(samples, client=np.array([0] * 5 + [1] * 5, dtype=np.uint16))
    assert rate_of_all(churning(clients=2), round_of(apart)) is None


def test_too_few_replacements_have_no_rate() -> None:
    """One replacement a client takes no time, and none takes none."""
    assert achieved_rate(churning(clients=ATTEMPTS), every(1_000_000)) is None
    assert achieved_rate(churning(), round_of(samples_of([]))) is None


@pytest.mark.parametrize(("asked", "codes"), [(None, []), (1000, []), (1050, []), (1060, ["churn-rate"])])
def test_rate_that_was_not_reached_is_found(asked: float | None, codes: list[str]) -> None:
    """Where replacements fall behind the asked-for rate by a twentieth or more, the figures are of another load."""
    found = found_in(churning(rate=asked), every(1_000_000))
    assert [f.code for f in found] == codes
    assert all(f.severity is Severity.WARNING and "made 1,000 replacements a second" in f.text for f in found)


@pytest.mark.parametrize(("clients", "codes"), [((0,), []), ((0, 1), []), ((0, 0, 1), ["churn-in-turn"])])
def test_workers_in_turn_are_found(clients: tuple[int, ...], codes: list[str]) -> None:
    """Where a client has several workers, a finding says that each change of process is part of the figures."""
    measured = every(1_000_000)
    [worker] = measured.report.workers
    report = replace(measured.report, workers=tuple(replace(worker, client=client) for client in clients))
    found = found_in(churning(), replace(measured, report=report))
    assert [(f.code, f.severity) for f in found] == [(code, Severity.WARNING) for code in codes]


@pytest.mark.parametrize(
    ("spec", "plan", "settings", "advice"),
    [
        (BIND, HUNDRED_PORTS, {}, "a port is free again after 1 s: --churn-rate 20 fits"),
        (BIND, HUNDRED_PORTS, {"net.ipv4.tcp_tw_reuse_delay": "500"}, "after 0.5 s: --churn-rate 40 fits"),
        (
            BIND,
            HUNDRED_PORTS,
            {"net.ipv4.tcp_tw_reuse": "0"},
            "--churn-rate 0.333 fits, or use --close rst; with --sysctl net.ipv4.tcp_tw_reuse=1 it is free after 1 s",
        ),
        (
            BIND,
            HUNDRED_PORTS,
            {"net.ipv4.tcp_timestamps": "0"},
            "after 60 s: --churn-rate 0.333 fits, or use --close rst$",
        ),
        (RANDOM, HUNDRED_PORTS, {}, "after 60 s: --churn-rate 0.333 fits, or use --close rst$"),
        (
            BIND,
            replace(HUNDRED_PORTS, targets=(Endpoint("192.0.2.1", 80),), namespace=Namespace.HOST),
            {},
            "after 60 s: --churn-rate 0.333 fits, or use --close rst$",
        ),
        (BIND, replace(HUNDRED_PORTS, targets=(Endpoint("192.0.2.1", 80),)), {"net.ipv4.tcp_tw_reuse": "1"}, "1 s"),
    ],
)
def test_time_wait_is_named_with_the_rate_that_fits(
    spec: StrategySpec, plan: Plan, settings: dict[str, str], advice: str
) -> None:
    """The ports left free, over the time in TIME_WAIT, are what FIN can close a second."""
    found = found_in(churning(spec, close=Close.FIN), every(1_000, failing=30, time_wait=50, **settings), plan)[0]
    assert (found.code, found.severity) == ("time-wait", Severity.NOTE)
    assert found.message == "30 of 100 replacements found no free port: 50 are in TIME_WAIT"
    assert re.search(advice, found.advice)


def test_connections_without_a_time_wait_are_reported() -> None:
    """Beyond tcp_max_tw_buckets the kernel drops what FIN closes at once: a search finds such ports free too soon."""
    churned = every(1_000)
    churned.report.settings["net.ipv4.tcp_max_tw_buckets"] = "4096"
    churned.report.counters["TcpExt.TCPTimeWaitOverflow"] = 5000
    found = found_in(churning(close=Close.FIN), churned)[0]
    assert (found.code, found.severity) == ("time-wait-overflow", Severity.WARNING)
    assert found.message.startswith("5,000 closed connections had no TIME_WAIT: net.ipv4.tcp_max_tw_buckets is 4,096, ")
    assert found_in(churning(), churned) == []


def test_rate_that_fits_can_be_given_as_it_stands() -> None:
    """The full range has 11,302 ports left at 80 %; the finding prints a rate that the option accepts."""
    [found] = found_in(churning(close=Close.FIN), every(1_000, failing=30, time_wait=50), PLAN)
    assert "--churn-rate 11302 fits" in found.advice


def test_full_range_leaves_no_rate() -> None:
    """Where every port is in use, the only free one is the one just closed, and it is in TIME_WAIT."""
    churn = Churn(ATTEMPTS, Close.FIN)
    spec = replace(BIND, load=Load(fill=1.0, churn=churn), phase=Phase.CHURN)
    found = found_in(spec, every(1_000, failing=100, time_wait=100))
    assert "fill fewer ports" in found[0].advice
    assert "no-connection" not in {one.code for one in found}, "that is what was asked, and no reason to reject it"


@pytest.mark.parametrize(("close", "failing", "time_wait"), [("rst", 30, 50), ("fin", 0, 50), ("fin", 30, 0)])
def test_failures_without_fin_or_time_wait_are_of_other_reasons(close: str, failing: int, time_wait: int) -> None:
    """A reset leaves no TIME_WAIT, and without failures no connection lacks a port."""
    measured = every(1_000, failing=failing, time_wait=time_wait)
    assert "time-wait" not in {found.code for found in found_in(churning(close=Close(close)), measured)}


FAR = replace(HUNDRED_PORTS, targets=(Endpoint("192.0.2.1", 80),))
MANY_PORTS = replace(HUNDRED_PORTS, port_range=PortRange(9024, 9823))


@pytest.mark.parametrize(
    ("spec", "plan", "settings", "hidden"),
    [
        (BIND, HUNDRED_PORTS, {}, "the 20 free ports do not last for 100 replacements in that time"),
        (BIND, HUNDRED_PORTS, {"net.ipv4.tcp_tw_reuse_delay": "500"}, "again after 0.5 s "),
        (BIND, replace(HUNDRED_PORTS, reserved=10), {}, "the 18 free ports do not last"),
        (BIND, HUNDRED_PORTS, {"net.ipv4.tcp_tw_reuse": "1"}, None),
        (BIND, HUNDRED_PORTS, {"net.ipv4.tcp_tw_reuse": "0"}, None),
        (BIND, HUNDRED_PORTS, {"net.ipv4.tcp_timestamps": "0"}, None),
        (RANDOM, HUNDRED_PORTS, {}, None),
        (BIND, FAR, {}, None),
        (BIND, MANY_PORTS, {}, None),
    ],
)
@pytest.mark.parametrize("failing", [0, 30])
def test_exhaustion_that_the_loopback_hides_is_said(
    spec: StrategySpec, plan: Plan, settings: dict[str, str], hidden: str | None, failing: int
) -> None:
    """With tcp_tw_reuse 2 only the loopback frees ports after a second: no error there says nothing of other links."""
    measured = every(1_000, failing=failing, time_wait=50, **settings)
    found = [f for f in found_in(churning(spec, close=Close.FIN), measured, plan) if f.code == "loopback-reuse"]
    assert [f.severity for f in found] == ([Severity.WARNING] if hidden else [])
    assert all(
        hidden and hidden in f.text and "add --link veth, or --sysctl net.ipv4.tcp_tw_reuse=0" in f.advice
        for f in found
    )


@pytest.mark.parametrize(
    ("name", "kernel", "codes"),
    [
        ("bind", "6.8.0", ["loopback-reuse"]),
        ("range", "6.8.0", []),
        ("range", "6.1.0-13-amd64", ["loopback-reuse"]),
    ],
)
def test_slow_half_that_the_loopback_hides_is_said(name: str, kernel: str, codes: list[str]) -> None:
    """40 of 150 open and 100 closed within a minute leave ports, but none in the half that is searched first."""
    load = Load(fill=0.25, churn=Churn(ATTEMPTS, Close.FIN))
    spec = StrategySpec(name, load=load, phase=Phase.CHURN)
    plan = replace(HUNDRED_PORTS, port_range=PortRange(9024, 9173))
    assert [f.code for f in found_in(spec, every(1_000), plan, kernel)] == codes


def test_reuse_of_the_host_is_set_on_the_host() -> None:
    """Where the run has no namespace of its own, the remedy is the host's setting."""
    plan = replace(HUNDRED_PORTS, namespace=Namespace.HOST, listener=Listener.EXTERNAL)
    [found] = found_in(churning(close=Close.FIN), every(1_000), plan)
    assert found.advice.startswith("set net.ipv4.tcp_tw_reuse to 0 on this host, or ")


def test_datagrams_are_not_closed_by_a_reset() -> None:
    """UDP has neither RST nor FIN, so its churn names none."""
    spec = churning()
    spec = replace(spec, load=replace(spec.load, protocol=Protocol.UDP))
    result = result_of({spec: [every(1_000)]}, HUNDRED_PORTS)
    [line] = [line for line in run_report.text(result).splitlines() if line.startswith("churn: ")]
    assert line == "churn: 100 replacements"


def both_phases() -> Result:
    """Plain and bind, each filling and then churning, bind twice as fast in either."""
    measured = {}
    for spec, fill, churn in ((PLAIN, 20_000, 80_000), (BIND, 10_000, 40_000)):
        filling, churned = (replace(churning(spec), phase=phase) for phase in (Phase.FILL, Phase.CHURN))
        half = range(9024, 9224, 2)
        measured[filling] = [round_of(samples_of([fill] * 50 + [4 * fill] * 50, port=[*half]))]
        measured[churned] = [round_of(samples_of([churn] * 50 + [4 * churn] * 50, port=[*half]))]
    return result_of(measured)


def test_churn_has_neither_knee_nor_share_of_the_range() -> None:
    """What would be a knee in a filling is none, and neither the report nor the utilisation chart mentions one."""
    result = both_phases()
    for strategy in result.strategies:
        is_churn = strategy.strategy.phase is Phase.CHURN
        assert (find_knee(strategy) == Knee()) is is_churn
        block = write(strategy_blocks(result, strategy))
        assert ("\nknee: " in block) is not is_churn
        assert ("\nchurn: 100 replacements, closed by rst" in block) is is_churn
    assert {trace["meta"]["series"] for trace in utilisation(series_of([result]))["data"]} == {0, 2}


def test_churn_is_compared_with_churn() -> None:
    """A churn is compared with plain's churn, a filling with plain's filling, each with its own first."""
    result = both_phases()
    ranking = ranking_of([result], [(s.strategy.label, s) for s in result.strategies])
    assert [(one.strategy.strategy.name, one.strategy.strategy.phase, one.speed) for one in ranking.lines] == [
        ("bind", Phase.FILL, "no difference shown"),  # of 100 attempts
        ("plain", Phase.FILL, "1.00 x"),
        ("bind", Phase.CHURN, "no difference shown"),
        ("plain", Phase.CHURN, "1.00 x"),
    ]


def test_line_of_churn_has_rate_and_time_wait() -> None:
    """A paced churn that closes by FIN shows its rate, and what TIME_WAIT holds at its end."""
    spec = churning(close=Close.FIN, rate=2000.0)
    result = result_of({spec: [every(1_000_000, time_wait=50)]})
    line = "churn: 100 replacements, closed by fin, 1,000/s of 2,000/s asked for; tcp_tw_reuse 2, 50 in TIME_WAIT"
    assert line in run_report.text(result).splitlines()


def test_long_labels_are_folded_on_a_terminal() -> None:
    """On a terminal the closing table folds the loads of the strategies; in a pipe each stays a line."""
    spec = churning(clients=4, close=Close.FIN, rate=2000.0)
    result = result_of({spec: [every(1_000_000)], replace(spec, name="plain"): [every(1_000_000)]})
    narrow, wide = write(closing_blocks(result), 80).split("\n\n")[0], write(closing_blocks(result)).split("\n\n")[0]
    assert [line for line in narrow.splitlines() if len(line) > 80] == []
    assert " ".join(narrow.split()) == " ".join(wide.split())
    assert len(narrow.splitlines()) > len(wide.splitlines()) == 4
