"""What a kernel has, by its release: the search of connect(), the socket options, the default of tcp_tw_reuse.

What a distribution has backported does not show in a version. What is known of that stands here; the rest has to be
told (`--backported`, `--algorithm`), and `Kernel.doubt` says so.
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

OF_6_1 = re.compile(r"6\.1\.(\d+)(?:-(\d{1,2})-)?")
STABLE_WITH_RANGE, DEBIAN_ABI_WITH_RANGE = 32, 10
"""6.1.32 has IP_LOCAL_PORT_RANGE (6728486447ee of linux-6.1.y), not the step of 6.8. Debian names its 6.1 kernels
6.1.0-ABI-ARCHITECTURE: ABI 9 is 6.1.27, ABI 10 is 6.1.37. Numbers of four
digits are Ubuntu's (6.1.0-1010-oem), which say nothing of the stable release."""

OF_RED_HAT = re.compile(r"\.el(\d+)")


@dataclass(frozen=True, slots=True)
class Kernel:
    """What is known of a kernel by its release.

    Attributes:
        release: As `uname -r` prints it, or major and minor alone.
        version: Major and minor.
        algorithm: The search of connect().
        options: Names of the socket options it has.
        tw_reuse: Its default of net.ipv4.tcp_tw_reuse.
        doubt: What is not known of it, as a sentence; empty where nothing is in doubt.
    """

    release: str
    version: tuple[int, int]
    algorithm: Algorithm
    options: frozenset[str]
    tw_reuse: int
    doubt: str = ""

    @property
    def port_range(self) -> PortRange:
        """Its default of net.ipv4.ip_local_port_range: 07f4c90062f8 made the ends' parities differ."""
        return PortRange(32768, 61000 if self.algorithm is Algorithm.PRE_4_2 else 60999)


def kernel_of(release: str, backported: frozenset[str] = frozenset()) -> Kernel | None:
    """What a release says; None where it is none.

    Args:
        release: As `uname -r` prints it, or major and minor alone.
        backported: Names of options that it has whatever its release.
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
    """What a kernel without IP_LOCAL_PORT_RANGE may have all the same."""
    if version == (6, 1) and not OF_6_1.match(release):
        return f"6.1.{STABLE_WITH_RANGE} and later of 6.1 have {LOCAL_PORT_RANGE.name}: name all of the release"
    if OF_EL7.match(release):
        return (
            "whether el7 has the walk of 4.6 (1580ab63fc9a), or IP_BIND_ADDRESS_NO_PORT, is not known here:"
            " --algorithm and --backported say so"
        )
    red_hat = OF_RED_HAT.search(release)
    if red_hat:
        return (
            f"whether el{red_hat[1]} has {LOCAL_PORT_RANGE.name} by a backport is not known here: --backported says so"
        )
    return ""


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
