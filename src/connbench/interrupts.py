"""The signals that ask connbench to end, kept until somebody asks for them.

A handler that raises can raise anywhere: in an import, whose machinery may swallow it, or between a measurement and its
being saved. So the signal is only noted, and a run asks for it five times a second.

This module is imported before any other, and what it imports delays the handlers: it imports little.
"""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterable

from connbench.errors import Interrupted

ENDING_SIGNALS = frozenset({signal.SIGHUP, signal.SIGINT, signal.SIGQUIT, signal.SIGTERM})
"""What a closed terminal, Ctrl-C, Ctrl-backslash and a service manager send."""


def not_ignored(numbers: Iterable[signal.Signals] = ENDING_SIGNALS) -> frozenset[signal.Signals]:
    """Those of some signals that this process does not ignore.

    nohup starts it with SIGHUP ignored, and a script's `&` with SIGINT and SIGQUIT ignored.
    """
    return frozenset(number for number in numbers if signal.getsignal(number) is not signal.SIG_IGN)


class BlockedSignals:
    """A block in which no signal of `ENDING_SIGNALS` arrives; one that comes meanwhile arrives at its end.

    A child that is started in the block begins with these signals blocked.
    """

    def __enter__(self) -> None:
        """Block them."""
        self._mask = signal.pthread_sigmask(signal.SIG_BLOCK, ENDING_SIGNALS)

    def __exit__(self, *_: object) -> None:
        """Let them through again."""
        signal.pthread_sigmask(signal.SIG_SETMASK, self._mask)


class Interrupts:
    """What signals have come.

    Attributes:
        immediate: Whether the handler raises at once: while something blocks, and there is nothing to lose.
        on_stop: Called before the first signal is raised: ending in good order may take seconds.
        number: The signal that came last; 0 if none did.
        is_pending: Whether one has come that `check` has not raised yet.
    """

    def __init__(self, *, immediate: bool = False) -> None:
        self.immediate = immediate
        self.on_stop: Callable[[], None] | None = None
        self.number = 0
        self.is_pending = False
        self._handled: frozenset[signal.Signals] = frozenset()

    def install(self) -> None:
        """Handle the signals of `ENDING_SIGNALS` from now on, but for those that this process was started to ignore."""
        self._handled = not_ignored()
        for number in self._handled:
            signal.signal(number, self._take)

    def release(self, code: int) -> int:
        """Let the kernel end this process at the next signal: from now on no handler of ours can print a traceback.

        Returns:
            The exit code: `code`, or that of a signal nobody has asked for.
        """
        with BlockedSignals():  # one that comes before its handler is gone would be reported as ignored
            for number in self._handled:
                signal.signal(number, signal.SIG_DFL)
        return 128 + self.number if self.is_pending else code

    def _take(self, number: int, _frame: object) -> None:
        if number == self.number == signal.SIGHUP:
            return  # a terminal's kernel and its shell both send one: the second asks for nothing more
        self.number, self.is_pending = number, True
        if self.immediate:
            raise Interrupted(number)

    def check(self) -> None:
        """Raise for a signal that has come since the last time; another one raises again.

        Raises:
            Interrupted: One has.
        """
        if self.is_pending:
            self.is_pending = False
            on_stop, self.on_stop = self.on_stop, None
            if on_stop:
                on_stop()
            raise Interrupted(self.number)
