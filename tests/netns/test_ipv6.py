"""IPv6, on ranges of a few ports: the same search by the same rules, and the options at SOL_IP."""

from __future__ import annotations

import errno
from typing import Any

import pytest

from allowed_namespace import NAMESPACE
from connbench.errors import ExitCode
from connbench.linux import sysctl
from connbench.linux.address_family import DISABLE_IPV6, has_ipv6, has_ipv6_here
from connbench.linux.interfaces import bring_up_loopback
from connbench.linux.namespace import enter_new_namespace
from connbench.linux.process import in_child
from connbench.linux.sockopts import is_supported, options_of
from connbench.model import Endpoint, Listener
from connbench.results.result import Samples
from connbench.strategies import STRATEGIES
from run_connbench import LOW, connbench, measure, needs_port_range, spec

PORTS = 16

pytestmark = pytest.mark.skipif(not has_ipv6(), reason="this kernel has no IPv6")


def measure6(name: str, window: int | None = None, attempts: int = PORTS, **changes: Any) -> Samples:  # noqa: ANN401  # any field of Plan
    """The attempts of a strategy over IPv6."""
    if not all(map(is_supported, options_of(STRATEGIES[name]))):
        pytest.skip("this kernel lacks an option the strategy needs")
    target = Endpoint("2001:db8::2", LOW - 1)
    return measure(spec(name, window), PORTS, attempts, sources=("2001:db8::1",), targets=(target,), **changes).samples


@pytest.mark.usefixtures("each_loop")
@pytest.mark.parametrize("name", ["plain", "bind"])
def test_one_parity_goes_first(name: str) -> None:
    """The search is that of IPv4: all even ports, then the odd ones, then none."""
    samples = measure6(name, attempts=PORTS + 1)
    assert {port % 2 for port in samples.port[: PORTS // 2].tolist()} == {0}
    assert {port % 2 for port in samples.port[PORTS // 2 : PORTS].tolist()} == {1}
    assert samples.errno.tolist() == [0] * PORTS + [errno.EADDRNOTAVAIL]


@pytest.mark.usefixtures("each_loop")
@pytest.mark.parametrize("listener", [Listener.BACKLOG, Listener.ACCEPT])
@pytest.mark.parametrize(("name", "window"), [("random", None), ("range", None), ("partition", 4)])
def test_every_strategy_finds_every_port(name: str, window: int | None, listener: Listener) -> None:
    """Ports drawn, or searched in all of the range or in windows of it: all of them are taken, with every listener."""
    samples = measure6(name, window, listener=listener)
    assert sorted(samples.port.tolist()) == list(range(LOW, LOW + PORTS))


@pytest.mark.usefixtures("each_loop")
@needs_port_range
def test_windows_are_kept_to() -> None:
    """IP_LOCAL_PORT_RANGE works on a socket of IPv6: one window of a partition is used up before the next."""
    ports = measure6("partition", 4).port.tolist()
    assert [sorted(ports[i : i + 4]) for i in range(0, PORTS, 4)] == [
        list(range(LOW + i, LOW + i + 4)) for i in range(0, PORTS, 4)
    ]


OFF = ("--sysctl", f"{DISABLE_IPV6}=1")
NO_IPV6_HERE = "IPv6 is switched off in the host's namespace: its loopback interface has no address ::1"
NO_IPV6 = "this kernel has no IPv6, or was booted with ipv6.disable=1"


@pytest.mark.parametrize(
    ("inside", "asked", "refusal"),
    [
        (OFF, ("--family", "6"), None),
        (OFF, ("--target", f"[::1]:{LOW - 1}", "--listener", "backlog"), None),
        (OFF, ("--family", "6", "--isolate", "never"), NO_IPV6_HERE),
        ((*OFF, "--deny", "unshare"), ("--source", "::1"), NO_IPV6_HERE),
        (("--nofile", "64"), ("--family", "6", "--isolate", "never"), None),
        (("--deny", "ipv6"), ("--family", "6"), NO_IPV6),
        (("--deny", "ipv6"), ("--target", "[::1]:9"), NO_IPV6),
    ],
)
def test_ipv6_counts_in_the_namespace_that_is_used(
    inside: tuple[str, ...], asked: tuple[str, ...], refusal: str | None
) -> None:
    """Where the host has it off, a new namespace has it; the host's own and a kernel without it are refused."""
    finished = connbench("run", "-q", "-n", "4", "--strategy", "bind", *asked, inside=inside)
    if refusal is None:
        assert finished.returncode == ExitCode.OK, finished.stderr
        assert "connection attempts: 4 errored: 0 total: 4" in finished.stdout
    else:
        assert (finished.returncode, finished.stdout) == (ExitCode.ENVIRONMENT, "")
        fault, advice = finished.stderr.splitlines()
        assert fault == f"connbench: {refusal}"
        assert "use addresses of IPv4" in advice


def test_a_new_namespace_that_inherits_no_ipv6_has_it_all_the_same() -> None:
    """net.core.devconf_inherit_init_net and ipv6.disable_ipv6=1 make one that begins with IPv6 switched off."""

    def work() -> bool:
        enter_new_namespace(NAMESPACE)
        sysctl.write(DISABLE_IPV6, "1")
        bring_up_loopback()
        return has_ipv6_here()

    assert in_child(work, "not tried", "")
