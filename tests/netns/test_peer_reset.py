"""Connections closed by reset while another client takes ports: no SYN meets an earlier use of its port."""

from __future__ import annotations

import errno
import json
import socket
import subprocess
import sys
from array import array
from contextlib import ExitStack
from dataclasses import replace
from importlib import import_module
from typing import Any

import pytest

from connbench.linux.address_family import has_ipv6
from connbench.linux.sockopts import LINGER_RESET
from connbench.model import Churn, Endpoint, Listener, Load, Loop
from run_connbench import INSIDE, LOW, OVER_VETH, connbench, measure_phases, spec

MODULES = {Loop.C: "connbench.engine._loop", Loop.PYTHON: "connbench.engine.loop"}

RESET = """
import errno, json, socket, sys
from connbench.linux.sock_destroy import PeerReset
host, told = sys.argv[1], {}
family = socket.AF_INET6 if ":" in host else socket.AF_INET
reset = PeerReset.of(None)
with socket.socket(family) as listening, socket.socket(family) as near, socket.socket(family) as other:
    listening.bind((host, 0))
    listening.listen()
    for sock in (near, other):
        sock.connect(listening.getsockname())
    far, _ = listening.accept()
    told["done"] = [reset(near)] if reset else [False]
    for name, sock in (("near", near), ("far", far)):
        told[name] = sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
    told["done"] += [reset(near), reset(other)] if reset else [False]
    port = near.getsockname()[1]
    with socket.socket(family) as again:
        again.bind((host, port))
        told["again"] = again.connect_ex(listening.getsockname())
print(json.dumps(told))
"""


def after_reset(host: str) -> dict[str, Any]:
    """What became of both ends of a connection that was reset at the listener's."""
    command = [*INSIDE, "--", sys.executable, "-c", RESET, host]
    told: dict[str, Any] = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    return told


@pytest.fixture(scope="module")
def resets() -> dict[str, Any]:
    """What became of a connection over IPv4; skips where the kernel cannot destroy sockets."""
    told = after_reset("127.0.0.1")
    if not told["done"][0]:
        pytest.skip("this kernel has no CONFIG_INET_DIAG_DESTROY, or no module tcp_diag")
    return told


def test_both_ends_are_gone(resets: dict[str, Any]) -> None:
    """The far end is aborted, its RST resets the near end, and the port is free at once; a second reset finds none."""
    assert resets == {"done": [True, False, True], "near": errno.ECONNRESET, "far": errno.ECONNABORTED, "again": 0}


@pytest.mark.skipif(not has_ipv6(), reason="this kernel has no IPv6")
def test_ipv6_is_reset_likewise(resets: dict[str, Any]) -> None:
    """The kernel gets the addresses of 16 bytes in full."""
    assert after_reset("::1") == resets


CHURN = Load(connections=510, concurrency=2, churn=Churn(8000))
IPV6 = {"sources": ("2001:db8::1",), "targets": (Endpoint("2001:db8::2", LOW - 1),)}


LOADS = (
    pytest.param(CHURN, {}, id="churn"),
    pytest.param(CHURN, {"listener": Listener.ACCEPT}, id="churn, accepting"),
    pytest.param(CHURN, OVER_VETH, id="churn over veth"),
    pytest.param(
        CHURN, IPV6, id="churn over IPv6", marks=pytest.mark.skipif(not has_ipv6(), reason="this kernel has no IPv6")
    ),
    pytest.param(Load(connections=8000, concurrency=2, give_up_ms=0.000_001), {}, id="giving up"),
)
"""Two clients that close by reset and take each other's ports, with every kind of listener of connbench's own."""


@pytest.mark.usefixtures("resets", "each_loop")
@pytest.mark.parametrize(("load", "place"), LOADS)
def test_no_syn_overtakes_the_reset_of_another_client(load: Load, place: dict[str, Any]) -> None:
    """More than half of 1,000 ports are in use, so that a port that one client frees is soon found by the other."""
    strategy = replace(spec("plain"), load=load)
    for phase in measure_phases(strategy, 1000, 0, **place):
        [measured] = phase.rounds
        assert measured.report.counters["TcpExt.TCPSynRetrans"] == 0
        assert measured.report.established == measured.report.held


def test_another_ones_listener_is_not_blamed() -> None:
    """Its end cannot be reset from here: the finding blames a repeated SYN on the clients, not on a queue with room."""
    host = ("--sysctl", "net.ipv4.ip_local_port_range=40000 40999", "--sysctl", "net.core.somaxconn=9000")
    load = ("--strategy", "plain", "--concurrency", "2", "-n", "510", "--churn", "8000")
    run = connbench(
        *("run", *load, "--isolate", "never", "--target", "127.9.9.2:39999", "--format", "json"),
        inside=(*host, "--listen", "127.9.9.2:39999/9000"),
    )
    found = {finding["code"]: finding for finding in json.loads(run.stdout)["findings"]}
    assert "listener-overflow" not in found
    moved = [s["rounds"][0]["counters"]["TcpExt.TCPSynRetrans"] for s in json.loads(run.stdout)["strategies"]]
    assert any(moved) == ("syn-retransmission" in found)
    if any(moved):
        assert "use --concurrency 1 or --close fin" in found["syn-retransmission"]["advice"]


def test_only_established_connections_count_as_such(each_loop: Loop) -> None:
    """Of four connections the peer closes one and resets one; data that waits to be read changes nothing."""
    with ExitStack() as opened:
        listening = opened.enter_context(socket.create_server(("127.0.0.1", 0)))
        near = [opened.enter_context(socket.create_connection(listening.getsockname())) for _ in range(4)]
        far = [opened.enter_context(listening.accept()[0]) for _ in near]
        far[0].close()
        far[1].setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, LINGER_RESET)
        far[1].close()
        far[2].send(b"x")
        held = array("i", [-1, *(sock.fileno() for sock in near), -1])
        counted = import_module(MODULES[each_loop]).count(None, held)
    assert counted == (4, 2)
