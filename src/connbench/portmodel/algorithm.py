"""The searches of connect() that the model knows, and which kernel has which."""

from __future__ import annotations

import re
from enum import Enum

from connbench.kernel_release import ONE_STEP_SINCE, PARITY_WALK_SINCE, version_of


class Algorithm(Enum):
    """The order in which `__inet_hash_connect` (net/ipv4/inet_hashtables.c) probes ports; UDP has a single order."""

    PRE_4_2 = "every port, from the one after the last that was found: Linux before 4.2"
    """No parity is preferred; there is neither IP_BIND_ADDRESS_NO_PORT nor IP_LOCAL_PORT_RANGE."""

    FROM_4_2 = "every port, from an even distance to the low end on: Linux 4.2 (07f4c90062f8) until 4.6"
    """A search begins at a port of the low end's parity; if that is in use, it goes on to the next port."""

    PRE_6_8 = "every second port, with IP_LOCAL_PORT_RANGE too: Linux 4.6 (1580ab63fc9a) until 6.8"
    """All ports of the low end's parity are probed before the others, in the range or in the option's window."""

    FROM_6_8 = "every second port, but every port where IP_LOCAL_PORT_RANGE is set: Linux 6.8 and later (207184853dbd)"
    """With the option set, no parity comes first."""

    REJECTED_PATCH = "every port, option or not: never merged"
    """No parity comes first for programs that set no option: a switch that was proposed and rejected.

    Another rejected patch, "tcp: avoid unnecessary loop if even ports are used up" (netdev, February 2021), is not
    this one: it kept the parities apart, and probed a sixteenth of the first if the last port came from the second.
    """

    def prefers_parity(self, *, has_option: bool) -> bool:
        """Whether all ports of one parity are probed before the others.

        Args:
            has_option: Whether the socket has IP_LOCAL_PORT_RANGE set.
        """
        return self is Algorithm.PRE_6_8 or (self is Algorithm.FROM_6_8 and not has_option)

    @property
    def release(self) -> str:
        """A release of Linux whose search tries the parities in this order."""
        return {Algorithm.PRE_6_8: "6.7", Algorithm.FROM_6_8: "6.8"}.get(self, "4.2")


ALGORITHMS = {
    "pre-4.2": Algorithm.PRE_4_2,
    "4.2": Algorithm.FROM_4_2,
    "pre-6.8": Algorithm.PRE_6_8,
    "6.8": Algorithm.FROM_6_8,
    "rejected-patch": Algorithm.REJECTED_PATCH,
}
"""Each search by its name on the command line."""

BY_VERSION = (
    (ONE_STEP_SINCE, Algorithm.FROM_6_8),
    (PARITY_WALK_SINCE, Algorithm.PRE_6_8),
    ((4, 2), Algorithm.FROM_4_2),
)
"""The first Linux of each search, the latest first: 207184853dbd, 1580ab63fc9a, 07f4c90062f8."""

OF_EL7 = re.compile(r"3\.10\.0-(\d+)\b.*\.el7")
EVEN_FIRST_IN_EL7 = 514
"""Reported of CentOS 7.3's kernel 3.10.0-514.16.1.el7: connect() uses ports of one parity (CentOS's mailing list, 24
May 2017, "local ephemeral ports usage and distribution"). Whether it probes all of that parity first, as 4.6 does, is
unknown."""


def algorithm_of(kernel: str) -> Algorithm:
    """The search of a kernel by its release, `6.1.0-13-amd64`; that of 6.8 if the release has no version.

    Distributions backport searches. This function knows few such kernels; the user names the search of others.
    """
    version = version_of(kernel)
    if version is None:
        return Algorithm.FROM_6_8
    el7 = OF_EL7.match(kernel)
    if el7 and int(el7[1]) >= EVEN_FIRST_IN_EL7:
        return Algorithm.FROM_4_2
    return next((search for first, search in BY_VERSION if version >= first), Algorithm.PRE_4_2)
