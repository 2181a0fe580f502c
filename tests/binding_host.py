"""Open connections in a network namespace of its own, and print what inspect suspects there, as JSON.

usage: binding_host.py KIND CONNECTIONS TARGETS [COMMAND ...]

With a command it runs that there instead, and ends with its exit code.
KIND is `plain`, `bind` (with IP_BIND_ADDRESS_NO_PORT) or `early` (without it). Each target gets as many connections, in
turn. The listeners' port is in no range; one further listener's is, and so is one socket's that is bound and no more.
"""

from __future__ import annotations

import json
import os
import resource
import socket
import subprocess
import sys

from allowed_namespace import NAMESPACE
from connbench.linux import sysctl
from connbench.linux.interfaces import bring_up_loopback
from connbench.linux.namespace import enter_new_namespace
from connbench.linux.sockopts import IP_BIND_ADDRESS_NO_PORT

LOW, HIGH = 40000, 43999
SOURCE, PORT = "127.9.9.1", 39999
LISTENING, BOUND = ("127.9.9.9", 40100), ("127.9.9.9", 40200)


def connect(kind: str, target: tuple[str, int]) -> socket.socket:
    """A connection to a target."""
    one = socket.socket()
    if kind == "bind":
        one.setsockopt(socket.IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, 1)
    if kind != "plain":
        one.bind((SOURCE, 0))
    one.connect(target)
    return one


def listen(address: tuple[str, int]) -> socket.socket:
    """A listener from which nobody accepts: the kernel completes the handshakes."""
    one = socket.socket()
    one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    one.bind(address)
    one.listen(4096)
    return one


def main() -> None:
    """Set up, connect, look, print."""
    kind, connections, targets = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
    enter_new_namespace(NAMESPACE)
    bring_up_loopback()
    sysctl.write(sysctl.PORT_RANGE, f"{LOW} {HIGH}")
    sysctl.write(sysctl.SOMAXCONN, "4096")
    resource.setrlimit(resource.RLIMIT_NOFILE, (resource.getrlimit(resource.RLIMIT_NOFILE)[1],) * 2)
    ends = [(f"127.9.9.{number + 2}", PORT) for number in range(targets)]
    kept = [listen(end) for end in (*ends, LISTENING)]
    bound = socket.socket()
    bound.bind(BOUND)
    kept += [bound, *(connect(kind, end) for _ in range(connections) for end in ends)]

    if sys.argv[4:]:
        sys.exit(subprocess.run(sys.argv[4:], check=False).returncode)

    # Only now: these load numpy, whose threads forbid a new user namespace.
    import numpy as np  # noqa: PLC0415

    from connbench.inspect.port_usage import usage  # noqa: PLC0415
    from connbench.inspect.processes import find_processes  # noqa: PLC0415
    from connbench.inspect.snapshot import Snapshot  # noqa: PLC0415
    from connbench.inspect.sock_diag import dump_sockets, read_settings  # noqa: PLC0415
    from connbench.inspect.suspicions import find_suspicions  # noqa: PLC0415

    sockets = dump_sockets()
    processes = find_processes(np.unique(sockets.inode))
    found = find_suspicions([usage(Snapshot(sockets, read_settings(), processes=processes))])
    rows = [[one.code, one.severity, one.message, one.advice] for one in found]
    print(json.dumps({"pid": os.getpid(), "found": rows}))  # noqa: T201  # stdout is how it tells


if __name__ == "__main__":
    main()
