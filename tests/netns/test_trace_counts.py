"""`connbench trace` beside `connbench run`: what one counts is what the other did.

Run where nothing else connects: `scripts/kernel-lab test --trace` boots kernels for it.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import urllib.request
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from connbench.errors import ExitCode
from run_connbench import COMMAND, HANG_S, connbench, needs_port_range, read_terminal, wait_until

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        not os.environ.get("CONNBENCH_EXPECT_TRACE"), reason="scripts/kernel-lab test --trace runs it in a guest"
    ),
]

BUSYBOX = "/busybox"
IS_GUEST = Path("/lab-command").exists()
PORTS = ("--port-range", "39900-40299")
"""400 ports on both sides of a bucket's border."""

MORE_THAN_PORTS = 410


@contextmanager
def tracing(*arguments: str, said: list[str] | None = None) -> Iterator[subprocess.Popen[str]]:
    """A trace whose probes are all attached; `said` gets its output until then."""
    process = subprocess.Popen(
        [COMMAND, "trace", *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stderr is not None
    try:
        said = [] if said is None else said
        for line in process.stderr:
            said.append(line)
            if line.startswith("connbench: tracing connect()"):
                break
        if "no kfunc probes" in "".join(said):
            pytest.skip("this kernel has no kfunc probes")
        assert said[-1].startswith("connbench: tracing"), said
        yield process
    finally:
        process.kill()
        process.wait()
        process.stdout.close()
        process.stderr.close()


def last_report(process: subprocess.Popen[str]) -> dict[str, Any]:
    """End a trace with --json as Ctrl-C does, and return its last line."""
    process.send_signal(signal.SIGINT)
    assert process.stdout is not None
    lines = [json.loads(line) for line in process.stdout]
    assert process.wait() == ExitCode.OK
    assert [line["final"] for line in lines] == [False] * (len(lines) - 1) + [True]
    report: dict[str, Any] = lines[-1]
    return report


def attempts(*arguments: str, connections: int = MORE_THAN_PORTS) -> list[tuple[int, float]]:
    """Port and seconds of each attempt of a run, in order; a failed one's port is -1."""
    done = connbench("run", *PORTS, "-n", str(connections), "-q", "--format", "talk-csv", *arguments)
    assert done.returncode in {ExitCode.OK, ExitCode.UNSOUND}, done.stderr
    rows = [line.split(",") for line in done.stdout.split()]
    return [(int(port), float(seconds)) for port, seconds in rows]


def had(run: list[tuple[int, float]]) -> list[int]:
    """The ports of the connections."""
    return [port for port, _ in run if port > 0]


@pytest.mark.parametrize(
    ("probes", "strategy"),
    [
        ("kprobe", ("--strategy", "plain")),
        pytest.param("kprobe", ("--strategy", "range"), marks=needs_port_range),
        ("kfunc", ("--strategy", "plain", "--family", "6")),
    ],
    ids=lambda given: "-".join(given).replace("--", "") if isinstance(given, tuple) else given,
)
def test_parity_of_chosen_ports(probes: str, strategy: tuple[str, ...]) -> None:
    """Even and odd ports, switches and failures are those of the run, in all and for its process."""
    with tracing("parity", "--json", "--probes", probes) as trace:
        run = attempts(*strategy)
        report = last_report(trace)
    ports = had(run)
    switches = sum(a % 2 != b % 2 for a, b in pairwise(ports))
    even = sum(port % 2 == 0 for port in ports)
    expected = {"even": even, "odd": len(ports) - even, "switches": switches, "bound": 0}
    assert len(ports) == 400
    assert report.items() >= {**expected, "failed": 10, "errors": {"EADDRNOTAVAIL": 10}}.items()
    (process,) = report["processes"]
    assert process.items() >= {**expected, "failed": 10}.items()
    assert {name: one["count"] for name, one in report["latency"].items()} == {"even": 200, "odd": 200, "failed": 10}
    if "plain" in strategy:
        assert switches == 1


def test_ports_that_bind_chose_are_none_of_connect() -> None:
    """Connections of a port bound beforehand are counted apart, and make no switch."""
    with tracing("parity", "--json") as trace:
        run = attempts("--strategy", "random", connections=100)
        report = last_report(trace)
    assert len(had(run)) == 100
    assert report.items() >= {"bound": 100, "even": 0, "odd": 0, "switches": 0, "failed": 0}.items()


def test_latency() -> None:
    """Every attempt is in one of the histograms, and the kernel's part of connect() is within what the run timed."""
    with tracing("latency", "--json") as trace:
        run = attempts("--strategy", "plain")
        report = last_report(trace)
    assert {name: one["count"] for name, one in report["latency"].items()} == {"even": 200, "odd": 200, "failed": 10}
    for name, parity in (("even", 0), ("odd", 1)):
        timed = sum(seconds for port, seconds in run if port > 0 and port % 2 == parity)
        assert 0 < report["latency"][name]["total_ns"] < timed * 1e9


@pytest.mark.parametrize(("probes", "family"), [("kprobe", "4"), ("kfunc", "6")])
def test_offsets(probes: str, family: str) -> None:
    """Each search has a start, failed ones too; the searches end where the run's ports are."""
    with tracing("offsets", "--json", "--probes", probes) as trace:
        run = attempts("--strategy", "plain", "--family", family)
        report = last_report(trace)
    assert report["chosen"] == {str(low): n for low, n in Counter(port // 10000 * 10000 for port in had(run)).items()}
    assert sum(report["starts"].values()) == MORE_THAN_PORTS
    assert report["starts"].keys() == {"30000", "40000"}
    assert report["failed"] == 10


def test_search_of_an_empty_range_begins_where_it_ends() -> None:
    """The first port probed is free."""
    with tracing("offsets", "--json") as trace:
        run = attempts("--strategy", "plain", connections=1)
        report = last_report(trace)
    assert report["starts"] == report["chosen"] == {str(had(run)[0] // 10000 * 10000): 1}


def test_exporter_serves_switches_and_latency() -> None:
    """Prometheus reads the counters and a histogram while the trace goes on."""
    said: list[str] = []
    with tracing("parity", "--exporter", "127.0.0.1:0", "--interval", "0.2", said=said) as trace:
        address = re.search(r"http://\S+", "".join(said))
        assert address
        run = attempts("--strategy", "plain")

        def scraped() -> str:
            with urllib.request.urlopen(address[0], timeout=HANG_S) as answer:  # noqa: S310  # an address of our own
                text: str = answer.read().decode()
            return text

        wait_until(lambda: 'connect_ports_total{parity="odd"} 200.0' in scraped(), "the run is in the metrics")
        metrics = scraped()
        trace.send_signal(signal.SIGINT)
        printed, _ = trace.communicate(timeout=HANG_S)
    assert len(had(run)) == 400
    switches = re.findall(
        r'^connect_port_parity_switches_total\{cgroup="/",comm="python[^"]*"\} (\S+)$', metrics, re.MULTILINE
    )
    assert "1.0" in switches
    assert 'connect_latency_seconds_bucket{le="+Inf",outcome="odd"} 200.0' in metrics
    assert printed.count("ports chosen in") == 1


def test_table_on_a_terminal() -> None:
    """Each table overwrites the one before it; the last stays."""
    leader, follower = os.openpty()
    command = [COMMAND, "trace", "latency", "--interval", "0.2"]
    process = subprocess.Popen(command, stdout=follower, stderr=subprocess.PIPE)
    os.close(follower)
    drawn, is_sent = "", False
    for piece in read_terminal(leader):
        drawn += piece.decode()
        if not is_sent and drawn.count("0 connect() in") > 1:
            process.send_signal(signal.SIGINT)
            is_sent = True
    _, said = process.communicate(timeout=HANG_S)
    assert process.returncode == ExitCode.OK, said
    assert "\x1b[2K" in drawn


@pytest.mark.skipif(not IS_GUEST, reason="what it does to the kernel cannot be undone")
def test_what_a_kernel_lacks_is_named() -> None:
    """Without tracefs, then under lockdown, the refusal says so: exit code 4 and the remedy."""
    assert shutil.which(BUSYBOX)
    subprocess.run([BUSYBOX, "umount", "/sys/kernel/tracing"], check=True)
    unmounted = connbench("trace", "parity")
    subprocess.run([BUSYBOX, "mount", "-t", "tracefs", "tracefs", "/sys/kernel/tracing"], check=True)
    subprocess.run([BUSYBOX, "mount", "-t", "securityfs", "securityfs", "/sys/kernel/security"], check=True)
    Path("/sys/kernel/security/lockdown").write_text("confidentiality", encoding="ascii")
    locked = connbench("trace", "parity")
    assert (unmounted.returncode, locked.returncode) == (ExitCode.ENVIRONMENT, ExitCode.ENVIRONMENT)
    assert "tracefs is not mounted" in unmounted.stderr
    assert "mount -t tracefs" in unmounted.stderr
    assert "lockdown is in confidentiality mode" in locked.stderr
