"""Who completes the handshakes: the kernel alone (`backlog`), or processes that accept and hold (`accept`)."""

from __future__ import annotations

import contextlib
import errno
import os
import signal
import socket
from dataclasses import dataclass, field
from typing import Never

from connbench.errors import TargetError
from connbench.linux.families import family_of
from connbench.linux.limits import free_descriptors
from connbench.linux.process import die_with_parent
from connbench.model import Endpoint, Listener

SPARE_DESCRIPTORS = 16


@dataclass(slots=True)
class RunningListener:
    """A listening socket and the processes that accept from it, if any."""

    sock: socket.socket | None = None
    acceptors: list[int] = field(default_factory=list)

    def close(self) -> None:
        """Drop every accepted connection and stop listening."""
        for pid in self.acceptors:
            os.kill(pid, signal.SIGKILL)
        for pid in self.acceptors:
            os.waitpid(pid, 0)
        self.acceptors.clear()
        if self.sock:
            self.sock.close()
            self.sock = None


def start(kind: Listener, address: Endpoint, connections: int) -> RunningListener:
    """Listen at `address` so that `connections` can be open at once.

    Raises:
        TargetError: The address cannot be listened on.
    """
    if kind is Listener.EXTERNAL:
        return RunningListener()
    sock = socket.socket(family_of(address.host), socket.SOCK_STREAM)
    try:
        sock.bind((address.host, address.port))
        # The kernel cuts the backlog to somaxconn; with acceptors that only has to carry a burst.
        sock.listen(backlog_for(connections))
    except OSError as error:
        sock.close()
        raise _cannot_listen(address, error) from error
    listener = RunningListener(sock)
    if kind is Listener.ACCEPT:
        # Accepting processes share the work; each stops when full, so together they must have room for all.
        room = max(1, free_descriptors() - SPARE_DESCRIPTORS)
        for _ in range(connections // room + 1):
            listener.acceptors.append(_start_acceptor(sock, room))
    return listener


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


def _start_acceptor(sock: socket.socket, room: int) -> int:
    engine = os.getpid()
    pid = os.fork()
    if pid == 0:
        try:
            die_with_parent(engine)
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
            _accept_and_hold(sock, room)
        finally:
            os._exit(1)
    return pid


def _accept_and_hold(sock: socket.socket, room: int) -> Never:
    held: list[socket.socket] = []
    while len(held) < room:
        with contextlib.suppress(ConnectionAbortedError):
            held.append(sock.accept()[0])
    while True:
        signal.pause()
