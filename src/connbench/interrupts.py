"""The signals that end connbench. `Interrupts` keeps a signal until the command calls `check`, which raises it.

A signal handler that raises can raise anywhere: inside an import, which may swallow the exception, or between measuring
and saving. So the handler only records the signal, and a run calls `check` five times a second. Engine and `serve` have
no `Interrupts`: there a signal sets a flag in shared memory (`set_by_signals`), which their loops read.

This module is imported before all others, and sets the handlers only then: it imports little, to be quick.
"""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterable

from connbench.errors import Interrupted

ENDING_SIGNALS = frozenset({signal.SIGHUP, signal.SIGINT, signal.SIGQUIT, signal.SIGTERM})
"""The signals of a closed terminal, of Ctrl-C, of Ctrl-backslash, and of a service manager."""


def not_ignored(numbers: Iterable[signal.Signals] = ENDING_SIGNALS) -> frozenset[signal.Signals]:
    """The signals among `numbers` that this process does not ignore.

    nohup starts a process with SIGHUP ignored, and `&` in a script starts one with SIGINT and SIGQUIT ignored.
    """
    return frozenset(number for number in numbers if signal.getsignal(number) is not signal.SIG_IGN)


def set_by_signals(flag: memoryview[int], numbers: Iterable[signal.Signals]) -> None:
    """Let each of these signals set element 0 of `flag` to its number, and do nothing else.

    Children inherit the handlers: in shared memory, they set the same flag.
    """

    def set_flag(number: int, _frame: object) -> None:
        flag[0] = number

    for number in numbers:
        signal.signal(number, set_flag)


class BlockedSignals:
    """A context that blocks the signals of `ENDING_SIGNALS`; one that is sent meanwhile arrives at its end.

    A child that is started in the context begins with these signals blocked.
    """

    def __enter__(self) -> None:
        """Block the signals."""
        self._mask = signal.pthread_sigmask(signal.SIG_BLOCK, ENDING_SIGNALS)

    def __exit__(self, *_: object) -> None:
        """Restore the signal mask."""
        signal.pthread_sigmask(signal.SIG_SETMASK, self._mask)


class Interrupts:
    """The signals of `ENDING_SIGNALS` that this process received.

    Attributes:
        immediate: Whether the handler raises at once. For the time before a run, when nothing can be lost.
        on_stop: Called before the first signal is raised, to tell the user that the end may take seconds.
        number: The signal received last; 0 if there was none.
        is_pending: Whether a signal was received that `check` has not raised yet.
    """

    def __init__(self, *, immediate: bool = False) -> None:
        self.immediate = immediate
        self.on_stop: Callable[[], None] | None = None
        self.number = 0
        self.is_pending = False
        self._handled: frozenset[signal.Signals] = frozenset()

    def install(self) -> None:
        """Set the handler for the signals of `ENDING_SIGNALS`, except those that this process was started to ignore."""
        self._handled = not_ignored()
        for number in self._handled:
            signal.signal(number, self._take)

    def release(self, code: int) -> int:
        """Restore the default action: from now on a signal kills this process, and no handler prints a traceback.

        Returns:
            The exit code: `code`, or that of a signal which is pending.
        """
        with BlockedSignals():  # else Python may print "Signal 15 ignored due to race condition"
            for number in self._handled:
                signal.signal(number, signal.SIG_DFL)
        return 128 + self.number if self.is_pending else code

    def _take(self, number: int, _frame: object) -> None:
        if number == self.number == signal.SIGHUP:
            return  # when a terminal closes, the kernel and the shell both send one: the second means nothing new
        self.number, self.is_pending = number, True
        if self.immediate:
            raise Interrupted(number)

    def check(self) -> None:
        """Raise the signal that was received since the last call, if there was one.

        Raises:
            Interrupted: There was one.
        """
        if self.is_pending:
            self.is_pending = False
            on_stop, self.on_stop = self.on_stop, None
            if on_stop:
                on_stop()
            raise Interrupted(self.number)
