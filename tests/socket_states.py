"""Open sockets in every state that lasts, print that they are open, and keep them until stdin ends.

usage: socket_states.py PAIRS

PAIRS connections of each family stay open at both ends, and as many IPv4 connections are in TIME_WAIT; of every other
kind there are a few. Nothing moves after the line "open".
"""

from __future__ import annotations

import socket
import sys
import time
from pathlib import Path

FEW = 3
HELD = ("127.0.0.1", "::1", "::ffff:127.0.0.1")
KEEP_S = 3600
"""How long a connection whose program waits for data stays in SYN_RECV."""


def family_of(host: str) -> socket.AddressFamily:
    """The family of the socket, which is IPv6 for an IPv4-mapped address."""
    return socket.AF_INET6 if ":" in host else socket.AF_INET


def listen(host: str, backlog: int, *options: tuple[int, int, int]) -> socket.socket:
    """A listener at a port that the kernel chooses."""
    one = socket.socket(family_of(host))
    for option in options:
        one.setsockopt(*option)
    one.bind((host, 0))
    one.listen(backlog)
    return one


def connect(listener: socket.socket, *, blocks: bool = True) -> socket.socket:
    """A connection to a listener."""
    one = socket.socket(listener.family)
    one.setblocking(blocks)
    error = one.connect_ex(listener.getsockname())
    assert blocks == (error == 0), error
    return one


def pairs(listener: socket.socket, number: int) -> list[tuple[socket.socket, socket.socket]]:
    """Connections, both ends of each."""
    made = [(connect(listener), listener.accept()[0]) for _ in range(number)]
    listener.close()
    return made


def main() -> None:
    """Open, tell, wait."""
    number = int(sys.argv[1])
    kept: list[object] = [pairs(listen(host, 5), number) for host in HELD]
    for near, far in pairs(listen("127.0.0.1", 5), number):
        near.close()
        far.close()  # near is in TIME_WAIT now
    for near, far in (half_closed := pairs(listen("127.0.0.1", 5), FEW)):
        near.shutdown(socket.SHUT_WR)  # FIN_WAIT2, and CLOSE_WAIT at the other end
        kept.append((near, far))
    assert half_closed
    deferring = listen("127.0.0.1", 5, (socket.IPPROTO_TCP, socket.TCP_DEFER_ACCEPT, KEEP_S))
    kept += [deferring, *(connect(deferring) for _ in range(FEW))]  # SYN_RECV at the listener's end
    full = listen("::1", 0)
    kept += [
        full,
        connect(full),
        *(connect(full, blocks=False) for _ in range(FEW)),
    ]  # SYN_SENT: the queue has room for one
    bound = [socket.socket(family_of(host)) for host in HELD]
    for one, host in zip(bound, HELD, strict=True):
        one.bind((host, 0))
    kept.append(bound)
    for host in HELD:
        to, of = (socket.socket(family_of(host), socket.SOCK_DGRAM) for _ in range(2))
        to.bind((host, 0))
        of.connect(to.getsockname())
        kept += [to, of]
    wildcard = [listen(host, 5) for host in ("", "::")]
    only_v6 = listen("::", 5, (socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1))
    kept += [wildcard, only_v6]
    while any(state in {"04", "09", "0B"} for state in states()):  # FIN_WAIT1, LAST_ACK and CLOSING pass
        time.sleep(0.01)
    print("open", flush=True)  # noqa: T201  # stdout is how it tells
    sys.stdin.read()


def states() -> list[str]:
    """The states of the TCP sockets of this namespace."""
    lines = [line for name in ("tcp", "tcp6") for line in Path("/proc/net", name).read_text("ascii").splitlines()[1:]]
    return [line.split()[3] for line in lines]


if __name__ == "__main__":
    main()
