"""Reset a connection at the listener's end (SOCK_DESTROY), so that its port becomes free only once both ends are gone.

close() with SO_LINGER 0 frees the port before it sends the RST: tcp_disconnect() in net/ipv4/tcp.c calls
tcp_set_state(), which frees the port, and then tcp_send_active_reset(). If another process connects from that port in
between, on another CPU or because this process is preempted, its SYN meets the old connection at the listener's end.
While that end is established, it answers with a challenge ACK, and the SYN is sent again after two jiffies. While the
RST is closing that end, it drops the SYN (tcp_rcv_state_process() in TCP_CLOSE), which is sent again after a second.
SOCK_DESTROY at the listener's end reverses the order: that end is gone before its RST frees the port.
"""

from __future__ import annotations

import _socket
import errno
import socket
import struct
from contextlib import nullcontext
from typing import Any, Protocol, Self

from connbench.linux.address_family import family_of
from connbench.linux.namespace import in_namespace
from connbench.linux.netlink import (
    ANY,
    ERROR_AT,
    HEADER,
    NETLINK_SOCK_DIAG,
    NLM_F_ACK,
    NLM_F_REQUEST,
    REQUEST,
    SOCK_DESTROY,
)


class Connected(Protocol):
    """A socket that tells the addresses of its two ends."""

    def getsockname(self) -> Any:  # noqa: ANN401  # as _socket.socket has it: of IPv4 a pair, of IPv6 four values
        """The address of its own end."""

    def getpeername(self) -> Any:  # noqa: ANN401  # as above
        """The address of the other end."""


class PeerReset:
    """Resets connections at their other end, as long as this kernel supports it.

    The kernel needs CONFIG_INET_DIAG_DESTROY. The caller needs CAP_NET_ADMIN over the network namespace in which this
    object is made, which must be the listener's.

    Attributes:
        has_worked: Whether it has reset a connection.
        is_refused: Whether the kernel does not support it.
    """

    def __init__(self) -> None:
        self._netlink = _socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, NETLINK_SOCK_DIAG)
        self.has_worked = False
        self.is_refused = False

    @classmethod
    def of(cls, listening: int | None) -> Self | None:
        """One for a listener in the namespace of a descriptor, or in this one; None if the kernel has no sock_diag."""
        try:
            with nullcontext() if listening is None else in_namespace(listening):
                return cls()
        except OSError:
            return None

    @property
    def descriptor(self) -> int:
        """The netlink socket."""
        return self._netlink.fileno()

    def __call__(self, connection: Connected) -> bool:
        """Reset a connection at its other end; returns whether the kernel did it.

        On return this end has received the RST, unless the kernel left that to ksoftirqd.
        """
        if self.is_refused:
            return False
        try:
            near, far = connection.getsockname(), connection.getpeername()
        except OSError:  # ENOTCONN: it is reset already
            return False
        family = family_of(near[0])
        (far_address, far_port), (near_address, near_port) = (_packed(family, end) for end in (far, near))
        request = REQUEST.pack(
            family, socket.IPPROTO_TCP, 0, ANY, far_port, near_port, far_address, near_address, 0, ANY, ANY
        )
        flags = NLM_F_REQUEST | NLM_F_ACK
        self._netlink.send(HEADER.pack(HEADER.size + len(request), SOCK_DESTROY, flags, 0, 0) + request)
        number: int
        (number,) = struct.unpack_from("=i", self._netlink.recv(4096), ERROR_AT)
        if number == 0:
            self.has_worked = True
        elif number != -errno.ENOENT or not self.has_worked:
            # The kernel answers ENOENT for a connection that is gone, and also if it has no tcp_diag. In that case it
            # searches for the module at each request, which takes milliseconds.
            self.is_refused = True
        return number == 0


def _packed(family: int, end: Any) -> tuple[bytes, bytes]:  # noqa: ANN401  # as above
    """The address of an end, padded to 16 bytes, and its port, both in network byte order."""
    return socket.inet_pton(family, end[0]).ljust(16, b"\0"), struct.pack("!H", end[1])
