"""A link to a second namespace (`--link veth`): what it cannot go with, and whether this machine can lay it."""

from __future__ import annotations

import ipaddress

from connbench.errors import EnvironmentFault, UsageError
from connbench.linux import veth
from connbench.linux.namespace import best_namespace
from connbench.model import Isolation, Link, Namespace, Plan, first_sources, ip_version
from connbench.planner.namespaces import ALLOW_NAMESPACES
from connbench.planner.request import RunRequest
from connbench.units import MS_PER_S


def settle_link(request: RunRequest, *, external: bool) -> Namespace | None:
    """The kind of namespace that a veth link begins in; None where the link is the loopback.

    Args:
        request: What was asked for.
        external: Whether the target listens already.

    Raises:
        UsageError: A delay without a link to delay, one that no connect() outlasts, or a link that cannot be had with
            the rest.
        EnvironmentFault: No network namespace of its own is allowed.
    """
    without = "leave out --link veth" + (" and --delay" if request.delay_ms else "")
    if request.link is not Link.VETH:
        if request.delay_ms:
            raise UsageError(
                f"--delay {request.delay_ms:g}ms does nothing on the loopback", "leave out --delay, or add --link veth"
            )
        return None
    if request.delay_ms >= request.timeout * MS_PER_S:
        raise UsageError(
            f"--delay {request.delay_ms:g}ms is not shorter than --timeout {request.timeout:g}s",
            "each connect() takes the delay at least: give more --timeout",
        )
    if external:
        raise UsageError(
            f"--link veth cannot reach --target {' and '.join(request.targets)} outside its namespaces",
            f"{without}; or {request.without_target}",
        )
    if request.isolate is Isolation.NEVER:
        raise UsageError(
            "--link veth makes namespaces of its own, and --isolate never forbids them",
            f"leave out --isolate never; or {without}",
        )
    namespace, reason = best_namespace()
    if not namespace.is_own:
        raise EnvironmentFault(
            f"--link veth needs a network namespace of its own: {reason}",
            f"{ALLOW_NAMESPACES}; or {without}",
        )
    return namespace


def check_link(plan: Plan) -> None:
    """Make sure that a veth link can have the plan's addresses, and that this machine can lay it, in a child.

    Raises:
        UsageError: An address no device can have, or one that both ends would have; a delay that no attempt outlasts.
        EnvironmentFault: The kernel has no veth or no netem, or does not allow what it takes.
    """
    if plan.link is not Link.VETH:
        return
    limits = [spec.load.give_up_ms for spec in plan.strategies if spec.load.give_up_ms is not None]
    if plan.delay_ms and limits and min(limits) <= plan.delay_ms:
        raise UsageError(
            f"--delay {plan.delay_ms:g}ms is not shorter than --give-up-after {min(limits):g}ms",
            "each connect() takes the delay at least: give more --give-up-after",
        )
    hosts = tuple(dict.fromkeys(target.host for target in plan.targets))
    asked = [("--source", address) for address in plan.sources] + [("--target", host) for host in hosts]
    for option, address in asked:
        if not _fits_a_device(address):
            raise UsageError(
                f"{option} {address} is no address for the end of a veth link",
                f"give one beyond the loopback, or leave out {option}: 198.18.0.0/15 is for benchmarks",
            )
    both = {ipaddress.ip_address(host) for host in hosts} & {ipaddress.ip_address(source) for source in plan.sources}
    if both:
        here = set(plan.sources) <= set(first_sources(len(plan.sources), ip_version(hosts[0]), Link.VETH))
        raise UsageError(
            f"--link veth: {min(both, key=str)} would be at both of its ends",
            f"choose another --{'target' if here else 'source'}",
        )
    veth.check_link(plan.namespace, plan.sources, hosts, plan.delay_ms)


def _fits_a_device(text: str) -> bool:
    """Whether it is the address of a single host that says by itself on which link it is."""
    address = ipaddress.ip_address(text)
    if isinstance(address, ipaddress.IPv6Address) and (address.is_link_local or address.ipv4_mapped):
        return False
    broadcast = ipaddress.ip_address("255.255.255.255")
    return not (address.is_loopback or address.is_multicast or address.is_unspecified or address == broadcast)
