"""`connbench fleet run` on hosts that are network namespaces, and over ssh."""

from __future__ import annotations

from pathlib import Path

import pytest

from connbench.results.fleet_file import Fleet
from connbench.results.input_file import read_any
from fleet_hosts import Hosts, fleet_of
from run_connbench import COMMAND

PYTHON = str(Path(COMMAND).with_name("python"))
WAYS = {"netns": ("--via", "netns"), "ssh": ("--via", "ssh", "--python", PYTHON)}
SMALL = ("--strategy", "range,window", "-n", "500", "--port-range", "40000-40999")


@pytest.fixture(scope="module", params=WAYS)
def way(request: pytest.FixtureRequest) -> str:
    """A way to hosts."""
    return str(request.param)


@pytest.fixture(scope="module")
def hosts(way: str, tmp_path_factory: pytest.TempPathFactory) -> object:
    """Three clients and a server, to be reached that way."""
    with fleet_of(tmp_path_factory.mktemp("fleet"), clients=3, ssh=way == "ssh") as made:
        yield made


def saved(hosts: Hosts, name: str) -> Fleet:
    """The fleet file that a command wrote."""
    fleet = read_any(hosts.folder / name, None)
    assert isinstance(fleet, Fleet)
    return fleet


def test_hosts_measure_apart(hosts: Hosts, way: str) -> None:
    """A row for each host and strategy, printed, saved, and nothing is left."""
    finished = hosts.connbench("fleet", "run", "-w", "c[1-3]", *WAYS[way], "-o", "apart.json.gz", "-q", "--", *SMALL)
    assert (finished.returncode, finished.stderr) == (0, "")
    assert "3 hosts, each by itself" in finished.stdout
    fleet = saved(hosts, "apart.json.gz")
    assert [host.name for host in fleet.hosts] == ["c1", "c2", "c3"]
    for result in fleet.results:
        assert [(len(one.rounds), len(one.samples)) for one in result.strategies] == [(1, 500)] * 2
    assert not fleet.is_together
    assert hosts.left() == []


def test_hosts_measure_together(hosts: Hosts, way: str) -> None:
    """Each round of each strategy begins on all hosts at the same instant, as far as their clocks are known."""
    with hosts.serving():
        target = ("--target", f"{hosts.target}:8080", "--allow-remote")
        options = ("--strategy", "bind,range", "-n", "500", "--rounds", "2", *target)
        finished = hosts.connbench(
            "fleet", "run", "-w", "c[1-3]", *WAYS[way], "--together", "-o", "together.json", "-q", "--", *options
        )
        assert finished.returncode in {0, 3}, finished.stderr
        fleet = saved(hosts, "together.json")
        assert fleet.is_together
        assert not fleet.is_partial
        for host in fleet.hosts:
            assert len(host.offsets_us) == 4
            assert host.error_us is not None
        assert hosts.left() == []


def test_what_a_host_cannot_do_stops_all(hosts: Hosts, way: str) -> None:
    """The message names the host; the others measure nothing, unless it may be missing."""
    unknown = ("fleet", "run", "-w", "c[1-2],nowhere", *WAYS[way], "-o", "missing.json.gz")
    finished = hosts.connbench(*unknown, "-q", "--", *SMALL)
    assert finished.returncode == 4
    assert finished.stderr.startswith("connbench: nowhere: ")
    assert len(finished.stderr.splitlines()) == 2
    assert not (hosts.folder / "missing.json.gz").exists()
    finished = hosts.connbench(*unknown, "-q", "--allow-missing", "1", "--", *SMALL)
    assert finished.returncode == 0, finished.stderr
    fleet = saved(hosts, "missing.json.gz")
    assert [(host.name, host.is_measured, host.left_out) for host in fleet.hosts] == [
        ("c1", True, False),
        ("c2", True, False),
        ("nowhere", False, True),
    ]
    finished = hosts.connbench("fleet", "run", "-w", "c[1-2]", *WAYS[way], "-q", "--", "--target", "127.0.0.1:1")
    assert finished.returncode == 5
    assert "c1: " in finished.stderr
    assert "c2: " in finished.stderr
    assert hosts.left() == []


def test_usage_is_checked_before_a_host_is_reached(hosts: Hosts, way: str) -> None:
    """Two lines and exit code 2."""
    if way == "ssh":
        pytest.skip("no host is reached")
    for words, said in {
        ("-w", "c[1-3]", "--together", "--fanout", "2"): "would never begin",
        ("-w", "@nogroup"): "@nogroup",
        ("-w", "c[1-"): "is no host set",
        ("-w", ""): "no host",
        ("-w", "c1", "--", "--strategy", "nonsense"): "nonsense",
        ("-w", "c1", "--", "--output", "x.json"): "is an option of connbench fleet run here",
        ("-w", "c1", "--strategy", "range"): "--strategy",
    }.items():
        finished = hosts.connbench("fleet", "run", *WAYS[way], *words)
        assert (finished.returncode, said in finished.stderr) == (2, True), finished.stderr
        assert len(finished.stderr.splitlines()) == 2
