"""How this kernel searches a range set by IP_LOCAL_PORT_RANGE: found by connecting, as distributions backport."""

from __future__ import annotations

import socket
from contextlib import ExitStack

from connbench.errors import EnvironmentFault
from connbench.linux import sysctl
from connbench.linux.interfaces import bring_up_loopback
from connbench.linux.namespace import best_namespace, enter_new_namespace
from connbench.linux.process import in_child
from connbench.linux.sockopts import IP_LOCAL_PORT_RANGE, pack_u32
from connbench.model import Namespace, port_range_value

LOW, PORTS = 40000, 64
"""The test range. Half of its ports get connected; by chance all of these have one parity once in 10^9 times."""

ADDRESS = "127.0.0.1"
FAILURE, HINT = "cannot connect to find out how this kernel searches", "name the search with --algorithm"


def searches_one_parity_first() -> bool:
    """Whether connect() probes all ports of one parity before the other with the option set, as Linux before 6.8 does.

    This makes a few connections in a new namespace. Call it before numpy is imported, see `best_namespace`.

    Raises:
        EnvironmentFault: The kernel gives no namespace, or lacks the option.
    """
    namespace, reason = best_namespace()
    if not namespace.is_own:
        raise EnvironmentFault(f"{FAILURE}: {reason}", HINT)
    is_parity: bool = in_child(lambda: _gives_one_parity(namespace), FAILURE, HINT)
    return is_parity


def _gives_one_parity(namespace: Namespace) -> bool:
    enter_new_namespace(namespace)
    bring_up_loopback()
    sysctl.write(sysctl.PORT_RANGE, f"{LOW} {LOW + PORTS - 1}")
    return len({port % 2 for port in _connected_ports()}) == 1


def _connected_ports() -> list[int]:
    """The ports that connect() gives to half as many connections as the range has ports."""
    window = pack_u32(port_range_value(LOW, LOW + PORTS - 1))
    with ExitStack() as held:
        listener = held.enter_context(socket.socket())
        listener.bind((ADDRESS, LOW - 1))
        listener.listen(PORTS)
        connected = [held.enter_context(socket.socket()) for _ in range(PORTS // 2)]
        for sock in connected:
            sock.setsockopt(socket.SOL_IP, IP_LOCAL_PORT_RANGE, window)
            sock.connect((ADDRESS, LOW - 1))
        return [sock.getsockname()[1] for sock in connected]
