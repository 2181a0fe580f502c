"""The server behind `connbench serve`: a listening socket, the acceptors, and the flags that signals set."""

from __future__ import annotations

import errno
import mmap
import os
import signal
import socket
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from operator import itemgetter

from connbench.engine.acceptors import Acceptors, Counter, connections_per_acceptor, start_acceptors
from connbench.errors import TargetError
from connbench.interrupts import not_ignored, set_by_signals
from connbench.linux import counters, sysctl
from connbench.linux.address_family import family_of
from connbench.linux.limits import check_processes, open_files, raise_open_files
from connbench.model import MAX_PORT, Endpoint
from connbench.model.round_report import OVERFLOW_COUNTERS
from connbench.serve.statistics import MOST_PROCESSES, ProcessStatistics, ServerInfo, Statistics

LONGEST_BACKLOG = 2**31 - 1
"""For listen(): the kernel lowers it to somaxconn."""

QUEUE_AT, QUEUE = 24, struct.Struct("=II")
"""tcpi_unacked and tcpi_sacked in struct tcp_info: for a listening socket, the length and the limit of its queue."""


PROCESSES_PER_CPU = 64
"""More processes do not accept faster; they only hold more connections where each may open few files."""


@dataclass(slots=True)
class Server:
    """A running server.

    Attributes:
        info: Its address, processes and limits.
        sock: The listening socket.
        acceptors: The processes that accept from it.
        before: The namespace's counters when the server began to listen.
        stop: The stop flag: the signal that asks the server to end; 0 before that.
        report: Not 0 once SIGUSR1 has asked for a report, until `take_request`.
    """

    info: ServerInfo
    sock: socket.socket
    acceptors: Acceptors
    before: dict[str, int]
    stop: memoryview[int]
    report: memoryview[int]

    def take_request(self) -> bool:
        """Whether SIGUSR1 has asked for a report since the last call."""
        if not self.report[0]:
            return False
        self.report[0] = 0  # a signal from here on asks for another report
        return True

    def take_losses(self) -> list[ProcessStatistics]:
        """The accepting processes that have ended since the last call; the others go on."""
        return [self._statistics_of(number) for number in self.acceptors.reap()]

    def statistics(self) -> Statistics:
        """The statistics up to now."""
        waiting, backlog = _queue_of(self.sock)
        moved = counters.difference(self.before, counters.read())
        processes = range(len(self.acceptors.pids))
        return Statistics(
            processes=tuple(map(self._statistics_of, processes)),
            most_open=max((self.acceptors.counters.row(number)[Counter.MOST_OPEN] for number in processes), default=0),
            waiting=waiting,
            backlog=backlog,
            counters={name: moved[name] for name in OVERFLOW_COUNTERS if name in moved},
        )

    def _statistics_of(self, number: int) -> ProcessStatistics:
        row = self.acceptors.counters.row(number)
        end, advice = self.acceptors.end_of(number)
        return ProcessStatistics(
            pid=self.acceptors.pids[number],
            accepted=row[Counter.ACCEPTED],
            open=row[Counter.OPEN],
            closed_by_fin=row[Counter.CLOSED_BY_FIN],
            closed_by_reset=row[Counter.CLOSED_BY_RESET],
            is_full=bool(row[Counter.IS_FULL]),
            end=end,
            advice=advice,
        )


@contextmanager
def serving(address: Endpoint, processes: int | None = None) -> Iterator[Server]:
    """Run a server: on leaving the context, all connections are closed and all its processes have ended.

    From now on SIGUSR1 and the signals of `ENDING_SIGNALS` only set the server's flags. A signal that this process was
    started to ignore, as nohup(1) does with SIGHUP, stays ignored.

    Args:
        address: The address to listen on; port 0 takes a free one.
        processes: The number of accepting processes. None takes one for each usable CPU, and more until they can hold a
            connection from each port, as far as the limits of this machine and user allow.

    Raises:
        TargetError: It cannot listen on the address.
        EnvironmentFault: The limits do not allow that many processes, or none that can hold a connection.
    """
    raise_open_files()
    flags = memoryview(mmap.mmap(-1, mmap.PAGESIZE)).cast("i")  # shared with the acceptors
    stop, report = flags[:1], flags[1:2]
    set_by_signals(stop, not_ignored())
    set_by_signals(report, not_ignored({signal.SIGUSR1}))
    with _listen(address) as sock:
        room = connections_per_acceptor()
        cpus = len(os.sched_getaffinity(0))
        wanted = max(cpus, -(-MAX_PORT // room))
        if processes:
            check_processes(processes, f"--processes {processes}", "ask for fewer, or raise the limit")
        number, bounded_by = (processes, "") if processes else _bounded(wanted, cpus)
        before = counters.read()
        acceptors = start_acceptors([sock], number, room, stop)
        try:
            info = _info(sock, len(acceptors.pids), room, wanted, bounded_by)
            yield Server(info, sock, acceptors, before, stop, report)
        finally:
            acceptors.close()


def _bounded(wanted: int, cpus: int) -> tuple[int, str]:
    """How many of the wanted processes to start, and the limit that forbids more; empty if it is all of them.

    Raises:
        EnvironmentFault: The limits do not allow a single one.
    """
    allowed = check_processes(1, "serve", "end other processes of this user, or raise the limit")
    per_cpu = PROCESSES_PER_CPU * cpus
    bounds = [
        (wanted, ""),
        (per_cpu, f"{PROCESSES_PER_CPU} for each of {cpus} CPU{'s' if cpus > 1 else ''}"),
        (MOST_PROCESSES, f"{MOST_PROCESSES:,}, the most that --processes takes"),
        # The other half is for the programs that the user starts, which may connect here.
        (max(1, allowed.amount // 2), f"half of the {allowed.amount:,} allowed ({allowed.limit})"),
    ]
    return min(bounds, key=itemgetter(0))


def _listen(address: Endpoint) -> socket.socket:
    sock = socket.socket(family_of(address.host), socket.SOCK_STREAM)
    try:
        # Connections of an earlier listener in TIME_WAIT do not block the port; a listener does.
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
            return TargetError(
                message, "`ss -ltnp` shows who listens there; or choose another --port, where 0 takes a free one"
            )
        case errno.EADDRNOTAVAIL:
            return TargetError(
                message, "--bind takes an address of this machine (`ip address`), 127.0.0.1 for instance"
            )
        case errno.EACCES:
            first = sysctl.read_all((sysctl.UNPRIVILEGED_START,)).get(sysctl.UNPRIVILEGED_START, "1024")
            return TargetError(message, f"choose a --port from {first} on, or run as root")
    return TargetError(message, "choose another --bind or --port")


def _info(sock: socket.socket, processes: int, room: int, wanted: int, bounded_by: str) -> ServerInfo:
    host, port = sock.getsockname()[:2]
    return ServerInfo(
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
    """How many connections wait in the queue of a listening socket, and how many may."""
    info = sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, QUEUE_AT + QUEUE.size)
    length, limit = QUEUE.unpack_from(info, QUEUE_AT)
    return length, limit
