"""A round over a veth pair: its packets cross it, the rules of the port search hold, and nothing of it is left."""

from __future__ import annotations

import errno
import json
import os
import re
import signal
import subprocess
import sys
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from allowed_namespace import NAMESPACE
from connbench.analysis.soundness import findings
from connbench.errors import ExitCode
from connbench.findings import Severity
from connbench.linux import sysctl
from connbench.linux.address_family import has_ipv6
from connbench.linux.sockopts import is_supported, options_of
from connbench.model import Endpoint, Link, Namespace
from connbench.results.result import StrategyResult
from connbench.strategies import STRATEGIES
from factories import BIND, result_of, round_of, samples_of
from run_connbench import HANG_S, LOW, children, connbench, engine_of, measure, running, spec, started_here

PORTS = 16
PERMANENT = 0x80  # NUD_PERMANENT (linux/neighbour.h)
LISTENING = "0A"  # TCP_LISTEN, as /proc/net/tcp has it

ENDS = {
    "4": (("198.18.0.1",), Endpoint("198.19.0.1", LOW - 1)),
    "6": (("2001:db8::1",), Endpoint("2001:db8:1::1", LOW - 1)),
}
FAMILIES = [
    "4",
    pytest.param("6", marks=pytest.mark.skipif(not has_ipv6(), reason="this kernel has no IPv6, or it is off")),
]
NAMESPACES = [n for n in (Namespace.NETWORK, Namespace.USER) if NAMESPACE in {n, Namespace.NETWORK}]
"""Root may make either kind, so that root tests an ordinary user's kind, too."""


def over_veth(
    name: str,
    window: int | None = None,
    *,
    family: str = "4",
    attempts: int = PORTS,
    **changes: Any,  # noqa: ANN401  # any field of Plan
) -> StrategyResult:
    """Measure a strategy over a veth pair."""
    if not all(map(is_supported, options_of(STRATEGIES[name]))):
        pytest.skip("this kernel lacks an option the strategy needs")
    sources, target = ENDS[family]
    fields = {"sources": sources, "targets": (target,), "link": Link.VETH} | changes
    return measure(spec(name, window), PORTS, attempts, **fields)


@pytest.fixture(scope="module", params=FAMILIES)
def ends(request: pytest.FixtureRequest) -> dict[str, Any]:
    """The state of both ends of a link that a round would have, and the outcome of connects over it."""
    return _told_across(request.param)


@cache
def _told_across(family: str) -> dict[str, Any]:
    script = str(Path(__file__).parents[1] / "veth_probe.py")
    done = subprocess.run([sys.executable, script, family], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    told: dict[str, Any] = json.loads(done.stdout)
    return told


def has_netem() -> bool:
    """Whether this kernel delays packets, tested without connbench."""
    return bool(_told_across("4")["netem"])


@pytest.mark.usefixtures("each_loop")
@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("name", ["plain", "bind"])
def test_one_parity_goes_first(name: str, family: str) -> None:
    """The search is the one of the loopback: all even ports, then the odd ones, then none."""
    samples = over_veth(name, family=family, attempts=PORTS + 1).samples
    assert {port % 2 for port in samples.port[: PORTS // 2].tolist()} == {0}
    assert {port % 2 for port in samples.port[PORTS // 2 : PORTS].tolist()} == {1}
    assert samples.errno.tolist() == [0] * PORTS + [errno.EADDRNOTAVAIL]


@pytest.mark.usefixtures("each_loop")
@pytest.mark.parametrize("namespace", NAMESPACES)
@pytest.mark.parametrize(("name", "window"), [("random", None), ("range", None), ("partition", 4)])
def test_every_strategy_finds_every_port(name: str, window: int | None, namespace: Namespace) -> None:
    """Ports drawn, or searched in all of the range or in windows of it: all are taken, with and without root."""
    samples = over_veth(name, window, namespace=namespace).samples
    assert sorted(samples.port.tolist()) == list(range(LOW, LOW + PORTS))


@pytest.mark.usefixtures("each_loop")
def test_random_windows_lie_in_the_range() -> None:
    """Each connection's port is in the range, and an attempt fails only for lack of a port."""
    samples = over_veth("window", 4).samples
    assert set(samples.port[~samples.failed].tolist()) <= set(range(LOW, LOW + PORTS))
    assert set(samples.errno.tolist()) <= {0, errno.EADDRNOTAVAIL}


def test_counters_of_both_ends_are_added_up() -> None:
    """Connections are opened at one end and accepted at the other, and the round is sound."""
    result = over_veth("bind", sources=("198.18.0.1", "198.18.0.2"), attempts=2 * PORTS)
    (measured,) = result.rounds
    assert measured.report.counters["Tcp.ActiveOpens"] == 2 * PORTS
    assert measured.report.counters["Tcp.PassiveOpens"] == 2 * PORTS
    assert measured.report.counters["TcpExt.TCPSynRetrans"] == 0
    assert measured.report.established == 2 * PORTS
    assert measured.report.settings[sysctl.PORT_RANGE] == f"{LOW} {LOW + PORTS - 1}"
    assert started_here() == []


@pytest.mark.usefixtures("each_loop")
def test_targets_may_share_an_address() -> None:
    """Two listeners at one address are two targets, each with all ports to itself."""
    targets = tuple(Endpoint("198.19.0.1", port) for port in (LOW - 1, LOW - 2))
    result = over_veth("bind", targets=targets, attempts=2 * PORTS)
    assert not result.samples.failed.any()
    assert result.rounds[0].report.established == 2 * PORTS


def test_the_ends_are_two_namespaces(ends: dict[str, Any]) -> None:
    """Each has its own device beside the loopback, and the listener is at the far one alone."""
    assert (ends["near"]["devices"], ends["near"]["listening"]) == (["lo", "near"], 0)
    assert (ends["far"]["devices"], ends["far"]["listening"]) == (["far", "lo"], 1)


def test_no_connect_waits_for_a_neighbour(ends: dict[str, Any]) -> None:
    """With any number of sources each end has one permanent neighbour entry, and has learned no other."""
    for end in ("near", "far"):
        (neighbour,) = ends[end]["neighbours"]
        assert neighbour[1] == PERMANENT


def test_without_a_bind_the_first_source_is_used(ends: dict[str, Any]) -> None:
    """The source is the plan's first address, where the kernel would choose another by itself."""
    assert ends["first_source"].endswith("9")


def test_an_overflow_at_the_far_end_is_found(ends: dict[str, Any]) -> None:
    """The listener's drops are counted in its namespace, and make the round invalid."""
    assert ends["moved"]["TcpExt.ListenOverflows"] == 3
    measured = round_of(samples_of([10_000] * 4))
    measured.report.counters.update(ends["moved"])
    found = {f.code: f for f in findings(result_of({BIND: [measured]}))}
    assert found["listener-overflow"].severity is Severity.INVALID
    assert "ListenOverflows 3" in found["listener-overflow"].text


def _namespace(pid: int) -> str:
    return str(Path(f"/proc/{pid}/ns/net").readlink())


def _packets_sent(pid: int) -> dict[str, int]:
    """By device, in the network namespace of a process."""
    lines = Path(f"/proc/{pid}/net/dev").read_text(encoding="ascii").splitlines()[2:]
    return {line.partition(":")[0].strip(): int(re.split(r"\s+", line.partition(":")[2].strip())[9]) for line in lines}


def _listening(pid: int) -> int:
    lines = Path(f"/proc/{pid}/net/tcp").read_text(encoding="ascii").splitlines()[1:]
    return sum(line.split()[3] == LISTENING for line in lines)


def _visible() -> tuple[list[str], list[str]]:
    """What the host shows of namespaces and devices: those with a name, and its own devices."""
    named, devices = Path("/run/netns"), Path("/sys/class/net")
    return sorted(p.name for p in named.glob("*")), sorted(p.name for p in devices.glob("*"))


@pytest.mark.parametrize(
    ("to_engine", "number", "code"),
    [(False, signal.SIGINT, ExitCode.INTERRUPTED), (True, signal.SIGKILL, ExitCode.FAULT)],
    ids=["interrupted", "engine killed"],
)
def test_packets_cross_and_nothing_is_left(to_engine: bool, number: signal.Signals, code: ExitCode) -> None:
    """During the run the loopback is silent and the listener elsewhere; after every kind of end nothing is left."""
    before = _visible()
    with running("run", "--link", "veth", "--strategy", "plain", "--listener", "accept") as process:
        engine = engine_of(process)
        acceptor = children(engine)[0]
        assert len({_namespace(pid) for pid in (os.getpid(), engine, acceptor)}) == 3
        sent = _packets_sent(engine)
        assert sent["lo"] == 0
        assert sent["near"] >= 2 * 1000  # a SYN and an ACK for each connection
        assert (_listening(engine), _listening(acceptor)) == (0, 1)
        os.kill(engine if to_engine else process.pid, number)
        stdout, stderr = process.communicate(timeout=HANG_S)
    assert (process.returncode, "Traceback" in stderr) == (code, False)
    assert "198.19.0.1:9023, own " in stdout
    assert "veth link, accept listener" in stdout
    assert started_here() == []
    assert _visible() == before


def test_no_namespace_is_refused() -> None:
    """Where no namespace is allowed, connbench measures nothing in the host's instead."""
    finished = connbench("run", "--link", "veth", "-n", "4", inside=("--deny", "unshare"))
    assert (finished.returncode, finished.stdout) == (ExitCode.ENVIRONMENT, "")
    assert finished.stderr.splitlines() == [
        (
            "connbench: --link veth needs a network namespace of its own: "
            "network namespace: Operation not permitted; user namespace: Operation not permitted"
        ),
        (
            "  -> run as root with CAP_SYS_ADMIN, CAP_NET_ADMIN and a writable /proc/sys, or allow user namespaces; "
            "or leave out --link veth"
        ),
    ]


def test_no_netem_is_refused() -> None:
    """On a kernel that cannot delay packets connbench refuses the run before it measures."""
    if has_netem():
        pytest.skip("this kernel has netem")
    finished = connbench("run", "--link", "veth", "--delay", "2", "-n", "4")
    assert (finished.returncode, finished.stdout) == (ExitCode.ENVIRONMENT, "")
    assert finished.stderr.splitlines() == [
        "connbench: --delay 2ms: this kernel has no netem",
        "  -> it needs CONFIG_NET_SCH_NETEM (the module sch_netem); leave out --delay otherwise",
    ]


def test_no_connect_is_shorter_than_the_delay() -> None:
    """Each connect() takes a round trip at least."""
    if not has_netem():
        pytest.skip("this kernel has no netem (CONFIG_NET_SCH_NETEM)")
    result = over_veth("bind", delay_ms=20.0)
    assert result.samples.connect_ns.min() >= 20_000_000  # netem's promise, which no machine is too slow for
