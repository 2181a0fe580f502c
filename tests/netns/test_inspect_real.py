"""`inspect` on a host with common programs: it counts what `ss` lists, and what the sockets say of themselves."""

from __future__ import annotations

import errno
import json
import platform
import re
import subprocess
import sys
from collections import Counter, defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

import production_host as host
from connbench.errors import ExitCode
from connbench.kernel_release import version_of
from required_programs import require
from run_connbench import HANG_S, INSIDE, connbench
from server_host import heard, started, tell

SETTINGS = (
    *("--sysctl", f"net.ipv4.ip_local_port_range={host.LOW} {host.HIGH}"),
    *("--sysctl", f"net.ipv4.ip_local_reserved_ports={host.RESERVED_PORTS[0]}-{host.RESERVED_PORTS[-1]}"),
    *("--sysctl", "net.ipv4.tcp_tw_reuse=0"),  # so that each request of the proxy has a port of its own
)
SOURCE = "127.0.0.1"
LOOPBACK = 1
"""The index of `lo`."""
ENDPOINT = re.compile(r"\[?(?:::ffff:)?([\da-f.:*]+?)\]?(%lo)?:(\d+|\*)")
"""An endpoint as `ss` prints it, with the device; an IPv4-mapped address takes IPv4's ports."""

USAGE = """
import json
from connbench.inspect.port_usage import usage
from connbench.inspect.snapshot import Snapshot
from connbench.inspect.sock_diag import dump_sockets, read_settings

found = usage(Snapshot(dump_sockets(), read_settings()))
rows = [
    (
        (row.protocol, row.source, row.target, row.target_port, row.interface),
        row.ports.tolist(),
        {"ESTAB": row.established, "TIME-WAIT": row.time_wait} | row.others,
        row.usable,
        row.time_wait_left,
    )
    for row in found.rows()
]
print(json.dumps({"rows": rows, "listeners": found.snapshot.sockets.local_port[found.listeners].tolist()}))
"""
"""Prints the port usage of a namespace."""

UNTIL_FULL = """
import socket, sys

def connect(target):
    return socket.create_connection(target, 30)

target, other, service = ("127.0.0.2", 8080), ("127.0.0.3", 8080), ("127.0.0.4", 40010)
listeners = [socket.create_server(address, backlog=100) for address in (target, other, service, ("127.0.0.4", 40020))]
bound = [socket.socket() for port in range(2)]
bound[1].setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
for port, sock in enumerate(bound, 40030):
    sock.bind(("127.0.0.5", port))
closed = [(connect(target), listeners[0].accept()[0]) for _ in range(3)]
for ours, theirs in closed:
    ours.close()
    theirs.close()
held = [connect(address) for address in (*[target] * 10, *[other] * 20, *[service] * 2)]
print("ready", flush=True)
sys.stdin.readline()
try:
    while True:
        held.append(connect(target))
except OSError as error:
    print(len(held) - 32, error.errno, flush=True)
sys.stdin.readline()
"""
"""Uses ports in several ways, and at a line on stdin connects to one target until that fails; prints how often."""

UDP_UNTIL_FULL = """
import contextlib, socket, sys

def bound(address, port):
    sock = socket.socket(type=socket.SOCK_DGRAM)
    sock.bind((address, port))
    return sock

def connect(target):
    sock = socket.socket(type=socket.SOCK_DGRAM)
    sock.connect(target)
    return sock

target, other = ("127.0.0.2", 53), ("127.0.0.3", 53)
held = [bound("127.0.0.5", 40000), bound("127.0.0.6", 40001), bound("0.0.0.0", 40002)]
held[0].connect(target)
with contextlib.suppress(OSError):  # no IPv6 here
    held.append(socket.socket(socket.AF_INET6, socket.SOCK_DGRAM))
    held[-1].bind(("::1", 40003))
held += [connect(address) for address in (*[target] * 3, *[other] * 4)]
print("ready", flush=True)
sys.stdin.readline()
made = []
try:
    while True:
        made.append(connect(target))
except OSError as error:
    print(len(made), error.errno, flush=True)
sys.stdin.readline()
"""
"""The same with UDP, where only the socket of IPv6 takes no port from IPv4."""

PathKey = tuple[str, str, str, int, int]
"""Protocol, source, target, target port, and the index of the device that its sockets are bound to."""


class Ports(NamedTuple):
    """What is in use on a path.

    Attributes:
        ports: The local ports, each once, ascending.
        states: The number of connections in each state.
    """

    ports: list[int]
    states: Counter[str]


class Row(NamedTuple):
    """What `inspect` says of a path."""

    path: PathKey
    ports: list[int]
    states: Counter[str]
    usable: int
    time_wait_left: dict[int, int]


class Production(NamedTuple):
    """The host.

    Attributes:
        pid: A process in its namespace.
        own: The local ports that each group of the programs' sockets says it has.
        listed: What `ss` lists.
        found: What `inspect` prints.
        listeners: The ports of the listeners that `inspect` found in the range.
    """

    pid: int
    own: dict[str, list[int]]
    listed: dict[PathKey, Ports]
    found: list[Row]
    listeners: list[int]

    def row(self, target: tuple[str, int], source: str = SOURCE, protocol: str = "tcp", device: int = 0) -> Row:
        """What `inspect` says of the connections from a source to a target."""
        [found] = [row for row in self.found if row.path == (protocol, source, *target, device)]
        return found


def listed_by_ss(pid: int) -> dict[PathKey, Ports]:
    """The outgoing connections of a process's namespace, by path: those whose address and port are no listener's."""
    lines = [
        (protocol, *line.split())
        for protocol, option in (("tcp", "-t"), ("udp", "-u"))
        for line in inside(pid, require("ss"), "-Han", option).splitlines()
    ]
    sockets = [(protocol, state, *endpoint(here), *endpoint(there)) for protocol, state, _, _, here, there in lines]
    listeners = {(protocol, address, port) for protocol, state, address, _, port, *_ in sockets if state == "LISTEN"}
    paths: dict[PathKey, list[tuple[int, str]]] = defaultdict(list)
    for protocol, state, source, device, port, target, _, target_port in sockets:
        if host.LOW <= port <= host.HIGH and (protocol, source, port) not in listeners and state != "UNCONN":
            paths[protocol, source, target, target_port, device].append((port, state))
    return {
        path: Ports(sorted({port for port, _ in held}), Counter(state for _, state in held))
        for path, held in paths.items()
    }


def endpoint(text: str) -> tuple[str, int, int]:
    """Address, device and port of what `ss` prints; 0 for a device or a port that is none."""
    found = ENDPOINT.fullmatch(text)
    assert found, text
    return found[1], LOOPBACK if found[2] else 0, int(found[3].replace("*", "0"))


def knows_bound_sockets() -> bool:
    """Whether this kernel lists sockets that are bound, and neither connected nor listening (Linux 6.8)."""
    return (version_of(platform.release()) or (0,)) >= (6, 8)


def inside(pid: int, *command: str) -> str:
    """What a command prints in the namespace of a process."""
    joined = [*INSIDE, "--join", str(pid), "--", *command]
    return subprocess.run(joined, capture_output=True, text=True, check=True, timeout=HANG_S).stdout


@pytest.fixture(scope="module")
def production(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Production]:
    """The host, in which nothing moves, and what is known of it."""
    folder = tmp_path_factory.mktemp("production")
    servers = (require("nginx"), require("redis-server"))
    program = (sys.executable, str(Path(host.__file__)), str(folder), *servers)
    with started([*INSIDE, *SETTINGS, "--", *program]) as process:
        told = heard(process)
        assert told, process.communicate()[1]
        document = json.loads(inside(process.pid, sys.executable, "-c", USAGE))
        rows = [
            Row(tuple(path), ports, +Counter(states), usable, {int(s): n for s, n in left.items()})
            for path, ports, states, usable, left in document["rows"]
        ]
        yield Production(process.pid, json.loads(told), listed_by_ss(process.pid), rows, document["listeners"])
        process.communicate(timeout=HANG_S)  # its stdin ends, and it ends its servers


def test_counts_are_those_of_ss(production: Production) -> None:
    """Each path that `ss` lists has a row with the same ports and the same states, and no other has one."""
    found = {row.path: Ports(row.ports, row.states) for row in production.found}
    assert found == production.listed
    assert len(found) == len(production.found)


def test_the_command_prints_these_counts(production: Production) -> None:
    """The JSON document has a row for each path, with as many ports and connections; and what is taken for all."""
    printed = connbench("inspect", "--top", "0", "--format", "json", inside=("--join", str(production.pid)))
    assert printed.returncode == ExitCode.OK, printed.stderr
    document = json.loads(printed.stdout)
    counts = {
        tuple(row[name] for name in ("protocol", "source", "target", "target_port", "interface")): (
            (row["used"], row["usable"], row["free"], row["even"], row["odd"]),
            Counter({"ESTAB": row["established"], "TIME-WAIT": row["time_wait"]}),
        )
        for row in document["rows"]
    }
    expected = {}
    for row in production.found:
        odd = sum(port % 2 for port in row.ports)
        used = len(row.ports)
        expected[row.path] = ((used, row.usable, row.usable - used, used - odd, odd), row.states)
    assert {path: (ports, +states) for path, (ports, states) in counts.items()} == expected
    [namespace] = document["namespaces"]
    assert namespace["blocked_ports"] == production.listeners
    assert namespace["port_range"] == {"low": host.LOW, "high": host.HIGH}
    assert namespace["reserved"] == len(host.RESERVED_PORTS)
    found = {finding["code"]: finding["message"] for finding in document["findings"]}
    assert found.keys() - {"bound-in-range"} == {"early-bind", "listener-in-range"}
    assert host.EARLY_SOURCE in found["early-bind"]
    assert f"{host.SERVICE[0]}:{host.SERVICE[1]}" in found["listener-in-range"]


def test_a_namespace_without_sockets() -> None:
    """There is nothing to show, and nothing is wrong; the report says of which range."""
    printed = connbench("inspect", inside=("--sysctl", "net.ipv4.ip_local_port_range=40000 40063"))
    assert printed.returncode == ExitCode.OK, printed.stderr
    assert "No path is short of ports: no outgoing connection has a port of 40000-40063." in printed.stdout
    assert "0 sockets" in printed.stdout


def test_the_fullest_comes_first(production: Production) -> None:
    """The rows stand in the order of their ports in use."""
    used = [len(row.ports) for row in production.found]
    assert used == sorted(used, reverse=True)
    assert production.found[0] == production.row(host.PLAIN[0])


def test_a_proxy_without_keepalive_leaves_ports_in_time_wait(production: Production) -> None:
    """The proxy closes the connection of each request before its upstream does: a port each, for 60 s."""
    row = production.row(host.UPSTREAM)
    assert row.states == {"TIME-WAIT": host.PROXIED}
    assert len(row.ports) == host.PROXIED
    assert row.time_wait_left[60] == host.PROXIED


def test_clients_of_redis_hold_a_port_each(production: Production) -> None:
    """The connections are there, and that of the program which tried whether redis listens is in TIME_WAIT."""
    row = production.row(host.REDIS)
    assert row.states == {"ESTAB": host.HELD, "TIME-WAIT": 1}
    assert set(production.own["redis"]) < set(row.ports)


def test_connects_share_ports_between_targets(production: Production) -> None:
    """Two targets have more connections than there are even ports; their rows have the even ports only."""
    first, second = (production.row(target) for target in host.PLAIN)
    assert sorted(production.own["plain"] + production.own["mapped"]) == sorted(first.ports + second.ports)
    assert set(first.ports) & set(second.ports)
    assert not any(port % 2 for port in first.ports + second.ports)


def test_early_binds_share_none(production: Production) -> None:
    """bind() took each port for both targets."""
    first, second = (production.row(target, host.EARLY_SOURCE) for target in host.EARLY)
    assert sorted(production.own["early"]) == sorted(first.ports + second.ports)
    assert not set(first.ports) & set(second.ports)


def test_mapped_addresses_are_ipv4(production: Production) -> None:
    """IPv4 connections of IPv6 sockets take ports of the same path as those of IPv4 sockets."""
    assert set(production.own["mapped"]) < set(production.row(host.PLAIN[0]).ports)


def test_ipv6_has_rows_of_its_own(production: Production) -> None:
    """An IPv6 address is told as such."""
    if "ipv6" not in production.own:
        pytest.skip("no IPv6 here")
    row = production.row(host.OVER_IPV6, "::1")
    assert row.ports == sorted(production.own["ipv6"])


def test_connected_udp_sockets_are_rows(production: Production) -> None:
    """Each has a port that no other UDP socket of the address can get."""
    row = production.row(host.RESOLVER, protocol="udp")
    assert row.ports == sorted(production.own["udp"])


def test_accepted_connections_are_not_outgoing(production: Production) -> None:
    """A listener's own connections have its port, inside the range; only its clients are counted."""
    assert host.SERVICE[0] not in {row.path[1] for row in production.found}
    assert sum(production.row(host.SERVICE).states.values()) == host.FEW - 1


def test_listeners_in_the_range_take_their_port_from_everybody(production: Production) -> None:
    """All but those that listen on a reserved port; a port that bind() took without a listener counts as one."""
    blocked = sorted([host.SERVICE[1], host.BOUND[1]] if knows_bound_sockets() else [host.SERVICE[1]])
    assert production.listeners == blocked
    ports = host.HIGH - host.LOW + 1 - len(host.RESERVED_PORTS)
    for row in production.found:  # bind() to another address than the listener's can take its port
        if row.path[0] == "tcp" and not row.path[-1]:
            assert row.usable == ports - len(set(blocked) - set(row.ports))


def test_sockets_of_a_device_pass_over_ports_of_others(production: Production) -> None:
    """A socket that is bound to a device cannot have a port that one bound to none has on the same path."""
    others, row = production.row(host.PLAIN[1]), production.row(host.PLAIN[1], device=LOOPBACK)
    assert row.ports == sorted(production.own["device"])
    assert not set(row.ports) & set(others.ports)
    assert row.usable == others.usable - len(others.ports)


def test_as_many_ports_are_free_as_connect_finds() -> None:
    """From a full look at a path the kernel lets exactly as many connections follow as `inspect` says are free."""
    settings = ("40000 40063", "40020-40021", "0")
    names = ("ip_local_port_range", "ip_local_reserved_ports", "tcp_tw_reuse")
    given = [
        word for name, value in zip(names, settings, strict=True) for word in ("--sysctl", f"net.ipv4.{name}={value}")
    ]
    with started([*INSIDE, *given, "--", sys.executable, "-c", UNTIL_FULL]) as process:
        assert heard(process) == "ready\n", process.communicate()[1]
        document = json.loads(inside(process.pid, sys.executable, "-c", USAGE))
        [row] = [one for one in document["rows"] if one[0][2] == "127.0.0.2"]
        tell(process)
        made, error = map(int, heard(process).split())
    _, ports, states, usable, _ = row
    assert error == errno.EADDRNOTAVAIL
    assert states == {"ESTAB": 10, "TIME-WAIT": 3}
    assert usable == 64 - 2 - (3 if knows_bound_sockets() else 1)
    assert made == 64 - 2 - 3 - len(ports)


def test_as_many_udp_ports_are_free_as_connect_finds() -> None:
    """connect() of an unbound UDP socket passes over each port that another one has, for whatever source and target."""
    given = ("--sysctl", "net.ipv4.ip_local_port_range=40000 40031")
    with started([*INSIDE, *given, "--", sys.executable, "-c", UDP_UNTIL_FULL]) as process:
        assert heard(process) == "ready\n", process.communicate()[1]
        document = json.loads(inside(process.pid, sys.executable, "-c", USAGE))
        [row] = [one for one in document["rows"] if one[0][1:3] == [SOURCE, "127.0.0.2"]]
        tell(process)
        made, error = map(int, heard(process).split())
    _, ports, _, usable, _ = row
    assert error == errno.EAGAIN
    assert made == usable - len(ports) == 32 - 3 - 3 - 4
