"""`run --allow-host-route`: a chosen range, for every strategy, towards a server that another namespace reaches.

Each test runs on a host of its own, which has a server behind it: see `routed_host.py`. After each run the host has the
devices, routes, tables and settings that it had before.
"""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from connbench.errors import ExitCode
from connbench.linux.address_family import has_ipv6
from run_connbench import COMMAND, HANG_S

HOST = [sys.executable, str(Path(__file__).parents[1] / "routed_host.py")]
ADDRESSES = {"4": ("192.0.2.1", "192.0.2.9:8080"), "6": ("2001:db8:2::1", "[2001:db8:2::9]:8080")}
FORWARDING = {"4": "net.ipv4.conf.near.forwarding=1", "6": "net.ipv6.conf.all.forwarding=1"}
NO_IPV6 = pytest.mark.skipif(not has_ipv6(), reason="this kernel has no IPv6")
FAMILIES = ["4", pytest.param("6", marks=[NO_IPV6, pytest.mark.slow])]
NAMES = ("--name", "server.example=2001:db8:2::9", "--name", "server.example=192.0.2.9")
PORTS, LOW = 16, 40000
RANGE = ("--port-range", f"{LOW}-{LOW + PORTS - 1}")


@dataclass(frozen=True)
class Ended:
    """How a run ended: its streams, what the host reports, and the JSON document; {} without one."""

    stdout: str
    stderr: str
    host: dict[str, Any]
    document: dict[str, Any]


def routed(folder: Path, *arguments: str, host: tuple[str, ...] = (), family: str = "4") -> Ended:
    """A run on a host of its own; the host has to be as it was before."""
    report, result = folder / "host.json", folder / "r.json"
    finished = subprocess.run(
        [*HOST, "--family", family, *host, str(report), COMMAND, "run", "-q", "-o", str(result), *arguments],
        capture_output=True,
        text=True,
        timeout=HANG_S,
        check=False,
    )
    assert finished.returncode == 0, finished.stderr
    found = json.loads(report.read_text(encoding="ascii"))
    assert found["after"] == found["before"]
    document = json.loads(result.read_text(encoding="utf-8")) if result.exists() and result.stat().st_size else {}
    return Ended(finished.stdout, finished.stderr, found, document)


def target(family: str = "4") -> tuple[str, ...]:
    """The options that name the server behind the host."""
    return ("--target", ADDRESSES[family][1], "--allow-remote")


@pytest.mark.parametrize("family", FAMILIES)
def test_every_strategy_fills_the_chosen_range(tmp_path: Path, family: str) -> None:
    """Each takes each port of the range once; the server sees the host's address, and the host forwards for nobody."""
    names = ("plain", "bind", "random", "range") if family == "4" else ("plain", "range")
    ended = routed(
        tmp_path,
        *("--allow-host-route", *target(family), *RANGE, "--strategy", ",".join(names)),
        host=("--sysctl", FORWARDING[family]),
        family=family,
    )
    assert ended.host["status"] in {ExitCode.OK, ExitCode.UNSOUND}, ended.stderr
    for strategy in ended.document["strategies"]:
        [one] = strategy["rounds"]
        assert sorted(one["samples"]["port"]) == list(range(LOW, LOW + PORTS))
        assert one["established"] == PORTS
    assert set(ended.host["peers"]) == {ADDRESSES[family][0]}
    assert ended.host["peers"][ADDRESSES[family][0]] >= len(names) * PORTS
    assert "route through the host with masquerade" in " ".join(ended.stdout.split())
    assert "each round adds the device connbench" in ended.stderr
    assert ended.document["plan"]["link"] == "routed"
    assert ended.document["plan"]["masquerade"] is True


def test_a_target_with_a_route_back_sees_the_source(tmp_path: Path) -> None:
    """Nothing is translated where the target knows the way. Its name is resolved once, and the report says to what."""
    ended = routed(
        tmp_path,
        *("--allow-host-route", "--target", "server.example:8080", "--allow-remote"),
        *(*RANGE, "--strategy", "bind", "--source", "203.0.113.7"),
        host=("--sysctl", FORWARDING["4"], "--route-back", "203.0.113.7", *NAMES),
    )
    assert ended.host["status"] in {ExitCode.OK, ExitCode.UNSOUND}, ended.stderr
    assert set(ended.host["peers"]) == {"203.0.113.7"}
    assert ended.document["plan"]["masquerade"] is False
    assert "masquerade" not in ended.stdout + ended.stderr
    assert ended.document["plan"]["names"] == [{"name": "server.example", "address": "192.0.2.9", "addresses": 2}]
    assert "server.example -> 192.0.2.9 (one of 2 addresses)" in " ".join(ended.stdout.split())
    assert "the run connects to server.example -> 192.0.2.9 (one of 2 addresses)" in ended.stderr


def test_the_hosts_own_address_needs_no_forwarding(tmp_path: Path) -> None:
    """A program that listens on another address of the host than 127.0.0.1 can be reached without any of it."""
    here = ("--target", f"{ADDRESSES['4'][0]}:8080", "--allow-remote")
    ended = routed(tmp_path, "--allow-host-route", *here, *RANGE, "--strategy", "plain")
    assert ended.host["status"] in {ExitCode.OK, ExitCode.UNSOUND}, ended.stderr
    assert set(ended.host["own"]) == {"198.18.0.1"}
    assert ended.host["own"]["198.18.0.1"] >= PORTS


def test_a_killed_run_leaves_nothing_on_the_host(tmp_path: Path) -> None:
    """The kernel removes the device, the route and the masquerade of a run that is killed amid its connections."""
    ended = routed(
        tmp_path,
        *("--allow-host-route", *target(), "--port-range", "40000-40999", "--strategy", "range"),
        *("-n", "200", "--churn", "1000", "--churn-rate", "20"),
        host=("--sysctl", FORWARDING["4"], "--kill", "100"),
    )
    assert ended.host["status"] == -9
    assert set(ended.host["peers"]) == {ADDRESSES["4"][0]}


REFUSED: dict[str, tuple[tuple[str, ...], tuple[str, ...], ExitCode, str]] = {
    "no permission": ((*target(), "--strategy", "plain", *RANGE), (), ExitCode.USAGE, "add --allow-host-route"),
    "no forwarding": (
        ("--allow-host-route", *target()),
        ("--sysctl", "net.ipv4.conf.near.forwarding=0"),  # a new namespace has the machine's setting
        ExitCode.ENVIRONMENT,
        "sysctl -w net.ipv4.conf.near.forwarding=1",
    ),
    "a route to the source": (
        ("--allow-host-route", *target(), "--strategy", "bind", "--source", "198.51.100.7"),
        ("--sysctl", FORWARDING["4"], "--address", "198.51.100.7"),
        ExitCode.ENVIRONMENT,
        "the host has a route to 198.51.100.7/32",
    ),
    "more than a masquerade has ports": (
        ("--allow-host-route", *target(), "--strategy", "bind", "--sources", "2", "-n", "64513"),
        ("--sysctl", FORWARDING["4"]),
        ExitCode.ENVIRONMENT,
        "it has 64,512 ports",
    ),
    "nobody answers": (
        ("--allow-host-route", "--target", "192.0.2.9:81", "--allow-remote"),
        ("--sysctl", FORWARDING["4"]),
        ExitCode.TARGET,
        "192.0.2.9:81 refuses connections",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_is_missing_is_named_and_nothing_changed(tmp_path: Path, case: str) -> None:
    """The fault, the value and the way out; the exit code is the documented one."""
    arguments, host, code, text = REFUSED[case]
    ended = routed(tmp_path, *arguments, host=host)
    assert ended.host["status"] == code, ended.stderr
    assert text in ended.stderr
    assert len(ended.stderr.splitlines()) <= 2
