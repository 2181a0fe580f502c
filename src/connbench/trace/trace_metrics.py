"""The counts of a trace as metrics, which Prometheus reads over HTTP."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from prometheus_client.core import CounterMetricFamily, HistogramMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from connbench.trace.counts import Counts, LatencyCounts, OffsetCounts, ParityCounts, errno_name
from connbench.trace.report import CgroupNames
from connbench.units import NS_PER_S

BOUNDS_NS = tuple(1 << power for power in range(10, 34))
"""Upper bounds of the latency histogram: 1 µs to 8.6 s, where bpftrace's own buckets end."""


class TraceCollector(Collector):
    """Makes the metrics of the newest counts whenever prometheus_client asks for them.

    Attributes:
        counts: The counts of the last interval.
        name_of: Gives the name of a cgroup.
    """

    def __init__(self, counts: Counts, name_of: CgroupNames) -> None:
        self.counts = counts
        self.name_of = name_of

    def collect(self) -> Iterator[Metric]:
        """Every metric of the trace since it began; times in seconds."""
        match self.counts:
            case LatencyCounts() as counts:
                yield from _latency(counts)
            case ParityCounts() as counts:
                yield from _parity(counts, self.name_of)
                yield from _latency(counts.latency)
            case OffsetCounts() as counts:
                yield from _offsets(counts)


def _latency(counts: LatencyCounts) -> Iterator[Metric]:
    times = HistogramMetricFamily(
        "connect_latency_seconds", "Time in tcp_v4_connect() or tcp_v6_connect().", labels=["outcome"]
    )
    for outcome, latency in counts.by_outcome.items():
        reached = [sum(n for top, n in latency.buckets.items() if top < bound) for bound in BOUNDS_NS]
        named = [(str(bound / NS_PER_S), number) for bound, number in zip(BOUNDS_NS, reached, strict=True)]
        times.add_metric([outcome], [*named, ("+Inf", latency.count)], latency.total_ns / NS_PER_S)
    yield times
    failures = CounterMetricFamily("connect_failures", "connect() that failed in the kernel.", labels=["errno"])
    for number, happened in sorted(counts.errors.items()):
        failures.add_metric([errno_name(number)], happened)
    yield failures
    yield _lost(counts.lost)


def _lost(number: int) -> Metric:
    return CounterMetricFamily("connect_lost", "connect() whose return the kernel did not report.", value=number)


def _parity(counts: ParityCounts, name_of: CgroupNames) -> Iterator[Metric]:
    switches = CounterMetricFamily(
        "connect_port_parity_switches",
        "Ports that connect() chose, of another parity than the port before of the same process.",
        labels=["comm", "cgroup"],
    )
    named: Counter[tuple[str, str]] = Counter()
    for (cgroup, comm), happened in counts.switches_of.items():
        named[comm, name_of(cgroup)] += happened  # a restarted service has a new id and its old name
    for labels, happened in sorted(named.items()):
        switches.add_metric(labels, happened)
    yield switches
    ports = CounterMetricFamily("connect_ports", "Ports that connect() chose.", labels=["parity"])
    ports.add_metric(["even"], counts.even)
    ports.add_metric(["odd"], counts.odd)
    yield ports
    yield _bound(counts.bound)


def _bound(number: int) -> Metric:
    return CounterMetricFamily("connect_bound_ports", "Connections whose port bind() had chosen.", value=number)


def _offsets(counts: OffsetCounts) -> Iterator[Metric]:
    for name, numbers, text in (
        ("connect_search_starts", counts.starts, "Searches for a port by the ten thousand they began in."),
        ("connect_search_ends", counts.chosen, "Searches for a port by the ten thousand they ended in."),
    ):
        metric = CounterMetricFamily(name, text, labels=["from_port"])
        for low, number in sorted(numbers.items()):
            metric.add_metric([str(low)], number)
        yield metric
    yield _bound(counts.bound)
    yield CounterMetricFamily("connect_search_failures", "connect() that found no port.", value=counts.failed)
    yield _lost(counts.lost)
