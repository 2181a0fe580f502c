"""A run as blocks: each strategy by itself, then all of them side by side; and in short, a row for each strategy."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence

import numpy as np

from connbench.analysis.knee import SLOWDOWN, Knee, find_knee, is_unseen
from connbench.analysis.levels import is_profile, levels_of
from connbench.analysis.parts import By, Part, fill_steps, split_by
from connbench.analysis.soundness import findings
from connbench.analysis.summary import Distribution, Group, Summary, achieved_rate, rate_of_all, summarize
from connbench.errors import UsageError
from connbench.findings import Finding, merge_alike
from connbench.model import (
    Churn,
    Close,
    Link,
    Load,
    Phase,
    Plan,
    PortRange,
    Protocol,
    StrategySpec,
    format_addresses,
)
from connbench.model.round_report import CONNTRACK, CONNTRACK_COUNTERS, CONNTRACK_MAX
from connbench.model.time_wait import TW_REUSE
from connbench.report import markdown as markdown_writer
from connbench.report import text as text_writer
from connbench.report.blocks import Block, Findings, Heading, Lines, Table, Verbatim, Verdict
from connbench.report.ranking_table import Line, Ranking, ranking_of
from connbench.report.run_verdict import run_verdict
from connbench.report.talk import six_lines
from connbench.results.result import Origin, Result, StrategyResult
from connbench.safe_text import printable
from connbench.units import NS_PER_US, count, duration, format_measured_rate, format_percent

OUTLIER = 100
"""Times the median above which an attempt of UDP counts as an outlier: they are rare, and most of its mean."""

ALL_BUT_FULL = 0.95
"""Share of the range in use from which on a search of UDP is long as a rule, and no longer by chance."""

MOST_PARTS = 16
"""Sources, targets or clients that a table has room for; the JSON has all of them."""

_DISTRIBUTION = ("mean", "p50", "p90", "p99", "p99.9", "max")
_PART_COUNTS, _PART_TIMES = ("n", "errors"), ("mean", "p50", "p99")
_POSITIONS = ("knee", "first failed")


def text(result: Result, width: int | None = None, *, bold: bool = False) -> str:
    """The whole report as text; see `connbench.report.text.write`."""
    return text_writer.write(report_blocks(result), width, bold=bold)


def markdown(result: Result, verdict: Sequence[str] | None = None) -> str:
    """The report in short, to paste into an issue; arguments as those of `summary_blocks`."""
    return markdown_writer.write(summary_blocks(result, verdict))


# ---- the whole report, and the parts that are printed as a run goes on


def report_blocks(result: Result) -> list[Block]:
    """The whole report: each strategy, the comparison of several, the findings, and the verdict."""
    strategies = [block for strategy in result.strategies for block in strategy_blocks(result, strategy)]
    return [Verdict(run_verdict(result)), *strategies, *closing_blocks(result)]


def strategy_blocks(result: Result, strategy: StrategyResult) -> list[Block]:
    """One strategy: its header, the talk's six lines, its tables, and lines on wall time, errors, load and knee.

    A group without an attempt has no line among the six; `--format talk` has it.
    """
    summary = summarize(strategy)
    if strategy.strategy.phase is Phase.PROFILE:
        return [
            Heading(header(result, strategy.strategy), f"{strategy.strategy.label}:"),
            _level_table(strategy),
            Lines(_facts(strategy.strategy, summary)),
        ]
    lines = [
        *_wall_time(result, summary),
        *_facts(strategy.strategy, summary),
        *_load_lines(strategy),
        *_router_lines(result, strategy),
        *knee_lines(strategy, find_knee(strategy), result.kernel),
    ]
    return [
        Heading(header(result, strategy.strategy), f"{strategy.strategy.label}:"),
        Verbatim(six_lines(summary)),
        *_tables(result, strategy),
        Lines(lines),
    ]


def closing_blocks(result: Result, already_printed: Collection[Finding] = ()) -> list[Block]:
    """What follows the last strategy: the comparison of all, if there are several, and the other findings."""
    blocks: list[Block] = [Findings(merge_alike(f for f in findings(result) if f not in already_printed))]
    if len(result.strategies) > 1 and not is_profile(result):
        blocks.insert(0, ranking_of([result], [(s.strategy.label, s) for s in result.strategies]).table)
    return blocks


def summary_blocks(result: Result, verdict: Sequence[str] | None = None) -> list[Block]:
    """The report in short: the verdict, a table with a row for each strategy, and the findings.

    Args:
        result: What was measured.
        verdict: Its sentences; None for those of a run.
    """
    remarks = [
        f"{s.strategy.label}: {line}"
        for s in result.strategies
        for line in (*_load_lines(s), *_router_lines(result, s))
    ]
    return [
        *machine_blocks(result),
        Verdict(run_verdict(result) if verdict is None else verdict),
        *([_summary_table(result)] if result.strategies else []),
        *_handshakes_in_short(result),
        *(block for strategy in result.strategies for block in _call_blocks(result, strategy)),
        *(block for strategy in result.strategies for block in _part_blocks(result, strategy)),
        Lines(remarks, is_list=True),
        Findings(merge_alike(findings(result))),
    ]


# ---- what was measured: written once, for every report


def header(result: Result, spec: StrategySpec) -> str:
    """One line with everything that determines the figures of a strategy."""
    source = ""
    if result.plan:
        sources = result.plan.sources[: spec.load.sources]
        source = format_addresses(sources, "source") if spec.traits.chooses_source else "kernel's source"
    return printable(", ".join([f"{spec.label}: {kernel_name(result)}", *conditions(result, source)]))


def machine_blocks(result: Result) -> list[Block]:
    """The kernel as a heading, and below it everything that determined the run."""
    return [Heading(f"connbench: {kernel_name(result)}"), Lines([", ".join(conditions(result, arrow="to"))])]


def kernel_name(result: Result) -> str:
    """`Linux 6.8.0`, or `kernel unknown` if the result does not name it."""
    kernel = result.environment.get("kernel")
    return f"Linux {kernel}" if kernel else "kernel unknown"


def conditions(result: Result, source: str = "", arrow: str = "->") -> list[str]:
    """What determined the figures besides kernel and strategy: ports, addresses, namespace, link, listener, loop, seed.

    Args:
        result: The file's name stands for all of it where the file has no plan.
        source: The source addresses in words; empty for those of the plan.
        arrow: What stands between source and target.
    """
    plan = result.plan
    if plan is None:
        parts, rounds = [f"{result.origin} {result.name}"], result.most_rounds
    else:
        rounds = plan.rounds
        parts = [
            _port_range(result, plan),
            f"{source or format_addresses(plan.sources, 'source')} {arrow} {format_addresses(plan.targets, 'target')}",
            *([format_addresses(plan.names, "name")] if plan.names else []),
            str(plan.namespace),
            *filter(None, [link_name(plan)]),
            *([f"established-hash table of {count(plan.ehash_entries)} entries"] if plan.ehash_entries else []),
            f"{plan.listener} listener",
            f"loop {plan.loop.language}",
            f"seed {plan.seed}",
        ]
    return [*parts, *([f"{rounds} rounds"] if rounds > 1 else [])]


def link_name(plan: Plan) -> str:
    """The link: `veth link, 2 ms delay`; empty for the loopback, which is the usual one."""
    if plan.link is Link.LOOPBACK:
        return ""
    if plan.link is Link.ROUTED:
        return "route through the host" + (" with masquerade" if plan.masquerade else "")
    words = [f"{plan.link} link"]
    if plan.link is Link.NAT:
        words.append(f"{plan.client_namespaces} client namespace{'' if plan.client_namespaces == 1 else 's'}")
        words += [f"router ports {plan.nat_ports}"] if plan.nat_ports else []
        words += ["router ports at random"] if plan.nat_random else []
    words += [f"{plan.delay_ms:g} ms delay"] if plan.delay_ms else []
    return ", ".join(words)


def _port_range(result: Result, plan: Plan) -> str:
    """The port range, with the range of the host if the result has it."""
    host = _host_range(result)
    words = [] if host is None else ["the host's" if host == plan.port_range else f"the host's is {host}"]
    words += [f"{count(plan.reserved)} of its ports reserved"] if plan.reserved else []
    return f"range {plan.port_range}" + (f" ({'; '.join(words)})" if words else "")


def _host_range(result: Result) -> PortRange | None:
    settings = result.environment.get("host_sysctls")
    text = settings.get("net.ipv4.ip_local_port_range") if isinstance(settings, dict) else None
    try:
        return PortRange.parse("-".join(str(text).split()))
    except UsageError:  # a file may hold any text
        return None


# ---- the tables of a strategy


def _tables(result: Result, strategy: StrategyResult) -> Iterator[Table]:
    """Latency, handshake, acquire time and tries, giving up, and the tables by source, target and client.

    UDP's latency is its acquire time, so its second table has the tries alone.
    """
    summary, is_udp = summarize(strategy), strategy.strategy.load.protocol is Protocol.UDP
    yield from call_tables(result, strategy) or (latency_table(summary),)
    if summary.all.handshake.count:
        yield _handshake_table(summary)
    if result.origin is not Origin.TALK_CSV:
        yield _tries_table(summary) if is_udp else _acquire_table(strategy)
    if by_fill := giving_up_table(strategy):
        yield by_fill
    yield from (table for _, table in part_tables(result, strategy))


def _level_table(strategy: StrategyResult) -> Table:
    """The acquire times of a profile at each level, of all attempts."""
    rows = [
        (
            format_percent(level.share),
            count(level.in_use),
            *map(duration, (level.acquire.p50, level.acquire.p90, level.acquire.p99, level.acquire.maximum)),
            f"{level.tries_mean:.2f}",
            count(level.failed),
        )
        for level in levels_of(strategy)
    ]
    return Table(("acquire", "ports", "p50", "p90", "p99", "max", "tries mean", "errors"), rows)


def latency_table(summary: Summary) -> Table:
    """Latency of all attempts, of each parity and of the failed; a group without attempts has no row."""
    return _distributions("latency", {name: group.latency for name, group in summary.groups.items()})


def call_tables(result: Result, strategy: StrategyResult) -> tuple[Table, ...]:
    """bind() and connect() by themselves, by parity and by half of the range; none where bind() takes no port."""
    spec, summary = strategy.strategy, summarize(strategy)
    if not spec.has_bind_apart or result.origin is Origin.TALK_CSV:
        return ()
    groups = summary.groups | summary.halves
    return (
        _distributions("bind()", {name: group.bind for name, group in groups.items()}, has_total=True),
        _distributions("latency", {name: group.latency for name, group in groups.items()}, has_total=True),
    )


def _handshake_table(summary: Summary) -> Table:
    """Handshakes of the same groups, where they were timed by themselves."""
    return _distributions("handshake", {name: group.handshake for name, group in summary.groups.items()})


def _distributions(what: str, groups: Mapping[str, Distribution], *, has_total: bool = False) -> Table:
    rows = [
        (name, count(group.count), *((duration(group.total),) if has_total else ()), *_distribution(group))
        for name, group in groups.items()
        if group.count
    ]
    return Table((what, "n", *(("total",) if has_total else ()), *_DISTRIBUTION), rows)


def _distribution(values: Distribution) -> tuple[str, ...]:
    p999 = "-" if values.p999 is None else duration(values.p999)
    return (*map(duration, (values.mean, values.p50, values.p90, values.p99)), p999, duration(values.maximum))


def _tries_table(summary: Summary) -> Table:
    """Tries of the same groups."""
    rows = [
        (name, f"{group.tries_mean:.2f}", count(group.tries_max))
        for name, group in summary.groups.items()
        if group.acquire.count
    ]
    return Table(("tries", "mean", "max"), rows)


def _acquire_table(strategy: StrategyResult) -> Table:
    """Acquire time and tries of the same groups, and of the halves of the range where tries are bind() calls."""
    summary = summarize(strategy)
    groups = summary.groups | (summary.halves if strategy.strategy.traits.binds_to_port else {})
    rows = [
        (
            name,
            duration(group.acquire.mean),
            duration(group.acquire.p99),
            f"{group.tries_mean:.2f}",
            count(group.tries_max),
        )
        for name, group in groups.items()
        if group.acquire.count
    ]
    return Table(("acquire", "mean", "p99", "tries mean", "tries max"), rows)


def giving_up_table(strategy: StrategyResult) -> Table | None:
    """Connections made within the limit as the range fills; None for a churn, and where no attempt is given up."""
    spec = strategy.strategy
    if spec.load.give_up_ms is None or spec.phase is Phase.CHURN:
        return None
    rows = [
        (f"{s.asked:.0%}", *map(count, (s.attempts, s.connected, s.given_up, s.failed)), f"{s.open:.1%}")
        for s in fill_steps(strategy)
    ]
    header = ("asked for", "attempts", f"within {spec.load.give_up_ms:g} ms", "given up", "failed", "open")
    return Table(header, rows) if rows else None


def part_tables(result: Result, strategy: StrategyResult) -> Iterator[tuple[By, Table]]:
    """A table by source, by target and by client, each if there are several."""
    for by in By:
        parts = split_by(result, strategy, by)
        if len(parts) > 1:
            yield by, _by_client(strategy, parts) if by is By.CLIENT else _by_address(by, parts)


def _by_address(by: By, parts: list[Part]) -> Table:
    """A row for each address; knee and first failure, by its own count, where it has ports of its own."""
    fills = parts[0].fills
    header = (by.value, *_PART_COUNTS, *_time_names(parts[0].strategy), *(_POSITIONS if fills else ()))
    rows = [
        (part.name, *_counts(part.strategy), *_times(part.strategy), *(_positions(part.strategy) if fills else ()))
        for part in parts[:MOST_PARTS]
    ]
    return Table(header, [*rows, *_rest(len(parts), header)])


def _time_names(strategy: StrategyResult) -> tuple[str, ...]:
    """The names of `_times`: latency has none, as in all tables of parts; of a search in bind() it is acquire time."""
    first, *others = _PART_TIMES
    return (f"acquire {first}" if strategy.strategy.searches_in_bind else first, *others)


def _counts(strategy: StrategyResult) -> tuple[str, ...]:
    summary = summarize(strategy)
    return count(summary.attempts), count(summary.failed)


def _times(strategy: StrategyResult) -> tuple[str, ...]:
    times = times_of_search(strategy, summarize(strategy).all)
    return tuple(map(duration, (times.mean, times.p50, times.p99)))


def times_of_search(strategy: StrategyResult, group: Group) -> Distribution:
    """The times that contain the port search: latency, or acquire time where the search is in bind()."""
    return group.acquire if strategy.strategy.searches_in_bind else group.latency


def _positions(strategy: StrategyResult) -> tuple[str, ...]:
    knee = find_knee(strategy)
    return tuple("-" if attempt is None else count(attempt) for attempt in (knee.connection, knee.first_failed))


def _by_client(strategy: StrategyResult, parts: list[Part]) -> Table:
    """A row for each client, with its connections per second, and one for all clients together."""
    header = (By.CLIENT.value, *_PART_COUNTS, "conn/s", *_time_names(strategy), "even mean", "odd mean")
    rows = [(part.name, *_client_figures(part.strategy)) for part in parts[:MOST_PARTS]]
    return Table(header, [*rows, *_rest(len(parts), header), ("all", *_client_figures(strategy))])


def _client_figures(strategy: StrategyResult) -> tuple[str, ...]:
    summary = summarize(strategy)
    by_parity = (times_of_search(strategy, group) for group in (summary.even, summary.odd))
    rate = "-" if summary.rate is None else count(summary.rate)
    means = (duration(one.mean) if one.count else "-" for one in by_parity)
    return (*_counts(strategy), rate, *_times(strategy), *means)


def _rest(parts: int, header: tuple[str, ...]) -> list[tuple[str, ...]]:
    return [(f"... and {parts - MOST_PARTS} more", *[""] * (len(header) - 1))] if parts > MOST_PARTS else []


# ---- the lines below the tables


def _wall_time(result: Result, summary: Summary) -> list[str]:
    """A line with the wall time, if it is known."""
    if not summary.attempts or result.origin is Origin.TALK_CSV:
        return []
    each = duration(summary.wall_ns / summary.attempts)
    held = f"; {count(summary.established)} open at the end" if result.plan else ""
    return [f"wall time: {duration(summary.wall_ns)}, {each} an attempt{held}"]


def _facts(spec: StrategySpec, summary: Summary) -> list[str]:
    """Totals by round, errors by name and the harness floor: a line for each that is known."""
    lines = []
    if len(summary.rounds_total_ns) > 1:
        totals = ", ".join(duration(total) for total in summary.rounds_total_ns)
        lines.append(f"total time by round: {totals}; median {duration(summary.round_total_ns)}")
    if summary.errors:
        errors = ", ".join(f"{name} {count(n)}" for name, n in summary.errors.items())
        shared = "; bind() shared the port, and connect() found the 4-tuple in use"
        is_of_connect = spec.shares_ports and "EADDRNOTAVAIL" in summary.errors
        lines.append(f"errors: {errors}{shared if is_of_connect else ''}")
    if summary.floor_ns is not None:
        lines.append(f"harness floor: {summary.floor_ns / NS_PER_US:.1f} µs")
    return lines


def _load_lines(strategy: StrategyResult) -> list[str]:
    """What UDP's latency is, the rate in flight, how many attempts were in time, and what churn did.

    A line for each that the load has.
    """
    load, summary = strategy.strategy.load, summarize(strategy)
    lines = []
    if load.protocol is Protocol.UDP:
        lines += [
            "UDP: latency is acquire time, for bind(), or connect() of an unbound socket, holds the port search",
            *_outliers(strategy, summary),
        ]
    if load.in_flight is not None and summary.rate is not None:
        lines.append(f"in flight: up to {_handshakes(load)} outstanding, {count(summary.rate)} connections/s")
    if load.give_up_ms is not None and summary.attempts:
        share = summary.connected / summary.attempts
        connected = f"{count(summary.connected)} of {count(summary.attempts)} ({share:.1%})"
        lines.append(f"connected within {load.give_up_ms:g} ms: {connected}")
    if load.churn and strategy.strategy.phase is Phase.CHURN:
        lines.append(_churn_line(strategy, load.churn, summary))
    return lines


def _router_lines(result: Result, strategy: StrategyResult) -> list[str]:
    """What the router of --link nat counted; of the entries of its conntrack table the most of any round."""
    plan = result.plan
    if plan is None or plan.nat_capacity is None:
        return []
    total = Counter[str]()
    for measured in strategy.rounds:
        total.update({name: number for name, number in measured.report.counters.items() if name in CONNTRACK_COUNTERS})
    moved = [f"{name.removeprefix(f'{CONNTRACK}.')} {count(number)}" for name, number in total.items() if number]
    entries = max(r.report.conntrack_entries for r in strategy.rounds)
    table = int(strategy.rounds[0].report.settings.get(CONNTRACK_MAX) or 0)
    return [
        f"router: {count(entries)} conntrack entries of {count(table)}, {count(plan.nat_capacity)} ports; "
        + (", ".join(moved) or "nothing dropped")
    ]


def _handshakes(load: Load) -> str:
    most = f"{count(load.in_flight or 0)} handshake{'' if load.in_flight == 1 else 's'}"
    return most if load.concurrency == 1 else f"{most} of each client"


def _outliers(strategy: StrategyResult, summary: Summary) -> list[str]:
    limit = OUTLIER * summary.all.latency.p50
    slow = [r.samples.latency_ns > limit for r in strategy.rounds]
    number = sum(int(one.sum()) for one in slow)
    if not (limit and number):
        return []
    share = f"{number / summary.attempts:.2%}"
    words = f"outliers: {count(number)} attempts ({share}) took more than {OUTLIER} x the median, {duration(limit)}"
    if strategy.capacity:
        full = ALL_BUT_FULL * strategy.capacity
        early = sum(
            int((np.cumsum(~r.samples.failed)[one] <= full).sum()) for r, one in zip(strategy.rounds, slow, strict=True)
        )
        words += f"; {count(early)} of them with less than {ALL_BUT_FULL:.0%} of the range in use"
    return [words]


def _churn_line(strategy: StrategyResult, churn: Churn, summary: Summary) -> str:
    """How many connections were replaced, how, and at what rate; of the ports in TIME_WAIT the most of any round."""
    rounds = len(strategy.rounds)
    words = f"churn: {count(summary.attempts)} replacements{f' in {rounds} rounds' if rounds > 1 else ''}"
    if strategy.strategy.load.protocol is Protocol.TCP:  # closing a UDP socket sends nothing
        words += f", closed by {churn.close}"
    rates = [rate for r in strategy.rounds if (rate := achieved_rate(strategy.strategy, r)) is not None]
    if churn.rate and rates:
        words += f", {format_measured_rate(min(rates))}/s of {format_measured_rate(churn.rate)}/s asked for"
    of_all = [rate for r in strategy.rounds if (rate := rate_of_all(strategy.strategy, r)) is not None]
    if of_all and not churn.rate:
        words += f", {format_measured_rate(min(of_all))}/s while all {strategy.strategy.load.concurrency} clients ran"
    report = max((r.report for r in strategy.rounds), key=lambda report: report.time_wait)
    if report.settings and (churn.close is Close.FIN or report.time_wait):  # a CSV file has none
        words += f"; tcp_tw_reuse {report.settings.get(TW_REUSE, '-')}, {count(report.time_wait)} in TIME_WAIT"
    return words


def knee_lines(strategy: StrategyResult, knee: Knee, kernel: str = "") -> list[str]:
    """Where the strategy turned slow, or that it did not or that this cannot be seen; and where it first failed."""
    lines = []
    if knee.connection is not None:
        first = " of the first address" if knee.is_of_first else ""
        whose = "its" if knee.is_of_first else "the"
        share = "" if knee.share is None else f" with {knee.share:.1%} of {whose} range in use"
        lines.append(
            f"knee: connection {count(knee.connection)}{first}{share}, "
            f"from there on above {SLOWDOWN:g} x {duration(knee.baseline_ns)}"
        )
    elif knee.is_judged and knee.last_ns > knee.limit_ns:
        lines.append("knee: none, the connections become slower without a step")
    elif knee.fullest is not None and is_unseen(strategy.strategy, knee, kernel):
        lines.append(f"knee: cannot be seen, only {knee.fullest:.1%} of the range in use")
    elif knee.is_judged:
        far = f" up to {knee.fullest:.1%} of the range in use" if knee.shows_half is False else ""
        lines.append(
            f"knee: none{far}, the rolling median does not stay above {SLOWDOWN:g} x {duration(knee.baseline_ns)}"
        )
    if knee.is_growing:
        first, last = duration(knee.baseline_ns), duration(knee.last_ns)
        lines.append(f"grows steadily: median {first} in the first 5% of the connections, {last} in the last 5%")
    if knee.first_failed is not None:
        lines.append(f"first failed: attempt {count(knee.first_failed)}{_of_range(strategy, knee.in_use_at_failure)}")
    return lines


def _of_range(strategy: StrategyResult, in_use: int | None) -> str:
    if strategy.capacity is None or in_use is None:
        return ""
    return f" with {in_use / strategy.capacity:.1%} of the range in use"


# ---- in short: a row for each strategy


def _summary_table(result: Result) -> Table:
    ranking = ranking_of([result], [(s.strategy.label, s) for s in result.strategies])
    several = len(ranking.lines) > 1  # than itself nothing is faster
    header = (
        "strategy",
        "attempts",
        "errors",
        *(("acquire",) if ranking.has_acquire else ()),
        *((ranking.versus,) if several else ()),
        *(("bind()",) if ranking.has_bind else ()),
        *(("connect()",) if ranking.has_connect else ()),
        "latency mean",
        "p50",
        "p99",
        "even p50 / mean",
        "odd p50 / mean",
        "knee",
    )
    rows = [_summary_row(line, ranking, result.kernel) for line in ranking.lines]
    return Table(header, rows, remarks=(ranking.remark,) if several else ())


def _handshakes_in_short(result: Result) -> list[Table]:
    """A table with a row for each strategy whose handshakes were timed; none without such a strategy."""
    groups = {strategy.strategy.label: summarize(strategy).all.handshake for strategy in result.strategies}
    table = _distributions("handshake", groups)
    return [table] if table.rows else []


def _summary_row(line: Line, ranking: Ranking, kernel: str) -> tuple[str, ...]:
    strategy, summary = line.strategy, summarize(line.strategy)
    latency = summary.all.latency
    return (
        line.label,
        count(summary.attempts),
        line.errors if line.errors == "0" else f"{line.errors} ({line.share})",
        *((line.acquire,) if ranking.has_acquire else ()),
        *((line.speed,) if len(ranking.lines) > 1 else ()),
        *((line.bind,) if ranking.has_bind else ()),
        *((line.connect,) if ranking.has_connect else ()),
        *(duration(value) if latency.count else "-" for value in (latency.mean, latency.p50, latency.p99)),
        _median_and_mean(summary.even.latency),
        _median_and_mean(summary.odd.latency),
        _knee_cell(strategy, find_knee(strategy), kernel),
    )


def _median_and_mean(latency: Distribution) -> str:
    return f"{duration(latency.p50)} / {duration(latency.mean)}" if latency.count else "-"


def _knee_cell(strategy: StrategyResult, knee: Knee, kernel: str) -> str:
    if knee.connection is None or knee.in_use is None:
        if is_unseen(strategy.strategy, knee, kernel):
            return f"not seen ({knee.fullest:.1%} in use)"
        far = f" up to {knee.fullest:.1%} in use" if knee.shows_half is False else ""
        return f"none{far}" if knee.is_judged else "-"
    return count(knee.connection) + ("" if knee.share is None else f" ({knee.share:.1%})")


def _call_blocks(result: Result, strategy: StrategyResult) -> Iterator[Block]:
    """bind() and connect() by themselves, under a heading, of a strategy that searches in bind()."""
    if strategy.strategy.searches_in_bind:
        label = strategy.strategy.label
        yield Heading(f"{label} in bind() and connect():", label)
        yield from call_tables(result, strategy)


def _part_blocks(result: Result, strategy: StrategyResult) -> Iterator[Block]:
    """The tables by source, target and client, each under its heading."""
    label = strategy.strategy.label
    for by, table in part_tables(result, strategy):
        yield Heading(f"{label} by {by}:", label)
        yield table
