"""All clients of a round: their scripts run at the same time, and every worker is watched meanwhile."""

from __future__ import annotations

import json
import os
import select
import signal
from collections.abc import Callable, Iterable

from connbench.engine.lane import STOPPED, Answer, Client, Script, WorkerHandle, start_worker
from connbench.engine.task import WorkerTask
from connbench.engine.worker import SPARE_DESCRIPTORS
from connbench.errors import ConnbenchError, EnvironmentFault, RunFault
from connbench.linux.faults import heard
from connbench.linux.limits import free_descriptors, open_files
from connbench.linux.process import describe_end
from connbench.linux.shortage import refuse_processes, way_out
from connbench.model import Phase
from connbench.roundreport import WorkerReport

WORKER_DESCRIPTORS = SPARE_DESCRIPTORS + 4
"""What a worker has open besides sockets: a channel, the engine's pipe of `Signals`, the account of its memory."""

ENGINE_DESCRIPTORS = 3
"""What the engine opens besides a channel for each worker: the pipe of `Signals`, and one file at a time."""


class Signals:
    """SIGTERM and SIGCHLD of this process, from now on, as a descriptor to poll: they break nothing off."""

    def __init__(self) -> None:
        self.reader, self._writer = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        signal.set_wakeup_fd(self._writer, warn_on_full_buffer=False)
        for number in (signal.SIGTERM, signal.SIGCHLD):
            signal.signal(number, lambda _signal, _frame: None)

    def read(self) -> bytes:
        """The numbers of those that have come."""
        return os.read(self.reader, 64)


def refuse_without_room(tasks: list[WorkerTask]) -> None:
    """Make sure that workers enough for all connections can be started, before the first of them is.

    Attempts for which there is no port take no file: they are not counted.

    Args:
        tasks: What each client is to make, client by client.

    Raises:
        EnvironmentFault: They cannot: for want of files, processes or memory.
    """
    plan, free = tasks[0].plan, free_descriptors()
    held = min(plan.connections, plan.capacity)
    room = free - WORKER_DESCRIPTORS
    files = open_files()[0]
    if room < 1:
        raise EnvironmentFault(
            f"RLIMIT_NOFILE of {files} leaves a worker process no socket", "raise it: ulimit -n 20000"
        )
    workers = max(sum(1 for task in tasks if task.rows), -(-held // room))
    purpose = f"{held:,} connections in {len(tasks)} client{'s' if len(tasks) > 1 else ''}"
    advice = "raise the hard limit of open files (ulimit -Hn), or ask for fewer with -n, --fill or --concurrency"
    if workers > free - ENGINE_DESCRIPTORS:
        raise EnvironmentFault(
            f"{purpose}: RLIMIT_NOFILE of {files:,} makes it {workers:,} processes, and leaves the engine files for "
            f"{max(0, free - ENGINE_DESCRIPTORS):,} of them",
            advice,
        )
    refuse_processes(workers, purpose, advice)


class Scheduler:
    """The clients of a round.

    Args:
        tasks: What each client is to make, client by client.
        check_listener: Raises RunFault once a process of the listener is lost.
    """

    def __init__(self, tasks: list[WorkerTask], check_listener: Callable[[], None] = lambda: None) -> None:
        self._plan = tasks[0].plan
        self._clients = [Client(task, self._start) for task in tasks]
        self._workers: dict[int, WorkerHandle] = {}
        """Those alive, by the descriptor of their channel."""
        self._waiting: dict[int, Script] = {}
        """Scripts that wait for an answer, by the worker's."""
        self._fault: ConnbenchError | None = None
        self._is_stopped = False
        self._check_listener = check_listener
        self._signals = Signals()
        self._poller = select.poll()
        self._poller.register(self._signals.reader, select.POLLIN)

    @property
    def reports(self) -> tuple[WorkerReport, ...]:
        """What the workers say of the phase that was run last, client by client."""
        return tuple(report for client in self._clients for report in client.reports)

    def run(self, phase: Phase) -> None:
        """Run a phase to its end, or until SIGTERM asks to stop.

        Raises:
            RunFault: A worker reports a fault or is gone, a process of the listener is gone, or SIGTERM came. What the
                others hold stays open.
        """
        self._fault = RunFault(*STOPPED) if self._is_stopped else None
        self._check_listener()  # SIGCHLD tells of those that end from now on
        if phase is Phase.FILL:
            self._run(client.get_ready() for client in self._clients)
            self._run(client.fill() for client in self._clients)
        else:
            rows = self._plan.rows_of_clients(phase)
            self._run(client.churn(of_client) for client, of_client in zip(self._clients, rows, strict=True))

    def count(self) -> tuple[int, int]:
        """How many connections the workers hold, and how many of these the kernel says are still established.

        Raises:
            RunFault: A worker is gone.
        """
        held = established = 0
        self._fault = None

        def ask() -> Script:
            nonlocal held, established
            for worker in list(self._workers.values()):
                answer = yield worker.tell("count")
                held += answer["held"]
                established += answer["established"]

        self._run([ask()], heeds_stop=False)
        return held, established

    def close(self) -> None:
        """Have every worker reset its connections, and wait until all are gone."""
        for worker in self._workers.values():
            worker.channel.close()
        for worker in self._workers.values():
            os.waitpid(worker.pid, 0)
        self._workers.clear()

    def _start(self, task: WorkerTask) -> WorkerHandle:
        try:
            worker = start_worker(task, self._workers.values())
        except OSError as error:  # no process, or no socket pair, to be had
            raise RunFault(
                f"no further worker process: {error.strerror}", f"{way_out(error.errno)}; or ask for fewer with -n"
            ) from error
        self._workers[worker.channel.fileno()] = worker
        self._poller.register(worker.channel, select.POLLIN)
        return worker

    def _run(self, scripts: Iterable[Script], *, heeds_stop: bool = True) -> None:
        """Run scripts to their ends; after a fault, or SIGTERM, every worker at work stops and reports first."""
        if self._fault:
            raise self._fault
        for script in scripts:
            self._go_on(script, None)
        while self._waiting:
            for descriptor, _ in self._poller.poll():
                if descriptor == self._signals.reader:
                    came = self._signals.read()
                    if signal.SIGTERM in came:
                        self._is_stopped = True
                        if heeds_stop:
                            self._end_early(RunFault(*STOPPED))
                    self._look_after_listener()
                elif descriptor in self._workers:
                    self._hear(self._workers[descriptor])
        self._look_after_listener()  # its SIGCHLD may be behind the last answer
        if self._fault:
            raise self._fault

    def _look_after_listener(self) -> None:
        try:
            self._check_listener()
        except RunFault as fault:
            self._end_early(fault)

    def _go_on(self, script: Script, answer: Answer | None) -> None:
        try:
            worker = script.send(answer)  # type: ignore[arg-type]  # None is what begins a generator
        except StopIteration:
            return
        except RunFault as fault:
            self._end_early(fault)
            return
        self._waiting[worker.channel.fileno()] = script

    def _hear(self, worker: WorkerHandle) -> None:
        descriptor = worker.channel.fileno()
        piece = worker.receive()
        if not piece:
            self._waiting.pop(descriptor, None)
            self._end_early(self._lost(worker))
        elif worker.text.endswith(b"\n"):
            answer: Answer = json.loads(worker.text)
            worker.text = b""
            script = self._waiting.pop(descriptor)
            if "crash" in answer:
                self._end_early(heard(answer["crash"]))
            else:
                self._go_on(script, answer)

    def _end_early(self, fault: ConnbenchError) -> None:
        """Remember the first fault, and have what is at work stop."""
        if self._fault:
            return
        self._fault = fault
        for client in self._clients:
            client.stopped = True
        for descriptor in self._waiting:
            os.kill(self._workers[descriptor].pid, signal.SIGTERM)

    def _lost(self, worker: WorkerHandle) -> RunFault:
        self._poller.unregister(worker.channel)
        del self._workers[worker.channel.fileno()]
        worker.channel.close()
        status = os.waitstatus_to_exitcode(os.waitpid(worker.pid, 0)[1])
        how, advice = describe_end(status)
        return RunFault(f"worker process {worker.pid} {how} while the round ran", advice)
