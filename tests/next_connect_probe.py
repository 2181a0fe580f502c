"""Fill a port range by connect() alone, and print what inspect says of the next connect(), and which port it takes.

usage: next_connect_probe.py IN_USE:CONNECTS... < ROUND

ROUND is the first line of stdin, a `RoundPlan` as JSON. At each number of ports in use two lines of JSON are printed:
{"last": the port that was taken last, "in_use": the ports, "forecasts": by strategy}, then, after a line from stdin,
the ports of so many connects, of which each is reset before the next.
"""

from __future__ import annotations

import json
import resource
import socket
import struct
import sys
from dataclasses import asdict
from ipaddress import ip_address
from typing import Any

from connbench import samples
from connbench.engine import listener, network
from connbench.errors import EnvironmentFault
from connbench.model import Endpoint, RoundPlan
from connbench.samples import stop_flag

RESET = struct.pack("ii", 1, 0)


def connected(target: Endpoint) -> socket.socket:
    """A connection whose close resets it."""
    opened = socket.socket()
    opened.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
    opened.connect((target.host, target.port))
    return opened


def look(held: list[socket.socket]) -> dict[str, Any]:
    """The ports in use on the fullest path, and the forecasts for it.

    Where the kernel lists no sockets, as without its module tcp_diag, those that this process has stand for them.
    """
    from connbench.inspect.forecast import Forecaster  # noqa: PLC0415  # see main()
    from connbench.inspect.port_usage import usage  # noqa: PLC0415  # see main()
    from connbench.inspect.snapshot import Snapshot  # noqa: PLC0415  # see main()
    from connbench.inspect.sock_diag import dump_sockets, read_settings  # noqa: PLC0415  # see main()
    from connbench.inspect.sockets import Sockets  # noqa: PLC0415  # see main()

    try:
        sockets = dump_sockets()
    except EnvironmentFault:
        sockets = Sockets.of(**columns(held))
    snapshot = Snapshot(sockets, read_settings())
    [path] = usage(snapshot).rows(1)
    forecasts = {one.strategy: asdict(one) for one in Forecaster().forecast(path, snapshot)}
    return {"in_use": path.ports.tolist(), "forecasts": forecasts}


def columns(held: list[socket.socket]) -> dict[str, list[Any]]:
    """The columns of connections of IPv4, for `Sockets.of`."""
    names = [(*one.getsockname(), *one.getpeername()) for one in held]
    local, local_port, remote, remote_port = zip(*names, strict=True)
    words = [[(0, int(ip_address(address))) for address in addresses] for addresses in (local, remote)]
    return {
        "protocol": [socket.IPPROTO_TCP] * len(held),
        "family": [4] * len(held),
        "state": [1] * len(held),
        "local": words[0],
        "remote": words[1],
        "local_port": list(local_port),
        "remote_port": list(remote_port),
    }


def tell(found: object) -> None:
    """Print a line for the test, and wait for its answer."""
    print(json.dumps(found), flush=True)  # noqa: T201  # stdout is how it tells
    sys.stdin.readline()


def main() -> None:
    """Set up, fill, look, connect, print."""
    plan = RoundPlan.from_dict(json.loads(sys.stdin.readline()))
    _, files = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (files, files))
    network.set_up(plan)  # before numpy is loaded: with its threads a process enters no user namespace
    stop = stop_flag(samples.create(1))
    running = listener.start(plan.plan.listener, plan.plan.targets, plan.connections, plan.handshakes, stop)
    [target] = plan.plan.targets
    held: list[socket.socket] = []
    for level, connects in (map(int, words.split(":")) for words in sys.argv[1:]):
        while len(held) < level:
            held.append(connected(target))
        tell({"last": held[-1].getsockname()[1], **look(held)})
        ports = []
        for _ in range(connects):
            with connected(target) as once:
                ports.append(once.getsockname()[1])
        tell(ports)
    running.close()


if __name__ == "__main__":
    main()
