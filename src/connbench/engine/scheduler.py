"""Who starts the workers and gives them work: `Scheduler` for a whole round, `Client` for one chain of workers.

A *worker* process opens connections until its descriptors run out; then the scheduler starts the next one. Such a chain
of workers is a *client*. With several clients, several workers connect at the same time, each on a CPU of its own.

What a client does in a phase is a coroutine: a generator that sends a worker a command, yields that worker, and is
resumed with the worker's answer. The scheduler polls all workers and resumes the coroutine whose worker has answered.
Five times a second it also looks at the stop flag and at the listener's processes.
"""

from __future__ import annotations

import json
import os
import select
import signal
import time
from _socket import socket, socketpair
from bisect import bisect_right
from collections.abc import Callable, Generator, Iterable
from contextlib import suppress
from dataclasses import dataclass, field, replace
from itertools import pairwise
from typing import Any

from connbench.engine.task import ChurnTask, WorkerTask, sleep_until
from connbench.engine.worker import SPARE_DESCRIPTORS, module_of, run_worker
from connbench.errors import ConnbenchError, EnvironmentFault, RunFault
from connbench.linux.faults import advice_for_errno, describe_end, fault_from_dict
from connbench.linux.limits import check_processes, free_descriptors, open_files
from connbench.model import Loop, Phase
from connbench.model.round_report import WorkerReport

STOPPED = ("the engine or a worker was stopped by SIGTERM", "run it again for the rest")
"""Message and hint of the fault that ends a round whose stop flag a signal has set."""

TICK_MS = 200
"""Time between two looks at the stop flag and at the listener, in ms."""

GRACE_S = 5.0
"""A worker that has not answered so long after its --timeout, once the round is to end, is killed. An unanswered
connect() of Python's that a signal interrupted would go on until the kernel gives up: two minutes."""

WORKER_DESCRIPTORS = SPARE_DESCRIPTORS + 2
"""Files that a worker has open beside its sockets: its channel, and the file of its memory."""

ENGINE_DESCRIPTORS = 1
"""Files that the engine opens beside a channel for each worker: one at a time."""

Answer = dict[str, Any]
"""What a worker answers to a command: see `connbench.engine.worker`."""

Coroutine = Generator["WorkerHandle", Answer, None]
"""See the module's docstring."""


@dataclass(slots=True)
class WorkerHandle:
    """The engine's view of a worker process.

    Attributes:
        pid: Its process id.
        channel: The stream to it.
        unread: The part of its answer that has arrived.
    """

    pid: int
    channel: socket
    unread: bytes = b""

    def send(self, *command: object) -> WorkerHandle:
        """Send a command, and return this worker, for a coroutine to yield.

        A worker that has ended is no error here: the scheduler finds its channel closed.
        """
        with suppress(BrokenPipeError, ConnectionResetError):
            self.channel.sendall(" ".join(map(str, command)).encode() + b"\n")
        return self

    def receive(self) -> bytes:
        """Add what has arrived to `unread`, and return it; empty if the worker has ended."""
        try:
            piece = self.channel.recv(65536)
        except ConnectionResetError:
            return b""
        self.unread += piece
        return piece


@dataclass(slots=True)
class Client:
    """A chain of workers, one after the other: together they hold more connections than one process may have files.

    Attributes:
        task: What the next worker opens.
        start: Starts a worker for a task.
        workers: The workers in the order they were started. All of them live until the round ends.
        reports: What each of them reported of the current phase, in the same order.
        is_full: Of a profile: whether the client has no worker that can hold a further connection.
    """

    task: WorkerTask
    start: Callable[[WorkerTask], WorkerHandle]
    workers: list[WorkerHandle] = field(default_factory=list)
    reports: list[WorkerReport] = field(default_factory=list)
    is_full: bool = True

    def start_first(self) -> Coroutine:
        """Start the first worker, and wait until it is ready."""
        if self.task.rows:
            yield self._start()

    def fill(self, at_ns: int) -> Coroutine:
        """Let the worker that is ready open connections, then start others until the client has made all attempts.

        Args:
            at_ns: The instant at which the first of them begins, in ns of CLOCK_REALTIME.

        Raises:
            RunFault: A worker reports a fault. All connections stay open.
        """
        while self.task.rows and not self.task.stop[0]:
            if len(self.workers) == len(self.reports):
                yield self._start()
            answer = yield self.workers[-1].send("open", at_ns)
            report = WorkerReport(**answer["report"])
            self.reports.append(report)
            _check_answer(answer)
            rest = range(self.task.rows.start + report.attempts, self.task.rows.stop)
            self.task = replace(self.task, rows=rest)

    def churn(self, rows: range) -> Coroutine:
        """Let each worker replace connections that it holds; from here on `reports` are of the churn.

        Args:
            rows: The client's rows of the churn.

        Raises:
            RunFault: A worker reports a fault. All connections stay open.
        """
        churn = ChurnTask.of(self.task.plan, self.task.client, time.perf_counter_ns())
        replaced = (self.task.draws.replaced(row, churn.filled) for row in rows)
        firsts = [report.first for report in self.reports]
        self.reports = [replace(report, attempts=0, involuntary_switches=0) for report in self.reports]
        timeouts = 0
        for number, run in by_worker(rows, replaced, firsts):
            answer = yield self.workers[number].send("churn", run.start, run.stop, *churn.numbers, timeouts)
            report = self.reports[number]
            self.reports[number] = replace(
                report,
                attempts=report.attempts + answer["attempts"],
                involuntary_switches=report.involuntary_switches + answer["switches"],
                memory_full=answer["memory_full"],
            )
            timeouts = answer["timeouts"]
            _check_answer(answer)
            if self.task.stop[0]:
                return

    def occupy(self, positions: range) -> Coroutine:
        """Let the last worker put the ports at these positions in use, then others once it is full.

        Raises:
            RunFault: A worker reports a fault. All connections stay open.
        """
        while positions and not self.task.stop[0]:
            if self.is_full:
                yield self._start()
            answer = yield self.workers[-1].send("occupy", positions.start, positions.stop)
            self._add(answer["report"], positions.start)
            _check_answer(answer)
            positions = positions[answer["done"] :]
            self.is_full = len(positions) > 0

    def sample(self, rows: range, in_use: int) -> Coroutine:
        """Let the last worker time attempts with as many ports in use.

        Raises:
            RunFault: A worker reports a fault. All connections stay open.
        """
        answer = yield self.workers[-1].send("sample", rows.start, rows.stop, in_use)
        self._add(answer["report"], in_use)
        _check_answer(answer)

    def _add(self, told: dict[str, Any], first: int) -> None:
        """Add what the last worker reports of a command of a profile to its report.

        Args:
            told: The fields of a `WorkerReport`, of this command alone.
            first: The position of the first port that it takes, or the ports in use when it times its first attempt.
        """
        if len(self.reports) < len(self.workers):
            self.reports.append(WorkerReport(first=first, client=self.task.client, **told))
            return
        last = self.reports[-1]
        sums = {name: getattr(last, name) + told[name] for name in ("attempts", "opened", "involuntary_switches")}
        latest = {name: told[name] for name in ("memory_full", "floor_ns")}
        self.reports[-1] = replace(last, **sums, **latest)

    def _start(self) -> WorkerHandle:
        worker = self.start(self.task)
        self.workers.append(worker)
        return worker


def by_worker(rows: range, replaced: Iterable[int], firsts: list[int]) -> list[tuple[int, range]]:
    """Divide a client's rows of the churn into runs of consecutive rows that belong to one worker.

    Args:
        rows: The client's rows of the churn.
        replaced: For each of them, the row of the filling whose connection it replaces.
        firsts: The first row that each of the client's workers filled, in ascending order.

    Returns:
        For each run the worker's position in `firsts`, and the rows; in the order in which to make the attempts.
    """
    if len(firsts) == 1 and rows:
        return [(0, rows)]  # without a look at each row, in which time other clients would wait for their command
    runs: list[tuple[int, range]] = []
    for row, replaced_row in zip(rows, replaced, strict=True):
        worker = bisect_right(firsts, replaced_row) - 1
        if runs and runs[-1][0] == worker:
            runs[-1] = worker, range(runs[-1][1].start, row + 1)
        else:
            runs.append((worker, range(row, row + 1)))
    return runs


def _check_answer(answer: Answer) -> None:
    """Raise the fault that ended a worker's attempts early, if one did."""
    if answer["fault"]:
        raise RunFault(**answer["fault"])


def check_capacity(tasks: list[WorkerTask]) -> None:
    """Check, before the first worker is started, that enough workers for all connections can be started.

    Attempts beyond the number of ports are not counted: they fail, and a failed attempt keeps no file open.

    Args:
        tasks: The whole task of each client.

    Raises:
        EnvironmentFault: The limits on files, processes or memory do not allow as many workers.
    """
    plan, free = tasks[0].plan, free_descriptors()
    held = min(plan.connections, plan.capacity)
    each = free - WORKER_DESCRIPTORS
    files = open_files()[0]
    if each < 1:
        raise EnvironmentFault(
            f"RLIMIT_NOFILE of {files} leaves a worker process no socket", "raise it: ulimit -n 20000"
        )
    clients = sum(1 for task in tasks if task.rows)
    workers = max(clients, -(-held // each))
    purpose = f"{held:,} connections of {clients} client{'s' if clients > 1 else ''}"
    advice = "raise the hard limit of open files (ulimit -Hn), or ask for fewer with -n, --fill or --concurrency"
    if workers > free - ENGINE_DESCRIPTORS:
        raise EnvironmentFault(
            f"{purpose}: with RLIMIT_NOFILE of {files:,} they need {workers:,} worker processes, and the engine has "
            f"files for {max(0, free - ENGINE_DESCRIPTORS):,} of these",
            advice,
        )
    check_processes(workers, purpose, advice)


class Scheduler:
    """Runs the coroutines of all clients at the same time, and watches workers, listener and stop flag meanwhile.

    Args:
        tasks: The whole task of each client.
        check_listener: Raises RunFault if a process of the listener has ended.
    """

    def __init__(self, tasks: list[WorkerTask], check_listener: Callable[[], None] = lambda: None) -> None:
        self._plan, self._stop, self._timeout = tasks[0].plan, tasks[0].stop, tasks[0].timeout
        module_of(self._plan.plan.loop)  # loaded before the forks: each worker that loads it itself has a copy of it
        self._clients = [Client(task, self._start) for task in tasks]
        self.stop, self.epoch = self._stop, tasks[0].epoch
        self._workers: dict[int, WorkerHandle] = {}
        """Those that run, by the descriptor of their channel."""
        self._waiting: dict[int, Coroutine] = {}
        """Coroutines that wait for a worker's answer, by the descriptor of that worker's channel."""
        self._fault: ConnbenchError | None = None
        self._deadline = 0.0
        """time.monotonic() until which busy workers may answer, once the round is to end; 0 before that."""
        self._check_listener = check_listener
        self._poller = select.poll()

    @property
    def reports(self) -> tuple[WorkerReport, ...]:
        """What the workers reported of the last phase, client by client."""
        return tuple(report for client in self._clients for report in client.reports)

    def start_first(self) -> None:
        """Start the first worker of each client, and wait until they are ready.

        Raises:
            RunFault: As in `run`.
        """
        self._run(client.start_first() for client in self._clients)

    def run(self, phase: Phase, at_ns: int = 0) -> None:
        """Run a phase to its end, or until the stop flag is set; the first workers have been started.

        Args:
            phase: The phase.
            at_ns: No attempt of a filling or a profile begins before this instant, in ns of CLOCK_REALTIME.

        Raises:
            RunFault: A worker reported a fault or ended, a process of the listener ended, or the stop flag is set. The
                connections of the workers that run stay open.
        """
        if phase is Phase.FILL:
            self._run(client.fill(at_ns) for client in self._clients)
        elif phase is Phase.PROFILE:
            sleep_until(at_ns, self.stop)
            self._profile()
        else:
            rows = self._plan.rows_of_clients(phase)
            self._run(client.churn(of_client) for client, of_client in zip(self._clients, rows, strict=True))

    def _profile(self) -> None:
        """At each level, let each client put a part of the ports in use, and then let the first one time attempts."""
        first, plan, taken = self._clients[0], self._plan, 0
        samples = plan.rows // len(plan.levels)
        first.is_full = False
        for number, level in enumerate(plan.levels):
            bounds = [taken + (level - taken) * part // len(self._clients) for part in range(len(self._clients) + 1)]
            parts = zip(self._clients, pairwise(bounds), strict=True)
            self._run(client.occupy(range(*part)) for client, part in parts)
            in_use, taken = sum(report.opened for report in self.reports), level
            self._run([first.sample(range(number * samples, (number + 1) * samples), in_use)])

    def count(self) -> tuple[int, int]:
        """How many connections the workers hold, and how many of these are established at both ends.

        Raises:
            RunFault: A worker has ended.
        """
        held = established = 0

        def ask(worker: WorkerHandle) -> Coroutine:
            nonlocal held, established
            answer = yield worker.send("count")
            held += answer["held"]
            established += answer["established"]

        self._run(map(ask, list(self._workers.values())), heeds_stop=False)
        return held, established

    def close(self, meanwhile: Callable[[], None]) -> None:
        """Let every worker reset its connections, call a function, and wait until all workers have ended."""
        for worker in self._workers.values():
            worker.channel.close()
        meanwhile()
        for worker in self._workers.values():
            os.waitpid(worker.pid, 0)
        self._workers.clear()

    def _start(self, task: WorkerTask) -> WorkerHandle:
        try:
            worker = _fork_worker(task, self._workers)
        except OSError as error:  # of fork(2) or socketpair(2)
            raise RunFault(
                f"the next worker process cannot start: {error.strerror}",
                f"{advice_for_errno(error.errno)}; or ask for fewer with -n",
            ) from error
        self._workers[worker.channel.fileno()] = worker
        self._poller.register(worker.channel, select.POLLIN)
        return worker

    def _run(self, coroutines: Iterable[Coroutine], *, heeds_stop: bool = True) -> None:
        """Run coroutines to their ends; after a fault or once stopped, to the answers of the workers that are busy.

        Args:
            coroutines: What to run at the same time.
            heeds_stop: Whether the stop flag ends it early.
        """
        self._fault, self._deadline = None, 0.0
        self._watch(heeds_stop=heeds_stop)
        for coroutine in coroutines:
            if not self._fault:
                self._resume(coroutine, None)
        while self._waiting:
            for descriptor, _ in self._poller.poll(TICK_MS):
                if descriptor in self._workers:
                    self._receive(self._workers[descriptor])
            self._watch(heeds_stop=heeds_stop)
        if self._fault:
            raise self._fault

    def _watch(self, *, heeds_stop: bool) -> None:
        """End early if the stop flag is set, or if a process of the listener has ended."""
        try:
            self._check_listener()
        except RunFault as fault:
            self._end_early(fault)
        if heeds_stop and self._stop[0]:
            self._end_early(RunFault(*STOPPED))
        if self._stop[0]:
            self._interrupt()

    def _resume(self, coroutine: Coroutine, answer: Answer | None) -> None:
        try:
            worker = coroutine.send(answer)  # type: ignore[arg-type]  # None is what begins a generator
        except StopIteration:
            return
        except RunFault as fault:
            self._end_early(fault)
            return
        self._waiting[worker.channel.fileno()] = coroutine

    def _receive(self, worker: WorkerHandle) -> None:
        """Take in what a worker sent, and resume the coroutine that waits for it once the answer is complete."""
        descriptor = worker.channel.fileno()
        piece = worker.receive()
        if not piece:
            self._waiting.pop(descriptor, None)
            self._end_early(self._remove(worker))
        elif worker.unread.endswith(b"\n"):
            answer: Answer = json.loads(worker.unread)
            worker.unread = b""
            coroutine = self._waiting.pop(descriptor)
            if "crash" in answer:
                self._end_early(fault_from_dict(answer["crash"]))
            else:
                self._resume(coroutine, answer)

    def _end_early(self, fault: ConnbenchError) -> None:
        """Keep the first fault, and stop all clients and the workers that are busy."""
        self._fault = self._fault or fault
        self._stop[0] = 1

    def _interrupt(self) -> None:
        """Interrupt an unanswered connect() of the busy workers; called again, as it may begin after the signal."""
        now = time.monotonic()
        self._deadline = self._deadline or now + self._timeout + GRACE_S
        if now > self._deadline:
            number = signal.SIGKILL
        elif self._plan.plan.loop is Loop.C:
            number = signal.SIGTERM
        else:
            return  # Python's connect_ex() would wait on, without SO_SNDTIMEO; so it ends after its time-out
        for descriptor in self._waiting:
            os.kill(self._workers[descriptor].pid, number)

    def _remove(self, worker: WorkerHandle) -> RunFault:
        """Forget a worker that has ended; returns the fault that says how it ended."""
        self._poller.unregister(worker.channel)
        del self._workers[worker.channel.fileno()]
        worker.channel.close()
        status = os.waitstatus_to_exitcode(os.waitpid(worker.pid, 0)[1])
        how, advice = describe_end(status)
        return RunFault(f"worker process {worker.pid} {how} while the round ran", advice)


def _fork_worker(task: WorkerTask, others: Iterable[int]) -> WorkerHandle:
    """Fork a worker process.

    Args:
        task: What it opens.
        others: The descriptors of the other workers' channels, which the new process closes.

    Raises:
        OSError: The kernel gives no process, or no pair of sockets.
    """
    ours, theirs = socketpair()
    engine = os.getpid()
    pid = os.fork()
    if pid == 0:
        ours.close()
        for descriptor in others:
            os.close(descriptor)
        run_worker(task, theirs, engine)
    theirs.close()
    return WorkerHandle(pid, ours)
