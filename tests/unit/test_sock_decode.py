"""The messages of a dump of sockets, decoded in bulk: as if each had been read by itself."""

from __future__ import annotations

import errno
import socket
import struct
from typing import NamedTuple

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from connbench.inspect.sock_diag import decode, find_messages
from connbench.inspect.sockets import UNKNOWN, State, address_text
from connbench.linux.netlink import HEADER, NLM_F_DUMP_INTR, NLMSG_DONE
from connbench.linux.sock_dump import REQUESTS, SEQUENCE

TCP, UDP, _ = REQUESTS
IPV4, IPV6 = int(socket.AF_INET), int(socket.AF_INET6)
NLM_F_MULTI = 2
ANY_ADDRESS = "0.0.0.0"  # noqa: S104  # nothing is bound
TIMER = 3
"""TIME_WAIT's."""


class Listed(NamedTuple):
    """A socket as the kernel lists it."""

    family: int
    state: int
    timer: int
    ports: tuple[int, int]
    addresses: tuple[str, str]
    interface: int
    cookie: int
    expires_ms: int
    inode: int
    attributes: bytes

    def message(self, kind: int, flags: int = NLM_F_MULTI) -> bytes:
        """Its message: struct inet_diag_msg and attributes (linux/inet_diag.h)."""
        ends = b"".join(socket.inet_pton(self.family, one).ljust(16, b"\0") for one in self.addresses)
        body = struct.pack("=BBBB", self.family, self.state, self.timer, 0) + struct.pack("!HH", *self.ports) + ends
        body += struct.pack("=IIIIIIII", self.interface, self.cookie & 0xFFFFFFFF, self.cookie >> 32, self.expires_ms,
                            7, 8, 1000, self.inode)  # fmt: skip
        return message(kind, body + self.attributes, flags)


def message(kind: int, body: bytes, flags: int = NLM_F_MULTI) -> bytes:
    """A message, padded to a word."""
    padding = bytes(-len(body) % 4)
    return HEADER.pack(HEADER.size + len(body), kind, flags, SEQUENCE, 4711) + body + padding


MARK = struct.pack("=I", SEQUENCE)
NUMBER = st.integers(0, 2**32 - 1) | st.just(SEQUENCE)
"""Also the sequence number by which the headers are found."""

ADDRESS6 = (st.binary(min_size=16, max_size=16) | st.just(MARK * 4)).map(lambda b: socket.inet_ntop(IPV6, b))
ADDRESS4 = (st.binary(min_size=4, max_size=4) | st.just(MARK)).map(lambda b: socket.inet_ntop(IPV4, b))
MAPPED = ADDRESS4.map(lambda text: f"::ffff:{text}")
ENDS = (
    st.tuples(st.just(IPV4), st.tuples(ADDRESS4, ADDRESS4))
    | st.tuples(st.just(IPV6), st.tuples(ADDRESS6, ADDRESS6))
    | st.tuples(st.just(IPV6), st.tuples(MAPPED, MAPPED | st.just("::")))
)
PORT = st.integers(0, 65535)
LISTED = st.builds(
    lambda ends, *rest: Listed(ends[0], rest[0], rest[1], rest[2], ends[1], *rest[3:]),
    ENDS,
    st.sampled_from([int(state) for state in State if state != State.CLOSE]),
    st.sampled_from([0, 1, TIMER]),
    st.tuples(PORT, PORT),
    NUMBER,
    st.integers(0, 2**64 - 1),
    st.integers(0, 60_000),
    NUMBER,
    st.binary(max_size=40) | st.just(MARK * 3),
)


def plain(text: str) -> tuple[int, str]:
    """The family of an address and its usual form; of a mapped one those of IPv4."""
    mapped = text.removeprefix("::ffff:")
    return (4, mapped) if "." in mapped and ":" not in mapped else (6, address_text(6, words(text)))


def words(text: str) -> tuple[int, int]:
    """The two words of an IPv6 address."""
    high, low = struct.unpack("!QQ", socket.inet_pton(IPV6, text))
    return high, low


@given(st.lists(LISTED, max_size=30), st.sampled_from([TCP, UDP]), st.booleans())
def test_each_message_is_decoded(listed: list[Listed], request: object, ends: bool) -> None:
    """Of any lengths, whatever is in them; what ends the dump is passed over."""
    asked = TCP if request is TCP else UDP
    data = b"".join(one.message(asked.kind) for one in listed) + (message(NLMSG_DONE, bytes(4)) if ends else b"")
    found = decode(data, asked)
    assert len(found) == len(listed)
    for i, one in enumerate(listed):
        families = {plain(text)[0] for text in one.addresses if text != "::"}
        family = 4 if 4 in families else 6
        shown = [address_text(family, side[i]) for side in (found.local, found.remote)]
        expected = [ANY_ADDRESS if family == 4 and text == "::" else plain(text)[1] for text in one.addresses]
        is_waiting = one.state == State.TIME_WAIT and one.timer == TIMER
        assert (found.family[i], shown) == (family, expected)
        assert (found.local_port[i], found.remote_port[i]) == one.ports
        assert found.protocol[i] == asked.protocol
        assert found.state[i] == one.state
        assert found.expires_ms[i] == (one.expires_ms if is_waiting else UNKNOWN)
        assert (found.interface[i], found.cookie[i], found.inode[i]) == (one.interface, one.cookie, one.inode)


@given(st.lists(st.integers(0, 10) | st.just(SEQUENCE), max_size=40))
def test_what_is_no_messages_is_refused(numbers: list[int]) -> None:
    """Words that do not begin with a header each are an error, and never a socket."""
    block = np.array(numbers, dtype=np.uint32)
    if not numbers:
        assert len(find_messages(block)) == 0
        return
    with pytest.raises(OSError, match="messages that cannot be read") as caught:
        find_messages(block)
    assert caught.value.errno == errno.EBADMSG


def test_a_socket_needs_room() -> None:
    """A message of the kind of a socket that is shorter than one."""
    with pytest.raises(OSError, match="too short for a socket"):
        decode(message(TCP.kind, bytes(64)), TCP)


def test_a_dump_that_was_interrupted_is_none() -> None:
    """The kernel marks a message of it; the caller reads again."""
    listed = Listed(IPV4, State.LISTEN, 0, (1, 0), (ANY_ADDRESS, ANY_ADDRESS), 0, 0, 0, 0, b"")
    with pytest.raises(InterruptedError):
        decode(listed.message(TCP.kind) + listed.message(TCP.kind, NLM_F_MULTI | NLM_F_DUMP_INTR), TCP)
