"""From a request to a plan: `make_plan` for this machine, `plan_offline` for a prediction."""

from __future__ import annotations

import platform
import secrets
import time
from dataclasses import replace
from importlib import import_module

from connbench.errors import EnvironmentFault, UsageError
from connbench.findings import Finding, Severity
from connbench.linux import counters
from connbench.linux.interfaces import HOST_DEVICE
from connbench.linux.process import usable_cpus, why_not_pinned
from connbench.linux.sysctl import SOMAXCONN
from connbench.model import (
    DEFAULT_RANGE_LOW,
    DEFAULT_SOURCES,
    MAX_PORT,
    Close,
    Endpoint,
    Link,
    Listener,
    Loop,
    Namespace,
    Plan,
    PortRange,
    Protocol,
    RoundPlan,
    first_sources,
    ip_version,
)
from connbench.planner.endpoints import (
    check_answers,
    check_sources,
    choose_sources,
    choose_targets,
    find_listener_in_range,
    find_several_addresses,
    listener_endpoint,
    parse_sources,
)
from connbench.planner.namespaces import (
    check_ipv6,
    check_link,
    check_route,
    check_sysctls,
    check_unreserved,
    choose_ehash_entries,
    choose_family,
    choose_link,
    choose_link_namespace,
    choose_listener,
    choose_namespace,
    choose_range,
    find_reserved,
    find_short_queue,
    reserved_ports,
    with_client_namespaces,
)
from connbench.planner.request import DEFAULT_SEED, CpuChoice, RunRequest
from connbench.planner.resources import Available, check_resources
from connbench.planner.workload import (
    check_rounds,
    check_supported,
    choose_strategies,
    find_crowded_clients,
    find_fuller_than_router,
    find_slow_levels,
    find_unseen_knee,
    most_handshakes,
    with_all_strategies,
)
from connbench.units import elapsed, instant

SEED_BITS = 32
US_PER_S = 1e6

C_LOOP = "connbench.engine._loop"
"""The extension module that an installation builds where it finds a compiler."""

BUILD_C_LOOP = (
    "install a C compiler and Python's headers (Debian: gcc and python3-dev), then connbench again "
    "(in a checkout: make -B setup)"
)


def make_plan(request: RunRequest, *further: RunRequest) -> tuple[Plan, list[Finding]]:
    """Make the plan of a run on this machine: choose what the request leaves open, and check that it can run.

    Args:
        request: What the user asks for.
        further: More requests, as of a sweep; only their strategies with parameters and loads are used, in turn with
            those of `request`.

    Returns:
        The plan, and findings that the user should know before it runs.

    Raises:
        UsageError: The request contradicts itself or cannot be met anywhere.
        EnvironmentFault: This machine or user lacks something that the run needs.
        TargetError: The target refuses or does not answer.
    """
    _check_start(request)
    left_out: list[Finding] = []
    if request.levels and not request.strategies:
        request, left_out = with_all_strategies(request)
    request, further = with_client_namespaces(request), tuple(map(with_client_namespaces, further))
    two_ends = request.link.has_two_ends
    targets, names = choose_targets(request.targets, request.family, allow_remote=request.allow_remote or two_ends)
    is_udp = request.protocol is Protocol.UDP
    if is_udp and request.listener is not None:
        raise UsageError(f"--listener {request.listener} does nothing for UDP", "leave it out: there is no handshake")
    needs_nobody = is_udp and (two_ends or all(target.is_loopback for target in targets))
    external = bool(targets) and request.listener is None and not needs_nobody
    are_far = request.allow_remote and not any(target.is_loopback for target in targets)
    request = replace(request, allow_remote=are_far, link=choose_link(request, targets, external=external))
    cpus, unpinned = _choose_cpus(request.cpus, max(one.concurrency for one in (request, *further)))
    joined = choose_link_namespace(request, external=external)
    namespace, findings = (joined, []) if joined else choose_namespace(request, targets, external=external)
    ports = choose_range(request, namespace, external=external)
    check_ipv6(request, targets, namespace, external=external)
    strategies = choose_strategies(request, ports, further)
    check_supported(strategies)
    targets = targets or (listener_endpoint(ports, namespace, choose_family(request), request.link),)
    numbers = [one.clients or one.sources for one in (request, *further)]
    number = max((number for number in numbers if number is not None), default=None)
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
        start_at_us=request.start_at_us,
        start_every_us=int((request.start_every or 0) * US_PER_S),
        timeout=request.timeout,
        link=request.link,
        delay_ms=request.delay_ms,
        nat_ports=request.nat_ports,
        nat_random=request.nat_random,
        cpus=cpus,
        reserved=ports.count_of(reserved),
        loop=choose_loop(request.loop),
        ehash_entries=choose_ehash_entries(request, namespace, external=external),
        names=names,
    )
    check_unreserved(plan)
    check_sysctls(plan, request, external=external)
    findings += left_out
    findings += find_several_addresses(names)
    findings += find_reserved(plan, reserved)
    findings += find_slow_levels(plan)
    plan, of_route = _with_peers(plan, request, external=external)
    findings += of_route
    findings += find_short_queue(plan)
    findings += unpinned
    findings += find_fuller_than_router(plan) if plan.link is Link.NAT else find_unseen_knee(plan, platform.release())
    findings += find_crowded_clients(plan, len(usable_cpus()))
    if not external and not is_udp and not two_ends:  # whose listener takes no port of the namespace that connects
        findings += find_listener_in_range(plan.targets, ports)
    return plan, findings


def _check_start(request: RunRequest) -> None:
    """Check that the first turn can begin at the time that is asked for.

    Raises:
        UsageError: That time is past, or an interval is given without it.
    """
    if request.start_at_us is None:
        if request.start_every:
            raise UsageError(
                "--start-every counts from --start-at, which is missing", "name the time of the first turn"
            )
        return
    late_us = time.time_ns() // 1000 - request.start_at_us
    if late_us > 0:
        raise UsageError(
            f"--start-at {instant(request.start_at_us)} was {elapsed(late_us / US_PER_S)} ago", "name a later time"
        )


def _with_peers(plan: Plan, request: RunRequest, *, external: bool) -> tuple[Plan, list[Finding]]:
    """Complete a plan with its number of connections and its listener, and check resources, link and targets."""
    if request.connections is None:
        plan = _filled(plan)
    check_rounds(plan)
    if plan.listener is not Listener.NONE:
        closes_by_fin = any(spec.load.churn and spec.load.churn.close is Close.FIN for spec in plan.strategies)
        queues = [spec.load.settings[SOMAXCONN] for spec in plan.strategies if SOMAXCONN in spec.load.settings]
        listener = choose_listener(
            request,
            plan.namespace,
            most_handshakes(plan),
            external=external,
            closes_by_fin=closes_by_fin,
            somaxconn=min(map(int, queues), default=None),
        )
        plan = replace(plan, listener=listener)
    check_resources(plan, Available.here())
    counters.read()  # a run is judged by them: where they are hidden nothing is begun
    check_link(plan)

    def answers(seconds: float | None = None) -> None:
        timeout = min(seconds or request.timeout, request.timeout)
        firewall = f" and whether a firewall of the host forwards from and to its device {HOST_DEVICE}"
        for target in plan.targets if plan.listener is Listener.EXTERNAL else ():
            check_answers(
                *(plan.sources[0], target, timeout, request.listener_hint),
                firewall if plan.link is Link.ROUTED else "",
            )

    if plan.link is Link.ROUTED:
        return check_route(plan, answers)
    answers()
    return plan, []


def _filled(plan: Plan) -> Plan:
    """Complete a plan with a connection for each port that a strategy has; strategies may have different numbers.

    Behind a NAT there are no more than it has ports for, and equally many from each client namespace.
    """
    capacities = [RoundPlan(plan, spec, 1).capacity for spec in plan.strategies]
    if plan.nat_capacity is not None:
        each = plan.client_namespaces
        capacities = [max(1, min(ports, plan.nat_capacity) // each) * each for ports in capacities]
    most = max(capacities)
    strategies = tuple(
        replace(spec, load=replace(spec.load, connections=ports))
        if ports < most and spec.load == replace(spec.load, fill=None, connections=None, profile=None)
        else spec
        for spec, ports in zip(plan.strategies, capacities, strict=True)
    )
    return replace(plan, connections=most, strategies=strategies)


def _choose_cpus(asked: tuple[int, ...] | CpuChoice, concurrency: int) -> tuple[tuple[int, ...], list[Finding]]:
    """Choose the CPUs of the clients, and find out whether this process may choose any.

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
        raise UsageError(f"--cpu {twice} is named twice", "name each CPU once")
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
        f"the scheduler chooses the CPUs of the connections ({reason})",
        "the times include moves between CPUs; allow the call where this sandbox is set up",
    )


def choose_loop(asked: Loop | None) -> Loop:
    """Choose the loop that makes the attempts: the one in C where it can be loaded.

    Raises:
        EnvironmentFault: It was asked for, and cannot be.
    """
    reason = why_no_c_loop()
    if asked is Loop.C and reason:
        raise EnvironmentFault(f"--loop c: {reason}", f"{BUILD_C_LOOP}; or use --loop python")
    return asked or (Loop.PYTHON if reason else Loop.C)


def why_no_c_loop() -> str:
    """Why the loop in C cannot run, for an error or the doctor; empty if it can."""
    try:
        import_module(C_LOOP)
    except ModuleNotFoundError:
        return "connbench was installed without its loop in C"
    except ImportError as error:
        return f"the loop in C cannot be loaded: {error}"
    return ""


def plan_offline(request: RunRequest, reserved: frozenset[int] = frozenset()) -> Plan:
    """Make a plan without this machine, for a prediction: open no socket and read no sysctl.

    Args:
        request: What the user asks for; the namespace and the time-out are not used.
        reserved: The ports of net.ipv4.ip_local_reserved_ports.

    Raises:
        UsageError: It asks for what cannot be on any machine.
        EnvironmentFault: Every port of the range is reserved.
        TargetError: A target's name does not resolve.
    """
    if with_client_namespaces(request).link is Link.NAT:
        raise UsageError(
            "--link nat: the model of the port search has no NAT", "connbench run measures it; or leave out --link nat"
        )
    ports = request.port_range or PortRange(DEFAULT_RANGE_LOW, MAX_PORT)
    family = choose_family(request)
    targets, names = choose_targets(request.targets, request.family, allow_remote=True)
    targets = targets or (listener_endpoint(ports, Namespace.NETWORK, family),)
    plan = Plan(
        strategies=choose_strategies(request, ports),
        connections=request.connections or 1,
        port_range=ports,
        sources=_sources(request, targets[0]),
        spread=request.spread,
        targets=targets,
        listener=Listener.EXTERNAL,
        namespace=Namespace.NETWORK,
        seed=DEFAULT_SEED if request.seed is None else request.seed,
        link=request.link,
        reserved=ports.count_of(reserved),
        names=names,
    )
    check_unreserved(plan)
    if request.connections is None:
        plan = replace(plan, connections=max(RoundPlan(plan, spec, 1).capacity for spec in plan.strategies))
    check_rounds(plan)
    return plan


def _sources(request: RunRequest, target: Endpoint) -> tuple[str, ...]:
    """The named source addresses, or that number of default ones: the search depends on the number alone."""
    check_sources(request.source, request.sources)
    if request.source is not None:
        return parse_sources(request.source)
    family = ip_version(target.host)
    if request.sources is None:
        return (DEFAULT_SOURCES[family],)
    return first_sources(request.sources, family)
