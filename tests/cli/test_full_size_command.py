"""What needs the command at full size: a sweep, and a server that holds tens of thousands; run by `make test-all`."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from connbench.errors import ExitCode
from run_connbench import HANG_S, INSIDE, command_line, connbench, needs_port_range
from server_host import next_report, report, serving, started

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(600),
    needs_port_range,
]


def test_sweep_of_the_whole_range(tmp_path: Path) -> None:
    """The sweep tells windows that are too narrow or too wide from the right ones; the whole range needs no window."""
    path = tmp_path / "sweep.json.gz"
    settings = ("--strategy", "window,range", "--window", "100,500,5000", "--fill", "50%,95%")
    swept = connbench("sweep", *settings, "--rounds", "1", "--seed", "1", "-o", str(path))
    assert swept.returncode == ExitCode.OK, swept.stderr
    sweep = json.loads(connbench("report", str(path), "--format", "json").stdout)["sweep"]
    within = {one["label"]: one["keeps_budget"] for one in sweep["ranking"]}
    assert (within["range"], within["window 5000"]) == (True, False)
    assert sweep["choice"]["label"] in {label for label, keeps in within.items() if keeps}  # which, the machine says
    assert f"verdict: {sweep['verdict'][0]}" in swept.stdout.splitlines()


def test_server_holds_them_all() -> None:
    """25,000 connections to `connbench serve`: it accepts each, drops none, and holds all at once."""
    ports = ("--sysctl", "net.ipv4.ip_local_port_range=9024 65535", "--sysctl", "net.core.somaxconn=65535")
    with serving("--format", "json", inside=ports) as server:
        next_report(server)
        join = [*INSIDE, "--join", str(server.pid), "--"]
        arguments = ("run", "--strategy", "range", "-n", "25000", "--target", "127.0.0.1:8080", "--format", "json")
        with started([*join, *command_line(*arguments)]) as client:
            printed, _ = client.communicate(timeout=HANG_S)
        last = report(server)
    [strategy] = json.loads(printed)["strategies"]
    assert strategy["rounds"][0]["established"] == 25_000
    assert last["most_open"] >= 25_000
    assert set(last["counters"].values()) == {0}
