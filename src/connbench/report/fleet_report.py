"""The report of several hosts: their figures side by side, what differs between them, and the verdict."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import asdict, replace
from math import log
from statistics import median
from typing import Any

from connbench.analysis.bootstrap import CONFIDENCE, FEWEST, ChangeVerdict
from connbench.analysis.comparison import ERRORS, Comparison, Figure, StrategyComparison, judged_name
from connbench.analysis.fleet_summary import (
    FleetComparison,
    FleetSummary,
    HostFigures,
    InAll,
    StrategyOfFleet,
    summarize_fleet,
)
from connbench.analysis.summary import Distribution, errno_name
from connbench.findings import Finding, Severity, merge_alike
from connbench.model import Phase, StrategySpec
from connbench.report import markdown as markdown_writer
from connbench.report import text as text_writer
from connbench.report.blocks import Alert, Block, Findings, Heading, Lines, Table, Verdict
from connbench.report.comparison_report import (
    ALARM,
    CHANGED,
    HEADER,
    SCHEMA,
    change_in_words,
    changes_in_words,
    comparison_document,
    figures_document,
    value_in_words,
)
from connbench.report.json import fleet_document, json_text
from connbench.report.run_report import conditions, kernel_name, times_of_search
from connbench.results.fleet_file import Fleet, domain_of, with_short_names
from connbench.safe_text import printable
from connbench.samples import NO_PORT_FREE, TIMED_OUT
from connbench.units import count, counted, duration, format_measured_rate
from connbench.wording import listed

MOST_SHOWN = 12
"""Hosts that a table of the text shows; --wide shows all."""

MOST_NAMED = 4
"""Hosts that a sentence names; it counts the others."""

MOST_REASONS = 3
"""Differences between two hosts that a sentence names."""

LONGEST_HEADER = 24
"""Characters of a column's name that leave room for all columns on a terminal."""

UNEVEN = 0.8
"""A host that makes fewer connections a second than this share of the other hosts' median is called slow."""

NO_PORT = frozenset(errno_name(number) for number in NO_PORT_FREE)
NO_ANSWER = errno_name(TIMED_OUT)


def text(fleet: Fleet, width: int | None = None, *, bold: bool = False, is_wide: bool = False) -> str:
    """The whole report as text; see `connbench.report.text.write`. `is_wide` shows every host."""
    return text_writer.write(report_blocks(fleet, None if is_wide else MOST_SHOWN), width, bold=bold)


def markdown(fleet: Fleet) -> str:
    """The whole report to paste into an issue, with every host."""
    return markdown_writer.write(report_blocks(fleet))


def report_blocks(fleet: Fleet, most: int | None = None) -> list[Block]:
    """The verdict, what was measured, the tables of each strategy, and the findings.

    Args:
        fleet: What was measured.
        most: Hosts that a table shows, the slowest ones; None for all.
    """
    short, domain = with_short_names(fleet)
    found = summarize_fleet(short)
    blocks: list[Block] = [
        Heading(f"connbench: {_hosts_in_words(fleet)}"),
        Lines([*([_without(domain)] if domain else []), *_conditions(found)]),
        Verdict(verdict(short)),
    ]
    for one in found.strategies:
        blocks.append(Heading(f"{one.strategy.label}:", f"{one.strategy.label}:"))
        blocks += _tables(found, one, most).values()
        blocks.append(Lines(_in_all_lines(one)))
    return [*blocks, Findings(merge_alike(found.findings))]


def tables(fleet: Fleet) -> list[Table]:
    """The tables of every strategy, with every host and a title, for a page."""
    short, domain = with_short_names(fleet)
    found = summarize_fleet(short)
    named = (_without(domain),) if domain else ()
    made: list[Table] = []
    for one in found.strategies:
        place = f"{one.strategy.label}: " if len(found.strategies) > 1 else ""
        for title, table in _tables(found, one, None).items():
            more = _in_all_lines(one) if title == BY_HOST else ()
            remarks = (*table.remarks, *more, *(() if made else named))
            made.append(replace(table, title=f"{place}{title}" if place else title.capitalize(), remarks=remarks))
    return made


def _without(domain: str) -> str:
    return f"names of hosts are without {domain}"


def page_title(fleet: Fleet) -> str:
    """What was measured, in a few words, for the heading of a page."""
    labels = [one.strategy.label for one in summarize_fleet(fleet).strategies]
    what = listed(labels) if len(labels) <= MOST_NAMED else f"{len(labels)} settings"
    return f"connect() with {what} on {_hosts_in_words(fleet)}"


def _hosts_in_words(fleet: Fleet) -> str:
    number = len(fleet.hosts)
    how = ", all at the same time" if fleet.is_together else ", each by itself"
    return f"{counted(number, 'host')}{how if number > 1 else ''}"


def _named(hosts: Sequence[str]) -> str:
    """Hosts in a sentence: all of them, or a few and how many more."""
    if len(hosts) <= MOST_NAMED:
        return listed(hosts)
    return listed([*hosts[: MOST_NAMED - 1], f"{count(len(hosts) - MOST_NAMED + 1)} more hosts"])


# ---- what was measured, and what differs


def _conditions(found: FleetSummary) -> list[str]:
    """What determined the figures of all hosts, their kernels, and in what else they differ from the first one."""
    results = found.fleet.results
    if not results:
        return []
    each = [conditions(result, arrow="to") for result in results]
    shared = [words for words in each[0] if all(words in others for others in each[1:])]
    kernels = {kernel_name(result) for result in results}
    of_all = [f"{kernels.pop()} on all hosts"] if len(kernels) == 1 else []
    return [printable(", ".join([*of_all, *shared])), *map(printable, _differences(found))]


def _differences(found: FleetSummary) -> Iterator[str]:
    """A line for each thing in which hosts differ, and that may be the reason of a difference of their figures."""
    first = found.fleet.results[0].name
    values: dict[str, dict[str, list[str]]] = {}
    for host, differences in found.differences.items():
        for one in differences:
            if one.base and one.new and one.severity is not Severity.NOTE:
                values.setdefault(one.what, {one.base: [first]}).setdefault(one.new, []).append(host)
    for what, by_value in values.items():
        known = {host for hosts in by_value.values() for host in hosts}
        alike = [host for host in found.differences if host not in known]
        next(iter(by_value.values())).extend(alike)
        yield f"{what}: {'; '.join(f'{value} on {_named(hosts)}' for value, hosts in by_value.items())}"


# ---- the tables of a strategy

BY_HOST, ERRORS_BY_HOST = "by host", "errors by host"


def _tables(found: FleetSummary, one: StrategyOfFleet, most: int | None) -> dict[str, Table]:
    """The tables by their titles: the figures of each host, its errors, and each host against the first one."""
    shown = one.hosts[:most]
    remarks = _not_shown(len(one.hosts) - len(shown))
    if one.lacking:
        remarks.append(f"not measured on {_named(one.lacking)}")
    if found.fleet.is_together and not one.in_all:
        remarks.append("no round has known times on all hosts: there are no figures of all together")
    figures = _together_table(one, shown, one.in_all) if one.in_all else _apart_table(one, shown)
    made = {BY_HOST: replace(figures, remarks=(*figures.remarks, *remarks))}
    if errors := _error_table(shown):
        made[ERRORS_BY_HOST] = errors
    if found.comparisons:
        first = found.fleet.results[0].name
        compared = _against_first(one, [host for host in shown if host.against_first], first)
        if compared.rows:
            made[f"against {first}"] = compared
    return made


def _not_shown(hosts: int) -> list[str]:
    """The remark about faster hosts that a table leaves out; none where there are none."""
    return [f"{counted(hosts, 'faster host')} {'is' if hosts == 1 else 'are'} not shown: --wide shows all"] * bool(
        hosts
    )


def _apart_table(one: StrategyOfFleet, shown: Sequence[HostFigures]) -> Table:
    is_in_bind = one.strategy.searches_in_bind
    rows = []
    for host in shown:
        all_, even, odd = (
            times_of_search(host.strategy, group) for group in (host.summary.all, host.summary.even, host.summary.odd)
        )
        rows.append(
            (
                host.host,
                _time(all_, all_.p50),
                _time(all_, all_.p99),
                _time(even, even.mean),
                _time(odd, odd.mean),
                _knee(host),
                count(host.summary.failed),
                duration(host.summary.round_total_ns) if host.summary.rounds_total_ns else "partial",
            )
        )
    header = ("host", f"{'acquire ' * is_in_bind}p50", "p99", "even mean", "odd mean", "knee", "errors", "total")
    several = any(len(host.strategy.rounds) > 1 for host in shown)
    remark = "total: the sum of all latencies" + (", of the median round" if several else "")
    return Table(header, rows, remarks=(remark,))


def _time(times: Distribution, value: float) -> str:
    return duration(value) if times.count else "-"


def _knee(host: HostFigures) -> str:
    """The share of the range in use at the knee, `none` where it was looked for."""
    if host.knee.connection is None:
        return "none" if host.knee.is_judged else "-"
    return count(host.knee.connection) if host.knee.share is None else f"{host.knee.share:.1%}"


def _together_table(one: StrategyOfFleet, shown: Sequence[HostFigures], in_all: InAll) -> Table:
    rows = []
    for host in shown:
        times = times_of_search(host.strategy, host.summary.all)
        rows.append(
            (
                host.host,
                _rate(host.rate),
                "-" if host.peak is None else count(host.peak),
                _time(times, times.p99),
                _knee(host),
                "-" if host.knee_ns is None else duration(host.knee_ns),
                count(host.summary.failed),
                _begin(host.start_ns),
            )
        )
    failed = sum(host.summary.failed for host in one.hosts)
    rows.append(("all hosts", _rate(in_all.rate), count(in_all.peak), "-", "-", "-", count(failed), "-"))
    header = ("host", "conn/s", "peak open", f"{'acquire ' * one.strategy.searches_in_bind}p99")
    return Table((*header, "knee", "knee after", "errors", "begins"), rows)


def _begin(start_ns: float | None) -> str:
    """How long after the first host: `first` for that host itself."""
    return "-" if start_ns is None else f"+{duration(start_ns)}" if start_ns else "first"


def _rate(rate: float | None) -> str:
    return "-" if rate is None else format_measured_rate(rate)


def _error_table(shown: Sequence[HostFigures]) -> Table | None:
    """The failed attempts of each host that has any, by their errno; None without any."""
    total = Counter[str]()
    for host in shown:
        total.update(host.summary.errors)
    names = [name for name, _ in total.most_common()]
    rows = [
        (host.host, *(count(host.summary.errors.get(name, 0)) for name in names))
        for host in shown
        if host.summary.errors
    ]
    return Table(("errors", *names), rows) if rows else None


def _against_first(one: StrategyOfFleet, shown: Sequence[HostFigures], first: str) -> Table:
    """The total time of each host against that of the first one, as `connbench compare` judges it."""
    name = judged_name(one.strategy)
    rows, few = [], False
    for host in shown:
        figure = host.against_first.figures.get(name) if host.against_first else None
        if figure:
            few = few or figure.verdict is ChangeVerdict.UNDETERMINED
            rows.append((host.host, *change_in_words(figure, is_share=False), str(figure.verdict)))
    heading = f"against {first}"
    header = (
        heading if len(heading) <= LONGEST_HEADER else "host",
        _judged_words(one.strategy),
        f"{CONFIDENCE:.0%} interval",
        "verdict",
    )
    remarks = [heading] * (header[0] != heading)
    remarks += [f"a verdict needs {FEWEST} complete rounds of each host"] * few
    others = [f"{host.host} {words}" for host in shown if (words := _others(host.against_first, name))]
    remarks += [f"other figures that differ: {'; '.join(others)}"] if others else []
    return Table(header, rows, words=(len(header) - 1,), remarks=tuple(remarks))


def _judged_words(spec: StrategySpec) -> str:
    return "mean acquire time" if spec.searches_in_bind else "total time"


def _others(compared: StrategyComparison | None, judged: str) -> str:
    """The other figures that differ: `8 slower, 1 faster`."""
    figures = compared.figures if compared else {}
    found = Counter(figure.verdict for name, figure in figures.items() if name != judged and figure.verdict in CHANGED)
    return ", ".join(f"{number} {verdict}" for verdict, number in found.items())


def _in_all_lines(one: StrategyOfFleet) -> list[str]:
    """What all hosts did together; none where each ran by itself."""
    if one.in_all is None:
        return []
    of_rounds = f", in {one.in_all.rounds} rounds" if one.in_all.rounds > 1 else ""
    times = f"{duration(one.in_all.span_ns)} of {duration(one.in_all.whole_ns)}"
    return [
        f"all hosts ran at the same time for {one.in_all.overlap:.1%} of the time, {times}{of_rounds}: conn/s is of it",
        f"they began within {duration(max(one.in_all.spreads_ns))} of each other",
    ]


# ---- the verdict


def verdict(fleet: Fleet) -> tuple[str, ...]:
    """What a reader should take away, in a few sentences; the first says if figures cannot be used."""
    found = summarize_fleet(fleet)
    is_known = fleet.is_together and any(one.in_all for one in found.strategies)
    said = _of_together(found) if is_known else _of_apart(found)
    return tuple(map(printable, (*_unusable(found), *said, *_of_lost_hosts(fleet))))


def _that_count(found: FleetSummary) -> list[StrategyOfFleet]:
    """What the verdict is about: the churn where there is one, as in the verdict on a run; else everything."""
    churned = [one for one in found.strategies if one.strategy.phase is Phase.CHURN]
    return churned or [*found.strategies]


def _name(found: FleetSummary, spec: StrategySpec) -> str:
    """A strategy in a sentence: without its load, if that tells it from the others."""
    settings = [one.strategy.setting for one in found.strategies if one.strategy.phase is spec.phase]
    return spec.setting if len(set(settings)) == len(settings) else spec.label


LOSSES = frozenset({"timed-out", "slow-connect", "syn-retransmission"})
"""Codes of findings that are the result of hosts that fill a router or a target together."""


def _unusable(found: FleetSummary) -> Iterator[str]:
    """The first reason why figures cannot be used."""
    is_full = any(one.in_all and one.in_all.open_at_loss is not None for one in found.strategies)
    invalid = [f for f in found.findings if f.severity is Severity.INVALID and not (is_full and f.code in LOSSES)]
    if invalid:
        more = f", and {counted(len(invalid) - 1, 'finding')} more" if len(invalid) > 1 else ""
        yield f"Do not use these figures: {invalid[0].text}{more}."


def _of_lost_hosts(fleet: Fleet) -> Iterator[str]:
    """Hosts without a result, and those with a part of one."""
    nothing = [host.name for host in fleet.hosts if not host.is_measured and not host.left_out]
    if nothing:
        yield f"{_named(nothing)} measured nothing."
    left_out = [host.name for host in fleet.hosts if not host.is_measured and host.left_out]
    if left_out:
        yield f"{_named(left_out)} {'was' if len(left_out) == 1 else 'were'} left out."
    early = [
        host.name for host in fleet.hosts if host.result and host.is_measured and (host.fault or host.result.is_partial)
    ]
    if early:
        yield (
            f"{_named(early)} ended early: their figures are of a part of the run."
            if len(early) > 1
            else (f"{early[0]} ended early: its figures are of a part of the run.")
        )


def _of_apart(found: FleetSummary) -> Iterator[str]:
    """Which host is the slowest, by how much and why; or that all are alike, or that the rounds are too few."""
    results = found.fleet.results
    if not results:
        return
    first = results[0].name
    if len(results) == 1:
        yield f"Only {first} measured anything, so there is no host to compare it with."
        return
    yield from _not_comparable(found, first)
    judged = [
        (host, one.strategy, figure)
        for one in _that_count(found)
        for host in one.hosts
        if host.against_first
        and (figure := host.against_first.figures.get(judged_name(one.strategy)))
        and host.host not in _blocked(found)
        and figure.base
        and figure.new
    ]
    if not judged:
        yield f"No strategy was measured on {first} and on another host in the same way: there is nothing to compare."
        return
    changed = [one for one in judged if one[2].verdict in CHANGED]
    if changed:
        yield from _slowest(found, first, changed)
    if alike := [name for name in dict.fromkeys(host.host for host, *_ in judged) if _is_alike(name, judged)]:
        yield (
            f"{_named([first, *alike])} are alike: no difference of the {_judged_words(judged[0][1])} is shown."
            if not changed
            else f"No difference from {first} is shown on {_named(alike)}."
        )
    if not changed and any(figure.verdict is ChangeVerdict.UNDETERMINED for *_, figure in judged):
        host, spec, figure = max(judged, key=lambda one: abs(_size(one[2])))
        yield (
            f"The largest difference: with {_name(found, spec)} the {_judged_words(spec)} of {host.host} is "
            f"{_times(figure)} that of {first}; the rounds are too few to tell it from chance."
        )
        yield f"Next: measure all hosts with --rounds {2 * FEWEST}."


def _is_alike(name: str, judged: Sequence[tuple[HostFigures, StrategySpec, Figure]]) -> bool:
    return all(f.verdict is ChangeVerdict.NO_DIFFERENCE for host, _, f in judged if host.host == name)


def _size(figure: Figure) -> float:
    return log(figure.new / figure.base) if figure.new and figure.base else 0.0


def _times(figure: Figure) -> str:
    return f"{change_in_words(figure, is_share=False)[0].removesuffix(' x')} times"


def _slowest(
    found: FleetSummary, first: str, changed: Sequence[tuple[HostFigures, StrategySpec, Figure]]
) -> Iterator[str]:
    """The host with the largest time beside that of the first one, or the first one if all others are faster."""
    slower = [one for one in changed if one[2].verdict is ChangeVerdict.SLOWER]
    host, spec, figure = max(slower or changed, key=lambda one: abs(_size(one[2])))
    _, interval = change_in_words(figure, is_share=False)
    sure = f" ({CONFIDENCE * 100:.0f} % interval {interval})" if figure.change else ""
    number = counted(len(found.fleet.results), "host")
    slowest = host.host if slower else first
    yield (
        f"{slowest} is the slowest of {number}: with {_name(found, spec)} the {_judged_words(spec)} of {host.host} is "
        f"{_times(figure)} that of {first}{sure}."
    )
    yield _why(found, host.host, first)
    if others := [name for name in dict.fromkeys(one[0].host for one in slower) if name != host.host]:
        yield f"{_named(others)} {'is' if len(others) == 1 else 'are'} slower than {first}, too."


def _why(found: FleetSummary, host: str, first: str) -> str:
    reasons = _reasons(found, host, first)
    if not reasons:
        return f"Nothing that connbench records of {host} and {first} differs and would explain it."
    return f"{host} differs from {first} in {listed(reasons)}."


def _reasons(found: FleetSummary, host: str, first: str) -> list[str]:
    """In what a host differs from the first one, so far as that may explain its times."""
    differences = [d for d in found.differences[host] if d.severity is Severity.WARNING and d.base and d.new]
    reasons = [f"{one.what} ({one.new}, and {one.base} on {first})" for one in differences[:MOST_REASONS]]
    return reasons + [f"{len(differences) - MOST_REASONS} more"] * (len(differences) > MOST_REASONS)


def _blocked(found: FleetSummary) -> dict[str, Comparison]:
    """The hosts that were not measured in the same way as the first one, or whose figures are not sound."""
    return {name: comparison for name, comparison in found.comparisons if comparison.obstacles}


def _not_comparable(found: FleetSummary, first: str) -> Iterator[str]:
    by_reason: dict[str, list[str]] = {}
    for host, comparison in _blocked(found).items():
        for one in comparison.obstacles:
            if one.base and one.new:
                reason = f"{one.what} {one.base} on {first}, and {one.new} there"
                by_reason.setdefault(reason, []).append(host)
    for reason, hosts in by_reason.items():
        yield f"Not comparable with {first}: {_named(hosts)} ({reason})."


def _of_together(found: FleetSummary) -> Iterator[str]:
    """What the hosts reached together, who ran out of ports, and which host was slow."""
    measured = [(one, one.in_all) for one in _that_count(found) if one.in_all]
    number = counted(len(found.fleet.results), "host")
    made = [
        f"{_name(found, one.strategy)} made {_rate(in_all.rate)} connections/s, at most {count(in_all.peak)} open"
        for one, in_all in measured
        if in_all.rate is not None
    ]
    if made:
        more = [f"{counted(len(made) - MOST_REASONS, 'setting')} more are above"] * (len(made) > MOST_REASONS)
        shown = "; ".join([*made[:MOST_REASONS], *more])
        least = min(in_all.overlap for _, in_all in measured)
        yield f"{number} together: {shown}; all hosts ran for {least * 100:.0f} % of the time."
    apart = [_name(found, one.strategy) for one, in_all in measured if in_all.rate is None]
    if apart:
        yield f"With {listed(apart)} the {number} never all ran at the same time: there is no rate of all together."
    for one, in_all in measured:
        yield from _exhausted(found, one, in_all, is_named=len(measured) > 1)
    yield from _uneven(found, [one for one, _ in measured])


def _exhausted(found: FleetSummary, one: StrategyOfFleet, in_all: InAll, *, is_named: bool) -> Iterator[str]:
    """The hosts that found no port of their own, and those whose SYNs were lost on the way."""
    place = f"With {_name(found, one.strategy)} " if is_named else ""
    without = {host.host: sum(n for name, n in host.summary.errors.items() if name in NO_PORT) for host in one.hosts}
    full = [host for host, number in without.items() if number]
    if full:
        yield f"{place}{_named(full)} ran out of ports: {counted(sum(without.values()), 'attempt')} found none free."
    lost = [host for host in one.hosts if host.lost]
    if lost and in_all.open_at_loss is not None:
        own = "" if any(host.host in full for host in lost) else ", and ports of their own left"
        hosts, number = _named([host.host for host in lost]), counted(sum(host.lost for host in lost), "SYN")
        yield (
            f"{place}{hosts} had no answer in time to {number}, the first with {count(in_all.open_at_loss)} "
            f"connections of all hosts open{own}: the target, or a router with NAT before it, had no room for more."
        )


def _uneven(found: FleetSummary, strategies: Sequence[StrategyOfFleet]) -> Iterator[str]:
    """The slowest host of each strategy if it stands out, with what it differs in; else how much alike they are."""
    alike = []
    slow: dict[str, None] = {}
    for one in strategies:
        rates = sorted((host.rate, host.host) for host in one.hosts if host.rate is not None)
        if len(rates) < 2:
            continue
        (lowest, name), *others = rates
        middle = median(rate for rate, _ in others)
        if lowest >= UNEVEN * middle:
            span = " to ".join(dict.fromkeys((_rate(lowest), _rate(rates[-1][0]))))
            alike.append(f"with {_name(found, one.strategy)} each made {span} connections/s")
        else:
            slow[name] = None
            yield (
                f"With {_name(found, one.strategy)} {name} is the slowest: {_rate(lowest)} connections/s, where the "
                f"median of the others is {_rate(middle)}."
            )
    if alike:
        yield f"The hosts are alike: {', '.join(alike[:MOST_REASONS])}."
    first = found.fleet.results[0].name
    for name in slow:
        if name != first and _reasons(found, name, first):
            yield _why(found, name, first)


# ---- two fleets


def comparison_text(compared: FleetComparison, width: int | None = None, *, is_wide: bool = False) -> str:
    """The comparison of two fleets as text; `is_wide` shows every host."""
    return text_writer.write(comparison_blocks(compared, None if is_wide else MOST_SHOWN), width)


def comparison_markdown(compared: FleetComparison) -> str:
    """The comparison of two fleets to paste into an issue, with every host."""
    return markdown_writer.write(comparison_blocks(compared))


def comparison_blocks(whole: FleetComparison, most: int | None = None) -> list[Block]:
    """The verdict, the two files and what differs between them, and a row for each host and strategy.

    Args:
        whole: What was compared.
        most: Hosts that a table shows, those that became the slowest; None for all.
    """
    domain = domain_of([*whole.hosts, *whole.only_base, *whole.only_new])
    compared = replace(
        whole,
        hosts={name.removesuffix(domain): comparison for name, comparison in whole.hosts.items()},
        only_base=tuple(name.removesuffix(domain) for name in whole.only_base),
        only_new=tuple(name.removesuffix(domain) for name in whole.only_new),
    )
    sides = (("BASE", compared.base), ("NEW ", compared.new))
    blocks: list[Block] = [
        Verdict(comparison_verdict(compared)),
        Lines([f"{side} {fleet.name}: {_hosts_in_words(fleet)}" for side, fleet in sides], is_list=True),
        Lines([_without(domain)] if domain else []),
    ]
    by_severity = {
        severity: [(str(severity), text) for text in _between(compared, severity)]
        for severity in (Severity.INVALID, Severity.WARNING, Severity.NOTE)
    }
    if alarming := by_severity[Severity.INVALID] + by_severity[Severity.WARNING]:
        blocks.append(Alert(ALARM, alarming))
    blocks.append(Lines([f"{severity}: {text}" for severity, text in by_severity[Severity.NOTE]], is_list=True))
    for table in comparison_tables(compared, most):
        blocks += [Heading(table.title), replace(table, title="")]
    return [*blocks, Lines(_only_in_one(compared))]


def comparison_tables(compared: FleetComparison, most: int | None = None) -> list[Table]:
    """A table for each strategy, with a row for each host, or for so many that became the slowest."""
    made: dict[str, list[tuple[str, StrategyComparison]]] = {}
    for host, comparison in compared.hosts.items():
        for one in comparison.strategies:
            made.setdefault(one.strategy.label, []).append((host, one))
    return [_comparison_table(label, rows, most) for label, rows in made.items()]


def _comparison_table(label: str, compared: Sequence[tuple[str, StrategyComparison]], most: int | None) -> Table:
    name = judged_name(compared[0][1].strategy)
    every = sorted(((host, one, one.figures[name]) for host, one in compared if name in one.figures), key=_by_change)
    shown = every[:most]
    figures = [(host, figure) for host, _, figure in shown]
    rows = [
        (
            host,
            *(value_in_words(value, is_share=False) for value in (figure.base, figure.new)),
            *change_in_words(figure, is_share=False),
            str(figure.verdict),
        )
        for host, figure in figures
    ]
    few = any(figure.verdict is ChangeVerdict.UNDETERMINED for _, figure in figures)
    remarks = [f"a verdict needs {FEWEST} complete rounds of each"] * few
    others = [f"{host} {words}" for host, one, _ in shown if (words := _others(one, name))]
    remarks += [f"other figures that differ: {'; '.join(others)}"] if others else []
    remarks += _not_shown(len(every) - len(shown))
    title = f"{label}, {_judged_words(compared[0][1].strategy)}"
    return Table(("host", *HEADER[1:]), rows, title, words=(len(HEADER) - 1,), remarks=tuple(remarks))


def _by_change(row: tuple[str, StrategyComparison, Figure]) -> float:
    return -_size(row[2])


def _between(compared: FleetComparison, severity: Severity) -> Iterator[str]:
    """What differs between BASE and NEW, and on which hosts if not on all; with its values if they are alike there."""
    by_what: dict[str, dict[str, str]] = {}
    for host, comparison in compared.hosts.items():
        for one in comparison.differences:
            if one.severity is severity:
                what = f"{one.what} differs" if one.base and one.new else f"{'BASE' if one.base else 'NEW'} {one.what}"
                by_what.setdefault(what, {})[host] = one.text
    for what, texts in by_what.items():
        values = set(texts.values())
        where = f" (on {_named([*texts])})" if len(texts) < len(compared.hosts) else ""
        yield f"{values.pop() if len(values) == 1 else what}{where}"


def _only_in_one(compared: FleetComparison) -> list[str]:
    lines = [
        f"hosts only in {side}: {_named(hosts)}"
        for side, hosts in (("BASE", compared.only_base), ("NEW", compared.only_new))
        if hosts
    ]
    for side in ("BASE", "NEW"):
        hosts: dict[str, list[str]] = {}
        for host, comparison in compared.hosts.items():
            for spec in comparison.only_base if side == "BASE" else comparison.only_new:
                hosts.setdefault(spec.label, []).append(host)
        lines += [f"only in {side}: {label} on {_named(some)}" for label, some in hosts.items()]
    return lines


def comparison_verdict(compared: FleetComparison) -> tuple[str, ...]:
    """What became slower or faster on which host, and the hosts that are in one file only."""
    if not compared.hosts:
        return ("Nothing to compare: no host of the same name is in both.",)
    said: list[str] = []
    if obstacles := [name for name, comparison in compared.hosts.items() if comparison.obstacles]:
        [reason, *_] = compared.hosts[obstacles[0]].obstacles
        where = "" if len(obstacles) == len(compared.hosts) else f" on {_named(obstacles)}"
        said.append(f"Not comparable{where}: {reason.text}.")
    changes = {name: _changes(comparison) for name, comparison in compared.hosts.items()}
    changed = sorted((name for name, size in changes.items() if size), key=lambda name: -changes[name])
    said += [f"{name}: {changes_in_words(compared.hosts[name])}." for name in changed[:MOST_REASONS]]
    if len(changed) > MOST_REASONS:
        said.append(f"Changes are shown on {counted(len(changed) - MOST_REASONS, 'host')} more.")
    is_judged = any(comparison.judged for comparison in compared.hosts.values())
    if alike := [name for name in compared.hosts if name not in changed]:
        whose = f"on {_named(alike)}" if changed else f"on any of {counted(len(alike), 'host')}"
        said.append(f"No change is shown {whose}." if is_judged else "The rounds are too few to judge a change.")
    for side, hosts in (("BASE", compared.only_base), ("NEW", compared.only_new)):
        if hosts:
            said.append(f"{_named(hosts)} {'is' if len(hosts) == 1 else 'are'} in {side} only, and not compared.")
    if not is_judged:
        said.append(f"Next: measure both with --rounds {2 * FEWEST}.")
    return tuple(map(printable, said))


def comparison_findings(compared: FleetComparison) -> list[Finding]:
    """The findings of both fleets, those that are alike as one."""
    sides = (("BASE", compared.base), ("NEW", compared.new))
    found = ((side, one) for side, fleet in sides for one in summarize_fleet(fleet).findings)
    return merge_alike(replace(one, strategy=f"{side}, {one.strategy}") for side, one in found)


def _changes(comparison: Comparison) -> float:
    """The size of the largest change of a time that is shown, 0 without one; of errors alone a very small one."""
    figures = [(name, figure) for one in comparison.strategies for name, figure in one.figures.items()]
    sizes = [1e-9 if name == ERRORS else abs(_size(figure)) for name, figure in figures if figure.verdict in CHANGED]
    return max(sizes, default=0.0)


def comparison_json(compared: FleetComparison) -> str:
    """The comparison for programs: that of each host, as `connbench compare` writes it for two files."""
    document = {
        "schema": SCHEMA,
        "verdict": comparison_verdict(compared),
        "base": compared.base.name,
        "new": compared.new.name,
        "hosts": {name: comparison_document(comparison) for name, comparison in compared.hosts.items()},
        "only_in_base": compared.only_base,
        "only_in_new": compared.only_new,
    }
    return json_text(document, indented=True)


# ---- for programs


def json_document(fleet: Fleet) -> str:
    """The file of the hosts, and before them `summary`: the verdict, the figures side by side, and the findings."""
    return fleet_document(fleet, {"summary": summary_document(fleet)})


def summary_document(fleet: Fleet) -> dict[str, Any]:
    """The figures of hosts side by side; what is not known, or does not exist, is null."""
    found = summarize_fleet(fleet)
    results = fleet.results
    return {
        "verdict": verdict(fleet),
        "partial": fleet.is_partial,
        "first": results[0].name if results else None,
        "differences": {host: [asdict(one) for one in some] for host, some in found.differences.items()},
        "strategies": [_strategy(one) for one in found.strategies],
        "findings": found.findings,
    }


def _strategy(one: StrategyOfFleet) -> dict[str, Any]:
    return {
        "strategy": one.strategy,
        "label": one.strategy.label,
        "in_all": one.in_all
        and {
            "rounds": one.in_all.rounds,
            "span_ns": one.in_all.span_ns,
            "whole_ns": one.in_all.whole_ns,
            "overlap_share": one.in_all.overlap,
            "connections_per_s": one.in_all.rate,
            "peak_open": one.in_all.peak,
            "start_spreads_ns": one.in_all.spreads_ns,
            "open_at_loss": one.in_all.open_at_loss,
        },
        "hosts": [_host(host) for host in one.hosts],
        "not_measured_on": one.lacking,
    }


def _host(host: HostFigures) -> dict[str, Any]:
    times = {
        name: times_of_search(host.strategy, group)
        for name, group in (("all", host.summary.all), ("even", host.summary.even), ("odd", host.summary.odd))
    }
    return {
        "host": host.host,
        "kernel": host.result.kernel or None,
        "attempts": host.summary.attempts,
        "failed": host.summary.failed,
        "errors": host.summary.errors,
        "latency_ns": {name: {"mean": t.mean, "p50": t.p50, "p99": t.p99} for name, t in times.items()},
        "knee_share": host.knee.share,
        "round_total_ns": host.summary.round_total_ns or None,
        "acquire_per_connection_ns": host.cost_ns,
        "connections_per_s": host.rate,
        "peak_open": host.peak,
        "begins_after_ns": host.start_ns,
        "knee_after_ns": host.knee_ns,
        "lost": host.lost,
        "against_first": None if host.against_first is None else figures_document(host.against_first),
    }
