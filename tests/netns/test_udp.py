"""UDP on ranges of a few ports: the search is in bind(), has no parity, and knows no target."""

from __future__ import annotations

import errno
import socket
from collections import Counter
from dataclasses import replace
from select import select

import pytest

from allowed_namespace import NAMESPACE
from connbench.analysis.soundness import findings
from connbench.findings import Finding
from connbench.linux.interfaces import bring_up_loopback
from connbench.linux.namespace import enter_new_namespace
from connbench.linux.process import in_child
from connbench.linux.sockopts import LOCAL_PORT_RANGE, is_supported
from connbench.model import Churn, Endpoint, Listener, Load, Placement, Protocol, Reuse, StrategySpec
from connbench.report.json import json_document
from connbench.results.json_file import read_json
from connbench.results.result import Result, StrategyResult
from run_connbench import LOW, make_plan, measure, measure_phases, spec

pytestmark = pytest.mark.usefixtures("each_loop")

PORTS = 32
UDP = Load(protocol=Protocol.UDP)
NO_PORT = {"plain": errno.EAGAIN, "bind": errno.EADDRINUSE, "random": errno.EADDRINUSE, "range": errno.EADDRINUSE}


def of_udp(name: str, window: int | None = None, load: Load = UDP) -> StrategySpec:
    """A strategy whose sockets are UDP's."""
    if name in {"window", "range", "partition"} and not is_supported(LOCAL_PORT_RANGE):
        pytest.skip("this kernel has no IP_LOCAL_PORT_RANGE (Linux 6.3)")
    return replace(spec(name, window), load=load)


def measured(strategy: StrategySpec, attempts: int) -> StrategyResult:
    """Attempts over 32 ports, without a listener."""
    return measure(strategy, PORTS, attempts, listener=Listener.NONE)


@pytest.mark.parametrize("name", NO_PORT)
def test_every_port_is_had_once(name: str) -> None:
    """The attempts take all ports of the range, without a listener; further ones fail for lack of a port."""
    result = measured(of_udp(name), PORTS + 1)
    assert sorted(result.samples.port[:PORTS].tolist()) == list(range(LOW, LOW + PORTS))
    assert result.samples.errno.tolist() == [0] * PORTS + [NO_PORT[name]]
    assert result.rounds[0].report.established == result.rounds[0].report.held == PORTS


def test_no_parity_goes_first() -> None:
    """While half a range is filled, ports of both parities are taken, whichever port the search begins with."""
    halves = [measured(of_udp("bind"), PORTS // 2).samples.port % 2 for _ in range(5)]
    assert all(0 < half.sum() < PORTS // 2 for half in halves)


def test_latency_is_acquire_time() -> None:
    """The search of bind() counts: the sum is of all of bind() and connect()."""
    samples = measured(of_udp("bind"), PORTS).samples
    assert samples.latency_ns.tolist() == samples.acquire_ns.tolist()
    assert (samples.prepare_ns > 0).all()


@pytest.mark.parametrize(("name", "window"), [("window", 4), ("partition", 4)])
def test_option_is_honoured(name: str, window: int) -> None:
    """A port lies in the window that IP_LOCAL_PORT_RANGE names, and a full window fails."""
    strategy = of_udp(name, window)
    result = measure(strategy, PORTS, PORTS, listener=Listener.NONE)
    if name == "partition":
        starts = [(port - LOW) // window for port in result.samples.port.tolist()]
        assert starts == [i // window for i in range(PORTS)]
    else:
        narrow = measure(replace(strategy, window=1, placement=Placement.INSIDE), 2, 20, listener=Listener.NONE)
        assert set(narrow.samples.errno.tolist()) == {0, errno.EADDRINUSE}


def test_targets_share_one_range() -> None:
    """A UDP port is taken for every target."""
    targets = (Endpoint("127.9.9.2", LOW - 1), Endpoint("127.9.9.3", LOW - 1))
    result = measure(of_udp("bind"), PORTS, PORTS + 1, listener=Listener.NONE, targets=targets)
    assert sorted(result.samples.port[:PORTS].tolist()) == list(range(LOW, LOW + PORTS))
    assert (int(result.samples.failed.sum()), result.capacity) == (1, PORTS)


@pytest.mark.parametrize("name", ["plain", "random"])
def test_clients_and_churn_work_for_udp(name: str) -> None:
    """The other shapes of load apply to it as to TCP."""
    load = replace(UDP, fill=0.5, concurrency=2, churn=Churn(20))
    filled, churned = measure_phases(of_udp(name, load=load), PORTS, 0, listener=Listener.NONE)
    assert not filled.samples.failed.any()
    assert not churned.samples.failed.any()
    assert churned.rounds[0].report.established == PORTS // 2


@pytest.mark.parametrize("reuse", Reuse)
def test_one_of_the_sockets_of_a_4_tuple_receives(reuse: Reuse) -> None:
    """The kernel lets several have one source, port and target; all that arrives goes to the one bound last."""

    def work() -> list[int]:
        enter_new_namespace(NAMESPACE)
        bring_up_loopback()
        sender = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        sender.bind(("127.9.9.2", LOW - 1))
        sharing = [socket.socket(socket.AF_INET, socket.SOCK_DGRAM) for _ in range(3)]
        for one in sharing:
            one.setsockopt(socket.SOL_SOCKET, getattr(socket, reuse.option), 1)
            one.bind(("127.9.9.1", LOW))
            one.connect(("127.9.9.2", LOW - 1))
        for _ in range(5):
            sender.sendto(b"answer", ("127.9.9.1", LOW))
        return [sum(1 for _ in range(5) if select([one], [], [], 0)[0] and one.recv(9)) for one in sharing]

    assert in_child(work, "not tried", "") == [0, 0, 5]


@pytest.mark.parametrize("name", ["early", "random", "sequential"])
def test_nothing_keeps_sockets_from_sharing_a_4_tuple(name: str) -> None:
    """With SO_REUSEADDR no attempt fails; ports are those of the program, or any of the range; a finding counts."""
    strategy = replace(of_udp(name), reuse=Reuse.ADDRESS)
    targets = (Endpoint("127.9.9.2", LOW - 1), Endpoint("127.9.9.3", LOW - 1))
    [result] = measure_phases(strategy, 8, 48, listener=Listener.NONE, targets=targets)
    samples = result.samples
    assert not samples.failed.any()
    assert samples.tries.max() == 1
    assert result.capacity == 16
    tuples = Counter(zip(samples.port.tolist(), samples.target.tolist(), strict=True))
    assert {port for port, _ in tuples} <= set(range(LOW, LOW + 8))
    if name == "sequential":
        assert set(tuples.values()) == {3}
    deaf = sum(tuples.values()) - len(tuples)
    [found] = [one for one in _findings_of(result, targets) if one.code == "shared-4-tuple"]
    assert f"and {deaf} receive nothing" in found.message


def _findings_of(result: StrategyResult, targets: tuple[Endpoint, ...]) -> list[Finding]:
    plan = make_plan(result.strategy, 8, 48, listener=Listener.NONE, targets=targets)
    document = json_document(Result(plan, {"kernel": "under test"}, rounds={result.strategy: list(result.rounds)}))
    return findings(read_json(document.encode(), "x.json"))
