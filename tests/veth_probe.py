"""Set up the network of a round over a veth pair, and print as JSON what is at both of its ends.

usage: veth_probe.py FAMILY

It listens at the far end with room for one connection in the queue, connects without a bind and then from every source,
and tells what came of it: {"near", "far": {"devices", "listening", "neighbours"}, "first_source", "moved", "netem"}.
"""

from __future__ import annotations

import json
import os
import socket
import sys
from pathlib import Path
from typing import Any

from pyroute2 import IPRoute, NetlinkError

from connbench.engine import network
from connbench.linux import counters
from connbench.linux.address_family import family_of
from connbench.model import Endpoint, Link, Listener, Namespace, Plan, PortRange, RoundPlan, StrategySpec

# The first source is not the one that the kernel would choose of its own accord.
ENDS = {
    "4": (("198.18.0.9", "198.18.0.1", "198.18.0.2"), "198.19.0.1"),
    "6": (("2001:db8::9", "2001:db8::1", "2001:db8:1::2"), "2001:db8:1::1"),
}
LISTENING = "0A"  # TCP_LISTEN (include/net/tcp_states.h), as /proc/net/tcp has it
LINK_LOCAL_OR_GROUP = ("fe80", "ff", "224.")


def look() -> dict[str, Any]:
    """What this process's network namespace contains."""
    sockets = [line.split() for name in ("tcp", "tcp6") for line in _lines(f"/proc/net/{name}")[1:]]
    with IPRoute() as route:
        neighbours = [(found.get_attr("NDA_DST"), found["state"]) for found in route.get_neighbours()]
    return {
        "devices": sorted(line.partition(":")[0].strip() for line in _lines("/proc/net/dev")[2:]),
        "listening": sum(fields[3] == LISTENING for fields in sockets),
        "neighbours": [n for n in neighbours if n[0] and not n[0].startswith(LINK_LOCAL_OR_GROUP)],
    }


def _lines(path: str) -> list[str]:
    return Path(path).read_text(encoding="ascii").splitlines()


def has_netem() -> bool:
    """Whether this kernel has netem, tested on the loopback."""
    with IPRoute() as route:
        try:
            route.tc("add", "netem", route.link_lookup(ifname="lo")[0], 0x10000, delay=1000)
        except NetlinkError:
            return False
    return True


def main() -> None:
    """Set up, connect, print."""
    sources, target = ENDS[sys.argv[1]]
    family = family_of(target)
    spec = StrategySpec("bind")
    plan = Plan(
        strategies=(spec,),
        connections=1,
        port_range=PortRange(40000, 40015),
        sources=sources,
        targets=(Endpoint(target, 80),),
        listener=Listener.BACKLOG,
        namespace=Namespace.NETWORK if os.geteuid() == 0 else Namespace.USER,
        seed=1,
        link=Link.VETH,
    )
    joined = network.set_up(RoundPlan(plan, spec, 1))
    before = joined.read_counters()
    with joined.listening_end():
        listening = socket.socket(family, socket.SOCK_STREAM)
        listening.bind((target, 80))
        listening.listen(0)
    connecting = [socket.socket(family, socket.SOCK_STREAM) for _ in range(len(sources) + 1)]
    for sock, source in zip(connecting, (None, *sources), strict=True):
        sock.setblocking(False)
        if source:
            sock.bind((source, 0))
        sock.connect_ex((target, 80))
    moved = counters.difference(before, joined.read_counters())
    with joined.listening_end():
        far = look()
    told = {"near": look(), "far": far, "first_source": connecting[0].getsockname()[0], "moved": moved}
    print(json.dumps(told | {"netem": has_netem()}))  # noqa: T201  # stdout is how it tells


if __name__ == "__main__":
    main()
