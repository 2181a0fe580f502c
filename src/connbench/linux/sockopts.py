"""The two socket options the strategies rest on, by number: Python knows neither (ip(7), include/uapi/linux/in.h)."""

from __future__ import annotations

import errno
import socket
import struct
from dataclasses import dataclass

from connbench.strategies import Strategy

IP_BIND_ADDRESS_NO_PORT = 24
IP_LOCAL_PORT_RANGE = 51

ON = struct.pack("=i", 1)
pack_u32 = struct.Struct("=I").pack
"""IP_LOCAL_PORT_RANGE takes one native u32, `low | high << 16`."""


@dataclass(frozen=True, slots=True)
class SocketOption:
    """An option at level SOL_IP, the kernel that brought it, and a harmless value to probe it with."""

    name: str
    number: int
    since: str
    harmless: bytes


NO_PORT = SocketOption("IP_BIND_ADDRESS_NO_PORT", IP_BIND_ADDRESS_NO_PORT, "4.2", ON)
LOCAL_PORT_RANGE = SocketOption("IP_LOCAL_PORT_RANGE", IP_LOCAL_PORT_RANGE, "6.3", pack_u32(0))
OPTIONS = {option.name: option for option in (NO_PORT, LOCAL_PORT_RANGE)}


def options_of(strategy: Strategy) -> tuple[SocketOption, ...]:
    """The options without which a strategy cannot run."""
    return tuple(OPTIONS[name] for name in strategy.needs)


def is_supported(option: SocketOption) -> bool:
    """Whether this kernel has the option: asked by setting it, never by version, for distributions backport.

    Raises:
        OSError: The kernel refused for another reason than not knowing the option.
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
    """SO_SNDTIMEO's struct timeval: a blocking connect() honours it without becoming a poll loop."""
    whole = int(seconds)
    return struct.pack("@ll", whole, int((seconds - whole) * 1_000_000))


LINGER_RESET = struct.pack("@ii", 1, 0)
"""SO_LINGER on, 0 s: close() sends a reset and leaves no TIME_WAIT."""
