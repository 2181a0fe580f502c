"""Processes that accept connections and hold them open: for `--listener accept`, and for `connbench serve`.

`start_acceptors` forks them, `Acceptors` watches and ends them, `Acceptor` is what each of them does. They count what
they do in shared memory (`SharedCounters`).

All of them accept from the same sockets. With SO_REUSEPORT each process would have a queue of its own: its connections
would be lost with the process, and a full process's queue would fill up while other processes have room. EPOLLEXCLUSIVE
lets the kernel wake one process for a new connection instead of all of them; any process will do, as long as it can
hold the connection.
"""

from __future__ import annotations

import errno
import gc
import mmap
import os
import select
import signal
import socket
from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import IntEnum
from typing import Never

from connbench.errors import EnvironmentFault
from connbench.interrupts import ENDING_SIGNALS
from connbench.linux.faults import advice_for_errno, describe_end, fault_of
from connbench.linux.limits import OUT_OF_RESOURCES, free_descriptors, open_files
from connbench.linux.process import die_with_parent

SPARE_DESCRIPTORS = 4
"""Files that an acceptor needs beside its connections: its epoll instance, the eventfd that wakes it, and two more."""

IGNORED = ENDING_SIGNALS | {signal.SIGUSR1}
"""Signals that only the parent handles. A terminal or a service manager sends them to the whole process group."""

ACCEPTS_IN_A_ROW = 64
"""After this many accept() calls an acceptor looks at its open connections again."""

MOST_EVENTS = 256
"""The most events that one epoll_wait() returns."""

RETRY_S = 0.25
"""Seconds after which an acceptor that lacked files or memory tries to accept again."""

CANNOT_HOLD = OUT_OF_RESOURCES - {errno.EAGAIN} | {errno.ENOBUFS, errno.ENOSPC}
"""What accept() or epoll_ctl() fails with for want of files or memory; ENOSPC means fs.epoll.max_user_watches."""

CELL_BYTES = 8
"""A C long long. One store writes it, so a reader never sees half of a number."""


class Counter(IntEnum):
    """The cells of an acceptor's row in `SharedCounters`.

    Attributes:
        ACCEPTED: Connections that it has accepted.
        OPEN: Connections that it holds now.
        CLOSED_BY_FIN: Connections that the peer closed with a FIN.
        CLOSED_BY_RESET: Connections that the peer reset, or that failed otherwise.
        MOST_OPEN: The most connections that this acceptor saw open at once in all acceptors together.
        IS_FULL: 1 while it does not accept, for want of room, files or memory; else 0.
        ERRNO: The errno of the system call that ended the process; 0 if none did.
    """

    ACCEPTED = 0
    OPEN = 1
    CLOSED_BY_FIN = 2
    CLOSED_BY_RESET = 3
    MOST_OPEN = 4
    IS_FULL = 5
    ERRNO = 6


ROW_CELLS = 8
"""A cache line: a process that counts does not slow the others down."""


class SharedCounters:
    """What acceptors count, in shared memory made before they are forked. Each writes its own row, without a lock.

    Args:
        processes: The number of rows, one for each acceptor.
    """

    def __init__(self, processes: int) -> None:
        self._cells = memoryview(mmap.mmap(-1, processes * ROW_CELLS * CELL_BYTES)).cast("q")
        self._open_cells = range(Counter.OPEN, processes * ROW_CELLS, ROW_CELLS)

    def row(self, number: int) -> memoryview[int]:
        """The cells of one acceptor, to read and to write; `Counter` gives their positions."""
        return self._cells[number * ROW_CELLS : (number + 1) * ROW_CELLS]

    def open_in_all(self) -> int:
        """How many connections all acceptors hold together."""
        cells = self._cells
        return sum(cells[cell] for cell in self._open_cells)


def connections_per_acceptor() -> int:
    """How many connections one acceptor can hold under the soft limit of open files.

    Raises:
        EnvironmentFault: It can hold none.
    """
    most = free_descriptors() - SPARE_DESCRIPTORS
    if most < 1:
        raise EnvironmentFault(
            f"RLIMIT_NOFILE of {open_files()[0]} leaves an accepting process no file for a connection",
            "raise it: ulimit -n 1024",
        )
    return most


@dataclass(slots=True)
class Acceptors:
    """The parent's view of running acceptors. An acceptor's number is its position in `pids`.

    Attributes:
        counters: What the acceptors count, a row for each number.
        wake: An eventfd(2): a write wakes all acceptors.
        pids: The process id of each, of those that have ended too.
        ends: Of those that have ended, by number: the exit status, or minus the signal.
    """

    counters: SharedCounters
    wake: int
    pids: list[int] = field(default_factory=list)
    ends: dict[int, int] = field(default_factory=dict)

    def reap(self) -> list[int]:
        """Collect the acceptors that have ended, and wake the others to accept what those left in the queue.

        Returns:
            The numbers of those that have ended since the last call.
        """
        ended = [number for number in self._running() if self._has_ended(number)]
        if ended:
            os.eventfd_write(self.wake, 1)
        return ended

    def end_of(self, number: int) -> tuple[str, str]:
        """How an acceptor ended, and what to do about it; two empty texts while it runs."""
        if number not in self.ends:
            return "", ""
        fault = self.counters.row(number)[Counter.ERRNO]
        return (f"ended: {os.strerror(fault)}", advice_for_errno(fault)) if fault else describe_end(self.ends[number])

    @property
    def is_any_running(self) -> bool:
        """Whether an acceptor still ran at the last `reap`."""
        return bool(self._running())

    def close(self) -> None:
        """Kill all acceptors; the kernel closes their connections."""
        running = self._running()
        for number in running:
            os.kill(self.pids[number], signal.SIGKILL)
        for number in running:
            os.waitpid(self.pids[number], 0)
            self.ends[number] = -signal.SIGKILL
        os.close(self.wake)

    def _running(self) -> list[int]:
        return [number for number in range(len(self.pids)) if number not in self.ends]

    def _has_ended(self, number: int) -> bool:
        pid, status = os.waitpid(self.pids[number], os.WNOHANG)
        if pid:
            self.ends[number] = os.waitstatus_to_exitcode(status)
        return bool(pid)


def start_acceptors(listening: Sequence[socket.socket], processes: int, most: int, stop: memoryview[int]) -> Acceptors:
    """Fork acceptors.

    Args:
        listening: The sockets that all acceptors accept from. They become non-blocking.
        processes: How many acceptors to start.
        most: The most connections that each of them may hold.
        stop: A stop flag in shared memory. Once it is set, no further acceptor is started.

    Raises:
        EnvironmentFault: The kernel does not give that many processes. None is left running.
    """
    for sock in listening:
        sock.setblocking(False)  # another acceptor may have taken the connection that woke this one
    acceptors = Acceptors(SharedCounters(processes), os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK))
    parent = os.getpid()
    try:
        for number in range(processes):
            if stop[0]:
                break
            pid = os.fork()
            if pid == 0:
                _run_acceptor(Acceptor(listening, most, acceptors.counters, number, acceptors.wake), parent)
            acceptors.pids.append(pid)
    except OSError as error:
        acceptors.close()
        raise EnvironmentFault(
            f"{len(acceptors.pids)} of {processes} accepting processes started, and the next one cannot: "
            f"{error.strerror}",
            f"{advice_for_errno(error.errno)}; or ask for fewer",
        ) from error
    return acceptors


def _run_acceptor(acceptor: Acceptor, parent: int) -> Never:
    status = 1
    try:
        for number in IGNORED:
            signal.signal(number, signal.SIG_IGN)
        die_with_parent(parent)
        acceptor.run()
    except OSError as error:
        acceptor.counters.row(acceptor.number)[Counter.ERRNO] = error.errno or 0
    except MemoryError:
        acceptor.counters.row(acceptor.number)[Counter.ERRNO] = errno.ENOMEM
    except Exception as error:  # noqa: BLE001  # a bug in connbench: the process ends here, and this is its only report
        fault = fault_of(error)
        os.write(2, f"connbench: accepting process {os.getpid()}: {fault.message}\n  -> {fault.hint}\n".encode())
        status = fault.exit_code
    finally:
        os._exit(status)


@dataclass(slots=True)
class Acceptor:
    """What an accepting process does: it accepts, discards the data it receives, and closes what its peer has closed.

    A full acceptor stops accepting until one of its connections is closed; the others go on.

    Attributes:
        listening: Non-blocking sockets, which it shares with the other acceptors.
        most: The most connections that it may hold.
        counters: The counters of all acceptors, and `number` its row.
        wake: An eventfd(2) of all acceptors. EPOLLEXCLUSIVE wakes one acceptor only. If that one cannot accept, no
            other acceptor learns of the connection: so it writes here, which wakes all.
    """

    listening: Sequence[socket.socket]
    most: int
    counters: SharedCounters
    number: int
    wake: int
    _row: memoryview[int] = field(init=False)
    _epoll: select.epoll = field(init=False)
    _held: dict[int, socket.socket] = field(default_factory=dict)
    _discarded: bytearray = field(default_factory=lambda: bytearray(1 << 16))

    def run(self) -> Never:
        """Accept, hold and close connections until the process is killed."""
        gc.disable()  # there are no reference cycles here, and a collection would visit thousands of sockets
        self._row = self.counters.row(self.number)
        self._epoll = select.epoll()
        # Edge-triggered and never read: each write to it is an event in every process.
        self._epoll.register(self.wake, select.EPOLLIN | select.EPOLLET)
        self._watch_listening()
        by_descriptor = {sock.fileno(): sock for sock in self.listening}
        while True:
            events = self._epoll.poll(RETRY_S if self._lacks_resources else None, MOST_EVENTS)
            if not events:
                self._resume_accepting()
            for descriptor, _ in events:
                if descriptor in self._held:
                    self._read_or_close(descriptor)
                elif descriptor in by_descriptor:
                    self._accept(by_descriptor[descriptor])
                elif descriptor == self.wake:
                    for sock in self.listening:
                        self._accept(sock)

    @property
    def _lacks_resources(self) -> bool:
        """Whether it stopped accepting below `most`, for want of files or memory: others may free these at any time."""
        return bool(self._row[Counter.IS_FULL]) and len(self._held) < self.most

    def _watch_listening(self) -> None:
        for sock in self.listening:
            self._epoll.register(sock, select.EPOLLIN | select.EPOLLEXCLUSIVE)

    def _accept(self, listening: socket.socket) -> None:
        row, held = self._row, self._held
        for _ in range(ACCEPTS_IN_A_ROW):
            if row[Counter.IS_FULL]:
                break
            try:
                sock, _peer = listening.accept()
                self._epoll.register(sock, select.EPOLLIN)
            except BlockingIOError:
                break
            except ConnectionAbortedError:
                continue
            except OSError as error:
                if error.errno not in CANNOT_HOLD:
                    raise
                self._stop_accepting()
                break
            held[sock.fileno()] = sock
            row[Counter.ACCEPTED] += 1
            row[Counter.OPEN] += 1
            if len(held) >= self.most:
                self._stop_accepting()
        row[Counter.MOST_OPEN] = max(row[Counter.MOST_OPEN], self.counters.open_in_all())

    def _stop_accepting(self) -> None:
        """Stop watching the listening sockets, and wake the other acceptors: they must take what is in the queue."""
        self._row[Counter.IS_FULL] = 1
        for sock in self.listening:
            self._epoll.unregister(sock)
        os.eventfd_write(self.wake, 1)

    def _resume_accepting(self) -> None:
        """Watch the listening sockets again; if connections are queued, epoll reports them at once."""
        self._row[Counter.IS_FULL] = 0
        self._watch_listening()

    def _read_or_close(self, descriptor: int) -> None:
        """Discard what the peer sent, or close the connection if the peer has closed it."""
        try:
            if self._held[descriptor].recv_into(self._discarded, 0, socket.MSG_DONTWAIT):
                return
            counter = Counter.CLOSED_BY_FIN
        except BlockingIOError:
            return
        except OSError:
            counter = Counter.CLOSED_BY_RESET
        self._held.pop(descriptor).close()
        self._row[counter] += 1
        self._row[Counter.OPEN] -= 1
        if self._row[Counter.IS_FULL]:
            self._resume_accepting()
