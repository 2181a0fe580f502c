"""Sources, targets and clients one by one: each one's ports, and how tables and metrics show them."""

from __future__ import annotations

import errno
from dataclasses import replace

import pytest
from prometheus_client.parser import text_string_to_metric_families

from connbench.analysis.parts import By, split_by
from connbench.model import Churn, Endpoint, Load, Phase, Protocol, StrategySpec
from connbench.report import run_report
from connbench.report.prometheus import prometheus
from connbench.report.run_report import markdown, part_tables
from connbench.results.result import Result
from factories import BIND, PLAIN, PLAN, RANDOM, result_of, round_of, samples_of

TARGETS = (Endpoint("127.9.9.2", 9023), Endpoint("127.9.9.2", 9022), Endpoint("127.9.9.2", 9021))
CLIENTS = replace(PLAIN, load=Load(concurrency=2))
UDP = replace(BIND, load=Load(protocol=Protocol.UDP))
CHURN = replace(BIND, load=Load(churn=Churn(6)), phase=Phase.CHURN)


def to_three_targets(spec: StrategySpec) -> Result:
    """Two attempts at each of three targets; the last of them fail."""
    samples = samples_of([10_000] * 6, target=[0, 1, 2] * 2, errno=[0] * 5 + [errno.EADDRNOTAVAIL])
    return result_of({spec: [round_of(samples)]}, replace(PLAN, targets=TARGETS))


def on_two_clients() -> Result:
    """Client 0 begins at 0 and 20 µs with 10 µs each, client 1 at 5 µs with 100 µs: it ends last."""
    samples = samples_of(
        [10_000, 100_000, 10_000],
        prepare_ns=[0, 0, 0],
        started_ns=[0, 5_000, 20_000],
        client=[0, 1, 0],
        port=[9024, 9025, 9027],
    )
    return result_of({CLIENTS: [round_of(samples)]})


@pytest.mark.parametrize(
    ("spec", "fills"), [(BIND, True), (PLAIN, True), (RANDOM, False), (UDP, False), (CHURN, False)], ids=str
)
def test_target_has_ports_of_its_own_where_they_are_taken_for_it_alone(spec: StrategySpec, *, fills: bool) -> None:
    """connect() finds the same port for another target; bind() to a port and UDP take it for all of them."""
    result = to_three_targets(spec)
    parts = split_by(result, result.strategies[0], By.TARGET)
    assert [part.name for part in parts] == [str(target) for target in TARGETS]
    assert {part.fills for part in parts} == {fills}
    assert {part.strategy.capacity for part in parts} == {len(PLAN.port_range) if fills else None}


def test_table_of_targets_has_positions_only_where_each_fills_a_range() -> None:
    """Knee and first failure by a target's own count stand in the table of bind, and not in that of random."""
    tables = [dict(part_tables(r, r.strategies[0])) for r in map(to_three_targets, (BIND, RANDOM))]
    of_bind, of_random = (found[By.TARGET] for found in tables)
    assert of_bind.header == ("target", "n", "errors", "mean", "p50", "p99", "knee", "first failed")
    assert of_bind.rows[2] == ("127.9.9.2:9021", "2", "1", "10.0 µs", "10.0 µs", "10.0 µs", "-", "2")
    assert of_random.header == of_bind.header[:6]


def test_clients_have_a_rate_each_and_one_together() -> None:
    """Connections a second are counted from a client's first begin to its last outcome, and over all clients."""
    result = on_two_clients()
    [(by, table)] = part_tables(result, result.strategies[0])
    assert (by, table.header[3]) == (By.CLIENT, "conn/s")
    assert table.rows == [
        ("0", "2", "0", "66,667", "10.0 µs", "10.0 µs", "10.0 µs", "10.0 µs", "10.0 µs"),
        ("1", "1", "0", "10,000", "100 µs", "100 µs", "100 µs", "-", "100 µs"),
        ("all", "3", "0", "28,571", "40.0 µs", "10.0 µs", "98.2 µs", "10.0 µs", "55.0 µs"),
    ]


def test_wall_time_ends_with_the_last_outcome() -> None:
    """The attempt that began last need not end last where clients connect at the same time."""
    assert on_two_clients().strategies[0].samples.wall_ns == 105_000


def test_client_table_of_a_full_range_fits_80_columns() -> None:
    """The widest figures of a run of 100,000 fit a terminal."""
    rows = 100_000
    samples = samples_of([123_456_789] * rows, client=[i % 2 for i in range(rows)])
    report = run_report.text(result_of({CLIENTS: [round_of(samples)]}), 80)
    assert "\nall     100,000" in report
    assert [line for line in report.splitlines() if len(line) > 80] == []


def test_markdown_has_a_table_for_each_column_that_differs() -> None:
    """Below the table of strategies stand those of their clients, under a line that names the strategy."""
    page = markdown(on_two_clients())
    assert "\n\n**plain, 2 clients** by client:\n\n| client " in page
    assert page.count("\n| 1 ") == 1
    assert "by source" not in page


def test_metrics_are_labelled_by_part() -> None:
    """Attempts and latency of each client are gauges; without parts there is no such metric, and 16 parts at most."""
    families = {f.name: f for f in text_string_to_metric_families(prometheus(on_two_clients()))}
    attempts = {s.labels["part"]: s.value for s in families["connbench_part_attempts"].samples}
    assert attempts == {"0": 2, "1": 1}
    p50 = [s for s in families["connbench_part_latency_seconds"].samples if s.labels["figure"] == "p50"]
    assert {s.labels["by"]: s.value for s in p50} == {"client": 100e-6}
    many = samples_of([1000] * 20, source=range(20))
    sources = tuple(f"127.9.9.{i + 1}" for i in range(20))
    page = prometheus(result_of({BIND: [round_of(many)]}, replace(PLAN, sources=sources)))
    assert page.count("connbench_part_attempts{") == 16
    assert "connbench_part" not in prometheus(result_of({BIND: [round_of(samples_of([1000]))]}))
