"""What to do about so many connections: lines, each with its reason and, where there is some, code to paste."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from connbench.advise.candidates import candidates, prefers_parity, searching
from connbench.advise.instructions import use
from connbench.advise.more_sources import below_knee, enough_sources, more_sources
from connbench.advise.situation import Advice, Counsel, Situation
from connbench.advise.verdict_text import verdict
from connbench.linux.sockopts import LOCAL_PORT_RANGE
from connbench.model import Protocol
from connbench.model.time_wait import ALWAYS, MOST_WAITING, TW_REUSE
from connbench.strategies import RANDOM, RANGE
from connbench.units import duration


def advise(situation: Situation) -> Counsel:
    """Work out the advice."""
    tried = candidates(situation)
    advices = [
        *_kernel(situation),
        *_ports(situation),
        *_exhaustion(situation),
        *_time_wait(situation),
        *_knee(situation),
        *_left_out(situation),
    ]
    kept = [one for one in tried if one.is_kept]
    if kept:
        advices.append(use(situation, kept[0]))
        without_option = next((one for one in kept if not one.spec.traits.sets_port_range), None)
        if without_option and without_option is not kept[0]:
            advices.append(use(situation, without_option, topic="without-option"))
    enough = None if kept else enough_sources(situation)
    if not kept:
        advices += more_sources(situation, tried, enough)
    advices += below_knee(situation)
    said = verdict(situation, tried, enough, advices)
    return Counsel(situation, tuple(tried), tuple(advices), said, enough)


def _kernel(situation: Situation) -> Iterator[Advice]:
    if situation.doubt or LOCAL_PORT_RANGE.name not in situation.options:
        yield Advice(
            "kernel",
            f"no range and no window without {LOCAL_PORT_RANGE.name}",
            situation.doubt or f"Linux {LOCAL_PORT_RANGE.since} has it; a distribution may have it by a backport",
        )


def _ports(situation: Situation) -> Iterator[Advice]:
    taken, capacity, waiting = situation.taken(), situation.capacity(), situation.waiting()
    share = f"{taken / capacity:.1%}" if taken <= capacity else f"{taken / capacity:,.1f} times as many as there are"
    kind = "" if situation.protocol is Protocol.TCP else "UDP sockets "
    reason = f"{situation.connections:,} {kind}open at once{_by_flow(situation)}"
    if waiting and situation.flow:
        law = f"{situation.flow.rate:,g}/s x {situation.seconds_waiting():g} s"
        most = f", cut to {MOST_WAITING}" if situation.has_most_waiting() else ""
        reason += f", {waiting:,} in TIME_WAIT ({law}{most})"
    yield Advice("ports", f"{taken:,} of {capacity:,} ports are in use, {share}", reason)


def _by_flow(situation: Situation) -> str:
    """How many are open by Little's law, and whether more were asked for."""
    flow = situation.flow
    if flow is None or flow.hold is None:
        return ""
    law = f"{flow.rate:,g}/s x {flow.hold:g} s"
    return f" ({law})" if flow.at_once == situation.connections else f" (-n; {law} are {flow.at_once:,})"


def _exhaustion(situation: Situation) -> Iterator[Advice]:
    """When no port is left, where that comes about."""
    flow, capacity = situation.flow, situation.capacity()
    if flow is None or situation.fits():
        return
    free = max(0, capacity - (situation.connections - flow.at_once))  # others than the flow's stay open
    waiting = situation.seconds_waiting()
    held = "" if flow.hold is None else f" {flow.hold:g} s open"
    kept = " and".join(filter(None, (held, f" {waiting:g} s in TIME_WAIT" if waiting else "")))
    yield Advice(
        "exhaustion",
        f"at {flow.rate:,g}/s all {capacity:,} ports are in use after {free / flow.rate:,.1f} s",
        f"each port is in use for{kept}: from then on connect() fails until one is free",
    )


def _time_wait(situation: Situation) -> Iterator[Advice]:
    """What takes TIME_WAIT off the ports."""
    if not situation.waiting():
        return
    without = replace(situation, client_closes=False)
    reusing = replace(situation, time_wait=replace(situation.time_wait, reuse=ALWAYS))
    is_less = reusing.waiting() < situation.waiting()
    ways = [
        (without, "if the server closes first, {taken:,} ports are in use"),
        (reusing, f"with {TW_REUSE}=1, {{taken:,}}"),
    ]
    # Where there are too few ports, what leaves too few as well is no way out.
    lines = [words.format(taken=one.taken()) for one, words in ways[: 1 + is_less] if one.fits() or situation.fits()]
    if lines:
        yield Advice(
            "time-wait",
            "; ".join(lines),
            f"but not with {RANDOM.name}, whose bind() cannot take a port in TIME_WAIT" if is_less else "",
        )


def _knee(situation: Situation) -> Iterator[Advice]:
    half = situation.first_half
    total = half * situation.spaces()
    walked = len(situation.ports) // 2  # reserved ports too
    names = [one.name for one in (searching(situation), RANGE) if half and prefers_parity(situation, one)]
    if not names or not situation.fits():
        return
    taken = situation.taken()
    cost = walked * float(situation.calibration.port_ns_at(max(1, taken)))
    where = f"{taken:,} are beyond it" if situation.each() > half else f"{taken:,} are {taken / total:.1%} of it"
    yield Advice(
        "knee",
        f"the knee of {' and '.join(names)} is at {total + 1:,} ports in use, {where}",
        f"from there on a search probes {half:,} ports of one parity in vain, about {duration(cost)}",
    )


def _left_out(situation: Situation) -> Iterator[Advice]:
    """Why random is not among those that were tried, where the others fit."""
    if not situation.fits() or situation.each(RANDOM) <= len(situation.longest_free):
        return
    stretch = f" in a row that are not reserved ({situation.longest_free})" if situation.reserved_here else ""
    needed, seconds = situation.each(RANDOM), situation.seconds_waiting(RANDOM)
    yield Advice(
        RANDOM.name,
        f"{RANDOM.name} is left out: it needs {needed:,} ports of {len(situation.longest_free):,}{stretch}",
        f"none of its ports is free again before {seconds:g} s" if seconds > situation.seconds_waiting() else "",
    )
