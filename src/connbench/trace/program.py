"""The bpftrace programs, adapted to this kernel; and whether this machine can run them."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from dataclasses import dataclass
from enum import StrEnum
from importlib import resources
from pathlib import Path

from connbench.errors import EnvironmentFault


class Trace(StrEnum):
    """What to trace; each member has a program, `programs/NAME.bt`."""

    LATENCY = "latency"
    PARITY = "parity"
    OFFSETS = "offsets"


class Probes(StrEnum):
    """The kind of probe: kprobes, or BPF trampolines, which cost less but are missing in some kernels."""

    KPROBE = "kprobe"
    KFUNC = "kfunc"


FUNCTIONS = {
    Trace.LATENCY: ("tcp_v4_connect", "tcp_connect"),
    Trace.PARITY: ("tcp_v4_connect", "tcp_connect"),
    Trace.OFFSETS: ("tcp_v4_connect", "tcp_connect", "__inet_check_established"),
}
"""Functions that the kernel must have. Those of `IPV6_FUNCTIONS` may be missing: IPv6 can be a module."""

IPV6_FUNCTIONS = ("tcp_v6_connect", "__inet6_check_established")

BPFTRACE = "bpftrace"
TRACEFS = ("sys/kernel/tracing", "sys/kernel/debug/tracing")
OTHER_KERNEL = "boot a kernel that has it: those of distributions do"

_NEED = {Probes.KPROBE: "kprobes (CONFIG_KPROBE_EVENTS)", Probes.KFUNC: "kfunc probes (bpftrace --info)"}

_ARGUMENTS = {"arg0": "args->sk", "arg2": "args->lport"}
"""kfunc probes name the arguments that kprobes number: tcp_v4_connect(sk), tcp_connect(sk), and the third argument of
__inet_check_established(death_row, sk, lport, twp)."""


def program(trace: Trace, functions: frozenset[str], probes: Probes = Probes.KPROBE) -> str:
    """The text of a bpftrace program.

    Args:
        trace: What to trace.
        functions: Functions that the kernel has; IPv6 probes on other functions are left out.
        probes: The kind of probe.
    """
    text = (resources.files(__package__) / "programs" / f"{trace}.bt").read_text(encoding="utf-8")
    for absent in set(IPV6_FUNCTIONS) - functions:
        text = re.sub(rf"^k(ret)?probe:{absent},\n", "", text, flags=re.MULTILINE)
    if probes is Probes.KFUNC:
        text = re.sub(r"^k(ret)?probe:", r"k\1func:", text, flags=re.MULTILINE)
        text = re.sub(r"\barg[02]\b", lambda found: _ARGUMENTS[found[0]], text)
    return text


@dataclass(frozen=True, slots=True)
class Tracer:
    """The path of bpftrace, the kind of probe to use, and the functions of `FUNCTIONS` that the kernel has."""

    bpftrace: str
    probes: Probes
    functions: frozenset[str]


def find_tracer(trace: Trace, probes: Probes | None = None, root: Path = Path("/")) -> Tracer:
    """What this machine can trace with.

    Args:
        trace: What to trace.
        probes: The kind of probe; None chooses kprobes if the kernel has them, because they work on every version.
        root: The folder that contains sys/ and proc/.

    Raises:
        EnvironmentFault: The user is not root, bpftrace is not installed, or the kernel lacks something; the message
            names everything that the kernel lacks.
    """
    if os.geteuid() != 0:
        raise EnvironmentFault(f"tracing the kernel needs root, and this is user {os.geteuid()}", "run it with sudo")
    found = shutil.which(BPFTRACE)
    if found is None:
        raise EnvironmentFault(
            f"{BPFTRACE} is not in PATH", "install it: apt-get install bpftrace, or dnf install bpftrace"
        )
    functions = _functions(root)
    can = {Probes.KPROBE: _has_kprobes(root)}
    if probes is Probes.KFUNC or not can[Probes.KPROBE]:
        can[Probes.KFUNC] = _has_trampolines(found)
    wanted = tuple(can) if probes is None else (probes,)
    chosen = next((kind for kind in wanted if can[kind]), None)
    lacking = _lacking(trace, functions, root)
    if chosen is None:
        lacking.insert(0, (f"it has no {', no '.join(_NEED[kind] for kind in wanted)}", OTHER_KERNEL))
    if lockdown(root) == "confidentiality":
        lacking.insert(0, ("lockdown is in confidentiality mode", "boot without lockdown=confidentiality"))
    if chosen is None or lacking:
        raise EnvironmentFault(
            f"this kernel cannot be traced here: {'; '.join(what for what, _ in lacking)}",
            "; ".join(dict.fromkeys(way_out for _, way_out in lacking)),
        )
    return Tracer(found, chosen, functions)


def _lacking(trace: Trace, functions: frozenset[str], root: Path) -> list[tuple[str, str]]:
    """What the kernel lacks for either kind of probe, each with its way out."""
    found = []
    if not (root / "sys/kernel/btf/vmlinux").exists():
        found.append(("it has no BTF (CONFIG_DEBUG_INFO_BTF)", OTHER_KERNEL))
    if not any((root / folder / "events/sched").is_dir() for folder in TRACEFS):
        found.append(("tracefs is not mounted", f"mount -t tracefs tracefs /{TRACEFS[0]}"))
    absent = [name for name in FUNCTIONS[trace] if name not in functions]
    if absent:
        found.append(
            (
                f"it has no function {', '.join(absent)}",
                "report it on connbench's issue tracker, with the kernel's version",
            )
        )
    return found


def lockdown(root: Path = Path("/")) -> str:
    """The mode of the kernel's lockdown, which the file shows in brackets; `none` without one (kernel_lockdown(7))."""
    try:
        text = (root / "sys/kernel/security/lockdown").read_text(encoding="ascii")
    except OSError:
        return "none"
    mode = re.search(r"\[(\w+)\]", text)
    return mode[1] if mode else "none"


def _has_kprobes(root: Path) -> bool:
    """Whether perf events support kprobes (since 4.17); bpftrace attaches kprobes through perf events."""
    return (root / "sys/bus/event_source/devices/kprobe").exists()


def _has_trampolines(bpftrace: str) -> bool:
    """Whether bpftrace can attach kfunc probes here, which newer versions call fentry; `bpftrace --info` tries it."""
    info = subprocess.run([bpftrace, "--info"], capture_output=True, text=True, check=False)
    return re.search(r"\b(kfunc|fentry): yes", info.stdout + info.stderr) is not None


def _functions(root: Path) -> frozenset[str]:
    """The traced functions that the kernel and its modules have.

    Raises:
        EnvironmentFault: /proc/kallsyms cannot be read.
    """
    wanted = {*IPV6_FUNCTIONS, *(name for names in FUNCTIONS.values() for name in names)}
    path = root / "proc/kallsyms"
    try:
        with path.open(encoding="ascii", errors="replace") as lines:
            return frozenset(wanted.intersection(w[2] for line in lines if len(w := line.split(maxsplit=3)) > 2))
    except OSError as error:
        raise EnvironmentFault(
            f"the kernel's functions cannot be read from {path}: {error.strerror}", "mount all of proc(5) on /proc"
        ) from error
