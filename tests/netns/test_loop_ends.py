"""How a loop ends before its last row, in this process: no descriptor left, signals, a target that does not answer."""

from __future__ import annotations

import errno
import resource
import signal
import socket
from array import array
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Never

import pytest

from connbench.draws import Draws
from connbench.engine.task import ChurnTask, LoopEnd, Reason, WorkerTask, counters_of_client
from connbench.engine.worker import module_of
from connbench.model import Endpoint, Listener, Load, Loop, Namespace, Phase, Protocol, RoundPlan
from connbench.samples import scratch
from run_connbench import make_plan, needs_c_loop, spec


@pytest.fixture(params=[pytest.param(Loop.C, marks=needs_c_loop), Loop.PYTHON])
def module(request: pytest.FixtureRequest) -> ModuleType:
    """The module of each loop."""
    return module_of(request.param)


def make_task(
    rows: int, target: Endpoint | None = None, timeout: float = 5.0, in_flight: int | None = None
) -> WorkerTask:
    """A task of `plain` in this namespace: over TCP to a target, else over UDP, which needs none that answers."""
    protocol = Protocol.TCP if target else Protocol.UDP
    strategy = replace(spec("plain"), load=Load(protocol=protocol, in_flight=in_flight))
    changes = {"targets": (target,)} if target else {}
    plan = make_plan(strategy, 64, rows, listener=Listener.NONE, namespace=Namespace.HOST, timeout=timeout, **changes)
    one = RoundPlan(plan, strategy, 1)
    filled, draws = one.rows_of_clients(Phase.FILL)[0], Draws.of(one)
    return WorkerTask(one, draws, 0, filled, rows, *counters_of_client(draws, filled), -1, 0, scratch(rows))


@contextmanager
def silent_target() -> Iterator[Endpoint]:
    """A target whose queue is full: it drops every SYN."""
    with ExitStack() as stack:
        listener = stack.enter_context(socket.socket())
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        address = listener.getsockname()
        for _ in range(4):
            waiting = stack.enter_context(socket.socket())
            waiting.setblocking(False)
            waiting.connect_ex(address)
        yield Endpoint(*address)


def open_files() -> int:
    """How many files this process has open."""
    return sum(1 for _ in Path("/proc/self/fd").iterdir())


@contextmanager
def alarms(handler: signal._HANDLER, seconds: float) -> Iterator[None]:
    """SIGALRM at this interval, handled by a function."""
    before = signal.signal(signal.SIGALRM, handler)
    signal.setitimer(signal.ITIMER_REAL, seconds, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


@contextmanager
def few_descriptors(number: int) -> Iterator[None]:
    """As many descriptors are free, at most."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with socket.socket() as highest:
        lowest_free = highest.fileno()
    resource.setrlimit(resource.RLIMIT_NOFILE, (lowest_free + number, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_no_descriptor_left(module: ModuleType) -> None:
    """Where RLIMIT_NOFILE is reached, the loop says so, and holds what it opened."""
    task, held = make_task(16), array("i")
    with few_descriptors(5):
        end = module.run_attempts(task, held, task.rows)
    opened = len(held)
    assert end == LoopEnd(Reason.NO_SOCKET, 0, opened, errno.EMFILE)
    assert 1 <= opened <= 5
    assert module.count(task, held) == (opened, opened)
    assert [bool(tries) for tries in task.columns["tries"]] == [True] * opened + [False] * (16 - opened)
    module.reset_all(task, held)


def test_no_descriptor_left_in_flight(module: ModuleType) -> None:
    """The loop names the attempt that got no socket, also where handshakes that began before it time out after it."""
    with silent_target() as target:
        task, held = make_task(9, target, timeout=0.05, in_flight=9), array("i")
        with few_descriptors(5):  # one of them for epoll
            end = module.run_in_flight(task, held, task.rows)
    begun = len(held)
    assert end == LoopEnd(Reason.NO_SOCKET, begun, begun, errno.EMFILE)
    assert 1 <= begun <= 4
    assert list(task.columns["errno"]) == [errno.EINPROGRESS] * begun + [0] * (9 - begun)


def test_target_that_does_not_answer(module: ModuleType) -> None:
    """After five time-outs in a row the loop ends."""
    with silent_target() as target:
        task, held = make_task(9, target, timeout=0.05), array("i")
        end = module.run_attempts(task, held, task.rows)
    assert end == LoopEnd(Reason.NO_ANSWER, 5, 4)
    assert list(held) in ([-1] * 4, [-1] * 5)
    assert list(task.columns["errno"]) == [errno.EINPROGRESS] * 5 + [0] * 4


@needs_c_loop
def test_a_signal_does_not_end_a_connect() -> None:
    """In C: Python's handler runs while a connect() waits, which then waits for the rest of its time-out.

    If it waited for the whole time-out again, it would never end: the next signal comes earlier.
    """
    module, handled = module_of(Loop.C), []
    with silent_target() as target, alarms(lambda *_: handled.append(1), 0.05):
        task, held = make_task(1, target, timeout=0.5), array("i")
        end = module.run_attempts(task, held, task.rows)
    assert end == LoopEnd(Reason.DONE, 1)
    assert len(handled) > 1
    assert list(task.columns["errno"]) == [errno.EINPROGRESS]


@needs_c_loop
def test_the_stop_flag_ends_a_connect_at_the_next_signal() -> None:
    """In C: the attempt is left unfinished, and its socket closed."""
    module, before = module_of(Loop.C), open_files()
    with silent_target() as target:
        task, held = make_task(1, target, timeout=1000.0), array("i")

        def stop(_signal: int, _frame: object) -> None:
            task.stop[0] = 1

        with alarms(stop, 0.05):
            assert module.run_attempts(task, held, task.rows) == LoopEnd(Reason.STOPPED, 0)
    assert not held
    assert list(task.columns["tries"]) == [0]
    assert open_files() == before


@needs_c_loop
def test_what_a_handler_raises_is_passed_on() -> None:
    """In C: the exception ends the attempts between two of them, and what is open is held."""
    module, task, before = module_of(Loop.C), make_task(200_000), open_files()
    held, churn = array("i", [-1]), ChurnTask.in_one_slot(0)  # each connection replaces the one before

    def interrupt(_signal: int, _frame: object) -> Never:
        raise KeyboardInterrupt

    with alarms(interrupt, 0.005), pytest.raises(KeyboardInterrupt):
        module.run_attempts(replace(task, rows=range(1)), held, task.rows, churn)
    finished = sum(map(bool, task.columns["tries"]))
    assert 0 < finished < 200_000
    assert all(task.columns["tries"][:finished])
    assert open_files() == before + 1
    module.reset_all(task, held)
    assert open_files() == before
