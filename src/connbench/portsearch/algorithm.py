"""Which search of connect() is modelled."""

from __future__ import annotations

from enum import Enum

from connbench.release import ONE_STEP_SINCE, version_of


class Algorithm(Enum):
    """The order in which `__inet_hash_connect` (net/ipv4/inet_hashtables.c) looks at ports; UDP has one alone."""

    PRE_6_8 = "every second port, with IP_LOCAL_PORT_RANGE too: Linux 4.6 (1580ab63fc9a) until 6.8"
    """The parity of the low end is looked at wholly before the other, in the range or in the option's window."""

    FROM_6_8 = "every second port, but every port where IP_LOCAL_PORT_RANGE is set: Linux 6.8 and later (207184853dbd)"
    """Setting the option gives up the preference of a parity."""

    REJECTED_PATCH = "every port, option or not: never merged"
    """What a switch for 'all ports at once' in connect() would do to programs that set no option.

    It stands for what was asked of the kernel and refused. "tcp: avoid unnecessary loop if even ports are used up"
    (netdev, February 2021), refused as well, kept the parities apart: it went through a sixteenth of the first while
    the last port had come from the second.
    """

    def prefers_parity(self, *, has_option: bool) -> bool:
        """Whether one parity is looked at wholly before the other.

        Args:
            has_option: Whether the socket has IP_LOCAL_PORT_RANGE set.
        """
        return self is Algorithm.PRE_6_8 or (self is Algorithm.FROM_6_8 and not has_option)


ALGORITHMS = {
    "pre-6.8": Algorithm.PRE_6_8,
    "6.8": Algorithm.FROM_6_8,
    "rejected-patch": Algorithm.REJECTED_PATCH,
}
"""By the word that the command line has for each."""


def algorithm_of(kernel: str) -> Algorithm:
    """The search of a kernel by its release, `6.1.0-13-amd64`; that of 6.8 where the release says nothing.

    Distributions backport: a kernel that behaves as a later one has to be told from outside.
    """
    version = version_of(kernel)
    return Algorithm.PRE_6_8 if version and version < ONE_STEP_SINCE else Algorithm.FROM_6_8
