"""Results for Prometheus: the classic text format, as node_exporter's textfile collector takes it, and OpenMetrics."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import TYPE_CHECKING

import numpy as np

from connbench.analysis.fleet_summary import summarize_fleet
from connbench.analysis.knee import find_knee
from connbench.analysis.parts import By, split_by
from connbench.analysis.soundness import findings
from connbench.analysis.summary import count_errors, summarize
from connbench.model import Link, format_addresses
from connbench.model.round_report import CONNTRACK, CONNTRACK_COUNTERS
from connbench.report.run_report import MOST_PARTS
from connbench.results.fleet_file import Fleet
from connbench.results.result import Mask, Numbers, Origin, Result, Samples, StrategyResult
from connbench.units import NS_PER_S

if TYPE_CHECKING:
    from prometheus_client.core import GaugeMetricFamily, HistogramMetricFamily
    from prometheus_client.metrics_core import Metric


_STEPS = (1, 2, 5)
BOUNDS_NS = tuple(step * 10**power for power in range(3, 11) for step in _STEPS if 5_000 <= step * 10**power <= 10**10)
"""Upper bounds of the time histograms: 5 µs to 10 s, three to a power of ten."""

BOUNDS_TRIES = tuple(step * 10**power for power in range(6) for step in _STEPS if step * 10**power <= 100_000)
"""Upper bounds of the histogram of tries: near exhaustion a program draws a hundred thousand times."""


def prometheus(result: Result) -> str:
    """Histograms of latency, acquire time and tries, errors, total times, knee and findings, and what was run.

    Times are in seconds, as Prometheus wants them. There are no timestamps, which node_exporter would refuse, and no
    series twice: strategies of the same label are numbered.
    """
    return _exposed(_Collector(result))


def openmetrics(result: Result) -> str:
    """The same metrics in OpenMetrics 1.0, with units, and with the time of the run as the time of each sample.

    So `promtool tsdb create-blocks-from openmetrics` can store them. Without a time, as of a CSV, samples have none.
    """
    return _exposed(_Collector(result), is_openmetrics=True)


def fleet_prometheus(fleet: Fleet) -> str:
    """The metrics of each host with a label `host`, and those of all hosts together."""
    return _exposed(_FleetCollector(fleet))


def fleet_openmetrics(fleet: Fleet) -> str:
    """The same in OpenMetrics; each sample has the time of its host's run, those of all hosts that of the last run.

    promtool takes no file in which a sample lacks its time.
    """
    return _exposed(_FleetCollector(fleet), is_openmetrics=True)


def _exposed(collector: _Collector | _FleetCollector, *, is_openmetrics: bool = False) -> str:
    """The text of the metrics; the classic format has neither times nor units."""
    # prometheus_client loads a web server, which nothing else here needs.
    from prometheus_client import CollectorRegistry, generate_latest
    from prometheus_client.openmetrics import exposition

    collector.has_times = is_openmetrics
    registry = CollectorRegistry()
    registry.register(collector)
    return (exposition.generate_latest if is_openmetrics else generate_latest)(registry).decode()


def _time_of(result: Result) -> float | None:
    """When a result was measured, in seconds since 1970; None if it does not tell."""
    try:
        return datetime.fromisoformat(str(result.environment.get("time"))).timestamp()
    except (ValueError, OverflowError, OSError):  # a file may have any text there
        return None


def _timed(metric: Metric, time: float | None) -> Metric:
    """The metric, its samples with this time if there is one."""
    if time is not None:
        metric.samples = [sample._replace(timestamp=time) for sample in metric.samples]
    return metric


class _FleetCollector:
    """The metrics of several hosts: each metric once, with the samples of every host."""

    def __init__(self, fleet: Fleet) -> None:
        self.fleet = fleet
        self.has_times = False

    def collect(self) -> Iterator[Metric]:
        """Yield every metric, its samples in the order of the hosts."""
        from prometheus_client.metrics_core import Metric

        metrics: dict[str, Metric] = {}
        for result in self.fleet.results:
            for of_host in _Collector(result, has_times=self.has_times).collect():
                empty = Metric(of_host.name, of_host.documentation, of_host.type, of_host.unit)
                metric = metrics.setdefault(of_host.name, empty)
                for sample in of_host.samples:
                    metric.samples.append(sample._replace(labels={"host": result.name, **sample.labels}))
        yield from metrics.values()
        times = [time for result in self.fleet.results if (time := _time_of(result)) is not None]
        for metric in _in_all(self.fleet):
            yield _timed(metric, max(times, default=None) if self.has_times else None)


def _in_all(fleet: Fleet) -> Iterator[Metric]:
    """What the hosts did together, and which of them measured nothing."""
    rate = _gauge("connbench_fleet_connections_per_second", "Connections a second of all hosts while all of them ran.")
    peak = _gauge("connbench_fleet_peak_open", "The most connections that all hosts had open at the same time.")
    overlap = _gauge("connbench_fleet_overlap_ratio", "Share of the time in which all hosts ran.")
    measured = _gauge("connbench_fleet_measured", "1 if the host measured something, 0 if not.", ["host"])
    for one in summarize_fleet(fleet).strategies:
        if one.in_all:
            values = (one.in_all.rate, one.in_all.peak, one.in_all.overlap)
            for family, value in zip((rate, peak, overlap), values, strict=True):
                if value is not None:
                    family.add_metric([one.strategy.label], value)
    for host in fleet.hosts:
        measured.add_metric([host.name], float(host.is_measured))
    yield from (family for family in (rate, peak, overlap, measured) if family.samples)


class _Collector:
    """The collector that prometheus_client calls for the metrics."""

    def __init__(self, result: Result, *, has_times: bool = False) -> None:
        self.result = result
        self.has_times = has_times

    def collect(self) -> Iterator[Metric]:
        """Yield every metric, its samples in the order of the strategies."""
        time = _time_of(self.result) if self.has_times else None
        for metric in self._metrics():
            yield _timed(metric, time)

    def _metrics(self) -> Iterator[Metric]:
        named = self.result.labelled
        yield _info(self.result)
        yield _latency(named)
        if self.result.origin is not Origin.TALK_CSV:
            yield from _handshake(named)
            yield from _bind(named)
            yield _acquire(named)
            yield _tries(named)
        yield _errors(named)
        yield _totals(named)
        yield _floors(named)
        yield from _knees(named)
        yield from _part_metrics(self.result, named)
        if self.result.plan and self.result.plan.link is Link.NAT:
            yield from _of_router(named)
        yield _findings(self.result)


def _info(result: Result) -> Metric:
    from prometheus_client.core import InfoMetricFamily

    plan = result.plan
    known = {
        "kernel": result.environment.get("kernel"),
        "version": result.environment.get("connbench"),
        "origin": result.origin,
        "range": plan and plan.port_range,
        "source": plan and format_addresses(plan.sources, "source"),
        "target": plan and format_addresses(plan.targets, "target"),
        "namespace": plan and plan.namespace,
        "link": plan and plan.link,
        "delay_ms": plan and f"{plan.delay_ms:g}",
        "listener": plan and plan.listener,
        "loop": plan and plan.loop,
        "seed": plan and plan.seed,
        "rounds": result.most_rounds,
    }
    if plan and plan.link is Link.ROUTED:
        known |= {"masquerade": plan.masquerade}
    if plan and plan.link is Link.NAT:
        known |= {"clients": plan.client_namespaces, "nat_ports": plan.nat_ports, "nat_random": plan.nat_random}
    values = {name: "" if value is None else str(value) for name, value in known.items()}
    return InfoMetricFamily("connbench", "What was run, and on which kernel.", value=values)


def _latency(named: dict[str, StrategyResult]) -> Metric:
    family = _histogram(
        "connbench_connect_seconds",
        "Latency of connect(), or of the call that failed before it, by the parity of the port; none: it failed. "
        "Of UDP the acquire time.",
        ["strategy", "parity"],
    )
    for label, strategy in named.items():
        samples = strategy.samples
        for parity, chosen in _by_parity(samples).items():
            _add(family, [label, parity], samples.latency_ns[chosen], BOUNDS_NS, NS_PER_S)
    return family


def _handshake(named: dict[str, StrategyResult]) -> Iterator[Metric]:
    """The handshakes of the strategies that were measured with `--in-flight`; no metric if none was."""
    family = _histogram(
        "connbench_handshake_seconds", "Time from the end of connect() to the outcome of the handshake, in flight."
    )
    for label, strategy in named.items():
        samples = strategy.samples
        if samples.sent.any():
            _add(family, [label], samples.handshake_ns[samples.sent], BOUNDS_NS, NS_PER_S)
    if family.samples:
        yield family


def _bind(named: dict[str, StrategyResult]) -> Iterator[Metric]:
    """bind() of the strategies whose bind() takes the port, and both calls by half; no metric without such a one."""
    family = _histogram(
        "connbench_bind_seconds",
        "Time in all calls but the last connect(), by the parity of the port; none: it failed.",
        ["strategy", "parity"],
    )
    halves = _gauge(
        "connbench_half_seconds",
        "bind() and connect() while less than half of the ports were in use (first half), or more: sum, p50 and p99.",
        ["strategy", "half", "call", "figure"],
    )
    for label, strategy in named.items():
        if not strategy.strategy.has_bind_apart:
            continue
        samples = strategy.samples
        for parity, chosen in _by_parity(samples).items():
            _add(family, [label, parity], samples.bind_ns[chosen], BOUNDS_NS, NS_PER_S)
        for half, group in summarize(strategy).halves.items():
            for call, times in (("bind()", group.bind), ("connect()", group.latency)):
                for figure, value in (("sum", times.total), ("p50", times.p50), ("p99", times.p99)):
                    if times.count:
                        halves.add_metric([label, half, call, figure], value / NS_PER_S)
    if family.samples:
        yield from (family, halves)


def _by_parity(samples: Samples) -> dict[str, Mask]:
    return {"even": samples.even, "odd": samples.odd, "none": samples.failed}


def _acquire(named: dict[str, StrategyResult]) -> Metric:
    family = _histogram(
        "connbench_acquire_seconds", "Time from the first call of an attempt to its outcome, every try counted."
    )
    for label, strategy in named.items():
        _add(family, [label], strategy.samples.acquire_ns, BOUNDS_NS, NS_PER_S)
    return family


def _tries(named: dict[str, StrategyResult]) -> Metric:
    family = _histogram("connbench_tries", "Tries of an attempt.")
    for label, strategy in named.items():
        _add(family, [label], strategy.samples.tries, BOUNDS_TRIES, 1)
    return family


def _histogram(name: str, documentation: str, labels: list[str] | None = None) -> HistogramMetricFamily:
    from prometheus_client.core import HistogramMetricFamily

    return HistogramMetricFamily(name, documentation, labels=labels or ["strategy"], unit=_unit_of(name))


def _add(
    family: HistogramMetricFamily, labels: list[str], values: Numbers, bounds: tuple[int, ...], unit: float
) -> None:
    """Add a histogram of `values`, which are divided by `unit` for the metric: 1e9 from ns to seconds."""
    below = np.searchsorted(np.sort(values), bounds, side="right").tolist()
    buckets = [(str(bound / unit), float(count)) for bound, count in zip(bounds, below, strict=True)]
    family.add_metric(labels, [*buckets, ("+Inf", float(len(values)))], float(values.sum()) / unit)


def _errors(named: dict[str, StrategyResult]) -> Metric:
    from prometheus_client.core import CounterMetricFamily

    family = CounterMetricFamily("connbench_errors", "Failed attempts by their errno.", labels=["strategy", "errno"])
    for label, strategy in named.items():
        for errno, number in count_errors(strategy.samples.errno).items():
            family.add_metric([label, errno], number)
    return family


def _gauge(name: str, documentation: str, labels: list[str] | None = None) -> GaugeMetricFamily:
    from prometheus_client.core import GaugeMetricFamily

    return GaugeMetricFamily(name, documentation, labels=labels or ["strategy"], unit=_unit_of(name))


def _unit_of(name: str) -> str:
    """The unit that ends the name of a metric; empty if it is a plain number."""
    return next((unit for unit in ("seconds", "ratio") if name.endswith(f"_{unit}") and "_per_" not in name), "")


def _totals(named: dict[str, StrategyResult]) -> Metric:
    family = _gauge(
        "connbench_total_seconds",
        "Sum of all latencies of a round that came to its end, those of failed attempts too.",
        ["strategy", "round"],
    )
    for label, strategy in named.items():
        for measured in strategy.rounds:
            if not measured.fault:
                family.add_metric([label, str(measured.number)], float(measured.samples.latency_ns.sum()) / NS_PER_S)
    return family


def _floors(named: dict[str, StrategyResult]) -> Metric:
    family = _gauge("connbench_harness_floor_seconds", "What connbench itself adds to a latency.")
    for label, strategy in named.items():
        floor = summarize(strategy).floor_ns
        if floor is not None:
            family.add_metric([label], floor / NS_PER_S)
    return family


def _knees(named: dict[str, StrategyResult]) -> Iterator[Metric]:
    """A strategy without a knee, or without a failure, has no sample in that metric."""
    knees = {label: find_knee(strategy) for label, strategy in named.items()}
    baseline = _gauge("connbench_baseline_seconds", "Median latency of the first 5 % of the connections.")
    knee = _gauge("connbench_knee_attempt", "First attempt from which on the rolling median stays above 3 x baseline.")
    used = _gauge("connbench_knee_used_ratio", "Share of the range that was in use at the knee.")
    failed = _gauge("connbench_first_failed_attempt", "First attempt that failed.")
    for label, found in knees.items():
        values = (found.baseline_ns / NS_PER_S or None, found.connection, found.share, found.first_failed)
        for family, value in zip((baseline, knee, used, failed), values, strict=True):
            if value is not None:
                family.add_metric([label], value)
    yield from (baseline, knee, used, failed)


def _part_metrics(result: Result, named: Mapping[str, StrategyResult]) -> Iterator[Metric]:
    """Attempts, errors, latency and rate, with `by` (source, target, client) and `part` as labels.

    As many parts as the tables show: each would be some series more for whoever stores them.

    Args:
        result: What was measured.
        named: Its strategies by the label that their metrics have.
    """
    from prometheus_client.core import GaugeMetricFamily

    labels = ["strategy", "by", "part"]
    attempts = GaugeMetricFamily("connbench_part_attempts", "Attempts of a source, target or client.", labels=labels)
    errors = GaugeMetricFamily("connbench_part_errors", "Failed attempts of it.", labels=labels)
    latency = GaugeMetricFamily(
        "connbench_part_latency_seconds", "Its latency: mean, p50 and p99.", labels=[*labels, "figure"]
    )
    rates = GaugeMetricFamily("connbench_part_connections_per_second", "Connections it had a second.", labels=labels)
    for label, strategy in named.items():
        for by in By:
            parts = split_by(result, strategy, by)
            for part in parts[:MOST_PARTS] if len(parts) > 1 else ():
                summary = summarize(part.strategy)
                place = [label, by.value, part.name]
                attempts.add_metric(place, summary.attempts)
                errors.add_metric(place, summary.errored.latency.count)
                for figure in ("mean", "p50", "p99") if summary.attempts else ():
                    latency.add_metric([*place, figure], getattr(summary.all.latency, figure) / NS_PER_S)
                if summary.rate is not None:
                    rates.add_metric(place, summary.rate)
    yield from (family for family in (attempts, errors, latency, rates) if family.samples)


def _of_router(named: Mapping[str, StrategyResult]) -> Iterator[Metric]:
    """What the router of `--link nat` counted."""
    from prometheus_client.core import CounterMetricFamily

    entries = _gauge(
        "connbench_conntrack_entries",
        "Entries of the router's conntrack table at the end of a round.",
        ["strategy", "round"],
    )
    events = CounterMetricFamily(
        "connbench_conntrack_events",
        "By how much the router's conntrack counters rose in all rounds; see conntrack -S.",
        labels=["strategy", "counter"],
    )
    for label, strategy in named.items():
        total = Counter[str]()
        for measured in strategy.rounds:
            entries.add_metric([label, str(measured.number)], measured.report.conntrack_entries)
            total.update(measured.report.counters)
        for name in CONNTRACK_COUNTERS:
            if name in total:
                events.add_metric([label, name.removeprefix(f"{CONNTRACK}.")], total[name])
    yield from (entries, events)


def _findings(result: Result) -> Metric:
    family = _gauge("connbench_findings", "Findings about the measurement; see docs/figures.md.", ["code", "severity"])
    for (code, severity), number in Counter((f.code, f.severity.value) for f in findings(result)).items():
        family.add_metric([code, severity], number)
    return family
