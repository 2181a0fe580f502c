"""`connbench trace` of many processes whose searches overlap: more than the kernel can watch the returns of at once.

Run in a guest of the kernel lab, for it uses up the ports of the whole machine: `scripts/kernel-lab test --trace`.
"""

from __future__ import annotations

import errno
import json
import os
import signal
import socket
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest

from connbench.errors import ExitCode
from run_connbench import COMMAND

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not Path("/lab-command").exists(), reason="scripts/kernel-lab test --trace runs it in a guest"),
]

never_misses = pytest.mark.skipif(
    int(os.uname().release.split(".")[0]) >= 7,
    reason="from Linux 7 on a process preempted within a probe keeps those of others from running",
)
"""Seen on 7.3: connects of processes that do not preempt each other (SCHED_FIFO) are all counted there, too."""

LOW, PORTS = 20000, 8000
TARGET = ("127.9.9.2", LOW - 1)
PROCESSES, CONNECTS = 24, 20
SETTINGS = {
    "ipv4/ip_local_port_range": f"{LOW} {LOW + PORTS - 1}",
    "core/somaxconn": "16384",
    "ipv4/tcp_max_syn_backlog": "16384",
}


@contextmanager
def ports_in_use(number: int) -> Iterator[None]:
    """Connections on this many ports, the first parity before the other: each further search walks past all of them."""
    for name, value in SETTINGS.items():
        Path("/proc/sys/net", name).write_text(value, encoding="ascii")
    with ExitStack() as held:
        held.enter_context(socket.create_server(TARGET, backlog=16384))
        for _ in range(number):
            begun = held.enter_context(socket.socket())
            begun.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
            assert connect(begun) == errno.EINPROGRESS
        yield


def connect(unconnected: socket.socket) -> int:
    """Begin a connection to the target; its errno."""
    unconnected.setblocking(False)
    return unconnected.connect_ex(TARGET)


def connect_from_many(expected: int) -> set[int]:
    """Processes that connect at the same time, each several times, to the errno expected; their ids."""
    gate, opened = os.pipe()
    pids = []
    for _ in range(PROCESSES):
        pid = os.fork()
        if pid == 0:
            os.close(opened)
            os.read(gate, 1)
            sockets = [socket.socket() for _ in range(CONNECTS)]
            os._exit(int({connect(one) for one in sockets} != {expected}))
        pids.append(pid)
    os.close(opened)
    statuses = [os.waitpid(pid, 0)[1] for pid in pids]
    os.close(gate)
    assert statuses == [0] * PROCESSES
    return set(pids)


def traced(name: str, probes: str, expected: int) -> tuple[dict[str, Any], set[int]]:
    """The last report of a trace of such processes, and their ids."""
    command = [COMMAND, "trace", name, "--json", "--probes", probes]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        said = process.stderr.readline()
        if "no kfunc probes" in said:
            pytest.skip("this kernel has no kfunc probes")
        assert said.startswith("connbench: tracing")
        pids = connect_from_many(expected)
        process.send_signal(signal.SIGINT)
        *_, last = process.stdout
    assert process.returncode == ExitCode.OK
    report: dict[str, Any] = json.loads(last)
    return report, pids


@never_misses
def test_ports_are_counted_however_many_search_at_once() -> None:
    """Every chosen port is in the counts, of all and of each process; what else is not known is `lost`."""
    with ports_in_use(PORTS // 2):
        report, pids = traced("parity", "kprobe", errno.EINPROGRESS)
    assert report.items() >= {"even": 0, "odd": PROCESSES * CONNECTS, "switches": 0, "bound": 0, "failed": 0}.items()
    assert {process["pid"]: process["odd"] for process in report["processes"]} == dict.fromkeys(pids, CONNECTS)
    assert report["latency"]["odd"]["count"] + report["lost"] == PROCESSES * CONNECTS


@never_misses
@pytest.mark.parametrize("probes", ["kprobe", "kfunc"])
def test_what_is_in_no_histogram_is_lost(probes: str) -> None:
    """Connects whose return the kernel did not report count as lost."""
    with ports_in_use(PORTS // 2):
        report, _ = traced("latency", probes, errno.EINPROGRESS)
    assert report["latency"]["odd"]["count"] + report["lost"] == PROCESSES * CONNECTS


@never_misses
def test_failures_are_counted_or_lost() -> None:
    """A failure sends no SYN: only its return shows it."""
    with ports_in_use(PORTS):
        report, _ = traced("parity", "kprobe", errno.EADDRNOTAVAIL)
    assert (report["even"], report["odd"]) == (0, 0)
    assert report["failed"] + report["lost"] == PROCESSES * CONNECTS


@never_misses
def test_searches_are_counted_however_many_there_are_at_once() -> None:
    """Where searches began and ended does not depend on the return either."""
    with ports_in_use(PORTS // 2):
        report, _ = traced("offsets", "kprobe", errno.EINPROGRESS)
    assert report["starts"] == report["chosen"] == {"20000": PROCESSES * CONNECTS}
    assert report["lost"] == 0
