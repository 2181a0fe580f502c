"""Set up the network of a round through a router, connect from each client namespace, and print as JSON what is seen.

usage: nat_probe.py FAMILY LOW-HIGH|- random|-

Each of two client namespaces binds to the same port, connects, and tells which address and port the server sees:
{"peers", "devices", "entries", "opened", "failed"}.
"""

from __future__ import annotations

import json
import socket
import sys
from pathlib import Path

from connbench.engine import network
from connbench.linux.address_family import family_of
from connbench.linux.namespace import in_namespace
from connbench.model import Endpoint, Link, Listener, Namespace, Plan, PortRange, RoundPlan, StrategySpec

ENDS = {"4": (("198.18.0.1", "198.18.0.2"), "198.19.0.1"), "6": (("2001:db8::1", "2001:db8::2"), "2001:db8:1::1")}
PORT = 40_000


def devices() -> list[str]:
    """The devices of this process's network namespace."""
    lines = Path("/proc/net/dev").read_text(encoding="ascii").splitlines()[2:]
    return sorted(line.partition(":")[0].strip() for line in lines)


def main() -> None:
    """Print what is found."""
    family, ports, how = sys.argv[1:]
    sources, host = ENDS[family]
    plan = Plan(
        strategies=(StrategySpec("plain"),),
        connections=2,
        port_range=PortRange(PORT, PORT + 9),
        sources=sources,
        targets=(Endpoint(host, 80),),
        listener=Listener.BACKLOG,
        namespace=Namespace.NETWORK,
        seed=1,
        link=Link.NAT,
        nat_ports=None if ports == "-" else PortRange.parse(ports),
        nat_random=how == "random",
    )
    made = network.set_up(RoundPlan(plan, plan.strategies[0], 1))
    assert made.router
    assert made.far
    with in_namespace(made.far):
        listener = socket.create_server((host, 80), family=family_of(host))
        at_server = devices()
    before, peers, at_clients = made.read_counters(), [], []
    for number, client in enumerate(made.clients):
        with in_namespace(client):
            sock = socket.socket(family_of(host), socket.SOCK_STREAM)
            sock.bind((sources[number], PORT))
            sock.connect((host, 80))
            at_clients.append(devices())
        accepted, peer = listener.accept()
        peers.append(peer[:2])
        accepted.close()
        sock.close()
    with in_namespace(made.router.router):
        at_router = devices()
    moved = made.read_counters()
    found = {
        "peers": peers,
        "devices": {"clients": at_clients, "router": at_router, "server": at_server},
        "entries": made.read_conntrack_entries(),
        "opened": moved["Tcp.ActiveOpens"] - before["Tcp.ActiveOpens"],
        "failed": moved["Conntrack.insert_failed"] - before["Conntrack.insert_failed"],
    }
    print(json.dumps(found))  # noqa: T201  # the test reads it


if __name__ == "__main__":
    main()
