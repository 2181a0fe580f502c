"""A client: workers one after the other, so that more connections are open at once than one process may have.

What a client has to do is written as a script: a generator that gives a worker its commands, yields it, and is sent the
worker's answer. `connbench.engine.scheduler` runs the scripts of all clients at the same time.
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

from connbench.engine.task import WorkerTask
from connbench.engine.worker import run_worker
from connbench.errors import RunFault
from connbench.roundreport import WorkerReport

STOPPED = ("the engine or a worker was stopped by SIGTERM", "run it again for the rest")

Answer = dict[str, Any]
Script = Generator["WorkerHandle", Answer, None]


@dataclass(slots=True)
class WorkerHandle:
    """The engine's side of a worker process; `text` is what of its answer has come."""

    pid: int
    channel: socket.socket
    text: bytes = b""

    def tell(self, *command: object) -> WorkerHandle:
        """Give it a command; returns the worker, to be yielded. Where it is gone already, its channel will tell."""
        with suppress(BrokenPipeError, ConnectionResetError):
            self.channel.sendall(" ".join(map(str, command)).encode() + b"\n")
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
class Client:
    """The workers of a client in the order they were started, and what they reported of the phase.

    Attributes:
        task: What the next worker opens.
        start: Starts a worker process for a task.
        stopped: Whether no further worker, and no further replacement, is to be begun.
    """

    task: WorkerTask
    start: Callable[[WorkerTask], WorkerHandle]
    workers: list[WorkerHandle] = field(default_factory=list)
    reports: list[WorkerReport] = field(default_factory=list)
    stopped: bool = False

    def get_ready(self) -> Script:
        """Start the first worker."""
        if self.task.rows:
            yield self._start()

    def fill(self) -> Script:
        """Have the worker that is ready open its task, and start others until the client's last attempt is made.

        Raises:
            RunFault: A worker reports a fault. What it and the others hold stays open.
        """
        while self.task.rows and not self.stopped:
            if len(self.workers) == len(self.reports):
                yield self._start()
            answer = yield self.workers[-1].tell("open")
            report = WorkerReport(**answer["report"])
            self.reports.append(report)
            _raise_what_ended(answer)
            held = tuple(map(add, self.task.held_before, answer["opened_by_source"]))
            rest = range(self.task.rows.start + report.attempts, self.task.rows.stop)
            self.task = replace(self.task, rows=rest, held_before=held)

    def churn(self, rows: range) -> Script:
        """Have the workers replace connections, each its own; the reports are of the churn from now on.

        Args:
            rows: The client's rows of the churn.

        Raises:
            RunFault: As of `fill`.
        """
        plan, victims = self.task.plan, self.task.victims
        firsts = [report.first for report in self.reports]
        self.reports = [replace(report, attempts=0, involuntary_switches=0) for report in self.reports]
        of_client = victims[rows.start - plan.connections : rows.stop - plan.connections]
        began, timeouts = time.perf_counter_ns(), 0
        for number, run in by_worker(rows, of_client, firsts):
            answer = yield self.workers[number].tell("churn", run.start, run.stop, rows.start, began, timeouts)
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

    def _start(self) -> WorkerHandle:
        worker = self.start(self.task)
        self.workers.append(worker)
        return worker


def by_worker(rows: range, victims: array[int], firsts: list[int]) -> list[tuple[int, range]]:
    """Rows of the churn in runs that one worker can go through by itself.

    Args:
        rows: Those of a client.
        victims: The row that each of them replaces.
        firsts: The first row that each of the client's workers holds, in order.

    Returns:
        The worker's position in `firsts`, and its rows; in the order they are to be made.
    """
    runs: list[tuple[int, range]] = []
    for row, victim in zip(rows, victims, strict=True):
        worker = bisect_right(firsts, victim) - 1
        if runs and runs[-1][0] == worker:
            runs[-1] = worker, range(runs[-1][1].start, row + 1)
        else:
            runs.append((worker, range(row, row + 1)))
    return runs


def _raise_what_ended(answer: Answer) -> None:
    if answer["fault"]:
        raise RunFault(**answer["fault"])
    if answer["stopped"]:
        raise RunFault(*STOPPED)


def start_worker(task: WorkerTask, others: Iterable[WorkerHandle]) -> WorkerHandle:
    """Fork a worker process; SIGTERM stays blocked in it until it has work.

    Args:
        task: What it is to open.
        others: Those whose channels it must not keep open.
    """
    ours, theirs = socket.socketpair()
    engine = os.getpid()
    # A SIGTERM between fork() and the worker's own handler would unwind the engine's stack in the worker.
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
    try:
        pid = os.fork()
        if pid == 0:
            signal.set_wakeup_fd(-1)
            ours.close()
            for other in others:
                other.channel.close()
            run_worker(task, theirs, engine)
        theirs.close()
        return WorkerHandle(pid, ours)
    finally:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTERM})
