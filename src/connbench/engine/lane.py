"""A lane: holders one after the other, so that more connections are open at once than one process may have.

What a lane has to do is written as a script: a generator that gives a holder its orders, yields it, and is sent the
holder's answer. `connbench.engine.scheduler` runs the scripts of all lanes at the same time.
"""

from __future__ import annotations

import os
import signal
import socket
import time
from array import array
from bisect import bisect_right
from collections.abc import Callable, Generator, Iterable
from contextlib import suppress
from dataclasses import dataclass, field, replace
from operator import add
from typing import Any

from connbench.engine.task import Share
from connbench.engine.worker import run_holder
from connbench.errors import RunFault
from connbench.roundreport import HolderReport

STOPPED = ("the engine or a holder was stopped by SIGTERM", "run it again for the rest")

Answer = dict[str, Any]
Script = Generator["Holder", Answer, None]


@dataclass(slots=True)
class Holder:
    """The engine's side of a holder process; `text` is what of its answer has come."""

    pid: int
    channel: socket.socket
    text: bytes = b""

    def tell(self, *order: object) -> Holder:
        """Give it an order; returns the holder, to be yielded. Where it is gone already, its channel will tell."""
        with suppress(BrokenPipeError, ConnectionResetError):
            self.channel.sendall(" ".join(map(str, order)).encode() + b"\n")
        return self

    def receive(self) -> bytes:
        """Take in what it has sent; empty once it is gone."""
        try:
            piece = self.channel.recv(65536)
        except ConnectionResetError:
            return b""
        self.text += piece
        return piece


@dataclass(slots=True)
class Lane:
    """The holders of a lane in the order they were started, and what they reported of the phase.

    Attributes:
        share: What the next holder opens.
        start: Starts a holder process for a share.
        stopped: Whether no further holder, and no further replacement, is to be begun.
    """

    share: Share
    start: Callable[[Share], Holder]
    holders: list[Holder] = field(default_factory=list)
    reports: list[HolderReport] = field(default_factory=list)
    stopped: bool = False

    def get_ready(self) -> Script:
        """Start the first holder."""
        if self.share.rows:
            yield self._start()

    def fill(self) -> Script:
        """Have the holder that is ready open its share, and start others until the lane's last attempt is made.

        Raises:
            RunFault: A holder reports a fault. What it and the others hold stays open.
        """
        while self.share.rows and not self.stopped:
            if len(self.holders) == len(self.reports):
                yield self._start()
            answer = yield self.holders[-1].tell("open")
            report = HolderReport(**answer["report"])
            self.reports.append(report)
            _raise_what_ended(answer)
            held = tuple(map(add, self.share.held_before, answer["opened_by_source"]))
            rest = range(self.share.rows.start + report.attempts, self.share.rows.stop)
            self.share = replace(self.share, rows=rest, held_before=held)

    def churn(self, rows: range) -> Script:
        """Have the holders replace connections, each its own; the reports are of the churn from now on.

        Args:
            rows: The lane's rows of the churn.

        Raises:
            RunFault: As of `fill`.
        """
        plan, victims = self.share.plan, self.share.victims
        firsts = [report.first for report in self.reports]
        self.reports = [replace(report, attempts=0, involuntary_switches=0) for report in self.reports]
        of_lane = victims[rows.start - plan.connections : rows.stop - plan.connections]
        began, timeouts = time.perf_counter_ns(), 0
        for number, run in by_holder(rows, of_lane, firsts):
            answer = yield self.holders[number].tell("churn", run.start, run.stop, rows.start, began, timeouts)
            report = self.reports[number]
            self.reports[number] = replace(
                report,
                attempts=report.attempts + answer["attempts"],
                involuntary_switches=report.involuntary_switches + answer["switches"],
            )
            timeouts = answer["timeouts"]
            _raise_what_ended(answer)
            if self.stopped:
                return

    def _start(self) -> Holder:
        holder = self.start(self.share)
        self.holders.append(holder)
        return holder


def by_holder(rows: range, victims: array[int], firsts: list[int]) -> list[tuple[int, range]]:
    """Rows of the churn in runs that one holder can go through by itself.

    Args:
        rows: Those of a lane.
        victims: The row that each of them replaces.
        firsts: The first row that each of the lane's holders holds, in order.

    Returns:
        The holder's position in `firsts`, and its rows; in the order they are to be made.
    """
    runs: list[tuple[int, range]] = []
    for row, victim in zip(rows, victims, strict=True):
        holder = bisect_right(firsts, victim) - 1
        if runs and runs[-1][0] == holder:
            runs[-1] = holder, range(runs[-1][1].start, row + 1)
        else:
            runs.append((holder, range(row, row + 1)))
    return runs


def _raise_what_ended(answer: Answer) -> None:
    if answer["fault"]:
        raise RunFault(**answer["fault"])
    if answer["stopped"]:
        raise RunFault(*STOPPED)


def start_holder(share: Share, others: Iterable[Holder]) -> Holder:
    """Fork a holder process; SIGTERM stays blocked in it until it has work.

    Args:
        share: What it is to open.
        others: Those whose channels it must not keep open.
    """
    ours, theirs = socket.socketpair()
    engine = os.getpid()
    # A SIGTERM between fork() and the holder's own handler would unwind the engine's stack in the holder.
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
    try:
        pid = os.fork()
        if pid == 0:
            signal.set_wakeup_fd(-1)
            ours.close()
            for other in others:
                other.channel.close()
            run_holder(share, theirs, engine)
        theirs.close()
        return Holder(pid, ours)
    finally:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTERM})
