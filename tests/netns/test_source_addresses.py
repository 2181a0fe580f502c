"""Several source addresses, on ranges of a few ports: each address has the whole range."""

from __future__ import annotations

import errno

import numpy as np
import pytest

from connbench.linux.sockopts import LOCAL_PORT_RANGE, is_supported
from connbench.model import Spread
from connbench.results.result import Samples
from run_connbench import LOW, measure, spec

pytestmark = pytest.mark.usefixtures("each_loop")

TWO = ("127.9.9.1", "127.9.9.3")
PORTS = 16


def of_source(samples: Samples, number: int) -> Samples:
    """The attempts from one address."""
    return samples.chosen(samples.source == number)


@pytest.mark.parametrize("spread", list(Spread))
def test_each_source_has_two_halves_of_its_own(spread: Spread) -> None:
    """From each address all ports of one parity go first, then the others; both addresses use every port."""
    samples = measure(spec("bind"), PORTS, 2 * PORTS, sources=TWO, spread=spread).samples
    assert not samples.failed.any()
    for number in (0, 1):
        ports = of_source(samples, number).port.tolist()
        assert sorted(ports) == list(range(LOW, LOW + PORTS))
        assert {port % 2 for port in ports[: PORTS // 2]} == {0}
    expected = [0, 1] * PORTS if spread is Spread.ROUND_ROBIN else [0] * PORTS + [1] * PORTS
    assert samples.source.tolist() == expected


@pytest.mark.parametrize("name", ["random", "range", "partition"])
def test_all_ports_of_all_sources_are_taken(name: str) -> None:
    """Ports drawn, searched without bias or filled window by window: none is left over, and further attempts fail."""
    if name != "random" and not is_supported(LOCAL_PORT_RANGE):
        pytest.skip("this kernel has no IP_LOCAL_PORT_RANGE (Linux 6.3)")
    strategy = spec(name, 4 if name == "partition" else None)
    samples = measure(strategy, PORTS, 2 * PORTS + 2, sources=TWO).samples
    for number in (0, 1):
        own = of_source(samples, number)
        assert sorted(own.port[~own.failed].tolist()) == list(range(LOW, LOW + PORTS))
    assert set(samples.errno[samples.failed].tolist()) <= {errno.EADDRINUSE, errno.EADDRNOTAVAIL}
    assert samples.failed.sum() == 2


def test_addresses_beyond_loopback_are_added() -> None:
    """The namespace gets each of them, and connections come from all."""
    samples = measure(spec("bind"), PORTS, PORTS, sources=("10.9.8.7", "10.9.8.8")).samples
    assert not samples.failed.any()
    assert np.bincount(samples.source).tolist() == [PORTS // 2] * 2
