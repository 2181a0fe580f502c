"""The hosts that tests of a fleet use are hosts: connbench runs between them, ssh reaches them, and nothing is left."""

from __future__ import annotations

import json
import os
from pathlib import Path

from connbench.errors import ExitCode
from fleet_hosts import BEHIND_ROUTER, SERVER_ADDRESS, Hosts, fleet_of
from run_connbench import COMMAND

ROUTER_PORTS = 16


def run_from(hosts: Hosts, client: str, attempts: int) -> list[int]:
    """The errno of each attempt of a client to connect to the server."""
    result = hosts.folder / f"{client}.json"
    to_server = ("--isolate", "never", "--target", f"{hosts.target}:8080", "--allow-remote", "--timeout", "0.2")
    load = ("-n", str(attempts), "--strategy", "bind", "-q", "-o", str(result))
    hosts.connbench("run", *to_server, *load, on=client)
    [strategy] = json.loads(result.read_text(encoding="utf-8"))["strategies"]
    return [int(errno) for errno in strategy["rounds"][0]["samples"]["errno"]]


def test_hosts_reach_the_server_by_their_own_addresses(tmp_path: Path) -> None:
    """Each has a device and an address of its own; after a run nothing is left; a cut link is a cut link."""
    with fleet_of(tmp_path, clients=2) as hosts:
        assert hosts.target == SERVER_ADDRESS
        with hosts.serving():
            for client in hosts.clients:
                assert run_from(hosts, client, 20) == [0] * 20
                assert hosts.left() == []
            hosts.cut("c1")
            to_server = ("--target", f"{hosts.target}:8080", "--allow-remote", "--timeout", "0.2")
            unreachable = hosts.connbench("run", *to_server, on="c1")
            assert unreachable.returncode == ExitCode.TARGET, unreachable.stderr
            hosts.mend("c1")
            assert run_from(hosts, "c1", 20) == [0] * 20
        assert hosts.left() == []


def test_left_names_what_a_command_leaves(tmp_path: Path) -> None:
    """A process on a host, one in a namespace of its own, a folder, a device and a namespace."""
    with fleet_of(tmp_path, clients=1) as hosts:
        leave = "exec > /dev/null 2>&1; sleep 100 & unshare --net sleep 200 & ip link add left1 type veth"
        assert hosts.run("sh", "-c", f"{leave}; mkdir /tmp/connbench-fleet-1", on="c1").returncode == 0
        assert hosts.run("ip", "netns", "add", "forgotten").returncode == 0
        left = hosts.left()
        assert [line.rpartition(":")[2].strip() for line in left if "process" in line] == ["sleep 100", "sleep 200"]
        folder = "/tmp/connbench-fleet-1"  # noqa: S108  # the machine has a /tmp of its own
        assert {folder, "c1: device left1", "namespace forgotten"} < set(left)
        assert not Path(folder).exists()


def test_ssh_reaches_each_client(tmp_path: Path) -> None:
    """With key, known hosts and configuration of the machine's own root; each has a host name of its own."""
    with fleet_of(tmp_path, clients=2, ssh=True) as hosts:
        for client in hosts.clients:
            told = hosts.run("ssh", "-o", "BatchMode=yes", client, f"hostname; {COMMAND} --version")
            assert told.stdout.splitlines()[0] == client, told.stderr
            assert "connbench" in told.stdout
        hosts.until_nothing_is_left()  # sshd ends its session a moment after ssh has ended
        with hosts.started("ssh", "c1", "sleep 100"):
            assert any("sleep 100" in line for line in hosts.left())
        hosts.until_nothing_is_left()
    assert not os.path.lexists("/run/netns/c1")


def test_clients_share_the_ports_of_a_router(tmp_path: Path) -> None:
    """Its 16 ports are all that the two clients have together: what the first one holds the second one lacks."""
    with fleet_of(tmp_path, clients=2, nat_ports=f"50000-{50000 + ROUTER_PORTS - 1}") as hosts:
        assert hosts.target == BEHIND_ROUTER
        with hosts.serving():
            errnos = run_from(hosts, "c1", 40)
            # One of its ports had the connection that tries the target: the router keeps that entry a while.
            assert ROUTER_PORTS - 1 <= errnos.count(0) <= ROUTER_PORTS
        assert hosts.left() == []
