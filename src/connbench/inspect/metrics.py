"""An inspection as metrics for Prometheus: in a file for node_exporter's textfile collector, or over HTTP.

The totals of each namespace are always there; of the paths those that the inspection has, so that `--top` bounds the
number of series.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Final

import numpy as np
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import GaugeMetricFamily, InfoMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

import connbench
from connbench.inspect.inspection import Inspection, Row
from connbench.inspect.sockets import PROTOCOLS, STATE_NAMES, State
from connbench.units import NS_PER_S

PATH: Final = ("namespace", "protocol", "source", "target", "target_port")
"""The labels of a path."""


def prometheus(inspection: Inspection) -> str:
    """The metrics in Prometheus's text format, without timestamps, which node_exporter would refuse."""
    registry = CollectorRegistry()
    registry.register(InspectionCollector(inspection))
    return generate_latest(registry).decode()


class InspectionCollector(Collector):
    """The collector that prometheus_client calls for the metrics.

    Attributes:
        inspection: What they are made of; None as long as there is none.
    """

    def __init__(self, inspection: Inspection | None = None) -> None:
        self.inspection = inspection

    def collect(self) -> Iterator[Metric]:
        """Yield every metric."""
        if self.inspection:
            yield from metrics(self.inspection)


def metrics(inspection: Inspection) -> Iterator[Metric]:
    """The totals, the paths and the number of findings; times in seconds, as Prometheus wants them."""
    yield _info(inspection)
    yield from _totals(inspection)
    yield from _paths(inspection.rows)
    yield from _forecasts(inspection.rows)
    findings = _gauge("findings", "Findings of the inspection.", "code", "severity")
    for (code, severity), number in Counter((one.code, one.severity.value) for one in inspection.findings).items():
        findings.add_metric([code, severity], number)
    yield findings


def _gauge(name: str, documentation: str, *labels: str) -> GaugeMetricFamily:
    return GaugeMetricFamily(f"connbench_inspect_{name}", documentation, labels=labels)


def _info(inspection: Inspection) -> Metric:
    model = inspection.model
    kernels = sorted({one.snapshot.settings.kernel for one in inspection.usages} - {""})
    values = {
        "version": connbench.__version__,
        "kernel": ", ".join(kernels),
        "search": model.algorithm.release if model else "",
        "search_known_by": model.known_by if model else "",
        "costs": model.calibration.origin if model else "",
    }
    return InfoMetricFamily("connbench_inspect", "What the forecasts rest on.", value=values)


def _totals(inspection: Inspection) -> Iterator[Metric]:
    """All sockets of each namespace, and its ports."""
    sockets = _gauge(
        "sockets", "All sockets of a namespace, by the states that occur.", "namespace", "protocol", "state"
    )
    paths = _gauge("paths", "Paths that have connections.", "namespace")
    ports = _gauge("range_ports", "Ports of the range that are not reserved.", "namespace")
    blocked = _gauge("blocked_ports", "Of these the ports that bind() took for every target.", "namespace")
    seconds = _gauge("read_seconds", "How long reading the sockets took.", "namespace")
    read_at = _gauge("read_timestamp_seconds", "When the sockets were read, by the host's clock.", "namespace")
    for usage in inspection.usages:
        snapshot, settings = usage.snapshot, usage.snapshot.settings
        for protocol, name in PROTOCOLS.items():
            states, numbers = np.unique(
                snapshot.sockets.state[snapshot.sockets.protocol == protocol], return_counts=True
            )
            named = Counter[str]()  # two states have one name
            for state, number in zip(states.tolist(), numbers.tolist(), strict=True):
                named[STATE_NAMES[State(state)]] += number
            for state_name, number in named.items():
                sockets.add_metric([snapshot.namespace, name, state_name], number)
        here = [snapshot.namespace]
        paths.add_metric(here, usage.paths)
        ports.add_metric(here, len(settings.ports) - settings.ports.count_of(settings.reserved))
        blocked.add_metric(here, len(usage.blocked))
        seconds.add_metric(here, snapshot.seconds)
        if not snapshot.origin:
            read_at.add_metric(here, round(time.time() - (time.monotonic() - snapshot.taken_at), 3))
    yield from (sockets, paths, ports, blocked, seconds, read_at)


def _paths(rows: Sequence[Row]) -> Iterator[Metric]:
    used = _gauge("used_ports", "Ports in use on a path, by parity.", *PATH, "parity")
    usable = _gauge("usable_ports", "Ports that a path can have in use.", *PATH)
    share = _gauge("used_ratio", "Share of the usable ports that is in use, 0 to 1.", *PATH)
    connections = _gauge("connections", "Connections of a path by state.", *PATH, "state")
    leaving = _gauge("time_wait_left", "Connections with at most so many seconds of TIME_WAIT left.", *PATH, "seconds")
    entering = _gauge("closing_per_second", "Connections that entered TIME_WAIT, a second.", *PATH)
    expiring = _gauge("expiring_per_second", "Connections that will leave TIME_WAIT, a second.", *PATH)
    opened = _gauge("opened_per_second", "Connections opened between the last two dumps of a watch, a second.", *PATH)
    gone = _gauge("gone_per_second", "Connections gone between them, a second.", *PATH)
    growth = _gauge("growth_per_second", "Ports a second by which a path grows.", *PATH)
    exhausted = _gauge("exhausted_in_seconds", "Time until no port is free at this growth.", *PATH)
    for row in rows:
        path, labels = row.path, _labels(row)
        used.add_metric([*labels, "even"], path.even)
        used.add_metric([*labels, "odd"], path.odd)
        usable.add_metric(labels, path.usable)
        share.add_metric(labels, path.share)
        named = {STATE_NAMES[State.ESTABLISHED]: path.established, STATE_NAMES[State.TIME_WAIT]: path.time_wait}
        for state, number in (named | dict(path.others)).items():
            connections.add_metric([*labels, state], number)
        for seconds, number in path.time_wait_left.items():
            leaving.add_metric([*labels, str(seconds)], number)
        for family, value in (
            (entering, path.closing_per_s),
            (expiring, path.expiring_per_s),
            (opened, row.rates.opened_per_s if row.rates else None),
            (gone, row.rates.gone_per_s if row.rates else None),
            (growth, row.growth_per_s),
            (exhausted, row.exhausted_in_s),
        ):
            if value is not None:
                family.add_metric(labels, value)
    yield from (used, usable, share, connections, leaving, entering, expiring, opened, gone, growth, exhausted)


def _forecasts(rows: Sequence[Row]) -> Iterator[Metric]:
    labels = (*PATH, "strategy")
    families = {
        "ports_probed": _gauge("next_ports_probed", "Ports that the next connect() probes.", *labels),
        "connect_ns": _gauge("next_connect_seconds", "Time that the next connect() takes, by the model.", *labels),
        "failing": _gauge("next_failing_ratio", "Share of the searches that find no port, 0 to 1.", *labels),
        "until_knee": _gauge("until_knee_connections", "Connections until connect() is slow; 0 from then on.", *labels),
        "until_exhaustion": _gauge("until_exhaustion_connections", "Connections until no port is free.", *labels),
    }
    for row in rows:
        for one in row.forecasts:
            for name, family in families.items():
                value = getattr(one, name)
                if value is not None:
                    family.add_metric(
                        [*_labels(row), one.strategy], value / NS_PER_S if name == "connect_ns" else value
                    )
    yield from families.values()


def _labels(row: Row) -> list[str]:
    path = row.path
    return [path.namespace, path.protocol, path.bound_source, path.target, str(path.target_port)]
