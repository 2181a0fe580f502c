"""Decodes what the kernel says of all TCP and UDP sockets of a network namespace (NETLINK_SOCK_DIAG, sock_diag(7)).

The kernel answers with a message for each socket. numpy decodes a megabyte of messages at a time: Python takes no step
for a socket, and what is not decoded yet takes little memory.
"""

from __future__ import annotations

import errno
import platform
import socket
from contextlib import suppress
from pathlib import Path

import numpy as np
import numpy.typing as npt

from connbench.errors import EnvironmentFault, reason_of
from connbench.inspect.snapshot import Settings
from connbench.inspect.sockets import COLUMNS, UNKNOWN, Array, Indices, Mask, Sockets, State
from connbench.linux import sysctl
from connbench.linux.faults import limit_fault
from connbench.linux.netlink import HEADER, NLM_F_DUMP_INTR
from connbench.linux.sock_dump import SEQUENCE, Request, SockDump
from connbench.model import PortRange, parse_ports
from connbench.model.time_wait import SETTINGS, TimeWait

ROOM = 1 << 17
"""Sockets for which there is room at first."""

TRIES = 3
"""How often a dump is read from the beginning if the kernel could not complete it."""

DIAG = np.dtype(
    [
        ("header", "V16"),
        ("family", "u1"),
        ("state", "u1"),
        ("timer", "u1"),
        ("retrans", "u1"),
        ("local_port", ">u2"),
        ("remote_port", ">u2"),
        ("local", ">u8", 2),
        ("remote", ">u8", 2),
        ("interface", "u4"),
        ("cookie", "u4", 2),
        ("expires_ms", "u4"),
        ("queues", "u4", 2),
        ("uid", "u4"),
        ("inode", "u4"),
    ]
)
"""struct nlmsghdr and struct inet_diag_msg. Attributes follow, which no column needs."""

TIMER_TIME_WAIT = 3
SHORTEST = HEADER.size // 4
"""The words of a message that is a header alone."""

MAPPED = 0xFFFF
"""The high half of the low word of an IPv4-mapped address; the high word is 0 (RFC 4291, section 2.5.5.2)."""

Words = npt.NDArray[np.uint32]

_AGAIN = {errno.ENOBUFS, errno.EINTR}
_NO_DUMP = {
    errno.ENOENT,
    errno.EOPNOTSUPP,
    errno.EPROTONOSUPPORT,
    errno.EAFNOSUPPORT,
    errno.EPERM,
    errno.EACCES,
    errno.ENOSYS,
}
"""Without the modules tcp_diag, udp_diag and inet_diag, in a kernel that is not Linux's own, and in a sandbox."""


def dump_sockets() -> Sockets:
    """All TCP and UDP sockets of the network namespace that this thread is in; see `read_sockets`."""
    return read_sockets(SockDump())[0]


def read_sockets(dump: SockDump) -> tuple[Sockets, str]:
    """All TCP and UDP sockets of the network namespace that this thread is in.

    Kernels before 6.8 do not list TCP sockets that are bound, but neither connected nor listening; nor does /proc/net.

    Args:
        dump: The dump of that namespace, which was begun already.

    Returns:
        The sockets; and why they were read from /proc/net, or an empty string if the kernel listed them.

    Raises:
        EnvironmentFault: The kernel does not list them.
    """
    for tries_left in reversed(range(TRIES)):
        try:
            with dump:
                found = _Collected()
                for request, messages in dump:
                    found.add(decode(messages, request))
                return found.sockets(), ""
        except OSError as error:
            if error.errno in _NO_DUMP:
                return _read_proc(error)
            if error.errno not in _AGAIN or not tries_left:
                raise limit_fault(error) or _no_list(error) from error
            dump = SockDump()
    raise AssertionError  # the last try returns or raises


def _read_proc(error: OSError) -> tuple[Sockets, str]:
    """The sockets that /proc/net lists, where netlink gives an error."""
    from connbench.inspect.dump_file import read_dump  # noqa: PLC0415  # it takes long to load

    texts = []
    for name in ("tcp", "tcp6", "udp", "udp6"):
        with suppress(FileNotFoundError):  # as without IPv6
            try:
                texts.append(Path("/proc/net", name).read_bytes())
            except PermissionError:
                raise _no_list(error) from error
    if not texts:
        raise _no_list(error)
    return read_dump(b"".join(texts), "/proc/net"), reason_of(error)


def _no_list(error: OSError) -> EnvironmentFault:
    return EnvironmentFault(
        f"the kernel does not list its sockets (sock_diag): {reason_of(error)}",
        "give inspect a file instead, made by `ss -tano`",
    )


def read_settings() -> Settings:
    """The settings of the network namespace that this thread is in.

    Raises:
        EnvironmentFault: Its port range cannot be read.
    """
    found = sysctl.read_all((sysctl.RESERVED_PORTS, sysctl.STEP_WIDTH))
    return Settings(
        PortRange(*sysctl.read_port_range()),
        parse_ports(found.get(sysctl.RESERVED_PORTS, "")),
        TimeWait.of(sysctl.read_all(SETTINGS)),
        platform.release(),
        int(found.get(sysctl.STEP_WIDTH, "0")),
    )


def decode(messages: bytes, request: Request) -> Sockets:
    """The sockets of some messages.

    Args:
        messages: The messages one after the other, each aligned to a word.
        request: What they answer.

    Raises:
        OSError: The sockets changed while the kernel listed them (EINTR), or the messages are none (EBADMSG).
    """
    words = np.frombuffer(messages, dtype=np.uint32)
    starts = find_messages(words)
    halves = words.view(np.uint16)
    if (halves[2 * starts + 3] & NLM_F_DUMP_INTR).any():
        raise OSError(errno.EINTR, "they changed while it listed them")
    starts = starts[halves[2 * starts + 2] == request.kind]
    if (words[starts] < DIAG.itemsize).any():
        raise OSError(errno.EBADMSG, "a message is too short for a socket")
    room = max(0, len(words) - DIAG.itemsize // 4 + 1)
    found = np.ndarray((room,), DIAG, words, strides=(4,))[starts]  # a message can begin at each word
    (local, remote), is_ipv4 = _addresses(found)
    state = found["state"].copy()  # a view would keep `found`
    if request.protocol == socket.IPPROTO_TCP:
        # The kernel lists no other in this state (`inet_diag_dump_icsk` in net/ipv4/inet_diag.c).
        state[state == State.CLOSE] = State.BOUND_INACTIVE
    is_time_wait = (found["timer"] == TIMER_TIME_WAIT) & (state == State.TIME_WAIT)
    return Sockets.of(
        protocol=np.full(len(found), request.protocol, dtype=np.uint8),
        family=np.where(is_ipv4, np.uint8(4), np.uint8(6)),
        state=state,
        expires_ms=np.where(is_time_wait, found["expires_ms"].view(np.int32), np.int32(UNKNOWN)),
        interface=found["interface"].copy(),
        local=local,
        remote=remote,
        local_port=found["local_port"],
        remote_port=found["remote_port"],
        inode=found["inode"],
        cookie=found["cookie"][:, 0].astype(np.uint64) | found["cookie"][:, 1].astype(np.uint64) << np.uint64(32),
    )


class _Collected:
    """Sockets in columns that grow: what is copied then is copied while the kernel still lists sockets."""

    def __init__(self) -> None:
        self._columns = {name: np.empty((ROOM, *shape), dtype=kind) for name, (kind, shape) in COLUMNS.items()}
        self._number = 0

    def add(self, part: Sockets) -> None:
        """Add sockets after the others."""
        end = self._number + len(part)
        room = len(self._columns["local_port"])
        for name, column in self._columns.items():
            if end > room:
                larger = np.empty((max(2 * room, end), *column.shape[1:]), dtype=column.dtype)
                larger[: self._number] = column[: self._number]
                self._columns[name] = larger
            self._columns[name][self._number : end] = getattr(part, name)
        self._number = end

    def sockets(self) -> Sockets:
        """All of them; the kernel gives no memory to what is behind them."""
        return Sockets(**{name: column[: self._number] for name, column in self._columns.items()})


def find_messages(words: Words) -> Indices:
    """The indices at which the messages of a block begin.

    numpy looks for the sequence number, and checks that each message found ends where the next one begins. If not, the
    number is also in a message, as in an address, and the messages are followed one by one.

    Raises:
        OSError: The block is not made of messages (EBADMSG).
    """
    starts = np.flatnonzero(words[2:] == SEQUENCE)
    lengths = _lengths(words[starts])
    are_chained = np.array_equal(np.append(starts, len(words)), np.append(0, starts + lengths))
    if are_chained and (lengths >= SHORTEST).all():
        return starts
    followed, at = [], 0
    while at < len(words):
        followed.append(at)
        length = int(_lengths(words[at]))
        if length < SHORTEST or at + length > len(words):
            raise OSError(errno.EBADMSG, "it sent messages that cannot be read")
        at += length
    return np.array(followed, dtype=np.intp)


def _lengths(sizes: npt.NDArray[np.uint32] | np.uint32) -> Indices:
    """Sizes in bytes as numbers of words."""
    return (np.asarray(sizes, dtype=np.intp) + 3) >> 2


def _addresses(found: Array) -> tuple[list[Array], Mask]:
    """The local and the remote addresses as `Sockets` has them, and which sockets are of IPv4.

    The kernel gives an IPv4 address as the first word of 32 bits; the others are 0.
    """
    is_ipv4 = found["family"] == socket.AF_INET
    ends = [found["local"], found["remote"]]
    is_mapped = ~is_ipv4 & np.logical_or.reduce(
        [(end[:, 0] == 0) & (end[:, 1] >> np.uint64(32) == MAPPED) for end in ends]
    )
    addresses = []
    for end in ends:
        high, low = end[:, 0].astype(np.uint64), end[:, 1].astype(np.uint64)
        words = np.empty((len(found), 2), dtype=np.uint64)
        words[:, 0] = np.where(is_ipv4 | is_mapped, np.uint64(0), high)
        words[:, 1] = np.where(is_ipv4, high >> np.uint64(32), np.where(is_mapped, low & np.uint64(0xFFFFFFFF), low))
        addresses.append(words)
    return addresses, is_ipv4 | is_mapped
