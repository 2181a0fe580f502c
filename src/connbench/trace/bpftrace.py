"""bpftrace as a child process: start it, read its counts at each interval, and stop it."""

from __future__ import annotations

import os
import selectors
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import IO

from connbench.errors import EnvironmentFault, RunFault
from connbench.interrupts import Interrupts
from connbench.kernel_release import version_of
from connbench.linux.faults import describe_end
from connbench.linux.process import die_with_parent
from connbench.trace.counts import MAX_KEYS, READY, TICK, Maps, read_line
from connbench.units import MS_PER_S

POLL_SECONDS = 0.2
"""How long a signal to this process may wait until it is noticed."""

STOP_SECONDS = 30.0
"""How long bpftrace may take to stop: it detaches its probes one by one."""

SILENT_SECONDS = 30.0
"""How late a report may come on a busy machine."""

MAP_SIZES = ("BPFTRACE_MAP_KEYS_MAX", "BPFTRACE_MAX_MAP_KEYS")
"""Environment variables with the size of its maps: up to bpftrace 0.19, and since."""

BTF_BY_ID_SINCE = (5, 11)
"""The first kernel whose BTF bpftrace 0.17 finds by itself, by its id; of an older kernel it needs the file's path."""

_NOT_ATTACHED = "could not attach probe"
"""From 0.21 on bpftrace continues without this probe, and would count nothing."""

_MEMLOCK = "RLIMIT_MEMLOCK"  # bpftrace warns of this limit, which kernels since 5.11 do not use


class Bpftrace:
    """A running bpftrace.

    Attributes:
        maps: The maps that it printed last.
        pid: Its process id.

    Args:
        process: The child.
        errors: The file with its stderr.
        timeout_s: How long after a report the next may come.
    """

    def __init__(self, process: subprocess.Popen[bytes], errors: IO[bytes], timeout_s: float) -> None:
        assert process.stdout is not None  # noqa: S101  # opened as a pipe below; tells the type checker
        self.maps: Maps = {}
        self.pid = process.pid
        self._process = process
        self._errors = errors
        self._timeout_s = timeout_s
        self._pipe = process.stdout
        self._waiting = b""
        self._said: list[str] = []
        os.set_blocking(self._pipe.fileno(), False)
        self._selector = selectors.DefaultSelector()
        self._selector.register(self._pipe, selectors.EVENT_READ)

    def wait_until_ready(self, interrupts: Interrupts) -> None:
        """Return when every probe is attached: bpftrace prints the text of BEGIN only then.

        Raises:
            EnvironmentFault: It could not attach a probe.
            Interrupted: A signal came.
        """
        while READY not in self._said:
            interrupts.check()
            if not self._read():
                raise EnvironmentFault(
                    f"bpftrace did not start: {self._why_ended()}", "see whether bpftrace --info works"
                )
        self._said.clear()
        missing = next((line for line in self._stderr_lines() if _NOT_ATTACHED in line), None)
        if missing is not None:
            raise EnvironmentFault(f"bpftrace did not start: {missing}", "see whether bpftrace --info works")

    def wait_for_interval(self, interrupts: Interrupts, until: float | None) -> bool:
        """Return after the maps of the next interval, or at a time.

        Args:
            interrupts: Checked for signals meanwhile.
            until: A time of time.monotonic(); None for no limit.

        Returns:
            True after an interval, False at the time.

        Raises:
            RunFault: bpftrace ended, or printed nothing for too long.
            Interrupted: A signal came.
        """
        latest = time.monotonic() + self._timeout_s
        while TICK not in self._said:
            interrupts.check()
            if time.monotonic() > latest:  # or an exporter would serve the last counts for ever
                raise RunFault(f"bpftrace has printed no counts for {self._timeout_s:g} s", "start it again")
            if until is not None and time.monotonic() >= until:
                return False
            if not self._read():
                interrupts.check()  # a signal may have gone to the whole process group
                raise RunFault(f"bpftrace ended while tracing: {self._why_ended()}", "start it again")
        self._said.clear()
        return True

    def stop(self) -> None:
        """Stop it, and read its last maps.

        Raises:
            RunFault: It did not stop in time, or failed.
        """
        self._process.send_signal(signal.SIGINT)
        end = time.monotonic() + STOP_SECONDS
        while self._read():
            if time.monotonic() > end:
                raise RunFault(
                    f"bpftrace did not stop within {STOP_SECONDS:g} s", "its last counts are lost; start it again"
                )
        if self._process.wait() != 0:
            raise RunFault(f"bpftrace failed as it stopped: {self._why_ended()}", "start it again")

    def close(self) -> None:
        """Kill it if it still runs, and close its pipe."""
        self._selector.close()
        self._process.kill()
        self._process.wait()
        self._pipe.close()

    def _read(self) -> bool:
        """Read what it has printed; False at the end."""
        if not self._selector.select(POLL_SECONDS):
            return True
        piece = self._pipe.read(1 << 20)
        if not piece:
            return piece is None
        *lines, self._waiting = (self._waiting + piece).split(b"\n")
        for line in lines:
            try:
                said = read_line(line, self.maps)
            except (ValueError, KeyError, TypeError, AttributeError) as error:
                words = line[:80].decode(errors="replace")
                raise RunFault(
                    f"bpftrace printed a line that connbench cannot read: {words!r}",
                    "report it on connbench's issue tracker, with `bpftrace --version`",
                ) from error
            if said:
                self._said.append(said)
        return True

    def _why_ended(self) -> str:
        """Its first error message; else its last line that is not a warning; else its exit status."""
        status = self._process.wait()
        lines = [line for line in self._stderr_lines() if not line.startswith("WARNING")]
        errors = [line for line in lines if "ERROR" in line]
        return [*errors[:1], *lines[-1:], f"it {describe_end(status)[0]}"][0]

    def _stderr_lines(self) -> list[str]:
        """The lines of its stderr until now."""
        said = os.pread(self._errors.fileno(), 1 << 16, 0).decode(errors="replace")
        return [line.strip() for line in said.splitlines() if line.strip() and _MEMLOCK not in line]


def environment(release: str) -> dict[str, str]:
    """The environment variables that bpftrace needs on a kernel of this release."""
    version = version_of(release)
    is_older = version is not None and version < BTF_BY_ID_SINCE
    return {"BPFTRACE_BTF": "/sys/kernel/btf/vmlinux"} if is_older else {}


@contextmanager
def running(bpftrace: str, text: str, interval_ms: int, late_s: float = SILENT_SECONDS) -> Iterator[Bpftrace]:
    """Run a program until the end of the `with` block.

    Args:
        bpftrace: The path of bpftrace.
        text: The program.
        interval_ms: The time between two prints of its maps.
        late_s: How late a print may come.
    """
    parent = os.getpid()
    # A file in memory, because a read-only container has no folder for temporary files.
    with os.fdopen(os.memfd_create("connbench-stderr"), "w+b") as errors:
        child = Bpftrace(
            subprocess.Popen(
                [bpftrace, "-f", "json", "-e", text, str(interval_ms)],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=errors,
                env=environment(os.uname().release) | os.environ | dict.fromkeys(MAP_SIZES, str(MAX_KEYS)),
                start_new_session=True,  # Ctrl-C reaches this process only, which then stops the child
                preexec_fn=lambda: die_with_parent(parent),  # noqa: PLW1509  # this process has one thread, and the probes must not outlive it
            ),
            errors,
            timeout_s=interval_ms / MS_PER_S + late_s,
        )
        try:
            yield child
        finally:
            child.close()
