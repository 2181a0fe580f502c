"""What `connbench serve` prints, as text and as JSON."""

from __future__ import annotations

import json
from dataclasses import asdict

from connbench.report.blocks import Table
from connbench.report.text import render
from connbench.serve.statistics import ProcessStatistics, ServerInfo, Statistics
from connbench.units import count

ALL_FULL = "every process is full: new connections wait in the queue until it is full, too"
OVERFLOWED = "the queue was full: the kernel dropped SYNs, and connect() took a second or more"


def info_text(info: ServerInfo) -> str:
    """Two lines, the first begins with `listening on`; three more if it cannot hold a connection from each port."""
    capacity = count(info.processes * info.room)
    processes = f"{info.processes} process" + ("es" if info.processes > 1 else "")
    lines = [
        f"listening on {info.address}, backlog {count(info.backlog)} (somaxconn {count(info.somaxconn)})",
        f"  {processes} of {count(info.files)} files: {capacity} connections; SIGUSR1 reports, Ctrl-C ends it",
    ]
    if info.bounded_by:
        lines += [
            f"  A connection from each of 65,535 ports takes {count(info.processes_wanted)} processes. It starts",
            f"  {info.bounded_by}.",
            "  -> raise the hard limit of open files (ulimit -Hn), or give --processes",
        ]
    return "\n".join(lines)


def info_json(info: ServerInfo) -> str:
    """One line of JSON."""
    return json.dumps({"event": "listening", **asdict(info)})


def statistics_json(statistics: Statistics) -> str:
    """One line of JSON."""
    return json.dumps({"event": "report", **statistics.to_dict()})


def statistics_text(statistics: Statistics) -> str:
    """The totals, warnings, and a table with a row for each process."""
    total = statistics.totals()
    lines = [
        f"accepted: {count(total['accepted'])}",
        f"open: {count(total['open'])}, most at once: {count(total['most_open'])}",
        f"closed by the peer: {count(total['closed_by_fin'])} by FIN, {count(total['closed_by_reset'])} by reset",
        f"waiting in the queue: {count(total['waiting'])} of {count(statistics.backlog)}",
        f"dropped by the kernel: {_dropped(statistics.counters)}",
    ]
    lines += [f"process {p.pid} {p.end}: {count(p.open)} connections are lost" for p in statistics.processes if p.end]
    if statistics.is_full:
        lines.append(ALL_FULL)
    if statistics.has_overflowed:
        lines.append(OVERFLOWED)
    return "\n".join([*lines, "", _table(statistics.processes)])


def _dropped(counters: dict[str, int]) -> str:
    moved = {name.partition(".")[2]: moved for name, moved in counters.items() if moved}
    return ", ".join(f"{name} {count(moved[name])}" for name in moved) or "none"


def _table(processes: tuple[ProcessStatistics, ...]) -> str:
    rows = [
        (str(p.pid), count(p.accepted), count(p.open), count(p.closed_by_fin + p.closed_by_reset), _state(p))
        for p in processes
    ]
    return render(Table(("process", "accepted", "open", "closed", ""), rows))


def _state(process: ProcessStatistics) -> str:
    return "ended" if process.end else "full" if process.is_full else ""
