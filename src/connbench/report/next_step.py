"""What to run after a run, for the end of its verdict."""

from __future__ import annotations

from collections.abc import Sequence

from connbench.analysis.knee import find_knee, is_unseen
from connbench.model import MAX_PORT, Churn, Close, Link, Load, Plan, PortRange, Protocol, RoundPlan, Spread
from connbench.model.plan import FEWEST_PORTS
from connbench.results.result import Result, StrategyResult
from connbench.units import per_second

WITHOUT_PARITY = {"range", "window", "partition"}
"""Strategies that a kernel from 6.8 on searches for without a preferred parity."""


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
        churn = _churn(load.churn) if load.churn else " --fill 50%-95%:5%"
        return (
            f"Next: connbench sweep --strategy {names}{udp}{churn}{_conditions(plan, load)}{ports} "
            "shows what each costs as the range fills."
        )
    planned = [RoundPlan(plan, s.strategy, 1) for s in strategies if _is_unseen(s, result.kernel)]
    fullest = max(planned, key=lambda one: one.fullest, default=None)
    if fullest and not fullest.shows_half:
        return _next_larger(fullest)
    if not {s.strategy.name for s in strategies} & WITHOUT_PARITY:
        kept = _conditions(plan, load)
        return f"Next: connbench run --strategy range --strategy window{kept}{ports} shows what helps."
    first = RoundPlan(plan, strategies[0].strategy, 1)
    sources = f" --sources {len(first.sources)}" if len(first.sources) > 1 else ""
    asked = f"-n {first.connections}{sources}{ports}"
    return f"Next: connbench advise {asked} says which strategy and setting fit such a load."


def _churn(churn: Churn) -> str:
    """How connections are replaced: closed by fin they leave ports in TIME_WAIT, which by rst nobody would see."""
    rate = "" if churn.rate is None else f" --churn-rate {per_second(churn.rate)}"
    return f" --churn {churn.replacements}{rate}{' --close fin' if churn.close is Close.FIN else ''}"


def _conditions(plan: Plan, load: Load) -> str:
    """Sources, lanes and link as they were, for with others the figures are not to be compared."""
    words = []
    sources = len(plan.sources[: load.sources])
    if sources > 1:
        words.append(f"--sources {sources}")
        if plan.spread is Spread.FILL:
            words.append("--spread fill")
    if load.lanes > 1:
        words.append(f"--lanes {load.lanes}")
    if plan.link is Link.VETH:
        words.append("--link veth" + (f" --delay {plan.delay_ms:g}ms" if plan.delay_ms else ""))
    return "".join(f" {word}" for word in words)


def _is_unseen(strategy: StrategyResult, kernel: str) -> bool:
    """Whether there were too few connections to look for a knee, or too few of the ports in use to see one."""
    knee = find_knee(strategy)
    return not knee.is_judged or is_unseen(strategy.strategy, knee, kernel)


def _next_larger(planned: RoundPlan) -> str:
    """The same with more of the ports in use: fewer ports, or more connections; more ports where there are too few."""
    if planned.strategy.load.fill is not None:
        return "Next: the same with a larger share, as in --fill 80%."
    ports = planned.smaller_range
    if planned.plan.namespace.is_own and planned.connections >= planned.capacity:
        low = min(planned.plan.port_range.low, MAX_PORT + 1 - FEWEST_PORTS)
        ports = PortRange(low, low + FEWEST_PORTS - 1)
    if ports is None:
        return f"Next: the same with -n {planned.capacity}, as many connections as there are ports."
    return f"Next: the same with --port-range {ports} and without -n, so that the connections fill the range."
