"""What to do about so many connections: lines, each with its reason and, where there is some, code to paste."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from connbench.advise.candidates import find_candidates, prefers_parity, searching
from connbench.advise.instructions import use
from connbench.advise.more_sources import below_knee, enough_sources, more_sources
from connbench.advise.scenario import Advice, AdviceItem, Scenario
from connbench.advise.verdict_text import verdict
from connbench.linux.sockopts import LOCAL_PORT_RANGE
from connbench.model import Protocol
from connbench.model.time_wait import ALWAYS, MOST_WAITING, TW_REUSE
from connbench.strategies import RANDOM, RANGE
from connbench.units import duration


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
        items.append(use(scenario, kept[0]))
        without_option = next((one for one in kept if not one.spec.traits.sets_port_range), None)
        if without_option and without_option is not kept[0]:
            items.append(use(scenario, without_option, topic="without-option"))
    sufficient = None if kept else enough_sources(scenario)
    if not kept:
        items += more_sources(scenario, tried, sufficient)
    items += below_knee(scenario)
    said = verdict(scenario, tried, sufficient, items)
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
    reason = f"{scenario.connections:,} {kind}open at once{_by_flow(scenario)}"
    if waiting and scenario.arrivals:
        law = f"{scenario.arrivals.rate:,g}/s x {scenario.seconds_waiting():g} s"
        most = f", cut to {MOST_WAITING}" if scenario.has_most_waiting() else ""
        reason += f", {waiting:,} in TIME_WAIT ({law}{most})"
    yield AdviceItem("ports", f"{taken:,} of {capacity:,} ports are in use, {share}", reason)


def _by_flow(scenario: Scenario) -> str:
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
            f"but not with {RANDOM.name}, whose bind() cannot take a port in TIME_WAIT" if is_less else "",
        )


def _knee(scenario: Scenario) -> Iterator[AdviceItem]:
    half = scenario.first_half
    total = half * scenario.spaces()
    walked = len(scenario.ports) // 2  # reserved ports too
    names = [one.name for one in (searching(scenario), RANGE) if half and prefers_parity(scenario, one)]
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
    """Why random is not among those that were tried, where the others fit."""
    if not scenario.fits() or scenario.each(RANDOM) <= len(scenario.longest_free):
        return
    stretch = f" in a row that are not reserved ({scenario.longest_free})" if scenario.reserved_here else ""
    needed, seconds = scenario.each(RANDOM), scenario.seconds_waiting(RANDOM)
    yield AdviceItem(
        RANDOM.name,
        f"{RANDOM.name} is left out: it needs {needed:,} ports of {len(scenario.longest_free):,}{stretch}",
        f"none of its ports is free again before {seconds:g} s" if seconds > scenario.seconds_waiting() else "",
    )
