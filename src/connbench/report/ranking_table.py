"""The strategies side by side, the cheapest for a program first."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from connbench.analysis.bootstrap import ChangeVerdict
from connbench.analysis.ranking import CALLS, IN_BIND, LATENCY, cost, find_base, speed
from connbench.analysis.summary import summarize
from connbench.model import Clock, Phase, Protocol, StrategySpec
from connbench.report.blocks import Table
from connbench.results.result import Origin, Result, StrategyResult
from connbench.units import count, duration
from connbench.wording import listed

LONGEST_HEADER = 16
"""Characters of a column's name that leave room for all columns on a terminal; a longer base is named below only."""


@dataclass(frozen=True, slots=True)
class Line:
    """A strategy's cells: what a connection costs, how that compares with the base, and how many attempts failed."""

    strategy: StrategyResult
    label: str
    acquire: str
    speed: str
    bind: str
    connect: str
    errors: str
    share: str


@dataclass(frozen=True, slots=True)
class Ranking:
    """Strategies by their cost, the cheapest first; fillings before churns, and strategies without a cost at the end.

    Attributes:
        base: The label of what the others are compared with: `plain` where it was measured, else the first.
        has_acquire: Whether all acquire times are known: the talk's CSV has latencies alone, which then decide.
        has_bind: Whether bind() stands by itself: a strategy searches in it. There is no column for the share of errors
            then, so that the table fits a terminal.
        has_connect: Whether connect() stands by itself: UDP's latency is its acquire time.
    """

    lines: tuple[Line, ...]
    base: str
    has_acquire: bool
    has_bind: bool
    has_connect: bool

    @property
    def versus(self) -> str:
        """The name of the column that compares each strategy with the base."""
        words = f"vs {self.base}"
        return words if len(words) <= LONGEST_HEADER else "vs base"

    @property
    def table(self) -> Table:
        """A row for each strategy, and what the columns are."""
        kept = [True, self.has_acquire, True, self.has_bind, self.has_connect, True, not self.has_bind]
        header = ("strategy", "acquire", self.versus, "bind()", "connect()", "errors", "errors, %")
        rows = [(o.label, o.acquire, o.speed, o.bind, o.connect, o.errors, o.share) for o in self.lines]
        return Table(_kept(header, kept), [_kept(row, kept) for row in rows], remarks=(self.remark,))

    @property
    def remark(self) -> str:
        """The sentence that explains the columns of the table."""
        of = {"acquire": self.has_acquire, "bind()": self.has_bind, "connect()": self.has_connect}
        figures = [name for name, has in of.items() if has]
        rounds = ", of the median round" if any(len(one.strategy.rounds) > 1 for one in self.lines) else ""
        decides = f" by {figures[0]}" if len(figures) > 1 else ""
        return (
            f"{listed(figures)}: the time {counted_of(one.strategy.strategy for one in self.lines)}, divided by "
            f"the connections made{rounds}; {self.versus}: how many times as fast as {self.base}{decides}"
        )


def counted_of(specs: Iterable[StrategySpec]) -> str:
    """Which attempts a cost is the time of, and without what: a phrase that follows `the time`."""
    is_in_flight = any(spec.load.in_flight for spec in specs)
    return f"of all attempts, failed ones too{', without handshakes' if is_in_flight else ''}"


def _kept(cells: tuple[str, ...], kept: Sequence[bool]) -> tuple[str, ...]:
    return tuple(cell for cell, keep in zip(cells, kept, strict=True) if keep)


def ranking_of(results: Sequence[Result], labelled: Sequence[tuple[str, StrategyResult]]) -> Ranking:
    """Compare the strategies of one or several results with the base among them.

    A churn is compared with the base's churn: it meets a range that is in use, which a filling does at its end alone.

    Args:
        results: Where the strategies come from.
        labelled: The strategies by the names that they are to have, at least one.
    """
    has_acquire = all(result.origin is not Origin.TALK_CSV for result in results)
    clock = Clock.INSTRUCTIONS if all(result.clock is Clock.INSTRUCTIONS for result in results) else Clock.TIME
    lines = []
    bases: list[str] = []
    for phase in Phase:
        alike = [(label, s) for label, s in labelled if s.strategy.phase is phase]
        if not alike:
            continue
        base = find_base([s for _, s in alike])
        bases += [label if len(results) > 1 else s.strategy.setting for label, s in alike if s is base]
        costs = {label: cost(s, CALLS if has_acquire else LATENCY) for label, s in alike}
        alike.sort(key=lambda one: (costs[one[0]] is None, costs[one[0]] or 0.0))
        lines += [_line(label, s, base, clock, has_acquire=has_acquire) for label, s in alike]
    of_tcp = [s.strategy for _, s in labelled if s.strategy.load.protocol is not Protocol.UDP]
    has_bind = has_acquire and any(spec.searches_in_bind for spec in of_tcp)
    return Ranking(tuple(lines), bases[0], has_acquire, has_bind, bool(of_tcp))


def _line(label: str, strategy: StrategyResult, base: StrategyResult, clock: Clock, *, has_acquire: bool) -> Line:
    errors, attempts = summarize(strategy).errored.latency.count, summarize(strategy).attempts
    found = speed(strategy, base, clock=clock, of=CALLS if has_acquire else LATENCY)
    if found is None:
        compared = "-"
    else:
        compared = f"{found.ratio:.2f} x" if found.is_shown or strategy is base else str(ChangeVerdict.NO_DIFFERENCE)
    return Line(
        strategy,
        label,
        _cost(strategy, CALLS),
        compared,
        _cost(strategy, IN_BIND),
        _cost(strategy, LATENCY),
        count(errors),
        f"{errors / attempts:.1%}" if attempts else "-",
    )


def _cost(strategy: StrategyResult, of: str) -> str:
    found = cost(strategy, of)
    if found is None:
        return "partial" if all(r.fault for r in strategy.rounds) else "-"
    return duration(found)
