"""The sockets of a network namespace, as columns."""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Sequence
from dataclasses import dataclass, fields
from enum import IntEnum
from typing import Any, Final, Self

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]
Indices = npt.NDArray[np.intp]
Mask = npt.NDArray[np.bool_]

WORD_BITS = 64
UNKNOWN = -1
"""The time left of a timer that is not known, or is not that of TIME_WAIT."""

PROTOCOLS: Final = {socket.IPPROTO_TCP: "tcp", socket.IPPROTO_UDP: "udp"}


class State(IntEnum):
    """The state of a socket (include/net/tcp_states.h). A connected UDP socket is ESTABLISHED, another one CLOSE."""

    ESTABLISHED = 1
    SYN_SENT = 2
    SYN_RECV = 3
    FIN_WAIT1 = 4
    FIN_WAIT2 = 5
    TIME_WAIT = 6
    CLOSE = 7
    CLOSE_WAIT = 8
    LAST_ACK = 9
    LISTEN = 10
    CLOSING = 11
    NEW_SYN_RECV = 12
    BOUND_INACTIVE = 13
    """Bound to a port, but neither connected nor listening. Kernels before 6.8 do not report such sockets."""


STATE_NAMES: Final = {
    State.ESTABLISHED: "ESTAB",
    State.SYN_SENT: "SYN-SENT",
    State.SYN_RECV: "SYN-RECV",
    State.FIN_WAIT1: "FIN-WAIT-1",
    State.FIN_WAIT2: "FIN-WAIT-2",
    State.TIME_WAIT: "TIME-WAIT",
    State.CLOSE: "UNCONN",
    State.CLOSE_WAIT: "CLOSE-WAIT",
    State.LAST_ACK: "LAST-ACK",
    State.LISTEN: "LISTEN",
    State.CLOSING: "CLOSING",
    State.NEW_SYN_RECV: "SYN-RECV",
    State.BOUND_INACTIVE: "BOUND-INACTIVE",
}
"""The states as `ss` prints them."""

COLUMNS: Final[dict[str, tuple[type[np.generic], tuple[int, ...]]]] = {
    "protocol": (np.uint8, ()),
    "family": (np.uint8, ()),
    "state": (np.uint8, ()),
    "expires_ms": (np.int32, ()),
    "interface": (np.uint32, ()),
    "local": (np.uint64, (2,)),
    "remote": (np.uint64, (2,)),
    "local_port": (np.uint16, ()),
    "remote_port": (np.uint16, ()),
    "inode": (np.uint64, ()),
    "cookie": (np.uint64, ()),
}
"""The type of each column, and the shape of one value."""


@dataclass(frozen=True, slots=True, eq=False)
class Sockets:
    """Sockets, a value of each array for each socket.

    Attributes:
        protocol: IPPROTO_TCP or IPPROTO_UDP, uint8.
        family: 4 or 6, uint8. An IPv6 socket with IPv4-mapped addresses is one of IPv4: it takes IPv4's ports.
        state: A `State`, uint8.
        expires_ms: What is left of TIME_WAIT's timer, int32; UNKNOWN for other timers.
        interface: The index of the device that the socket is bound to, or of a link-local address; 0 for none, uint32.
        local: The address, two words each (see `address_words`), uint64.
        remote: Likewise, of the other end.
        local_port: Its port, uint16.
        remote_port: The port of the other end, uint16; 0 without another end.
        inode: The inode of its file, by which /proc names its process, uint64; 0 without one, as in TIME_WAIT.
        cookie: The number that the kernel gave the socket, uint64; 0 if that is not known.
    """

    protocol: Array
    family: Array
    state: Array
    expires_ms: Array
    interface: Array
    local: Array
    remote: Array
    local_port: Array
    remote_port: Array
    inode: Array
    cookie: Array

    @classmethod
    def of(cls, **columns: npt.ArrayLike) -> Self:
        """Make sockets of columns; all have as many values as `local_port`, and those that are missing are 0.

        Raises:
            ValueError: A column has another number of values.
        """
        number = len(np.asarray(columns["local_port"]))
        made = {}
        for name, (kind, shape) in COLUMNS.items():
            empty = UNKNOWN if name == "expires_ms" else 0
            values = np.asarray(columns.get(name, np.full((number, *shape), empty)), dtype=kind)
            if values.shape != (number, *shape):
                raise ValueError(f"{name} has the shape {values.shape}, not {(number, *shape)}")
            made[name] = values
        return cls(**made)

    @classmethod
    def empty(cls) -> Self:
        """No sockets."""
        return cls.of(local_port=())

    @classmethod
    def concatenate(cls, parts: Sequence[Sockets]) -> Self:
        """The sockets of all parts, in their order."""
        if not parts:
            return cls.empty()
        return cls(**{one.name: np.concatenate([getattr(part, one.name) for part in parts]) for one in fields(cls)})

    def __len__(self) -> int:
        return len(self.local_port)

    def __getitem__(self, chosen: Mask | Indices) -> Self:
        """Some of the sockets, by a mask or by indices."""
        return type(self)(**{one.name: getattr(self, one.name)[chosen] for one in fields(self)})


def address_text(family: int, words: Sequence[int] | Array) -> str:
    """An address in its usual form.

    Args:
        family: 4 or 6.
        words: Its two words.
    """
    high, low = int(words[0]), int(words[1])
    return str(ipaddress.IPv4Address(low) if family == 4 else ipaddress.IPv6Address(high << WORD_BITS | low))


def address_words(text: str) -> tuple[int, tuple[int, int]]:
    """The family of an address, 4 or 6, and the address as two words of 64 bits, the high one first.

    An IPv4-mapped address is the IPv4 address; IPv4 has its 32 bits in the second word.

    Raises:
        ValueError: The text is no address.
    """
    address = ipaddress.ip_address(text)
    if isinstance(address, ipaddress.IPv6Address):
        if address.ipv4_mapped is None:
            return 6, (int(address) >> WORD_BITS, int(address) & (1 << WORD_BITS) - 1)
        address = address.ipv4_mapped
    return 4, (0, int(address))
