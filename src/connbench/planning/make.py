"""The plan made of a request: strategies are `choice`, namespace and listener `place`, addresses `peers`."""

from __future__ import annotations

import os
import secrets

from connbench.errors import EnvironmentFault, UsageError
from connbench.findings import Finding
from connbench.linux.families import has_ipv6
from connbench.model import Plan
from connbench.planning.choice import choose_strategies, refuse_unsupported
from connbench.planning.peers import choose_target, note_listener_in_range, own_endpoint, probe
from connbench.planning.place import choose_listener, choose_range, settle_namespace
from connbench.planning.request import CpuChoice, Request
from connbench.planning.room import Room, refuse_without_room
from connbench.planning.sources import choose_sources

MOST_CONNECTIONS = 10_000_000
SEED_BITS = 32


def make_plan(request: Request) -> tuple[Plan, list[Finding]]:
    """Settle everything a request leaves open.

    Returns:
        The plan, and what the user should know of it before it runs.

    Raises:
        UsageError: It asks for what cannot be.
        EnvironmentFault: This machine or user cannot do it.
        TargetError: The target refuses or does not answer.
    """
    target = choose_target(request.target, request.family, allow_remote=request.allow_remote)
    external = target is not None and request.listener is None
    cpu = _choose_cpu(request.cpu)
    namespace, findings = settle_namespace(request.isolate, external=external)
    ports = choose_range(request.port_range, namespace, request.strategies)
    strategies = choose_strategies(request, ports)
    refuse_unsupported(strategies)
    if target is None:
        target = own_endpoint(ports, namespace, _family(request))
    sources = choose_sources(request.source, request.sources, target, namespace, strategies, external=external)
    connections = _checked_count(request.connections, len(ports) * len(sources))
    listener = choose_listener(request.listener, namespace, connections, external=external)
    refuse_without_room(connections, listener, Room.here())
    if external:
        probe(sources[0], target, request.timeout)
    else:
        findings += note_listener_in_range(target, ports)
    plan = Plan(
        strategies=strategies,
        connections=connections,
        port_range=ports,
        sources=sources,
        spread=request.spread,
        target=target,
        listener=listener,
        namespace=namespace,
        seed=secrets.randbits(SEED_BITS) if request.seed is None else request.seed,
        rounds=request.rounds,
        timeout=request.timeout,
        cpu=cpu,
    )
    return plan, findings


def _family(request: Request) -> int:
    """That of the addresses asked for, IPv4 without any."""
    family = request.family or (6 if ":" in (request.source or "") else 4)
    if family == 6 and not has_ipv6():
        raise EnvironmentFault("this kernel has no IPv6, or it is switched off", "leave out --family 6")
    return family


def _checked_count(asked: int | None, capacity: int) -> int:
    count = capacity if asked is None else asked
    if not 1 <= count <= MOST_CONNECTIONS:
        raise UsageError(f"-n {count} is not a number of connections", f"give 1 to {MOST_CONNECTIONS}")
    return count


def _choose_cpu(asked: int | CpuChoice) -> int | None:
    usable = sorted(os.sched_getaffinity(0))
    if asked is CpuChoice.ANY:
        return None
    if isinstance(asked, int):
        if asked not in usable:
            shown = ", ".join(map(str, usable))
            raise UsageError(f"--cpu {asked} is not usable here", f"usable: {shown}; or none")
        return asked
    return usable[-1]
