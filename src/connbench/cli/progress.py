"""The progress bar of a run: on stderr, only on a terminal, drawn when the run has a moment and never by a thread."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from connbench.runner import Progress


BAR_WIDTH = 16
"""Leaves room at the end of an 80-column line: the ^C that a terminal echoes must not spill into the next."""

SPEED_SECONDS = 2.0
"""The rate falls a hundredfold where the search turns slow: an average over rich's 30 s would not show it."""


class Silent:
    """No progress bar: stderr is not a terminal, or -q."""

    def show(self, progress: Progress) -> None:
        """Show nothing."""

    def clear(self) -> None:
        """Nothing to take away."""


class Bar:
    """Strategy, connections done, rate, mean of the last thousand, and time left, in one line."""

    def __init__(self) -> None:
        from rich.console import Console  # noqa: PLC0415  # 50 ms that a pipe need not pay
        from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn  # noqa: PLC0415  # as above
        from rich.progress import Progress as RichProgress  # noqa: PLC0415  # as above

        self._bar = RichProgress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=BAR_WIDTH),
            MofNCompleteColumn(),
            TextColumn("{task.fields[detail]}"),
            TimeRemainingColumn(compact=True),
            console=Console(stderr=True),
            auto_refresh=False,  # a refresh thread would run when it likes; the caller's ticks are 5 a second
            transient=True,
            speed_estimate_period=SPEED_SECONDS,
        )
        self._key: tuple[str, int] | None = None

    def show(self, progress: Progress) -> None:
        """Draw the state of a round."""
        from connbench.model import Phase  # noqa: PLC0415  # commands load what they use
        from connbench.report.units import duration  # noqa: PLC0415  # commands load what they use

        plan = progress.plan
        is_churn = plan.strategy.phase is Phase.CHURN
        key = (plan.strategy.label, plan.number)
        if key != self._key:
            self.clear()
            self._key = key
            of_rounds = f" {plan.number}/{plan.plan.rounds}" if plan.plan.rounds > 1 else ""
            name = plan.strategy.setting + (", churn" if is_churn else "") + of_rounds
            self._bar.add_task(name, total=plan.attempts, detail="")
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
