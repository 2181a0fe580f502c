"""bpftrace as a child of this process: runs a program, is read interval by interval, and tells all as it ends."""

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
from connbench.linux.process import describe_end, die_with_parent
from connbench.release import version_of
from connbench.trace.counts import KEPT_APART, READY, TICK, Maps, read_line
from connbench.units import MS_PER_S

LOOK_SECONDS = 0.2
"""How long a signal to this process may wait."""

END_SECONDS = 30.0
"""How long bpftrace may take to end: it detaches its probes one by one."""

SILENT_SECONDS = 30.0
"""How late a report may be, on a machine that has no time for it."""

MAP_SIZES = ("BPFTRACE_MAP_KEYS_MAX", "BPFTRACE_MAX_MAP_KEYS")
"""What sets the size of its maps: until 0.19, and since."""

LENDS_BTF = (5, 11)
"""The first kernel that hands out its BTF by an id, as bpftrace 0.17 asks for it; an older one's is read as a file."""

_GAP = "could not attach probe"
"""From 0.21 on it goes on without a probe, and would count nothing."""

_MEMLOCK = "RLIMIT_MEMLOCK"  # a complaint that kernels since 5.11 make meaningless


class Bpftrace:
    """A running bpftrace.

    Attributes:
        maps: What it printed last.
        pid: Its process id.

    Args:
        process: The child.
        errors: What it says on stderr.
        patience_s: How long after a report the next may come.
    """

    def __init__(self, process: subprocess.Popen[bytes], errors: IO[bytes], patience_s: float) -> None:
        assert process.stdout is not None  # noqa: S101  # opened as a pipe below; tells the type checker
        self.maps: Maps = {}
        self.pid = process.pid
        self._process = process
        self._errors = errors
        self._patience_s = patience_s
        self._pipe = process.stdout
        self._waiting = b""
        self._said: list[str] = []
        os.set_blocking(self._pipe.fileno(), False)
        self._selector = selectors.DefaultSelector()
        self._selector.register(self._pipe, selectors.EVENT_READ)

    def wait_until_ready(self, interrupts: Interrupts) -> None:
        """Return once every probe is attached: what bpftrace prints at its begin is read only then.

        Raises:
            EnvironmentFault: It could not attach them.
            Interrupted: A signal came first.
        """
        while READY not in self._said:
            interrupts.check()
            if not self._read():
                raise EnvironmentFault(
                    f"bpftrace did not start: {self._last_words()}", "see whether bpftrace --info works"
                )
        self._said.clear()
        gap = next((line for line in self._complaints() if _GAP in line), None)
        if gap is not None:
            raise EnvironmentFault(f"bpftrace did not start: {gap}", "see whether bpftrace --info works")

    def wait_for_interval(self, interrupts: Interrupts, until: float | None) -> bool:
        """Return after the next interval's maps, or at a time.

        Args:
            interrupts: Asked for signals meanwhile.
            until: By time.monotonic(); None is never.

        Returns:
            Whether it was an interval.

        Raises:
            RunFault: bpftrace ended, or says nothing any more.
            Interrupted: A signal came first.
        """
        latest = time.monotonic() + self._patience_s
        while TICK not in self._said:
            interrupts.check()
            if time.monotonic() > latest:  # an exporter would serve the last counts for ever
                raise RunFault(f"bpftrace has told no counts for {self._patience_s:g} s", "start it again")
            if until is not None and time.monotonic() >= until:
                return False
            if not self._read():
                interrupts.check()  # whoever ended this process may have ended all of its kin
                raise RunFault(f"bpftrace ended while tracing: {self._last_words()}", "start it again")
        self._said.clear()
        return True

    def stop(self) -> None:
        """End it, and read the maps as they are at last.

        Raises:
            RunFault: It did not end in good order.
        """
        self._process.send_signal(signal.SIGINT)
        end = time.monotonic() + END_SECONDS
        while self._read():
            if time.monotonic() > end:
                raise RunFault(
                    f"bpftrace did not end within {END_SECONDS:g} s", "its last counts are lost; start it again"
                )
        if self._process.wait() != 0:
            raise RunFault(f"bpftrace did not end in good order: {self._last_words()}", "start it again")

    def close(self) -> None:
        """Leave nothing of it running."""
        self._selector.close()
        self._process.kill()
        self._process.wait()
        self._pipe.close()

    def _read(self) -> bool:
        """Take in what there is; False at the end."""
        if not self._selector.select(LOOK_SECONDS):
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
                    f"bpftrace printed what is no JSON of its own: {words!r}",
                    "report it on connbench's issue tracker, with `bpftrace --version`",
                ) from error
            if said:
                self._said.append(said)
        return True

    def _last_words(self) -> str:
        """The first of its error messages, or the last line that is no warning, or how it ended."""
        status = self._process.wait()
        complaints = [line for line in self._complaints() if not line.startswith("WARNING")]
        errors = [line for line in complaints if "ERROR" in line]
        return [*errors[:1], *complaints[-1:], f"it {describe_end(status)[0]}"][0]

    def _complaints(self) -> list[str]:
        """What it said on stderr until now, by lines."""
        said = os.pread(self._errors.fileno(), 1 << 16, 0).decode(errors="replace")
        return [line.strip() for line in said.splitlines() if line.strip() and _MEMLOCK not in line]


def environment(release: str) -> dict[str, str]:
    """What bpftrace has to be told on a kernel of this release."""
    version = version_of(release)
    is_told = version is not None and version < LENDS_BTF
    return {"BPFTRACE_BTF": "/sys/kernel/btf/vmlinux"} if is_told else {}


@contextmanager
def running(bpftrace: str, text: str, interval_ms: int, late_s: float = SILENT_SECONDS) -> Iterator[Bpftrace]:
    """A program running from here to the end of the block.

    Args:
        bpftrace: Path of the command.
        text: The program.
        interval_ms: How often it prints its maps.
        late_s: How late they may be.
    """
    parent = os.getpid()
    # In memory: a read-only container has no folder for temporary files.
    with os.fdopen(os.memfd_create("connbench-stderr"), "w+b") as errors:
        child = Bpftrace(
            subprocess.Popen(
                [bpftrace, "-f", "json", "-e", text, str(interval_ms)],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=errors,
                env=environment(os.uname().release) | os.environ | dict.fromkeys(MAP_SIZES, str(KEPT_APART)),
                start_new_session=True,  # Ctrl-C is for this process, which ends the child in its own time
                preexec_fn=lambda: die_with_parent(parent),  # noqa: PLW1509  # one thread here, and probes must not outlive it
            ),
            errors,
            patience_s=interval_ms / MS_PER_S + late_s,
        )
        try:
            yield child
        finally:
            child.close()
