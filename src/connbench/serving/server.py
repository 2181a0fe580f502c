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

from connbench.errors import TargetError
from connbench.linux import counters, sysctl
from connbench.linux.families import family_of
from connbench.linux.limits import open_files, raise_open_files
from connbench.linux.process import describe_end
from connbench.model import MAX_PORT, Endpoint
from connbench.serving.acceptors import Acceptors, room_of_one, start_acceptors
from connbench.serving.account import OVERFLOW_COUNTERS, Account, Place, ProcessAccount
from connbench.serving.tally import Column

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
    """SIGINT or SIGTERM."""


EVENTS = {
    signal.SIGUSR1: Event.REPORT,
    signal.SIGCHLD: Event.LOSS,
    signal.SIGINT: Event.STOP,
    signal.SIGTERM: Event.STOP,
}


@dataclass(slots=True)
class Server:
    """A server at work.

    Attributes:
        place: Where it listens.
        sock: The listening socket.
        acceptors: Who accepts from it.
        before: The namespace's counters when it began to listen.
    """

    place: Place
    sock: socket.socket
    acceptors: Acceptors
    before: dict[str, int]

    def wait(self) -> Event:
        """Sleep until a signal comes; what comes in the meantime waits for the next call."""
        return EVENTS[signal.Signals(signal.sigwait(EVENTS))]

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
            most_open=max(self.acceptors.tally.row(number)[Column.MOST] for number in processes),
            waiting=waiting,
            backlog=backlog,
            counters={name: moved[name] for name in OVERFLOW_COUNTERS if name in moved},
        )

    def _account_of(self, number: int) -> ProcessAccount:
        row = self.acceptors.tally.row(number)
        end = self.acceptors.ends.get(number)
        return ProcessAccount(
            pid=self.acceptors.pids[number],
            accepted=row[Column.ACCEPTED],
            open=row[Column.OPEN],
            ended=row[Column.ENDED],
            reset=row[Column.RESET],
            is_full=bool(row[Column.FULL]),
            end="" if end is None else describe_end(end)[0],
        )


@contextmanager
def serving(address: Endpoint, processes: int | None = None) -> Iterator[Server]:
    """Listen at an address, port 0 for any free one; at the end everything is closed, and every process is gone.

    The signals of `EVENTS` are blocked meanwhile, and `Server.wait` takes them.

    Args:
        address: Where.
        processes: How many accept; without it one for each usable CPU, and as many as hold a connection of each port.

    Raises:
        TargetError: It cannot listen there.
        OSError: There is no room for so many processes.
    """
    raise_open_files()
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, EVENTS)
    try:
        with _listen(address) as sock:
            room = room_of_one()
            number = processes or max(len(os.sched_getaffinity(0)), -(-MAX_PORT // room))
            before = counters.read()
            acceptors = start_acceptors([sock], number, room)
            try:
                yield Server(_place(sock, number, room), sock, acceptors, before)
            finally:
                acceptors.close()
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)


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
            first = sysctl.read(sysctl.UNPRIVILEGED_START)
            return TargetError(message, f"choose a --port from {first} on, or run as root")
    return TargetError(message, "choose another --bind or --port")


def _place(sock: socket.socket, processes: int, room: int) -> Place:
    host, port = sock.getsockname()[:2]
    return Place(
        address=str(Endpoint(host, port)),
        processes=processes,
        files=open_files()[0],
        room=room,
        somaxconn=int(sysctl.read(sysctl.SOMAXCONN)),
        backlog=_queue_of(sock)[1],
    )


def _queue_of(sock: socket.socket) -> tuple[int, int]:
    """Connections nobody has accepted yet, and how many there may be."""
    info = sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, QUEUE_AT + QUEUE.size)
    length, limit = QUEUE.unpack_from(info, QUEUE_AT)
    return length, limit
