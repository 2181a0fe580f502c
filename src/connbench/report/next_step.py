"""What to run after a run, for the end of its verdict."""

from __future__ import annotations

from collections.abc import Sequence

from connbench.analysis.course import Course, course_of
from connbench.model import MAX_PORT, PortRange, Protocol, RoundPlan
from connbench.results.result import Result, StrategyResult

WITHOUT_PARITY = {"range", "window", "partition"}
"""Strategies that a kernel from 6.8 on searches for without a preferred parity."""

FEWEST_PORTS = 1000
"""Ports of the smaller range that is recommended: walking fewer in vain hardly shows beside the rest of a connect()."""


def next_step(result: Result, strategies: Sequence[StrategyResult]) -> str:
    """The command that tells more than this run does, as a sentence.

    Args:
        result: The run.
        strategies: Those of it whose figures can be used, at least one.
    """
    plan = result.plan
    if result.is_partial:
        return "Next: the run was cut short; run it again for the rest."
    if plan is None:
        return "Next: connbench run measures the same on this machine."
    ports = f" --port-range {plan.port_range}" if plan.namespace.is_own else ""
    load = strategies[0].strategy.load
    if load.churn or load.protocol is Protocol.UDP:
        names = ",".join(dict.fromkeys(s.strategy.name for s in strategies))
        udp = " --protocol udp" if load.protocol is Protocol.UDP else ""
        churn = f" --churn {load.churn.replacements}" if load.churn else " --fill 50%-95%:5%"
        return f"Next: connbench sweep --strategy {names}{udp}{churn}{ports} shows what each costs as the range fills."
    courses = [course_of(s, plan) for s in strategies]
    if any(course.shows_half is False and course.knee.connection is None for course in courses):
        return _next_larger(
            plan.port_range, max(courses, key=lambda one: one.held), can_set_range=plan.namespace.is_own
        )
    if not {s.strategy.name for s in strategies} & WITHOUT_PARITY:
        return f"Next: connbench run --strategy range --strategy window{ports} shows what helps."
    planned = RoundPlan(plan, strategies[0].strategy, 1)
    sources = f" --sources {len(planned.sources)}" if len(planned.sources) > 1 else ""
    asked = f"-n {planned.connections}{sources}{ports}"
    return f"Next: connbench advise {asked} says which strategy and setting fit such a load."


def _next_larger(ports: PortRange, course: Course, *, can_set_range: bool) -> str:
    if not can_set_range:
        return f"Next: the same with -n {course.ports}, as many connections as there are ports."
    size = max(course.held, FEWEST_PORTS)
    low = min(ports.low, MAX_PORT + 1 - size)
    narrower = PortRange(low, low + size - 1)
    return f"Next: the same with --port-range {narrower} and without -n, so that the connections fill the range."
