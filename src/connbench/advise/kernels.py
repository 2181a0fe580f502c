"""What a kernel has, by its release: the search of connect(), the socket options, the default of tcp_tw_reuse.

What a distribution has backported does not show in a version. What is known of that stands here; the rest has to be
told (`--backported`, `--algorithm`), and `Kernel.doubt` says so.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from connbench.kernel_release import version_of
from connbench.linux.sockopts import LOCAL_PORT_RANGE, NO_PORT
from connbench.model import PortRange
from connbench.model.time_wait import NEVER, ON_LOOPBACK, ON_LOOPBACK_SINCE
from connbench.portmodel.algorithm import OF_EL7, Algorithm, algorithm_of

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
