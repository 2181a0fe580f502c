"""`--link nat` without a network: what a request means, who connects from where, and what the router's counters say."""

from __future__ import annotations

import errno
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from connbench.analysis.comparison import compare
from connbench.analysis.soundness import findings
from connbench.draws import Draws
from connbench.errors import UsageError
from connbench.findings import Finding, Severity
from connbench.linux.counters import parse_conntrack
from connbench.model import (
    Churn,
    Close,
    Endpoint,
    Link,
    Load,
    Phase,
    PortRange,
    Protocol,
    RoundPlan,
    Spread,
    first_sources,
)
from connbench.planner.namespaces import with_client_namespaces
from connbench.planner.planner import plan_offline
from connbench.planner.request import RunRequest
from connbench.planner.workload import find_crowded_clients, find_fuller_than_router
from connbench.report.formats import FORMATS
from connbench.report.run_report import link_name
from connbench.report.run_verdict import run_verdict
from connbench.results.result import Round
from factories import BIND, PLAN, result_of, round_of, samples_of, unhurried

NAT = RunRequest(link=Link.NAT)
BEHIND = replace(
    PLAN,
    link=Link.NAT,
    sources=first_sources(2, 4, Link.NAT),
    targets=(Endpoint("198.19.0.1", 80),),
    nat_ports=PortRange(1000, 1099),
)
OLD = """entries  searched found new invalid ignore delete delete_list insert insert_failed drop early_drop
0000000a  00000000 00000000 00000000 00000001 00000000 00000000 00000000 00000000 00000010 00000011 00000000
0000000a  00000000 00000000 00000000 00000000 00000000 00000000 00000000 00000000 00000001 00000001 00000002
"""
"""/proc/net/stat/nf_conntrack of Linux 4.9, with two CPUs."""


@pytest.mark.parametrize(
    ("changes", "fault", "hint"),
    [
        ({"link": Link.LOOPBACK, "clients": 2}, "--clients 2 does nothing without --link nat", "add --link nat"),
        ({"link": Link.VETH, "nat_ports": PortRange(5, 9)}, "--nat-ports 5-9 does nothing without", "add --link nat"),
        ({"link": Link.VETH, "nat_random": True}, "--nat-random does nothing without --link nat", "add --link nat"),
        ({"protocol": Protocol.UDP}, "--protocol udp: connect() of UDP sends nothing", "leave out --link nat"),
        ({"sources": 3}, "--sources 3: with --link nat each client namespace", "use --clients 3 instead"),
        ({"spread": Spread.FILL}, "--spread fill: with --link nat", "leave out --spread"),
        ({"clients": 3, "connections": 10}, "-n 10 is not a multiple of the 3", "give -n 12"),
        ({"clients": 3, "concurrency": 4}, "--concurrency 4 is not a multiple of the 3", "give --concurrency 6"),
        ({"clients": 2, "source": "10.0.0.1"}, "--clients 2: --source names 1 address", "name one address for each"),
        ({"source": "10.0.0.0/25"}, "126 client namespaces are not possible", "give 1 to 64"),
    ],
)
def test_what_a_router_cannot_go_with_is_refused(changes: dict[str, Any], fault: str, hint: str) -> None:
    """Wrong usage names the option and its value, with a remedy."""
    with pytest.raises(UsageError) as caught:
        with_client_namespaces(replace(NAT, **changes))
    assert caught.value.message.startswith(fault)
    assert hint in caught.value.hint


def test_each_client_namespace_has_a_client() -> None:
    """Without --concurrency one in each; --source may name the addresses, one for each namespace."""
    assert with_client_namespaces(RunRequest()) == RunRequest()
    assert with_client_namespaces(NAT) == replace(NAT, clients=1)
    assert with_client_namespaces(replace(NAT, clients=3)).concurrency == 3
    assert with_client_namespaces(replace(NAT, clients=3, concurrency=6)).concurrency == 6
    named = with_client_namespaces(replace(NAT, source="10.0.0.1,10.0.0.7"))
    assert (named.clients, named.concurrency) == (None, 2)


def test_the_model_has_no_nat() -> None:
    """A prediction without the router would be one of something else."""
    with pytest.raises(UsageError, match="--link nat: the model of the port search has no NAT"):
        plan_offline(NAT)


@unhurried
@given(st.integers(1, 5), st.integers(1, 3), st.integers(1, 4), st.integers(1, 40), st.sampled_from(["bind", "random"]))
def test_every_client_connects_from_its_namespace(
    namespaces: int, clients_each: int, targets: int, connections_each: int, name: str
) -> None:
    """Each row's source is that of its client's namespace, all have as many rows, and the targets take turns."""
    plan = replace(
        BEHIND,
        sources=first_sources(namespaces, 4, Link.NAT),
        targets=tuple(Endpoint("198.19.0.1", 80 + number) for number in range(targets)),
        connections=namespaces * connections_each,
    )
    spec = replace(BIND, name=name, load=Load(concurrency=namespaces * clients_each, churn=Churn(17)))
    planned = RoundPlan(plan, spec, 1)
    draws, rows = Draws.of(planned), planned.rows_of_clients(Phase.FILL)
    assert draws.paths == namespaces * targets
    taken = [[draws.path(row) for row in of_client] for of_client in rows]
    for client, paths in enumerate(taken):
        assert {path % namespaces for path in paths} <= {planned.client_namespace_of(client)}
    sources = [path % namespaces for paths in taken for path in paths]
    assert [sources.count(source) for source in range(namespaces)] == [connections_each] * namespaces
    by_target = [sum(path // namespaces == target for paths in taken for path in paths) for target in range(targets)]
    assert max(by_target) - min(by_target) <= 1


@unhurried
@given(st.integers(1, 64), st.floats(1e-6, 1))
def test_a_share_is_as_many_in_each_namespace(namespaces: int, share: float) -> None:
    """--fill rounds to a multiple of the client namespaces, and not to nothing."""
    plan = replace(BEHIND, sources=first_sources(namespaces, 4, Link.NAT))
    connections = RoundPlan(plan, replace(BIND, load=Load(fill=share)), 1).connections
    assert connections >= namespaces
    assert connections % namespaces == 0


def test_conntrack_columns_go_by_their_names() -> None:
    """Older kernels have other columns; entries are the same in each CPU's line, the others are summed."""
    entries, counters = parse_conntrack(OLD)
    assert entries == 10
    assert (counters["Conntrack.insert_failed"], counters["Conntrack.drop"]) == (17, 18)
    assert (counters["Conntrack.early_drop"], counters["Conntrack.invalid"]) == (2, 1)
    assert "Conntrack.search_restart" not in counters
    for wrong in ("", "entries insert\n", "entries\nxyz\n"):
        with pytest.raises((ValueError, LookupError, ZeroDivisionError)):
            parse_conntrack(wrong)


def lossy(dropped: int, entries: int, *, failed: int = 0, late: int = 0, table: int = 1000, **counters: int) -> Round:
    """A round whose router dropped SYNs: some attempts came late, and some had no answer."""
    times = [10_000] * 10 + [1_020_000_000] * late + [200_000_000] * failed
    measured = round_of(samples_of(times, errno=[0] * (10 + late) + [errno.EINPROGRESS] * failed))
    moved = {"Conntrack.insert_failed": dropped, "Conntrack.drop": dropped, "TcpExt.TCPSynRetrans": dropped}
    settings = {
        "net.netfilter.nf_conntrack_max": str(table),
        "net.netfilter.nf_conntrack_tcp_timeout_time_wait": "120",
    }
    report = replace(
        measured.report,
        counters=measured.report.counters | moved | counters,
        conntrack_entries=entries,
        settings=measured.report.settings | settings,
    )
    return replace(measured, report=report)


def found_in(measured: Round, load: Load = Load(concurrency=2), **changes: Any) -> list[Finding]:  # noqa: ANN401, B008
    """The findings about a round behind a router."""
    spec = replace(BIND, load=load, phase=Phase.CHURN if load.churn else Phase.FILL)
    return findings(result_of({spec: [measured]}, replace(BEHIND, **changes)))


def test_a_full_nat_is_a_result_and_no_dirty_measurement() -> None:
    """The SYNs that were sent again, the late and the unanswered ones have one finding, which says what happened."""
    [found] = found_in(lossy(7, 100, failed=2, late=3))
    assert (found.code, found.severity) == ("nat-ports", Severity.NOTE)
    assert found.message == (
        "the router dropped 7 SYNs (conntrack insert_failed 7, drop 7), for it found no free port: 100 of its 100 "
        "ports had a connection at the end, open or closed; 3 connect() took a second or more, until the SYN was sent "
        "again, and 2 had no answer"
    )
    assert "--nat-ports" in found.advice
    assert "nf_conntrack" not in found.advice


def test_closed_connections_keep_their_ports() -> None:
    """In a churn the advice names the timeout of closed connections."""
    [found] = found_in(lossy(1, 100, late=1), Load(concurrency=2, churn=Churn(9, Close.FIN)))
    assert "shorten net.netfilter.nf_conntrack_tcp_timeout_time_wait (--sysctl; it is 120 s)" in found.advice


def test_a_drop_with_free_ports_is_told_apart() -> None:
    """Half of the ports are free: the kernel tries a few of them, or two SYNs had the same one."""
    [found] = found_in(lossy(2, 50, late=2))
    assert found.code == "nat-clash"
    assert "--nat-random spreads" in found.advice
    [found] = found_in(lossy(2, 50, late=2), nat_random=True)
    assert "--nat-random" not in found.advice


def test_a_full_table_is_no_lack_of_ports() -> None:
    """The table of the kernel is full before the ports are."""
    [found] = found_in(lossy(3, 95, late=1, table=96), nat_ports=PortRange(1000, 9999))
    assert (found.code, found.severity) == ("conntrack-full", Severity.WARNING)
    assert "95 entries, net.netfilter.nf_conntrack_max is 96" in found.message


def test_an_overflow_stays_invalid() -> None:
    """A full accept queue is no matter of the router, whatever that drops besides."""
    codes = {f.code: f.severity for f in found_in(lossy(1, 100, late=1, **{"TcpExt.ListenOverflows": 3}))}
    assert codes == {"nat-ports": Severity.NOTE, "listener-overflow": Severity.INVALID}


def test_a_lost_syn_that_no_router_dropped_stays_invalid() -> None:
    """Behind a router, too, a SYN that was sent again for another reason is a fault."""
    measured = lossy(0, 100, late=1, **{"TcpExt.TCPSynRetrans": 1})
    assert {f.code for f in found_in(measured)} == {"syn-retransmission", "slow-connect"}


def test_a_client_without_a_port_is_not_the_router() -> None:
    """EADDRNOTAVAIL comes from the client namespace itself."""
    measured = round_of(samples_of([10_000] * 4, errno=[0, 0, 0, errno.EADDRNOTAVAIL]))
    [found] = found_in(measured)
    assert found.code == "client-ports"
    assert "--port-range" in found.advice


@pytest.mark.parametrize(
    ("namespaces", "concurrency", "proposal"),
    [(2, 4, "--concurrency 2"), (3, 3, "--clients 2"), (1, 3, "--concurrency 2")],
)
def test_crowded_clients_are_told_what_fits(namespaces: int, concurrency: int, proposal: str) -> None:
    """On two CPUs: fewer clients in each namespace, and where that is none, fewer namespaces."""
    strategy = replace(BIND, load=Load(concurrency=concurrency))
    plan = replace(BEHIND, sources=first_sources(namespaces, 4, Link.NAT), strategies=(strategy,))
    [found] = find_crowded_clients(plan, 2)
    assert f"; {proposal} shows" in found.advice


def test_clients_of_other_namespaces_take_no_port_that_was_reset() -> None:
    """A port that one client resets is another's only in the same namespace."""
    resetting = Load(concurrency=2, churn=Churn(9))
    assert not RoundPlan(BEHIND, replace(BIND, load=resetting), 1).resets_while_others_connect
    resetting = replace(resetting, concurrency=4)
    assert RoundPlan(BEHIND, replace(BIND, load=resetting), 1).resets_while_others_connect


def test_more_connections_than_ports_are_noted_beforehand() -> None:
    """Beyond the router's ports each connect() waits for its time-out."""
    assert find_fuller_than_router(replace(BEHIND, connections=100)) == []
    [found] = find_fuller_than_router(replace(BEHIND, connections=102))
    assert found.message.startswith("102 connections are asked for, and the router has 100 ports")


def test_the_reports_tell_of_the_router() -> None:
    """Header, counters and verdict in text, the entries and counters as metrics; and nothing of a router elsewhere."""
    spec = replace(BIND, load=Load(concurrency=2))
    result = result_of({spec: [lossy(7, 100, failed=2, late=3)]}, BEHIND)
    assert link_name(BEHIND) == "nat link, 2 client namespaces, router ports 1000-1099"
    assert link_name(replace(BEHIND, sources=BEHIND.sources[:1], nat_ports=None, nat_random=True)) == (
        "nat link, 1 client namespace, router ports at random"
    )
    text = FORMATS["text"](result)
    assert "router: 100 conntrack entries of 1,000, 100 ports; insert_failed 7, drop 7" in text
    first, *_, last = run_verdict(result)
    assert first.startswith("13 of 15 connections came through the router's 100 ports with bind")
    assert "3 of them after a second or more, for the router dropped their SYN" in first
    assert last.startswith("Next: give the router more ports")
    metrics = FORMATS["prometheus"](result)
    assert 'connbench_conntrack_entries{round="1",strategy="bind, 2 clients"} 100.0' in metrics
    assert 'connbench_conntrack_events_total{counter="insert_failed",strategy="bind, 2 clients"} 7.0' in metrics
    other = result_of({BIND: [round_of(samples_of([10_000] * 10))]})
    assert "router" not in FORMATS["text"](other)
    assert "conntrack" not in FORMATS["prometheus"](other)


def test_results_of_another_router_differ() -> None:
    """Its ports, how it draws them, and how many clients are behind it."""
    rounds = {BIND: [round_of(samples_of([10_000] * 10))]}
    other = replace(BEHIND, nat_ports=None, nat_random=True, sources=BEHIND.sources[:1])
    differences = {d.code for d in compare(result_of(rounds, BEHIND), result_of(rounds, other)).differences}
    assert {"nat-ports", "nat-random", "clients"} <= differences
