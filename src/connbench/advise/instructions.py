"""How a strategy is used: in words, with its costs, and as code."""

from __future__ import annotations

from connbench.advise.scenario import AdviceItem, Candidate, Scenario
from connbench.advise.snippet_spec import SnippetSpec
from connbench.advise.snippets import snippets
from connbench.draws import MOST_DRAWS
from connbench.model import Protocol, StrategySpec
from connbench.strategies import Strategy, Window
from connbench.units import duration


def done_by(scenario: Scenario, strategy: Strategy) -> str:
    """What a program does for a strategy, in words."""
    is_searched_in_bind = scenario.protocol is Protocol.UDP and strategy.chooses_source and strategy.is_default_search
    return "bind() to an address, which chooses the port" if is_searched_in_bind else strategy.usage


def use(scenario: Scenario, candidate: Candidate, topic: str = "use") -> AdviceItem:
    """The advice to use a strategy."""
    spec = candidate.spec
    line = f"use {spec.label}" if topic == "use" else f"without IP_LOCAL_PORT_RANGE: {spec.label}"
    line += f" ({done_by(scenario, spec.traits)})"
    if scenario.sources > 1:
        line += f", from {scenario.sources} addresses in turn"
    return AdviceItem(topic, line, costs_text(scenario, candidate), code(scenario, spec))


def costs_text(scenario: Scenario, candidate: Candidate) -> str:
    """What a strategy comes to, in words."""
    statistic = scenario.slo.statistic if scenario.slo else "p99"
    limit = "" if statistic == "mean" else f", {statistic} {duration(candidate.slo_ns)}"
    errors = f"{candidate.errors:.2%} of the attempts fail" if candidate.errors else "no attempt fails"
    return f"{duration(candidate.mean_ns)} an attempt{limit}, {errors}"


def code(scenario: Scenario, spec: StrategySpec) -> dict[str, str]:
    """What to paste for a strategy; nothing where connect() is used as it is."""
    strategy = spec.traits
    if strategy.is_default_search and (scenario.sources == 1 or not strategy.chooses_source):
        return {}
    is_drawn = strategy.draws_port
    ports = scenario.longest_free if is_drawn else scenario.ports
    window = len(ports) if strategy.window is Window.RANGE else spec.window
    tries = MOST_DRAWS if is_drawn else 1 + (spec.retries or 0)
    wanted = SnippetSpec(
        ports, window, tries, scenario.sources, is_drawn, scenario.protocol is Protocol.UDP, scenario.longest_free
    )
    return snippets(wanted)
