"""Masquerade by nftables: a table with one rule, which the kernel removes with the netlink socket that owns it.

The messages are packed here, because the socket has to stay open in a small process, and pyroute2 takes 34 MB. Their
numbers are those of linux/netfilter/nfnetlink.h and nf_tables.h.
"""

from __future__ import annotations

import os
import socket
import struct
from collections.abc import Iterable

from connbench.errors import EnvironmentFault
from connbench.linux.faults import limit_fault
from connbench.linux.netlink import (
    ERROR_AT,
    HEADER,
    NLM_F_ACK,
    NLM_F_APPEND,
    NLM_F_CREATE,
    NLM_F_EXCL,
    NLM_F_REQUEST,
    NLMSG_ERROR,
)
from connbench.model import PortRange

NETLINK_NETFILTER, NFNL_SUBSYS_NFTABLES = 12, 10
NFNL_MSG_BATCH_BEGIN, NFNL_MSG_BATCH_END = 0x10, 0x11
NLA_F_NESTED = 0x8000

NFT_MSG_NEWTABLE, NFT_MSG_NEWCHAIN, NFT_MSG_NEWRULE = 0, 3, 6
NFTA_TABLE_NAME, NFTA_TABLE_FLAGS, NFT_TABLE_F_OWNER = 1, 2, 0x2
NFTA_CHAIN_TABLE, NFTA_CHAIN_NAME, NFTA_CHAIN_HOOK, NFTA_CHAIN_TYPE = 1, 3, 4, 7
NFTA_HOOK_HOOKNUM, NFTA_HOOK_PRIORITY = 1, 2
NFTA_RULE_TABLE, NFTA_RULE_CHAIN, NFTA_RULE_EXPRESSIONS = 1, 2, 4
NFTA_LIST_ELEM, NFTA_EXPR_NAME, NFTA_EXPR_DATA, NFTA_DATA_VALUE = 1, 1, 2, 1
NFTA_META_DREG, NFTA_META_KEY, NFT_META_IIFNAME, NFT_META_OIFNAME = 1, 2, 6, 7
NFTA_CMP_SREG, NFTA_CMP_OP, NFTA_CMP_DATA, NFT_CMP_EQ = 1, 2, 3, 0
NFTA_IMMEDIATE_DREG, NFTA_IMMEDIATE_DATA = 1, 2
NFTA_MASQ_FLAGS, NFTA_MASQ_REG_PROTO_MIN, NFTA_MASQ_REG_PROTO_MAX = 1, 2, 3
NFT_REG_1, NFT_REG_2 = 1, 2
NF_INET_POST_ROUTING, NF_IP_PRI_NAT_SRC = 4, 100
NF_NAT_RANGE_PROTO_SPECIFIED, NF_NAT_RANGE_PROTO_RANDOM_FULLY = 0x2, 0x10
NFPROTO = {4: socket.AF_INET, 6: socket.AF_INET6}
IFNAMSIZ = 16

TABLE = "connbench"
"""The name of the table."""

ANSWER_WITHIN_S = 10.0
"""Seconds that the kernel has to answer. It does so within the call that sends."""

NEEDS = (
    "it needs CAP_NET_ADMIN, Linux 5.12, CONFIG_NF_TABLES and CONFIG_NFT_MASQ (the modules nf_tables and nft_masq), "
    "and no other process that owns a table of the same name"
)
"""What a masquerade needs, for a hint. A table can have an owner since Linux 5.12."""


def masquerade(
    family: int,
    *,
    enters: str | None = None,
    leaves: str | None = None,
    ports: PortRange | None = None,
    is_random: bool = False,
) -> socket.socket:
    """Give packets that this network namespace forwards the address of the device that they leave by.

    Args:
        family: 4 or 6.
        enters: The device by which packets come that are translated; None for any.
        leaves: The device by which they leave; None for any.
        ports: The source ports that they get; None for their own port, where it is free.
        is_random: Whether the kernel draws the port, instead of keeping the packet's own where it is free.

    Returns:
        The socket that owns the table. The kernel removes the table when every copy of the socket is closed, also if
        the processes that have one are killed.

    Raises:
        EnvironmentFault: The kernel has no nftables or no masquerade, or does not allow it.
    """
    name, chain = _text(TABLE), _text("postrouting")
    hook = _numbers((NFTA_HOOK_HOOKNUM, NF_INET_POST_ROUTING), (NFTA_HOOK_PRIORITY, NF_IP_PRI_NAT_SRC))
    rule = b"".join(_expressions(enters, leaves, ports, is_random=is_random))
    steps = (
        (
            "a table with an owner",
            NFT_MSG_NEWTABLE,
            NLM_F_CREATE | NLM_F_EXCL,
            _attribute(NFTA_TABLE_NAME, name) + _numbers((NFTA_TABLE_FLAGS, NFT_TABLE_F_OWNER)),
        ),
        (
            "a chain of type nat",
            NFT_MSG_NEWCHAIN,
            NLM_F_CREATE | NLM_F_EXCL,
            _attribute(NFTA_CHAIN_TABLE, name)
            + _attribute(NFTA_CHAIN_NAME, chain)
            + _nested(NFTA_CHAIN_HOOK, hook)
            + _attribute(NFTA_CHAIN_TYPE, _text("nat")),
        ),
        (
            "a rule that masquerades",
            NFT_MSG_NEWRULE,
            NLM_F_CREATE | NLM_F_APPEND,
            _attribute(NFTA_RULE_TABLE, name)
            + _attribute(NFTA_RULE_CHAIN, chain)
            + _nested(NFTA_RULE_EXPRESSIONS, rule),
        ),
    )
    owner = None
    try:
        owner = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, NETLINK_NETFILTER)
        owner.bind((0, 0))
        owner.settimeout(ANSWER_WITHIN_S)
        refused = _commit(owner, NFPROTO[family], [step[1:] for step in steps])
    except OSError as error:
        if owner:
            owner.close()
        raise limit_fault(error) or EnvironmentFault(
            f"this kernel takes no rules of nftables: {error.strerror or error}", NEEDS
        ) from error
    if refused:
        owner.close()
        step, number = refused
        what = steps[step][0] if step < len(steps) else "all rules"  # of the batch itself: there is no nftables
        raise EnvironmentFault(f"the kernel's nftables refuses {what}: {os.strerror(number)}", NEEDS)
    return owner


def _expressions(
    enters: str | None, leaves: str | None, ports: PortRange | None, *, is_random: bool
) -> Iterable[bytes]:
    """The expressions of the rule: a comparison for each device, then the masquerade."""
    for key, device in ((NFT_META_IIFNAME, enters), (NFT_META_OIFNAME, leaves)):
        if device is None:
            continue
        yield _expression("meta", _numbers((NFTA_META_DREG, NFT_REG_1), (NFTA_META_KEY, key)))
        value = _attribute(NFTA_DATA_VALUE, device.encode().ljust(IFNAMSIZ, b"\0"))
        equals = _numbers((NFTA_CMP_SREG, NFT_REG_1), (NFTA_CMP_OP, NFT_CMP_EQ))
        yield _expression("cmp", equals + _nested(NFTA_CMP_DATA, value))
    flags = NF_NAT_RANGE_PROTO_RANDOM_FULLY if is_random else 0
    registers = b""
    if ports:
        flags |= NF_NAT_RANGE_PROTO_SPECIFIED
        registers = _numbers((NFTA_MASQ_REG_PROTO_MIN, NFT_REG_1), (NFTA_MASQ_REG_PROTO_MAX, NFT_REG_2))
        for register, port in ((NFT_REG_1, ports.low), (NFT_REG_2, ports.high)):
            value = _attribute(NFTA_DATA_VALUE, struct.pack("!H", port))
            yield _expression(
                "immediate", _numbers((NFTA_IMMEDIATE_DREG, register)) + _nested(NFTA_IMMEDIATE_DATA, value)
            )
    yield _expression("masq", (_numbers((NFTA_MASQ_FLAGS, flags)) if flags else b"") + registers)


def _expression(name: str, data: bytes) -> bytes:
    return _nested(NFTA_LIST_ELEM, _attribute(NFTA_EXPR_NAME, _text(name)) + _nested(NFTA_EXPR_DATA, data))


def _text(text: str) -> bytes:
    return text.encode() + b"\0"


def _attribute(kind: int, value: bytes) -> bytes:
    return struct.pack("=HH", 4 + len(value), kind) + value + bytes(-len(value) % 4)


def _nested(kind: int, value: bytes) -> bytes:
    return _attribute(kind | NLA_F_NESTED, value)


def _numbers(*attributes: tuple[int, int]) -> bytes:
    """Attributes that are u32 in network byte order."""
    return b"".join(_attribute(kind, struct.pack("!I", value)) for kind, value in attributes)


def _commit(owner: socket.socket, family: int, messages: list[tuple[int, int, bytes]]) -> tuple[int, int] | None:
    """Send messages, each a kind, flags and a body, in one transaction: the kernel does all of them or none.

    Returns:
        The position of the first message that the kernel refused, and the errno; None if it took all.

    Raises:
        OSError: The kernel has no netfilter, or does not answer.
    """
    last = len(messages)
    batch = [_message(NFNL_MSG_BATCH_BEGIN, 0, last, socket.AF_UNSPEC, NFNL_SUBSYS_NFTABLES)]
    batch += [
        _message(NFNL_SUBSYS_NFTABLES << 8 | kind, flags | NLM_F_ACK, place, family, 0, body)
        for place, (kind, flags, body) in enumerate(messages)
    ]
    batch.append(_message(NFNL_MSG_BATCH_END, 0, last, socket.AF_UNSPEC, NFNL_SUBSYS_NFTABLES))
    owner.send(b"".join(batch))
    answered = 0
    while answered < last:
        answers = owner.recv(1 << 16)
        while answers:
            size, kind, _, place, _ = HEADER.unpack_from(answers)
            if kind == NLMSG_ERROR:
                (number,) = struct.unpack_from("=i", answers, ERROR_AT)
                if number:
                    return place, -number
                answered += 1
            answers = answers[size + -size % 4 :]
    return None


def _message(kind: int, flags: int, place: int, family: int, resource: int, body: bytes = b"") -> bytes:
    """A message with its struct nlmsghdr and struct nfgenmsg; its place in the batch is its sequence number."""
    general = struct.pack("!BBH", family, 0, resource) + body
    return HEADER.pack(HEADER.size + len(general), kind, NLM_F_REQUEST | flags, place, 0) + general
