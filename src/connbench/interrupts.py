"""SIGINT and SIGTERM, kept until somebody asks.

A handler that raises can raise anywhere: in an import, whose machinery may swallow it, or between a measurement and its
being saved. So the signal is only noted, and a run asks for it five times a second.
"""

from __future__ import annotations

import signal
from collections.abc import Callable
from dataclasses import dataclass

from connbench.errors import Interrupted


@dataclass(slots=True)
class Interrupts:
    """What signals have come.

    Attributes:
        immediate: Whether the handler raises at once: while something blocks, and there is nothing to lose.
        on_stop: Called before the first signal is raised: ending in good order may take seconds.
    """

    immediate: bool = False
    on_stop: Callable[[], None] | None = None
    _number: int = 0
    _pending: bool = False

    def install(self) -> None:
        """Handle SIGINT and SIGTERM from now on."""
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, self._take)

    def _take(self, number: int, _frame: object) -> None:
        self._number, self._pending = number, True
        if self.immediate:
            raise Interrupted(number)

    def check(self) -> None:
        """Raise for a signal that has come since the last time; another one raises again.

        Raises:
            Interrupted: One has.
        """
        if self._pending:
            self._pending = False
            on_stop, self.on_stop = self.on_stop, None
            if on_stop:
                on_stop()
            raise Interrupted(self._number)
