"""What this machine is: recorded with every result, so that figures can be told apart by where they come from."""

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
"""Set by whoever runs connbench where the clock does not tell time: an emulator that counts instructions."""


def collect(cpus: tuple[int, ...] = ()) -> dict[str, object]:
    """The environment by name: plain values as JSON takes them, None for what cannot be read here.

    Args:
        cpus: The measured CPUs; the governor is asked for the first of them, or for CPU 0.
    """
    soft, hard = limits.open_files()
    return {
        "time": datetime.now(UTC).isoformat(timespec="seconds"),
        "kernel": platform.release(),
        "kernel_build": platform.version(),
        "machine": platform.machine(),
        "cpu_model": cpu_model(),
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


def clock() -> Clock:
    """What the clock counts here; only the emulator knows, so its word in the environment is taken for it.

    Raises:
        UsageError: The variable holds neither name of `Clock`.
    """
    told = os.environ.get(CLOCK_VARIABLE) or Clock.TIME
    if told not in set(Clock):
        raise UsageError(f"{CLOCK_VARIABLE}={told} is no clock", f"unset it, or set {' or '.join(Clock)}")
    return Clock(told)


def load() -> float | None:
    """Processes that ran or waited for a CPU over the last minute, on average; None where /proc does not tell."""
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
    """Frequency governor of a CPU; None where the machine shows none, as in most virtual ones."""
    return _read(f"/sys/devices/system/cpu/cpu{cpu}/cpufreq/scaling_governor")


def cpu_model() -> str | None:
    """The processor's name as the kernel has it."""
    for line in (_read("/proc/cpuinfo") or "").splitlines():
        name, _, value = line.partition(":")
        if name.strip() in {"model name", "Model", "cpu model"}:
            return value.strip()
    return None
