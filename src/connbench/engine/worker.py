"""A worker: a process that opens connections, and keeps them open until the round ends.

A worker reads commands from its channel to the engine, one per line, and answers each with a line of JSON:

- `open AT_NS`: make the attempts of its `WorkerTask`, until its descriptors run out; none before that instant of
  CLOCK_REALTIME.
- `churn FIRST END TASK...`: replace connections in these rows, as the numbers of a `ChurnTask` say.
- `occupy FIRST END`: put the ports at these positions of the task's order in use, until its descriptors run out.
- `sample FIRST END IN_USE`: make the attempts of these rows, and close each connection by a reset before the next.
- `count`: count the connections that it holds, and those that are established.

When the engine closes the channel, the worker resets all connections and exits. Its answers to all
but `count` have `fault`: what ended the attempts early, unless the stop flag did. An exception in the worker is
answered with `crash`, and the worker exits.
"""

from __future__ import annotations

import json
import os
import resource
from _socket import SO_LINGER, SOCK_STREAM, SOL_IP, SOL_SOCKET, socket
from array import array
from contextlib import suppress
from types import ModuleType
from typing import Any, Never

from connbench.engine import loop
from connbench.engine.task import ChurnTask, WorkerTask, sleep_until
from connbench.errors import RunFault
from connbench.linux.address_family import family_of
from connbench.linux.faults import fault_of, fault_to_dict
from connbench.linux.limits import free_descriptors
from connbench.linux.process import CLONE_NEWNET, PrivateMemory, die_with_parent, set_namespace, usable_cpus
from connbench.linux.sock_destroy import PeerReset
from connbench.linux.sockopts import IP_BIND_ADDRESS_NO_PORT, LINGER_RESET, ON
from connbench.model import Link, Loop, Protocol, RoundPlan
from connbench.samples import attach, count_done, views

UNUSED_PORT = 1
"""A port without a listener in connbench's own namespace, unless --target names it."""

SPARE_DESCRIPTORS = 8
"""Files that a worker needs beside its connections: the socket of a failing attempt, and the files that it reads."""


COMMAND_BYTES = 4096
"""No command is longer."""

NO_DESCRIPTOR = ("RLIMIT_NOFILE leaves a worker process no socket", "raise it: ulimit -n 20000")
"""Message and hint of the fault of a worker that can open nothing."""


def run_worker(task: WorkerTask, channel: socket, engine: int) -> Never:
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
        if task.namespace is not None:
            set_namespace(task.namespace, CLONE_NEWNET)
        worker = Worker(task)
        channel.sendall(b"{}\n")
        while command := channel.recv(COMMAND_BYTES):  # one line: the engine sends the next after the answer
            channel.sendall(json.dumps(worker.execute(command.decode().split())).encode() + b"\n")
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


def module_of(name: Loop) -> ModuleType:
    """The module of a loop.

    Raises:
        ImportError: It is the one in C, which an update may have removed after the run was planned.
    """
    if name is Loop.PYTHON:
        return loop
    from connbench.engine import _loop  # noqa: PLC0415  # an installation may lack it

    return _loop


class Worker:
    """The connections of a worker, and the commands on them.

    Args:
        task: What to open.
    """

    def __init__(self, task: WorkerTask) -> None:
        self._held = array("i")
        self._floor_ns: int | None = None
        self._loop = module_of(task.plan.plan.loop)
        self._memory = PrivateMemory()
        self._free = max(0, free_descriptors() - SPARE_DESCRIPTORS)
        # A mapping of its own: a child does not inherit the pages of a shared mapping, and the loop would have a page
        # fault on each of them.
        task.columns = views(attach(task.descriptor, task.all_rows), task.all_rows)
        task.capacity = min(task.capacity, self._free)
        task.reset_peer = PeerReset.of(task.far) if task.resets_peer else None
        self._task = task

    def execute(self, command: list[str]) -> dict[str, Any]:
        """Run a command, given as the words of its line, and return the answer.

        Raises:
            ValueError: There is no such command.
        """
        match command:
            case ["open", at_ns]:
                return self._open(int(at_ns))
            case ["churn", first, end, *numbers]:
                return self._churn(range(int(first), int(end)), ChurnTask.from_numbers(numbers))
            case ["occupy", *numbers]:
                return self._occupy(*map(int, numbers))
            case ["sample", *numbers]:
                return self._sample(*map(int, numbers))
            case ["count"]:
                held, established = self._loop.count(self._task, self._held)
                return {"held": held, "established": established}
        raise ValueError(f"unknown command: {command}")

    def reset_all(self) -> None:
        """Close every connection by a reset (RST)."""
        self._loop.reset_all(self._task, self._held)

    def _open(self, at_ns: int) -> dict[str, Any]:
        task, memory_idle = self._task, self._memory.read()
        sleep_until(at_ns, task.stop)  # here, and not in the engine, whose message would come later still
        outcome = self._run(task, self._held, task.rows)
        memory_full = self._memory.read()
        held = [descriptor for descriptor in self._held if descriptor >= 0]
        begun = range(task.rows.start, task.rows.start + len(self._held))
        report = {
            "first": task.rows.start,
            "attempts": self._count_finished(begun),
            "opened": len(held),
            "involuntary_switches": outcome.pop("switches"),
            "memory_idle": memory_idle,
            "memory_full": memory_full,
            "floor_ns": self._loop.measure_floor(task, held[0]) if held else None,
            "client": task.client,
        }
        return outcome | {"report": report}

    def _churn(self, rows: range, churn: ChurnTask) -> dict[str, Any]:
        _warm_up(self._task.plan)
        outcome = self._run(self._task, self._held, rows, churn)
        return outcome | {"attempts": self._count_finished(rows), "memory_full": self._memory.read()}

    def _count_finished(self, rows: range) -> int:
        """Count the finished attempts among rows. In flight, a stopped loop leaves unfinished ones between them."""
        return sum(map(bool, self._task.columns["tries"][rows.start : rows.stop]))

    def _occupy(self, first: int, end: int) -> dict[str, Any]:
        memory_idle, before = self._memory.read(), self._opened
        task = self._task.occupying(range(first, end), self._free - before)
        outcome = self._run(task, self._held, task.rows)
        done = count_done(task.columns["tries"], task.rows)
        return outcome | {"done": done, "report": self._report(memory_idle, opened=self._opened - before)}

    def _sample(self, first: int, end: int, in_use: int) -> dict[str, Any]:
        memory_idle, slot = self._memory.read(), array("i", (-1,))
        rows, task = range(first, end), self._task.sampling(in_use)
        for row in rows:
            task.columns["in_use"][row] = in_use
        outcome = self._run(task, slot, rows, ChurnTask.in_one_slot(first))
        self._loop.reset_all(task, slot)
        done = count_done(task.columns["tries"], rows)
        return outcome | {"report": self._report(memory_idle, attempts=done, switches=outcome["switches"])}

    def _report(self, memory_idle: int, attempts: int = 0, opened: int = 0, switches: int = 0) -> dict[str, Any]:
        """What a command of a profile adds to the worker's report, as a `WorkerReport` takes it."""
        held = next((descriptor for descriptor in self._held if descriptor >= 0), None)
        if self._floor_ns is None and attempts and held is not None:
            self._floor_ns = self._loop.measure_floor(self._task, held)
        return {
            "attempts": attempts,
            "opened": opened,
            "involuntary_switches": switches,
            "memory_idle": memory_idle,
            "memory_full": self._memory.read(),
            "floor_ns": self._floor_ns,
        }

    @property
    def _opened(self) -> int:
        """How many connections it holds."""
        return len(self._held) - self._held.count(-1)

    def _run(self, task: WorkerTask, held: array[int], rows: range, churn: ChurnTask | None = None) -> dict[str, Any]:
        """Make attempts; the arguments are those of `run_attempts`.

        Returns:
            `switches`, the involuntary context switches meanwhile; `timeouts`, the attempts at the end that timed out
            in a row; `fault`, the fault that ended the attempts early, or None.
        """
        switches = _switches()
        is_in_flight = task.plan.strategy.load.in_flight is not None
        make_attempts = self._loop.run_in_flight if is_in_flight else self._loop.run_attempts
        end = make_attempts(task, held, rows, churn)
        fault = end.fault(task) if self._free else RunFault(*NO_DESCRIPTOR)
        return {
            "switches": _switches() - switches,
            "timeouts": end.timeouts,
            "fault": fault and {"message": fault.message, "hint": fault.hint},
        }


def _switches() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_nivcsw


def _warm_up(plan: RoundPlan) -> None:
    """Make a connect() that is not measured, so that the next one finds the CPU's caches warmer after a process switch.

    It connects to a port of the target's address without a listener, which refuses at once; the kernel searches for a
    local port all the same. Such a port is known only where a namespace of the run's own has connbench's listener:
    elsewhere this does nothing. Nor does it behind a NAT, which would need a port for it, and connect() would wait
    where there is none. With 800 of 1,000 ports in use and three worker processes in turn, the median connect() takes
    17 us with it and 20 us without it. A second call changes nothing: what remains is on the listener's side. With one
    process it is 13.5 us.
    """
    is_known = plan.plan.namespace.is_own and plan.is_listener_ours and plan.plan.link is not Link.NAT
    if plan.strategy.load.protocol is Protocol.UDP or not is_known:
        return
    host = plan.plan.targets[0].host
    sock = socket(int(family_of(host)), SOCK_STREAM)
    sock.setsockopt(SOL_IP, IP_BIND_ADDRESS_NO_PORT, ON)
    sock.bind((plan.sources[0], 0))
    sock.setsockopt(SOL_SOCKET, SO_LINGER, LINGER_RESET)  # for the case that --target names this port
    sock.connect_ex((host, UNUSED_PORT))
    sock.close()
