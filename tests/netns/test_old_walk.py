"""The rules of the port search on an old kernel, Debian's 6.1: the same tests, inside a guest of the lab."""

from __future__ import annotations

import os
import re
import subprocess

import pytest

from lab_guests import lab, require_guest
from run_connbench import measure, spec

RULE = "tests/netns/test_port_search.py"


def run_in_guest(*arguments: str, walk: str = "") -> subprocess.CompletedProcess[str]:
    """Run pytest in the guest, there with another expectation if `walk` is given."""
    require_guest("6.1")
    given = ["--env", f"CONNBENCH_EXPECT_WALK={walk}"] if walk else []
    return lab("test", "--kernel", "6.1", *given, "--", "-q", "-rA", *arguments, timeout=400)


@pytest.mark.slow
@pytest.mark.timeout(450)
def test_old_kernel_keeps_the_rules_and_walks_two_parities() -> None:
    """Every rule of the search holds on 6.1 too, but range walks one parity before the other."""
    ended = run_in_guest(RULE)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert f"PASSED {RULE}::test_range_uses_both_parities_from_the_start" in ended.stdout
    assert re.search(r"\d+ passed", ended.stdout)
    assert "skipped" not in ended.stdout


@pytest.mark.slow
@pytest.mark.timeout(450)
def test_old_kernel_fails_what_a_new_one_passes() -> None:
    """With the walk of 6.8 expected the old kernel's test fails; it passes here where the kernel has that walk."""
    ended = run_in_guest(f"{RULE}::test_range_uses_both_parities_from_the_start", walk="one-by-one")
    assert ended.returncode == 6
    assert f"FAILED {RULE}::test_range_uses_both_parities_from_the_start" in ended.stdout
    if tuple(map(int, os.uname().release.split(".")[:2])) >= (6, 8):
        odd = sum(port % 2 for port in measure(spec("range"), 64, 32).samples.port.tolist())
        assert 8 <= odd <= 24
