"""A plan on paper: what a request would do in a namespace of its own, whatever this machine has or allows."""

from __future__ import annotations

from dataclasses import replace

from connbench.model import (
    DEFAULT_RANGE_LOW,
    DEFAULT_SOURCES,
    MAX_PORT,
    Endpoint,
    Listener,
    Namespace,
    Plan,
    PortRange,
    RoundPlan,
    first_sources,
    ip_version,
)
from connbench.planner.load_choice import check_rounds
from connbench.planner.namespaces import family_asked, refuse_all_reserved
from connbench.planner.request import DEFAULT_SEED, RunRequest
from connbench.planner.sources import check_sources, parse_sources
from connbench.planner.strategy_choice import choose_strategies
from connbench.planner.targets import choose_targets, own_endpoint


def plan_on_paper(request: RunRequest, reserved: frozenset[int] = frozenset()) -> Plan:
    """Settle what a request leaves open without a look at this machine: no socket is made and no option asked for.

    Args:
        request: What is asked for; where it is to run, and how long a connect() may take, does not matter.
        reserved: net.ipv4.ip_local_reserved_ports.

    Raises:
        UsageError: It asks for what cannot be on any machine.
        EnvironmentFault: Every port of the range is reserved.
        TargetError: A target's name does not resolve.
    """
    ports = request.port_range or PortRange(DEFAULT_RANGE_LOW, MAX_PORT)
    ports.check_for_search()
    family = family_asked(request)
    targets = choose_targets(request.targets, request.family, allow_remote=True) or (
        own_endpoint(ports, Namespace.NETWORK, family),
    )
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
    )
    refuse_all_reserved(plan)
    if request.connections is None:
        plan = replace(plan, connections=max(RoundPlan(plan, spec, 1).capacity for spec in plan.strategies))
    check_rounds(plan)
    return plan


def _sources(request: RunRequest, target: Endpoint) -> tuple[str, ...]:
    """Addresses as named, or so many: which they are does not matter to a search, only how many."""
    check_sources(request.source, request.sources)
    if request.source is not None:
        return parse_sources(request.source)
    family = ip_version(target.host)
    if request.sources is None:
        return (DEFAULT_SOURCES[family],)
    return first_sources(request.sources, family)
