"""What to do about so many connections: lines, each with its reason and, where there is some, code to paste."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from math import ceil

from connbench.linux.sockopts import LOCAL_PORT_RANGE, NO_PORT
from connbench.model import StrategySpec
from connbench.model.time_wait import TIME_WAIT_S
from connbench.portsearch.candidates import candidates, is_possible
from connbench.portsearch.counsel import Advice, Candidate, Counsel, Enough, Flow, Situation
from connbench.portsearch.snippets import snippets
from connbench.portsearch.way import Way
from connbench.strategies import STRATEGIES
from connbench.strategies.userspace import MOST_DRAWS
from connbench.units import duration

MOST_SOURCES = 4096
BELOW_KNEE = 0.9
"""Of half the range: closer to its end each search for one of the last ports of the parity is long."""

DONE_BY = {
    "plain": "connect() as it is",
    "bind": "bind() to an address; connect() chooses the port",
    "range": "IP_LOCAL_PORT_RANGE set to the whole range",
    "window": "IP_LOCAL_PORT_RANGE set to ports drawn at random",
    "random": "bind() to a port drawn at random, again until it is free",
}

TRIED_SOURCES = 4
"""Numbers of sources tried, from the fewest that have ports enough."""


def advise(situation: Situation, flow: Flow | None) -> Counsel:
    """Work out the advice.

    Args:
        situation: What is asked.
        flow: At which rate, if that is known.
    """
    tried = candidates(situation)
    advices = [*_kernel(situation), *_load(situation, flow), *_knee(situation, tried)]
    kept = [one for one in tried if one.is_kept]
    if kept:
        advices.append(_use(situation, kept[0]))
        without_option = next((one for one in kept if one.spec.name in {"plain", "bind", "random"}), None)
        if without_option and without_option is not kept[0]:
            advices.append(_use(situation, without_option, topic="without-option"))
    enough = None if kept else _enough(situation)
    if not kept:
        advices += _more_sources(situation, tried, enough)
    advices += _below_knee(situation)
    return Counsel(situation, tuple(tried), tuple(advices), enough)


def _kernel(situation: Situation) -> Iterator[Advice]:
    if LOCAL_PORT_RANGE.name not in situation.options:
        yield Advice(
            "kernel",
            f"without {LOCAL_PORT_RANGE.name}: neither range nor window",
            f"Linux {LOCAL_PORT_RANGE.since} brings it, and distributions backport (Debian's 6.1 has it):"
            " `connbench strategies` asks the kernel it runs on",
        )


def _load(situation: Situation, flow: Flow | None) -> Iterator[Advice]:
    n, capacity = situation.connections, situation.capacity
    if flow and flow.hold is not None:
        by_flow = flow.at_once
        yield Advice(
            "concurrency",
            f"{n:,} connections are open at once",
            f"{flow.rate:g}/s x {flow.hold:g} s: rate times hold (Little's law)"
            + ("" if n == by_flow else f" are {by_flow:,}; the {n:,} that were asked for are more"),
        )
    places = f"{situation.free:,} ports" + (f" x {situation.sources} sources" if situation.sources > 1 else "")
    yield Advice(
        "share",
        f"{n / capacity:.1%} of the ports are in use" if n <= capacity else f"{n / capacity:,.1f} times the ports",
        f"{n:,} of {places} to one target{_reserved(situation)}; another target, or another port of it, has all of them"
        " to itself (but with random, whose bind() takes a port for every target)",
    )
    if flow:
        yield from _exhaustion(situation, flow)


def _reserved(situation: Situation) -> str:
    number = situation.reserved_here
    return f", {number:,} of the range's {len(situation.ports):,} being reserved" if number else ""


def _exhaustion(situation: Situation, flow: Flow) -> Iterator[Advice]:
    seconds = situation.capacity / flow.rate
    if flow.hold is None:
        reason = "without any being closed; with --hold it is told whether that comes to pass"
    elif flow.hold >= seconds:
        reason = f"they are held longer than that ({flow.hold:g} s): from then on connect() fails until one is closed"
    else:
        reason = f"if none were closed; they are, after {flow.hold:g} s, so that it does not come to that"
    yield Advice(
        "exhaustion",
        f"{seconds:,.1f} s after the first connection the ports would be used up at {flow.rate:g}/s",
        reason,
    )
    waiting = flow.rate * TIME_WAIT_S
    yield Advice(
        "time-wait",
        f"let the other side close, or add {waiting:,.0f} ports for TIME_WAIT",
        f"who closes first keeps the port for {TIME_WAIT_S:g} s: {flow.rate:g}/s x {TIME_WAIT_S:g} s; with"
        " net.ipv4.tcp_tw_reuse=1 connect() takes such a port again after a second, bind() to it (random) does not",
    )


def _knee(situation: Situation, tried: Sequence[Candidate]) -> Iterator[Advice]:
    half = situation.first_half
    total = half * situation.sources
    walked = len(situation.ports) // 2  # reserved ports too
    cost = walked * float(situation.calibration.port_ns_at(max(1, min(situation.connections, situation.capacity))))
    n = situation.connections
    where = f"{n:,} go past it" if situation.each > half else f"{n:,} are {n / total:.0%} of the way"
    names = [name for name in ("plain", "bind", "range") if half and _prefers_parity(situation, name)]
    option = "with IP_LOCAL_PORT_RANGE or without" if "range" in names else "without IP_LOCAL_PORT_RANGE"
    if names:
        yield Advice(
            "knee",
            f"{', '.join(names)}: the knee is at connection {total + 1:,}; {where}",
            f"{option} connect() looks at one parity first; once its {half:,} ports"
            f"{' of a source' if situation.sources > 1 else ''} are taken, each search walks all of them in vain,"
            f" about {duration(cost)}",
        )
    drawn = next((one for one in tried if one.spec.name == "random"), None)
    if drawn:
        ports = f" of {situation.longest_free}, without a reserved one" if situation.reserved_here else ""
        yield Advice(
            "random",
            f"random: {drawn.tries:.1f} tries a connection{ports}",
            "a port drawn at random is free as often as ports are free: 1 / (share of free ports) tries; to fill a"
            " range of R ports to the last takes ln R + 0.58 tries a connection",
        )


def _prefers_parity(situation: Situation, name: str) -> bool:
    """Whether a strategy can be used here and looks at one parity of the range first."""
    has_option = LOCAL_PORT_RANGE in STRATEGIES[name].needs
    return is_possible(situation, name) and situation.algorithm.prefers_parity(has_option=has_option)


def _use(situation: Situation, candidate: Candidate, topic: str = "use") -> Advice:
    spec = candidate.spec
    line = f"use {spec.label}" if topic == "use" else f"without IP_LOCAL_PORT_RANGE: {spec.label}"
    line += f" ({DONE_BY[spec.name]})"
    if situation.sources > 1:
        line += f", from {situation.sources} addresses in turn"
    statistic = situation.slo.statistic if situation.slo else "p99"
    limit = "" if statistic == "mean" else f", {statistic} {duration(candidate.slo_ns)}"
    reason = f"{candidate.errors:.2%} of the attempts fail, {duration(candidate.mean_ns)} an attempt{limit}"
    return Advice(topic, line, f"{reason}; the worse of opening them all and of replacing them", code(situation, spec))


def code(situation: Situation, spec: StrategySpec) -> dict[str, str]:
    """What to paste for a strategy; nothing for `plain`, which is connect() as it is."""
    if spec.name == "plain":
        return {}
    is_drawn = spec.name == "random"
    ports = situation.longest_free if is_drawn else situation.ports
    window = {"range": len(ports), "window": spec.window}.get(spec.name)
    tries = MOST_DRAWS if is_drawn else 1 + (spec.retries or 0)
    return snippets(Way(ports, window=window, tries=tries, sources=situation.sources, draws_port=is_drawn))


def _numbers(situation: Situation) -> list[int]:
    """Numbers of source addresses to try: the fewest that have ports enough and some more, up to below the knee."""
    fewest = max(situation.sources + 1, ceil(situation.connections / situation.free))
    below_half = ceil(situation.connections / max(1, situation.first_half))
    return sorted({*range(fewest, fewest + TRIED_SOURCES), max(fewest, below_half)})


def _enough(situation: Situation) -> Enough | None:
    """The fewest of those numbers with which a strategy keeps budget and SLO."""
    for number in _numbers(situation):
        tried = candidates(replace(situation, sources=number)) if number <= MOST_SOURCES else []
        if tried and tried[0].is_kept:
            return Enough(number, tuple(tried))
    return None


def _more_sources(situation: Situation, tried: Sequence[Candidate], enough: Enough | None) -> Iterator[Advice]:
    """How many addresses it takes, if any number does."""
    why = _why_not(situation, tried)
    if enough:
        line = f"use {enough.sources} source addresses instead of {situation.sources}"
        yield Advice("sources", line, f"{why}; each address has all ports to itself")
        yield _use(replace(situation, sources=enough.sources), enough.tried[0])
        return
    numbers = _numbers(situation)
    tried_numbers = [str(number) for number in numbers if number <= MOST_SOURCES]
    if not tried_numbers:
        line = f"it takes {numbers[0]:,} source addresses or more"
        way = "; more ports (--port-range) or targets take fewer"
    else:
        line = f"nothing keeps {_bounds(situation)} with {', '.join(tried_numbers)} source addresses"
        way = "; allow more errors (--error-budget) or more time (--slo)"
    yield Advice("sources", line, why + way)


def _why_not(situation: Situation, tried: Sequence[Candidate]) -> str:
    """Why nothing does with the sources there are."""
    if situation.connections > situation.capacity:
        return f"{situation.connections:,} connections are more than the {situation.capacity:,} ports"
    if not tried:
        return (
            f"this kernel has no option to choose a source with and leave it the port, and random has"
            f" {len(situation.longest_free):,} ports in a row that are not reserved, for {situation.each:,} connections"
        )
    first = tried[0]
    nearest = f"{first.spec.label}, {first.errors:.2%} errors, {duration(first.slo_ns)}"
    return f"no strategy keeps {_bounds(situation)} with {_many(situation.sources)}; nearest: {nearest}"


def _below_knee(situation: Situation) -> Iterator[Advice]:
    """How many addresses keep programs quick that can do nothing but bind to one, as nginx."""
    room = int(BELOW_KNEE * situation.first_half)
    if situation.each <= situation.first_half or not room or NO_PORT.name not in situation.options:
        return
    number = ceil(situation.connections / room)
    if number > MOST_SOURCES:
        return
    yield Advice(
        "below-knee",
        f"where an address is all that can be chosen: bind, from {number} addresses in turn",
        f"each then has {ceil(situation.connections / number):,} connections, at most {BELOW_KNEE:.0%} of the way to"
        " its knee",
        {"nginx": code(replace(situation, sources=number), StrategySpec("bind"))["nginx"]},
    )


def _many(sources: int) -> str:
    return "one source address" if sources == 1 else f"{sources} source addresses"


def _bounds(situation: Situation) -> str:
    budget = f"{situation.budget:.2%} errors"
    return budget if situation.slo is None else f"{budget} and {situation.slo.text}"
