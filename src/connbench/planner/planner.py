"""The plan made of a request: strategies are `choice`, namespace and listener `place`, addresses `peers`."""

from __future__ import annotations

import platform
import secrets
from dataclasses import replace

from connbench.errors import EnvironmentFault, UsageError
from connbench.findings import Finding, Severity
from connbench.linux import counters
from connbench.linux.process import usable_cpus, why_not_pinned
from connbench.model import Close, Link, Listener, Plan, Protocol, RoundPlan
from connbench.planner.link import check_link, settle_link
from connbench.planner.load_choice import check_rounds, most_rows, note_clients
from connbench.planner.namespaces import (
    choose_listener,
    choose_range,
    family_asked,
    note_reserved,
    refuse_all_reserved,
    refuse_without_ipv6,
    reserved_ports,
    settle_namespace,
)
from connbench.planner.reach import note_unseen
from connbench.planner.request import CpuChoice, RunRequest
from connbench.planner.resources import Room, refuse_without_room
from connbench.planner.sources import choose_sources
from connbench.planner.strategy_choice import choose_strategies, refuse_unsupported
from connbench.planner.targets import choose_targets, note_listener_in_range, own_endpoint, probe

SEED_BITS = 32


def make_plan(request: RunRequest, *further: RunRequest) -> tuple[Plan, list[Finding]]:
    """Settle everything a request leaves open.

    Args:
        request: What is asked for.
        further: What is to be run in turn with it; of these the strategies, their parameters and loads count alone.

    Returns:
        The plan, and what the user should know of it before it runs.

    Raises:
        UsageError: It asks for what cannot be.
        EnvironmentFault: This machine or user cannot do it.
        TargetError: The target refuses or does not answer.
    """
    veth = request.link is Link.VETH  # whose addresses are all its own
    targets = choose_targets(request.targets, request.family, allow_remote=request.allow_remote or veth)
    is_udp = request.protocol is Protocol.UDP
    if is_udp and request.listener is not None:
        raise UsageError(f"--listener {request.listener} does nothing for UDP", "leave it out: there is no handshake")
    needs_nobody = is_udp and (veth or all(target.is_loopback for target in targets))
    external = bool(targets) and request.listener is None and not needs_nobody
    cpus, unpinned = _choose_cpus(request.cpus, max(one.concurrency for one in (request, *further)))
    joined = settle_link(request, external=external)
    namespace, findings = (joined, []) if joined else settle_namespace(request, targets, external=external)
    ports = choose_range(request, namespace, external=external)
    refuse_without_ipv6(request, targets, namespace, external=external)
    strategies = choose_strategies(request, ports, further)
    refuse_unsupported(strategies)
    targets = targets or (own_endpoint(ports, namespace, family_asked(request), request.link),)
    number = max((one.sources for one in (request, *further) if one.sources is not None), default=None)
    sources = choose_sources(request.source, number, targets[0], namespace, request.link, external=external)
    reserved = reserved_ports(namespace)
    plan = Plan(
        strategies=strategies,
        connections=request.connections or 1,
        port_range=ports,
        sources=sources,
        spread=request.spread,
        targets=targets,
        listener=Listener.NONE if is_udp else Listener.EXTERNAL,
        namespace=namespace,
        seed=secrets.randbits(SEED_BITS) if request.seed is None else request.seed,
        rounds=request.rounds,
        timeout=request.timeout,
        link=request.link,
        delay_ms=request.delay_ms,
        cpus=cpus,
        reserved=ports.count_of(reserved),
    )
    refuse_all_reserved(plan)
    findings += note_reserved(plan, reserved)
    plan = _with_peers(plan, request, external=external)
    findings += unpinned
    findings += note_unseen(plan, platform.release())
    findings += note_clients(plan, len(usable_cpus()))
    if not external and not is_udp and not veth:  # whose listener takes no port of the namespace that connects
        findings += note_listener_in_range(plan.targets, ports)
    return plan, findings


def _with_peers(plan: Plan, request: RunRequest, *, external: bool) -> Plan:
    """The plan with the number of connections and the listener that go with it, both tried out."""
    if request.connections is None:
        plan = _filled(plan)
    check_rounds(plan)
    if plan.listener is not Listener.NONE:
        closes_by_fin = any(spec.load.churn and spec.load.churn.close is Close.FIN for spec in plan.strategies)
        listener = choose_listener(
            request, plan.namespace, most_rows(plan), external=external, closes_by_fin=closes_by_fin
        )
        plan = replace(plan, listener=listener)
    refuse_without_room(plan, Room.here())
    counters.read()  # a run is judged by them: where they are hidden nothing is begun
    check_link(plan)
    if plan.listener is Listener.EXTERNAL:
        for target in plan.targets:
            probe(plan.sources[0], target, request.timeout, request.without_target)
    return plan


def _filled(plan: Plan) -> Plan:
    """The plan with as many connections as there are ports: of a strategy that has fewer than others, so many."""
    capacities = [RoundPlan(plan, spec, 1).capacity for spec in plan.strategies]
    most = max(capacities)
    strategies = tuple(
        replace(spec, load=replace(spec.load, connections=ports))
        if ports < most and spec.load.fill is None and spec.load.connections is None
        else spec
        for spec, ports in zip(plan.strategies, capacities, strict=True)
    )
    return replace(plan, connections=most, strategies=strategies)


def _choose_cpus(asked: tuple[int, ...] | CpuChoice, concurrency: int) -> tuple[tuple[int, ...], list[Finding]]:
    """The CPUs that clients take in turn, and what to know where this process may choose none.

    Raises:
        UsageError: CPUs were asked for that are offline, not there, or outside the cpuset.
        EnvironmentFault: CPUs were asked for, and this process may choose none.
    """
    usable = sorted(usable_cpus())
    if asked is CpuChoice.ANY:
        return (), []
    if isinstance(asked, CpuChoice):
        reason = why_not_pinned()
        return ((), [_unpinned(reason)]) if reason else (tuple(reversed(usable))[:concurrency], [])
    for cpu in asked:
        if cpu not in usable:
            shown = ", ".join(map(str, usable))
            raise UsageError(f"--cpu {cpu} is not usable here", f"usable: {shown}; or none")
    twice = next((cpu for cpu in asked if asked.count(cpu) > 1), None)
    if twice is not None:
        raise UsageError(f"--cpu {twice} is there twice", "name each CPU once")
    reason = why_not_pinned()
    if reason:
        raise EnvironmentFault(
            f"--cpu {','.join(map(str, asked))}: this process may not choose its CPUs ({reason})",
            "use --cpu none, or allow the call where this sandbox is set up",
        )
    return asked, []


def _unpinned(reason: str) -> Finding:
    return Finding(
        "cpus-not-chosen",
        Severity.WARNING,
        f"connections are made on whichever CPU the scheduler chooses ({reason})",
        "moving between CPUs takes time that counts; allow the call where this sandbox is set up",
    )
