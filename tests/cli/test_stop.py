"""How a round ends early, with each loop: in an unanswered connect(), a long pace, many tries, and while it closes."""

from __future__ import annotations

import errno
import json
import os
import signal
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from connbench.errors import ExitCode
from connbench.model import Loop
from fault_at_moment import Step, at, connecting
from run_connbench import HANG_S, children, command_line, connections_of, engine_of, needs_c_loop, running, wait_until
from server_host import states

PATIENT = ("--timeout", "1000")
"""The engine does not kill a worker that goes on, before the test counts as hanging."""

SYN_SENT = "02"
"""State of a socket as /proc/net/tcp has it."""

SILENT = ("run", "--isolate", "never", "--target", "127.0.0.1:5000", "--strategy", "bind", "-n", "400", "-o")


@contextmanager
def unanswered(*arguments: str) -> Iterator[tuple[subprocess.Popen[str], int]]:
    """A run, and its worker, whose second connect() waits for an answer: the queue has room for it and for a trial."""
    process = subprocess.Popen(
        command_line(*arguments, inside=("--listen", "127.0.0.1:5000/1")),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        # The trial connection of the command itself may be unanswered for a moment, too, before there is a worker.
        wait_until(lambda: children(engine_of(process)), "there is a worker")
        wait_until(lambda: SYN_SENT in states(process.pid, 5000, remote=True), "a SYN is unanswered")
        [worker] = children(engine_of(process))
        yield process, worker
    finally:
        process.kill()
        process.communicate()


def errnos(path: Path) -> list[int]:
    """The errno of each finished attempt of the only round in a file, which is partial."""
    found = json.loads(path.read_text(encoding="utf-8"))
    assert found["partial"] is True
    [measured] = found["strategies"][0]["rounds"]
    return [int(number) for number in measured["samples"]["errno"]]


def test_ctrl_c_in_an_unanswered_connect(each_loop: Loop, tmp_path: Path) -> None:
    """The loop in C leaves the attempt unfinished, the one in Python lets it time out; neither makes another one."""
    path, timeout = tmp_path / "r.json", "1000" if each_loop is Loop.C else "2"
    with unanswered(*SILENT, str(path), "--timeout", timeout, "--loop", each_loop) as (process, _):
        process.send_signal(signal.SIGINT)
        _, stderr = process.communicate(timeout=HANG_S)
    assert process.returncode == ExitCode.INTERRUPTED, stderr
    assert errnos(path) == ([0] if each_loop is Loop.C else [0, errno.EINPROGRESS])


def test_ctrl_c_with_handshakes_outstanding(each_loop: Loop, tmp_path: Path) -> None:
    """They stay unfinished, with each loop: nobody waits for them."""
    path = tmp_path / "r.json"
    flying = ("--in-flight", "10", *PATIENT, "--loop", each_loop)
    with unanswered(*SILENT, str(path), *flying) as (process, _):
        process.send_signal(signal.SIGINT)
        _, stderr = process.communicate(timeout=HANG_S)
    assert process.returncode == ExitCode.INTERRUPTED, stderr
    assert errnos(path) == [0]


def test_ctrl_c_in_a_profile(each_loop: Loop, tmp_path: Path) -> None:
    """What was measured until then is kept, and nothing is left."""
    profile = ("profile", "--strategy", "plain,bind", "--port-range", "20000-39999", "--loop", each_loop)
    with at(connecting(5000), *profile, "-o", "r.json", folder=tmp_path) as run:
        run.send(signal.SIGINT)
    run.ended(ExitCode.INTERRUPTED, "stopped by SIGINT")
    result = run.kept("r.json")
    assert result.is_partial
    assert len(result.strategies[0].rounds[0].samples) > 0


def test_sigterm_to_a_worker_in_an_unanswered_connect(each_loop: Loop, tmp_path: Path) -> None:
    """After EINTR Python's connect_ex() waits without a time-out: the engine kills that worker."""
    path, timeout = tmp_path / "r.json", "1000" if each_loop is Loop.C else "1"
    with unanswered(*SILENT, str(path), "--timeout", timeout, "--loop", each_loop) as (process, worker):
        os.kill(worker, signal.SIGTERM)
        _, stderr = process.communicate(timeout=HANG_S)
    assert process.returncode == ExitCode.FAULT
    assert "the engine or a worker was stopped by SIGTERM" in stderr
    assert errnos(path) == [0]


@needs_c_loop
def test_connect_that_a_stop_interrupts_times_out_all_the_same(tmp_path: Path) -> None:
    """SIGSTOP and SIGCONT end a connect() with a time-out by EINTR (signal(7)): the loop in C goes on with it."""
    path = tmp_path / "r.json"
    with unanswered(*SILENT, str(path), "--timeout", "1", "--loop", Loop.C) as (process, worker):
        os.kill(worker, signal.SIGSTOP)
        os.kill(worker, signal.SIGCONT)
        _, stderr = process.communicate(timeout=HANG_S)
    assert process.returncode == ExitCode.FAULT
    assert "5 connect() in a row took longer than 1 s" in stderr
    assert errnos(path) == [0, *[errno.EINPROGRESS] * 5]


def test_ctrl_c_in_a_long_pace(each_loop: Loop, tmp_path: Path) -> None:
    """One replacement in a thousand seconds: the sleep until the second one ends."""
    path = tmp_path / "r.json"
    load = ("--strategy", "bind", "--fill", "50%", "--churn", "9", "--churn-rate", "0.001", *PATIENT)
    command = ("run", "--port-range", "40000-40063", *load, "--loop", each_loop, "-o", str(path))
    # 32 connections, one that warms up, and one that takes another's place.
    with running(*command, at_least=34) as process:
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=HANG_S)
    assert process.returncode == ExitCode.INTERRUPTED
    filled, replaced = json.loads(path.read_text(encoding="utf-8"))["strategies"]
    assert (filled["partial"], replaced["partial"]) == (False, True)
    assert len(replaced["rounds"][0]["samples"]["port"]) == 1
    assert replaced["rounds"][0]["established"] == 32


TRIES = ("run", "--strategy", "random", "--retries", "1000000000", "--port-range", "40000-40007", "-n", "9", *PATIENT)
"""The ninth attempt finds none of the eight ports free."""


def by_ctrl_c(process: subprocess.Popen[str]) -> ExitCode:
    """Send SIGINT to the command; its exit code."""
    process.send_signal(signal.SIGINT)
    return ExitCode.INTERRUPTED


def by_sigterm_to_the_worker(process: subprocess.Popen[str]) -> ExitCode:
    """Send SIGTERM to the only worker; the command's exit code."""
    [worker] = children(engine_of(process))
    os.kill(worker, signal.SIGTERM)
    return ExitCode.FAULT


@pytest.mark.parametrize("stop", [by_ctrl_c, by_sigterm_to_the_worker])
def test_attempt_of_a_billion_tries_ends(
    stop: Callable[[subprocess.Popen[str]], ExitCode], each_loop: Loop, tmp_path: Path
) -> None:
    """The attempt stays unfinished."""
    path = tmp_path / "r.json"
    with running(*TRIES, "-o", str(path), "--loop", each_loop, at_least=8) as process:
        code = stop(process)
        process.communicate(timeout=HANG_S)
    assert process.returncode == code
    assert errnos(path) == [0] * 8


def test_a_stopped_engine_goes_on(each_loop: Loop, tmp_path: Path) -> None:
    """SIGSTOP and SIGCONT to the engine: its worker makes all attempts meanwhile, and the round is complete."""
    most = ("run", "--strategy", "range", "-n", "3000", "--loop", each_loop, "-o", "r.json")
    with at(connecting(100), *most, folder=tmp_path) as run:
        run.send(signal.SIGSTOP, run.engine)
        run.send(signal.SIGCONT, run.stopped)
        wait_until(lambda: connections_of(run.engine) == 3000, "all connections are made")
        run.send(signal.SIGCONT, run.engine)
    run.ended(ExitCode.OK)
    result = run.kept("r.json")
    assert not result.is_partial
    assert len(result.strategies[0].rounds[0].samples) == 3000


@pytest.mark.slow
def test_workers_that_do_not_answer_are_killed(tmp_path: Path) -> None:
    """Stopped workers, which no flag reaches, one busy and one that only holds: a single Ctrl-C ends the run."""
    few = ("--nofile", "2000")
    with at(connecting(4500, child=3), "run", "--timeout", "0.1", "-o", "r.json", folder=tmp_path, inside=few) as run:
        run.send(signal.SIGSTOP, run.children[0])
        run.send(signal.SIGINT)
        wait_until(lambda: run.process.poll() is not None, "the run has ended while its workers are stopped")
    run.ended(ExitCode.INTERRUPTED, "stopped by SIGINT")
    [measured] = run.kept("r.json").strategies[0].rounds
    assert len(measured.samples) >= 4000


CLOSING = (Step("engine's child", "socket.__new__", "", 100 + 1 + 50),)
"""Python's loop makes a socket for each of 100 attempts, for the floor, and to reset each connection."""


@pytest.mark.parametrize(
    ("number", "code"),
    [(signal.SIGINT, ExitCode.INTERRUPTED), (signal.SIGTERM, ExitCode.TERMINATED)],
)
def test_a_signal_while_connections_are_closed(number: signal.Signals, code: ExitCode, tmp_path: Path) -> None:
    """Everything is measured by then, and saved; nothing is left."""
    with at(CLOSING, "run", "-n", "100", "--loop", "python", "-o", "r.json", folder=tmp_path) as run:
        run.send(number)
        run.send(signal.SIGTERM, run.stopped)
        run.send(signal.SIGTERM, run.engine)
    run.ended(code, f"stopped by {number.name}")
    assert len(run.kept("r.json").strategies[0].rounds[0].samples) == 100
