"""What to do, in a few sentences with figures: the beginning of advice."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from connbench.advise.candidates import prefers_parity, searching
from connbench.advise.instructions import costs_text, done_by
from connbench.advise.situation import Advice, Candidate, Enough, Situation
from connbench.units import duration


def verdict(
    situation: Situation, tried: Sequence[Candidate], enough: Enough | None, advices: Sequence[Advice]
) -> tuple[str, ...]:
    """What to use and what it costs, how full the ports are, and what to do next; a line each."""
    by_topic = {one.topic: one for one in advices}
    if tried and tried[0].is_kept:
        return (_use(situation, tried[0]), _fullness(situation, tried), *_next(situation, tried[0]))
    sources = by_topic["sources"]
    first = by_topic["exhaustion"].line if "exhaustion" in by_topic else sources.reason
    lines = [_sentence(first)]
    if enough:
        of = replace(situation, sources=enough.sources)
        best = enough.tried[0]
        lines.append(f"{_sentence(sources.line)} {_use(of, best)}")
    else:
        lines.append(_sentence(sources.line))
    if "time-wait" in by_topic and situation.waiting():
        lines.append(_sentence(f"or {by_topic['time-wait'].line}"))
    return tuple(lines)


def _sentence(words: str) -> str:
    return f"{words[0].upper()}{words[1:]}."


def _use(situation: Situation, best: Candidate) -> str:
    turns = f", from {situation.sources} addresses in turn" if situation.sources > 1 else ""
    return f"Use {best.spec.label} ({done_by(situation, best.spec.traits)}){turns}: {costs_text(situation, best)}."


def _fullness(situation: Situation, tried: Sequence[Candidate]) -> str:
    """How many ports are in use, and what connect() by itself does with that."""
    strategy = tried[0].spec.traits
    taken, capacity, waiting = situation.taken(strategy), situation.capacity(strategy), situation.waiting(strategy)
    of_them = f" ({waiting:,} in TIME_WAIT)" if waiting else ""
    words = f"{taken:,} of {capacity:,} ports are in use, {taken / capacity:.1%}{of_them}"
    default = next((one for one in tried if one.spec.traits is searching(situation)), None)
    if default is None or not prefers_parity(situation, default.spec.traits):
        return f"{words}."
    half = situation.first_half * situation.spaces()
    if situation.each() > situation.first_half:
        same = "" if default is tried[0] else f": {default.spec.name} takes {duration(default.mean_ns)} there"
        return f"{words}, beyond the knee at {half + 1:,}{same}."
    return f"{words}; the knee is at {half + 1:,}."


def _next(situation: Situation, best: Candidate) -> list[str]:
    """The command that shows the same on this machine, as far as one does."""
    is_plain = situation.sources == situation.targets == 1
    taken = situation.taken(best.spec.traits)
    if not situation.is_here or not is_plain or best.spec.retries or taken < 2:
        return []
    window = f" --window {best.spec.window}" if best.spec.window else ""
    udp = " --protocol udp" if situation.protocol == "udp" else ""
    how = f"--strategy {best.spec.name}{window}{udp} --port-range {situation.ports} -n {taken}"
    return [f"Next: connbench run {how}"]
