"""A round through a router that masquerades: who keeps which port, and what its exhaustion is told apart from."""

from __future__ import annotations

import errno
import json
import subprocess
import sys
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from allowed_namespace import NAMESPACE
from connbench.analysis.soundness import NOISE, findings
from connbench.errors import EnvironmentFault, ExitCode, RunFault
from connbench.findings import Finding, Severity
from connbench.interrupts import Interrupts
from connbench.linux.address_family import has_ipv6
from connbench.linux.nat import check_can_route
from connbench.linux.process import in_child
from connbench.model import NO_LOAD, Churn, Close, Endpoint, Link, Listener, Load, Namespace, PortRange, first_sources
from connbench.planner.namespaces import check_link
from connbench.results.result import PARTIAL, Result, Round
from connbench.runner import run
from run_connbench import LOW, connbench, make_plan, measure_phases, spec, started_here

ROUTER_PORTS = PortRange(50_000, 50_015)
ROUTER = {"4": "198.19.255.254", "6": "2001:db8:2::1"}
FAMILIES = [
    "4",
    pytest.param("6", marks=pytest.mark.skipif(not has_ipv6(), reason="this kernel has no IPv6, or it is off")),
]
NAMESPACES = [n for n in (Namespace.NETWORK, Namespace.USER) if NAMESPACE in {n, Namespace.NETWORK}]


@cache
def why_no_nat() -> str:
    """Why this machine has no router for a test; empty if it has."""
    try:
        in_child(_try_router, "no router", "")
    except EnvironmentFault as fault:
        return fault.message
    return ""


def _try_router() -> None:
    check_can_route(NAMESPACE, ("198.18.0.1",), ("198.19.0.1",), 0.0, None, is_random=False)


@pytest.fixture(autouse=True)
def _needs_nat() -> None:
    if why_no_nat():
        pytest.skip(why_no_nat())


def behind_router(
    name: str,
    attempts: int,
    *,
    clients: int = 2,
    ports: int = 16,
    load: Load = NO_LOAD,
    **changes: Any,  # noqa: ANN401  # any field of Plan
) -> Result:
    """Run a strategy from client namespaces with as many ports each, a client in each."""
    load = replace(load, concurrency=max(load.concurrency, clients))
    fields: dict[str, Any] = {
        "sources": first_sources(clients, 4, Link.NAT),
        "targets": (Endpoint("198.19.0.1", LOW - 1),),
        "link": Link.NAT,
        "nat_ports": ROUTER_PORTS,
        "timeout": 0.2,
    }
    plan = make_plan(replace(spec(name), load=load), ports, attempts, **(fields | changes))
    result = Result(plan, {"kernel": "under test"})
    try:
        run(plan, result, lambda _: None, lambda _: None, Interrupts())
    except RunFault:
        assert result.is_partial
    return result


SENT_AGAIN = 5.0
"""A time-out in s, for tests in which the router has room: of two SYNs that it gives one port at the same moment it
drops one, which is sent again after a second."""


def last(result: Result) -> Round:
    """The round of the result's last phase."""
    return result.strategies[-1].rounds[-1]


def by_code(result: Result) -> dict[str, Finding]:
    """The findings about a result, without those about a busy machine."""
    return {finding.code: finding for finding in findings(result) if finding.code not in NOISE}


def test_sysctls_are_those_of_clients_and_router() -> None:
    """Read back in both: what connect() heeds, and how long the router keeps a connection that ended."""
    timeout = "net.netfilter.nf_conntrack_tcp_timeout_time_wait"
    load = Load(sysctls=("net.ipv4.tcp_tw_reuse=1", f"{timeout}=7"))
    settings = last(behind_router("bind", 4, load=load)).report.settings
    assert (settings["net.ipv4.tcp_tw_reuse"], settings[timeout]) == ("1", "7")


@pytest.mark.usefixtures("each_loop")
@pytest.mark.parametrize("namespace", NAMESPACES)
def test_each_client_namespace_has_all_ports_of_its_own(namespace: Namespace) -> None:
    """Two clients in each of two namespaces: each address gets each port of the range once, and the router has room."""
    load = Load(concurrency=4)
    result = behind_router("bind", 16, ports=8, load=load, namespace=namespace, timeout=SENT_AGAIN)
    samples = last(result).samples
    assert not samples.failed.any()
    pairs = sorted(zip(samples.source.tolist(), samples.port.tolist(), strict=True))
    assert pairs == [(source, port) for source in range(2) for port in range(LOW, LOW + 8)]
    assert {(int(c), int(s)) for c, s in zip(samples.client, samples.source, strict=True)} == {
        (0, 0),
        (1, 0),
        (2, 1),
        (3, 1),
    }
    report = last(result).report
    assert (report.conntrack_entries, report.established) == (16, 16)
    assert report.counters["Tcp.ActiveOpens"] == report.counters["Tcp.PassiveOpens"] == 16
    assert set(by_code(result)) == ({"nat-ports"} if report.counters["Conntrack.insert_failed"] else set())
    assert started_here() == []


@pytest.mark.parametrize("name", ["plain", "window", "random"])
def test_every_strategy_connects_through_it(name: str) -> None:
    """From three namespaces to two targets; each attempt connects from the address of its own namespace."""
    strategy = spec(name, 4 if name == "window" else None)
    targets = tuple(Endpoint("198.19.0.1", LOW - 1 - number) for number in range(2))
    load = Load(concurrency=3)
    [measured] = measure_phases(
        replace(strategy, load=load),
        32,
        12,
        sources=first_sources(3, 4, Link.NAT),
        targets=targets,
        link=Link.NAT,
    )
    samples = measured.samples
    assert not samples.failed.any()
    assert samples.source.tolist() == samples.client.tolist()
    assert sorted(samples.source.tolist()) == [0] * 4 + [1] * 4 + [2] * 4
    assert sorted(samples.target.tolist()) == [0] * 6 + [1] * 6


@pytest.mark.usefixtures("each_loop")
def test_a_router_without_a_port_drops_the_syn() -> None:
    """It has 16 ports, and as many connections come through; the others time out, which says nothing of the clients."""
    result = behind_router("bind", 40, ports=32)
    measured = last(result)
    numbers = measured.samples.errno.tolist()
    assert numbers.count(0) == len(ROUTER_PORTS)
    assert set(numbers) == {0, errno.EINPROGRESS}
    assert measured.report.counters["Conntrack.insert_failed"] >= numbers.count(errno.EINPROGRESS)
    assert measured.report.conntrack_entries == len(ROUTER_PORTS)
    found = by_code(result)
    assert set(found) == {"nat-ports", PARTIAL}
    assert found["nat-ports"].severity is Severity.NOTE
    assert "16 of its 16 ports had a connection" in found["nat-ports"].message
    assert f"{numbers.count(errno.EINPROGRESS)} connect() had no answer" in found["nat-ports"].message
    assert "--nat-ports" in found["nat-ports"].advice


def test_in_flight_the_handshake_times_out() -> None:
    """The same with sockets that do not block."""
    result = behind_router("bind", 24, ports=32, load=Load(in_flight=4))
    assert last(result).samples.errno.tolist().count(0) == len(ROUTER_PORTS)
    assert "nat-ports" in by_code(result)
    assert "syn-retransmission" not in by_code(result)


def test_a_client_without_a_port_asks_no_router() -> None:
    """Eight ports in each namespace: the ninth attempt fails there at once, and the router drops nothing."""
    result = behind_router("bind", 20, ports=8, nat_ports=None, timeout=SENT_AGAIN)
    measured = last(result)
    assert measured.samples.errno.tolist().count(errno.EADDRNOTAVAIL) == 4
    assert measured.report.conntrack_entries == 16
    found = by_code(result)
    assert set(found) - {"nat-clash"} == {"client-ports"}
    assert found["client-ports"].message.startswith("4 of 20 attempts found no free port in their own client namespace")


def test_churn_by_fin_waits_in_every_client_namespace() -> None:
    """TIME_WAIT is counted in all of them, and closed connections keep their entries in the router."""
    # The server acknowledges a FIN at once if the acceptor closes, too, and after at most 40 ms (TCP_DELACK_MIN) if it
    # does not get to run: at 50 ms each, all but the last have been acknowledged at the end.
    load = Load(churn=Churn(8, Close.FIN, rate=20))
    result = behind_router("bind", 8, load=load, listener=Listener.ACCEPT, nat_ports=None, timeout=SENT_AGAIN)
    measured = last(result)
    assert not measured.samples.failed.any()
    assert measured.report.time_wait > 4  # one of the two has 4
    assert measured.report.conntrack_entries == 16
    assert "net.netfilter.nf_conntrack_tcp_timeout_time_wait" in measured.report.settings


def probed(family: str, ports: str, how: str) -> dict[str, Any]:
    """What two clients that bind to the same port look like at the server."""
    script = str(Path(__file__).parents[1] / "nat_probe.py")
    done = subprocess.run([sys.executable, script, family, ports, how], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    told: dict[str, Any] = json.loads(done.stdout)
    return told


@pytest.mark.parametrize("family", FAMILIES)
def test_the_first_client_keeps_its_port(family: str) -> None:
    """The server sees the router's address; the router keeps a port that is free, and gives the second client another.

    Five namespaces in all: each client has its own device alone, and the router one to each of the others.
    """
    told = probed(family, "-", "-")
    (first, first_port), (second, second_port) = told["peers"]
    assert first == second == ROUTER[family]
    assert first_port == 40_000
    assert second_port != 40_000
    assert second_port >= 1024
    assert (told["entries"], told["opened"], told["failed"]) == (2, 2, 0)
    assert told["devices"] == {
        "clients": [["lo", "near"], ["lo", "near"]],
        "router": ["client0", "client1", "lo", "server"],
        "server": ["far", "lo"],
    }


def test_the_router_keeps_to_its_ports() -> None:
    """With --nat-ports every port is of the range, and with --nat-random none is kept on purpose."""
    ports = PortRange(20_000, 20_003)
    for how in ("-", "random"):
        peers = [port for _, port in probed("4", str(ports), how)["peers"]]
        assert len(set(peers)) == 2
        assert all(port in ports for port in peers)
    kept = [probed("4", "30000-50000", "random")["peers"][0][1] for _ in range(2)]
    assert kept != [40_000] * 2


def test_nothing_of_it_is_left_on_the_host() -> None:
    """The devices are in namespaces that are gone."""
    before = sorted(path.name for path in Path("/sys/class/net").glob("*"))
    behind_router("bind", 4)
    assert sorted(path.name for path in Path("/sys/class/net").glob("*")) == before


def test_more_namespaces_than_the_limit_are_refused() -> None:
    """A router and a server beside the clients: too few namespaces are allowed, and nothing is measured."""
    finished = connbench(
        "run", "--link", "nat", "--clients", "2", "-n", "4", "--strategy", "bind", inside=("--most", "net_namespaces=3")
    )
    assert (finished.returncode, finished.stdout) == (ExitCode.ENVIRONMENT, "")
    assert finished.stderr.splitlines() == [
        "connbench: cannot create the 4 network namespaces of --link nat: the limit user.max_net_namespaces is reached",
        "  -> raise user.max_net_namespaces, ask for fewer --clients, or leave out --link nat",
    ]


def test_more_connections_than_the_table_are_refused() -> None:
    """nf_conntrack_max is the host's: connbench names it, and does not raise it."""
    most = check_can_route(NAMESPACE, ("198.18.0.1",), ("198.19.0.1",), 0.0, None, is_random=False)
    clients, ports = most // 60_000 + 1, 60_000
    if clients > 8:
        pytest.skip(f"nf_conntrack_max is {most}: so many connections need many namespaces")
    plan = make_plan(
        spec("bind"),
        ports,
        ports * clients,
        low=2000,
        sources=first_sources(clients, 4, Link.NAT),
        targets=(Endpoint("198.19.0.1", 80),),
        link=Link.NAT,
    )
    with pytest.raises(EnvironmentFault, match=f"do not fit the router's conntrack table, .* is {most:,}") as caught:
        check_link(plan)
    assert "sysctl net.netfilter.nf_conntrack_max=" in caught.value.hint
