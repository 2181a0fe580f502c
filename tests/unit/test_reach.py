"""Whether a run uses enough of its ports to show the knee, and the advice if it does not."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any

import pytest

from connbench.analysis.gate import evaluate
from connbench.analysis.knee import find_knee
from connbench.model import (
    Churn,
    Close,
    Load,
    Namespace,
    Plan,
    PortRange,
    Protocol,
    RoundPlan,
    Spread,
    StrategySpec,
    can_show_half,
)
from connbench.planner.workload import find_unseen_knee
from connbench.report import run_report
from connbench.report.run_verdict import run_verdict
from connbench.thresholds import parse
from factories import BIND, PLAIN, PLAN, RANDOM, WINDOW, result_of, round_of, samples_of

RANGE = StrategySpec("range")
KERNEL, OLD = "6.18.0", "6.1.0-13-amd64"
TWO = ("127.9.9.1", "127.9.9.2")


def plan_of(*strategies: StrategySpec, connections: int = 10_000, **changes: Any) -> Plan:  # noqa: ANN401  # any field of Plan
    """A plan of the talk's range unless `changes` has another."""
    return replace(PLAN, strategies=strategies, connections=connections, **changes)


def with_load(spec: StrategySpec, **load: Any) -> StrategySpec:  # noqa: ANN401  # any field of Load
    """The strategy under a load."""
    return replace(spec, load=Load(**load))


@pytest.mark.parametrize(
    ("plan", "kernel", "is_seen"),
    [
        (plan_of(PLAIN), KERNEL, False),
        (plan_of(BIND), KERNEL, False),
        (plan_of(WINDOW, BIND), KERNEL, False),
        (plan_of(BIND, connections=28_306), KERNEL, False),
        (plan_of(BIND, connections=28_307), KERNEL, True),
        (plan_of(BIND, connections=28_307, sources=TWO), KERNEL, False),
        (plan_of(BIND, connections=56_563, sources=TWO), KERNEL, True),
        (plan_of(BIND, connections=28_307, sources=TWO, spread=Spread.FILL), KERNEL, True),
        (plan_of(BIND, connections=27_807, reserved=1000), KERNEL, True),
        (plan_of(BIND, connections=56_563, targets=(PLAN.targets * 2)), KERNEL, True),
        (plan_of(BIND, connections=28_307, targets=(PLAN.targets * 2)), KERNEL, False),
        (plan_of(with_load(PLAIN, fill=0.5)), KERNEL, False),
        (plan_of(with_load(PLAIN, fill=0.51)), KERNEL, True),
        (plan_of(with_load(PLAIN, fill=0.3, churn=Churn(50_000))), KERNEL, False),
        (plan_of(with_load(PLAIN, fill=0.3, churn=Churn(50_000, Close.FIN))), KERNEL, True),
        (plan_of(with_load(PLAIN, fill=0.3, churn=Churn(5_000, Close.FIN))), KERNEL, False),
        (plan_of(*(with_load(PLAIN, fill=fill) for fill in (0.3, 0.8))), KERNEL, True),
        (plan_of(*(with_load(PLAIN, connections=number) for number in (1000, 20_000))), KERNEL, False),
        (plan_of(with_load(PLAIN, protocol=Protocol.UDP)), OLD, True),
        (plan_of(RANDOM, WINDOW), OLD, True),
        (plan_of(PLAIN, connections=9, port_range=PortRange(30000, 30098)), KERNEL, True),
        (plan_of(RANGE), KERNEL, True),
        (plan_of(RANGE), OLD, False),
        (plan_of(PLAIN), "4.4.0", True),
        (plan_of(PLAIN, RANGE), "4.6.0", False),
    ],
)
def test_too_few_ports_in_use_are_said_where_the_search_has_a_slow_half(plan: Plan, kernel: str, is_seen: bool) -> None:
    """By the ports of one source and target that are not reserved; no finding is about a knee that a strategy lacks."""
    assert [finding.code for finding in find_unseen_knee(plan, kernel)] == ([] if is_seen else ["knee-unseen"])


@pytest.mark.parametrize("connections", [43, 44, 505, 506, 1000])
@pytest.mark.parametrize(
    ("kernel", "sources", "spread"),
    [
        ("6.18.0", TWO[:1], Spread.ROUND_ROBIN),
        ("6.18.0", TWO, Spread.ROUND_ROBIN),
        ("6.18.0", TWO, Spread.FILL),
        ("6.1.0", TWO[:1], Spread.ROUND_ROBIN),
    ],
)
@pytest.mark.parametrize("spec", [BIND, RANGE])
def test_plan_verdict_line_table_prediction_and_gate_judge_alike(
    spec: StrategySpec, kernel: str, sources: tuple[str, ...], spread: Spread, connections: int
) -> None:
    """Six places need to know whether the run could show a knee, and all give the same answer."""
    each = PortRange(20000, 20999)
    ports = 1000 * (1 if spread is Spread.FILL else len(sources))
    number = connections * ports // 1000
    plan = plan_of(spec, connections=number, port_range=each, sources=sources, spread=spread)
    source = [i % len(sources) if spread is Spread.ROUND_ROBIN else 0 for i in range(number)]
    run = result_of({spec: [round_of(samples_of([8_000] * number, source=source))]}, plan)
    run.environment["kernel"] = kernel
    measured = find_knee(run.strategies[0])
    shown = can_show_half(number, ports)
    unseen = not shown and spec.searches_one_parity_first(kernel)
    assert RoundPlan(plan, spec, 1).shows_half is measured.shows_half is shown
    assert bool(find_unseen_knee(plan, kernel)) is unseen
    if measured.is_judged:
        assert ("knee: cannot be seen" in run_report.text(run)) is unseen
        assert ("| not seen" in run_report.markdown(run)) is unseen
        assert ("cannot show" in run_verdict(run)[0]) is unseen
        assert ("Next: the same with " in run_verdict(run)[-1]) is unseen
    refused = evaluate([parse("knee < 50%")], run)
    assert bool(refused) is not shown


@pytest.mark.parametrize(
    ("plan", "advice"),
    [
        (plan_of(PLAIN), "give -n 10000 --port-range 9024-19023, or leave out -n: "),
        (plan_of(PLAIN, connections=20_000, sources=TWO), "give -n 20000 --port-range 9024-19023, "),
        (plan_of(PLAIN, connections=10_001, sources=TWO), "give -n 10002 --port-range 9024-14024, "),
        (plan_of(PLAIN, connections=100), "give -n 1000 --port-range 9024-10023, "),
        (plan_of(PLAIN, port_range=PortRange(30000, 59999)), "give -n 10000 --port-range 30000-39999, "),
        (plan_of(PLAIN, connections=9, port_range=PortRange(30000, 30199)), "leave out -n: "),
        (plan_of(PLAIN, replace(WINDOW, window=20_000)), "leave out -n: "),
        (plan_of(PLAIN, namespace=Namespace.HOST), "leave out -n: "),
        (plan_of(with_load(PLAIN, fill=0.3)), "give a larger share, as in --fill 80%"),
    ],
)
def test_remedy_for_too_few_ports_is_one(plan: Plan, advice: str) -> None:
    """The advice, followed literally, makes a plan that shows the knee."""
    [finding] = find_unseen_knee(plan, KERNEL)
    assert finding.advice.startswith(advice)
    if given := re.match(r"give -n (\d+) --port-range ([\d-]+),", finding.advice):
        followed = replace(plan, connections=int(given[1]), port_range=PortRange.parse(given[2]))
    elif "--fill" in finding.advice:
        followed = replace(plan, strategies=(with_load(PLAIN, fill=0.8),))
    else:
        followed = replace(plan, connections=RoundPlan(plan, PLAIN, 1).capacity)
    assert find_unseen_knee(followed, KERNEL) == []


def test_what_is_unseen_is_reported_in_figures() -> None:
    """The finding names the strategies, the number of connections, and the share of the ports."""
    [finding] = find_unseen_knee(plan_of(PLAIN, BIND, RANDOM), KERNEL)
    assert finding.text == (
        "plain and bind: 10,000 connections use 17.7% of the 56,512 ports; connect() turns slow once half of them are "
        "in use, which this run cannot show"
    )
    [finding] = find_unseen_knee(plan_of(PLAIN, StrategySpec("early")), KERNEL)
    assert "plain and early: 10,000 connections" in finding.text
    assert "; bind() and connect() turn slow once half of them are in use" in finding.text
    [finding] = find_unseen_knee(plan_of(PLAIN, connections=4), KERNEL)
    assert "use less than 0.1% of the 56,512 ports; " in finding.text
    [finding] = find_unseen_knee(plan_of(BIND, sources=TWO, reserved=6512), KERNEL)
    assert "use 10.0% of the 50,000 ports that each source has for each target; " in finding.text
