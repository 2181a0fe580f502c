"""Who completes the handshakes: the kernel alone (`backlog`), or processes that accept and hold (`accept`)."""

from __future__ import annotations

import errno
import socket
from dataclasses import dataclass, field

from connbench.engine.acceptors import Acceptors, room_of_one, start_acceptors
from connbench.engine.tally import Column
from connbench.errors import RunFault, TargetError
from connbench.linux.families import family_of
from connbench.linux.limits import open_files
from connbench.linux.shortage import refuse_processes
from connbench.model import Endpoint, Listener


@dataclass(slots=True)
class RunningListener:
    """Listening sockets and the processes that accept from them, if any."""

    socks: list[socket.socket] = field(default_factory=list)
    acceptors: Acceptors | None = None

    def check(self) -> None:
        """Make sure that every accepting process is still there.

        Raises:
            RunFault: One has ended since the last time, with what it held.
        """
        ended = self.acceptors.reap() if self.acceptors else []
        if self.acceptors and ended:
            first = ended[0]
            row = self.acceptors.tally.row(first)
            how, advice = self.acceptors.end_of(first)
            accepted = row[Column.ACCEPTED]
            when = f"with {row[Column.OPEN]:,} open connections" if accepted else "before it accepted a connection"
            raise RunFault(f"the listener's accepting process {self.acceptors.pids[first]} {how}, {when}", advice)

    def close(self) -> None:
        """Drop every accepted connection and stop listening."""
        if self.acceptors:
            self.acceptors.close()
            self.acceptors = None
        for sock in self.socks:
            sock.close()
        self.socks.clear()


def start(kind: Listener, addresses: tuple[Endpoint, ...], connections: int, in_all: int) -> RunningListener:
    """Listen at each address so that `connections` can be open at once.

    Args:
        kind: Who completes the handshakes.
        addresses: Where.
        connections: How many there are at once.
        in_all: How many there are over time: a queue that nobody accepts from keeps those that are closed, too.

    Raises:
        TargetError: An address cannot be listened on.
        EnvironmentFault: So many accepting processes cannot be started.
    """
    listener = RunningListener()
    if kind in {Listener.EXTERNAL, Listener.NONE}:
        return listener
    try:
        for address in addresses:
            listener.socks.append(_listen(address, in_all))
        if kind is Listener.ACCEPT:
            # Accepting processes share the work; each stops when full, so together they must have room for all.
            room = room_of_one()
            processes = connections // room + 1
            refuse_processes(
                processes,
                f"{connections:,} connections to accept, with {open_files()[0]:,} files for each process",
                "raise the hard limit of open files (ulimit -Hn), ask for fewer with -n, or use --listener backlog",
            )
            listener.acceptors = start_acceptors(listener.socks, processes, room)
    except BaseException:
        listener.close()
        raise
    return listener


def _listen(address: Endpoint, connections: int) -> socket.socket:
    sock = socket.socket(family_of(address.host), socket.SOCK_STREAM)
    try:
        sock.bind((address.host, address.port))
        # The kernel cuts the backlog to somaxconn; with acceptors that only has to carry a burst.
        sock.listen(backlog_for(connections))
    except OSError as error:
        sock.close()
        raise _cannot_listen(address, error) from error
    return sock


def backlog_for(connections: int) -> int:
    """Accept queue that never overflows with that many connections in it."""
    return connections + 64


def _cannot_listen(address: Endpoint, error: OSError) -> TargetError:
    if error.errno == errno.EADDRINUSE:
        return TargetError(
            f"the listener's port is taken: {address} ({error.strerror})",
            "name a free one with --target, or leave out --listener to measure who listens there",
        )
    return TargetError(f"cannot listen on {address}: {error.strerror}", "choose another with --target")
