"""The socket options that strategies use, by number: Python lacks both (ip(7), include/uapi/linux/in.h)."""

from __future__ import annotations

import errno
import socket
import struct
from contextlib import suppress
from dataclasses import dataclass

from connbench.strategies import Strategy

IP_BIND_ADDRESS_NO_PORT = 24
IP_LOCAL_PORT_RANGE = 51

ON = struct.pack("=i", 1)
pack_u32 = struct.Struct("=I").pack
"""IP_LOCAL_PORT_RANGE takes one native u32, `low | high << 16`."""


@dataclass(frozen=True, slots=True)
class SocketOption:
    """A socket option at level SOL_IP.

    Attributes:
        name: Its name in ip(7).
        number: Its number.
        since: The first Linux version that has it.
        harmless: A value that `is_supported` can set.
    """

    name: str
    number: int
    since: str
    harmless: bytes


NO_PORT = SocketOption("IP_BIND_ADDRESS_NO_PORT", IP_BIND_ADDRESS_NO_PORT, "4.2", ON)
LOCAL_PORT_RANGE = SocketOption("IP_LOCAL_PORT_RANGE", IP_LOCAL_PORT_RANGE, "6.3", pack_u32(0))
OPTIONS = {option.name: option for option in (NO_PORT, LOCAL_PORT_RANGE)}


def options_of(strategy: Strategy) -> tuple[SocketOption, ...]:
    """The options that a strategy needs."""
    return tuple(OPTIONS[name] for name in strategy.needs)


def is_supported(option: SocketOption) -> bool:
    """Whether this kernel has an option. This sets it: the version does not tell, as distributions backport options.

    Raises:
        OSError: The kernel refused for another reason than not to have the option.
    """
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        try:
            probe.setsockopt(socket.SOL_IP, option.number, option.harmless)
        except OSError as error:
            if error.errno == errno.ENOPROTOOPT:
                return False
            raise
    return True


def pack_timeout(seconds: float) -> bytes:
    """The struct timeval for SO_SNDTIMEO, which limits a blocking connect() without a further system call.

    The least is 1 µs, as 0 would be no limit.
    """
    return struct.pack("@ll", *divmod(max(1, int(seconds * 1_000_000)), 1_000_000))


LINGER_RESET = struct.pack("@ii", 1, 0)
"""SO_LINGER with 0 s: close() sends a reset, and leaves no TIME_WAIT."""


def reuse_address(listening: socket.socket) -> None:
    """Let a socket listen on a port on which another has listened.

    In the host's namespace the rounds share the listener's port. Where the kernel is still closing the connections of
    the round before, bind() fails without SO_REUSEADDR. A port on which a program listens stays refused. In a sandbox
    without setsockopt() a round goes on without it.
    """
    with suppress(OSError):
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
