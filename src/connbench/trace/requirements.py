"""Whether functions of this kernel can be traced here, and if not, everything that is missing."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

from connbench.errors import EnvironmentFault
from connbench.trace.program import FUNCTIONS, OF_IPV6, Probes, Trace

PROGRAM = "bpftrace"
TRACEFS = ("sys/kernel/tracing", "sys/kernel/debug/tracing")
OTHER_KERNEL = "boot a kernel built for it, as the distributions' are"

_NEED = {Probes.KPROBE: "kprobes (CONFIG_KPROBE_EVENTS)", Probes.KFUNC: "kfunc probes (bpftrace --info)"}


@dataclass(frozen=True, slots=True)
class Means:
    """What there is to trace with: the bpftrace program, how it attaches, and the functions that the kernel has."""

    bpftrace: str
    probes: Probes
    functions: frozenset[str]


def find_means(trace: Trace, probes: Probes | None = None, root: Path = Path("/")) -> Means:
    """What this machine traces with.

    Args:
        trace: What is to be watched.
        probes: How; None takes kprobes where the kernel has them, which work on every version.
        root: Where /sys and /proc are looked for.

    Raises:
        EnvironmentFault: The user may not, bpftrace is not here, or the kernel lacks something; all of it is named.
    """
    if os.geteuid() != 0:
        raise EnvironmentFault(f"tracing the kernel needs root, and this is user {os.geteuid()}", "run it with sudo")
    found = shutil.which(PROGRAM)
    if found is None:
        raise EnvironmentFault(
            f"{PROGRAM} is not in PATH", "install it: apt-get install bpftrace, or dnf install bpftrace"
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
    return Means(found, chosen, functions)


def _lacking(trace: Trace, functions: frozenset[str], root: Path) -> list[tuple[str, str]]:
    """What stands in the way of either kind of probe, each with its way out."""
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
    """The mode of the kernel's lockdown, from the one in brackets; `none` where it has none (kernel_lockdown(7))."""
    try:
        text = (root / "sys/kernel/security/lockdown").read_text(encoding="ascii")
    except OSError:
        return "none"
    mode = re.search(r"\[(\w+)\]", text)
    return mode[1] if mode else "none"


def _has_kprobes(root: Path) -> bool:
    """Whether perf events, which bpftrace attaches with, know kprobes (since 4.17)."""
    return (root / "sys/bus/event_source/devices/kprobe").exists()


def _has_trampolines(bpftrace: str) -> bool:
    """Whether bpftrace can attach kfunc probes (fentry, in newer versions) here: it knows by trying."""
    told = subprocess.run([bpftrace, "--info"], capture_output=True, text=True, check=False)
    return re.search(r"\b(kfunc|fentry): yes", told.stdout + told.stderr) is not None


def _functions(root: Path) -> frozenset[str]:
    """Those of the traced functions that the kernel has, modules included.

    Raises:
        EnvironmentFault: /proc does not tell.
    """
    wanted = {*OF_IPV6, *(name for names in FUNCTIONS.values() for name in names)}
    path = root / "proc/kallsyms"
    try:
        with path.open(encoding="ascii", errors="replace") as lines:
            return frozenset(wanted.intersection(w[2] for line in lines if len(w := line.split(maxsplit=3)) > 2))
    except OSError as error:
        raise EnvironmentFault(
            f"the kernel's functions cannot be read from {path}: {error.strerror}", "mount all of proc(5) on /proc"
        ) from error
