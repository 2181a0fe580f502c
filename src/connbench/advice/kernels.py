"""The kernel that advice is for: this host's, which is probed, or another one, known by its release.

A release says which search, socket options and defaults a kernel has, but not what a distribution has backported. This
module knows some backports; the user names the others (`--backported`, `--algorithm`), and `Kernel.doubt` asks for it.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace

from connbench.errors import EnvironmentFault, UsageError
from connbench.kernel_release import version_of
from connbench.linux import sysctl
from connbench.linux.port_search import searches_one_parity_first
from connbench.linux.sockopts import LOCAL_PORT_RANGE, NO_PORT, is_supported
from connbench.model import PortRange, parse_ports
from connbench.model.time_wait import NEVER, ON_LOOPBACK, ON_LOOPBACK_SINCE, SETTINGS, TimeWait
from connbench.portmodel.algorithm import ALGORITHMS, OF_EL7, Algorithm, algorithm_of

OPTIONS = (NO_PORT, LOCAL_PORT_RANGE)
"""The socket options on which advice depends."""

OLDEST, NEWEST = (2, 6), (99, 99)
"""The releases that are read: connbench knows nothing about older kernels, and there are no newer ones."""

OF_6_1 = re.compile(r"6\.1\.(\d+)(?:-(\d{1,2})-)?")
STABLE_WITH_RANGE, DEBIAN_ABI_WITH_RANGE = 32, 10
"""6.1.32 has IP_LOCAL_PORT_RANGE (6728486447ee of linux-6.1.y), but not the search of 6.8. Debian names its 6.1 kernels
6.1.0-ABI-ARCHITECTURE: ABI 9 is 6.1.27, ABI 10 is 6.1.37. Numbers of four digits are Ubuntu's (6.1.0-1010-oem): they
say nothing about the stable release."""

OF_RED_HAT = re.compile(r"\.el(\d+)")


@dataclass(frozen=True, slots=True)
class Kernel:
    """What the release of a kernel says about it.

    Attributes:
        release: As `uname -r` prints it, or major and minor version alone.
        version: Major and minor version.
        algorithm: The port search of connect().
        options: Names of the socket options that it has.
        tw_reuse: Its default of net.ipv4.tcp_tw_reuse.
        doubt: What the release does not say, and what to do, as a sentence; empty if nothing is in doubt.
    """

    release: str
    version: tuple[int, int]
    algorithm: Algorithm
    options: frozenset[str]
    tw_reuse: int
    doubt: str = ""

    @property
    def port_range(self) -> PortRange:
        """Its default of net.ipv4.ip_local_port_range: from 07f4c90062f8 on the ends have different parities."""
        return PortRange(32768, 61000 if self.algorithm is Algorithm.PRE_4_2 else 60999)


def read_kernel(text: str, backported: frozenset[str] = frozenset()) -> Kernel:
    """Read `6.1`, or a release as `uname -r` prints it.

    Args:
        text: The value of `--kernel`.
        backported: Names of further options that the kernel has.

    Raises:
        UsageError: The text is not the release of a Linux kernel from 2.6 on.
    """
    found = kernel_of(text.strip(), backported)
    if found is None or not OLDEST <= found.version <= NEWEST:
        raise UsageError(f"--kernel {text!r} is not a release of Linux", "for example 5.10, 6.1.0-13-amd64 or 6.12")
    return found


def kernel_of(release: str, backported: frozenset[str] = frozenset()) -> Kernel | None:
    """What a release says about a kernel; None if the text is not a release.

    Args:
        release: As `uname -r` prints it, or major and minor version alone.
        backported: Names of options that it has in addition to those of its version.
    """
    version = version_of(release)
    if version is None:
        return None
    options = {one.name for one in OPTIONS if version >= tuple(map(int, one.since.split(".")))}
    if _is_stable_with_range(release):
        options.add(LOCAL_PORT_RANGE.name)
    tw_reuse = ON_LOOPBACK if version >= ON_LOOPBACK_SINCE else NEVER
    doubt = "" if LOCAL_PORT_RANGE.name in options | backported else _doubt(release, version)
    return Kernel(release, version, algorithm_of(release), frozenset(options | backported), tw_reuse, doubt)


def _is_stable_with_range(release: str) -> bool:
    found = OF_6_1.match(release)
    if found is None:
        return False
    patch, abi = int(found[1]), int(found[2] or 0)
    return patch >= STABLE_WITH_RANGE or (patch == 0 and abi >= DEBIAN_ABI_WITH_RANGE)


def _doubt(release: str, version: tuple[int, int]) -> str:
    """What a kernel may have although its version lacks it."""
    if version == (6, 1) and not OF_6_1.match(release):
        return f"6.1.{STABLE_WITH_RANGE} and later of 6.1 have {LOCAL_PORT_RANGE.name}: give --kernel the whole release"
    if OF_EL7.match(release):
        return (
            "el7 may have the search of 4.6 (1580ab63fc9a) and IP_BIND_ADDRESS_NO_PORT: if it has, give --algorithm and"
            " --backported"
        )
    red_hat = OF_RED_HAT.search(release)
    if red_hat:
        return f"el{red_hat[1]} may have backported {LOCAL_PORT_RANGE.name}: if it has, give --backported"
    return ""


def options_here() -> frozenset[str]:
    """Names of the socket options that this host's kernel has."""
    return frozenset(option.name for option in OPTIONS if is_supported(option))


def time_wait_of(kernel: Kernel, tw_reuse: int | None, *, is_here: bool) -> tuple[TimeWait, str]:
    """The settings of TIME_WAIT, and where tcp_tw_reuse comes from, in words.

    Args:
        kernel: The kernel that advice is for.
        tw_reuse: The value of `--tcp-tw-reuse`; None for the kernel's.
        is_here: Whether the kernel is this host's: its sysctls are read.
    """
    found = TimeWait.of(sysctl.read_all(SETTINGS)) if is_here else TimeWait(kernel.tw_reuse)
    if tw_reuse is not None:
        return replace(found, reuse=tw_reuse), "--tcp-tw-reuse"
    return found, "this host" if is_here else "default"


def search_of(kernel: Kernel, algorithm: str | None, *, is_here: bool, is_udp: bool) -> tuple[Algorithm, str]:
    """The port search of connect(), and how it is known, in words; empty where that goes without saying.

    Args:
        kernel: The kernel that advice is for.
        algorithm: The value of `--algorithm`; None for the kernel's.
        is_here: Whether the kernel is this host's: its search is probed.
        is_udp: Whether the sockets are UDP's, which do not use this search.
    """
    if algorithm:
        return ALGORITHMS[algorithm], ""
    # From 4.6 on all kernels without IP_LOCAL_PORT_RANGE have the same search: there is nothing to probe.
    if not is_here or is_udp or not is_supported(LOCAL_PORT_RANGE):
        return kernel.algorithm, ""
    try:
        return Algorithm.PRE_6_8 if searches_one_parity_first() else Algorithm.FROM_6_8, " (probed)"
    except EnvironmentFault:
        return kernel.algorithm, " (by its release: connbench cannot probe it here)"


def reserved_here() -> frozenset[int]:
    """The ports that this host reserves (net.ipv4.ip_local_reserved_ports)."""
    return parse_ports(sysctl.read_all((sysctl.RESERVED_PORTS,)).get(sysctl.RESERVED_PORTS, ""))
