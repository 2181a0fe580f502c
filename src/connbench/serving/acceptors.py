"""The accepting processes of a listener: started together, watched, and ended together."""

from __future__ import annotations

import os
import signal
import socket
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Never

from connbench.linux.limits import free_descriptors
from connbench.linux.process import die_with_parent
from connbench.serving.acceptor import Acceptor
from connbench.serving.tally import Tally

SPARE_DESCRIPTORS = 16
"""Kept free in an accepting process: its epoll instance, and what the interpreter may open."""

NOT_THEIRS = {signal.SIGINT, signal.SIGTERM, signal.SIGUSR1}
"""Signals for the process that started them: a terminal, or a manager of services, sends them to all of a group."""


def room_of_one() -> int:
    """Connections that one accepting process can hold under the soft limit of open files."""
    return max(1, free_descriptors() - SPARE_DESCRIPTORS)


@dataclass(slots=True)
class Acceptors:
    """Running processes that accept from the same sockets.

    Attributes:
        tally: What they count, by their number.
        nudge: eventfd(2) that wakes them all.
        pids: Process id of each by its number, the ended ones too.
        ends: How those ended that have: exit status, or minus the signal, by number.
    """

    tally: Tally
    nudge: int
    pids: list[int] = field(default_factory=list)
    ends: dict[int, int] = field(default_factory=dict)

    def reap(self) -> list[int]:
        """Numbers of the processes that have ended since the last time, the others woken for what those left queued."""
        ended = [number for number in self._running() if self._has_ended(number)]
        if ended:
            os.eventfd_write(self.nudge, 1)
        return ended

    @property
    def is_any_running(self) -> bool:
        """Whether anybody is left to accept, as of the last `reap`."""
        return bool(self._running())

    def close(self) -> None:
        """Kill all; the kernel closes what they hold."""
        running = self._running()
        for number in running:
            os.kill(self.pids[number], signal.SIGKILL)
        for number in running:
            os.waitpid(self.pids[number], 0)
            self.ends[number] = -signal.SIGKILL
        os.close(self.nudge)

    def _running(self) -> list[int]:
        return [number for number in range(len(self.pids)) if number not in self.ends]

    def _has_ended(self, number: int) -> bool:
        pid, status = os.waitpid(self.pids[number], os.WNOHANG)
        if pid:
            self.ends[number] = os.waitstatus_to_exitcode(status)
        return bool(pid)


def start_acceptors(listening: Sequence[socket.socket], processes: int, room: int) -> Acceptors:
    """Fork processes that accept from these sockets, which stop blocking, and hold up to `room` connections each.

    Raises:
        OSError: There is no room for so many processes; none is left.
    """
    for sock in listening:
        sock.setblocking(False)  # another process may have taken what this one was woken for
    acceptors = Acceptors(Tally(processes), os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK))
    parent = os.getpid()
    # Blocked, and so they stay in a child: a handler of the parent's must not run there either.
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, NOT_THEIRS)
    try:
        for number in range(processes):
            pid = os.fork()
            if pid == 0:
                _be(Acceptor(listening, room, acceptors.tally, number, acceptors.nudge), parent)
            acceptors.pids.append(pid)
    except OSError:
        acceptors.close()
        raise
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
    return acceptors


def _be(acceptor: Acceptor, parent: int) -> Never:
    try:
        die_with_parent(parent)
        acceptor.run()
    finally:
        os._exit(1)
