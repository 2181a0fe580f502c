"""The report of a profile: a row for each level, a column for each strategy."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

from connbench.analysis.knee import SLOWDOWN, STEP, find_knee, is_unseen
from connbench.analysis.levels import Level, levels_of
from connbench.analysis.soundness import findings
from connbench.findings import merge_alike
from connbench.model import Protocol
from connbench.report import markdown as markdown_writer
from connbench.report import text as text_writer
from connbench.report.blocks import Block, Findings, Heading, Lines, Table, Verdict
from connbench.report.run_report import conditions, kernel_name
from connbench.report.run_verdict import (
    CUT_SHORT,
    LATE,
    LEAVE_TO_CONNECT,
    helping_where_slow,
    percent,
    searching_calls,
    span,
    usable_strategies,
)
from connbench.results.result import Result, StrategyResult
from connbench.safe_text import printable
from connbench.units import about, count, duration, format_percent
from connbench.wording import listed

WIDTH_OF_LEVEL, WIDTH_OF_STRATEGY = 13, 33
"""Columns of a wide table's level and ports, and of a strategy's three figures in brackets, in a terminal."""


def text(result: Result, width: int | None = None, *, bold: bool = False, is_wide: bool = False) -> str:
    """The whole report as text; see `connbench.report.text.write`.

    Args:
        result: A profile.
        width: Columns of the terminal; None for a pipe.
        bold: Whether the terminal shows bold characters.
        is_wide: Whether the table has p99 and errors, too.
    """
    each = None if width is None or not is_wide else max(1, (width - WIDTH_OF_LEVEL) // WIDTH_OF_STRATEGY)
    return text_writer.write(blocks(result, is_wide=is_wide, each=each), width, bold=bold)


def markdown(result: Result, *, is_wide: bool = False) -> str:
    """The report to paste into an issue."""
    return markdown_writer.write(blocks(result, is_wide=is_wide))


def blocks(result: Result, *, is_wide: bool = False, each: int | None = None) -> list[Block]:
    """The header, the verdict, the levels, what else is to be said of them, and the findings; see `tables`."""
    return [
        Heading(header(result), "profile:"),
        Verdict(verdict(result)),
        *tables(result, is_wide=is_wide, each=each),
        Lines([*_lines(result)]),
        Findings(merge_alike(findings(result))),
    ]


def header(result: Result) -> str:
    """One line with what determined the figures."""
    return printable(", ".join([f"profile: {kernel_name(result)}", *conditions(result)]))


# ---- the table


def tables(result: Result, *, is_wide: bool = False, each: int | None = None) -> list[Table]:
    """A row for each level that has an attempt, and a column for each strategy.

    Args:
        result: A profile.
        is_wide: Whether a strategy has three columns: median, p99, errors.
        each: The most strategies of a table; None for one table.
    """
    strategies = [s for s in result.strategies if levels_of(s)]
    most = each or max(1, len(strategies))
    found = [
        _table(strategies[first : first + most], result.kernel, is_wide=is_wide)
        for first in range(0, len(strategies), most)
    ]
    if found:
        found[-1] = replace(found[-1], remarks=(_remark(strategies, is_wide=is_wide),))
    return found


def _table(strategies: Sequence[StrategyResult], kernel: str, *, is_wide: bool) -> Table:
    by_share = [{level.share: level for level in levels_of(s)} for s in strategies]
    shares = sorted({share for levels in by_share for share in levels})
    heads = [cell for s in strategies for cell in _heads(s.strategy.setting, is_wide=is_wide)]
    rows = [
        (
            format_percent(share),
            _numbers({levels[share].in_use for levels in by_share if share in levels}),
            *(cell for levels in by_share for cell in _cells(levels.get(share), is_wide=is_wide)),
        )
        for share in shares
    ]
    knees = [cell for s in strategies for cell in (_knee(s, kernel), *([""] * 2 if is_wide else []))]
    return Table(("level", "ports", *heads), [*rows, ("knee", "", *knees)])


def _numbers(in_use: set[int]) -> str:
    """The ports in use at a level; the fewest and the most if strategies have different numbers of ports."""
    return "-".join(count(number) for number in sorted({min(in_use), max(in_use)}))


def _heads(name: str, *, is_wide: bool) -> tuple[str, ...]:
    return (f"{name} p50", "p99", "errors") if is_wide else (name,)


def _cells(level: Level | None, *, is_wide: bool) -> tuple[str, ...]:
    """The cells of a strategy at a level; a time in brackets is that of attempts that all fail."""
    if level is None:
        return ("-",) * (3 if is_wide else 1)
    times = [duration(level.acquire.p50), *([duration(level.acquire.p99)] if is_wide else [])]
    shown = times if level.connected_ns is not None else [f"({time})" for time in times]
    return (*shown, percent(level.errors, 1)) if is_wide else tuple(shown)


def _knee(strategy: StrategyResult, kernel: str) -> str:
    knee = find_knee(strategy)
    if knee.in_use is not None:
        return next(format_percent(level.share) for level in levels_of(strategy) if level.in_use >= knee.in_use)
    return "none" if knee.is_judged and not is_unseen(strategy.strategy, knee, kernel) else "-"


def _remark(strategies: Sequence[StrategyResult], *, is_wide: bool) -> str:
    samples = sum(profile.samples * len(s.rounds) for s in strategies[:1] if (profile := s.strategy.load.profile))
    figure = "acquire time" if is_wide else "median acquire time"
    has_full = any(level.connected_ns is None for s in strategies for level in levels_of(s))
    return (
        f"{figure} of {count(samples)} attempts with so many ports in use"
        + ("; in brackets: the time until an attempt fails, where none finds a port" if has_full else "")
        + f"; knee: the level from which on connections take more than {SLOWDOWN:g} x as long as at the lowest level"
    )


def _lines(result: Result) -> Iterator[str]:
    """How often programs tried with the fewest ports free, and where attempts failed though ports were free."""
    failing = []
    for strategy in result.strategies:
        some = [level for level in levels_of(strategy) if level.failed and level.connected_ns is not None]
        if some:
            at = ", ".join(f"{percent(level.errors, 1)} at {format_percent(level.share)}" for level in some)
            failing.append(f"{strategy.strategy.setting} {at}")
    again = [s for s in result.strategies if s.strategy.draws_again and any(_made(s))]
    if again:
        tries = [
            f"{s.strategy.setting} {_made(s)[-1].tries_mean:.1f} at {format_percent(_made(s)[-1].share)}" for s in again
        ]
        yield f"tries of an attempt, the mean: {'; '.join(tries)}"
    if failing:
        yield f"attempts that fail though ports are free: {'; '.join(failing)}"


def _made(strategy: StrategyResult) -> list[Level]:
    """The levels at which a connection was made."""
    return [level for level in levels_of(strategy) if level.connected_ns is not None]


# ---- the verdict


def verdict(result: Result) -> tuple[str, ...]:
    """What a reader should take away, in a few sentences; the last one says what to run next."""
    usable, warning = usable_strategies(result)
    if not usable:
        return warning
    stepped = [s for s in usable if _is_step(s)]
    unseen = [s for s in usable if s not in stepped and is_unseen(s.strategy, find_knee(s), result.kernel)]
    return (*warning, *_turns(stepped), *_top(usable, stepped), *_unseen(unseen), _next_step(result, usable, stepped))


def _is_step(strategy: StrategyResult) -> bool:
    """Whether the acquire time at the knee is a multiple of that at the level before, and the knee no late one."""
    knee = find_knee(strategy)
    made = _made(strategy)
    if knee.in_use is None:
        return False
    slow = next(position for position, level in enumerate(made) if level.in_use >= knee.in_use)
    before, after = made[slow - 1].connected_ns or 0.0, made[slow].connected_ns or 0.0
    return slow > 0 and made[slow].share < LATE and after >= STEP * before


def _turns(stepped: Sequence[StrategyResult]) -> Iterator[str]:
    """Where strategies turn slow; those that do so at the same level share a sentence."""
    by_level: dict[tuple[int, bool], list[StrategyResult]] = {}
    for strategy in stepped:
        key = find_knee(strategy).in_use or 0, strategy.strategy.searches_in_bind
        by_level.setdefault(key, []).append(strategy)
    for (in_use, in_bind), alike in by_level.items():
        knee = find_knee(alike[0])
        of = f" of the {count(knee.ports)} ports ({percent(knee.share or 0.0)})" if knee.ports else " ports"
        levels = [(level.in_use >= in_use, level.connected_ns) for s in alike for level in levels_of(s)]
        before, after = ([ns for is_slow, ns in levels if is_slow is side and ns] for side in (False, True))
        turn = ": bind() turns" if in_bind else " turns" if len(alike) == 1 else " turn"
        yield (
            f"{_names(alike)}{turn} slow once {count(in_use)}{of} are in use: "
            f"acquire p50 {span([min(before), max(before)])} before, {span([min(after), max(after)])} from there on."
        )
    if any(in_bind for _, in_bind in by_level):
        yield LEAVE_TO_CONNECT


def _top(usable: Sequence[StrategyResult], stepped: Sequence[StrategyResult]) -> Iterator[str]:
    """What the others take at the highest level at which a port is free, the fastest first."""
    others = [s for s in usable if s not in stepped]
    made = {level.share for s in others for level in levels_of(s) if level.connected_ns is not None}
    shares = made or {level.share for s in others for level in levels_of(s)}
    if not shares:
        return
    at_top = [(level, s) for s in others for level in levels_of(s) if level.share == max(shares)]
    at_top.sort(key=lambda one: one[0].acquire.p50)
    told = [
        f"{s.strategy.setting} {'takes ' if not position else ''}{about(level.acquire.p50)}"
        + (f" ({_failing(level)} fail)" if level.failed else "")
        for position, (level, s) in enumerate(at_top)
    ]
    yield f"With {format_percent(max(shares)).replace('%', ' %')} in use, {listed(told)}."


def _failing(level: Level) -> str:
    return "all attempts" if level.connected_ns is None else f"{percent(level.errors, 1)} of the attempts"


def _unseen(strategies: Sequence[StrategyResult]) -> Iterator[str]:
    if strategies:
        verb, calls = "turns" if len(strategies) == 1 else "turn", searching_calls(strategies)
        yield (
            f"These levels cannot show whether {_names(strategies)} {verb} slow: "
            f"{listed(calls)} {'does' if len(calls) == 1 else 'do'} when half of the ports are in use."
        )


def _names(strategies: Sequence[StrategyResult]) -> str:
    return listed([s.strategy.setting for s in strategies])


def _next_step(result: Result, usable: Sequence[StrategyResult], stepped: Sequence[StrategyResult]) -> str:
    """The command that shows more than this profile, as a sentence."""
    plan = result.plan
    if result.is_partial:
        return CUT_SHORT
    if plan is None:
        return "Next: connbench profile measures the same on this machine."
    ports = f"--port-range {plan.port_range}"
    if stepped and not any(s.strategy.traits.sets_port_range for s in usable):
        helping = ",".join(helping_where_slow([s.strategy for s in usable]))
        return f"Next: connbench profile --strategy {helping} {ports} shows what helps."
    free = [level.in_use for s in usable for level in levels_of(s) if level.connected_ns is not None]
    connections = max(free, default=0) or len(plan.port_range)
    udp = " --protocol udp" if usable[0].strategy.load.protocol is Protocol.UDP else ""
    return f"Next: connbench advise -n {connections} {ports}{udp} says which strategy and setting fit such a load."
