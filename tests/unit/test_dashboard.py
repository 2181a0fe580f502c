"""docs/grafana-*.json: each panel has a place, and each query asks for metrics and labels that exporters have."""

from __future__ import annotations

import json
import re
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import replace
from itertools import combinations
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.registry import Collector
from promql_parser import AggModifierType, AggregateExpr, Expr, VectorSelector, parse, walk

from connbench.inspect.forecast import Forecast
from connbench.inspect.inspection import inspect
from connbench.inspect.metrics import InspectionCollector
from connbench.inspect.rates import Rates
from connbench.inspect.snapshot import Settings, Snapshot
from connbench.inspect.sockets import Sockets
from connbench.model import PortRange
from connbench.portmodel.next_search import Half
from connbench.trace.counts import Maps, OffsetCounts, ParityCounts
from connbench.trace.trace_metrics import TraceCollector

DOCS = Path(__file__).parents[2] / "docs"
DASHBOARDS: dict[str, dict[str, Any]] = {
    path.stem: json.loads(path.read_text(encoding="utf-8")) for path in sorted(DOCS.glob("grafana-*.json"))
}
TARGETS = [
    pytest.param(panel, target, id=f"{name} {panel['title']} {target['refId']}")
    for name, dashboard in DASHBOARDS.items()
    for panel in dashboard["panels"]
    for target in panel.get("targets", [])
]
ADDED = {"instance", "job"}
"""Labels that Prometheus adds to whatever it scrapes."""

COLUMNS_OF_GRID = 24


def exported() -> dict[str, set[str]]:
    """The labels of each metric of both exporters, by its name."""
    sockets = Sockets.of(
        protocol=[6] * 10, family=[4] * 10, state=[6] * 10, expires_ms=range(50_000, 60_000, 1_000),
        local_port=range(40_000, 40_010), remote_port=[443] * 10,
    )  # fmt: skip
    found = inspect([Snapshot(sockets, Settings(PortRange(40_000, 40_099)))])
    forecast = Forecast("plain", Half.FIRST, 1.0, 0.0, 13_100.0, 40, 90)
    rows = [replace(row, rates=Rates(10.0, 100, 20), forecasts=[forecast]) for row in found.rows]
    maps: Maps = {
        "took": {"0": [{"min": 32768, "max": 65535, "count": 3}]},
        "errors": {"99": 1},
        "all_ports": {"0": 3},
        "switches_of": {"1,python": 1},
    }
    collectors: list[Collector] = [
        InspectionCollector(replace(found, rows=rows)),
        TraceCollector(ParityCounts.of(maps), lambda _: "/"),
        TraceCollector(OffsetCounts({30_000: 1}, {40_000: 1}, bound=0, failed=0, lost=0), lambda _: "/"),
    ]
    labels: dict[str, set[str]] = defaultdict(set)
    for collector in collectors:
        for family in collector.collect():
            for sample in family.samples:
                labels[sample.name] |= {*sample.labels, *ADDED}
    return labels


EXPORTED = exported()


def parsed(query: str) -> Expr:
    """A query as Prometheus gets it from Grafana."""
    return parse(query.replace("$__rate_interval", "1m"))


def parts_of(expression: Expr) -> list[Expr]:
    """All expressions in an expression."""
    found: list[Expr] = []
    walk(expression, found.append)
    return found


def selectors(query: str) -> Iterator[VectorSelector]:
    """The metrics that a query reads."""
    return (part for part in parts_of(parsed(query)) if isinstance(part, VectorSelector))


def labels_of(expression: Expr) -> set[str]:
    """The labels that the series of an expression have."""
    if isinstance(expression, AggregateExpr):
        modifier, inner = expression.modifier, labels_of(expression.expr)
        if str(expression.op) in {"topk", "bottomk"}:
            return inner
        if modifier is None:
            return set()
        named = set(modifier.labels)
        assert named <= inner, (named, inner)
        return named if modifier.type == AggModifierType.By else inner - named
    return set.union(
        set(), *(EXPORTED[part.name or ""] for part in parts_of(expression) if isinstance(part, VectorSelector))
    )


@pytest.mark.parametrize(("panel", "target"), TARGETS)
def test_queries_ask_for_what_there_is(panel: dict[str, Any], target: dict[str, Any]) -> None:
    """Each is PromQL; its metrics, their labels, those it keeps and those of its legend are the exporters'."""
    assert panel["datasource"] == target["datasource"] == {"type": "prometheus", "uid": "${datasource}"}
    read = list(selectors(target["expr"]))
    assert read
    for selector in read:
        assert selector.name in EXPORTED
        assert {matcher.name for matcher in selector.matchers.matchers} <= EXPORTED[selector.name]
        assert "instance" in {matcher.name for matcher in selector.matchers.matchers}
    [outermost, *_] = parts_of(parsed(target["expr"]))
    for part in parts_of(outermost):
        labels_of(part)
    named = set(re.findall(r"\{\{(\w+)\}\}", target.get("legendFormat", "")))
    assert named <= set.union(*(labels_of(part) for part in parts_of(outermost)))


def test_exporters_are_shown() -> None:
    """Each exporter has a dashboard, and that of trace has every metric of it."""
    assert set(DASHBOARDS) == {"grafana-inspect", "grafana-trace"}
    assert len({dashboard["uid"] for dashboard in DASHBOARDS.values()}) == len(DASHBOARDS)
    text = json.dumps(DASHBOARDS["grafana-trace"])
    of_trace = {name for name in EXPORTED if name.startswith("connect_") and not name.endswith(("_created", "_sum"))}
    assert [name for name in of_trace if name not in text] == []


@pytest.mark.parametrize("name", DASHBOARDS)
def test_every_variable_is_one_of_the_dashboard(name: str) -> None:
    """Queries, data sources and the variables' own queries name those alone, beside Grafana's `$__...`."""
    variables = {variable["name"]: variable for variable in DASHBOARDS[name]["templating"]["list"]}
    used = set(re.findall(r"\$\{?([a-z]\w*)", json.dumps(DASHBOARDS[name])))
    assert used == set(variables)
    for variable in variables.keys() & {"instance", "namespace"}:
        found = re.fullmatch(r"label_values\((.*), (\w+)\)", variables[variable]["definition"])
        assert found
        assert found[2] == variable
        [selector] = selectors(found[1])
        names = [selector.name] if selector.name else selector.matchers.matchers[0].value.split("|")
        assert all(variable in EXPORTED[metric] for metric in names)


@pytest.mark.parametrize("name", DASHBOARDS)
def test_panels_have_a_place_each(name: str) -> None:
    """Within the 24 columns, none over another, each with an id, a title and a sentence that says what it shows."""
    panels = DASHBOARDS[name]["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    cells = []
    for panel in panels:
        grid = panel["gridPos"]
        assert grid["x"] + grid["w"] <= COLUMNS_OF_GRID
        cells.append({(grid["x"] + x, grid["y"] + y) for x in range(grid["w"]) for y in range(grid["h"])})
        assert panel["title"]
        assert panel["type"] == "row" or panel["description"].endswith(".")
    assert not any(one & other for one, other in combinations(cells, 2))


def test_renamed_columns_are_those_of_the_queries() -> None:
    """The table names the value of each of its queries."""
    [table] = [panel for panel in DASHBOARDS["grafana-inspect"]["panels"] if panel["type"] == "table"]
    [organize] = [one for one in table["transformations"] if one["id"] == "organize"]
    assert list(organize["options"]["renameByName"]) == [f"Value #{target['refId']}" for target in table["targets"]]


def test_parts_are_found() -> None:
    """What the tests above rest on finds a wrong metric, label and query."""
    assert [selector.name for selector in selectors("sum(rate(one[$__rate_interval])) / max(two)")] == ["one", "two"]
    assert labels_of(parsed("sum by (parity) (connbench_inspect_used_ports)")) == {"parity"}
    assert "parity" not in labels_of(parsed("sum without (parity) (connbench_inspect_used_ports)"))
    assert "parity" in labels_of(parsed("topk(3, connbench_inspect_used_ports)"))
    with pytest.raises(AssertionError):
        labels_of(parsed("sum by (comm) (connbench_inspect_used_ports)"))
    with pytest.raises(ValueError, match="unclosed"):
        parsed("sum(")
