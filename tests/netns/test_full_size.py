"""The talk's range in full, and a seventh of it: what the tiny ranges show, at full size."""

from __future__ import annotations

import numpy as np
import pytest

from connbench.reproduce.window_failures import expect_failures
from run_connbench import measure, needs_port_range, spec

pytestmark = pytest.mark.timeout(1200)
PORTS = 65535 - 9024 + 1
sizes = pytest.mark.parametrize("ports", [8192, pytest.param(PORTS, marks=pytest.mark.slow)])


@pytest.mark.slow
def test_plain_takes_one_parity_before_the_other() -> None:
    """The search takes all even ports first, half of the range; then all odd ones."""
    result = measure(spec("plain"), PORTS, PORTS, low=9024)
    samples = result.samples
    half = PORTS // 2
    assert not samples.failed.any()
    assert (samples.port[:half] % 2 == 0).all()
    assert (samples.port[half:] % 2 == 1).all()
    assert result.rounds[0].report.established == PORTS


@needs_port_range
@sizes
def test_a_window_of_500_misses_as_many_ports_as_the_model_expects(ports: int) -> None:
    """About 1.7 % of the attempts find their window full; the talk had 868 of 56,512."""
    window = 500 * ports // PORTS
    samples = measure(spec("window", window), ports, ports, low=9024).samples
    assert int(samples.failed.sum()) in expect_failures(ports, window, ports)


@sizes
def test_random_needs_about_ln_of_the_range_tries(ports: int) -> None:
    """Drawing until every port is taken needs ln R + 0.58 tries a connection on average (coupon collector)."""
    result = measure(spec("random"), ports, ports, low=9024)
    expected = np.log(ports) + 0.58
    deviation = np.pi / np.sqrt(6)  # of the mean: the last few ports decide it, so it does not shrink with R
    assert not result.samples.failed.any()
    assert abs(result.samples.tries.mean() - expected) < 3 * deviation
    assert result.rounds[0].report.established == ports
