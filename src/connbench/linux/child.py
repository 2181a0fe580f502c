"""Work in a child of this process: what it loads and which namespaces it enters is gone with it."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Callable

from connbench.errors import EnvironmentFault
from connbench.linux.process import die_with_parent


def in_child(work: Callable[[], None], undone: str, way_out: str) -> None:
    """Do something in a child of this process, which ends with it.

    Args:
        work: What to do; an EnvironmentFault that it raises is raised here.
        undone: The fault if it raises anything else.
        way_out: The hint beside that.

    Raises:
        EnvironmentFault: It failed.
    """
    reader, writer = os.pipe()
    parent = os.getpid()
    child = os.fork()
    if child == 0:
        die_with_parent(parent)
        _tell_failure(work, writer, undone, way_out)
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


def _tell_failure(work: Callable[[], None], writer: int, undone: str, way_out: str) -> None:
    status = 1
    try:
        work()
        status = 0
    except EnvironmentFault as fault:
        os.write(writer, json.dumps([fault.message, fault.hint]).encode())
    except Exception as error:  # noqa: BLE001  # the child has no other way to tell; the parent raises it
        os.write(writer, json.dumps([f"{undone}: {error}", way_out]).encode())
    finally:
        os._exit(status)
