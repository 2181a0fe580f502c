"""The metrics for Prometheus, read by prometheus_client's own parser and by promtool, against the summary's figures."""

from __future__ import annotations

import errno
import re
import subprocess
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client.metrics_core import Metric
from prometheus_client.openmetrics.parser import text_string_to_metric_families as openmetrics_families
from prometheus_client.parser import text_string_to_metric_families

from connbench.analysis.knee import find_knee
from connbench.analysis.soundness import findings
from connbench.analysis.summary import summarize
from connbench.errors import Interrupted
from connbench.model import StrategySpec
from connbench.report.prometheus import fleet_openmetrics, fleet_prometheus, openmetrics, prometheus
from connbench.results.fleet_file import Fleet, HostRecord
from connbench.results.result import Origin, Result, Round, StrategyResult
from connbench.safe_text import printable
from factories import BIND, PLAIN, RANDOM, WINDOW, result_of, round_of, samples_of, unhurried
from required_programs import require

Labels = frozenset[tuple[str, str]]
Metrics = dict[tuple[str, Labels], float]

RNG = np.random.default_rng(1)
MIXED = samples_of(
    RNG.lognormal(10, 2, 500).astype(int).tolist(),
    errno=[errno.EADDRNOTAVAIL if i % 10 == 9 else errno.EADDRINUSE if i % 50 == 25 else 0 for i in range(500)],
    tries=[1 + i % 7 for i in range(500)],
)
TURNING = samples_of([10_000] * 100 + [50_000] * 100, port=[*range(9024, 9224, 2), *range(9025, 9225, 2)])
RESULT = result_of(
    {
        PLAIN: [round_of(TURNING, 1), round_of(TURNING, 2)],
        RANDOM: [round_of(MIXED, 1), round_of(TURNING, 2, fault=Interrupted(2))],
    }
)


def samples_in(text: str) -> Iterator[tuple[tuple[str, Labels], float]]:
    """Every sample with name and labels, from families that each have a help text and occur once."""
    families = list(text_string_to_metric_families(text))
    assert len({family.name for family in families}) == len(families)
    for family in families:
        assert family.documentation, family.name
        assert family.type in {"gauge", "counter", "histogram"}, family.name
        for sample in family.samples:
            assert sample.timestamp is None
            yield (sample.name, frozenset(sample.labels.items())), sample.value


def metrics_of(result: Result) -> Metrics:
    """The samples of a result by name and labels, none of them twice."""
    found = list(samples_in(prometheus(result)))
    assert len(dict(found)) == len(found)
    return dict(found)


METRICS = metrics_of(RESULT)


def value(name: str, metrics: Metrics = METRICS, /, **labels: str) -> float | None:
    """A sample by its name, without the `connbench_` before it, and its labels."""
    return metrics.get((f"connbench_{name}", frozenset(labels.items())))


@pytest.mark.parametrize("strategy", RESULT.strategies, ids=lambda strategy: strategy.strategy.label)
def test_histograms_have_the_summarys_counts_and_sums(strategy: StrategyResult) -> None:
    """Count and sum of each histogram are those of the summary's groups."""
    label, summary = strategy.strategy.label, summarize(strategy)
    for parity, group in (("even", summary.even), ("odd", summary.odd), ("none", summary.errored)):
        latency = group.latency
        assert value("connect_seconds_count", strategy=label, parity=parity) == latency.count
        total = value("connect_seconds_sum", strategy=label, parity=parity)
        assert total == pytest.approx(latency.mean * latency.count / 1e9 if latency.count else 0.0)
    assert value("acquire_seconds_count", strategy=label) == summary.attempts
    acquiring = value("acquire_seconds_sum", strategy=label)
    assert acquiring == pytest.approx(summary.all.acquire.mean * summary.attempts / 1e9)
    assert value("tries_count", strategy=label) == summary.attempts
    assert value("tries_sum", strategy=label) == pytest.approx(summary.all.tries_mean * summary.attempts)


def test_buckets_hold_all_up_to_their_bound() -> None:
    """A bucket counts every latency up to its bound; the bounds go from 5 µs to 10 s, and on to infinity."""
    samples = RESULT.strategies[1].samples
    latencies = samples.latency_ns[samples.failed]
    buckets = {
        float(dict(labels)["le"]): number
        for (name, labels), number in METRICS.items()
        if name == "connbench_connect_seconds_bucket" and {("strategy", "random"), ("parity", "none")} <= labels
    }
    bounds = sorted(buckets)
    assert (bounds[0], bounds[-2], bounds[-1]) == (5e-6, 10.0, float("inf"))
    assert bounds[1:3] == [1e-5, 2e-5]
    assert buckets == {bound: (latencies <= bound * 1e9 + 0.1).sum() for bound in bounds}
    assert len(set(buckets.values())) > 5


def test_latency_on_a_bound_belongs_below_it() -> None:
    """`le` means less or equal: 10 µs to the nanosecond are in the bucket of 10 µs, one more is not."""
    metrics = metrics_of(result_of({PLAIN: [round_of(samples_of([10_000, 10_001], port=[2, 4]))]}))
    assert value("connect_seconds_bucket", metrics, strategy="plain", parity="even", le="1e-05") == 1
    assert value("connect_seconds_bucket", metrics, strategy="plain", parity="even", le="2e-05") == 2


def test_errors_are_counted_by_errno() -> None:
    """Each errno that occurred is a counter of its own; a strategy without errors has none."""
    errors = {labels: number for (name, labels), number in METRICS.items() if name == "connbench_errors_total"}
    assert errors == {
        frozenset({("strategy", "random"), ("errno", "EADDRNOTAVAIL")}): 50,
        frozenset({("strategy", "random"), ("errno", "EADDRINUSE")}): 10,
    }


def test_totals_are_those_of_complete_rounds() -> None:
    """A round that was cut short has no total time: it would look fast."""
    totals = {labels: number for (name, labels), number in METRICS.items() if name == "connbench_total_seconds"}
    assert totals == {
        frozenset({("strategy", "plain"), ("round", "1")}): 0.006,
        frozenset({("strategy", "plain"), ("round", "2")}): 0.006,
        frozenset({("strategy", "random"), ("round", "1")}): summarize(RESULT.strategies[1]).round_total_ns / 1e9,
    }


def test_knee_is_reported_where_there_is_one() -> None:
    """Baseline, knee, share of the range and first failure are gauges; a missing figure has no sample."""
    ports = RESULT.strategies[0].capacity
    assert ports
    assert value("baseline_seconds", strategy="plain") == 1e-5
    assert value("knee_attempt", strategy="plain") == 101
    assert value("knee_used_ratio", strategy="plain") == 100 / ports
    assert value("first_failed_attempt", strategy="plain") is None
    assert value("first_failed_attempt", strategy="random") == find_knee(RESULT.strategies[1]).first_failed == 10
    assert value("harness_floor_seconds", strategy="plain") == 6e-7


def test_findings_are_counted_by_code() -> None:
    """An alert can be set on a measurement that is not sound."""
    assert [f.code for f in findings(RESULT)] == ["partial"]
    assert value("findings", code="partial", severity="warning") == 1


def test_info_says_what_was_run() -> None:
    """Kernel and plan are labels of one metric that is always 1."""
    [(labels, number)] = [(labels, number) for (name, labels), number in METRICS.items() if name == "connbench_info"]
    assert number == 1
    assert dict(labels) == {
        "kernel": "6.8.0-test",
        "version": "",
        "origin": "run",
        "range": "9024-65535",
        "source": "127.9.9.1",
        "target": "127.9.9.2:9023",
        "namespace": "own network namespace",
        "link": "loopback",
        "delay_ms": "0",
        "listener": "backlog",
        "loop": "c",
        "seed": "1",
        "rounds": "2",
    }


def test_talk_csv_has_only_what_it_tells() -> None:
    """A file of port and latency has no acquire times and tries, and names no plan."""
    result = Result(None, {}, origin=Origin.TALK_CSV, name="x.csv")
    result.add(StrategySpec("x"), Round(1, TURNING))
    metrics = metrics_of(result)
    names = {name for name, _ in metrics}
    assert not any("acquire" in name or "tries" in name for name in names)
    assert value("connect_seconds_count", metrics, strategy="x", parity="even") == 100
    [labels] = [dict(labels) for name, labels in metrics if name == "connbench_info"]
    assert (labels["range"], labels["kernel"], labels["seed"], labels["origin"]) == ("", "", "", "talk CSV")


def test_round_without_an_attempt_has_empty_histograms() -> None:
    """Without attempts every bucket is 0, and missing figures have no sample."""
    metrics = metrics_of(result_of({PLAIN: [round_of(samples_of([]), fault=Interrupted(15))]}))
    assert value("connect_seconds_count", metrics, strategy="plain", parity="even") == 0
    assert value("tries_sum", metrics, strategy="plain") == 0
    assert not {"connbench_baseline_seconds", "connbench_total_seconds"} & {name for name, _ in metrics}


def test_strategies_of_one_label_are_distinguished() -> None:
    """Parameters that a label does not show make no series twice, which Prometheus would refuse as a whole."""
    twins = [StrategySpec("window", 500, WINDOW.placement, retries) for retries in (None, 0)]
    assert len({twin.label for twin in twins}) == 1
    metrics = metrics_of(result_of({spec: [round_of(TURNING)] for spec in twins}))
    labels = {dict(labels)["strategy"] for name, labels in metrics if name == "connbench_tries_count"}
    assert labels == {"window 500", "window 500 (2)"}


def as_openmetrics(text: str) -> list[Metric]:
    """The families of a text, as the reference parser of OpenMetrics reads them; it refuses what is not allowed."""
    assert text.endswith("# EOF\n")
    families: list[Metric] = list(openmetrics_families(text))  # type: ignore[no-untyped-call]  # it has no types
    return families


def test_openmetrics_has_the_same_samples() -> None:
    """With units in their metadata and the time of the run; without a time, or with none that is one, without it."""
    result = replace(RESULT, environment=RESULT.environment | {"time": "2026-11-29T08:00:00+00:00"})
    families = as_openmetrics(openmetrics(result))
    samples = [sample for family in families for sample in family.samples]
    assert {(one.name, frozenset(one.labels.items())): one.value for one in samples} == METRICS
    assert {float(one.timestamp) for one in samples if one.timestamp} == {1795939200.0}
    units = {family.name: family.unit for family in families}
    assert (units["connbench_connect_seconds"], units["connbench_tries"]) == ("seconds", "")
    assert units["connbench_knee_used_ratio"] == "ratio"
    for time in (None, "yesterday"):
        families = as_openmetrics(openmetrics(replace(RESULT, environment={"time": time})))
        assert {sample.timestamp for family in families for sample in family.samples} == {None}


TIMES = {"a": "2026-11-29T08:00:00+00:00", "b": "2026-11-29T08:01:00+00:00"}
HOSTS = Fleet(
    tuple(
        HostRecord(name, replace(RESULT, name=name, environment=RESULT.environment | {"time": time}), None)
        for name, time in TIMES.items()
    )
)


def test_promtool_checks_and_stores_the_metrics(tmp_path: Path) -> None:
    """It finds nothing to say about the text of a run and of hosts, and makes blocks of each in OpenMetrics."""
    promtool = require("promtool")
    alone = next(result for result in HOSTS.results)
    for name, classic, stored in (
        ("run", prometheus(alone), openmetrics(alone)),
        ("hosts", fleet_prometheus(HOSTS), fleet_openmetrics(HOSTS)),
    ):
        source, blocks = tmp_path / name, tmp_path / f"{name}-blocks"
        source.write_text(stored, encoding="utf-8")
        for words, text in (
            (("check", "metrics"), classic),
            (("tsdb", "create-blocks-from", "openmetrics", str(source), str(blocks)), ""),
        ):
            done = subprocess.run([promtool, *words], input=text, capture_output=True, text=True, check=False)
            assert (done.returncode, done.stderr) == (0, "")
        assert any(blocks.iterdir())


def test_openmetrics_of_hosts_has_the_time_of_each() -> None:
    """Each family once, with a label for the host; what is of all hosts has the time of the last run."""
    families = {one.name: one for one in as_openmetrics(fleet_openmetrics(HOSTS))}
    assert {float(sample.timestamp or 0) for one in families.values() for sample in one.samples} == {
        1795939200,
        1795939260,
    }
    assert {float(sample.timestamp or 0) for sample in families["connbench_fleet_measured"].samples} == {1795939260}
    family = families["connbench_total_seconds"]
    assert family.unit == "seconds"
    found = {(sample.labels["host"], float(sample.timestamp or 0)) for sample in family.samples}
    assert found == {("a", 1795939200.0), ("b", 1795939260.0)}


def test_text_is_the_classic_format() -> None:
    """Lines end in a newline, with nothing but help, type and samples: no `# EOF`, no `_created`."""
    text = prometheus(RESULT)
    assert text.endswith("\n")
    line = re.compile(r'# (HELP|TYPE) connbench_\w+ .+|connbench_\w+(\{(\w+="[^"\\]*",?)+\})? [0-9.e+-]+')
    assert [found for found in text.splitlines() if not line.fullmatch(found)] == []
    assert "_created" not in text


@unhurried
@given(st.text(), st.sampled_from(['"', "\\", "\n", '\\"', "\\n", "}"]))
def test_any_label_value_comes_back(text: str, special: str) -> None:
    """Quotes, backslashes and newlines in a file's texts are escaped, and read back unchanged."""
    name = text + special + text
    result = result_of({StrategySpec(name): [round_of(samples_of([1000]))]})
    result.environment["kernel"] = name
    found = metrics_of(result)
    assert as_openmetrics(openmetrics(result))
    assert {dict(labels)["strategy"] for metric, labels in found if metric == "connbench_tries_count"} == {
        printable(name)
    }
    assert [dict(labels)["kernel"] for metric, labels in found if metric == "connbench_info"] == [name]


def test_one_strategy_of_several_does_not_hide_another() -> None:
    """Every strategy has its own series."""
    metrics = metrics_of(result_of({PLAIN: [round_of(TURNING)], BIND: [round_of(MIXED)]}))
    assert value("acquire_seconds_count", metrics, strategy="plain") == 200
    assert value("acquire_seconds_count", metrics, strategy="bind") == 500
