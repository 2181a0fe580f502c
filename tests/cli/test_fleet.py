"""`connbench fleet run` on hosts that are network namespaces, by --via netns and over real sshd: apart and together."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import pytest

from connbench.errors import ExitCode
from connbench.results.fleet_file import Fleet
from connbench.results.input_file import read_any
from fleet_hosts import Hosts, fleet_of, needs_ssh, why_no_ssh
from run_connbench import in_process

NETNS = ("--via", "netns")
SMALL = ("-n", "100", "--strategy", "plain,range", "--rounds", "2")


@pytest.fixture(scope="module")
def hosts(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hosts]:
    """Three clients, which sshd serves if it can, and a server that accepts at port 8080."""
    with fleet_of(tmp_path_factory.mktemp("hosts"), ssh=not why_no_ssh()) as made, made.serving():
        yield made


@pytest.fixture(autouse=True)
def _nothing_left_on_any_host(request: pytest.FixtureRequest) -> Iterator[None]:
    yield
    if "hosts" in request.fixturenames:
        made: Hosts = request.getfixturevalue("hosts")
        made.until_nothing_is_left()


def to_server(hosts: Hosts) -> tuple[str, ...]:
    """The options of a run that connects from the host's own namespace to the server."""
    return ("--target", f"{hosts.target}:8080", "--allow-remote", "--isolate", "never")


def saved(hosts: Hosts, name: str) -> Fleet:
    """The fleet of a file in the hosts' folder."""
    fleet = read_any(hosts.folder / name)
    assert isinstance(fleet, Fleet)
    return fleet


def test_apart(hosts: Hosts) -> None:
    """Each host measures all, in a namespace of its own; the other commands read the file as that of a fleet."""
    finished = hosts.connbench("fleet", "run", "-w", "c[1-3]", *NETNS, "-o", "apart.json.gz", "--", *SMALL)
    assert finished.returncode in {ExitCode.OK, ExitCode.UNSOUND}, finished.stderr
    fleet = saved(hosts, "apart.json.gz")
    assert (fleet.is_together, fleet.is_partial) == (False, False)
    assert [host.name for host in fleet.hosts] == ["c1", "c2", "c3"]
    for host in fleet.hosts:
        assert (host.fault, host.offsets_us) == (None, ())
        assert host.offset_us is not None
        assert host.result is not None
        assert [len(one.rounds) for one in host.result.strategies] == [2, 2]
        assert all(len(each.samples) == 100 for one in host.result.strategies for each in one.rounds)
    assert "3 hosts, each by itself" in finished.stdout
    report = hosts.connbench("report", "apart.json.gz")
    assert report.stdout == finished.stdout
    gated = hosts.connbench("report", "apart.json.gz", "--fail-if", "errors >= 0")
    assert gated.returncode == ExitCode.THRESHOLD, gated.stderr
    compared = hosts.connbench("compare", "apart.json.gz", "apart.json.gz")
    assert compared.returncode in {ExitCode.OK, ExitCode.UNSOUND}, compared.stderr
    assert all(name in compared.stdout for name in ("c1", "c2", "c3"))


def test_together_each_round_is_a_barrier(hosts: Hosts) -> None:
    """No host begins a round of a strategy before all others have ended the one before."""
    options = ("--together", "-o", "together.json.gz", "--", *to_server(hosts), *SMALL)
    finished = hosts.connbench("fleet", "run", "-w", "c[1-3]", *NETNS, *options)
    assert finished.returncode in {ExitCode.OK, ExitCode.UNSOUND}, finished.stderr
    fleet = saved(hosts, "together.json.gz")
    assert (fleet.is_together, fleet.is_partial) == (True, False)
    turns = turns_of(fleet)
    assert len(turns) == 4
    for earlier, later in pairwise(turns):
        assert len(earlier) == len(later) == 3
        assert max(end for _, end in earlier) < min(begin for begin, _ in later)
    for host in fleet.hosts:
        assert len(host.offsets_us) == 4  # one before each
        assert host.offset_us is not None
        assert host.error_us is not None
        assert abs(host.offset_us) <= host.error_us  # it is the same clock
    assert "3 hosts, all at the same time" in finished.stdout
    assert re.search(r"^all hosts ", finished.stdout, re.MULTILINE)


def test_csv_that_lacks_the_clock_is_said_before_anything_is_measured(hosts: Hosts) -> None:
    """So that Ctrl-C and another name cost nothing."""
    finished = hosts.connbench("fleet", "run", "-w", "nowhere", *NETNS, "--together", "-o", "r.csv", "--", *SMALL)
    assert finished.returncode == ExitCode.ENVIRONMENT
    assert "a .csv file does not say that the hosts measured at the same time" in finished.stderr


def turns_of(fleet: Fleet) -> list[list[tuple[float, float]]]:
    """When each host began and ended each turn, by this machine's clock in us, in the order of the turns."""
    by_turn: dict[tuple[str, int], list[tuple[float, float]]] = {}
    for host in fleet.hosts:
        assert host.result is not None
        for strategy in host.result.strategies:
            for each in strategy.rounds:
                assert each.report.epoch_us is not None
                zero = each.report.epoch_us - (host.offset_us or 0)
                ends = each.samples.started_ns + each.samples.connect_ns
                span = zero + each.samples.started_ns.min() / 1e3, zero + ends.max() / 1e3
                by_turn.setdefault((strategy.strategy.label, each.number), []).append(span)
    return sorted(by_turn.values(), key=min)


@needs_ssh
def test_over_ssh(hosts: Hosts) -> None:
    """The same over sshd with the user's own configuration; each host tells its own host name."""
    options = ("--python", sys.executable, "--together", "-o", "ssh.json.gz", "--", *to_server(hosts), *SMALL)
    finished = hosts.connbench("fleet", "run", "-w", "c[1-2]", *options)
    assert finished.returncode in {ExitCode.OK, ExitCode.UNSOUND}, finished.stderr
    fleet = saved(hosts, "ssh.json.gz")
    assert not fleet.is_partial
    assert [result.environment["hostname"] for result in fleet.results] == ["c1", "c2"]
    turns = turns_of(fleet)
    for earlier, later in pairwise(turns):
        assert max(end for _, end in earlier) < min(begin for begin, _ in later)


def test_apart_in_waves(hosts: Hosts) -> None:
    """With a fan-out of one, a host begins after the other has ended."""
    command = ("fleet", "run", "-w", "c[1-2]", *NETNS, "--fanout", "1", "-o", "waves.json")
    finished = hosts.connbench(*command, "--", "-n", "50", "--strategy", "range")
    assert finished.returncode in {ExitCode.OK, ExitCode.UNSOUND}, finished.stderr
    [[[first]], [[second]]] = sorted(turns_of(Fleet((host,))) for host in saved(hosts, "waves.json").hosts)
    assert first[1] < second[0]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("-w", "c[1-3]", "--together", "--fanout", "2"), "--fanout 2 with --together and 3 hosts would never begin"),
        (("-w", "@nogroup"), "nodeset --list"),
        (("-w", "c[1-"), "is no host set"),
        (("-w", "root@c1"), "has a user's name in it"),
        (("-w", ""), "no host"),
        (("-w", "c1", "--", "--rounds", "several"), "several"),
        (("-w", "c1", "--", "--output", "x.json"), "is an option of connbench fleet run here"),
        (("-w", "c1", "--strategy", "range"), "--strategy"),
    ],
)
def test_usage_is_checked_before_a_host_is_reached(words: tuple[str, ...], said: str) -> None:
    """Two lines, and exit code 2."""
    finished = in_process("fleet", "run", *NETNS, *words)
    assert (finished.returncode, finished.stdout) == (ExitCode.USAGE, "")
    assert said in finished.stderr
    assert len(finished.stderr.splitlines()) == 2


def test_a_missing_host_stops_all_unless_it_may_be_missing(hosts: Hosts) -> None:
    """A name that no namespace has is named; nothing is measured, or the others measure without it."""
    command = ("fleet", "run", "-w", "c1,nowhere", *NETNS, "-o", "missing.json")
    measured = ("--", "-n", "50", "--strategy", "range")
    stopped = hosts.connbench(*command, "-q", *measured)
    assert (stopped.returncode, stopped.stdout) == (ExitCode.ENVIRONMENT, "")
    assert stopped.stderr.splitlines() == [
        "connbench: nowhere: there is no network namespace of this name",
        "  -> `ip netns list` shows those that there are",
    ]
    assert not (hosts.folder / "missing.json").exists()
    finished = hosts.connbench(*command, "--allow-missing", "1", *measured)
    assert finished.returncode in {ExitCode.OK, ExitCode.UNSOUND}, finished.stderr
    here, missing = saved(hosts, "missing.json").hosts
    assert (here.left_out, here.fault, missing.left_out, missing.result) == (False, None, True, None)
    assert "nowhere" in finished.stdout


def test_a_target_that_one_host_lacks_stops_all(hosts: Hosts) -> None:
    """The fault of each host, with its name, and the exit code of that fault."""
    finished = hosts.connbench("fleet", "run", "-w", "c[1-2]", *NETNS, "-q", "--", "--target", "127.0.0.1:1")
    assert (finished.returncode, finished.stdout) == (ExitCode.TARGET, "")
    assert {line.split(":")[1] for line in finished.stderr.splitlines() if "refuses" in line} == {" c1 and c2"}


def test_clients_of_one_router_run_out_of_ports_together(tmp_path: Path) -> None:
    """Each has ports enough; the 16 of the router are shared, and each host sees that they are out."""
    with fleet_of(tmp_path, nat_ports="50000-50015") as hosts, hosts.serving():
        options = ("--together", "-o", "nat.json.gz", "--", *to_server(hosts), "--timeout", "0.2")
        finished = hosts.connbench("fleet", "run", "-w", "c[1-3]", *NETNS, *options, "-n", "30", "--strategy", "bind")
        assert finished.returncode == ExitCode.FAULT, finished.stderr
        assert hosts.left() == []
        opened = [result.strategies[0].rounds[0].samples for result in saved(hosts, "nat.json.gz").results]
        assert len(opened) == 3
        assert all(samples.failed.any() for samples in opened)
        # An entry of the connection that tries the target may have a port of the router, for 10 s.
        assert 16 - 3 <= sum(int((~samples.failed).sum()) for samples in opened) <= 16
