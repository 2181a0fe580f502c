"""What to do about so many connections: lines, each with its reason and, where there is some, code to paste."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from math import ceil

from connbench.advise.candidates import default_search, find_candidates, prefers_parity
from connbench.advise.scenario import Advice, AdviceItem, Candidate, Scenario, SufficientSources
from connbench.advise.snippets import SnippetSpec, snippets
from connbench.draws import MOST_DRAWS
from connbench.linux.sockopts import LOCAL_PORT_RANGE, NO_PORT
from connbench.model import Protocol, StrategySpec
from connbench.model.time_wait import ALWAYS, MOST_WAITING, TW_REUSE
from connbench.strategies import BIND, DRAWING, RANGE, Strategy, Window
from connbench.units import duration
from connbench.wording import listed

NEXT = "Next: "
"""The beginning of the sentence of the verdict that is a command."""

MOST_SOURCES = 4096
BELOW_KNEE = 0.9
"""Of half the range: closer to its end each search for one of the last ports of the parity is long."""

TRIED_SOURCES = 4
"""Numbers of sources tried, from the fewest that have ports enough."""


def advise(scenario: Scenario) -> Advice:
    """Work out the advice."""
    tried = find_candidates(scenario)
    items = [
        *_kernel(scenario),
        *_ports(scenario),
        *_exhaustion(scenario),
        *_time_wait(scenario),
        *_knee(scenario),
        *_left_out(scenario),
    ]
    kept = [one for one in tried if one.is_kept]
    if kept:
        items.append(use_item(scenario, kept[0]))
        without_option = next((one for one in kept if not one.spec.traits.sets_port_range), None)
        if without_option and without_option is not kept[0]:
            items.append(use_item(scenario, without_option, topic="without-option"))
    sufficient = None if kept else enough_sources(scenario)
    if not kept:
        items += more_sources(scenario, tried, sufficient)
    items += below_knee(scenario)
    said = verdict_sentences(scenario, tried, sufficient, items)
    return Advice(scenario, tuple(tried), tuple(items), said, sufficient)


def _kernel(scenario: Scenario) -> Iterator[AdviceItem]:
    if scenario.doubt or LOCAL_PORT_RANGE.name not in scenario.options:
        yield AdviceItem(
            "kernel",
            f"no range and no window without {LOCAL_PORT_RANGE.name}",
            scenario.doubt or f"Linux {LOCAL_PORT_RANGE.since} has it; a distribution may have it by a backport",
        )


def _ports(scenario: Scenario) -> Iterator[AdviceItem]:
    taken, capacity, waiting = scenario.taken(), scenario.capacity(), scenario.waiting()
    share = f"{taken / capacity:.1%}" if taken <= capacity else f"{taken / capacity:,.1f} times as many as there are"
    kind = "" if scenario.protocol is Protocol.TCP else "UDP sockets "
    reason = f"{scenario.connections:,} {kind}open at once{_arrivals_text(scenario)}"
    if waiting and scenario.arrivals:
        law = f"{scenario.arrivals.rate:,g}/s x {scenario.seconds_waiting():g} s"
        most = f", cut to {MOST_WAITING}" if scenario.has_most_waiting() else ""
        reason += f", {waiting:,} in TIME_WAIT ({law}{most})"
    yield AdviceItem("ports", f"{taken:,} of {capacity:,} ports are in use, {share}", reason)


def _arrivals_text(scenario: Scenario) -> str:
    """How many are open by Little's law, and whether more were asked for."""
    arrivals = scenario.arrivals
    if arrivals is None or arrivals.hold is None:
        return ""
    law = f"{arrivals.rate:,g}/s x {arrivals.hold:g} s"
    return f" ({law})" if arrivals.at_once == scenario.connections else f" (-n; {law} are {arrivals.at_once:,})"


def _exhaustion(scenario: Scenario) -> Iterator[AdviceItem]:
    """When no port is left, where that comes about."""
    arrivals, capacity = scenario.arrivals, scenario.capacity()
    if arrivals is None or scenario.fits():
        return
    free = max(0, capacity - (scenario.connections - arrivals.at_once))  # others than the arrivals's stay open
    waiting = scenario.seconds_waiting()
    held = "" if arrivals.hold is None else f" {arrivals.hold:g} s open"
    kept = " and".join(filter(None, (held, f" {waiting:g} s in TIME_WAIT" if waiting else "")))
    yield AdviceItem(
        "exhaustion",
        f"at {arrivals.rate:,g}/s all {capacity:,} ports are in use after {free / arrivals.rate:,.1f} s",
        f"each port is in use for{kept}: from then on connect() fails until one is free",
    )


def _time_wait(scenario: Scenario) -> Iterator[AdviceItem]:
    """What takes TIME_WAIT off the ports."""
    if not scenario.waiting():
        return
    without = replace(scenario, client_closes=False)
    reusing = replace(scenario, time_wait=replace(scenario.time_wait, reuse=ALWAYS))
    is_less = reusing.waiting() < scenario.waiting()
    ways = [
        (without, "if the server closes first, {taken:,} ports are in use"),
        (reusing, f"with {TW_REUSE}=1, {{taken:,}}"),
    ]
    # Where there are too few ports, what leaves too few as well is no way out.
    lines = [words.format(taken=one.taken()) for one, words in ways[: 1 + is_less] if one.fits() or scenario.fits()]
    if lines:
        yield AdviceItem(
            "time-wait",
            "; ".join(lines),
            f"but not with {_drawing_names()}, whose bind() cannot take a port in TIME_WAIT" if is_less else "",
        )


def _knee(scenario: Scenario) -> Iterator[AdviceItem]:
    half = scenario.first_half
    total = half * scenario.spaces()
    walked = len(scenario.ports) // 2  # reserved ports too
    names = [one.name for one in (default_search(scenario), RANGE) if half and prefers_parity(scenario, one)]
    if not names or not scenario.fits():
        return
    taken = scenario.taken()
    cost = walked * float(scenario.calibration.port_ns_at(max(1, taken)))
    where = f"{taken:,} are beyond it" if scenario.each() > half else f"{taken:,} are {taken / total:.1%} of it"
    yield AdviceItem(
        "knee",
        f"the knee of {' and '.join(names)} is at {total + 1:,} ports in use, {where}",
        f"from there on a search probes {half:,} ports of one parity in vain, about {duration(cost)}",
    )


def _left_out(scenario: Scenario) -> Iterator[AdviceItem]:
    """Why a strategy that draws ports was not simulated, where the others have enough ports."""
    room = len(scenario.longest_free)
    stretch = f" in a row that are not reserved ({scenario.longest_free})" if scenario.reserved_here else ""
    for strategy in DRAWING:
        if scenario.fits() and not scenario.has_free_stretch(strategy):
            seconds = scenario.seconds_waiting(strategy)
            yield AdviceItem(
                strategy.name,
                f"{strategy.name} is left out: it needs {scenario.each(strategy):,} ports of {room:,}{stretch}",
                f"none of its ports is free again before {seconds:g} s" if seconds > scenario.seconds_waiting() else "",
            )


def _drawing_names() -> str:
    return listed([one.name for one in DRAWING], " or ")


def usage_of(scenario: Scenario, strategy: Strategy) -> str:
    """What a program does for a strategy, in words."""
    is_searched_in_bind = scenario.protocol is Protocol.UDP and strategy.chooses_source and strategy.is_default_search
    return "bind() to an address, which chooses the port" if is_searched_in_bind else strategy.usage


def use_item(scenario: Scenario, candidate: Candidate, topic: str = "use") -> AdviceItem:
    """The advice to use a strategy."""
    spec = candidate.spec
    line = f"use {spec.label}" if topic == "use" else f"without IP_LOCAL_PORT_RANGE: {spec.label}"
    line += f" ({usage_of(scenario, spec.traits)})"
    if scenario.sources > 1:
        line += f", from {scenario.sources} addresses in turn"
    return AdviceItem(topic, line, costs_of(scenario, candidate), snippets_for(scenario, spec))


def costs_of(scenario: Scenario, candidate: Candidate) -> str:
    """What a strategy comes to, in words."""
    statistic = scenario.slo.statistic if scenario.slo else "p99"
    limit = "" if statistic == "mean" else f", {statistic} {duration(candidate.slo_ns)}"
    errors = f"{candidate.errors:.2%} of the attempts fail" if candidate.errors else "no attempt fails"
    return f"{duration(candidate.mean_ns)} an attempt{limit}, {errors}"


def snippets_for(scenario: Scenario, spec: StrategySpec) -> dict[str, str]:
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


def _numbers(scenario: Scenario) -> list[int]:
    """Numbers of source addresses to try: the fewest that have ports enough and some more, up to below the knee."""
    a_source = scenario.spaces() // scenario.sources
    fewest = max(scenario.sources + 1, ceil(scenario.taken() / (scenario.free * a_source)))
    below_half = ceil(scenario.taken() / max(1, scenario.first_half * a_source))
    return sorted({*range(fewest, fewest + TRIED_SOURCES), max(fewest, below_half)})


def enough_sources(scenario: Scenario) -> SufficientSources | None:
    """The fewest of those numbers with which a strategy keeps budget and SLO."""
    for number in _numbers(scenario):
        candidates = find_candidates(replace(scenario, sources=number)) if number <= MOST_SOURCES else []
        if candidates and candidates[0].is_kept:
            return SufficientSources(number, tuple(candidates))
    return None


def more_sources(
    scenario: Scenario, candidates: Sequence[Candidate], sufficient: SufficientSources | None
) -> Iterator[AdviceItem]:
    """How many addresses it takes, if any number does."""
    why = _why_not(scenario, candidates)
    if sufficient:
        line = f"use {sufficient.sources} source addresses instead of {scenario.sources}"
        yield AdviceItem("sources", line, why)
        yield use_item(replace(scenario, sources=sufficient.sources), sufficient.candidates[0])
        return
    numbers = _numbers(scenario)
    tried_numbers = [str(number) for number in numbers if number <= MOST_SOURCES]
    if not tried_numbers:
        line = f"it takes {numbers[0]:,} source addresses or more"
        advised = "; more ports (--port-range) or targets take fewer"
    else:
        line = f"nothing keeps {_bounds(scenario)} with {', '.join(tried_numbers)} source addresses"
        advised = "; allow more errors (--error-budget) or more time (--slo)"
    yield AdviceItem("sources", line, why + advised)


def _why_not(scenario: Scenario, candidates: Sequence[Candidate]) -> str:
    """Why nothing does with the sources there are."""
    if not scenario.fits():
        waiting = scenario.waiting()
        of_them = f" ({scenario.connections:,} open, {waiting:,} in TIME_WAIT)" if waiting else ""
        return f"{scenario.taken():,} ports are needed{of_them}, and there are {scenario.capacity():,}"
    if not candidates:
        return (
            f"this kernel has no option to choose a source with and leave it the port, and {_drawing_names()} has"
            f" {len(scenario.longest_free):,} ports in a row that are not reserved, for {scenario.each(DRAWING[0]):,}"
        )
    first = candidates[0]
    nearest = f"{first.spec.label}, {first.errors:.2%} errors, {duration(first.slo_ns)}"
    return f"no strategy keeps {_bounds(scenario)} with {_many(scenario.sources)}; nearest: {nearest}"


def below_knee(scenario: Scenario) -> Iterator[AdviceItem]:
    """How many addresses keep programs quick that can do nothing but bind to one, as nginx."""
    room = int(BELOW_KNEE * scenario.first_half)
    room *= scenario.spaces() // scenario.sources
    is_past = scenario.each() > scenario.first_half and prefers_parity(scenario, default_search(scenario))
    if not is_past or not room or NO_PORT.name not in scenario.options:
        return
    number = ceil(scenario.taken() / room)
    if number > MOST_SOURCES:
        return
    found = snippets_for(replace(scenario, sources=number), StrategySpec(BIND.name))
    yield AdviceItem(
        "below-knee",
        f"if only the source address can be chosen: bind, from {number} addresses in turn",
        f"each then has {ceil(scenario.taken() / number):,} ports in use, at most {BELOW_KNEE:.0%} of the way to"
        " its knee",
        {"nginx": found["nginx"]},
    )


def _many(sources: int) -> str:
    return "one source address" if sources == 1 else f"{sources} source addresses"


def _bounds(scenario: Scenario) -> str:
    budget = f"{scenario.budget:.2%} errors"
    return budget if scenario.slo is None else f"{budget} and {scenario.slo.text}"


def verdict_sentences(
    scenario: Scenario,
    candidates: Sequence[Candidate],
    sufficient: SufficientSources | None,
    items: Sequence[AdviceItem],
) -> tuple[str, ...]:
    """What to use and what it costs, how full the ports are, and what to do next; a line each."""
    by_topic = {one.topic: one for one in items}
    if candidates and candidates[0].is_kept:
        return (
            _use(scenario, candidates[0]),
            _fullness(scenario, candidates),
            *_next(scenario, candidates[0]),
        )
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
    return f"Use {best.spec.label} ({usage_of(scenario, best.spec.traits)}){turns}: {costs_of(scenario, best)}."


def _fullness(scenario: Scenario, candidates: Sequence[Candidate]) -> str:
    """How many ports are in use, and what connect() by itself does with that."""
    strategy = candidates[0].spec.traits
    taken, capacity, waiting = scenario.taken(strategy), scenario.capacity(strategy), scenario.waiting(strategy)
    of_them = f" ({waiting:,} in TIME_WAIT)" if waiting else ""
    words = f"{taken:,} of {capacity:,} ports are in use, {taken / capacity:.1%}{of_them}"
    default = next((one for one in candidates if one.spec.traits is default_search(scenario)), None)
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
    return [f"{NEXT}connbench run {how}"]
