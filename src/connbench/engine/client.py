"""The parent's side of an engine process: start it, follow it, stop it, and make sure nothing of it is left."""

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

import msgspec

from connbench.errors import ConnbenchError, EnvironmentFault, Interrupted
from connbench.interrupts import HeldBack
from connbench.linux.faults import end_of, fault_of, heard
from connbench.linux.shortage import way_out
from connbench.model import RoundPlan
from connbench.roundreport import RoundReport

TICK_MS = 200
"""How often the caller hears that time has passed: a progress bar redrawn more often would disturb the measurement."""


@dataclass(slots=True)
class Outcome:
    """What became of a round. Without a fault it is complete.

    `reports` are those of its phases as far as they came; after a fault the last may have nothing but the settings.
    `unread` is the beginning of an answer whose end has not come yet: an interruption must not lose it.
    """

    reports: list[RoundReport] = field(default_factory=lambda: [RoundReport()])
    fault: ConnbenchError | None = None
    began: bool = False
    unread: bytes = b""


def run_round(plan: RoundPlan, descriptor: int, on_tick: Callable[[], None]) -> Outcome:
    """Run one round in an engine process, and come back once all its processes are gone.

    Args:
        plan: What to do.
        descriptor: Shared memory for the samples, from `samples.create`.
        on_tick: Called about five times a second; it may raise `Interrupted`, which ends the round in good order, and
            once more, which ends it at once.

    Returns:
        The outcome; a fault in mid-run, an interruption too, is in it, beside whatever was reported.

    Raises:
        ConnbenchError: The round could not begin, so there is nothing to keep.
    """
    outcome = Outcome()
    # In memory: a read-only container has no folder for temporary files.
    with os.fdopen(os.memfd_create("connbench-stderr"), "w+b") as complaints, _start(descriptor, complaints) as process:
        try:
            _follow(process, plan, outcome, on_tick)
            if outcome.fault or process.wait():
                on_tick()  # a manager of services sends its signal to all processes: then it is what ended the engine
        except Interrupted as interruption:
            outcome.fault = interruption
            _stop(process, outcome, on_tick)
        except Exception as error:  # noqa: BLE001  # a bug, or no memory: what was measured until then is kept
            outcome.fault = fault_of(error)
            _stop(process, outcome, on_tick)
        except BaseException:
            _kill(process)
            raise
        status = process.wait()
        complaints.seek(0)
        last_words = complaints.read().decode(errors="replace").strip()
    if outcome.fault is None and status != 0:
        outcome.fault = end_of("the engine process", status, last_words)
    if outcome.fault is not None and not outcome.began:
        raise outcome.fault
    return outcome


def _start(descriptor: int, complaints: IO[bytes]) -> subprocess.Popen[bytes]:
    try:
        with HeldBack():  # and so they stay in the engine until it has its own handlers
            return subprocess.Popen(
                [sys.executable, "-P", "-m", "connbench.engine", str(descriptor), str(os.getpid())],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=complaints,
                pass_fds=[descriptor],
                process_group=0,  # a Ctrl-C reaches us alone; we pass it on in our own time
            )
    except (PermissionError, FileNotFoundError) as error:
        # setpriv and sudo may execute a Python in a folder that is closed to the user they become.
        raise EnvironmentFault(
            f"user {os.geteuid()} cannot execute this Python again, {sys.executable}: {error.strerror}",
            "connbench starts it for each round: install connbench where this user can execute it",
        ) from error
    except OSError as error:
        raise EnvironmentFault(f"no engine process: {error.strerror}", way_out(error.errno)) from error


def _follow(
    process: subprocess.Popen[bytes],
    plan: RoundPlan,
    outcome: Outcome,
    on_tick: Callable[[], None],
) -> None:
    """Send the plan and take in answers until stdout ends: then every process that inherited it has ended."""
    assert process.stdin  # noqa: S101  # a pipe by construction; tells the type checker
    with contextlib.suppress(BrokenPipeError), process.stdin as stdin:
        stdin.write(json.dumps(plan.to_dict()).encode() + b"\n")
    _take_answers(process, outcome, on_tick)


def _take_answers(process: subprocess.Popen[bytes], outcome: Outcome, on_tick: Callable[[], None]) -> None:
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
                _take(json.loads(line), outcome)
        else:
            on_tick()


def _take(message: dict[str, Any], outcome: Outcome) -> None:
    match message["event"]:
        case "ready":
            outcome.began = True
            outcome.reports = [RoundReport(settings=message["settings"])]
        case "measured":
            outcome.reports.insert(-1, msgspec.convert(message["report"], RoundReport))
        case "finished":
            outcome.reports = msgspec.convert(message["reports"], list[RoundReport])
        case "failed" if outcome.fault is None:
            outcome.fault = heard(message)


def _stop(process: subprocess.Popen[bytes], outcome: Outcome, on_tick: Callable[[], None]) -> None:
    """End the round in good order; a second interruption or fault ends it at once."""
    process.terminate()
    try:
        _take_answers(process, outcome, on_tick)
    except Exception:  # noqa: BLE001  # another signal, or the fault that has ended the round once more
        _kill(process)
        _take_answers(process, outcome, lambda: None)


def _kill(process: subprocess.Popen[bytes]) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
