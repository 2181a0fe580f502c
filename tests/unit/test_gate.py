"""Results against thresholds: what fails, with which message, and that missing data passes no gate."""

from __future__ import annotations

import errno
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from connbench.analysis.gate import evaluate
from connbench.errors import Interrupted, RunFault
from connbench.model import Churn, Load, Phase, PortRange
from connbench.results.result import Origin, Result, Samples
from connbench.thresholds import LATENCY, METRICS, OF_GROUP, OF_STRATEGY, Dimension, parse
from factories import BIND, PLAIN, RANDOM, WINDOW, result_of, round_of, samples_of

MIXED = samples_of(
    [10_000, 20_000, 30_000, 400_000, 0],
    prepare_ns=[1000, 1000, 1000, 1000, 2000],
    errno=[0, 0, 0, errno.EADDRNOTAVAIL, errno.EADDRINUSE],
    tries=[1, 1, 2, 1, 3],
)
"""Two even ports, an odd one, two failures."""


def run_of(*rounds: Samples) -> Result:
    """A run of `bind`."""
    return result_of({BIND: [round_of(samples, number) for number, samples in enumerate(rounds, 1)]})


def failures(result: Result, *expressions: str, base: Result | None = None) -> list[str]:
    """The failures, as messages."""
    asked = [parse(text, with_base=base is not None) for text in expressions]
    return [failure.text for failure in evaluate(asked, result, base)]


def over(ports: int, result: Result, sources: tuple[str, ...] = ("127.9.9.1",)) -> Result:
    """The same, measured over this many ports."""
    assert result.plan
    result.plan = replace(result.plan, port_range=PortRange(9024, 9024 + ports - 1), sources=sources)
    return result


def searched(slow_from: int, connections: int = 200) -> Samples:
    """Connections that turn ten times as slow at one of them, at a change of parity."""
    fast, slow = [10_000] * slow_from, [100_000] * (connections - slow_from)
    ports = [9024 + 2 * i for i in range(slow_from)] + [9025 + 2 * i for i in range(connections - slow_from)]
    return samples_of(fast + slow, port=ports)


@pytest.mark.parametrize(
    ("condition", "measured"),
    [
        ("min < 1s", "0.000002s"),
        ("mean > 0us", "92.4us"),
        ("p50 > 0µs", "20µs"),
        ("max > 0ms", "0.4ms"),
        ("even.mean > 0ns", "20000ns"),
        ("even.max > 0us", "30us"),
        ("odd.mean > 0us", "20us"),
        ("errored.mean > 0us", "201us"),
        ("errored.min > 0us", "2us"),
        ("p90 > 0us", "252us"),
        ("p99 > 0us", "385us"),
        ("p75 > 0us", "30us"),
        ("p12.5 > 0us", "6us"),
        ("p37.5 > 0us", "15us"),
        ("tries.p75 > 0", "2"),
        ("odd.acquire.p95 > 0us", "21us"),
        ("acquire.mean > 0us", "93.2us"),
        ("acquire.max > 0us", "401us"),
        ("even.acquire.mean > 0us", "21us"),
        ("odd.acquire.p99 > 0us", "21us"),
        ("tries.mean > 0", "1.6"),
        ("tries.max > 0", "3"),
        ("even.tries.max > 0", "2"),
        ("errors > 0", "2"),
        ("errors > 0%", "40%"),
        ("total > 0us", "462us"),
        ("wall > 0us", "466us"),
        ("attempts > 0", "5"),
        ("connected < 5", "3"),
        ("floor > 0us", "0.6us"),
    ],
)
def test_metric_is_measured_in_the_thresholds_unit(condition: str, measured: str) -> None:
    """Each metric is the summary's figure of that name, in the unit of the expression."""
    assert failures(run_of(MIXED), condition) == [f"bind: {condition}, measured {measured}"]


@pytest.mark.parametrize("name", METRICS)
def test_every_metric_of_the_table_has_a_value_or_a_reason(name: str) -> None:
    """Each row names an attribute of the summary, for each kind of limit that it can be compared with."""
    units = {Dimension.TIME: "h", Dimension.COUNT: "", Dimension.SHARE: "%"}
    for dimension in METRICS[name].dimensions:
        [text] = failures(run_of(MIXED), f"{name} <= 1000000{units[dimension]}")
        assert ", measured " in text or " cannot be judged: " in text


@pytest.mark.parametrize("name", [*OF_STRATEGY, *OF_GROUP])
def test_every_metric_is_in_the_docs(name: str) -> None:
    """docs/figures.md has it in the table under Thresholds: by itself, or before the figures of a group."""
    text = (Path(__file__).parents[2] / "docs" / "figures.md").read_text(encoding="utf-8")
    table = text.partition("\n## Thresholds\n")[2].partition("\n## ")[0]
    first_cells = [line.split("|")[1] for line in table.splitlines() if line.startswith("|")]
    assert any(re.search(rf"`{name}[`.]", cell) for cell in first_cells) or name == LATENCY


@pytest.mark.parametrize(
    ("condition", "holds"),
    [
        ("max > 400us", False),
        ("max >= 400us", True),
        ("max > 399us", True),
        ("max < 400us", False),
        ("max <= 400us", True),
        ("max < 401us", True),
        ("errors > 40%", False),
        ("errors >= 40%", True),
        ("errors > 2", False),
        ("even.mean > 1x odd.mean", False),
        ("even.mean >= 1x odd.mean", True),
        ("errored.mean > 10x odd.mean", True),
        ("errored.mean > 11x odd.mean", False),
        ("connected < 0.6x attempts", False),
        ("connected <= 0.6x attempts", True),
    ],
)
def test_a_limit_is_crossed_or_not(condition: str, holds: bool) -> None:
    """A threshold fails exactly if its comparison is true, the limit itself counted as the operator says."""
    assert bool(failures(run_of(MIXED), condition)) is holds


@pytest.mark.parametrize("failed", range(1, 100))
def test_a_share_is_exact_at_its_limit(failed: int) -> None:
    """Seven failures of a hundred are not more than 7 %, despite binary fractions."""
    samples = samples_of([1000] * 100, errno=[errno.EADDRNOTAVAIL] * failed + [0] * (100 - failed))
    assert failures(run_of(samples), f"errors > {failed}%", f"errors < {failed}%") == []


def test_ratio_tells_the_measured_ratio() -> None:
    """The ratio form shows the measured ratio."""
    samples = samples_of([10_000, 34_560])
    assert failures(run_of(samples), "odd.mean > 3x even.mean") == ["bind: odd.mean > 3x even.mean, measured 3.46x"]


@pytest.mark.parametrize(
    ("condition", "measured"), [("max > 5ms", "5.0001ms"), ("max > 0.6ms", "5ms"), ("max > 5.00009ms", "5.0001ms")]
)
def test_measured_value_shows_that_the_limit_is_crossed(condition: str, measured: str) -> None:
    """The message has three digits, or more where the difference needs them."""
    assert failures(run_of(samples_of([5_000_100])), condition) == [f"bind: {condition}, measured {measured}"]


def test_whole_numbers_are_not_rounded() -> None:
    """Digits before the point are never rounded."""
    assert failures(run_of(samples_of([1_234_567])), "max > 1ns") == ["bind: max > 1ns, measured 1234567ns"]


@pytest.mark.parametrize(
    ("condition", "reason"),
    [
        ("odd.mean > 1s", "no odd connection"),
        ("odd.mean > 3x even.mean", "no odd connection"),
        ("even.mean > 3x odd.acquire.mean", "no odd connection"),
        ("odd.tries.max > 1", "no odd connection"),
        ("errored.p99 > 1s", "no failed attempt"),
        ("p99.9 > 1s", "p99.9 needs 1,000 samples, and there are 1"),
        ("acquire.p99.99 > 1s", "p99.99 needs 10,000 samples, and there are 1"),
        ("odd.p95 > 1s", "no odd connection"),
        ("knee < 50%", "a knee needs 44 connections in a round"),
    ],
)
def test_what_has_no_data_fails(condition: str, reason: str) -> None:
    """A metric without data cannot be judged, and that is a failure."""
    assert failures(run_of(samples_of([10_000])), condition) == [f"bind: {condition} cannot be judged: {reason}"]


def test_any_percentile_is_numpys() -> None:
    """A percentile that no table has is computed from the same attempts, of all rounds."""
    few, more = samples_of(list(range(1, 7001))), samples_of(list(range(7001, 10_001)))
    expected = float(np.percentile(np.arange(1, 10_001), 99.99))
    assert failures(run_of(few, more), "p99.99 > 1ns") == [f"bind: p99.99 > 1ns, measured {expected:.0f}ns"]
    assert failures(run_of(few, more), f"p99.99 > {expected}ns", f"p99.99 < {expected}ns") == []


@pytest.mark.parametrize("condition", ["even.mean > 1s", "mean > 1s", "errors > 1", "errors > 1%", "total > 1s"])
def test_round_without_an_attempt_cannot_be_judged(condition: str) -> None:
    """A round that broke before its first attempt passes no threshold."""
    [text] = failures(run_of(samples_of([])), condition)
    assert text.startswith(f"bind: {condition} cannot be judged: no ")


def test_every_strategy_is_held_or_the_one_that_is_named() -> None:
    """Failures are listed by strategy; an expression that names one strategy is about no other."""
    result = result_of(
        {spec: [round_of(samples_of([10_000 * n]))] for n, spec in enumerate((PLAIN, WINDOW, RANDOM), 1)}
    )
    assert failures(result, "max > 15us", "window 500: mean > 1us", "plain: mean > 10us") == [
        "window 500: max > 15us, measured 20us",
        "window 500: mean > 1us, measured 20us",
        "random: max > 15us, measured 30us",
    ]


def test_phases_of_a_strategy_are_held_by_themselves() -> None:
    """A threshold is about the attempts of one phase, whose label it may name; churn has no knee."""
    filling = replace(PLAIN, load=Load(fill=0.8, churn=Churn(50)))
    churning = replace(filling, phase=Phase.CHURN)
    measured = {filling: [round_of(samples_of([10_000] * 80))], churning: [round_of(samples_of([30_000] * 50))]}
    result = over(100, result_of(measured))
    label = "plain, fill 80%, churn 50"
    assert failures(result, "p99 > 20us", f"{label}: errors >= 0", "knee < 99%", f"{label}: knee < 99%") == [
        f"{label}: p99 > 20us, measured 30us",
        f"{label}: errors >= 0, measured 0",
        f"{label}: knee < 99% cannot be judged: churn has no knee",
    ]


def test_planned_strategy_without_a_round_fails() -> None:
    """A threshold fails for a planned strategy without a round; what a partial result has is judged."""
    result = result_of({PLAIN: [round_of(samples_of([10_000, 10_000]), fault=RunFault("broken"))]})
    assert result.plan
    result.plan = replace(result.plan, strategies=(PLAIN, BIND))
    assert failures(result, "p99 > 1ms", "p99 > 1us") == [
        "plain: p99 > 1us, measured 10us",
        "bind: p99 > 1ms cannot be judged: it was not measured",
        "bind: p99 > 1us cannot be judged: it was not measured",
    ]


def test_knee_is_the_share_of_the_range_in_use() -> None:
    """A knee before the limit fails, in percent of the range's ports."""
    result = over(200, run_of(searched(100)))
    assert failures(result, "knee < 50%", "knee < 60%") == ["bind: knee < 60%, measured 50%"]


def test_without_a_knee_the_whole_range_counts_as_fast() -> None:
    """Where nothing turns slow in more than half of the range the knee counts as 100%."""
    steady = over(200, run_of(samples_of([10_000] * 200)))
    assert failures(steady, "knee < 99%", "knee < 100%", "knee >= 100%") == ["bind: knee >= 100%, measured 100%"]


@pytest.mark.parametrize(
    ("ports", "sources", "needed"), [(400, 1, "206"), (1000, 1, "506"), (200, 2, "206"), (1000, 2, "1,006")]
)
def test_knee_cannot_be_judged_by_less_than_half_of_the_range(ports: int, sources: int, needed: str) -> None:
    """A gate on the knee must not pass because a run used too few ports of each source to have one."""
    addresses = tuple(f"127.9.9.{i + 1}" for i in range(sources))
    steady = run_of(samples_of([10_000] * 200, source=[i % sources for i in range(200)]))
    assert failures(over(ports, steady, addresses), "knee < 40%", "knee > 99%") == [
        f"bind: {condition} cannot be judged: only 200 of {ports * sources:,} ports were in use, "
        f"and a knee at half of them needs {needed} or more"
        for condition in ("knee < 40%", "knee > 99%")
    ]


def test_knee_within_little_of_the_range_is_judged() -> None:
    """A knee that was found counts, however few ports were in use."""
    assert failures(over(1000, run_of(searched(100))), "knee < 40%") == ["bind: knee < 40%, measured 10%"]


def test_csv_knows_no_range_and_no_floor() -> None:
    """A CSV of attempts lacks these figures, so they cannot be judged; the others can."""
    result = replace(run_of(searched(100)), plan=None, origin=Origin.CSV)
    result.rounds[BIND] = [replace(r, report=type(r.report)()) for r in result.rounds[BIND]]
    steady = replace(run_of(samples_of([10_000] * 200)), plan=None, origin=Origin.CSV)
    assert failures(steady, "knee < 99%") == ["bind: knee < 99% cannot be judged: the range is not known"]
    assert failures(result, "knee < 10%", "floor > 1ms", "wall > 1s", "acquire.mean > 1s") == [
        "bind: knee < 10% cannot be judged: the range is not known",
        "bind: floor > 1ms cannot be judged: the harness floor is not known",
    ]


def test_talk_csv_tells_latency_alone() -> None:
    """The talk's CSV has neither acquire times, nor tries, nor the wall time."""
    result = replace(run_of(samples_of([10_000, 20_000])), plan=None, origin=Origin.TALK_CSV)
    assert failures(result, "p99 > 1s", "acquire.p99 > 1s", "even.tries.max > 1", "wall > 1s") == [
        f"bind: {condition} cannot be judged: a talk CSV does not contain it"
        for condition in ("acquire.p99 > 1s", "even.tries.max > 1", "wall > 1s")
    ]


def test_base_is_the_same_strategy_of_the_other_run() -> None:
    """`base.` takes the figure of the other run's strategy of that name and parameters."""
    base = result_of({BIND: [round_of(samples_of([10_000]))], PLAIN: [round_of(samples_of([99_000]))]})
    new = result_of({BIND: [round_of(samples_of([13_000]))], WINDOW: [round_of(samples_of([13_000]))]})
    assert failures(new, "p99 > 1.2x base.p99", "p99 > 1.4x base.p99", "base.p99 > 9us", "p99 > 1s", base=base)[:5] == [
        "bind: p99 > 1.2x base.p99, measured 1.3x",
        "bind: base.p99 > 9us, measured 10us",
        "window 500: p99 > 1.2x base.p99 cannot be judged: the base run does not have this strategy",
        "window 500: p99 > 1.4x base.p99 cannot be judged: the base run does not have this strategy",
        "window 500: base.p99 > 9us cannot be judged: the base run does not have this strategy",
    ]


def test_sums_are_compared_by_round_and_errors_by_share() -> None:
    """More rounds or attempts in the base make it no better."""
    once, twice = run_of(MIXED), run_of(MIXED, MIXED)
    sums = [f"{name} {sign} 1x base.{name}" for name in ("total", "wall", "attempts", "errors") for sign in "<>"]
    assert failures(twice, *sums, base=once) == failures(once, *sums, base=twice) == []
    assert failures(twice, "errors > 0.39x attempts") == ["bind: errors > 0.39x attempts, measured 0.4x"]


def test_errors_against_none() -> None:
    """Where the base has no failure there is no ratio, and any failure is more than any multiple."""
    none, some = run_of(samples_of([10_000] * 5)), run_of(MIXED)
    assert failures(some, "errors > 2x base.errors", base=none) == [
        "bind: errors > 2x base.errors, measured 40% against 0%"
    ]
    assert failures(none, "errors > 2x base.errors", base=none) == []


@pytest.mark.parametrize(
    ("factor", "rounds", "told"),
    [
        (2, 5, ["bind: slower: the total time is 2x the base's"]),
        (1, 5, []),
        (2, 4, ["bind: slower cannot be judged: there are too few rounds for a verdict"]),
    ],
)
def test_slower_is_the_verdict_on_the_total_time(factor: int, rounds: int, told: list[str]) -> None:
    """The word `slower` fails where the total time is slower, and where there are too few rounds to judge."""
    base, new = (run_of(*[samples_of([by * 10_000] * 5)] * rounds) for by in (1, factor))
    assert failures(new, "slower", base=base) == told


def test_strategy_that_only_the_base_has_fails() -> None:
    """A strategy that NEW did not measure fails the gate `slower`."""
    base = result_of({BIND: [round_of(MIXED)], PLAIN: [round_of(MIXED)]})
    assert failures(run_of(MIXED), "p99 > 2x base.p99", base=base) == [
        "plain: p99 > 2x base.p99 cannot be judged: it was not measured"
    ]


def test_partial_round_does_not_dilute_a_sum() -> None:
    """Sums are compared by complete rounds: one that was cut short makes none of them look faster."""
    whole = samples_of([11_000] * 100)
    cut = round_of(samples_of([11_000] * 5), 2, fault=Interrupted(2))
    base, new = run_of(samples_of([10_000] * 100)), result_of({BIND: [round_of(whole), cut]})
    assert failures(new, "total > 1.05x base.total", base=base) == ["bind: total > 1.05x base.total, measured 1.1x"]
    assert failures(result_of({BIND: [cut]}), "total > 1.05x base.total", base=base) == [
        "bind: total > 1.05x base.total cannot be judged: no round is complete"
    ]
