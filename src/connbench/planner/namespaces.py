"""Where a run takes place: its namespace, the range in it, and who listens."""

from __future__ import annotations

from connbench.errors import EnvironmentFault, UsageError
from connbench.findings import Finding, Severity
from connbench.linux import sysctl
from connbench.linux.address_family import has_ipv6, has_ipv6_here
from connbench.linux.namespace import best_namespace
from connbench.model import (
    DEFAULT_RANGE_LOW,
    MAX_PORT,
    Endpoint,
    Isolation,
    Listener,
    Namespace,
    Plan,
    PortRange,
    RoundPlan,
    ip_version,
    parse_ports,
)
from connbench.planner.request import RunRequest
from connbench.strategies import DEFAULT_NAMES, RANDOM, STRATEGIES, Window

ALLOW_NAMESPACES = "run as root with CAP_SYS_ADMIN, CAP_NET_ADMIN and a writable /proc/sys, or allow user namespaces"
COST_OF_HOST = "the host's port range applies, and its other connections take part"
COST_OF_OWN_LISTENER = "; more connections than the host's somaxconn need an accepting listener"


def settle_namespace(
    request: RunRequest, targets: tuple[Endpoint, ...] = (), *, external: bool
) -> tuple[Namespace, list[Finding]]:
    """The namespace to run in.

    Args:
        request: What was asked for.
        targets: Where to connect, as far as it was asked for.
        external: Whether the targets listen already, and so in the host's namespace or beyond it.

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
                f"leave out --isolate always; or {request.without_target}",
            )
        is_here = all(target.is_loopback for target in targets)
        why = "the target listens in it" if is_here else "a namespace of its own has no route to the target"
        return Namespace.HOST, [_on_host(why, COST_OF_HOST)]
    namespace, reason = best_namespace()
    if namespace.is_own:
        return namespace, []
    if request.isolate is Isolation.ALWAYS:
        raise EnvironmentFault(
            f"no network namespace of its own: {reason}", f"{ALLOW_NAMESPACES}, or leave out --isolate always"
        )
    return namespace, [_on_host(reason, COST_OF_HOST + COST_OF_OWN_LISTENER)]


def _on_host(reason: str, cost: str) -> Finding:
    return Finding(
        "host-namespace",
        Severity.WARNING,
        f"measuring in the host's network namespace ({reason})",
        cost,
    )


def to_isolate(request: RunRequest, *, external: bool) -> str:
    """How to have a network namespace of its own where a request has led to the host's, as a hint says it."""
    if request.isolate is Isolation.NEVER:
        return "leave out --isolate never"
    return request.without_target if external else ALLOW_NAMESPACES


def choose_range(request: RunRequest, namespace: Namespace, *, external: bool = False) -> PortRange:
    """The ports to search: what was asked for; else the talk's range, or the host's where it cannot be set.

    Raises:
        UsageError: A single port; or, in the host's namespace, a range that the strategies cannot keep to.
    """
    asked = request.port_range
    if asked is not None:
        asked.check_for_search()
    if namespace.is_own:
        return asked or PortRange(DEFAULT_RANGE_LOW, MAX_PORT)
    host = PortRange(*sysctl.read_port_range())
    if asked is None or asked == host:
        return host
    names = request.strategies or DEFAULT_NAMES
    bound_to_host = [one.name for one in STRATEGIES.values() if one.is_default_search and one.name in names]
    if bound_to_host:
        searches = f"{' and '.join(bound_to_host)} search{'es' if len(bound_to_host) == 1 else ''}"
        raise UsageError(
            f"--port-range {asked}: in the host's namespace {searches} the host's {host}",
            f"leave out --port-range; or {to_isolate(request, external=external)}",
        )
    if not host.covers(asked):
        raise UsageError(
            f"--port-range {asked} is not inside the host's {host}",
            f"the kernel ignores bounds outside it: choose a part of it; or {to_isolate(request, external=external)}",
        )
    return asked


def family_asked(request: RunRequest) -> int:
    """That of the addresses asked for where no target is, IPv4 without any."""
    return request.family or ip_version(request.source or "")


def refuse_without_ipv6(
    request: RunRequest, targets: tuple[Endpoint, ...], namespace: Namespace, *, external: bool
) -> None:
    """Make sure that IPv6, where it is asked for, is there in the namespace to run in.

    Args:
        request: What was asked for.
        targets: Where to connect, as far as it was asked for.
        namespace: Where the run takes place; one of its own has IPv6 wherever the kernel has it.
        external: Whether somebody listens there already, at addresses that need not be of this machine.

    Raises:
        EnvironmentFault: The kernel has no IPv6, or it is switched off in this host's namespace.
    """
    family = 6 if any(":" in target.host for target in targets) else family_asked(request)
    if family == 4:
        return
    use_ipv4 = "use addresses of IPv4, without --family 6"
    if not has_ipv6():
        raise EnvironmentFault("this kernel has no IPv6, or was booted with ipv6.disable=1", use_ipv4)
    if not namespace.is_own and not external and not has_ipv6_here():
        raise EnvironmentFault(
            "IPv6 is switched off in the host's namespace: its loopback interface has no address ::1",
            f"set net.ipv6.conf.all.disable_ipv6=0, or {use_ipv4}; or {to_isolate(request, external=external)}",
        )


def reserved_ports(namespace: Namespace) -> frozenset[int]:
    """Ports that the kernel's search passes over.

    net.ipv4.ip_local_reserved_ports is of the network namespace, and empty in a new one (`ipv4_sysctl_init_net` in
    net/ipv4/sysctl_net_ipv4.c), so those of the host matter in the host's namespace alone.
    """
    if namespace.is_own:
        return frozenset()
    return parse_ports(sysctl.read_all((sysctl.RESERVED_PORTS,)).get(sysctl.RESERVED_PORTS, ""))


def refuse_all_reserved(plan: Plan) -> None:
    """Make sure that the range has a port for every strategy.

    Raises:
        EnvironmentFault: A strategy that leaves the port to the kernel would find none.
    """
    without = [spec.name for spec in plan.strategies if not RoundPlan(plan, spec, 1).ports_each]
    if without:
        raise EnvironmentFault(
            f"{', '.join(dict.fromkeys(without))}: every port of {plan.port_range} is reserved "
            f"({sysctl.RESERVED_PORTS})",
            f"use --strategy {RANDOM.name}, which binds to reserved ports too, or reserve fewer",
        )


def note_reserved(plan: Plan, reserved: frozenset[int]) -> list[Finding]:
    """What to know of ports of the range that are reserved."""
    if not plan.reserved:
        return []
    free = len(plan.port_range) - plan.reserved
    takes_them = dict.fromkeys(spec.name for spec in plan.strategies if spec.traits.draws_port)
    widths = {spec.window for spec in plan.strategies if spec.traits.window is Window.RANDOM and spec.window}
    empty = {
        width: share
        for width in sorted(widths)
        if (share := _without_a_port(plan.port_range, width, reserved)) >= 0.001
    }
    counted = [f"-n, --fill and each share of the range count the other {free:,}"] if free else []
    counted += [f"{name} binds to reserved ports too, and counts them" for name in takes_them]
    told = "".join(f"; {share:.1%} of the windows of {width} ports have no other" for width, share in empty.items())
    return [
        Finding(
            "reserved-ports",
            Severity.NOTE,
            f"{plan.reserved:,} of the {len(plan.port_range):,} ports of {plan.port_range} are reserved "
            f"({sysctl.RESERVED_PORTS}): connect() never chooses them{told}",
            "; ".join(counted),
        )
    ]


def _without_a_port(ports: PortRange, width: int, reserved: frozenset[int]) -> float:
    """Share of the windows inside a range all of whose ports are reserved: 0 to 1."""
    starts, run = len(ports) - width + 1, 0
    empty = 0
    for port in range(ports.low, ports.high + 1):
        run = run + 1 if port in reserved else 0
        empty += run >= width
    return empty / starts


def choose_listener(
    request: RunRequest, namespace: Namespace, connections: int, *, external: bool, closes_by_fin: bool = False
) -> Listener:
    """Who completes the handshakes; nobody accepts wherever the queue can be made long enough.

    Args:
        request: What was asked for.
        namespace: Where.
        connections: How many the queue gets, those that are closed again too.
        external: Whether somebody else listens.
        closes_by_fin: Whether connections are closed in good order: somebody has to close the other end.

    Raises:
        UsageError: `backlog` was asked for, and it would leave every FIN without an answer.
        EnvironmentFault: `backlog` was asked for and the host's somaxconn is too small.
    """
    asked = request.listener
    if external:
        return Listener.EXTERNAL
    if closes_by_fin:
        if asked is Listener.BACKLOG:
            raise UsageError(
                "--close fin: a backlog listener never closes its end, and no TIME_WAIT would come of it",
                "use --listener accept",
            )
        return Listener.ACCEPT
    if namespace.is_own:
        return asked or Listener.BACKLOG
    somaxconn = sysctl.number(sysctl.SOMAXCONN)
    fits = connections <= somaxconn
    if asked is Listener.BACKLOG and not fits:
        raise EnvironmentFault(
            f"--listener backlog: {connections} connections do not fit the host's somaxconn of {somaxconn}",
            f"use --listener accept, or ask for fewer connections; or {to_isolate(request, external=external)}",
        )
    return asked or (Listener.BACKLOG if fits else Listener.ACCEPT)
