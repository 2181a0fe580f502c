"""Paths as a table, CSV and metrics, for `inspect` of one host and of many.

A column or a label `host` is there if the paths are those of several hosts.
"""

from __future__ import annotations

import csv as csv_module
import io
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Final

from connbench.model.time_wait import TIMES_LEFT_S
from connbench.report.blocks import Table
from connbench.results.inspection_file import PathRecord
from connbench.safe_text import csv_cell, printable
from connbench.units import NS_PER_S, count

if TYPE_CHECKING:
    from prometheus_client.core import GaugeMetricFamily
    from prometheus_client.metrics_core import Metric

LEFT_S = TIMES_LEFT_S[0]
"""The seconds of the column of connections that leave TIME_WAIT soon."""

HOST: Final = "host"

PathOfHost = tuple[str, PathRecord]
"""The name of a host, and a path there; the name is empty if there is one host only."""


# ---- the table


def path_table(paths: Sequence[PathOfHost], width: int | None, more: int, remark: str = "--top 0 shows all") -> Table:
    """A row for each path. What tells how full it is comes first; further columns are there if the width allows it.

    Args:
        paths: The paths.
        width: Columns of the terminal; None shows all columns.
        more: How many paths there are besides.
        remark: How to see those, too.
    """
    records = [path for _, path in paths]
    names = {"source -> target": [path.name for path in records]}
    if any(host for host, _ in paths):
        names = {HOST: [printable(host) for host, _ in paths], **names}
    columns = names | {
        "used": [count(path.used) for path in records],
        "share": [f"{path.used_share:.1%}" for path in records],
        "free": [count(path.free) for path in records],
        "ESTAB": [count(path.established) for path in records],
        "TIME_WAIT": [count(path.time_wait) for path in records],
        f"≤{LEFT_S} s left": [_or_dash(path.leaving(LEFT_S)) for path in records],
    }
    others = {"others": [count(sum(path.others.values())) for path in records]}
    parities = {"even": [count(path.even) for path in records], "odd": [count(path.odd) for path in records]}
    for further in (others, parities):
        if width is not None and _width(columns | further) > width:
            break
        columns |= further
    remarks = (f"and {count(more)} more path{'s' if more > 1 else ''}: {remark}",) if more else ()
    words = tuple(range(1, len(names)))
    return Table(tuple(columns), list(zip(*columns.values(), strict=True)), remarks=remarks, words=words)


def _width(columns: dict[str, list[str]]) -> int:
    """The columns of a terminal that a table takes."""
    first, *others = columns.items()
    return max(map(len, first[1])) + sum(2 + max(map(len, [title, *cells])) for title, cells in others)


def _or_dash(number: int | None) -> str:
    return "-" if number is None else count(number)


# ---- CSV


COLUMNS = (
    "namespace", "protocol", "source", "target", "target_port", "interface",
    "used", "usable", "free", "even", "odd", "established", "time_wait", "outside",
)  # fmt: skip
"""Attributes of a path that CSV has under their own names."""

FORECAST_COLUMNS = ("half", "ports_probed", "failing", "connect_ns", "until_knee", "until_exhaustion")
"""Attributes of a forecast, likewise."""

RATES = ("closing_per_s", "expiring_per_s")
GROWTH = ("growth_per_s", "exhausted_in_s")


def path_rows(paths: Sequence[PathOfHost], *, has_hosts: bool = False) -> str:
    """A header, and a row for each path; an empty cell is what nobody knows, or what there is not."""
    strategies = dict.fromkeys(one.strategy for _, path in paths for one in path.forecasts)
    written = io.StringIO()
    writer = csv_module.writer(written, lineterminator="\n")
    left = [f"time_wait_left_{s}s" for s in TIMES_LEFT_S]
    forecasts = [f"{name}_{column}" for name in map(_column, strategies) for column in FORECAST_COLUMNS]
    hosts = (HOST,) if has_hosts else ()
    writer.writerow((*hosts, *COLUMNS, "used_share", "others", *left, *RATES, *GROWTH, *forecasts))
    for host, path in paths:
        by_name = {one.strategy: one for one in path.forecasts}
        cells = [
            *(host for _ in hosts),
            *(getattr(path, name) for name in COLUMNS),
            path.used_share,
            sum(path.others.values()),
            *(path.leaving(s) for s in TIMES_LEFT_S),
            *(getattr(path, name) for name in (*RATES, *GROWTH)),
            *(getattr(by_name.get(name), column, None) for name in strategies for column in FORECAST_COLUMNS),
        ]
        writer.writerow([csv_cell(one) if isinstance(one, str) else one for one in cells])
    return written.getvalue()


def _column(strategy: str) -> str:
    """The name of a strategy as the beginning of a column's: `window` of `window 500`."""
    return strategy.split(maxsplit=1)[0].rstrip(",") if strategy.strip() else "unnamed"


# ---- metrics


PATH: Final = ("namespace", "protocol", "source", "target", "target_port")
"""The labels of a path."""


def gauge(name: str, documentation: str, *labels: str) -> GaugeMetricFamily:
    """A gauge of an inspection."""
    from prometheus_client.core import GaugeMetricFamily

    return GaugeMetricFamily(f"connbench_inspect_{name}", documentation, labels=labels)


def path_metrics(paths: Sequence[PathOfHost], *, has_hosts: bool = False) -> Iterator[Metric]:
    """What is in use on each path, and the next connect() there; times in seconds, as Prometheus wants them."""
    labels = (HOST, *PATH) if has_hosts else PATH
    labelled = [([*((host,) if has_hosts else ()), *_labels(path)], path) for host, path in paths]
    yield from _usage(labelled, labels)
    yield from _forecasts(labelled, labels)


def _usage(paths: Iterable[tuple[list[str], PathRecord]], names: tuple[str, ...]) -> Iterator[Metric]:
    used = gauge("used_ports", "Ports in use on a path, by parity.", *names, "parity")
    usable = gauge("usable_ports", "Ports that a path can have in use.", *names)
    share = gauge("used_ratio", "Share of the usable ports that is in use, 0 to 1.", *names)
    connections = gauge("connections", "Connections of a path by state.", *names, "state")
    leaving = gauge("time_wait_left", "Connections with at most so many seconds of TIME_WAIT left.", *names, "seconds")
    figures = {
        "closing_per_s": gauge("closing_per_second", "Connections that entered TIME_WAIT, a second.", *names),
        "expiring_per_s": gauge("expiring_per_second", "Connections that will leave TIME_WAIT, a second.", *names),
        "opened_per_s": gauge(
            "opened_per_second", "Connections opened between the last two dumps of a watch, a second.", *names
        ),
        "gone_per_s": gauge("gone_per_second", "Connections gone between them, a second.", *names),
        "growth_per_s": gauge("growth_per_second", "Ports a second by which a path grows.", *names),
        "exhausted_in_s": gauge("exhausted_in_seconds", "Time until no port is free at this growth.", *names),
    }
    for labels, path in paths:
        used.add_metric([*labels, "even"], path.even)
        used.add_metric([*labels, "odd"], path.odd)
        usable.add_metric(labels, path.usable)
        share.add_metric(labels, path.used_share)
        states = {"ESTAB": path.established, "TIME-WAIT": path.time_wait} | dict(path.others)
        for state, number in states.items():
            connections.add_metric([*labels, state], number)
        for left in path.time_wait_left:
            leaving.add_metric([*labels, str(left.within_s)], left.connections)
        for name, family in figures.items():
            value = getattr(path, name)
            if value is not None:
                family.add_metric(labels, value)
    yield from (used, usable, share, connections, leaving, *figures.values())


def _forecasts(paths: Iterable[tuple[list[str], PathRecord]], names: tuple[str, ...]) -> Iterator[Metric]:
    labels = (*names, "strategy")
    families = {
        "ports_probed": gauge("next_ports_probed", "Ports that the next connect() probes.", *labels),
        "connect_ns": gauge("next_connect_seconds", "Time that the next connect() takes, by the model.", *labels),
        "failing": gauge("next_failing_ratio", "Share of the searches that find no port, 0 to 1.", *labels),
        "until_knee": gauge("until_knee_connections", "Connections until connect() is slow; 0 from then on.", *labels),
        "until_exhaustion": gauge("until_exhaustion_connections", "Connections until no port is free.", *labels),
    }
    for path_labels, path in paths:
        for one in path.forecasts:
            for name, family in families.items():
                value = getattr(one, name)
                if value is not None:
                    family.add_metric([*path_labels, one.strategy], value / NS_PER_S if name == "connect_ns" else value)
    yield from families.values()


def _labels(path: PathRecord) -> list[str]:
    return [path.namespace, path.protocol, path.bound_source, path.target, str(path.target_port)]
