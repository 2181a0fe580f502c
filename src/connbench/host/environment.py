"""The environment of a run: kernel, CPU, limits and settings of this machine. Every result records it."""

from __future__ import annotations

import os
import platform
from datetime import UTC, datetime
from pathlib import Path

import connbench
from connbench.errors import UsageError
from connbench.linux import limits, sysctl
from connbench.linux.process import usable_cpus
from connbench.model import Clock

CLOCK_VARIABLE = "CONNBENCH_CLOCK"
"""The environment variable to set where the clock counts instructions instead of time, as in some emulators."""


def collect(cpus: tuple[int, ...] = ()) -> dict[str, object]:
    """The environment by name, as JSON values; None for what cannot be read here.

    Args:
        cpus: The measured CPUs. The governor is that of the first of them, or of CPU 0.
    """
    soft, hard = limits.open_files()
    return {
        "time": datetime.now(UTC).isoformat(timespec="seconds"),
        "hostname": platform.node(),
        "kernel_build": platform.version(),
        "machine": platform.machine(),
        **of_machine(),
        "cpu_count": os.cpu_count(),
        "affinity": sorted(usable_cpus()),
        "clock": clock(),
        "clock_source": _read("/sys/devices/system/clocksource/clocksource0/current_clocksource"),
        "governor": governor(cpus[0] if cpus else 0),
        "load_1m": load(),
        "memory_total": limits.total_memory(),
        "memory_available": limits.machine_memory(),
        "nofile_soft": soft,
        "nofile_hard": hard,
        "user": os.geteuid(),
        "python": platform.python_version(),
        "connbench": connbench.__version__,
        "host_sysctls": sysctl.read_all(),
    }


def of_machine() -> dict[str, object]:
    """The part of the environment that tells one machine from another: its kernel and its CPU."""
    return {"kernel": platform.release(), "cpu_model": cpu_model()}


def clock() -> Clock:
    """What the clock counts here. Only the user of an emulator knows: the environment variable tells it.

    Raises:
        UsageError: The variable is set to something else than a name of `Clock`.
    """
    told = os.environ.get(CLOCK_VARIABLE) or Clock.TIME
    if told not in set(Clock):
        raise UsageError(f"{CLOCK_VARIABLE}={told} is not a clock", f"unset it, or set {' or '.join(Clock)}")
    return Clock(told)


def load() -> float | None:
    """The load average of the last minute; None if it cannot be read."""
    try:
        return round(os.getloadavg()[0], 2)
    except OSError:
        return None


def _read(path: str) -> str | None:
    try:
        return Path(path).read_text(encoding="utf-8", errors="replace").strip()
    except OSError:
        return None


def governor(cpu: int) -> str | None:
    """The frequency governor of a CPU; None if the machine shows none, as most virtual machines."""
    return _read(f"/sys/devices/system/cpu/cpu{cpu}/cpufreq/scaling_governor")


def cpu_model() -> str | None:
    """The name of the processor in /proc/cpuinfo; None if it has none."""
    for line in (_read("/proc/cpuinfo") or "").splitlines():
        name, _, value = line.partition(":")
        if name.strip() in {"model name", "Model", "cpu model"}:
            return value.strip()
    return None
