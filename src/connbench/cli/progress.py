"""The progress bar of a run: on stderr, only on a terminal, drawn when the run has a moment and never by a thread."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from connbench.model import RoundPlan
    from connbench.runner import Progress


BAR_WIDTH = 16
"""Leaves room at the end of an 80-column line: the ^C that a terminal echoes must not spill into the next."""

SWEEP_BAR_WIDTH = 5
LONGEST_TURN = 30
"""Characters that are left to the name of a sweep's turn."""

SPEED_SECONDS = 2.0
"""The rate falls a hundredfold where the search turns slow: an average over rich's 30 s would not show it."""


class Silent:
    """No progress bar: stderr is not a terminal, or -q."""

    def show(self, progress: Progress) -> None:
        """Show nothing."""

    def clear(self) -> None:
        """Nothing to take away."""


class Bar:
    """Strategy, connections done, rate, mean of the last thousand, and time left, in one line.

    Of a sweep the strategy's load too, and which turn of how many it is.
    """

    def __init__(self, *, is_sweep: bool = False) -> None:
        from rich.console import Console  # noqa: PLC0415  # 50 ms that a pipe need not pay
        from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn  # noqa: PLC0415  # as above
        from rich.progress import Progress as RichProgress  # noqa: PLC0415  # as above

        self._bar = RichProgress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=SWEEP_BAR_WIDTH if is_sweep else BAR_WIDTH),
            MofNCompleteColumn(),
            TextColumn("{task.fields[detail]}"),
            TimeRemainingColumn(compact=True),
            console=Console(stderr=True),
            auto_refresh=False,  # a refresh thread would run when it likes; the caller's ticks are 5 a second
            transient=True,
            speed_estimate_period=SPEED_SECONDS,
        )
        self._is_sweep = is_sweep
        self._key: tuple[str, int] | None = None

    def show(self, progress: Progress) -> None:
        """Draw the state of a round."""
        from connbench.units import duration  # noqa: PLC0415  # commands load what they use

        plan = progress.plan
        key = (plan.strategy.label, plan.number)
        if key != self._key:
            self.clear()
            self._key = key
            self._bar.add_task(turn_name(plan) if self._is_sweep else round_name(plan), total=plan.attempts, detail="")
            self._bar.start()
        task = self._bar.tasks[-1]
        rate = f"{task.speed:,.0f}/s " if task.speed else ""
        self._bar.update(task.id, completed=progress.done, detail=f"{rate}{duration(progress.recent_mean_ns)}")
        self._bar.refresh()

    def clear(self) -> None:
        """Take the bar away, so that a report can be printed in its place."""
        if self._key is not None:
            self._bar.stop()
            for task in self._bar.task_ids:
                self._bar.remove_task(task)
            self._key = None


def round_name(plan: RoundPlan) -> str:
    """A round of a run: `window 500, churn 2/3`."""
    of_rounds = f" {plan.number}/{plan.plan.rounds}" if plan.plan.rounds > 1 else ""
    return plan.strategy.setting + _phase(plan) + of_rounds


def turn_name(plan: RoundPlan) -> str:
    """A turn of a sweep, counted over all rounds: `33/90 window 500, fill 80%`; cut where it is too long for a line."""
    from dataclasses import replace  # noqa: PLC0415  # commands load what they use

    from connbench.model import Phase  # noqa: PLC0415  # as above

    strategies = plan.plan.strategies
    place = strategies.index(replace(plan.strategy, phase=Phase.FILL)) + 1
    position = f"{(plan.number - 1) * len(strategies) + place}/{len(strategies) * plan.plan.rounds} "
    phase = _phase(plan)
    room = LONGEST_TURN - len(phase)
    name = ", ".join([plan.strategy.setting, *plan.strategy.load.words])
    return position + (name if len(name) <= room else name[: room - 1] + "…") + phase


def _phase(plan: RoundPlan) -> str:
    from connbench.model import Phase  # noqa: PLC0415  # commands load what they use

    return ", churn" if plan.strategy.phase is Phase.CHURN else ""
