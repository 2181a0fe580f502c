"""Whether this machine can test bpftrace with programs that need no probe."""

from __future__ import annotations

import os
import subprocess

import pytest

from required_programs import program, reason

BPFTRACE = program("bpftrace") or ""


def has_bpf() -> bool:
    """Whether bpftrace can load a program here: that takes root, and no probe."""
    if not BPFTRACE or os.geteuid() != 0:
        return False
    return subprocess.run([BPFTRACE, "-e", "BEGIN { exit(); }"], capture_output=True, check=False).returncode == 0


needs_bpf = pytest.mark.skipif(
    not has_bpf(), reason="bpftrace loads no program here, for that takes root" if BPFTRACE else reason("bpftrace")
)
