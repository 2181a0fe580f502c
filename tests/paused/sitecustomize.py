"""Stop a process of connbench at a moment that a test names: fault_at_moment.py puts this folder in PYTHONPATH.

Python tells an audit hook of each import, file opened, socket made, process started and file renamed, just before it
happens (sys.addaudithook; the events are in Python's documentation). At the event that the test waits for, the process
sends SIGSTOP to itself: then the test causes its fault, and lets the process go on.
"""

from __future__ import annotations

import atexit
import json
import os
import signal
import sys
from pathlib import Path
from typing import Any

WRITES = os.O_WRONLY | os.O_RDWR
ENDS = "connbench.ends"
"""An event of the tests' own: Python has left main() and is ending."""

waited_for: list[list[Any]] = []
"""The rest of the steps to the moment, each [process, event, a word in its arguments, how many times]."""


def role() -> str:
    """Which process this is: "command", "engine", a child of these, as in "engine's child", or none of these."""
    words = sys.orig_argv
    name = "engine" if "connbench.engine" in words else "command" if Path(words[1:2][0]).name == "connbench" else ""
    return name if os.getpid() == STARTED_AS else f"{name}'s child"


def describe(event: str, arguments: tuple[Any, ...]) -> tuple[str, str]:
    """The event and its arguments as text; a file opened for writing is the event `write`."""
    if event == "open" and isinstance(arguments[2], int) and arguments[2] & WRITES:
        return "write", str(arguments[0])
    return event, str(arguments[:1]) if event == "import" else str(arguments)


def look(event: str, arguments: tuple[Any, ...]) -> None:
    """Compare an event with the step that the test waits for. The last step stops the process."""
    if not waited_for or event not in {"open", waited_for[0][1]}:
        return
    step = waited_for[0]
    found, text = describe(event, arguments)
    if [role(), found] != step[:2] or step[2] not in text:
        return
    step[3] -= 1
    if step[3] == 0:
        waited_for.pop(0)
        os.environ["CONNBENCH_TEST_MOMENT"] = json.dumps(MOMENT | {"steps": waited_for})  # for what it starts
        if not waited_for:
            stop()


def stop() -> None:
    """Stop here, unless another process has stopped already: a moment occurs once."""
    try:
        descriptor = os.open(MOMENT["stopped"], os.O_CREAT | os.O_EXCL | os.O_WRONLY)
    except FileExistsError:
        return
    os.write(descriptor, str(os.getpid()).encode())
    os.close(descriptor)
    os.kill(os.getpid(), signal.SIGSTOP)


MOMENT = json.loads(os.environ.get("CONNBENCH_TEST_MOMENT", "null"))
STARTED_AS = os.getpid()
if MOMENT and len(sys.orig_argv) > 1 and role():
    waited_for += MOMENT["steps"]
    atexit.register(sys.audit, ENDS)
    sys.addaudithook(look)
