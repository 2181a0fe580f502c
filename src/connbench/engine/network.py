"""The network of a round: its namespaces, the links between them, and the sysctls of each."""

from __future__ import annotations

import errno
import ipaddress
from collections import Counter
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass

from connbench.engine.listener import backlog_for
from connbench.errors import EnvironmentFault
from connbench.linux import counters, nat, sysctl, veth
from connbench.linux.faults import limit_fault
from connbench.linux.host_route import HostRoute
from connbench.linux.interfaces import bring_up_loopback
from connbench.linux.namespace import (
    LIMIT_WAIT_S,
    enter_child_namespace,
    enter_new_namespace,
    in_namespace,
    refusal_reason,
)
from connbench.linux.process import open_own_namespace
from connbench.model import Link, PortRange, RoundPlan

UNPRIVILEGED_START_DEFAULT = 1024


@dataclass(frozen=True, slots=True)
class Network:
    """The network namespaces of a round: the near end connects, the far end listens.

    Attributes:
        settings: The sysctls of the near end by name, as read back; with a router also its own.
        far: The descriptor of the far end's namespace; None if both ends are in the namespace of this process.
        route: The route through the host; None without one.
        router: The namespaces of a link through a router; None without one.
    """

    settings: dict[str, str]
    far: int | None = None
    route: HostRoute | None = None
    router: nat.Router | None = None

    @property
    def clients(self) -> tuple[int, ...]:
        """The descriptors of the client namespaces behind a router; empty if this process's namespace connects."""
        return self.router.clients if self.router else ()

    def listening_end(self) -> AbstractContextManager[None]:
        """A context in which this process is in the listener's namespace."""
        return nullcontext() if self.far is None else in_namespace(self.far)

    def read_counters(self) -> dict[str, int]:
        """All TCP/IP counters, the sum of both ends: one end counts a connection as opened, the other as accepted.

        With a router also the counters of its conntrack table.
        """
        ends: list[int | None] = [*self.clients] or [None]
        total = Counter[str]()
        for end in ends if self.far is None else [*ends, self.far]:
            with nullcontext() if end is None else in_namespace(end):
                total.update(counters.read())
        return dict(total) | self._conntrack()[1]

    def read_time_wait(self) -> int:
        """The sockets in TIME_WAIT at the near end."""
        total = 0
        for end in self.clients or (None,):
            with nullcontext() if end is None else in_namespace(end):
                total += counters.read_time_wait()
        return total

    def read_conntrack_entries(self) -> int:
        """The entries of the router's conntrack table; 0 without a router."""
        return self._conntrack()[0]

    def _conntrack(self) -> tuple[int, dict[str, int]]:
        if self.router is None:
            return 0, {}
        with in_namespace(self.router.router):
            return counters.read_conntrack()

    def close(self) -> None:
        """Remove from the host's namespace what the round added there."""
        if self.route:
            self.route.close()


def set_up(round_plan: RoundPlan) -> Network:
    """Enter the namespace of a round's plan, set up its interfaces and sysctls, and make the other ends of its link.

    Both ends get the sysctls of the load: some matter where connect() is called, some where the listener is, and both
    ends have to agree on TCP timestamps.

    With `--isolate never` this process stays in the host's namespace, and nothing there is changed. A routed link
    adds to the host's namespace what `HostRoute.make` says.

    Raises:
        EnvironmentFault: The kernel or a policy of this machine does not allow it.
        OSError: This process lacks a resource: see `faults.limit_fault`.
    """
    plan = round_plan.plan
    far, route = None, None
    host = open_own_namespace() if plan.link is Link.ROUTED else None
    try:
        enter_new_namespace(plan.namespace, LIMIT_WAIT_S)
    except OSError as error:
        if limit_fault(error):
            raise
        raise EnvironmentFault(
            f"cannot create a network namespace: {refusal_reason(error, plan.namespace)}",
            "raise that limit, or use --isolate never"
            if error.errno == errno.ENOSPC
            else "run as root, allow user namespaces, or use --isolate never",
        ) from error
    if plan.ehash_entries is not None:
        _enlarge_hash_table(plan.ehash_entries)
    hosts = tuple(dict.fromkeys(target.host for target in plan.targets))
    if plan.link is Link.NAT:
        return _set_up_router(round_plan, hosts)
    named = round_plan.strategy.load.settings
    if plan.link is Link.VETH:
        far = veth.make_link(plan.sources, hosts, plan.delay_ms)
        with in_namespace(far):
            _set_sysctls(_queues(round_plan.handshakes) | named)
    elif host is not None:
        route = HostRoute.make(host, plan.sources, masquerade=plan.masquerade)
        _set_sysctls({sysctl.ORPHAN_RETRIES: "1"})
    elif plan.namespace.is_own:
        bring_up_loopback(_beyond_loopback(*plan.sources, *hosts))
    if plan.namespace.is_own:
        _set_sysctls(_ports(plan.port_range) | _queues(round_plan.handshakes) | named)
    return Network(sysctl.read_all((*sysctl.RECORDED, *named)), far, route)


def _set_up_router(round_plan: RoundPlan, hosts: tuple[str, ...]) -> Network:
    """Make the namespaces of a link through a router, and set the sysctls of its ends."""
    plan, named = round_plan.plan, round_plan.strategy.load.settings
    how = plan.sources, hosts, plan.delay_ms, plan.nat_ports
    made = nat.make_router(*how, is_random=plan.nat_random)
    for client in made.clients:
        with in_namespace(client):
            _set_sysctls(_ports(plan.port_range) | named)
    with in_namespace(made.server):
        _set_sysctls(_queues(round_plan.handshakes) | named)
    with in_namespace(made.router):
        _set_sysctls(named)  # those of conntrack matter here
        of_router = sysctl.read_all(nat.SETTINGS)
    return Network(sysctl.read_all((*sysctl.RECORDED, *named)) | of_router, made.server, router=made)


def _enlarge_hash_table(entries: int) -> None:
    """Leave the namespace for a child of it, which has an established-hash table of its own with so many entries.

    Raises:
        EnvironmentFault: The kernel cannot make one. Without memory for it, a namespace gets the host's table.
        OSError: As for `set_up`.
    """
    option = f"--ehash-entries {entries}"
    try:
        enter_child_namespace(entries, LIMIT_WAIT_S)
    except FileNotFoundError as error:
        raise EnvironmentFault(
            f"{option}: this kernel has no {sysctl.CHILD_EHASH_ENTRIES} (Linux 6.1)", "leave it out"
        ) from error
    except (OSError, ValueError) as error:
        if limit_fault(error):
            raise
        reason = refusal_reason(error) if isinstance(error, OSError) else str(error)
        raise EnvironmentFault(f"{option}: no namespace with such a table: {reason}", "leave it out") from error
    found = sysctl.read(sysctl.EHASH_ENTRIES)
    if found != str(entries):
        raise EnvironmentFault(
            f"{option}: the kernel made no table of that size, {sysctl.EHASH_ENTRIES} is {found}",
            "it lacks memory for it: ask for fewer entries, or leave it out",
        )


def _beyond_loopback(*addresses: str) -> tuple[str, ...]:
    """The addresses that `lo` lacks once it is up; it then has all of 127.0.0.0/8 and ::1."""
    return tuple(a for a in dict.fromkeys(addresses) if not ipaddress.ip_address(a).is_loopback)


def _ports(ports: PortRange) -> dict[str, str]:
    return {
        # The kernel rejects an ip_local_port_range that begins below ip_unprivileged_port_start.
        sysctl.UNPRIVILEGED_START: str(min(ports.low, UNPRIVILEGED_START_DEFAULT)),
        sysctl.PORT_RANGE: f"{ports.low} {ports.high}",
    }


def _queues(connections: int) -> dict[str, str]:
    backlog = str(backlog_for(connections))
    return {sysctl.SOMAXCONN: backlog, sysctl.SYN_BACKLOG: backlog}


def _set_sysctls(wanted: dict[str, str]) -> None:
    for name, value in wanted.items():
        try:
            sysctl.write(name, value)
        except (OSError, ValueError) as error:
            if limit_fault(error):
                raise
            raise EnvironmentFault(
                f"cannot set {name} to {value!r} in the new namespace: {error}",
                "try --isolate never, which takes the host's settings as they are",
            ) from error
