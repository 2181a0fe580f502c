"""A worker: a process that opens connections, and keeps them open until the round ends.

A worker reads commands from its channel to the engine, one per line, and answers each with a line of JSON:

- `open`: make the attempts of its `WorkerTask`, until its descriptors run out.
- `churn FIRST END BEGAN TIMEOUTS`: replace connections, as `ChurnTask` describes.
- `count`: count the connections that it holds, and those that are established.

When the engine closes the channel, the worker resets all connections and exits. Its answers to `open` and `churn` have
`fault` and `stopped`, which say what ended the attempts early: a fault, or SIGTERM. An exception in the worker is
answered with `crash`, and the worker exits.
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
from connbench.linux.faults import fault_of, fault_to_dict
from connbench.linux.limits import free_descriptors
from connbench.linux.process import PrivateMemory, die_with_parent, usable_cpus
from connbench.linux.sock_destroy import PeerReset
from connbench.linux.sockopts import LINGER_RESET
from connbench.model import Protocol
from connbench.model.round_report import WorkerReport
from connbench.samples import attach, count_done, views

TCP_ESTABLISHED = 1
"""tcpi_state, the first byte of struct tcp_info (include/net/tcp_states.h)."""

SPARE_DESCRIPTORS = 8
"""Files that a worker needs beside its connections: the socket of a failing attempt, and the files that it reads."""


class StopRequestedError(BaseException):
    """SIGTERM arrived: make no further attempt, report, and keep the connections open.

    It is no Exception, so that no `except Exception` on its way catches it.
    """


def stop_on_sigterm() -> None:
    """Make SIGTERM raise `StopRequestedError` in this process, once: a second SIGTERM is ignored."""

    def stop(_signal: int, _frame: object) -> Never:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        raise StopRequestedError

    signal.signal(signal.SIGTERM, stop)


def run_worker(task: WorkerTask, channel: sockets.socket, engine: int) -> Never:
    """All that a worker process does: run commands until the engine closes the channel, reset all connections, exit.

    Args:
        task: What to open. The worker lowers `capacity` to what RLIMIT_NOFILE leaves.
        channel: The stream to the engine.
        engine: The engine's process id. The kernel kills the worker when the engine dies.
    """
    status = 1
    try:
        die_with_parent(engine)
        cpu, usable = task.plan.cpu_of(task.client), usable_cpus()
        if cpu is not None:
            _move_to(cpu)
        stop_on_sigterm()  # SIGTERM is blocked except during attempts: between commands it waits for the next command
        worker = Worker(task)
        with channel.makefile("r", encoding="ascii") as commands:
            channel.sendall(b"{}\n")
            for command in commands:
                channel.sendall(json.dumps(worker.execute(command.split())).encode() + b"\n")
        if cpu is not None:
            with suppress(OSError):
                os.sched_setaffinity(0, usable | {cpu})  # nothing is measured any more: use all CPUs
        worker.reset_all()
        status = 0
    except Exception as error:  # noqa: BLE001  # a bug in connbench: this answer is its only report
        channel.sendall(json.dumps({"crash": fault_to_dict(fault_of(error))}).encode() + b"\n")
    finally:
        os._exit(status)


def _move_to(cpu: int) -> None:
    """Run on this CPU from now on.

    Raises:
        RunFault: The CPU went offline, or was removed from the cpuset, after the run was planned.
    """
    try:
        os.sched_setaffinity(0, {cpu})
    except OSError as error:
        raise RunFault(
            f"CPU {cpu} is no longer usable: {error.strerror}", "run it again, on the CPUs that are left"
        ) from error


class Worker:
    """The connections of a worker, and the commands on them.

    Args:
        task: What to open.
    """

    def __init__(self, task: WorkerTask) -> None:
        self._held: list[socket | None] = []
        self._memory = PrivateMemory()
        plan = task.plan
        is_reset_there = plan.resets_while_others_connect and plan.is_listener_ours
        reset_peer = PeerReset.of(task.far) if is_reset_there else None
        self._free = free_descriptors() - SPARE_DESCRIPTORS
        # A mapping of its own: a child does not inherit the pages of a shared mapping, and the loop would have a page
        # fault on each of them.
        rows = task.plan.rows
        columns = views(attach(task.descriptor, rows), rows)
        capacity = min(task.capacity, self._free)
        self._task = replace(task, columns=columns, capacity=capacity, reset_peer=reset_peer)
        gc.freeze()
        gc.disable()

    def execute(self, command: list[str]) -> dict[str, Any]:
        """Run a command, given as the words of its line, and return the answer.

        Raises:
            ValueError: There is no such command.
        """
        match command:
            case ["open"]:
                return self._open()
            case ["churn", *numbers]:
                return self._churn(*map(int, numbers))
            case ["count"]:
                return {"held": sum(map(bool, self._held)), "established": sum(map(self._is_established, self._held))}
        raise ValueError(f"unknown command: {command}")

    def reset_all(self) -> None:
        """Close every connection by a reset (RST)."""
        for sock in self._held:
            if sock:
                sock.setsockopt(SOL_SOCKET, SO_LINGER, LINGER_RESET)
                sock.close()

    def _open(self) -> dict[str, Any]:
        task, memory_idle = self._task, self._memory.read()
        outcome = self._run(lambda: run_attempts(task, self._held))
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

    def _churn(self, first: int, end: int, began: int, timeouts: int) -> dict[str, Any]:
        churn = ChurnTask.of(self._task.plan, self._task.client, range(first, end), began, timeouts)
        warm_up(self._task.plan)
        outcome = self._run(lambda: run_attempts(self._task, self._held, churn))
        return outcome | {"attempts": count_done(self._task.columns["tries"], churn.rows)}

    def _run(self, make_attempts: Callable[[], int]) -> dict[str, Any]:
        """Make attempts with SIGTERM unblocked.

        Args:
            make_attempts: Calls `run_attempts`, and returns what that returns.

        Returns:
            `switches`, the involuntary context switches meanwhile; `timeouts`, the attempts at the end that timed out
            in a row; `stopped`, whether SIGTERM ended the attempts early; `fault`, the fault that did, or None.
        """
        timeouts = 0
        fault: RunFault | None = None
        stopped = False
        switches = _switches()
        try:
            if self._free < 1:
                raise RunFault("RLIMIT_NOFILE leaves a worker process no socket", "raise it: ulimit -n 20000")  # noqa: TRY301  # reported as any other fault of the attempts
            try:
                signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTERM})
                timeouts = make_attempts()
            finally:
                # If SIGTERM arrived just before, Python runs its handler in this call, where `except` below catches it.
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
            return True  # UDP has no other state
        return sock.getsockopt(IPPROTO_TCP, TCP_INFO, 1)[0] == TCP_ESTABLISHED


def _switches() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_nivcsw
