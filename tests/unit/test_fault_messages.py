"""What an exception, or the end of a process without a message, means to the user."""

from __future__ import annotations

import errno
import json
import os
import resource
import signal
import subprocess
import sys

import pytest

from connbench.engine.network import set_up
from connbench.errors import ConnbenchError, EnvironmentFault, ExitCode, Interrupted, RunFault, UnexpectedFault
from connbench.linux.faults import (
    advice_for_errno,
    describe_end,
    fault_from_dict,
    fault_of,
    fault_of_end,
    fault_to_dict,
)
from connbench.linux.process import in_child
from connbench.model import RoundPlan
from run_connbench import make_plan, spec

FILES = resource.getrlimit(resource.RLIMIT_NOFILE)[0]


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (OSError(errno.EMFILE, "Too many open files"), f"too many open files: RLIMIT_NOFILE is {FILES}"),
        (OSError(errno.ENFILE, "Too many open files in system"), "too many open files on this machine"),
        (OSError(errno.EAGAIN, "Resource temporarily unavailable"), "a process cannot start another: "),
        (OSError(errno.ENOMEM, "Cannot allocate memory"), "out of memory: "),
        (MemoryError(), "out of memory: "),
        (ImportError("x.so: cannot open shared object file: Too many open files"), "too many open files: RLIMIT"),
    ],
)
def test_a_limit_is_named_and_is_no_bug(error: Exception, message: str) -> None:
    """Exit code 4, the limit with its value, and the remedy."""
    fault = fault_of(error)
    assert fault.exit_code == ExitCode.ENVIRONMENT
    assert fault.message.startswith(message)
    assert fault.hint
    assert "report" not in fault.hint


@pytest.mark.parametrize("fault", [RunFault("m", "h"), Interrupted(1), EnvironmentFault("m")])
def test_a_fault_stays_itself(fault: ConnbenchError) -> None:
    """Only an unexpected exception becomes a bug."""
    assert fault_of(fault) is fault


def test_a_bug_is_reported_with_its_place() -> None:
    """The innermost place in connbench, even if a library raised the exception; and no control character."""
    with pytest.raises(ValueError, match="1000") as raised:
        fault_of_end("it", -1000, "")  # there is no such signal
    fault = fault_of(raised.value)
    assert fault.message.startswith("unexpected ValueError: ")
    assert "(connbench/linux/faults.py, line " in fault.message
    assert fault.trace.startswith("Traceback (most recent call last):")
    assert "\x1b" not in fault_of(ValueError("\x1b[31m")).message


def test_a_fault_crosses_a_process_boundary_whole() -> None:
    """Class, words and traceback."""
    fault = fault_of(KeyError("p99"))
    again = fault_from_dict(json.loads(json.dumps(fault_to_dict(fault))))
    assert type(again) is UnexpectedFault
    assert (again.message, again.hint, again.trace) == (fault.message, fault.hint, fault.trace)


def test_what_a_child_prints_stays_there(capfd: pytest.CaptureFixture[str]) -> None:
    """A library's traceback on stderr, and 100 kB of it, is not shown; the child's outcome arrives nevertheless."""

    def work() -> str:
        os.write(2, b"Traceback\n" * 10000)
        return "done"

    assert in_child(work, "it cannot be done", "") == "done"
    assert capfd.readouterr().err == ""


IMPORTING = """
import os, resource
from connbench.errors import EnvironmentFault
from connbench.linux.process import in_child

def work(files):
    resource.setrlimit(resource.RLIMIT_NOFILE, (files, files))
    from pyroute2 import IPRoute
    with IPRoute():
        return "there were enough"

for files in range(len(os.listdir("/proc/self/fd")), 16):
    try:
        print(files, in_child(lambda: work(files), "it cannot be done", "a hint"))
    except EnvironmentFault as fault:
        print(files, fault.message, fault.hint)
"""


def test_a_child_that_cannot_import_names_the_limit() -> None:
    """The test causes it: pyroute2 prints a traceback of its own where it lacks files, at any of its files."""
    done = subprocess.run([sys.executable, "-c", IMPORTING], capture_output=True, text=True, check=True)
    assert done.stderr == ""
    told_of = dict(line.split(" ", 1) for line in done.stdout.splitlines())
    refused = [files for files, words in told_of.items() if words != "there were enough"]
    assert 2 <= len(refused) < len(told_of)
    for files in refused:
        assert told_of[files] == f"too many open files: RLIMIT_NOFILE is {files} {advice_for_errno(errno.EMFILE)}"


@pytest.mark.parametrize("files", [3, 4])
def test_an_engine_without_files_names_the_limit(files: int) -> None:
    """The test causes it: Python cannot start with three files; with four the engine may load, and has no memory."""
    limited = f"import os, resource, sys; resource.setrlimit(resource.RLIMIT_NOFILE, ({files}, {files})); "
    limited += "os.execv(sys.executable, [sys.executable, '-P', '-m', 'connbench.engine', '9', str(os.getppid())])"
    plan = RoundPlan(make_plan(spec("plain"), ports=16, connections=4), spec("plain"), 1)
    line = json.dumps(plan.to_dict()).encode() + b"\n"
    engine = subprocess.run([sys.executable, "-c", limited], input=line, capture_output=True, check=False)
    assert engine.returncode > 0
    said = [json.loads(line) for line in engine.stdout.splitlines()]
    fault = (
        fault_from_dict(said[0])
        if said
        else fault_of_end("the engine process", engine.returncode, engine.stderr.decode())
    )
    if files == 4 and os.strerror(errno.EBADF) in fault.message:
        return  # all modules were loaded, as by Python 3.13: there is no descriptor 9, the memory of the round
    assert fault.exit_code == ExitCode.ENVIRONMENT, fault.message
    assert "too many open files: RLIMIT_NOFILE is" in fault.message


@pytest.mark.parametrize(
    ("status", "words", "kind", "says"),
    [
        (
            1,
            "Traceback\n  ...\nOSError: [Errno 24] Too many open files: 'x.pyc'\n",
            EnvironmentFault,
            "RLIMIT_NOFILE is",
        ),
        (127, "python: libc.so.6: failed to map segment from shared object\n", EnvironmentFault, "out of memory"),
        (1, "ModuleNotFoundError: No module named 'connbench'\n", EnvironmentFault, "No module named 'connbench'"),
        (1, "KeyError: 'p99'\n", UnexpectedFault, "KeyError: 'p99'"),
        (1, "", UnexpectedFault, "it said nothing"),
        (-signal.SIGKILL, "", RunFault, "was killed by SIGKILL"),
    ],
)
def test_an_engine_that_ends_without_a_word(status: int, words: str, kind: type[ConnbenchError], says: str) -> None:
    """Its exit status and the output of Python or the loader identify the cause."""
    fault = fault_of_end("the engine process", status, words)
    assert type(fault) is kind
    assert says in fault.message
    assert "\n" not in fault.message + fault.hint


@pytest.mark.parametrize("number", signal.Signals)
def test_only_a_crash_is_to_be_reported(number: signal.Signals) -> None:
    """A signal from outside, from a limit or from a sandbox is no bug."""
    if number.name.startswith("SIGRT"):
        return
    how, advice = describe_end(-number)
    crashes = {signal.SIGSEGV, signal.SIGBUS, signal.SIGILL, signal.SIGFPE, signal.SIGABRT}
    assert number.name in how
    assert ("report" in advice) == (number in crashes)


@pytest.mark.parametrize("files", [3, 4])
def test_a_namespace_without_files_names_the_limit(files: int) -> None:
    """Not that namespaces are forbidden here: the host's namespace would lack the files, too."""
    plan = RoundPlan(make_plan(spec("plain"), ports=16, connections=4), spec("plain"), 1)

    def work() -> None:
        resource.setrlimit(resource.RLIMIT_NOFILE, (files, files))
        set_up(plan)

    with pytest.raises(EnvironmentFault, match=f"too many open files: RLIMIT_NOFILE is {files}"):
        in_child(work, "nothing is set up", "try --isolate never")
