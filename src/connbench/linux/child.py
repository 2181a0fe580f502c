"""Work in a child of this process: what it loads and which namespaces it enters is gone with it."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Callable
from typing import Any

from connbench.errors import EnvironmentFault
from connbench.linux import shortage
from connbench.linux.process import die_with_parent


def in_child(work: Callable[[], object], undone: str, way_out: str) -> Any:  # noqa: ANN401  # whatever `work` returns
    """Do something in a child of this process, which ends with it.

    Args:
        work: What to do; an EnvironmentFault that it raises is raised here.
        undone: The fault if it raises anything else.
        way_out: The hint beside that.

    Returns:
        What `work` returns, which is of the types that JSON has.

    Raises:
        EnvironmentFault: It failed, or the kernel gives no process for it.
    """
    reader, writer = os.pipe()
    parent = os.getpid()
    try:
        child = os.fork()
    except OSError as error:
        os.close(reader)
        os.close(writer)
        raise EnvironmentFault(f"{undone}: fork: {error.strerror}", shortage.way_out(error.errno)) from error
    if child == 0:
        die_with_parent(parent)
        _tell_outcome(work, writer, undone, way_out)
    os.close(writer)
    try:
        with os.fdopen(reader, encoding="utf-8") as pipe:
            told = pipe.read()
    except BaseException:  # a signal that ends this process, or the round
        os.kill(child, signal.SIGKILL)
        raise
    finally:
        status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    if status != 0:
        raise EnvironmentFault(*(json.loads(told) if told else (f"{undone}: status {status}", way_out)))
    return json.loads(told)


def _tell_outcome(work: Callable[[], object], writer: int, undone: str, way_out: str) -> None:
    status = 1
    try:
        os.write(writer, json.dumps(work()).encode())
        status = 0
    except EnvironmentFault as fault:
        os.write(writer, json.dumps([fault.message, fault.hint]).encode())
    except Exception as error:  # noqa: BLE001  # the child has no other way to tell; the parent raises it
        os.write(writer, json.dumps([f"{undone}: {error}", way_out]).encode())
    finally:
        os._exit(status)
