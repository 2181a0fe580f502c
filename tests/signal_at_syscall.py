"""A signal at a chosen system call: the command runs traced (ptrace(2)), and gets it as it enters its n-th call."""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import tempfile
from collections.abc import Callable
from dataclasses import dataclass

from run_connbench import caught

PTRACE_TRACEME, PTRACE_CONT, PTRACE_SYSCALL, PTRACE_SETOPTIONS = 0, 7, 24, 0x4200
PTRACE_O_TRACESYSGOOD, PTRACE_O_EXITKILL = 0x1, 0x100000
AT_SYSCALL = signal.SIGTRAP | 0x80
"""The status of a stop at a system call with PTRACE_O_TRACESYSGOOD: one stop as it enters, one as it returns."""

_libc = ctypes.CDLL(None, use_errno=True)
_libc.ptrace.argtypes = (ctypes.c_long, ctypes.c_long, ctypes.c_void_p, ctypes.c_void_p)
_libc.ptrace.restype = ctypes.c_long


def _ptrace(request: int, pid: int, data: int = 0) -> None:
    if _libc.ptrace(request, pid, None, data) < 0:
        number = ctypes.get_errno()
        raise OSError(number, f"ptrace: {os.strerror(number)}")


@dataclass(frozen=True, slots=True)
class Stepped:
    """How a command ended.

    Attributes:
        code: Its exit code as a shell has it: 128 and the signal's number, if that killed it.
        calls: System calls of its main thread; up to the signal, if one was sent.
        handled: The signals it had handlers for when that came.
        ready: Without a signal: the system call from which on it has a handler for SIGTERM.
    """

    code: int
    stdout: str
    stderr: str
    calls: int
    handled: frozenset[signal.Signals]
    ready: int


def stepped(command: list[str], number: signal.Signals | None = None, at: int = 0) -> Stepped:
    """Run a command, and send it a signal as its main thread enters its system call `at`, counted from 1."""
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=err,
            preexec_fn=lambda: _ptrace(PTRACE_TRACEME, 0),  # noqa: PLW1509  # one call, in a process that is to be replaced
        )
        pid = process.pid
        os.waitpid(pid, 0)  # it stops once it is the command
        _ptrace(PTRACE_SETOPTIONS, pid, PTRACE_O_TRACESYSGOOD | PTRACE_O_EXITKILL)
        code, stops, handled, ready = _follow(pid, at, lambda: _send(pid, number))
        process.returncode = code
        for file in (out, err):
            file.seek(0)
        stdout, stderr = out.read().decode(), err.read().decode()
    return Stepped(code, stdout, stderr, (stops + 1) // 2, handled, (ready + 1) // 2)


def _follow(
    pid: int, at: int, send: Callable[[], frozenset[signal.Signals]]
) -> tuple[int, int, frozenset[signal.Signals], int]:
    """Step to the end; exit code, stops at system calls, what `send` said, and the first stop with our handlers."""
    stops, delivered, ready = 0, 0, 0
    handled: frozenset[signal.Signals] = frozenset()
    while True:
        # After the signal has been sent nothing is counted any more: go on at full speed.
        _ptrace(PTRACE_CONT if at and stops >= 2 * at - 1 else PTRACE_SYSCALL, pid, delivered)
        _, status = os.waitpid(pid, 0)
        if not os.WIFSTOPPED(status):
            ended = os.waitstatus_to_exitcode(status)
            return (ended if ended >= 0 else 128 - ended), stops, handled, ready
        delivered = os.WSTOPSIG(status)
        if delivered == AT_SYSCALL:
            delivered = 0
            stops += 1
            if not at and not ready and signal.SIGTERM in caught(pid):
                ready = stops
            if stops == 2 * at - 1:
                handled = send()


def _send(pid: int, number: signal.Signals | None) -> frozenset[signal.Signals]:
    assert number is not None
    os.kill(pid, number)
    return caught(pid)
