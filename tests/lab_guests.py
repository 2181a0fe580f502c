"""The kernel lab's command for a test, and whether this machine has what a guest of it needs."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[1]
LAB = REPOSITORY / "scripts" / "kernel-lab"


def lab(
    *arguments: str, timeout: float = 60, command: Path = LAB, **environment: str
) -> subprocess.CompletedProcess[str]:
    """Run the lab's command, by default this checkout's, to its end or for a number of seconds."""
    return subprocess.run(
        [sys.executable, str(command), *arguments],
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
        env=os.environ | environment,
    )


def require_guest(series: str, *programs: str) -> None:
    """Skip a test where no guest of that kernel can boot, or a program that the guest needs is missing."""
    missing = [name for name in ("qemu-system-x86_64", "busybox", *programs) if shutil.which(name) is None]
    if missing or "to be fetched" in lab("list", "--kernel", series).stdout:
        pytest.skip(f"no {', '.join(missing) or f'kernel {series}'} here: scripts/kernel-lab setup --kernel {series}")
