"""The listener of a round.

With `--listener backlog` the kernel completes the handshakes, and the connections stay in the accept queue. With
`--listener accept` acceptors take them from the queue and hold them.
"""

from __future__ import annotations

import errno
import socket
from contextlib import suppress
from dataclasses import dataclass, field

from connbench.engine.acceptors import Acceptors, Counter, connections_per_acceptor, start_acceptors
from connbench.errors import RunFault, TargetError
from connbench.linux.address_family import family_of
from connbench.linux.limits import check_processes, open_files
from connbench.linux.sockopts import reuse_address
from connbench.model import Endpoint, Listener


@dataclass(slots=True)
class RunningListener:
    """The listening sockets, and with `--listener accept` the processes that accept from them."""

    socks: list[socket.socket] = field(default_factory=list)
    acceptors: Acceptors | None = None

    def check(self) -> None:
        """Check that every accepting process still runs.

        Raises:
            RunFault: One has ended since the last call, and its connections are closed.
        """
        ended = self.acceptors.reap() if self.acceptors else []
        if self.acceptors and ended:
            first = ended[0]
            row = self.acceptors.counters.row(first)
            how, advice = self.acceptors.end_of(first)
            accepted = row[Counter.ACCEPTED]
            when = f"with {row[Counter.OPEN]:,} open connections" if accepted else "before it accepted a connection"
            raise RunFault(f"the listener's accepting process {self.acceptors.pids[first]} {how}, {when}", advice)

    def close(self) -> None:
        """Close the accepted connections and the listening sockets, and reset what waits in their queues."""
        if self.acceptors:
            self.acceptors.close()
            self.acceptors = None
        for sock in self.socks:
            with suppress(OSError):  # it never listened
                sock.shutdown(socket.SHUT_RD)  # for the workers, too, which have it from fork()
            sock.close()
        self.socks.clear()


def start(
    kind: Listener, addresses: tuple[Endpoint, ...], connections: int, attempts: int, stop: memoryview[int]
) -> RunningListener:
    """Start a listener that can have `connections` open at once.

    Args:
        kind: The kind of listener; EXTERNAL and NONE start nothing.
        addresses: The addresses to listen on.
        connections: The most connections that are open at the same time.
        attempts: All connections of the round: without accept(), closed connections stay in the queue, too.
        stop: The stop flag: once it is set, no further accepting process is started.

    Raises:
        TargetError: It cannot listen on an address.
        EnvironmentFault: The limits do not allow the accepting processes that are needed.
    """
    listener = RunningListener()
    if kind in {Listener.EXTERNAL, Listener.NONE}:
        return listener
    try:
        for address in addresses:
            listener.socks.append(_listen(address, attempts))
        if kind is Listener.ACCEPT:
            # Acceptors share the connections unevenly, and each stops when it is full: together they must hold all.
            most = connections_per_acceptor()
            processes = connections // most + 1
            check_processes(
                processes,
                f"{connections:,} connections to accept, with {open_files()[0]:,} files for each process",
                "raise the hard limit of open files (ulimit -Hn), ask for fewer with -n, or use --listener backlog",
            )
            listener.acceptors = start_acceptors(listener.socks, processes, most, stop)
    except BaseException:
        listener.close()
        raise
    return listener


def _listen(address: Endpoint, connections: int) -> socket.socket:
    sock = socket.socket(family_of(address.host), socket.SOCK_STREAM)
    try:
        reuse_address(sock)
        sock.bind((address.host, address.port))
        # The kernel lowers the backlog to somaxconn, which is enough where acceptors empty the queue.
        sock.listen(backlog_for(connections))
    except OSError as error:
        sock.close()
        raise _cannot_listen(address, error) from error
    return sock


def backlog_for(connections: int) -> int:
    """A backlog for listen() with which as many connections do not overflow the accept queue."""
    return connections + 64


def _cannot_listen(address: Endpoint, error: OSError) -> TargetError:
    if error.errno == errno.EADDRINUSE:
        return TargetError(
            f"the listener's port is in use: {address} ({error.strerror})",
            "name a free one with --target, or leave out --listener to measure the program that listens there",
        )
    return TargetError(f"cannot listen on {address}: {error.strerror}", "choose another with --target")
