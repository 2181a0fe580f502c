"""What `connbench serve` prints: where it listens, and how it stands."""

from __future__ import annotations

import json
from dataclasses import asdict

from connbench.report.tables import render
from connbench.serve.statistics import Account, Place, ProcessAccount
from connbench.units import count

ALL_FULL = "every process is full: what comes now waits in the queue, then is dropped"
OVERFLOWED = "the queue overflowed: SYNs were dropped, and connect() took a second or more"


def place_text(place: Place) -> str:
    """Two lines, the first begins with `listening on`; three more where it can hold fewer than there are ports."""
    capacity = count(place.processes * place.room)
    processes = f"{place.processes} process" + ("es" if place.processes > 1 else "")
    lines = [
        f"listening on {place.address}, backlog {count(place.backlog)} (somaxconn {count(place.somaxconn)})",
        f"  {processes} of {count(place.files)} files: {capacity} connections; SIGUSR1 reports, Ctrl-C ends it",
    ]
    if place.bounded_by:
        lines += [
            f"  A connection from each of 65,535 ports takes {count(place.processes_wanted)} processes. It starts",
            f"  {place.bounded_by}.",
            "  -> raise the hard limit of open files (ulimit -Hn), or give --processes",
        ]
    return "\n".join(lines)


def place_json(place: Place) -> str:
    """One line of JSON."""
    return json.dumps({"event": "listening", **asdict(place)})


def account_json(account: Account) -> str:
    """One line of JSON."""
    return json.dumps({"event": "report", **account.to_dict()})


def account_text(account: Account) -> str:
    """The totals, what is wrong, and a line for each process."""
    total = account.totals()
    lines = [
        f"accepted: {count(total['accepted'])}",
        f"open: {count(total['open'])}, most at once: {count(total['most_open'])}",
        f"closed by the peer: {count(total['closed_by_fin'])} by FIN, {count(total['closed_by_reset'])} by reset",
        f"waiting in the queue: {count(total['waiting'])} of {count(account.backlog)}",
        f"dropped by the kernel: {_dropped(account.counters)}",
    ]
    lines += [f"process {p.pid} {p.end}: {count(p.open)} connections are lost" for p in account.processes if p.end]
    if account.is_full:
        lines.append(ALL_FULL)
    if account.has_overflowed:
        lines.append(OVERFLOWED)
    return "\n".join([*lines, "", _table(account.processes)])


def _dropped(counters: dict[str, int]) -> str:
    moved = {name.partition(".")[2]: moved for name, moved in counters.items() if moved}
    return ", ".join(f"{name} {count(moved[name])}" for name in moved) or "none"


def _table(processes: tuple[ProcessAccount, ...]) -> str:
    rows = [(str(p.pid), count(p.accepted), count(p.open), count(p.ended + p.reset), _state(p)) for p in processes]
    return render(("process", "accepted", "open", "closed", ""), rows)


def _state(process: ProcessAccount) -> str:
    return "ended" if process.end else "full" if process.is_full else ""
