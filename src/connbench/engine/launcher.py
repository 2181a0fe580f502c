"""The parent's side of an engine process: `run_round` starts it, reads its events, and stops it."""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import IO, Any

from connbench.errors import ConnbenchError, EnvironmentFault, Interrupted
from connbench.interrupts import BlockedSignals
from connbench.linux.faults import advice_for_errno, fault_from_dict, fault_of, fault_of_end
from connbench.model import RoundPlan
from connbench.model.rebuild import rebuilt
from connbench.model.round_report import RoundReport
from connbench.samples import stop_flag

TICK_MS = 200
"""Time between two calls of `on_tick`, in ms: to draw a progress bar more often would disturb the measurement."""


ARCHIVE = "CONNBENCH_ARCHIVE"
"""The environment variable of an agent that was pushed: the descriptor of its archive, which an engine imports, too."""


@dataclass(slots=True)
class Outcome:
    """How a round ended.

    Attributes:
        reports: The reports of the phases that began. After a fault the last one may have nothing but the settings.
        fault: What ended the round early; None if it is complete.
        began: Whether the round began: only then are there samples.
        is_waiting: Whether the engine waits for the instant at which to begin.
        unread: The part of an event that has arrived. It is kept here so that an interruption does not lose it.
    """

    reports: list[RoundReport] = field(default_factory=lambda: [RoundReport()])
    fault: ConnbenchError | None = None
    began: bool = False
    is_waiting: bool = False
    unread: bytes = b""


def run_round(
    plan: RoundPlan, descriptor: int, on_tick: Callable[[], None], start: Callable[[], int] = lambda: 0
) -> Outcome:
    """Run one round in an engine process, and return once all processes of the round have ended.

    Args:
        plan: The round.
        descriptor: The shared memory for the samples, from `samples.create`.
        on_tick: Called about five times a second. It may raise `Interrupted`: the first time ends the round after its
            report, the second time kills it.
        start: For a plan that waits: called once the engine is ready to begin, and returns the instant at which it
            is to begin, in ns of CLOCK_REALTIME. It may raise as `on_tick` does.

    Returns:
        The outcome. If a fault or an interruption ended the round early, it has that fault, and the reports so far.

    Raises:
        ConnbenchError: The round could not begin, so there are no samples.
    """
    outcome, stop = Outcome(), stop_flag(descriptor)
    # stderr goes to memory: a read-only container has no folder for temporary files.
    with os.fdopen(os.memfd_create("connbench-stderr"), "w+b") as stderr, _start(descriptor, stderr) as process:
        try:
            _follow(process, plan, outcome, on_tick, start)
            if outcome.fault or process.wait():
                on_tick()  # a service manager sends its signal to all processes: if it ended the engine, this raises it
        except Interrupted as interruption:
            outcome.fault = interruption
            _end_early(process, stop, outcome, on_tick)
        except Exception as error:  # noqa: BLE001  # a bug, or no memory: the samples so far are kept
            outcome.fault = fault_of(error)
            _end_early(process, stop, outcome, on_tick)
        except BaseException:
            _kill(process)
            raise
        status = process.wait()
        stderr.seek(0)
        error_text = stderr.read().decode(errors="replace").strip()
    if outcome.fault is None and status != 0:
        outcome.fault = fault_of_end("the engine process", status, error_text)
    if outcome.fault is not None and not outcome.began:
        raise outcome.fault
    return outcome


def _start(descriptor: int, stderr: IO[bytes]) -> subprocess.Popen[bytes]:
    try:
        with BlockedSignals():  # they stay blocked in the engine until it has set its own handlers
            return subprocess.Popen(
                [sys.executable, "-P", "-m", "connbench.engine", str(descriptor), str(os.getpid())],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=stderr,
                pass_fds=[descriptor, *_archive()],
                process_group=0,  # Ctrl-C then reaches this process only, which sets the stop flag
            )
    except (PermissionError, FileNotFoundError) as error:
        # setpriv and sudo can start a Python in a folder that the new user may not enter.
        raise EnvironmentFault(
            f"user {os.geteuid()} cannot execute this Python again, {sys.executable}: {error.strerror}",
            "connbench starts it for each round: install connbench where this user can execute it",
        ) from error
    except OSError as error:
        raise EnvironmentFault(
            f"the engine process cannot start: {error.strerror}", advice_for_errno(error.errno)
        ) from error


def _archive() -> list[int]:
    """The descriptor of the archive in memory from which this process imports connbench; none if it is installed."""
    found = os.environ.get(ARCHIVE, "")
    return [int(found)] if found.isdecimal() else []


def _follow(
    process: subprocess.Popen[bytes],
    plan: RoundPlan,
    outcome: Outcome,
    on_tick: Callable[[], None],
    start: Callable[[], int],
) -> None:
    """Send the plan, and read events until stdout ends: by then every process that inherited it has ended."""
    assert process.stdin  # noqa: S101  # a pipe by construction; tells the type checker
    _write(process.stdin, json.dumps(plan.to_dict()))

    def begin() -> None:
        assert process.stdin  # noqa: S101  # as above
        _write(process.stdin, str(start()))

    _read_events(process, outcome, on_tick, begin)


def _write(stdin: IO[bytes], line: str) -> None:
    with contextlib.suppress(BrokenPipeError):  # the engine has ended: its events or its status say why
        stdin.write(line.encode() + b"\n")
        stdin.flush()


def _read_events(
    process: subprocess.Popen[bytes],
    outcome: Outcome,
    on_tick: Callable[[], None],
    begin: Callable[[], None] = lambda: None,
) -> None:
    assert process.stdout  # noqa: S101  # as above
    descriptor = process.stdout.fileno()
    poller = select.poll()
    poller.register(descriptor, select.POLLIN)
    while True:
        if poller.poll(TICK_MS):
            piece = os.read(descriptor, 65536)
            if not piece:
                return
            *lines, outcome.unread = (outcome.unread + piece).split(b"\n")
            for line in lines:
                _apply(json.loads(line), outcome)
            if outcome.is_waiting:
                outcome.is_waiting = False
                begin()
        else:
            on_tick()


def _apply(message: dict[str, Any], outcome: Outcome) -> None:
    match message["event"]:
        case "ready":
            outcome.began = True
            outcome.reports = [RoundReport(settings=message["settings"])]
        case "waiting":
            outcome.is_waiting = True
        case "measured":
            outcome.reports.insert(-1, rebuilt(RoundReport, message["report"]))
        case "finished":
            outcome.reports = [rebuilt(RoundReport, one) for one in message["reports"]]
        case "failed" if outcome.fault is None:
            outcome.fault = fault_from_dict(message)


def _end_early(
    process: subprocess.Popen[bytes], stop: memoryview[int], outcome: Outcome, on_tick: Callable[[], None]
) -> None:
    """Let the engine end the round and report; on a second interruption or fault, kill it."""
    stop[0] = 1
    try:
        _read_events(process, outcome, on_tick)
    except Exception:  # noqa: BLE001  # a second signal, or the same fault again
        _kill(process)
        _read_events(process, outcome, lambda: None)


def _kill(process: subprocess.Popen[bytes]) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
