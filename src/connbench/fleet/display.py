"""How far the hosts of a fleet are, on stderr: lines that are drawn anew on a terminal, or a line for each change."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Console
from rich.live import Live
from rich.text import Text

from connbench.commands.messages import discard_stderr, print_message, warn
from connbench.commands.progress import cut
from connbench.findings import Finding, Severity
from connbench.fleet.controller import WORDS, Host, State, names_of
from connbench.safe_text import printable
from connbench.units import count, duration

ECHO = 2
"""Free columns at the end of a line, for the ^C that a terminal echoes."""


def watcher_of(*, quiet: bool, is_terminal: bool) -> Quiet:
    """What shows on stderr how far the hosts are."""
    return Quiet() if quiet else Lines() if is_terminal else Changes()


class Quiet:
    """Shows nothing but warnings."""

    def changed(self, host: Host) -> None:
        """Do nothing."""

    def refresh(self, hosts: Sequence[Host]) -> None:
        """Do nothing."""

    def clear(self) -> None:
        """Do nothing."""

    def warn(self, hosts: Sequence[str], text: str, advice: str) -> None:
        """Print what these hosts know of before they begin."""
        self.clear()
        warn(Finding("host", Severity.WARNING, f"{names_of(hosts)}: {text}", advice))


class Changes(Quiet):
    """A line for each change of a host that a reader of a log wants to know of."""

    SHOWN = frozenset({State.READY, State.RUNNING, State.DONE, State.FAILED})

    def __init__(self) -> None:
        self._shown: set[tuple[str, State]] = set()

    def changed(self, host: Host) -> None:
        """Print the first time that a host is in this state; the end of the command tells of those that never began."""
        is_new = host.state in self.SHOWN and (host.name, host.state) not in self._shown
        if not is_new or (host.state is State.FAILED and not host.has_begun):
            return
        self._shown.add((host.name, host.state))
        print_message(printable(f"{host.name}: {words_of(host)}"))


class Lines(Quiet):
    """A line for each host, as many as the terminal has room for, those that are worst off first."""

    def __init__(self) -> None:
        self._console = Console(stderr=True)
        self._live: Live | None = None

    def refresh(self, hosts: Sequence[Host]) -> None:
        """Draw the lines."""
        width, height = self._console.size
        try:
            if self._live is None:
                self._live = Live(console=self._console, auto_refresh=False, transient=True)
                self._live.start()
            lines = lines_of(hosts, width - ECHO, height - 1)
            self._live.update(Text("\n".join(lines), no_wrap=True), refresh=True)
        except OSError:
            discard_stderr()  # the terminal is gone: the measurement goes on

    def clear(self) -> None:
        """Clear the lines."""
        live, self._live = self._live, None
        try:
            if live:
                live.stop()
        except OSError:
            discard_stderr()


def lines_of(hosts: Sequence[Host], width: int, most: int) -> list[str]:
    """A line for each host, lost ones first, then those with the smallest part done; the last line counts the rest.

    Args:
        hosts: The hosts.
        width: Columns of a line.
        most: Lines.
    """
    order = sorted(hosts, key=lambda host: (host.state is not State.FAILED, host.share))
    shown = order if len(order) <= most else order[: max(0, most - 1)]
    names = max((len(host.name) for host in shown), default=0)
    lines = [
        cut(printable(f"{host.name:{names}}  {round(100 * host.share):3} %  {words_of(host)}"), width) for host in shown
    ]
    rest = order[len(shown) :]
    if rest:
        done = sum(host.state is State.DONE for host in rest)
        lines.append(cut(f"and {count(len(rest))} more hosts, of which {count(done)} are done", width))
    return lines


def words_of(host: Host) -> str:
    """How far a host is, in words."""
    if host.state is State.FAILED and host.fault:
        return f"left out: {host.fault.message}" if host.is_left_out else f"lost: {host.fault.message}"
    if host.state is State.DONE and host.fault:
        return f"partial: {host.fault.message}"
    if host.state is State.READY and host.ready:
        return f"ready, {count(host.ready.attempts)} attempts"
    if host.state is State.RUNNING and host.progress:
        one = host.progress
        mean = f", mean connect() {duration(one.mean_ns)}" if one.done else ""
        return f"{one.label}: {count(one.done)} of {count(one.attempts)} attempts{mean}"
    return WORDS[host.state]
