"""The inspections of a fleet as text, Markdown, JSON, CSV and metrics: one table over all hosts.

Table, rows and metrics of paths are those of `connbench inspect`, with the host.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from connbench.fleet.hosts import by_hosts, folded
from connbench.fleet.inspections import FleetInspection, HostInspection
from connbench.report import markdown as markdown_writer
from connbench.report import text as text_writer
from connbench.report.blocks import Block, Findings, Lines, Verdict
from connbench.report.json import json_text
from connbench.report.path_report import HOST, gauge, path_metrics, path_rows, path_table
from connbench.results.inspection_file import InspectionRecord
from connbench.results.json_file import FaultRecord
from connbench.safe_text import printable
from connbench.units import count, counted

if TYPE_CHECKING:
    from prometheus_client import CollectorRegistry
    from prometheus_client.metrics_core import Metric

SCHEMA = 1
"""Version of the JSON document; raised when a key changes its name or meaning."""

LABEL_COLUMNS = 9
"""Columns of the labels of the first lines, as `inspect` has them."""


def text(fleet: FleetInspection, width: int | None = None, *, bold: bool = False) -> str:
    """The table, the findings, and at the end the verdict.

    Args:
        fleet: What was found.
        width: Columns of the terminal; None leaves each line whole.
        bold: Whether the word `verdict` is bold.
    """
    return text_writer.write(report_blocks(fleet, width), width, bold=bold)


def markdown(fleet: FleetInspection) -> str:
    """The same to paste into an issue, the verdict first."""
    return markdown_writer.write(report_blocks(fleet))


def report_blocks(fleet: FleetInspection, width: int | None = None) -> list[Block]:
    """The verdict, which hosts were read, a row for each path, and the findings of all hosts."""
    rows = fleet.rows
    blocks: list[Block] = [
        Verdict(verdict(fleet)),
        Lines([f"{label:<{LABEL_COLUMNS}}{line}" for label, line in _facts(fleet)], True, LABEL_COLUMNS),
    ]
    if rows:
        blocks.append(path_table(rows, width, fleet.paths - len(rows)))
    findings = by_hosts((host, one) for host, found in fleet.answered for one in found.findings)
    if findings:
        blocks.append(Findings(findings))
    return blocks


def verdict(fleet: FleetInspection) -> tuple[str, ...]:
    """How full the fullest path of all hosts is, and what its host says about it."""
    of_hosts = f"{count(len(fleet.answered))} of {counted(len(fleet.hosts), 'host')}"
    if not fleet.answered:
        return ("No host has answered.",)
    if fleet.troubled:
        names = [host for host, _ in fleet.troubled]
        worst = names[0]
        said = next(inspection.verdict for host, inspection in fleet.answered if host == worst)
        where = f"{count(len(names))} of {counted(len(fleet.answered), 'host')}"
        first = f"connect() is slow or short of ports, or nearly so, on {where}: {printable(folded(names))}."
        return (first, *(printable(f"{worst}: {said[0]}" if not at else one) for at, one in enumerate(said)))
    if not fleet.rows:
        return (f"No path is short of ports: no outgoing connection has a port of its range on {of_hosts}.",)
    host, row = fleet.rows[0]
    uses = f"uses {count(row.used)} of {counted(row.usable, 'port')} ({row.used_share * 100:.1f} %)"
    return (f"No path is short of ports on {of_hosts}: the fullest one, {row.name} on {printable(host)}, {uses}.",)


def _facts(fleet: FleetInspection) -> Iterator[tuple[str, str]]:
    sockets = counted(sum(inspection.sockets for _, inspection in fleet.answered), "socket")
    yield "read", f"{sockets} of {counted(len(fleet.answered), 'host')}; {counted(fleet.paths, 'path')}"
    for one in fleet.lost:
        yield "lost", printable(str(one.fault))


# ---- for programs


def json(fleet: FleetInspection) -> str:
    """One JSON document: for each host its inspection, as `inspect` writes it, or its fault."""
    return json_text({"schema": SCHEMA, "verdict": verdict(fleet), "hosts": [_host(one) for one in fleet.hosts]})


def _host(one: HostInspection) -> dict[str, Any]:
    return {HOST: one.host, "fault": one.fault and FaultRecord.of(one.fault), "inspection": one.inspection}


def csv(fleet: FleetInspection) -> str:
    """A header, and a row for each path, with its host."""
    return path_rows(fleet.rows, has_hosts=True)


def prometheus(fleet: FleetInspection) -> str:
    """The metrics of `inspect` in Prometheus's text format, with a label `host`; the totals of a host are sums."""
    from prometheus_client import generate_latest

    return generate_latest(_registered(fleet)).decode()


def openmetrics(fleet: FleetInspection) -> str:
    """The same metrics in OpenMetrics 1.0."""
    from prometheus_client.openmetrics import exposition

    text: bytes = exposition.generate_latest(_registered(fleet))  # type: ignore[no-untyped-call]  # it has no types
    return text.decode()


def _registered(fleet: FleetInspection) -> CollectorRegistry:
    from prometheus_client import CollectorRegistry

    class Metrics:
        def collect(self) -> Iterator[Metric]:
            yield from _metrics(fleet)

    registry = CollectorRegistry()
    registry.register(Metrics())
    return registry


def _metrics(fleet: FleetInspection) -> Iterator[Metric]:
    up = gauge("up", "Whether the host has answered.", HOST)
    sockets = gauge("host_sockets", "All sockets of a host that were read.", HOST)
    paths = gauge("host_paths", "Paths of a host that have connections.", HOST)
    findings = gauge("findings", "Findings of the inspection.", HOST, "code", "severity")
    for one in fleet.hosts:
        up.add_metric([one.host], one.inspection is not None)
    for host, inspection in fleet.answered:
        sockets.add_metric([host], inspection.sockets)
        paths.add_metric([host], inspection.paths)
        for (code, severity), number in _kinds(inspection).items():
            findings.add_metric([host, code, severity], number)
    yield from (up, sockets, paths)
    yield from path_metrics(fleet.rows, has_hosts=True)
    yield findings


def _kinds(inspection: InspectionRecord) -> Counter[tuple[str, str]]:
    return Counter((one.code, one.severity.value) for one in inspection.findings)
