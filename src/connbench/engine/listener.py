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
    """Listening sockets and the processes that accept from them, if any."""

    socks: list[socket.socket] = field(default_factory=list)
    acceptors: list[int] = field(default_factory=list)

    def close(self) -> None:
        """Drop every accepted connection and stop listening."""
        for pid in self.acceptors:
            os.kill(pid, signal.SIGKILL)
        for pid in self.acceptors:
            os.waitpid(pid, 0)
        self.acceptors.clear()
        for sock in self.socks:
            sock.close()
        self.socks.clear()


def start(kind: Listener, addresses: tuple[Endpoint, ...], connections: int) -> RunningListener:
    """Listen at each address so that `connections` can be open at once.

    Raises:
        TargetError: An address cannot be listened on.
    """
    listener = RunningListener()
    if kind in {Listener.EXTERNAL, Listener.NONE}:
        return listener
    try:
        for address in addresses:
            listener.socks.append(_listen(address, connections))
            if kind is Listener.ACCEPT:
                _start_acceptors(listener, connections)
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


def _start_acceptors(listener: RunningListener, connections: int) -> None:
    """Processes that share the work of the newest socket; each stops when full, so together they have room for all."""
    room = max(1, free_descriptors() - SPARE_DESCRIPTORS)
    for _ in range(connections // room + 1):
        listener.acceptors.append(_start_acceptor(listener.socks[-1], room))


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
