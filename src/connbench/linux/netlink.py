"""The header of netlink messages (netlink(7)), and the requests of sock_diag(7)."""

from __future__ import annotations

import struct

HEADER = struct.Struct("=IHHII")
"""struct nlmsghdr: length, type, flags, sequence number, port."""

NLM_F_REQUEST, NLM_F_ACK, NLM_F_DUMP_INTR = 0x1, 0x4, 0x10
NLM_F_DUMP = 0x300
NLM_F_EXCL, NLM_F_CREATE, NLM_F_APPEND = 0x200, 0x400, 0x800
NLMSG_ERROR, NLMSG_DONE = 2, 3

ERROR_AT = HEADER.size
"""The offset of struct nlmsgerr, which begins with minus an errno, or 0 for success; NLMSG_DONE has the like there."""

NETLINK_SOCK_DIAG = 4
TCPDIAG_GETSOCK, SOCK_DIAG_BY_FAMILY, SOCK_DESTROY = 18, 20, 21

REQUEST = struct.Struct("=BBBxI2s2s16s16sIII")
"""struct inet_diag_req_v2: family, protocol, extensions, states; then ports, addresses, device, cookie."""

ANY = 0xFFFFFFFF
"""All states, and no cookie (INET_DIAG_NOCOOKIE)."""
