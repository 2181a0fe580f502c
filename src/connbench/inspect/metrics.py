"""An inspection as metrics for Prometheus: in a file for node_exporter's textfile collector, or over HTTP.

The totals of each namespace are always there; of the paths those that the inspection has, so that `--top` bounds the
number of series.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator

import numpy as np
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import InfoMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.openmetrics import exposition
from prometheus_client.registry import Collector

import connbench
from connbench.inspect.inspection import Inspection
from connbench.inspect.report import record
from connbench.inspect.sockets import PROTOCOLS, STATE_NAMES, State
from connbench.report.path_report import gauge, path_metrics


def prometheus(inspection: Inspection) -> str:
    """The metrics in Prometheus's text format, without timestamps, which node_exporter would refuse."""
    return generate_latest(_registered(inspection)).decode()


def openmetrics(inspection: Inspection) -> str:
    """The same metrics in OpenMetrics 1.0."""
    text: bytes = exposition.generate_latest(_registered(inspection))  # type: ignore[no-untyped-call]  # it has no types
    return text.decode()


def _registered(inspection: Inspection) -> CollectorRegistry:
    registry = CollectorRegistry()
    registry.register(InspectionCollector(inspection))
    return registry


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
    yield from path_metrics([("", record(row)) for row in inspection.rows])
    findings = gauge("findings", "Findings of the inspection.", "code", "severity")
    for (code, severity), number in Counter((one.code, one.severity.value) for one in inspection.findings).items():
        findings.add_metric([code, severity], number)
    yield findings


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
    sockets = gauge(
        "sockets", "All sockets of a namespace, by the states that occur.", "namespace", "protocol", "state"
    )
    paths = gauge("paths", "Paths that have connections.", "namespace")
    ports = gauge("range_ports", "Ports of the range that are not reserved.", "namespace")
    blocked = gauge("blocked_ports", "Of these the ports that bind() took for every target.", "namespace")
    seconds = gauge("read_seconds", "How long reading the sockets took.", "namespace")
    read_at = gauge("read_timestamp_seconds", "When the sockets were read, by the host's clock.", "namespace")
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
