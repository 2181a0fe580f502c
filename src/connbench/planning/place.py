"""Where a run takes place: its namespace, the range in it, and who listens."""

from __future__ import annotations

from connbench.errors import EnvironmentFault, UsageError
from connbench.findings import Finding, Severity
from connbench.linux import sysctl
from connbench.linux.namespace import best_available
from connbench.model import (
    DEFAULT_RANGE_LOW,
    MAX_PORT,
    Isolation,
    Listener,
    Namespace,
    Plan,
    PortRange,
    RoundPlan,
    parse_ports,
)
from connbench.strategies import DEFAULT_NAMES

COST_OF_HOST = "the host's port range applies, and its other connections take part"
COST_OF_OWN_LISTENER = "; more connections than the host's somaxconn need an accepting listener"


def settle_namespace(isolate: Isolation, *, external: bool) -> tuple[Namespace, list[Finding]]:
    """The namespace to run in.

    Args:
        isolate: What was asked for.
        external: Whether the target listens already, and so in the host's namespace.

    Raises:
        UsageError: An external target together with `always`.
        EnvironmentFault: `always`, where it is not allowed.
    """
    if isolate is Isolation.NEVER:
        return Namespace.HOST, []
    if external:
        if isolate is Isolation.ALWAYS:
            raise UsageError(
                "--isolate always cannot reach a --target outside its namespace",
                "leave out --target, or add --listener backlog for a listener of its own there",
            )
        return Namespace.HOST, [_on_host("the target listens in it", COST_OF_HOST)]
    namespace, reason = best_available()
    if namespace.is_own:
        return namespace, []
    if isolate is Isolation.ALWAYS:
        raise EnvironmentFault(
            f"no network namespace of its own: {reason}",
            "run as root, allow user namespaces, or use --isolate never",
        )
    return namespace, [_on_host(reason, COST_OF_HOST + COST_OF_OWN_LISTENER)]


def _on_host(reason: str, cost: str) -> Finding:
    return Finding(
        "host-namespace",
        Severity.WARNING,
        f"measuring in the host's network namespace ({reason})",
        cost,
    )


def choose_range(asked: PortRange | None, namespace: Namespace, strategies: tuple[str, ...]) -> PortRange:
    """The ports to search: what was asked for; else the talk's range, or the host's where it cannot be set.

    Raises:
        UsageError: A single port; or, in the host's namespace, a range that the strategies cannot keep to.
    """
    if asked is not None and len(asked) < 2:
        raise UsageError(f"port range {asked} is one port", "a search needs two or more")
    if namespace.is_own:
        return asked or PortRange(DEFAULT_RANGE_LOW, MAX_PORT)
    host = PortRange(*sysctl.read_port_range())
    if asked is None or asked == host:
        return host
    bound_to_host = {"plain", "bind"} & set(strategies or DEFAULT_NAMES)
    if bound_to_host:
        raise UsageError(
            f"--port-range {asked}: in the host's namespace {', '.join(sorted(bound_to_host))} "
            f"search the host's {host}",
            "leave it out, or use --isolate always",
        )
    if not host.covers(asked):
        raise UsageError(
            f"--port-range {asked} is not inside the host's {host}",
            "the kernel ignores bounds outside it; choose a part of it, or use --isolate always",
        )
    return asked


def count_reserved(ports: PortRange, namespace: Namespace) -> int:
    """Ports of a range that the kernel's search passes over.

    net.ipv4.ip_local_reserved_ports is of the network namespace, and empty in a new one (`ipv4_sysctl_init_net` in
    net/ipv4/sysctl_net_ipv4.c), so those of the host matter in the host's namespace alone.
    """
    return 0 if namespace.is_own else ports.count_of(parse_ports(sysctl.read(sysctl.RESERVED_PORTS)))


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
            "use --strategy random, which binds to reserved ports too, or reserve fewer",
        )


def note_reserved(plan: Plan) -> list[Finding]:
    """What to know of ports of the range that are reserved."""
    if not plan.reserved:
        return []
    free = len(plan.port_range) - plan.reserved
    takes_them = any(spec.name == "random" for spec in plan.strategies)
    return [
        Finding(
            "reserved-ports",
            Severity.NOTE,
            f"{plan.reserved:,} of the {len(plan.port_range):,} ports of {plan.port_range} are reserved "
            f"({sysctl.RESERVED_PORTS}): connect() never chooses them",
            f"-n, --fill and each share of the range count the other {free:,}"
            + ("; random binds to reserved ports too, and counts them" if takes_them else ""),
        )
    ]


def choose_listener(
    asked: Listener | None, namespace: Namespace, connections: int, *, external: bool, closes_by_fin: bool = False
) -> Listener:
    """Who completes the handshakes; nobody accepts wherever the queue can be made long enough.

    Args:
        asked: What was asked for.
        namespace: Where.
        connections: How many the queue gets, those that are closed again too.
        external: Whether somebody else listens.
        closes_by_fin: Whether connections are closed in good order: somebody has to close the other end.

    Raises:
        UsageError: `backlog` was asked for, and it would leave every FIN without an answer.
        EnvironmentFault: `backlog` was asked for and the host's somaxconn is too small.
    """
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
    somaxconn = int(sysctl.read(sysctl.SOMAXCONN))
    fits = connections <= somaxconn
    if asked is Listener.BACKLOG and not fits:
        raise EnvironmentFault(
            f"--listener backlog: {connections} connections do not fit the host's somaxconn of {somaxconn}",
            "use --listener accept, fewer connections (-n), or --isolate always",
        )
    return asked or (Listener.BACKLOG if fits else Listener.ACCEPT)
