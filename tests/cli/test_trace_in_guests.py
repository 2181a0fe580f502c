"""`connbench trace` in real kernels that can be traced, which the machine of the tests need not be able to."""

from __future__ import annotations

import re

import pytest

from lab_guests import lab, require_guest


@pytest.mark.slow
@pytest.mark.timeout(1000)  # six minutes on an emulated processor, and as much again on a busy machine
@pytest.mark.parametrize("series", ["6.1", "6.12"])
def test_trace_counts_what_run_does(series: str) -> None:
    """Each test that is made for a guest passes there, and none is skipped."""
    require_guest(series, "bpftrace")
    done = lab("test", "--trace", "--kernel", series, "--timeout", "900", timeout=950)
    assert done.returncode == 0, done.stdout
    assert re.search(r"^\d+ passed in", done.stdout, re.MULTILINE), done.stdout
