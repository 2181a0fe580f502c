"""Run a command on a host that has a server behind it, and tell afterwards what the server saw and what the host has.

usage: routed_host.py [option ...] REPORT COMMAND...

--family 4|6                IPv4 or IPv6
--sysctl NAME=VALUE         set on the host
--route-back ADDRESS        the server has a route to this address, through the host
--address ADDRESS           the host has this address, too
--name NAME=ADDRESS         NAME resolves to this address, for the command alone
--kill N                    SIGKILL the command once the server has N connections

The host is a network namespace of its own; the server's is another, which the host reaches by its device `near`. Both
listen at port 8080, with a queue from which nobody accepts: the host at 192.0.2.1 or 2001:db8:2::1, the server at
192.0.2.9 or 2001:db8:2::9. The server has a route to that one address of the host. REPORT gets JSON:

- `status`: the command's exit status
- `peers`: how many connections the server got from each address
- `before`, `after`: what the host's namespace had: its devices, routes, nftables tables, and sysctls of forwarding
"""

from __future__ import annotations

import argparse
import json
import os
import socket
import subprocess
import time
from collections import Counter
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import Any

from pyroute2 import IPRoute
from pyroute2.nftables.main import NFTables

from connbench.linux import sysctl
from connbench.linux.interfaces import bring_up_loopback, connect_by_veth
from connbench.linux.namespace import create_namespace, enter_new_namespace, in_namespace
from connbench.linux.process import unshare
from connbench.model import Namespace
from faulty_host import CLONE_NEWNS, mount

HOST, SERVER = {"4": "192.0.2.1", "6": "2001:db8:2::1"}, {"4": "192.0.2.9", "6": "2001:db8:2::9"}
FAMILIES = {"4": socket.AF_INET, "6": socket.AF_INET6}
PORT, QUEUE = 8080, 4096
GONE_WITHIN_S = 30
"""Seconds that the kernel has to remove the namespace of a killed run."""


def listen(address: str, family: str) -> socket.socket:
    """Listen with a queue for all connections of a test."""
    for name in (sysctl.SOMAXCONN, sysctl.SYN_BACKLOG):
        sysctl.write(name, str(QUEUE))
    return socket.create_server((address, PORT), family=FAMILIES[family], backlog=QUEUE)


def set_up_server(asked: argparse.Namespace) -> socket.socket:
    """Give this namespace, the server's, routes to no more than it is to know, and listen."""
    host, number = HOST[asked.family], int(FAMILIES[asked.family])
    bits = 128 if asked.family == "6" else 32
    with IPRoute() as route:
        [index] = route.link_lookup(ifname="far")
        route.route("add", family=number, dst=f"{host}/{bits}", oif=index)
        for address in asked.route_back:
            route.route("add", family=number, dst=f"{address}/{bits}", gateway=host, oif=index, flags=["onlink"])
        route.route("del", family=number, dst="::/0" if asked.family == "6" else "0.0.0.0/0", oif=index)
    return listen(SERVER[asked.family], asked.family)


def name_hosts(names: list[str]) -> None:
    """Put a file of one's own in the place of /etc/hosts (hosts(5)), for this process and those that it starts."""
    unshare(CLONE_NEWNS)
    mount("--make-rprivate", "/")
    with NamedTemporaryFile("w", encoding="ascii") as file:
        for named in names:
            name, _, address = named.partition("=")
            file.write(f"{address} {name}\n")
        file.flush()
        mount("--bind", file.name, "/etc/hosts")


def state() -> dict[str, Any]:
    """What a run may change in this namespace."""
    with IPRoute() as route:
        devices = sorted(link.get_attr("IFLA_IFNAME") for link in route.get_links())
        routes = sorted(
            f"{one.get_attr('RTA_DST')}/{one['dst_len']} {one.get_attr('RTA_OIF')} {one.get_attr('RTA_TABLE')}"
            for family in FAMILIES.values()
            for one in route.get_routes(family=int(family))
            # The kernel adds those to a link-local address later, once it knows that nobody else has the address.
            if not str(one.get_attr("RTA_DST")).startswith(("fe80:", "ff00:"))
        )
    tables = []
    for family in FAMILIES.values():
        with NFTables(nfgen_family=int(family)) as found:
            tables += [table.get_attr("NFTA_TABLE_NAME") for table in found.get_tables()]
    forwarding = {
        str(path): path.read_text(encoding="ascii").strip()
        for path in Path("/proc/sys/net").glob("ipv?/conf/*/forwarding")
    }
    return {"devices": devices, "routes": routes, "tables": tables, "forwarding": forwarding}


def waiting(server: int) -> int:
    """How many connections wait in the server's queue, by /proc/net/tcp: established, and no descriptor has them."""
    with in_namespace(server):
        lines = [line.split() for name in ("tcp", "tcp6") for line in Path("/proc/net", name).read_text().splitlines()]
    return sum(fields[3] == "01" for fields in lines)


def run(command: list[str], server: int, kill_at: int | None) -> int:
    """Run the command, and kill it if asked."""
    with subprocess.Popen(command) as process:
        while kill_at is not None and process.poll() is None:
            if waiting(server) >= kill_at:
                process.kill()
                break
            time.sleep(0.01)
    return process.returncode


def peers(listening: socket.socket) -> Counter[str]:
    """Where the connections in the queue came from."""
    found: Counter[str] = Counter()
    listening.setblocking(False)
    while True:
        try:
            connection, (address, *_) = listening.accept()
        except BlockingIOError:
            return found
        connection.close()
        found[address] += 1


def main() -> None:
    """Make the two namespaces, run the command, and write the report."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--family", default="4")
    for name in ("--sysctl", "--route-back", "--address", "--name"):
        parser.add_argument(name, action="append", default=[])
    parser.add_argument("--kill", type=int)
    parser.add_argument("report", type=Path)
    parser.add_argument("command", nargs=argparse.REMAINDER)
    asked = parser.parse_args()
    enter_new_namespace(Namespace.NETWORK if os.geteuid() == 0 else Namespace.USER)
    bring_up_loopback()
    server = create_namespace()
    connect_by_veth(server, (HOST[asked.family], *asked.address), (SERVER[asked.family],), 0)
    with in_namespace(server):
        listening = set_up_server(asked)
    own = listen(HOST[asked.family], asked.family)
    for setting in asked.sysctl:
        name, _, value = setting.partition("=")
        sysctl.write(name, value)
    if asked.name:
        name_hosts(asked.name)
    before = state()
    status = run(asked.command, server, asked.kill)
    end = time.monotonic() + GONE_WITHIN_S
    while state() != before and time.monotonic() < end:
        time.sleep(0.05)
    found = {"status": status, "peers": peers(listening), "own": peers(own), "before": before, "after": state()}
    asked.report.write_text(json.dumps(found), encoding="ascii")


if __name__ == "__main__":
    main()
