"""What the router of `--link nat` did to a round: which SYNs it dropped, and why."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from connbench.findings import Finding, Severity
from connbench.model import Link, Phase, Plan, StrategySpec
from connbench.model.round_report import CONNTRACK_MAX, CONNTRACK_TIMEOUTS
from connbench.results.result import Round
from connbench.samples import NO_PORT_FREE, TIMED_OUT

SLOW_CONNECT_NS = 900_000_000
"""A lost SYN is sent again after 1 s (RFC 6298): a connect() this slow waited for that timer, not for a port."""

LOST_IN_ROUTER = ("nat-ports", "nat-clash", "conntrack-full")
"""The findings about SYNs that the router dropped."""

ALL_BUT_FULL = 0.9
"""Share of the router's ports, or of its table, from which on they count as used up."""


@dataclass(frozen=True, slots=True)
class RouterLosses:
    """What became of the SYNs that the router dropped in a round.

    Attributes:
        dropped: How many it dropped; a SYN that is sent again counts once more.
        late: The attempts that waited for a SYN to be sent again, and then had their connection.
        unanswered: The attempts that ended without an answer.
        entries: The entries of its conntrack table at the end.
    """

    dropped: int
    late: int
    unanswered: int
    entries: int

    @classmethod
    def of(cls, plan: Plan, spec: StrategySpec, measured: Round) -> RouterLosses | None:
        """Those of a round; None without a router.

        `insert_failed` counts the SYNs for which it found no port of its own, and `drop` these and all others.
        """
        if plan.link is not Link.NAT:
            return None
        counters, samples = measured.report.counters, measured.samples
        waits = samples.handshake_ns if spec.load.in_flight else samples.connect_ns
        return cls(
            max(counters.get(f"Conntrack.{name}", 0) for name in ("drop", "insert_failed")),
            int(((waits > SLOW_CONNECT_NS) & ~samples.failed).sum()),
            int((samples.errno == TIMED_OUT).sum()),
            measured.report.conntrack_entries,
        )


def find_router_losses(plan: Plan, spec: StrategySpec, measured: Round) -> Iterator[Finding]:
    """Find SYNs that the router dropped; and attempts that failed in their client namespace, before any router."""
    losses = RouterLosses.of(plan, spec, measured)
    if losses is None:
        return
    if losses.dropped:
        yield _dropped(plan, spec, measured, losses)
    without_port = int(np.isin(measured.samples.errno, list(NO_PORT_FREE)).sum())
    if without_port:
        yield Finding(
            "client-ports",
            Severity.NOTE,
            f"{without_port:,} of {len(measured.samples):,} attempts found no free port in their own client namespace: "
            "they sent nothing that the router could have dropped",
            "give the clients more ports (--port-range), or more --clients; more ports of the router do not help",
        )


def _dropped(plan: Plan, spec: StrategySpec, measured: Round, losses: RouterLosses) -> Finding:
    what = "handshakes" if spec.load.in_flight else "connect()"
    outcome = [f"{losses.late:,} {what} took a second or more, until the SYN was sent again"] if losses.late else []
    whose = "" if losses.late else f"{what} "
    outcome += [f"{losses.unanswered:,} {whose}had no answer"] if losses.unanswered else []
    counters = measured.report.counters
    table = int(measured.report.settings.get(CONNTRACK_MAX) or 0)
    ports = plan.nat_capacity or 0
    beginning = f"the router dropped {losses.dropped:,} SYN{'' if losses.dropped == 1 else 's'}"
    ending = f"; {', and '.join(outcome)}" if outcome else ""
    if table and losses.entries >= ALL_BUT_FULL * table:
        return Finding(
            "conntrack-full",
            Severity.WARNING,
            f"{beginning}, for its conntrack table was full: {losses.entries:,} entries, {CONNTRACK_MAX} is {table:,}"
            + ending,
            f"raise {CONNTRACK_MAX} on this host; that is not a lack of ports",
        )
    of_targets = "" if len(plan.targets) == 1 else f" for {len(plan.targets):,} targets"
    used = f"{min(losses.entries, ports):,} of its {ports:,} ports{of_targets} had a connection at the end"
    failed = counters.get("Conntrack.insert_failed", 0)
    counted = f" (conntrack insert_failed {failed:,}, drop {counters.get('Conntrack.drop', 0):,})"
    if losses.entries >= ALL_BUT_FULL * ports:
        return Finding(
            "nat-ports",
            Severity.NOTE,
            f"{beginning}{counted}, for it found no free port: {used}, open or closed{ending}",
            f"give the router more ports (--nat-ports, more addresses, more targets){_shorter(spec, measured)}, or "
            "open fewer connections; more ports of the clients do not help",
        )
    return Finding(
        "nat-clash",
        Severity.NOTE,
        f"{beginning}{counted}, though it had free ports: {used}{ending}",
        "the kernel tries at most 240 ports, in four runs of neighbours, and two SYNs can be given one port at the "
        "same moment: "
        + ("give the router more ports" if plan.nat_random else "--nat-random spreads the ports that are in use"),
    )


def _shorter(spec: StrategySpec, measured: Round) -> str:
    """Advice about connections that are closed, and still have an entry."""
    churn = spec.load.churn
    if not churn or spec.phase is not Phase.CHURN:
        return ""
    name = CONNTRACK_TIMEOUTS[churn.close]
    seconds = measured.report.settings.get(name)
    if seconds == "1":
        return ""  # the shortest
    return f", shorten {name} (--sysctl{f'; it is {seconds} s' if seconds else ''})"
