"""The report of a round, across the process boundary."""

from __future__ import annotations

import json
from dataclasses import asdict

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from connbench.model.round_report import RoundReport, WorkerReport
from factories import unhurried

counts = st.integers(0, 2**63)
workers = st.builds(
    WorkerReport,
    first=counts,
    attempts=counts,
    opened=counts,
    involuntary_switches=counts,
    memory_idle=counts,
    memory_full=counts,
    floor_ns=st.none() | counts,
)
reports = st.builds(
    RoundReport,
    settings=st.dictionaries(st.text(), st.text(), max_size=4),
    counters=st.dictionaries(st.text(), st.integers(), max_size=4),
    workers=st.lists(workers, max_size=4).map(tuple),
    established=counts,
    steal=st.floats(0, 1),
    engine_rss=counts,
    epoch_us=counts,
)


def worker(opened: int, floor_ns: int | None) -> WorkerReport:
    """A worker of this many connections."""
    return WorkerReport(0, opened, opened, 0, 0, 0, floor_ns)


@given(reports)
@unhurried
def test_report_survives_json(report: RoundReport) -> None:
    """The parent reads the very report that the engine wrote."""
    assert msgspec.convert(json.loads(json.dumps(asdict(report))), RoundReport) == report


def test_floor_is_that_of_the_first_worker_with_a_connection() -> None:
    """A worker without a connection has no floor, and the next one's counts."""
    assert RoundReport(workers=(worker(0, None), worker(3, 700), worker(3, 500))).floor_ns == 700


def test_floor_of_nothing_is_none() -> None:
    """Without a connection there is nothing to measure the harness with."""
    assert RoundReport(workers=(worker(0, None),)).floor_ns is None
    assert RoundReport().floor_ns is None
