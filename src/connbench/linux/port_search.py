"""Which ports connect() looks at where IP_LOCAL_PORT_RANGE is set: asked of the kernel itself, for some backport."""

from __future__ import annotations

import socket
from contextlib import ExitStack

from connbench.errors import EnvironmentFault
from connbench.linux import sysctl
from connbench.linux.interfaces import bring_up_loopback
from connbench.linux.namespace import best_available, enter
from connbench.linux.process import in_child
from connbench.linux.sockopts import IP_LOCAL_PORT_RANGE, pack_u32
from connbench.model import Namespace, port_range_value

LOW, PORTS = 40000, 64
"""Half of so many ports are had: by chance all are of one parity once in 10^9 times."""

HERE = "127.0.0.1"
UNDONE, WAY_OUT = "no connection can be made to see how this kernel searches", "name the search with --algorithm"


def searches_one_parity_first() -> bool:
    """Whether connect() goes through one parity before the other with the option set, as Linux before 6.8 does.

    A few connections in a namespace of their own show it. Call it before numpy is imported, see `best_available`.

    Raises:
        EnvironmentFault: There is no namespace to be had, or the kernel lacks the option.
    """
    namespace, reason = best_available()
    if not namespace.is_own:
        raise EnvironmentFault(f"{UNDONE}: {reason}", WAY_OUT)
    is_parity: bool = in_child(lambda: _has_parity(namespace), UNDONE, WAY_OUT)
    return is_parity


def _has_parity(namespace: Namespace) -> bool:
    enter(namespace)
    bring_up_loopback()
    sysctl.write(sysctl.PORT_RANGE, f"{LOW} {LOW + PORTS - 1}")
    return len({port % 2 for port in _had()}) == 1


def _had() -> list[int]:
    """The ports of half as many connections as there are ports."""
    window = pack_u32(port_range_value(LOW, LOW + PORTS - 1))
    with ExitStack() as held:
        listener = held.enter_context(socket.socket())
        listener.bind((HERE, LOW - 1))
        listener.listen(PORTS)
        connected = [held.enter_context(socket.socket()) for _ in range(PORTS // 2)]
        for sock in connected:
            sock.setsockopt(socket.SOL_IP, IP_LOCAL_PORT_RANGE, window)
            sock.connect((HERE, LOW - 1))
        return [sock.getsockname()[1] for sock in connected]
