"""Work in a child of this process: what it loads and which namespaces it enters is gone with it."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Callable
from typing import Any, Never

from connbench.errors import ConnbenchError, EnvironmentFault
from connbench.interrupts import HeldBack
from connbench.linux import shortage
from connbench.linux.faults import heard, lack_of, told
from connbench.linux.process import describe_end, die_with_parent

TOLD = 3
"""Exit status of a child that has told a fault."""

MARK = "\0outcome: "
"""What the line begins with in which a child tells its outcome."""


def in_child(work: Callable[[], object], undone: str, way_out: str) -> Any:  # noqa: ANN401  # whatever `work` returns
    """Do something in a child of this process, which ends with it; what the child prints is seen by nobody.

    Args:
        work: What to do; a ConnbenchError that it raises is raised here.
        undone: The fault if it raises anything else but for want of a resource.
        way_out: The hint beside that.

    Returns:
        What `work` returns, which is of the types that JSON has.

    Raises:
        ConnbenchError: It failed, or the kernel gives no process for it.
    """
    reader, writer = os.pipe()
    parent = os.getpid()
    try:
        with HeldBack():  # the parent's handlers must not run in the child, which is killed where they end the parent
            child = os.fork()
            if child == 0:
                _tell_outcome(work, writer, parent, (undone, way_out))
    except OSError as error:
        os.close(reader)
        os.close(writer)
        raise EnvironmentFault(f"{undone}: fork: {error.strerror}", shortage.way_out(error.errno)) from error
    os.close(writer)
    try:
        with os.fdopen(reader, encoding="utf-8", errors="replace") as pipe:
            said = pipe.read()
    except BaseException:  # a signal that ends this process, or the round
        os.kill(child, signal.SIGKILL)
        raise
    finally:
        status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    if status not in {0, TOLD}:
        raise EnvironmentFault(f"{undone}: its process {describe_end(status)[0]}", way_out)
    outcome = json.loads(next(line for line in said.split("\n") if line.startswith(MARK)).removeprefix(MARK))
    if status == TOLD:
        raise heard(outcome)
    return outcome


def _tell_outcome(work: Callable[[], object], writer: int, parent: int, otherwise: tuple[str, str]) -> Never:
    status = 1
    try:
        die_with_parent(parent)
        os.dup2(writer, 2)  # libraries print tracebacks of their own, and warnings
        _tell(writer, work())
        status = 0
    except Exception as error:  # noqa: BLE001  # the child has no other way to tell; the parent raises it
        fault = error if isinstance(error, ConnbenchError) else lack_of(error)
        _tell(writer, told(fault or EnvironmentFault(f"{otherwise[0]}: {error}", otherwise[1])))
        status = TOLD
    finally:
        os._exit(status)


def _tell(writer: int, outcome: object) -> None:
    """A line of its own, among all that libraries print before it and, as their objects go, after it."""
    os.write(writer, f"\n{MARK}{json.dumps(outcome)}\n".encode())
