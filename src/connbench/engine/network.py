"""The round's network: its namespace entered, its loopback up, its sysctls set and read back."""

from __future__ import annotations

import ipaddress

from connbench.engine.listener import backlog_for
from connbench.errors import EnvironmentFault
from connbench.linux import sysctl
from connbench.linux.namespace import enter
from connbench.linux.netlink import bring_up_loopback
from connbench.model import PortRange, RoundPlan

UNPRIVILEGED_START_DEFAULT = 1024


def set_up(round_plan: RoundPlan) -> dict[str, str]:
    """Enter the namespace of a round's plan and make it ready; the host's is only read.

    Returns:
        The namespace's settings as read back, by sysctl name.

    Raises:
        EnvironmentFault: Something of it is not allowed here.
    """
    plan = round_plan.plan
    try:
        enter(plan.namespace)
    except OSError as error:
        raise EnvironmentFault(
            f"no {plan.namespace}: {error.strerror}",
            "run as root, allow user namespaces, or use --isolate never",
        ) from error
    if plan.namespace.is_own:
        bring_up_loopback(_beyond_loopback(*plan.sources, *(target.host for target in plan.targets)))
        _set_sysctls(plan.port_range, round_plan.rows)
    return sysctl.read_all()


def _beyond_loopback(*addresses: str) -> tuple[str, ...]:
    """Those that `lo` does not have by itself: all of 127.0.0.0/8 is local once it is up."""
    return tuple(a for a in dict.fromkeys(addresses) if not ipaddress.ip_address(a).is_loopback)


def _set_sysctls(ports: PortRange, connections: int) -> None:
    low, high = ports.low, ports.high
    backlog = str(backlog_for(connections))
    wanted = {
        # The kernel takes no ip_local_port_range that begins among the privileged ports.
        sysctl.UNPRIVILEGED_START: str(min(low, UNPRIVILEGED_START_DEFAULT)),
        sysctl.PORT_RANGE: f"{low} {high}",
        sysctl.SOMAXCONN: backlog,
        sysctl.SYN_BACKLOG: backlog,
    }
    for name, value in wanted.items():
        try:
            sysctl.write(name, value)
        except (OSError, ValueError) as error:
            raise EnvironmentFault(
                f"cannot set {name} to {value!r} in the new namespace: {error}",
                "try --isolate never, which takes the host's settings as they are",
            ) from error
