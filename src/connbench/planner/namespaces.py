"""Choose where a run takes place: its network namespace, the link, the port range and the listener."""

from __future__ import annotations

import ipaddress
from collections.abc import Callable
from dataclasses import replace

from connbench.errors import EnvironmentFault, UsageError
from connbench.findings import Finding, Severity
from connbench.linux import host_route, nat, nftables, sysctl, veth
from connbench.linux.address_family import has_ipv6, has_ipv6_here
from connbench.linux.interfaces import HOST_DEVICE
from connbench.linux.namespace import best_namespace
from connbench.linux.namespace import check_sysctls as check_sysctls_in
from connbench.model import (
    DEFAULT_RANGE_LOW,
    MAX_PORT,
    MOST_CLIENT_NAMESPACES,
    ROUTER_ADDRESSES,
    Endpoint,
    Isolation,
    Link,
    Listener,
    Namespace,
    Plan,
    PortRange,
    Protocol,
    RoundPlan,
    Spread,
    StrategySpec,
    first_sources,
    format_ports,
    ip_version,
    parse_ports,
)
from connbench.model.plan import FIRST_NAT_PORT, format_addresses
from connbench.model.round_report import CONNTRACK_MAX
from connbench.planner.endpoints import parse_sources
from connbench.planner.request import RunRequest
from connbench.planner.workload import most_handshakes
from connbench.strategies import DEFAULT_NAMES, STRATEGIES, Window
from connbench.units import MS_PER_S

ALLOW_NAMESPACES = "run as root with CAP_SYS_ADMIN, CAP_NET_ADMIN and a writable /proc/sys, or allow user namespaces"
COST_OF_HOST = "the run uses the host's port range, and other connections of the host take ports of it"
OWN = "the port range and TIME_WAIT are the namespace's own"
COST_OF_ROUTE = f"{OWN}; each packet crosses the host's forwarding and firewall"
COST_OF_MASQUERADE = (
    f"{OWN}; each packet crosses the host's conntrack and NAT, which has a port search of its own: where that finds no "
    "port the SYN is dropped, and connect() times out; the target sees the host's address"
)
ADD_ROUTE = "add --allow-host-route for a namespace of its own, with any --port-range and a route through the host"
WITHOUT_DELAY = {Link.LOOPBACK: "on the loopback", Link.ROUTED: "on a route through the host"}
NEEDS_ROOT = "run as root, with CAP_SYS_ADMIN, CAP_NET_ADMIN and a writable /proc/sys"
COST_OF_OWN_LISTENER = "; a listener has to accept if the connections are more than the host's somaxconn"

LONGEST_LIST = 40
"""Characters of a list of ports in a finding; a longer one is left out."""


def choose_namespace(
    request: RunRequest, targets: tuple[Endpoint, ...] = (), *, external: bool
) -> tuple[Namespace, list[Finding]]:
    """Choose the network namespace of a run over the loopback.

    Args:
        request: What the user asks for.
        targets: The targets that the user names.
        external: Whether these listen already: in the host's namespace, or on another machine.

    Raises:
        UsageError: An external target together with `always`.
        EnvironmentFault: `always`, where it is not allowed.
    """
    if request.isolate is Isolation.NEVER:
        return Namespace.HOST, []
    if external:
        if request.isolate is Isolation.ALWAYS:
            raise UsageError(
                "--isolate always cannot reach a --target outside its namespace",
                f"leave out --isolate always; or {isolation_hint(request, external=True)}",
            )
        is_here = all(target.is_loopback for target in targets)
        why = "the target listens in it" if is_here else "a namespace of its own has no route to the target"
        cost = COST_OF_HOST if is_here else f"{COST_OF_HOST}; {ADD_ROUTE}"
        return Namespace.HOST, [_on_host(why, cost)]
    namespace, reason = best_namespace()
    if namespace.is_own:
        return namespace, []
    if request.isolate is Isolation.ALWAYS:
        raise EnvironmentFault(
            f"cannot create a network namespace: {reason}",
            ALLOW_NAMESPACES if request.levels else f"{ALLOW_NAMESPACES}, or leave out --isolate always",
        )
    return namespace, [_on_host(reason, COST_OF_HOST + COST_OF_OWN_LISTENER)]


def _on_host(reason: str, cost: str) -> Finding:
    return Finding(
        "host-namespace",
        Severity.WARNING,
        f"measuring in the host's network namespace ({reason})",
        cost,
    )


def isolation_hint(request: RunRequest, *, external: bool) -> str:
    """How a run in the host's namespace could get a network namespace of its own, as a hint says it."""
    if request.isolate is Isolation.NEVER:
        return "leave out --isolate never"
    if not external:
        return ALLOW_NAMESPACES
    return f"{ADD_ROUTE}; or {request.listener_hint}" if request.allow_remote else request.listener_hint


def choose_range(request: RunRequest, namespace: Namespace, *, external: bool = False) -> PortRange:
    """Choose the port range: the requested one, else 9024-65535, else in the host's namespace the host's.

    Raises:
        UsageError: In the host's namespace, a range that the strategies cannot keep to.
    """
    asked = request.port_range
    if namespace.is_own:
        return asked or PortRange(DEFAULT_RANGE_LOW, MAX_PORT)
    host = PortRange(*sysctl.read_port_range())
    if asked is None or asked == host:
        return host
    names = request.strategies or DEFAULT_NAMES
    bound_to_host = [
        one.name for one in STRATEGIES.values() if one.searches_range and not one.sets_port_range and one.name in names
    ]
    if bound_to_host:
        searches = f"{' and '.join(bound_to_host)} search{'es' if len(bound_to_host) == 1 else ''}"
        raise UsageError(
            f"--port-range {asked}: in the host's namespace {searches} the host's {host}",
            f"leave out --port-range; or {isolation_hint(request, external=external)}",
        )
    if not host.covers(asked) and any(one.sets_port_range for one in STRATEGIES.values() if one.name in names):
        raise UsageError(
            f"--port-range {asked} is not inside the host's {host}",
            "the kernel ignores bounds outside it: choose a part of it; or "
            + isolation_hint(request, external=external),
        )
    return asked


def choose_family(request: RunRequest) -> int:
    """Choose the IP version of a request without a target: 4 or 6, by --family or --source, else 4."""
    return request.family or ip_version(request.source or "")


def check_ipv6(request: RunRequest, targets: tuple[Endpoint, ...], namespace: Namespace, *, external: bool) -> None:
    """Check that the namespace of a run has IPv6 if the run uses it.

    Args:
        request: What the user asks for.
        targets: The targets that the user names.
        namespace: Where the run takes place; a namespace of its own has IPv6 if the kernel has it.
        external: Whether the targets listen already; they may be on another machine.

    Raises:
        EnvironmentFault: The kernel has no IPv6, or it is switched off in this host's namespace.
    """
    family = 6 if any(":" in target.host for target in targets) else choose_family(request)
    if family == 4:
        return
    use_ipv4 = "use addresses of IPv4, without --family 6"
    if not has_ipv6():
        raise EnvironmentFault("this kernel has no IPv6, or was booted with ipv6.disable=1", use_ipv4)
    if not namespace.is_own and not external and not has_ipv6_here():
        raise EnvironmentFault(
            "IPv6 is switched off in the host's namespace: its loopback interface has no address ::1",
            f"set net.ipv6.conf.all.disable_ipv6=0, or {use_ipv4}; or {isolation_hint(request, external=external)}",
        )


def reserved_ports(namespace: Namespace) -> frozenset[int]:
    """Read the ports that the kernel's search skips.

    net.ipv4.ip_local_reserved_ports is of the network namespace, and empty in a new one (`ipv4_sysctl_init_net` in
    net/ipv4/sysctl_net_ipv4.c), so those of the host matter in the host's namespace alone.
    """
    if namespace.is_own:
        return frozenset()
    return parse_ports(sysctl.read_all((sysctl.RESERVED_PORTS,)).get(sysctl.RESERVED_PORTS, ""))


def check_unreserved(plan: Plan) -> None:
    """Check that not every port of the range is reserved, for strategies that let the kernel choose.

    Raises:
        EnvironmentFault: A strategy that leaves the port to the kernel would find none.
        UsageError: A strategy with a stride gives the kernel one port at a time, and some are reserved.
    """
    named = {
        spec.name: RoundPlan(plan, spec, 1).reserved
        for spec in plan.strategies
        if spec.stride and not spec.traits.chooses_port and RoundPlan(plan, spec, 1).reserved
    }
    if named:
        raise UsageError(
            f"--stride with {' and '.join(named)}: connect() never takes a reserved port, and "
            f"{max(named.values()):,} of {plan.port_range} are reserved ({sysctl.RESERVED_PORTS})",
            f"use --strategy {_choosing()}, which binds to reserved ports too, or a --port-range without them",
        )
    without = [spec.name for spec in plan.strategies if not RoundPlan(plan, spec, 1).ports_each]
    if without:
        raise EnvironmentFault(
            f"{', '.join(dict.fromkeys(without))}: every port of {plan.port_range} is reserved "
            f"({sysctl.RESERVED_PORTS})",
            f"use --strategy {_choosing()}, which binds to reserved ports too, or reserve fewer",
        )


def _choosing() -> str:
    """The first strategy whose program chooses the port."""
    return next(strategy.name for strategy in STRATEGIES.values() if strategy.chooses_port)


def find_reserved(plan: Plan, reserved: frozenset[int]) -> list[Finding]:
    """Find ports of the range that are reserved, and windows that have no other port.

    Args:
        plan: The plan.
        reserved: The reserved ports where a strategy's load does not say which.
    """
    sets: dict[frozenset[int], list[StrategySpec]] = {}
    for spec in plan.strategies:
        ports = reserved if spec.load.reserved is None else spec.load.reserved
        sets.setdefault(ports, []).append(spec)
    return [
        _reserved(plan.port_range, ports, specs) for ports, specs in sets.items() if plan.port_range.count_of(ports)
    ]


def _reserved(ports: PortRange, reserved: frozenset[int], specs: list[StrategySpec]) -> Finding:
    """The finding about the reserved ports of some strategies."""
    number = ports.count_of(reserved)
    free = len(ports) - number
    takes_them = dict.fromkeys(spec.name for spec in specs if spec.traits.chooses_port)
    widths = {spec.window for spec in specs if spec.traits.window is Window.RANDOM and spec.window}
    empty = {width: share for width in sorted(widths) if (share := _without_a_port(ports, width, reserved)) >= 0.001}
    counted = [f"-n, --fill and each share of the range count the other {free:,}"] if free else []
    counted += [f"{name} binds to reserved ports too, and counts them" for name in takes_them]
    text = format_ports(reserved)
    name = f"{sysctl.RESERVED_PORTS}={text}" if len(text) <= LONGEST_LIST else sysctl.RESERVED_PORTS
    told = "".join(
        f"; {share:.1%} of the windows of {width} ports have reserved ports only" for width, share in empty.items()
    )
    are, them = ("is", "it") if number == 1 else ("are", "them")
    return Finding(
        "reserved-ports",
        Severity.NOTE,
        f"{number:,} of the {len(ports):,} ports of {ports} {are} reserved ({name}): the kernel's search passes over "
        f"{them}{told}",
        "; ".join(counted),
    )


def _without_a_port(ports: PortRange, width: int, reserved: frozenset[int]) -> float:
    """The share of the windows inside a range that have reserved ports only, 0 to 1."""
    starts, run = len(ports) - width + 1, 0
    empty = 0
    for port in range(ports.low, ports.high + 1):
        run = run + 1 if port in reserved else 0
        empty += run >= width
    return empty / starts


def choose_listener(
    request: RunRequest,
    namespace: Namespace,
    connections: int,
    *,
    external: bool,
    closes_by_fin: bool = False,
    somaxconn: int | None = None,
) -> Listener:
    """Choose the listener: one that leaves connections in its queue, if the queue can be long enough.

    Args:
        request: What the user asks for.
        namespace: Where the run takes place.
        connections: How many connections the queue gets, including those that are closed during the round.
        external: Whether another process listens already.
        closes_by_fin: Whether the churn closes by FIN, so that the listener has to close its end.
        somaxconn: The smallest value of net.core.somaxconn that --sysctl names; None if it names none.

    Raises:
        UsageError: `backlog` was asked for, and it would leave every FIN without an answer; or --sysctl makes the queue
            too short.
        EnvironmentFault: `backlog` was asked for and the host's somaxconn is too small.
    """
    asked = request.listener
    if external:
        return Listener.EXTERNAL
    if closes_by_fin:
        if asked is Listener.BACKLOG:
            raise UsageError(
                "--close fin: a backlog listener never closes its end, so no port would enter TIME_WAIT",
                "use --listener accept",
            )
        return Listener.ACCEPT
    if namespace.is_own and somaxconn is None:
        return asked or Listener.BACKLOG
    longest = sysctl.number(sysctl.SOMAXCONN) if somaxconn is None else somaxconn
    fits = connections <= longest
    if asked is Listener.BACKLOG and not fits and somaxconn is not None:
        raise UsageError(
            f"--listener backlog: {connections} connections do not fit --sysctl {sysctl.SOMAXCONN}={somaxconn}",
            "use --listener accept, ask for fewer connections, or set a larger somaxconn",
        )
    if asked is Listener.BACKLOG and not fits:
        raise EnvironmentFault(
            f"--listener backlog: {connections} connections do not fit the host's somaxconn of {longest}",
            f"use --listener accept, or ask for fewer connections; or {isolation_hint(request, external=external)}",
        )
    return asked or (Listener.BACKLOG if fits else Listener.ACCEPT)


def choose_link(request: RunRequest, targets: tuple[Endpoint, ...], *, external: bool) -> Link:
    """Choose the link: --allow-host-route alone asks for a routed one.

    Args:
        request: What the user asks for.
        targets: The targets that the user names.
        external: Whether they listen already.

    Raises:
        UsageError: A routed link without permission, to no other target, to a loopback address, or together with
            another link or `--isolate never`.
    """
    if not request.allow_host_route:
        if request.link is Link.ROUTED:
            raise UsageError(
                "--link routed changes the host's network namespace, and --allow-host-route is not given",
                f"with it each round adds the device {HOST_DEVICE} with a route to its own namespace, and a masquerade "
                "by nftables if the target has no route back; all of it ends with the round",
            )
        return request.link
    without = "leave out --allow-host-route"
    if request.link not in {Link.LOOPBACK, Link.ROUTED}:
        raise UsageError(f"--allow-host-route does nothing with --link {request.link}", without)
    if not external:
        raise UsageError(
            "--allow-host-route does nothing without a --target that listens already", f"name a --target, or {without}"
        )
    here = next((target for target in targets if target.is_loopback), None)
    if here:
        raise UsageError(
            f"--target {here}: another network namespace cannot reach the host's loopback",
            f"name another address of the host, where the program listens, with --allow-remote; or {without}",
        )
    if request.isolate is Isolation.NEVER:
        raise UsageError(
            "--allow-host-route leads out of a namespace of the run's own, and --isolate never forbids one",
            f"leave out --isolate never; or {without}",
        )
    return Link.ROUTED


SHORT_QUEUE = 128
"""Connections that the queue of a busy server holds at least: the kernel's own somaxconn before Linux 5.4."""


def find_short_queue(plan: Plan) -> list[Finding]:
    """Find out whether --sysctl makes the queue of a listener so short that it overflows while nobody accepts."""
    limits = [spec.load.settings.get(sysctl.SOMAXCONN) for spec in plan.strategies]
    shortest = min((int(limit) for limit in limits if limit is not None), default=SHORT_QUEUE)
    if plan.listener is not Listener.ACCEPT or shortest >= SHORT_QUEUE:
        return []
    return [
        Finding(
            "short-queue",
            Severity.WARNING,
            f"--sysctl {sysctl.SOMAXCONN}={shortest}: the listener's queue holds that many connections; when it is "
            "full the kernel drops SYNs, and a connect() takes a second or more",
            "give a larger one, unless that is what you measure",
        )
    ]


def choose_link_namespace(request: RunRequest, *, external: bool) -> Namespace | None:
    """Choose the kind of namespace for a link between namespaces; None if the link is the loopback.

    Args:
        request: What the user asks for.
        external: Whether the target listens already.

    Raises:
        UsageError: A delay without such a link, a delay as long as the time-out, or such a link together with an
            external target or `--isolate never`.
        EnvironmentFault: No network namespace of its own is allowed.
    """
    without = f"leave out --link {request.link}" + (" and --delay" if request.delay_ms else "")
    if not request.link.has_two_ends and request.delay_ms:
        raise UsageError(
            f"--delay {request.delay_ms:g}ms does nothing {WITHOUT_DELAY[request.link]}",
            "leave out --delay, or add --link veth",
        )
    if request.link is Link.ROUTED:
        namespace, reason = best_namespace()
        if namespace is Namespace.NETWORK:
            return namespace
        reason = reason or "this user may make one in a user namespace of its own alone, which has no way to the host's"
        raise EnvironmentFault(f"--allow-host-route needs a network namespace: {reason}", NEEDS_ROOT)
    if not request.link.has_two_ends:
        return None
    if request.delay_ms >= request.timeout * MS_PER_S:
        raise UsageError(
            f"--delay {request.delay_ms:g}ms is not shorter than --timeout {request.timeout:g}s",
            "each connect() takes at least the delay: give a longer --timeout",
        )
    if external:
        raise UsageError(
            f"--link {request.link} cannot reach --target {' and '.join(request.targets)} outside its namespaces",
            f"{without}; or {request.listener_hint}",
        )
    if request.isolate is Isolation.NEVER:
        raise UsageError(
            f"--link {request.link} makes namespaces of its own, and --isolate never forbids them",
            f"leave out --isolate never; or {without}",
        )
    namespace, reason = best_namespace()
    if not namespace.is_own:
        raise EnvironmentFault(
            f"--link {request.link} needs a network namespace of its own: {reason}",
            f"{ALLOW_NAMESPACES}; or {without}",
        )
    return namespace


def check_route(plan: Plan, answers: Callable[[float | None], object]) -> tuple[Plan, list[Finding]]:
    """Check that the targets of a routed link answer over it.

    Args:
        plan: The plan.
        answers: As `host_route.check_route` takes it.

    Returns:
        The plan, with a masquerade if the targets do not answer without one, and what the link changes and costs.

    Raises:
        UsageError: A source that no device can have.
        EnvironmentFault: The kernel, the user or the host does not allow it; or a masquerade has too few ports.
        TargetError: A target has no route, or does not answer.
    """
    for address in plan.sources:
        if not _fits_a_device(address):
            raise UsageError(
                f"--source {address} cannot be the address of an end of a veth pair",
                "give one beyond the loopback that nobody has, or leave out --source: 198.18.0.0/15 is for benchmarks",
            )
    hosts = tuple(dict.fromkeys(target.host for target in plan.targets))
    masquerade = host_route.check_route(plan.sources, hosts, most_handshakes(plan), answers)
    ports = (MAX_PORT - FIRST_NAT_PORT + 1) * len(plan.targets)
    most = max(RoundPlan(plan, spec, 1).most_in_use for spec in plan.strategies)
    if masquerade and most > ports:
        raise EnvironmentFault(
            f"{most:,} connections do not fit the masquerade that {format_addresses(plan.targets, 'target')} needs: "
            f"it has {ports:,} ports",
            "ask for fewer (-n), name more targets, or give the target a route back to this host for --source",
        )
    plan = replace(plan, masquerade=masquerade)
    table = f", and masquerades what comes from there (nftables table {nftables.TABLE})" if masquerade else ""
    return plan, [
        Finding(
            "host-route",
            Severity.NOTE,
            f"each round adds the device {HOST_DEVICE} to the host's network namespace, with a route to "
            f"{format_addresses(plan.sources, 'source')}{table}; all of it ends with the round",
            COST_OF_MASQUERADE if masquerade else COST_OF_ROUTE,
        )
    ]


def check_link(plan: Plan) -> None:
    """Check in a child process that this machine can set up the link between namespaces with the plan's addresses.

    Raises:
        UsageError: An address no device can have, or one that both ends would have; a delay that no attempt outlasts.
        EnvironmentFault: The kernel lacks veth, netem or nf_tables, or does not allow what it takes; or the router's
            conntrack table is too small.
    """
    if not plan.link.has_two_ends:
        return
    limits = [spec.load.give_up_ms for spec in plan.strategies if spec.load.give_up_ms is not None]
    if plan.delay_ms and limits and min(limits) <= plan.delay_ms:
        raise UsageError(
            f"--delay {plan.delay_ms:g}ms is not shorter than --give-up-after {min(limits):g}ms",
            "each connect() takes at least the delay: give a longer --give-up-after",
        )
    hosts = tuple(dict.fromkeys(target.host for target in plan.targets))
    asked = [("--source", address) for address in plan.sources] + [("--target", host) for host in hosts]
    for option, address in asked:
        if not _fits_a_device(address):
            raise UsageError(
                f"{option} {address} cannot be the address of an end of a {plan.link} link",
                f"give one beyond the loopback, or leave out {option}: 198.18.0.0/15 is for benchmarks",
            )
    both = {ipaddress.ip_address(host) for host in hosts} & {ipaddress.ip_address(source) for source in plan.sources}
    if both:
        here = set(plan.sources) <= set(first_sources(len(plan.sources), ip_version(hosts[0]), plan.link))
        raise UsageError(
            f"--link {plan.link}: {min(both, key=str)} would be at both of its ends",
            f"choose another --{'target' if here else 'source'}",
        )
    if plan.link is Link.NAT:
        _check_router(plan, hosts)
    else:
        veth.check_can_link(plan.namespace, plan.sources, hosts, plan.delay_ms)


def _check_router(plan: Plan, hosts: tuple[str, ...]) -> None:
    router = ROUTER_ADDRESSES[ip_version(hosts[0])]
    for option, addresses in (("--source", plan.sources), ("--target", hosts)):
        if router in addresses:
            raise UsageError(f"{option} {router}: the router of --link nat has that address", "choose another")
    how = plan.sources, hosts, plan.delay_ms, plan.nat_ports
    entries = nat.check_can_route(plan.namespace, *how, is_random=plan.nat_random)
    rounds = [RoundPlan(plan, spec, 1) for spec in plan.strategies]
    held = max(min(planned.connections, planned.capacity) for planned in rounds)
    if held > entries:
        raise EnvironmentFault(
            f"--link nat: {held:,} connections do not fit the router's conntrack table, for {CONNTRACK_MAX} is "
            f"{entries:,}",
            f"raise it on this host: sysctl {CONNTRACK_MAX}={2 * held}; or ask for fewer with -n or --fill",
        )


def with_client_namespaces(request: RunRequest) -> RunRequest:
    """The request with as many client namespaces behind the router of `--link nat`, and a client or more in each.

    Raises:
        UsageError: An option of a NAT without one, or one that contradicts it.
    """
    if request.link is not Link.NAT:
        _check_without_router(request)
        return request
    _check_with_router(request)
    named = len(parse_sources(request.source)) if request.source is not None else None
    number = named or (1 if request.clients is None else request.clients)
    if not 1 <= number <= MOST_CLIENT_NAMESPACES:
        raise UsageError(f"{number} client namespaces are not possible", f"give 1 to {MOST_CLIENT_NAMESPACES}")
    if named and request.clients not in {None, named}:
        raise UsageError(
            f"--clients {request.clients}: --source names {named} address{'es' if named > 1 else ''}",
            "name one address for each client namespace, or leave out --source",
        )
    concurrency = number if request.concurrency == 1 else request.concurrency
    for option, asked in (("-n", request.connections), ("--concurrency", concurrency)):
        if asked is not None and asked % number:
            raise UsageError(
                f"{option} {asked} is not a multiple of the {number} client namespaces",
                f"each has equally many: give {option} {-(-asked // number) * number}",
            )
    return replace(request, clients=None if named else number, concurrency=concurrency)


def _check_without_router(request: RunRequest) -> None:
    """Check that no option asks for something of a router that is not there."""
    asked = {
        "--clients": request.clients,
        "--nat-ports": request.nat_ports,
        "--nat-random": "" if request.nat_random else None,
    }
    for option, value in asked.items():
        if value is not None:
            told = f"{option} {value}".strip()
            raise UsageError(f"{told} does nothing without --link nat", f"add --link nat, or leave out {option}")


def _check_with_router(request: RunRequest) -> None:
    """Check that no option asks for what client namespaces behind a router cannot have."""
    if request.protocol is Protocol.UDP:
        raise UsageError(
            "--protocol udp: connect() of UDP sends nothing that the router of --link nat could translate",
            "leave out --link nat, or --protocol udp",
        )
    if request.sources is not None:
        raise UsageError(
            f"--sources {request.sources}: with --link nat each client namespace has one address",
            f"use --clients {request.sources} instead",
        )
    if request.spread is Spread.FILL:
        raise UsageError(
            "--spread fill: with --link nat the client namespaces connect at the same time", "leave out --spread"
        )


def choose_ehash_entries(request: RunRequest, namespace: Namespace, *, external: bool) -> int | None:
    """The entries of each round's own established-hash table: the next power of two, to which the kernel rounds up.

    Args:
        request: What the user asks for.
        namespace: The kind of namespace that each round has.
        external: Whether the target listens already.

    Returns:
        The number; None if a round takes the table that its namespace gets.

    Raises:
        UsageError: UDP, which does not use that table, or the host's namespace, whose table the kernel never resizes.
    """
    asked = request.ehash_entries
    if asked is None:
        return None
    if request.protocol is Protocol.UDP:
        raise UsageError(
            f"--ehash-entries {asked} does nothing for UDP", "leave it out: the table has TCP's connections"
        )
    if not namespace.is_own:
        raise UsageError(
            f"--ehash-entries {asked}: the host's namespace has a table of the size that it was booted with",
            f"leave out --ehash-entries; or {isolation_hint(request, external=external)}",
        )
    return 1 << (asked - 1).bit_length()


def check_sysctls(plan: Plan, request: RunRequest, *, external: bool) -> None:
    """Check that each round's namespace takes the sysctls of its load, by setting them in a namespace of a child.

    Args:
        plan: The plan.
        request: What the user asks for.
        external: Whether the target listens already.

    Raises:
        UsageError: The host's namespace, which a run does not change; a sysctl that another option sets; or the kernel
            rejects a value, or keeps another.
        EnvironmentFault: A new namespace has no such sysctl of its own, or none that can be set.
    """
    settings = dict.fromkeys(item for spec in plan.strategies for item in spec.load.settings.items())
    for name, value in settings:
        if name in sysctl.OF_OPTIONS:
            raise UsageError(
                f"--sysctl {name}: connbench sets it itself", f"say to what with {sysctl.OF_OPTIONS[name]}"
            )
        if not plan.namespace.is_own:
            raise UsageError(
                f"--sysctl {name}={value}: the run is in the host's namespace, which it does not change",
                f"leave out --sysctl; or {isolation_hint(request, external=external)}",
            )
    if settings:
        check_sysctls_in(plan.namespace, tuple(settings))


def _fits_a_device(text: str) -> bool:
    """Whether a network device can have an address: of a single host, not of the loopback, and without a scope."""
    address = ipaddress.ip_address(text)
    if isinstance(address, ipaddress.IPv6Address) and (address.is_link_local or address.ipv4_mapped):
        return False
    broadcast = ipaddress.ip_address("255.255.255.255")
    return not (address.is_loopback or address.is_multicast or address.is_unspecified or address == broadcast)
