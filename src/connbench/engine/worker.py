"""A worker: a process that opens a task of the round's connections and keeps them open until the round ends.

It does what the engine tells it in lines, and answers each with a line of JSON. `open` fills its task, `churn FIRST
END LANE_FIRST BEGAN TIMEOUTS` replaces connections, `count` tells how many it holds; the end of the channel ends it.
"""

from __future__ import annotations

import gc
import json
import os
import resource
import signal
import socket as sockets
from _socket import IPPROTO_TCP, SO_LINGER, SOL_SOCKET, TCP_INFO, socket
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, replace
from typing import Any, Never

from connbench.engine.loop import measure_floor, run_attempts, warm_up
from connbench.engine.task import ChurnTask, WorkerTask
from connbench.errors import RunFault
from connbench.linux.faults import fault_of, told
from connbench.linux.limits import free_descriptors
from connbench.linux.peerreset import PeerReset
from connbench.linux.process import PrivateMemory, die_with_parent, usable_cpus
from connbench.linux.sockopts import LINGER_RESET
from connbench.model import Protocol
from connbench.roundreport import WorkerReport
from connbench.samples import attach, count_done, views

TCP_ESTABLISHED = 1
"""tcpi_state, the first byte of struct tcp_info (include/net/tcp_states.h)."""

SPARE_DESCRIPTORS = 8
"""Kept free in a worker: the socket of a failing attempt, and files opened for its report."""


class StopRequestedError(BaseException):
    """SIGTERM: stop opening, report, hold. Not an Exception, so that nothing on the way swallows it."""


def stop_on_sigterm() -> None:
    """Have SIGTERM raise `StopRequestedError` in this process, once: another one has nothing more to stop."""

    def stop(_signal: int, _frame: object) -> Never:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        raise StopRequestedError

    signal.signal(signal.SIGTERM, stop)


def run_worker(task: WorkerTask, channel: sockets.socket, engine: int) -> Never:
    """Be a worker until the other end of `channel` closes: then reset every connection, and end.

    Args:
        task: What to open; its capacity is cut to what RLIMIT_NOFILE leaves.
        channel: Stream to the engine.
        engine: Process id of the engine; the worker dies with it.
    """
    status = 1
    try:
        die_with_parent(engine)
        cpu, usable = task.plan.cpu_of(task.client), usable_cpus()
        if cpu is not None:
            _move_to(cpu)
        stop_on_sigterm()  # blocked but for the work: one that comes in between waits for the next command
        worker = Worker(task)
        with channel.makefile("r", encoding="ascii") as commands:
            channel.sendall(b"{}\n")
            for command in commands:
                channel.sendall(json.dumps(worker.execute(command.split())).encode() + b"\n")
        if cpu is not None:
            with suppress(OSError):
                os.sched_setaffinity(0, usable | {cpu})  # nothing is measured now: use every CPU there is
        worker.reset_all()
        status = 0
    except Exception as error:  # noqa: BLE001  # a fault of ours: nobody else would ever hear of it
        channel.sendall(json.dumps({"crash": told(fault_of(error))}).encode() + b"\n")
    finally:
        os._exit(status)


def _move_to(cpu: int) -> None:
    """Run on this CPU from now on.

    Raises:
        RunFault: It went offline, or out of the cpuset, after the run was planned.
    """
    try:
        os.sched_setaffinity(0, {cpu})
    except OSError as error:
        raise RunFault(
            f"CPU {cpu} is no longer usable: {error.strerror}", "run it again, on the CPUs that are left"
        ) from error


class Worker:
    """The connections of a task, and what may be asked of them."""

    def __init__(self, task: WorkerTask) -> None:
        self._held: list[socket | None] = []
        self._memory = PrivateMemory()
        plan = task.plan
        is_reset_there = plan.resets_while_others_connect and plan.is_listener_ours
        reset_peer = PeerReset.of(task.far) if is_reset_there else None
        self._room = free_descriptors() - SPARE_DESCRIPTORS
        # Mapped anew: fork() does not hand down the pages of a shared mapping, the loop would fault each of them in.
        rows = task.plan.rows
        columns = views(attach(task.descriptor, rows), rows)
        capacity = min(task.capacity, self._room)
        self._task = replace(task, columns=columns, capacity=capacity, reset_peer=reset_peer)
        gc.freeze()
        gc.disable()

    def execute(self, command: list[str]) -> dict[str, Any]:
        """Do what a line of the engine asks for; the answer as JSON takes it."""
        match command:
            case ["open"]:
                return self._open()
            case ["churn", *numbers]:
                return self._churn(*map(int, numbers))
            case ["count"]:
                return {"held": sum(map(bool, self._held)), "established": sum(map(self._is_established, self._held))}
        raise ValueError(f"no command of the engine: {command}")

    def reset_all(self) -> None:
        """Close every connection, by reset."""
        for sock in self._held:
            if sock:
                sock.setsockopt(SOL_SOCKET, SO_LINGER, LINGER_RESET)
                sock.close()

    def _open(self) -> dict[str, Any]:
        task, memory_idle = self._task, self._memory.read()
        outcome = self._measured(lambda: run_attempts(task, self._held))
        memory_full = self._memory.read()
        held = [sock for sock in self._held if sock]
        report = WorkerReport(
            first=task.rows.start,
            attempts=count_done(task.columns["tries"], task.rows),
            opened=len(held),
            involuntary_switches=outcome.pop("switches"),
            memory_idle=memory_idle,
            memory_full=memory_full,
            floor_ns=measure_floor(task.plan, held[0]) if held else None,
            client=task.client,
        )
        done = range(report.first, report.first + report.attempts)
        opened = Counter(task.columns["source"][index] for index in done if task.columns["port"][index])
        return outcome | {
            "report": asdict(report),
            "opened_by_source": [opened[source] for source in range(len(task.plan.sources))],
        }

    def _churn(self, first: int, end: int, client_first: int, began: int, timeouts: int) -> dict[str, Any]:
        churn_task = ChurnTask.of(self._task.plan, range(first, end), client_first, began, timeouts)
        warm_up(self._task.plan)
        outcome = self._measured(lambda: run_attempts(self._task, self._held, churn_task))
        return outcome | {"attempts": count_done(self._task.columns["tries"], churn_task.rows)}

    def _measured(self, work: Callable[[], int]) -> dict[str, Any]:
        """Work that a fault or SIGTERM may end early; which of them did, involuntary switches and last time-outs."""
        timeouts = 0
        fault: RunFault | None = None
        stopped = False
        switches = _switches()
        try:
            if self._room < 1:
                raise RunFault("RLIMIT_NOFILE leaves a worker process no socket", "raise it: ulimit -n 20000")  # noqa: TRY301  # as any other fault of the work
            try:
                signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTERM})
                timeouts = work()
            finally:
                # Python runs the handler of what came before this took effect in here, within reach of the `except`.
                signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
        except RunFault as error:
            fault = error
        except StopRequestedError:
            stopped = True
        return {
            "switches": _switches() - switches,
            "timeouts": timeouts,
            "stopped": stopped,
            "fault": fault and {"message": fault.message, "hint": fault.hint},
        }

    def _is_established(self, sock: socket | None) -> bool:
        if sock is None:
            return False
        if self._task.plan.strategy.load.protocol is Protocol.UDP:
            return True  # connected is all there is to it
        return sock.getsockopt(IPPROTO_TCP, TCP_INFO, 1)[0] == TCP_ESTABLISHED


def _switches() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_nivcsw
