"""A listening socket, the processes that accept from it, and the signals they are told by."""

from __future__ import annotations

import errno
import os
import signal
import socket
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from enum import Enum, auto
from operator import itemgetter

from connbench.engine.acceptors import Acceptors, room_of_one, start_acceptors
from connbench.engine.tally import Column
from connbench.errors import TargetError
from connbench.interrupts import ENDING, heeded
from connbench.linux import counters, sysctl
from connbench.linux.families import family_of
from connbench.linux.limits import open_files, raise_open_files
from connbench.linux.shortage import refuse_processes
from connbench.model import MAX_PORT, Endpoint
from connbench.serve.statistics import MOST_PROCESSES, OVERFLOW_COUNTERS, Account, Place, ProcessAccount

LONGEST_BACKLOG = 2**31 - 1
"""The kernel cuts what listen() asks for to somaxconn."""

QUEUE_AT, QUEUE = 24, struct.Struct("=II")
"""tcpi_unacked and tcpi_sacked in struct tcp_info: of a listening socket, its queue's length and limit."""


class Event(Enum):
    """What a server is woken for."""

    REPORT = auto()
    """SIGUSR1: say how it stands."""
    LOSS = auto()
    """An accepting process has ended."""
    STOP = auto()
    """SIGINT, SIGTERM, SIGHUP or SIGQUIT."""


EVENTS = {
    signal.SIGUSR1: Event.REPORT,
    signal.SIGCHLD: Event.LOSS,
    **dict.fromkeys(ENDING, Event.STOP),
}

PROCESSES_PER_CPU = 64
"""More of them accept nothing faster; they hold more where each may open few files."""


@dataclass(slots=True)
class Server:
    """A server at work.

    Attributes:
        place: Where it listens.
        sock: The listening socket.
        acceptors: Who accepts from it.
        before: The namespace's counters when it began to listen.
        signals: Those it is woken by.
        woken_by: The one that woke it last; 0 before the first.
    """

    place: Place
    sock: socket.socket
    acceptors: Acceptors
    before: dict[str, int]
    signals: frozenset[signal.Signals]
    woken_by: int = 0

    def wait(self) -> Event:
        """Sleep until a signal comes; what comes in the meantime waits for the next call."""
        self.woken_by = signal.sigwait(self.signals)
        return EVENTS[signal.Signals(self.woken_by)]

    def take_losses(self) -> list[ProcessAccount]:
        """Accepting processes that have ended since the last time, with what they held; the rest go on."""
        return [self._account_of(number) for number in self.acceptors.reap()]

    def account(self) -> Account:
        """How it stands."""
        waiting, backlog = _queue_of(self.sock)
        moved = counters.difference(self.before, counters.read())
        processes = range(len(self.acceptors.pids))
        return Account(
            processes=tuple(map(self._account_of, processes)),
            most_open=max((self.acceptors.tally.row(number)[Column.MOST] for number in processes), default=0),
            waiting=waiting,
            backlog=backlog,
            counters={name: moved[name] for name in OVERFLOW_COUNTERS if name in moved},
        )

    def _account_of(self, number: int) -> ProcessAccount:
        row = self.acceptors.tally.row(number)
        end, advice = self.acceptors.end_of(number)
        return ProcessAccount(
            pid=self.acceptors.pids[number],
            accepted=row[Column.ACCEPTED],
            open=row[Column.OPEN],
            ended=row[Column.ENDED],
            reset=row[Column.RESET],
            is_full=bool(row[Column.FULL]),
            end=end,
            advice=advice,
        )


@contextmanager
def serving(address: Endpoint, processes: int | None = None) -> Iterator[Server]:
    """Listen at an address, port 0 for any free one; at the end everything is closed, and every process is gone.

    The signals of `EVENTS` are blocked meanwhile, and `Server.wait` takes them; but not those that whoever started this
    process has it ignore, as nohup(1) does with SIGHUP.

    Args:
        address: Where.
        processes: How many accept; without it one for each usable CPU, and as many as hold a connection of each port,
            if this machine and user may have them.

    Raises:
        TargetError: It cannot listen there.
        EnvironmentFault: So many processes, or any that can hold a connection, cannot be started.
    """
    raise_open_files()
    signals = heeded(EVENTS)
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, signals)
    try:
        with _listen(address) as sock:
            room = room_of_one()
            cpus = len(os.sched_getaffinity(0))
            wanted = max(cpus, -(-MAX_PORT // room))
            if processes:
                refuse_processes(processes, f"--processes {processes}", "ask for fewer, or raise the limit")
            number, bounded_by = (processes, "") if processes else _bounded(wanted, cpus)
            before = counters.read()
            acceptors = start_acceptors([sock], number, room)
            try:
                place = _place(sock, len(acceptors.pids), room, wanted, bounded_by)
                yield Server(place, sock, acceptors, before, signals)
            finally:
                acceptors.close()
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)


def _bounded(wanted: int, cpus: int) -> tuple[int, str]:
    """How many processes to start of those that are wanted, and what does not allow them all.

    Raises:
        EnvironmentFault: None can be started.
    """
    allowed = refuse_processes(1, "serve", "end other processes of this user, or raise the limit")
    per_cpu = PROCESSES_PER_CPU * cpus
    bounds = [
        (wanted, ""),
        (per_cpu, f"{PROCESSES_PER_CPU} for each of {cpus} CPU{'s' if cpus > 1 else ''}"),
        (MOST_PROCESSES, f"{MOST_PROCESSES:,}, the most that --processes takes"),
        # Half is left to the user, who may want to connect here.
        (max(1, allowed.amount // 2), f"half of the {allowed.amount:,} allowed ({allowed.limit})"),
    ]
    return min(bounds, key=itemgetter(0))


def _listen(address: Endpoint) -> socket.socket:
    sock = socket.socket(family_of(address.host), socket.SOCK_STREAM)
    try:
        # What an earlier listener left in TIME_WAIT does not keep the port; one that still listens does.
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind((address.host, address.port))
        sock.listen(LONGEST_BACKLOG)
    except OSError as error:
        sock.close()
        raise _cannot_listen(address, error) from error
    return sock


def _cannot_listen(address: Endpoint, error: OSError) -> TargetError:
    message = f"cannot listen on {address}: {error.strerror}"
    match error.errno:
        case errno.EADDRINUSE:
            return TargetError(message, "see who does with `ss -ltnp`, or choose another --port; 0 takes a free one")
        case errno.EADDRNOTAVAIL:
            return TargetError(
                message, "--bind takes an address of this machine (`ip address`), 127.0.0.1 for instance"
            )
        case errno.EACCES:
            first = sysctl.read_all((sysctl.UNPRIVILEGED_START,)).get(sysctl.UNPRIVILEGED_START, "1024")
            return TargetError(message, f"choose a --port from {first} on, or run as root")
    return TargetError(message, "choose another --bind or --port")


def _place(sock: socket.socket, processes: int, room: int, wanted: int, bounded_by: str) -> Place:
    host, port = sock.getsockname()[:2]
    return Place(
        address=str(Endpoint(host, port)),
        processes=processes,
        processes_wanted=wanted,
        bounded_by=bounded_by,
        files=open_files()[0],
        room=room,
        somaxconn=sysctl.number(sysctl.SOMAXCONN),
        backlog=_queue_of(sock)[1],
    )


def _queue_of(sock: socket.socket) -> tuple[int, int]:
    """Connections nobody has accepted yet, and how many there may be."""
    info = sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, QUEUE_AT + QUEUE.size)
    length, limit = QUEUE.unpack_from(info, QUEUE_AT)
    return length, limit
