"""Guests: boots a kernel with the image in memory, waits until it has run its command, and takes the results."""

from __future__ import annotations

import contextlib
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import tarfile
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from connbench.errors import RunFault
from connbench.host.environment import CLOCK_VARIABLE
from connbench.linux import process
from connbench.model import Clock

from .image import LAB, REPOSITORY, Archive
from .kernel import Kernel
from .table import RESULT

MEMORY_MB = 2048
"""Fixed: the kernel's hash tables grow with it."""

CPU = "Nehalem,+rdrand"
"""An old one, whose instructions are emulated quickly; random numbers of the CPU's own are there from the start."""

TAIL_LINES = 12

UML_FAULT = "ptrace set fp regs failed"
"""What user-mode-linux before 6.13 says, and ends, on a CPU with more floating-point state (AMX) than its buffer holds.

The host's kernel takes that state in full or not at all (xstateregs_set()): nothing here can make it fit.
"""

LEFT_BEHIND = ("status", "release", "uptime", "output.txt", "console.txt", RESULT)
"""What a guest's folder has: how the command ended, where and when, what it said, the whole console, the result."""

QUIET_KERNEL = "quiet loglevel=4 panic=-1 mitigations=off nokaslr random.trust_cpu=on"
"""panic=-1 ends a guest whose kernel panics; mitigations cost an emulated processor far more than a real one."""


@dataclass(frozen=True, slots=True)
class Job:
    """What a guest is to do.

    Attributes:
        command: What it runs.
        is_deterministic: Whether its clock counts instructions.
        timeout: How long it may take in s, the boot included.
        settings: Sysctls to set before, as NAME=VALUE.
        environment: Variables of the command, as NAME=VALUE.
    """

    command: tuple[str, ...]
    is_deterministic: bool = False
    timeout: float = 300.0
    settings: tuple[str, ...] = ()
    environment: tuple[str, ...] = ()

    @property
    def script(self) -> str:
        """As the guest's shell runs it."""
        lines = [
            f"cd {shlex.quote(str(REPOSITORY))}",
            f"export PATH={shlex.quote(str(Path(sys.executable).parent))}:$PATH",
            # The checkout that was packed, wherever the Python of this machine takes connbench from.
            f"export PYTHONPATH={shlex.quote(str(REPOSITORY / 'src'))}",
        ]
        clock = (f"{CLOCK_VARIABLE}={Clock.INSTRUCTIONS}",) if self.is_deterministic else ()
        lines += [f"export {shlex.quote(variable)}" for variable in (*self.environment, *clock)]
        lines += [f"/{LAB}/busybox sysctl -w {shlex.quote(setting)} >/dev/null" for setting in self.settings]
        return "\n".join([*lines, shlex.join(self.command)]) + "\n"


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a guest left: the command's exit status, the kernel's release, and the seconds boot and command took."""

    status: int
    release: str
    boot_s: float
    total_s: float


class CannotBoot(RunFault):
    """A kernel that this machine's processor keeps from booting."""


def run_guest(kernel: Kernel, image: Path, job: Job, folder: Path) -> Outcome:
    """Boot a kernel, run the job in it, and unpack what it leaves into `folder`.

    Raises:
        CannotBoot: The kernel cannot run on this machine's processor.
        RunFault: The guest did not boot, hung, or left nothing; nothing of it is left running.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for name in LEFT_BEHIND:  # of an earlier run: they would pass for this one's
        (folder / name).unlink(missing_ok=True)
    with tempfile.TemporaryDirectory(prefix="connbench-guest-") as temporary:
        place = Path(temporary)
        _write_initrd(image, job, place / "initrd")
        command = (_uml if kernel.is_uml else _qemu)(kernel, job, place)
        console = folder / "console.txt"
        begun = time.monotonic()
        with console.open("wb") as output:
            ended = _run(command, output.fileno(), job.timeout, place)
        seconds = time.monotonic() - begun
        _unpack(place / "results.tar", folder)
    words = console.read_text(encoding="utf-8", errors="replace")
    said = re.search(r"kernel-lab: up ([\d.]+)", words)
    status = folder / "status"
    if not status.exists():
        if kernel.is_uml and UML_FAULT in words:
            raise CannotBoot(
                f"uml: user-mode-linux {kernel.version} cannot restore this CPU's floating-point state",
                "use --kernel 6.1: QEMU boots it on any CPU",
            )
        what = "did not boot" if said is None else "hung" if not ended else "ended without results"
        in_time = "" if ended else f" within {job.timeout:g} s"
        raise RunFault(f"{kernel.series}: the guest {what}{in_time}", f"the end of {console}:\n{_tail(console)}")
    release = (folder / "release").read_text(encoding="ascii").strip()
    return Outcome(int(status.read_text(encoding="ascii")), release, float(said[1]) if said else 0.0, seconds)


def _write_initrd(image: Path, job: Job, path: Path) -> None:
    """The image, and behind it an archive of the job's own: the kernel unpacks one after the other."""
    shutil.copyfile(image, path)
    with path.open("ab") as stream:
        stream.write(b"\0" * (-stream.tell() % 4))
        archive = Archive(stream)
        archive.add(f"{LAB}/job", 0o100644, job.script.encode())
        archive.add("TRAILER!!!", 0)


def _qemu(kernel: Kernel, job: Job, _place: Path) -> list[str]:
    """An emulated PC with one processor and two serial lines: the console, and the results, in its folder here."""
    clock = ["-accel", "tcg,thread=multi"]
    if job.is_deterministic:
        clock = ["-accel", "tcg,thread=single", "-icount", "shift=0,sleep=off", "-seed", "1"]
        clock += ["-rtc", "base=2026-01-01T00:00:00,clock=vm"]
    return [
        *("qemu-system-x86_64", "-machine", "q35", *clock, "-cpu", CPU, "-smp", "1", "-m", str(MEMORY_MB)),
        *("-nodefaults", "-no-user-config", "-display", "none", "-no-reboot"),
        *("-chardev", "stdio,id=console,signal=off", "-serial", "chardev:console"),
        *("-chardev", "file,id=results,path=results.tar", "-serial", "chardev:results"),
        *("-kernel", str(kernel.image), "-initrd", "initrd"),
        *("-append", f"console=ttyS0 {QUIET_KERNEL} rdinit=/{LAB}/init lab_results=/dev/ttyS1"),
    ]


def _uml(kernel: Kernel, _job: Job, place: Path) -> list[str]:
    """A kernel as a process; it writes its results into its folder here, and is shown no other."""
    return [
        *(str(kernel.image), f"mem={MEMORY_MB}M", "initrd=initrd", f"uml_dir={place}/uml/", "umid=guest"),
        *("con=null", "con0=null,fd:1", "console=tty0", *QUIET_KERNEL.split()),
        *(f"rdinit=/{LAB}/init", f'"lab_results={place}"'),  # quoted, as the kernel reads a value with a space
    ]


def _run(command: list[str], console: int, timeout: float, place: Path) -> bool:
    """Run a guest in a process group of its own until it is off; False if it had to be ended."""
    parent = os.getpid()
    guest = subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=console,
        stderr=subprocess.STDOUT,
        cwd=place,
        start_new_session=True,
        preexec_fn=lambda: process.die_with_parent(parent),  # noqa: PLW1509  # one thread here, and the guest must not outlive it
    )
    try:
        guest.wait(timeout)
    except subprocess.TimeoutExpired:
        return False
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(guest.pid, signal.SIGKILL)
        guest.wait()
    return True


def _unpack(archive: Path, folder: Path) -> None:
    """Take what came back; of an archive that was cut off, nothing."""
    with contextlib.suppress(OSError, tarfile.TarError), tarfile.open(archive) as packed:
        packed.extraction_filter = getattr(tarfile, "data_filter", None)  # Debian 12's Python 3.11.2 has no filters
        packed.extractall(folder)  # noqa: S202  # what our own guest has packed


def _tail(console: Path) -> str:
    lines = console.read_text(encoding="utf-8", errors="replace").replace("\r", "").rstrip().splitlines()
    return "\n".join(f"  | {line[:150]}" for line in lines[-TAIL_LINES:])
