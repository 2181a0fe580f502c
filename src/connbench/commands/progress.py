"""The progress of a run, on stderr if it is a terminal. The loop of the run draws it; no thread does."""

from __future__ import annotations

import errno
import time
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING

from connbench.commands.messages import discard_stderr
from connbench.model import Phase

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from rich.live import Live

    from connbench.model import Plan, RoundPlan, StrategySpec
    from connbench.rounds import Progress

ECHO = 2
"""Free columns at the end of the last line, for the ^C that a terminal echoes."""

WIDEST_BAR, NARROWEST_BAR = 30, 5

PACE_SECONDS = 1.0
"""Seconds over which the pace is measured; short, because the pace falls a hundredfold when the search gets slow."""


class Silent:
    """Shows no progress: stderr is not a terminal, or -q is given."""

    def show(self, progress: Progress) -> None:
        """Do nothing."""

    def end_turn(self) -> None:
        """Do nothing."""

    def clear(self) -> None:
        """Do nothing."""


class Forecast:
    """Estimates how long the rest of a run takes, from the time it took until now.

    A turn is one round of one strategy. After its first turn the time of a strategy is known: further rounds take about
    as long. Until then there is only a lower bound, because a search can get slower but not faster: for the rest of the
    present turn, the pace of the last second; for strategies not measured yet, the fastest pace until now, and the
    shortest turn.

    Args:
        plan: The run.
        clock: A clock in seconds, with any zero.
    """

    def __init__(self, plan: Plan, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._left = [(spec, _rows(plan, spec)) for _ in range(plan.rounds) for spec in plan.strategies]
        self._took: dict[StrategySpec, float] = {}
        self._quickest: float | None = None
        self._shortest: tuple[float, int] | None = None
        self._begin_turn()

    def _begin_turn(self) -> None:
        self._began = self._clock()
        self._rows, self._pace = 0, self._quickest
        self._mark: tuple[float, int] | None = None

    def observe(self, progress: Progress) -> None:
        """Note the progress of the present turn."""
        is_churn = progress.plan.strategy.phase is Phase.CHURN
        now, self._rows = self._clock(), progress.done + (progress.plan.connections if is_churn else 0)
        if not self._rows:
            return
        marked, rows = self._mark or (now, self._rows)  # the pace counts from the first attempt, not from the set-up
        if now - marked >= PACE_SECONDS and self._rows > rows:
            self._pace = (now - marked) / (self._rows - rows)
            self._quickest = min(self._pace, self._quickest or self._pace)
            marked, rows = now, self._rows
        self._mark = marked, rows

    def end_turn(self) -> None:
        """Note that the present turn has ended."""
        spec, rows = self._left.pop(0)
        took = self._took[spec] = self._clock() - self._began
        self._shortest = min((took, rows), self._shortest or (took, rows))
        self._begin_turn()

    @property
    def seconds(self) -> tuple[float, bool] | None:
        """The remaining seconds, and whether they are more than a lower bound; None while nothing is known."""
        if not self._left or (self._pace is None and self._shortest is None):
            return None
        (spec, rows), *later = self._left
        elapsed = self._clock() - self._began
        left = max((rows - self._rows) * (self._pace or 0.0), _of_rate(spec, rows - self._rows))
        known = self._took.get(spec)
        seconds = known - elapsed if known and known > elapsed else left
        for other, number in later:
            if other in self._took:
                seconds += self._took[other]
            else:
                at_least = elapsed + left if other == spec else 0.0
                seconds += max(at_least, self._at_least(other, number))
        return seconds, all(one in self._took for one, _ in self._left)

    def _at_least(self, spec: StrategySpec, rows: int) -> float:
        """A lower bound in seconds for a strategy that has not been measured."""
        shortest, of = self._shortest or (0.0, 1)
        return max(rows * (self._quickest or 0.0), min(1.0, rows / of) * shortest, _of_rate(spec, rows))


def _rows(plan: Plan, spec: StrategySpec) -> int:
    from connbench.model import RoundPlan

    return RoundPlan(plan, spec, 1).rows


def _of_rate(spec: StrategySpec, rows: int) -> float:
    """The least seconds that these attempts take because of --churn-rate; 0 without a rate."""
    churn = spec.load.churn
    return min(rows, churn.replacements) / churn.rate if churn and churn.rate else 0.0


class Bar:
    """Two lines: the strategy with a bar and the number of attempts; the mean of the last attempts, and the time left.

    In a sweep, the first line also shows the load, and the number of the turn.
    """

    def __init__(self, plan: Plan, *, is_sweep: bool = False) -> None:
        from rich.console import Console

        self._console = Console(stderr=True)
        self._live = self._new_lines()
        self._forecast = Forecast(plan)
        self._name = turn_name if is_sweep else round_name

    def _new_lines(self) -> Live:
        """The lines, not drawn yet.

        No thread refreshes them, which would disturb the measurement; the run calls `show` 5 times a second.
        """
        from rich.live import Live

        return Live(console=self._console, auto_refresh=False, transient=True)

    def show(self, progress: Progress) -> None:
        """Draw the progress of a round."""
        from rich.console import Group
        from rich.progress_bar import ProgressBar
        from rich.table import Table
        from rich.text import Text

        self._forecast.observe(progress)
        width = self._console.width
        count = attempts(progress)
        name = cut(self._name(progress.plan), width - len(count) - NARROWEST_BAR - 2)
        bar = max(NARROWEST_BAR, min(WIDEST_BAR, width - len(name) - len(count) - 2))
        line = Table.grid(padding=(0, 1))
        line.add_row(Text(name), ProgressBar(progress.plan.attempts, progress.done, width=bar), Text(count))
        detail = "; ".join(details(progress, self._forecast.seconds))
        with self._ignoring_a_closed_terminal():
            self._live.start()
            self._live.update(Group(line, Text(cut(detail, width - ECHO), no_wrap=True)), refresh=True)

    def end_turn(self) -> None:
        """Clear the lines after a turn, so that the report can be printed there."""
        self.clear()
        self._forecast.end_turn()

    def clear(self) -> None:
        """Clear the lines."""
        with self._ignoring_a_closed_terminal():
            self._live.stop()
        self._live = self._new_lines()  # stopped lines, begun again, would erase a line of what was printed meanwhile

    @contextmanager
    def _ignoring_a_closed_terminal(self) -> Iterator[None]:
        """Discard stderr if the terminal was closed (EIO): the measurement goes on."""
        try:
            yield
        except OSError as error:
            if error.errno != errno.EAGAIN:  # EAGAIN: the terminal is slow, and takes output again later
                discard_stderr()


def attempts(progress: Progress) -> str:
    """The progress of a phase: `12,345 of 56,512 attempts`."""
    return f"{progress.done:,} of {progress.plan.attempts:,} attempts"


def details(progress: Progress, seconds: tuple[float, bool] | None) -> Iterator[str]:
    """The recent mean time of connect(), and the time left; `seconds` is that of `Forecast`."""
    from connbench.rounds import RECENT
    from connbench.units import duration, elapsed

    if progress.done:
        of = f"of the last {RECENT:,}" if progress.done >= RECENT else "so far"
        yield f"mean connect() {of}: {duration(progress.recent_mean_ns)}"
    if seconds:
        left, is_known = seconds
        words = f"{max(1, round(left))} s" if left < 59.5 else elapsed(left)
        yield f"whole run: {'about' if is_known else 'at least'} {words} left"


def cut(text: str, room: int) -> str:
    """The text, cut to a number of columns, with a mark at the cut."""
    return text if len(text) <= room else text[: max(0, room - 1)] + "…"


def round_name(plan: RoundPlan) -> str:
    """The name of a round: `window 500, churn, round 2 of 3`."""
    of_rounds = f", round {plan.number} of {plan.plan.rounds}" if plan.plan.rounds > 1 else ""
    return plan.strategy.setting + _phase(plan) + of_rounds


def turn_name(plan: RoundPlan) -> str:
    """The name of a turn of a sweep, numbered over all rounds: `turn 33 of 90: window 500, fill 80%, churn`."""
    strategies = plan.plan.strategies
    place = strategies.index(replace(plan.strategy, phase=Phase.FILL)) + 1
    position = f"turn {(plan.number - 1) * len(strategies) + place} of {len(strategies) * plan.plan.rounds}: "
    return position + ", ".join(filter(None, (plan.strategy.setting, plan.strategy.load.label))) + _phase(plan)


def _phase(plan: RoundPlan) -> str:
    return ", churn" if plan.strategy.phase is Phase.CHURN else ""
