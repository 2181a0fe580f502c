"""An accepting process: it takes connections in, discards what comes on them, and closes those its peer has closed.

All processes accept from the same sockets. With SO_REUSEPORT each would have a queue of its own, whose connections are
lost with its process, and which fills up behind a full process while others have room. EPOLLEXCLUSIVE has the kernel
wake one process for a new connection instead of all; which one does not matter, as long as the connection is held.
"""

from __future__ import annotations

import errno
import gc
import os
import select
import socket
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Never

from connbench.engine.tally import Column, Tally
from connbench.linux.limits import OUT_OF_RESOURCES

AT_ONCE = 64
"""Connections taken in before those that are open are looked after again."""

EVENTS = 256
"""Events taken from the kernel at once."""

TRY_AGAIN = 0.25
"""Seconds until a process that had room but no files or memory to accept with tries again."""

CANNOT_HOLD = OUT_OF_RESOURCES - {errno.EAGAIN} | {errno.ENOBUFS, errno.ENOSPC}
"""No room for a connection: files or memory, and ENOSPC where fs.epoll.max_user_watches is reached."""


@dataclass(slots=True)
class Acceptor:
    """What one process accepts from, and what it holds.

    A full process turns away from the listening sockets until a connection of its own is closed, and others go on.

    Attributes:
        listening: Sockets it shares with the other processes; they do not block.
        room: The most connections it may hold.
        tally: The counts of all processes, and `number` its row.
        nudge: An eventfd(2) they share. EPOLLEXCLUSIVE wakes one process alone, and if that one cannot accept after all
            nobody else hears of the connection: so it writes here, which wakes all.
    """

    listening: Sequence[socket.socket]
    room: int
    tally: Tally
    number: int
    nudge: int
    _row: memoryview[int] = field(init=False)
    _epoll: select.epoll = field(init=False)
    _held: dict[int, socket.socket] = field(default_factory=dict)
    _waste: bytearray = field(default_factory=lambda: bytearray(1 << 16))

    def run(self) -> Never:
        """Accept, hold and close, until the process is killed."""
        gc.disable()  # nothing here goes in circles, and looking through thousands of sockets takes its time
        self._row = self.tally.row(self.number)
        self._epoll = select.epoll()
        # Edge-triggered and never read: each write to it is an event in every process.
        self._epoll.register(self.nudge, select.EPOLLIN | select.EPOLLET)
        self._watch_listening()
        by_descriptor = {sock.fileno(): sock for sock in self.listening}
        while True:
            events = self._epoll.poll(TRY_AGAIN if self._is_short else None, EVENTS)
            if not events:
                self._turn_back()
            for descriptor, _ in events:
                if descriptor in self._held:
                    self._attend(descriptor)
                elif descriptor in by_descriptor:
                    self._take_in(by_descriptor[descriptor])
                elif descriptor == self.nudge:
                    for sock in self.listening:
                        self._take_in(sock)

    @property
    def _is_short(self) -> bool:
        """Whether it has turned away with room left: for want of something that may come without its doing."""
        return bool(self._row[Column.FULL]) and len(self._held) < self.room

    def _watch_listening(self) -> None:
        for sock in self.listening:
            self._epoll.register(sock, select.EPOLLIN | select.EPOLLEXCLUSIVE)

    def _take_in(self, listening: socket.socket) -> None:
        row, held = self._row, self._held
        for _ in range(AT_ONCE):
            if row[Column.FULL]:
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
                self._turn_away()
                break
            held[sock.fileno()] = sock
            row[Column.ACCEPTED] += 1
            row[Column.OPEN] += 1
            if len(held) >= self.room:
                self._turn_away()
        row[Column.MOST] = max(row[Column.MOST], self.tally.open_in_all())

    def _turn_away(self) -> None:
        """Accept no more, and let the others know that what is in the queue is theirs."""
        self._row[Column.FULL] = 1
        for sock in self.listening:
            self._epoll.unregister(sock)
        os.eventfd_write(self.nudge, 1)

    def _turn_back(self) -> None:
        """Accept again; what waits in the queue is an event at once."""
        self._row[Column.FULL] = 0
        self._watch_listening()

    def _attend(self, descriptor: int) -> None:
        """Discard what a peer sent, or close our end if it has closed its own."""
        try:
            if self._held[descriptor].recv_into(self._waste, 0, socket.MSG_DONTWAIT):
                return
            ending = Column.ENDED
        except BlockingIOError:
            return
        except OSError:
            ending = Column.RESET
        self._held.pop(descriptor).close()
        self._row[ending] += 1
        self._row[Column.OPEN] -= 1
        if self._row[Column.FULL]:
            self._turn_back()
