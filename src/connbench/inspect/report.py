"""An inspection as text, Markdown, JSON and CSV."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

from connbench.inspect import processes
from connbench.inspect.forecast import Forecast
from connbench.inspect.inspection import Inspection, Row
from connbench.inspect.path_gate import Judgement
from connbench.inspect.port_usage import Usage
from connbench.inspect.sockets import STATE_NAMES, Sockets, State, address_text
from connbench.model import Protocol
from connbench.report.blocks import Block, Findings, Lines, Table, Verbatim, Verdict
from connbench.report.path_report import COLUMNS, FORECAST_COLUMNS, LEFT_S, path_rows, path_table
from connbench.results.inspection_file import (
    SCHEMA,
    ConditionRecord,
    ForecastRecord,
    PathRecord,
    RemedyRecord,
    TimeLeft,
)
from connbench.safe_text import printable
from connbench.units import NS_PER_S, about, count, counted, duration, elapsed, format_measured_rate
from connbench.wording import listed

LABEL_COLUMNS = 9
"""Columns of the labels `read`, `ports`, `kernel`, `times` and `assumed`."""

MOST_RANGES = 3
"""Port ranges of namespaces that are named; the others are counted."""

MOST_DETAILS = 3
"""Paths with a table of forecasts of their own."""

_FAILURES = {Protocol.TCP: "EADDRNOTAVAIL", Protocol.UDP: "EAGAIN"}
"""How connect() fails if no port is free; a UDP socket then cannot be bound to a port (inet_autobind())."""


def text(inspection: Inspection, width: int | None = None, *, bold: bool = False) -> str:
    """The tables, the findings, and at the end the verdict with what to do.

    Args:
        inspection: What was found.
        width: Columns of the terminal: prose is folded, and columns of the table that do not fit are left out. None
            leaves each line whole, with all columns.
        bold: Whether the word `verdict` is bold.
    """
    from connbench.report.text import write  # loads rich, which other formats do not need

    command = inspection.remedy.command if inspection.remedy else ""
    written = write(report_blocks(inspection, width), width, bold=bold)
    return f"{written}\nNext: {command}" if command else written  # not folded: it is there to be pasted


def markdown(inspection: Inspection) -> str:
    """The same to paste into an issue, the verdict first."""
    from connbench.report.markdown import write

    first, *others = report_blocks(inspection)
    command = inspection.remedy.command if inspection.remedy else ""
    return write([first, *([Verbatim(command)] if command else []), *others])


def report_blocks(inspection: Inspection, width: int | None = None) -> list[Block]:
    """The verdict, what was read, a row for each path, the forecasts of the fullest, and the findings."""
    blocks: list[Block] = [
        Verdict(verdict(inspection)),
        Lines([f"{label:<{LABEL_COLUMNS}}{line}" for label, line in _facts(inspection)], True, LABEL_COLUMNS),
    ]
    if inspection.rows:
        more = inspection.paths - len(inspection.rows)
        blocks.append(path_table([("", record(row)) for row in inspection.rows], width, more))
    for row in _detailed(inspection):
        blocks += [_forecasts(inspection, row), *_programs(row)]
    if inspection.findings:
        blocks.append(Findings(inspection.findings))
    return blocks


# ---- the verdict


def verdict(inspection: Inspection) -> tuple[str, ...]:
    """How full the fullest path is, what that costs, and what to do: one to three sentences and those of the remedy."""
    remedy = tuple(inspection.remedy.sentences) if inspection.remedy else ()
    if not inspection.rows:
        ranges = {str(one.snapshot.settings.ports) for one in inspection.usages}
        where = listed(sorted(ranges)) if len(ranges) <= MOST_RANGES else "its namespace's range"
        return (f"No path is short of ports: no outgoing connection has a port of {where}.", *remedy)
    if not inspection.troubled:
        return (_calm(inspection, inspection.rows[0]), *remedy)
    first, *others = inspection.troubled
    return (_trouble(inspection, first), *_more(inspection, others), *remedy)


def _trouble(inspection: Inspection, row: Row) -> str:
    path, uses = row.path, f"{row.name} {_uses(row)}"
    search = _search(inspection, row, " first" if row.is_slow else "")
    if not row.until_exhaustion:
        after = f" after it has probed {search}" if search else ""
        soon = path.time_wait_left.get(LEFT_S)
        freed = f"; {counted(soon, 'port')} will have left TIME_WAIT in {LEFT_S} s" if soon else ""
        return f"{uses}: connect() fails with {_FAILURES[Protocol(path.protocol)]}{after}{freed}."
    parts = [f"{'each' if row.is_slow else 'the next'} connect() probes {search}"] if search else []
    rate = f"at {format_measured_rate(row.growth_per_s or 0)}/s"
    ends = [("slow", row.slow_in_s), ("exhausted", row.exhausted_in_s)]
    foretold = [f"{end} in {elapsed(seconds)}" for end, seconds in ends if seconds is not None]
    if foretold:
        parts.append(f"{listed(foretold)} {rate}")
    elif row.is_near_knee and row.next and row.next.until_knee:
        parts.append(f"{counted(row.next.until_knee, 'more connection')} until connect() is slow")
    else:
        parts.append(f"{counted(row.until_exhaustion, 'more connection')} until no port is free")
    return f"{uses}: {'; '.join(parts)}."


def _more(inspection: Inspection, others: Sequence[Row]) -> Iterator[str]:
    if others:
        judged = len(inspection.judged)
        least = "at least " if judged == len(others) + 1 < inspection.paths else ""
        yield f"connect() is slow or short of ports, or nearly so, on {least}{counted(len(others), 'more path')}."


def _calm(inspection: Inspection, row: Row) -> str:
    search = _search(inspection, row)
    cost = f", and connect() probes {search}" if search else ""
    name = f"the fullest path, {row.name}," if inspection.paths > 1 else row.name
    return f"No path is short of ports: {name} {_uses(row)}{cost}."


def _uses(row: Row) -> str:
    """What a path uses: its ports, and in which state most of those are that are not open."""
    path = row.path
    of = f"{count(path.used)} of {counted(path.usable, 'port')}"
    if not path.free:
        of = "its only port" if path.usable == 1 else f"all {count(path.usable)} ports"
    waiting = max({"TIME_WAIT": path.time_wait, **path.others}.items(), key=lambda one: one[1])
    share = f" ({path.share * 100:.1f} %)" if path.free else ""
    states = f", {count(waiting[1])} of them in {waiting[0]}" if waiting[1] else ""
    if path.time_wait == waiting[1] > 0 and row.until_exhaustion > path.free:
        states += ", from which connect() takes ports again"
    return f"uses {of}{share}{states}"


def _search(inspection: Inspection, row: Row, first: str = "") -> str:
    """The ports that the next connect() probes, with `first` behind them, and its time; empty if nobody knows."""
    found = row.next
    if found is None or found.ports_probed is None or found.connect_ns is None:
        return ""
    ports = "1 port" if found.ports_probed < 1.05 else f"{_mean(found.ports_probed)} ports"
    return f"{ports}{first}, {_time(inspection, found.connect_ns)}"


def _mean(number: float) -> str:
    return count(number) if number >= 10 else f"{number:.1f}"


def _time(inspection: Inspection, nanoseconds: float) -> str:
    """A time; a rough one is rounded, with a word that says so."""
    is_usual = inspection.model is None or inspection.model.is_usual
    return f"about {about(nanoseconds)}" if is_usual else duration(nanoseconds)


# ---- what was read


def _facts(inspection: Inspection) -> Iterator[tuple[str, str]]:
    """What was read, and what the figures rest on: a label and a line each."""
    snapshots = [one.snapshot for one in inspection.usages]
    seconds = sum(one.seconds for one in snapshots)
    where = _namespaces(inspection)
    sockets, paths = counted(inspection.sockets, "socket"), counted(inspection.paths, "path")
    yield "read", f"{sockets} of {where} in {about(seconds * NS_PER_S)}; {paths}"
    for reason in dict.fromkeys(one.fallback for one in snapshots if one.fallback):
        yield "", f"from /proc/net, which lists no port that is only bound: sock_diag answers {reason!r}"
    yield "ports", _ranges(inspection)
    if inspection.model:
        from connbench.report.model_text import origin_text, search

        kernel = next((f"{printable(one.settings.kernel)}: " for one in snapshots if one.settings.kernel), "")
        yield "kernel", f"{kernel}{search(inspection.model.algorithm, [Protocol.TCP])} ({inspection.model.known_by})"
        here = "" if any(one.origin for one in snapshots) else "; connbench calibrate -o FILE measures yours (5 s)"
        origin = origin_text(inspection.model.calibration)
        yield "times", f"{origin}{here}" if inspection.model.is_usual else f"costs of {origin}"
    if inspection.assumed:
        yield "assumed", "; ".join(map(printable, inspection.assumed))


def _namespaces(inspection: Inspection) -> str:
    """The file or the namespaces that were read."""
    snapshots = [one.snapshot for one in inspection.usages]
    if len(snapshots) != 1:
        return counted(len(snapshots), "namespace")
    [only] = snapshots
    if only.origin:
        return printable(only.origin)
    return f"namespace {printable(only.namespace)}" if only.namespace else "this network namespace"


def _ranges(inspection: Inspection) -> str:
    """The port range, with the number of ports in it that no search can choose; of many the most frequent first."""
    if len(inspection.usages) == 1:
        [only] = inspection.usages
        bound = f", {count(len(only.blocked))} taken by bind()" if len(only.blocked) else ""
        return f"{_range(only)}{bound}"
    kinds = Counter(map(_range, inspection.usages)).most_common()
    parts = [f"{words} in {counted(number, 'namespace')}" for words, number in kinds[:MOST_RANGES]]
    if others := sum(number for _, number in kinds[MOST_RANGES:]):
        parts.append(f"others in {counted(others, 'namespace')}")
    return "; ".join(parts)


def _range(usage: Usage) -> str:
    from connbench.report.model_text import reserved_text

    settings = usage.snapshot.settings
    return f"{settings.ports}{reserved_text(settings.ports.count_of(settings.reserved))}"


# ---- tables


def _detailed(inspection: Inspection) -> list[Row]:
    """The fullest path, and the first of the others that need attention: the verdict is about one of them."""
    fullest = list(inspection.rows[:1])
    return [*fullest, *(row for row in inspection.troubled if row not in fullest)][:MOST_DETAILS]


def _forecasts(inspection: Inspection, row: Row) -> Table:
    """What the next connect() on a path costs with each strategy; below it the figures that the table above lacks."""
    columns = {
        "half": [one.half or "-" for one in row.forecasts],
        "ports probed": ["-" if one.ports_probed is None else _mean(one.ports_probed) for one in row.forecasts],
        "time": ["-" if one.connect_ns is None else _time(inspection, one.connect_ns) for one in row.forecasts],
        "fails": [f"{one.failing:.1%}" if one.failing else "-" for one in row.forecasts],
        "until knee": [_until_knee(one) for one in row.forecasts],
        "until exhaustion": [count(one.until_exhaustion) for one in row.forecasts],
    }
    rows = list(zip((one.strategy for one in row.forecasts), *columns.values(), strict=True))
    return Table(
        ("strategy", *columns), rows, title=f"next connect() {row.name}", remarks=tuple(_details(row)), words=(1,)
    )


def _until_knee(forecast: Forecast) -> str:
    if forecast.until_knee is None:
        return "no knee"
    return count(forecast.until_knee) if forecast.until_knee else "passed"


def _details(row: Row) -> Iterator[str]:
    path = row.path
    states = [f"{count(number)} {name}" for name, number in path.others.items()]
    outside = [f"{count(path.outside)} from reserved ports or outside the range"] if path.outside else []
    yield ", ".join([f"{count(path.even)} even and {count(path.odd)} odd ports", *states, *outside])
    if path.time_wait and path.closing_per_s is not None and path.expiring_per_s is not None:
        left = [f"{count(number)} in {seconds} s" for seconds, number in path.time_wait_left.items()]
        entering, leaving = (format_measured_rate(rate) for rate in (path.closing_per_s, path.expiring_per_s))
        yield f"TIME_WAIT: {entering}/s enter it, {leaving}/s leave it; {', '.join(left)} will have left it"
    if row.rates:
        opened, gone = count(row.rates.opened), count(row.rates.gone)
        yield f"in the last {elapsed(row.rates.seconds)}: {opened} connections opened, {gone} gone"


def _programs(row: Row) -> list[Block]:
    """The programs that have the sockets of a path, if somebody asked for them."""
    snapshot = row.usage.snapshot
    return [] if snapshot.processes is None else processes.blocks(row.path, snapshot)


# ---- for programs


def json(inspection: Inspection, judgements: Sequence[Judgement] = ()) -> str:
    """One JSON document; times in ns or s as their names say, shares from 0 to 1; null is what nobody knows.

    `connbench.results.inspection_file` reads it.

    Args:
        inspection: What was found.
        judgements: The conditions of --fail-if.
    """
    from connbench.report.json import json_text

    return json_text(document(inspection, judgements))


def document(inspection: Inspection, judgements: Sequence[Judgement] = ()) -> dict[str, Any]:
    """The JSON document as a value that `json_text` takes."""
    from connbench.portmodel.algorithm import ALGORITHMS

    model, remedy = inspection.model, inspection.remedy
    return {
        "schema": SCHEMA,
        "verdict": verdict(inspection),
        "sockets": inspection.sockets,
        "paths": inspection.paths,
        "namespaces": [_namespace(one) for one in inspection.usages],
        "algorithm": model and next(word for word, one in ALGORITHMS.items() if one is model.algorithm),
        "algorithm_known_by": model and model.known_by,
        "calibration": model and model.calibration,
        "assumed": inspection.assumed,
        "rows": [record(row) for row in inspection.rows],
        "remedy": remedy and RemedyRecord(remedy.sentences, remedy.command),
        "conditions": [ConditionRecord(one.condition.condition, one.subject, one.outcome) for one in judgements],
        "findings": inspection.findings,
    }


def _namespace(usage: Usage) -> dict[str, Any]:
    snapshot, settings = usage.snapshot, usage.snapshot.settings
    return {
        "namespace": snapshot.namespace,
        "file": snapshot.origin or None,
        "read_s": snapshot.seconds,
        "sockets": len(snapshot.sockets),
        "paths": usage.paths,
        "kernel": settings.kernel or None,
        "port_range": settings.ports,
        "reserved": settings.ports.count_of(settings.reserved),
        "tcp_tw_reuse": settings.time_wait.reuse,
        "blocked_ports": usage.blocked,
        "listeners": [_listener(snapshot.sockets, at) for at in usage.listeners.tolist()],
    }


def _listener(sockets: Sockets, at: int) -> dict[str, Any]:
    return {
        "address": address_text(int(sockets.family[at]), sockets.local[at]),
        "port": int(sockets.local_port[at]),
        "state": STATE_NAMES[State(int(sockets.state[at]))],
    }


def record(row: Row) -> PathRecord:
    """A path as the JSON document has it."""
    path, snapshot, rates = row.path, row.usage.snapshot, row.rates
    return PathRecord(
        **{name: getattr(path, name) for name in COLUMNS},
        used_share=path.share,
        blocked=len(path.blocked),
        others=path.others,
        time_wait_left=[TimeLeft(s, number) for s, number in path.time_wait_left.items()],
        closing_per_s=path.closing_per_s,
        expiring_per_s=path.expiring_per_s,
        opened_per_s=rates.opened_per_s if rates else None,
        gone_per_s=rates.gone_per_s if rates else None,
        growth_per_s=row.growth_per_s,
        exhausted_in_s=row.exhausted_in_s,
        programs=None if snapshot.processes is None else processes.document(path, snapshot),
        forecasts=[
            ForecastRecord(one.strategy, **{name: getattr(one, name) for name in FORECAST_COLUMNS})
            for one in row.forecasts
        ],
        device=path.device,
        needs_attention=row.needs_attention,
    )


def csv(inspection: Inspection) -> str:
    """A header, and a row for each path; an empty cell is what nobody knows, or what there is not."""
    return path_rows([("", record(row)) for row in inspection.rows])
