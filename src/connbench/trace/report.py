"""What `connbench trace` prints of the counts since it began: a table for people, or a line of JSON."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict
from typing import Any

from connbench.report.blocks import Table
from connbench.report.text import render
from connbench.safe_text import printable, printable_json
from connbench.trace.counts import Counts, Latency, LatencyCounts, OffsetCounts, ParityCounts, Process, errno_name
from connbench.units import count, duration, elapsed
from connbench.wording import end_of

CgroupNames = Callable[[int], str]
"""Gives the name of a cgroup by its id."""

BUSIEST = 15
"""Processes in the table; JSON has all."""

WIDTH = 80
"""Columns of the table."""

NARROWEST_CGROUP = 8


def as_text(counts: Counts, seconds: float, name_of: CgroupNames) -> str:
    """The table of a trace.

    Args:
        counts: The counts to show.
        seconds: The time since the trace began.
        name_of: Gives the name of a cgroup.
    """
    since = elapsed(seconds)
    match counts:
        case LatencyCounts():
            return _latency(counts, since)
        case ParityCounts():
            return _parity(counts, since, name_of)
    return _offsets(counts, since)


def as_json(counts: Counts, seconds: float, name_of: CgroupNames, *, is_final: bool) -> str:
    """One line of JSON with all counts since the trace began; `final` is true in the last line."""
    return printable_json(json.dumps({"seconds": round(seconds, 3), "final": is_final, **_document(counts, name_of)}))


def _document(counts: Counts, name_of: CgroupNames) -> dict[str, Any]:
    match counts:
        case LatencyCounts():
            return {"trace": "latency", **_latency_document(counts)}
        case ParityCounts():
            processes = [{**asdict(p), "cgroup_name": name_of(p.cgroup)} for p in _busiest(counts.processes)]
            numbers = {name: getattr(counts, name) for name in ("even", "odd", "switches", "bound", "failed")}
            latency = _latency_document(counts.latency)
            return {"trace": "parity", **numbers, "processes": processes, "is_full": counts.is_full, **latency}
    return {
        "trace": "offsets",
        "starts": {str(low): number for low, number in counts.starts.items()},
        "chosen": {str(low): number for low, number in counts.chosen.items()},
        "bound": counts.bound,
        "failed": counts.failed,
        "lost": counts.lost,
    }


def _latency_document(counts: LatencyCounts) -> dict[str, Any]:
    return {
        "latency": {name: _histogram(latency) for name, latency in counts.by_outcome.items()},
        "errors": {errno_name(number): times for number, times in counts.errors.items()},
        "lost": counts.lost,
    }


def _histogram(latency: Latency) -> dict[str, Any]:
    buckets = [{"max_ns": top, "count": number} for top, number in sorted(latency.buckets.items())]
    return {"count": latency.count, "total_ns": latency.total_ns, "buckets": buckets}


def _latency(counts: LatencyCounts, since: str) -> str:
    """A table of the outcomes, and a table of their histograms side by side."""
    shown = {name: latency for name, latency in counts.by_outcome.items() if latency.count}
    total = sum(latency.count for latency in shown.values())
    lines = [f"{count(total)} connect() in {since}{_errors(counts)}", *_lost(counts.lost)]
    if not shown:
        return "\n".join(lines)
    rows = [
        (
            name,
            count(one.count),
            duration(one.mean_ns),
            *(duration(one.percentile_ns(percent)) for percent in (50, 99, 100)),
        )
        for name, one in shown.items()
    ]
    lines += ["", render(Table(("latency", "n", "mean", "p50 <", "p99 <", "max <"), rows))]
    tops = sorted({top for latency in shown.values() for top, number in latency.buckets.items() if number})
    bars = [(f"< {duration(top + 1)}", *(count(one.buckets.get(top, 0)) for one in shown.values())) for top in tops]
    return "\n".join([*lines, "", render(Table(("took", *shown), bars))])


def _parity(counts: ParityCounts, since: str, name_of: CgroupNames) -> str:
    """The totals, and a table of the processes with most switches."""
    switches = f"{count(counts.switches)} switch" + ("" if counts.switches == 1 else "es")
    parities = f"{count(counts.even)} even, {count(counts.odd)} odd"
    lines = [
        f"{count(counts.even + counts.odd)} ports chosen in {since}: {parities}, {switches}",
        f"chosen by bind() before: {count(counts.bound)}, failed: {count(counts.failed)}{_errors(counts.latency)}",
        *_lost(counts.lost),
    ]
    if counts.is_full:
        lines.append("too many processes to count each: the table is not complete, the totals are right")
    if not counts.processes:
        return "\n".join(lines)
    header = ("process", "even", "odd", "switches", "bound", "failed")
    busiest = _busiest(counts.processes)[:BUSIEST]
    rows = [
        (
            f"{process.pid} {printable(process.comm)}",
            *(count(number) for number in (process.even, process.odd, process.switches, process.bound, process.failed)),
        )
        for process in busiest
    ]
    room = WIDTH - sum(2 + max(map(len, cells)) for cells in zip(header, *rows, strict=True))
    cgroups = [end_of(printable(name_of(process.cgroup)), max(room, NARROWEST_CGROUP)) for process in busiest]
    table = [(*row, cgroup) for row, cgroup in zip(rows, cgroups, strict=True)]
    lines += ["", render(Table((*header, "cgroup"), table, words=(len(header),)))]
    if len(counts.processes) > BUSIEST:
        lines.append(f"and {count(len(counts.processes) - BUSIEST)} more")
    return "\n".join(lines)


def _offsets(counts: OffsetCounts, since: str) -> str:
    """A table of where searches began and where they ended, in steps of 10,000 ports."""
    lines = [
        f"{count(sum(counts.starts.values()))} searches for a port in {since}",
        f"chosen by bind() before: {count(counts.bound)}, failed: {count(counts.failed)}",
        *_lost(counts.lost),
    ]
    lows = sorted({low for part in (counts.starts, counts.chosen) for low, number in part.items() if number})
    rows = [
        (f"{low}-{min(low + 9999, 65535)}", count(counts.starts.get(low, 0)), count(counts.chosen.get(low, 0)))
        for low in lows
    ]
    return "\n".join([*lines, "", render(Table(("ports", "begun", "chosen"), rows))] if rows else lines)


def _lost(number: int) -> list[str]:
    """The line for calls whose return the kernel did not report; none without such calls."""
    return [f"lost: {count(number)} (the kernel did not report their return)"] if number else []


def _errors(counts: LatencyCounts) -> str:
    named = sorted((errno_name(number), times) for number, times in counts.errors.items())
    return "".join(f", {name} {count(times)}" for name, times in named)


def _busiest(processes: tuple[Process, ...]) -> list[Process]:
    return sorted(processes, key=lambda p: (-p.switches, -(p.even + p.odd + p.bound + p.failed), p.pid))
