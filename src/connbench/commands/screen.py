"""A command that has the whole terminal: it draws on the alternate screen, reads keys, and leaves all as it was."""

from __future__ import annotations

import errno
import io
import os
import re
import select
import signal
import sys
import termios
import time
import tty
from collections.abc import Callable
from contextlib import ExitStack, redirect_stderr, suppress
from typing import TYPE_CHECKING, Self

from rich.console import Console
from rich.control import Control

if TYPE_CHECKING:
    from rich.console import RenderableType

    from connbench.interrupts import Interrupts

POLL_SECONDS = 0.1
"""How long a signal or a new size of the terminal may take to be noticed."""

_SEQUENCE = re.compile(r"\x1b(?:\[[0-9;?]*[ -/]*[@-~]|O.|.)?", re.DOTALL)
"""What arrow keys and the like send."""

Draw = Callable[[int, int], "RenderableType"]
"""Makes what a terminal of so many columns and lines shows."""


def has_screen() -> bool:
    """Whether stdout is a terminal with an alternate screen, of which this process has the keyboard if stdin is it."""
    if not sys.stdout.isatty() or os.environ.get("TERM", "dumb") in {"dumb", "unknown"}:
        return False
    try:
        return os.tcgetpgrp(1) == os.getpgrp()
    except OSError:  # the terminal is not the one that controls this process: nobody stops it
        return True


class Screen:
    """The alternate screen, as a context. Its end restores the terminal, whatever the reason of the end is.

    Ctrl-Z gives the terminal back, too, for as long as the command is stopped. What is written to sys.stderr meanwhile
    is kept until the terminal is given back: it would be lost with the alternate screen.
    """

    def __init__(self) -> None:
        self._console = Console()
        self._keyboard: int | None = None
        self._keys: list[str] = []
        self._draw: Draw = lambda _width, _height: ""
        self._drawn_at = self._console.size
        self._is_asked_to_stop = False
        self._restore = ExitStack()

    def __enter__(self) -> Self:
        """Take the terminal."""
        if signal.getsignal(signal.SIGTSTP) is not signal.SIG_IGN:
            signal.signal(signal.SIGTSTP, self._ask_to_stop)
        self._take()
        return self

    def __exit__(self, *_: object) -> None:
        """Give the terminal back."""
        self._restore.close()
        if signal.getsignal(signal.SIGTSTP) == self._ask_to_stop:
            signal.signal(signal.SIGTSTP, signal.SIG_DFL)

    def show(self, draw: Draw) -> None:
        """Draw; once more whenever the terminal has another size."""
        self._draw = draw
        self._drawn_at = width, height = self._console.size
        self._console.control(Control.home())
        self._context.update(draw(width, height))

    def wait(self, until: float, interrupts: Interrupts) -> str:
        """Wait for a key.

        Args:
            until: A time of time.monotonic().
            interrupts: Checked for signals meanwhile.

        Returns:
            The key, or an empty string at the time.

        Raises:
            Interrupted: A signal came.
        """
        while True:
            interrupts.check()
            if self._is_asked_to_stop:
                self._stop()
            if self._drawn_at != self._console.size:
                self.show(self._draw)
            if self._keys:
                return self._keys.pop(0)
            left = until - time.monotonic()
            if left <= 0:
                return ""
            self._read_keys(min(left, POLL_SECONDS))

    def _take(self) -> None:
        with ExitStack() as stack:
            said = io.StringIO()
            stack.callback(_say, said)
            if sys.stdin.isatty():
                self._keyboard = sys.stdin.fileno()
                stack.callback(_set, self._keyboard, termios.tcgetattr(self._keyboard))
                tty.setcbreak(self._keyboard, termios.TCSANOW)
            self._context = stack.enter_context(self._console.screen())
            stack.enter_context(redirect_stderr(said))
            self._restore = stack.pop_all()

    def _ask_to_stop(self, _number: int, _frame: object) -> None:
        self._is_asked_to_stop = True

    def _stop(self) -> None:
        """Let the kernel stop this process, and go on when it is continued."""
        self._restore.close()
        signal.signal(signal.SIGTSTP, signal.SIG_DFL)
        os.kill(os.getpid(), signal.SIGTSTP)
        self._is_asked_to_stop = False
        signal.signal(signal.SIGTSTP, self._ask_to_stop)
        self._take()
        self.show(self._draw)

    def _read_keys(self, seconds: float) -> None:
        """Read the keys that were pressed, or wait for some."""
        if self._keyboard is None:
            time.sleep(seconds)
            return
        if not select.select([self._keyboard], [], [], seconds)[0]:
            return
        try:
            pressed = os.read(self._keyboard, 1024)
        except OSError as error:
            if error.errno != errno.EIO:
                raise
            pressed = b""  # the terminal is gone
        if not pressed:
            self._keyboard = None
        self._keys += _SEQUENCE.sub("", pressed.decode(errors="replace"))


def _say(said: io.StringIO) -> None:
    with suppress(OSError):  # the terminal is gone
        sys.stderr.write(said.getvalue())


def _set(keyboard: int, attributes: list[int | list[bytes | int]]) -> None:
    with suppress(termios.error):  # the terminal is gone
        termios.tcsetattr(keyboard, termios.TCSANOW, attributes)
