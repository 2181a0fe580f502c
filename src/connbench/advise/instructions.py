"""How a strategy is used: in words, with its costs, and as code."""

from __future__ import annotations

from connbench.advise.situation import Advice, Candidate, Situation
from connbench.advise.snippet_spec import Way
from connbench.advise.snippets import snippets
from connbench.model import Protocol, StrategySpec
from connbench.strategies.userspace import MOST_DRAWS
from connbench.units import duration

_DONE_BY = {
    "plain": "connect() as it is",
    "bind": "bind() to an address; connect() chooses the port",
    "range": "IP_LOCAL_PORT_RANGE set to the whole range",
    "window": "IP_LOCAL_PORT_RANGE set to ports drawn at random",
    "random": "bind() to a port drawn at random, again until it is free",
}


def done_by(situation: Situation, name: str) -> str:
    """What a program does for a strategy, in words."""
    is_udp = situation.protocol is Protocol.UDP
    return "bind() to an address, which chooses the port" if is_udp and name == "bind" else _DONE_BY[name]


def use(situation: Situation, candidate: Candidate, topic: str = "use") -> Advice:
    """The advice to use a strategy."""
    spec = candidate.spec
    line = f"use {spec.label}" if topic == "use" else f"without IP_LOCAL_PORT_RANGE: {spec.label}"
    line += f" ({done_by(situation, spec.name)})"
    if situation.sources > 1:
        line += f", from {situation.sources} addresses in turn"
    return Advice(topic, line, costs_text(situation, candidate), code(situation, spec))


def costs_text(situation: Situation, candidate: Candidate) -> str:
    """What a strategy comes to, in words."""
    statistic = situation.slo.statistic if situation.slo else "p99"
    limit = "" if statistic == "mean" else f", {statistic} {duration(candidate.slo_ns)}"
    errors = f"{candidate.errors:.2%} of the attempts fail" if candidate.errors else "no attempt fails"
    return f"{duration(candidate.mean_ns)} an attempt{limit}, {errors}"


def code(situation: Situation, spec: StrategySpec) -> dict[str, str]:
    """What to paste for a strategy; nothing where connect() is used as it is."""
    if spec.name == "plain" or (spec.name == "bind" and situation.sources == 1):
        return {}
    is_drawn = spec.name == "random"
    ports = situation.longest_free if is_drawn else situation.ports
    window = {"range": len(ports), "window": spec.window}.get(spec.name)
    tries = MOST_DRAWS if is_drawn else 1 + (spec.retries or 0)
    way = Way(
        ports, window, tries, situation.sources, is_drawn, situation.protocol is Protocol.UDP, situation.longest_free
    )
    return snippets(way)
