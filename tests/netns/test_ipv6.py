"""IPv6, on ranges of a few ports: the same search by the same rules, and the options at SOL_IP."""

from __future__ import annotations

import errno
from typing import Any

import pytest

from connbench.linux.families import has_ipv6
from connbench.linux.sockopts import is_supported
from connbench.model import Endpoint, Listener
from connbench.results.result import Samples
from connbench.strategies import STRATEGIES
from support import LOW, measure, needs_port_range, spec

PORTS = 16

pytestmark = pytest.mark.skipif(not has_ipv6(), reason="this kernel has no IPv6, or it is switched off")


def measure6(name: str, window: int | None = None, attempts: int = PORTS, **changes: Any) -> Samples:  # noqa: ANN401  # any field of Plan
    """The attempts of a strategy over IPv6."""
    if STRATEGIES[name].needs and not all(map(is_supported, STRATEGIES[name].needs)):
        pytest.skip("this kernel lacks an option the strategy needs")
    target = Endpoint("2001:db8::2", LOW - 1)
    return measure(spec(name, window), PORTS, attempts, sources=("2001:db8::1",), targets=(target,), **changes).samples


@pytest.mark.parametrize("name", ["plain", "bind"])
def test_one_parity_goes_first(name: str) -> None:
    """The search is the one of IPv4: all even ports, then the odd ones, then none."""
    samples = measure6(name, attempts=PORTS + 1)
    assert {port % 2 for port in samples.port[: PORTS // 2].tolist()} == {0}
    assert {port % 2 for port in samples.port[PORTS // 2 : PORTS].tolist()} == {1}
    assert samples.errno.tolist() == [0] * PORTS + [errno.EADDRNOTAVAIL]


@pytest.mark.parametrize("listener", [Listener.BACKLOG, Listener.ACCEPT])
@pytest.mark.parametrize(("name", "window"), [("random", None), ("range", None), ("partition", 4)])
def test_every_strategy_finds_every_port(name: str, window: int | None, listener: Listener) -> None:
    """Ports drawn, or searched in all of the range or in windows of it: all of them are had, whoever listens."""
    samples = measure6(name, window, listener=listener)
    assert sorted(samples.port.tolist()) == list(range(LOW, LOW + PORTS))


@needs_port_range
def test_windows_are_kept_to() -> None:
    """IP_LOCAL_PORT_RANGE is honoured on a socket of IPv6: one window of a partition is used up before the next."""
    ports = measure6("partition", 4).port.tolist()
    assert [sorted(ports[i : i + 4]) for i in range(0, PORTS, 4)] == [
        list(range(LOW + i, LOW + i + 4)) for i in range(0, PORTS, 4)
    ]
