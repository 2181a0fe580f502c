"""What the engine reports of a round beside its samples: settings, counters, and a report of each worker."""

from __future__ import annotations

from dataclasses import dataclass, field

from connbench.errors import ConnbenchError
from connbench.model.choices import Close
from connbench.model.strategy import StrategySpec

OVERFLOW_COUNTERS = (
    "TcpExt.ListenOverflows",
    "TcpExt.ListenDrops",
    "TcpExt.TCPReqQFullDrop",
    "TcpExt.TCPReqQFullDoCookies",
)
"""Counters of /proc/net/netstat that rise when a listener's queue is full; of all listeners of the namespace."""


CONNTRACK = "Conntrack"
"""The protocol under whose name the counters of /proc/net/stat/nf_conntrack are recorded."""

CONNTRACK_COUNTERS = tuple(
    f"{CONNTRACK}.{name}"
    for name in ("insert_failed", "drop", "early_drop", "invalid", "clashres", "chainlength", "search_restart")
)
"""The counters of a conntrack table that a round records: SYNs and other packets that a router loses, and why."""


CONNTRACK_MAX = "net.netfilter.nf_conntrack_max"
"""The most entries of a namespace's conntrack table. It can be written in the host's namespace alone."""

CONNTRACK_TIMEOUTS = {
    Close.RST: "net.netfilter.nf_conntrack_tcp_timeout_close",
    Close.FIN: "net.netfilter.nf_conntrack_tcp_timeout_time_wait",
}
"""For how many seconds a router keeps the entry, and with it the port, of a connection that is closed."""


@dataclass(frozen=True, slots=True)
class WorkerReport:
    """What a worker did in a phase.

    Attributes:
        first: Its first row of the filling.
        attempts: The attempts that it made in the phase.
        opened: The connections that it opened when filling.
        involuntary_switches: How often the kernel took the CPU from it in the phase (ru_nivcsw).
        memory_idle: Its private memory before its first attempt, in bytes; 0 where the kernel does not tell.
        memory_full: Its private memory with all its connections open, in bytes; 0 as above.
        floor_ns: What timing a connect_ex() costs, in ns; None if it opened no connection.
        client: The number of its client, from 0.
    """

    first: int
    attempts: int
    opened: int
    involuntary_switches: int
    memory_idle: int
    memory_full: int
    floor_ns: int | None = None
    client: int = 0


@dataclass(frozen=True, slots=True)
class RoundReport:
    """The report of a round; where it has a filling and a churn, of one of the two.

    Attributes:
        settings: The sysctls of the connecting namespace by name, as read back; with --link nat also the router's.
        counters: By how much the namespaces' counters rose, by the kernel's name (`TcpExt.ListenDrops`); those of
            `Conntrack` are the router's.
        workers: The report of each worker, client by client.
        held: The connections that the workers held open at the end of the phase.
        established: Those of them that were established: the other end had not closed them either.
        time_wait: The sockets in TIME_WAIT in the connecting namespaces at the end of the phase.
        conntrack_entries: The connections in the router's conntrack table at the end of the phase, closed ones too.
        steal: The part of the CPU time that the hypervisor gave to others, 0 to 1.
        engine_rss: The resident memory of the engine before it began, in bytes.
        epoch_us: The time from which `started_ns` counts, in us of CLOCK_REALTIME; 0 in files of earlier versions.
    """

    settings: dict[str, str] = field(default_factory=dict)
    counters: dict[str, int] = field(default_factory=dict)
    workers: tuple[WorkerReport, ...] = ()
    held: int = 0
    established: int = 0
    time_wait: int = 0
    conntrack_entries: int = 0
    steal: float = 0.0
    engine_rss: int = 0
    epoch_us: int = 0

    @property
    def floor_ns(self) -> int | None:
        """`floor_ns` of the first worker that has one; None if no worker opened a connection."""
        return next((worker.floor_ns for worker in self.workers if worker.floor_ns is not None), None)


@dataclass(frozen=True, slots=True)
class Measured:
    """A phase of a round that began.

    Attributes:
        strategy: The strategy, in this phase.
        number: The number of the round, from 1.
        descriptor: The shared memory of `connbench.samples`, which is closed later.
        total: The number of attempts that it was created for.
        rows: Those of this phase.
        report: What the engine reported.
        fault: What ended the round early; None if it came to its end.
    """

    strategy: StrategySpec
    number: int
    descriptor: int
    total: int
    rows: range
    report: RoundReport
    fault: ConnbenchError | None = None
