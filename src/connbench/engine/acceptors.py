"""The accepting processes of a listener: started together, watched, and ended together."""

from __future__ import annotations

import errno
import os
import signal
import socket
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Never

from connbench.engine.acceptor import Acceptor
from connbench.engine.tally import Column, Tally
from connbench.errors import EnvironmentFault
from connbench.interrupts import ENDING
from connbench.linux.faults import fault_of
from connbench.linux.limits import free_descriptors, open_files
from connbench.linux.process import describe_end, die_with_parent
from connbench.linux.shortage import way_out

SPARE_DESCRIPTORS = 4
"""Kept free in an accepting process: its epoll instance, the eventfd that wakes it, and two that nobody counted."""

NOT_THEIRS = ENDING | {signal.SIGUSR1}
"""Signals for the process that started them: a terminal, or a manager of services, sends them to all of a group."""


def room_of_one() -> int:
    """Connections that one accepting process can hold under the soft limit of open files.

    Raises:
        EnvironmentFault: None.
    """
    room = free_descriptors() - SPARE_DESCRIPTORS
    if room < 1:
        raise EnvironmentFault(
            f"RLIMIT_NOFILE of {open_files()[0]} leaves an accepting process no file for a connection",
            "raise it: ulimit -n 1024",
        )
    return room


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

    def end_of(self, number: int) -> tuple[str, str]:
        """How a process ended, and what to do about it; two empty texts while it runs."""
        if number not in self.ends:
            return "", ""
        fault = self.tally.row(number)[Column.FAULT]
        return (f"ended: {os.strerror(fault)}", way_out(fault)) if fault else describe_end(self.ends[number])

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

    One of `ENDING` that comes meanwhile ends it early: there are fewer processes then, and perhaps none.

    Raises:
        EnvironmentFault: So many cannot be started, and none is left.
    """
    for sock in listening:
        sock.setblocking(False)  # another process may have taken what this one was woken for
    acceptors = Acceptors(Tally(processes), os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK))
    parent = os.getpid()
    # Blocked, and so they stay in a child: a handler of the parent's must not run there either.
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, NOT_THEIRS)
    try:
        for number in range(processes):
            if signal.sigpending() & ENDING:
                break
            pid = os.fork()
            if pid == 0:
                _be(Acceptor(listening, room, acceptors.tally, number, acceptors.nudge), parent)
            acceptors.pids.append(pid)
    except OSError as error:
        acceptors.close()
        raise EnvironmentFault(
            f"{len(acceptors.pids)} of {processes} accepting processes started, and no further one: {error.strerror}",
            f"{way_out(error.errno)}; or ask for fewer",
        ) from error
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
    return acceptors


def _be(acceptor: Acceptor, parent: int) -> Never:
    status = 1
    try:
        die_with_parent(parent)
        acceptor.run()
    except OSError as error:
        acceptor.tally.row(acceptor.number)[Column.FAULT] = error.errno or 0
    except MemoryError:
        acceptor.tally.row(acceptor.number)[Column.FAULT] = errno.ENOMEM
    except Exception as error:  # noqa: BLE001  # a bug: nobody else would ever hear of it
        fault = fault_of(error)
        os.write(2, f"connbench: accepting process {os.getpid()}: {fault.message}\n  -> {fault.hint}\n".encode())
        status = fault.exit_code
    finally:
        os._exit(status)
