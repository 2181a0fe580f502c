"""The round's network: its namespaces entered and joined, their interfaces up, their sysctls set and read back."""

from __future__ import annotations

import errno
import ipaddress
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass

from connbench.engine.listener import backlog_for
from connbench.errors import EnvironmentFault
from connbench.linux import counters, sysctl, veth
from connbench.linux.faults import lack_of
from connbench.linux.namespace import PATIENCE, enter, inside, why_not
from connbench.linux.netlink import bring_up_loopback
from connbench.model import Link, PortRange, RoundPlan

UNPRIVILEGED_START_DEFAULT = 1024


@dataclass(frozen=True, slots=True)
class Network:
    """What the engine is in: the connecting end, with another end where the link has one.

    Attributes:
        settings: The connecting end's settings as read back, by sysctl name.
        far: Descriptor of the namespace that the listener is to be in; None where it is this one.
    """

    settings: dict[str, str]
    far: int | None = None

    def listening_end(self) -> AbstractContextManager[None]:
        """Be where the listener listens."""
        return nullcontext() if self.far is None else inside(self.far)

    def read_counters(self) -> dict[str, int]:
        """All TCP/IP counters, those of both ends added up: a connection is opened at one and accepted at the other."""
        near = counters.read()
        if self.far is None:
            return near
        with self.listening_end():
            far = counters.read()
        return {name: value + far.get(name, 0) for name, value in near.items()}


def set_up(round_plan: RoundPlan) -> Network:
    """Enter the namespace of a round's plan and make it ready, with the other end of its link; the host's is only read.

    Raises:
        EnvironmentFault: Something of it is not allowed here.
        OSError: This process lacks a resource: see `faults.lack_of`.
    """
    plan = round_plan.plan
    far: int | None = None
    try:
        enter(plan.namespace, PATIENCE)
    except OSError as error:
        if lack_of(error):
            raise
        raise EnvironmentFault(
            f"no {plan.namespace}: {why_not(error, plan.namespace)}",
            "raise that limit, or use --isolate never"
            if error.errno == errno.ENOSPC
            else "run as root, allow user namespaces, or use --isolate never",
        ) from error
    hosts = tuple(dict.fromkeys(target.host for target in plan.targets))
    if plan.link is Link.VETH:
        far = veth.lay(plan.sources, hosts, plan.delay_ms)
        with inside(far):
            _set_sysctls(_queues(round_plan.rows))
    elif plan.namespace.is_own:
        bring_up_loopback(_beyond_loopback(*plan.sources, *hosts))
    if plan.namespace.is_own:
        _set_sysctls(_ports(plan.port_range) | _queues(round_plan.rows))
    return Network(sysctl.read_all(), far)


def _beyond_loopback(*addresses: str) -> tuple[str, ...]:
    """Those that `lo` does not have by itself: all of 127.0.0.0/8 is local once it is up."""
    return tuple(a for a in dict.fromkeys(addresses) if not ipaddress.ip_address(a).is_loopback)


def _ports(ports: PortRange) -> dict[str, str]:
    return {
        # The kernel takes no ip_local_port_range that begins among the privileged ports.
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
            if lack_of(error):
                raise
            raise EnvironmentFault(
                f"cannot set {name} to {value!r} in the new namespace: {error}",
                "try --isolate never, which takes the host's settings as they are",
            ) from error
