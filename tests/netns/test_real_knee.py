"""The knee of real runs over a small range."""

from __future__ import annotations

import pytest

from connbench.analysis.knee import find_knee
from support import measure, needs_port_range, spec

PORTS = 4096


@pytest.mark.parametrize("name", ["plain", "bind"])
def test_knee_is_where_the_other_parity_begins(name: str) -> None:
    """The kernel's own search turns slow at exactly half of the range, with the first port of the other parity."""
    result = measure(spec(name), PORTS, PORTS)
    knee = find_knee(result)
    assert (knee.connection, knee.in_use) == (PORTS // 2 + 1, PORTS // 2)
    assert result.samples.port[PORTS // 2] % 2 != result.samples.port[0] % 2
    assert knee.first_failed is None


@needs_port_range
def test_windows_have_no_knee_but_failures() -> None:
    """Random windows of a quarter of the smallest of ranges stay fast, and fail once they are full."""
    result = measure(spec("window", 64), 1024, 1024)
    knee = find_knee(result)
    failures = result.samples.failed.nonzero()[0]
    assert knee.is_judged
    assert knee.connection is None
    assert knee.first_failed == failures[0] + 1
    assert knee.in_use_at_failure == failures[0]
