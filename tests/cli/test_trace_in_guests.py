"""`connbench trace` in real kernels that can be traced, which the machine of the tests need not be able to."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

LAB = Path(__file__).parents[2] / "scripts" / "kernel-lab"
TOOLS = ("qemu-system-x86_64", "busybox", "bpftrace")


def lab(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Run the lab's command to its end."""
    return subprocess.run([sys.executable, str(LAB), *arguments], capture_output=True, text=True, check=False)


@pytest.mark.slow
@pytest.mark.timeout(1000)  # four to five minutes on an emulated processor, and as much again on a busy machine
@pytest.mark.skipif(None in map(shutil.which, TOOLS), reason=f"needs {', '.join(TOOLS)}")
@pytest.mark.parametrize("series", ["6.1", "6.12"])
def test_trace_counts_what_run_does(series: str) -> None:
    """Each test that is made for a guest passes there, and none is skipped."""
    if "to be fetched" in lab("list", "--kernel", series).stdout:
        pytest.skip(f"no kernel here: scripts/kernel-lab setup --kernel {series}")
    done = lab("test", "--trace", "--kernel", series, "--timeout", "900")
    assert done.returncode == 0, done.stdout
    assert re.search(r"^\d+ passed in", done.stdout, re.MULTILINE), done.stdout
