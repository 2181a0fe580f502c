"""The kernel that is advised for: this one, asked itself, or another one, by its release."""

from __future__ import annotations

from dataclasses import replace

from connbench.advise.kernels import Kernel, kernel_of
from connbench.errors import EnvironmentFault, UsageError
from connbench.linux import sysctl
from connbench.linux.port_search import searches_one_parity_first
from connbench.linux.sockopts import LOCAL_PORT_RANGE, is_supported
from connbench.model import parse_ports
from connbench.model.time_wait import SETTINGS, TimeWait
from connbench.portmodel.algorithm import ALGORITHMS, Algorithm

OLDEST, NEWEST = (2, 6), (99, 99)
"""What is taken for a release: of an older one nothing is known here, and a newer one does not exist."""


def read_kernel(text: str, backported: frozenset[str] = frozenset()) -> Kernel:
    """Read `6.1`, or a release as `uname -r` prints it."""
    found = kernel_of(text.strip(), backported)
    if found is None or not OLDEST <= found.version <= NEWEST:
        raise UsageError(f"--kernel {text!r} is not a release of Linux", "for example 5.10, 6.1.0-13-amd64 or 6.12")
    return found


def time_wait_of(kernel: Kernel, tw_reuse: int | None, *, is_here: bool) -> tuple[TimeWait, str]:
    """When a port in TIME_WAIT may be taken again, and where tcp_tw_reuse is known from, in words."""
    found = TimeWait.of(sysctl.read_all(SETTINGS)) if is_here else TimeWait(kernel.tw_reuse)
    if tw_reuse is not None:
        return replace(found, reuse=tw_reuse), "as told"
    return found, "this host" if is_here else "default"


def search_of(kernel: Kernel, algorithm: str | None, *, is_here: bool, is_udp: bool) -> tuple[Algorithm, str]:
    """The search of connect(), and how it is known where that has to be told."""
    if algorithm:
        return ALGORITHMS[algorithm], ""
    # Without the option all kernels search alike, from 4.6 on.
    if not is_here or is_udp or not is_supported(LOCAL_PORT_RANGE):
        return kernel.algorithm, ""
    try:
        return Algorithm.PRE_6_8 if searches_one_parity_first() else Algorithm.FROM_6_8, " (probed)"
    except EnvironmentFault:
        return kernel.algorithm, " (by its release, for it cannot be probed here)"


def reserved_here() -> frozenset[int]:
    """The ports that this host reserves."""
    return parse_ports(sysctl.read_all((sysctl.RESERVED_PORTS,)).get(sysctl.RESERVED_PORTS, ""))
