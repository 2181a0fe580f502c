"""`--link nat`: client namespaces, a router that masquerades, and a server, joined by veth pairs."""

from __future__ import annotations

import os
import socket
from contextlib import ExitStack
from dataclasses import dataclass

from connbench.errors import EnvironmentFault
from connbench.linux import counters, nftables, sysctl
from connbench.linux.faults import limit_fault
from connbench.linux.interfaces import TO_SERVER, connect_through_router
from connbench.linux.namespace import LIMIT_WAIT_S, create_namespace, enter_new_namespace, in_namespace, refusal_reason
from connbench.linux.process import die_with_parent, in_child, open_own_namespace
from connbench.linux.veth import await_answer
from connbench.model import ROUTER_ADDRESSES, Namespace, PortRange, ip_version
from connbench.model.round_report import CONNTRACK_MAX, CONNTRACK_TIMEOUTS

LEAVE_OUT = "leave out --link nat"

FORWARDING = {4: "net.ipv4.ip_forward", 6: "net.ipv6.conf.all.forwarding"}
SETTINGS = (
    CONNTRACK_MAX,
    "net.netfilter.nf_conntrack_buckets",
    *CONNTRACK_TIMEOUTS.values(),
)
"""The router's sysctls that decide when its ports and its table are full; every round over a NAT records them."""


@dataclass(frozen=True, slots=True)
class Router:
    """The namespaces of a link through a router, each by its descriptor.

    Attributes:
        clients: The client namespaces, each with one address; the first is that of this process.
        router: The router's.
        server: The listener's.
        rule: The socket that owns the router's rule: the router masquerades as long as it is open.
    """

    clients: tuple[int, ...]
    router: int
    server: int
    rule: socket.socket


def make_router(
    sources: tuple[str, ...], hosts: tuple[str, ...], delay_ms: float, ports: PortRange | None, *, is_random: bool
) -> Router:
    """Create the namespaces of a link through a router, connect them, and let the router masquerade.

    This process's own namespace is the first client namespace. The others end with their last descriptor.

    Args:
        sources: The address of each client namespace.
        hosts: The server's addresses, of the same family.
        delay_ms: The delay to add to each round trip, in ms.
        ports: The ports that the router may give a connection; None for the kernel's choice: the client's own port,
            and if that is in use any from 1024 on.
        is_random: Whether it draws each port at random, and does not try to keep the client's.

    Raises:
        EnvironmentFault: The kernel lacks veth, netem or nftables, or does not allow it.
    """
    with ExitStack() as opened:

        def kept(descriptor: int) -> int:
            opened.callback(os.close, descriptor)
            return descriptor

        try:
            clients = [kept(open_own_namespace())]
            clients += [kept(create_namespace(LIMIT_WAIT_S)) for _ in sources[1:]]
            router, server = (kept(create_namespace(LIMIT_WAIT_S)) for _ in range(2))
        except OSError as error:
            raise limit_fault(error) or EnvironmentFault(
                f"cannot create the {len(sources) + 2} network namespaces of --link nat: {refusal_reason(error)}",
                f"raise user.max_net_namespaces, ask for fewer --clients, or {LEAVE_OUT}",
            ) from error
        family = ip_version(hosts[0])
        address = ROUTER_ADDRESSES[family]
        near = list(zip(clients, sources, strict=True))
        connect_through_router(router, address, near, (server, hosts), delay_ms)
        for one in (*near, (server, hosts[0])):
            await_answer(one, (router, address))
        with in_namespace(router):
            rule = nftables.masquerade(family, leaves=TO_SERVER, ports=ports, is_random=is_random)
            _forward(family)
        opened.pop_all()
    return Router(tuple(clients), router, server, rule)


def check_can_route(
    kind: Namespace,
    sources: tuple[str, ...],
    hosts: tuple[str, ...],
    delay_ms: float,
    ports: PortRange | None,
    *,
    is_random: bool,
) -> int:
    """Check that `make_router` works in a namespace of a kind, by calling it in a child process.

    Call this before numpy is imported: fork() is safe only without threads.

    Returns:
        The most entries of the router's conntrack table.

    Raises:
        EnvironmentFault: It does not work, as for `make_router`, or the kernel does not tell of its conntrack table.
    """

    def work() -> int:
        parent = os.getppid()
        enter_new_namespace(kind, LIMIT_WAIT_S)
        die_with_parent(parent)
        made = make_router(sources, hosts, delay_ms, ports, is_random=is_random)
        with in_namespace(made.router):
            counters.read_conntrack()
            return sysctl.number(CONNTRACK_MAX)

    most: int = in_child(work, "--link nat cannot be set up", LEAVE_OUT)
    return most


def _forward(family: int) -> None:
    try:
        sysctl.write(FORWARDING[family], "1")
    except (OSError, ValueError) as error:
        raise EnvironmentFault(f"--link nat: cannot set {FORWARDING[family]}: {error}", LEAVE_OUT) from error
