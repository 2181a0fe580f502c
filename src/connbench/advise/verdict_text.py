"""What to do, in a few sentences with figures: the beginning of advice."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from connbench.advise.candidates import prefers_parity, searching
from connbench.advise.instructions import costs_text, done_by
from connbench.advise.scenario import AdviceItem, Candidate, Scenario, SufficientSources
from connbench.units import duration


def verdict(
    scenario: Scenario,
    candidates: Sequence[Candidate],
    sufficient: SufficientSources | None,
    items: Sequence[AdviceItem],
) -> tuple[str, ...]:
    """What to use and what it costs, how full the ports are, and what to do next; a line each."""
    by_topic = {one.topic: one for one in items}
    if candidates and candidates[0].is_kept:
        return (_use(scenario, candidates[0]), _fullness(scenario, candidates), *_next(scenario, candidates[0]))
    sources = by_topic["sources"]
    first = by_topic["exhaustion"].line if "exhaustion" in by_topic else sources.reason
    lines = [_sentence(first)]
    if sufficient:
        of = replace(scenario, sources=sufficient.sources)
        best = sufficient.candidates[0]
        lines.append(f"{_sentence(sources.line)} {_use(of, best)}")
    else:
        lines.append(_sentence(sources.line))
    if "time-wait" in by_topic and scenario.waiting():
        lines.append(_sentence(f"or {by_topic['time-wait'].line}"))
    return tuple(lines)


def _sentence(words: str) -> str:
    return f"{words[0].upper()}{words[1:]}."


def _use(scenario: Scenario, best: Candidate) -> str:
    turns = f", from {scenario.sources} addresses in turn" if scenario.sources > 1 else ""
    return f"Use {best.spec.label} ({done_by(scenario, best.spec.traits)}){turns}: {costs_text(scenario, best)}."


def _fullness(scenario: Scenario, candidates: Sequence[Candidate]) -> str:
    """How many ports are in use, and what connect() by itself does with that."""
    strategy = candidates[0].spec.traits
    taken, capacity, waiting = scenario.taken(strategy), scenario.capacity(strategy), scenario.waiting(strategy)
    of_them = f" ({waiting:,} in TIME_WAIT)" if waiting else ""
    words = f"{taken:,} of {capacity:,} ports are in use, {taken / capacity:.1%}{of_them}"
    default = next((one for one in candidates if one.spec.traits is searching(scenario)), None)
    if default is None or not prefers_parity(scenario, default.spec.traits):
        return f"{words}."
    half = scenario.first_half * scenario.spaces()
    if scenario.each() > scenario.first_half:
        same = "" if default is candidates[0] else f": {default.spec.name} takes {duration(default.mean_ns)} there"
        return f"{words}, beyond the knee at {half + 1:,}{same}."
    return f"{words}; the knee is at {half + 1:,}."


def _next(scenario: Scenario, best: Candidate) -> list[str]:
    """The command that shows the same on this machine, as far as one does."""
    is_plain = scenario.sources == scenario.targets == 1
    taken = scenario.taken(best.spec.traits)
    if not scenario.is_here or not is_plain or best.spec.retries or taken < 2:
        return []
    window = f" --window {best.spec.window}" if best.spec.window else ""
    udp = " --protocol udp" if scenario.protocol == "udp" else ""
    how = f"--strategy {best.spec.name}{window}{udp} --port-range {scenario.ports} -n {taken}"
    return [f"Next: connbench run {how}"]
