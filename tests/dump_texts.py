"""Sockets as `ss`, `netstat` and /proc/net print them; what a reader of such dumps is tested with."""

from __future__ import annotations

import socket
from collections.abc import Callable, Mapping
from dataclasses import replace

import numpy as np

from connbench.inspect.sockets import STATE_NAMES, UNKNOWN, Array, Sockets, State

NETSTAT_STATES = {
    State.ESTABLISHED: "ESTABLISHED",
    State.SYN_SENT: "SYN_SENT",
    State.SYN_RECV: "SYN_RECV",
    State.FIN_WAIT1: "FIN_WAIT1",
    State.FIN_WAIT2: "FIN_WAIT2",
    State.TIME_WAIT: "TIME_WAIT",
    State.CLOSE: "CLOSE",
    State.CLOSE_WAIT: "CLOSE_WAIT",
    State.LAST_ACK: "LAST_ACK",
    State.LISTEN: "LISTEN",
    State.CLOSING: "CLOSING",
}
HEADERS = {
    "ss": "State      Recv-Q Send-Q      Local Address:Port        Peer Address:Port Process",
    "ss state": "Recv-Q Send-Q Local Address:Port  Peer Address:PortProcess",
    "netstat": "Proto Recv-Q Send-Q Local Address           Foreign Address         State       Timer",
    "proc": "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode",
}

Line = tuple[str, ...]
"""The words of a line; blanks, and in `ss` line ends, can stand between them."""


def packed(family: int, words: Array) -> bytes:
    """The bytes of an address."""
    whole = int(words[0]) << 64 | int(words[1])
    return whole.to_bytes(16, "big")[12:] if family == 4 else whole.to_bytes(16, "big")


def address(family: int, words: Array) -> str:
    """An address as inet_ntop(3) writes it."""
    return socket.inet_ntop(socket.AF_INET if family == 4 else socket.AF_INET6, packed(family, words))


def protocol(sockets: Sockets, at: int) -> str:
    """The name of a protocol."""
    return "tcp" if sockets.protocol[at] == socket.IPPROTO_TCP else "udp"


def ss_endpoint(family: int, words: Array, port: int, device: int = 0, *, mapped: bool = False) -> str:
    """An endpoint as `inet_addr_print` of ss.c writes it."""
    text = address(family, words)
    if mapped and family == 4:
        text = f"[::ffff:{text}]"
    elif family == 6:
        text = "*" if text == "::" else f"[{text}]"
    return f"{text}{f'%eth{device}' if device else ''}:{port or '*'}"


def ss_time(milliseconds: int) -> str:
    """A time as `print_ms_timer` of ss.c writes it."""
    minutes, rest = divmod(milliseconds, 60_000)
    seconds, thousandths = divmod(rest, 1000)
    text = f"{minutes}min" if minutes else ""
    seconds = 0 if minutes > 9 else seconds
    thousandths = 0 if minutes or seconds > 9 else thousandths
    if seconds:
        text += f"{seconds}." if thousandths else f"{seconds}sec"
    return text + (f"{thousandths:03}{'sec' if seconds else 'ms'}" if thousandths else "")


def ss_kept(milliseconds: int) -> int:
    """What is left of a time as `ss` writes it."""
    return milliseconds if milliseconds < 10_000 else milliseconds // 1000 * 1000


def ss_line(sockets: Sockets, at: int, *, netid: bool, state: bool, details: bool, mapped: bool) -> Line:
    """A socket as `ss -tan` writes it; with `details` as `ss -tanope`."""
    family = int(sockets.family[at])
    kind = State(sockets.state[at])
    words = [protocol(sockets, at)] if netid else []
    words += [STATE_NAMES[kind]] if state else []
    words += ["0", "128" if kind == State.LISTEN else "0"]
    words.append(ss_endpoint(family, sockets.local[at], sockets.local_port[at], sockets.interface[at], mapped=mapped))
    words.append(ss_endpoint(family, sockets.remote[at], sockets.remote_port[at], mapped=mapped))
    if details:
        words += ['users:(("a b",pid=7,fd=3),("ino:9",pid=8,fd=4))'] if sockets.inode[at] else []
        if sockets.expires_ms[at] != UNKNOWN:
            words.append(f"timer:(timewait,{ss_time(int(sockets.expires_ms[at]))},0)")
        elif kind == State.ESTABLISHED:
            words.append("timer:(keepalive,1min59sec,0)")
        words += [*(["uid:33"] if at % 2 else []), f"ino:{sockets.inode[at]}", "sk:1f", "cgroup:/a.slice <->"]
    return tuple(words)


def netstat_line(sockets: Sockets, at: int, *, details: bool) -> Line:
    """A socket as `netstat -tuan --wide` writes it; with `details` as `netstat -tuanope --wide`."""
    family, kind = int(sockets.family[at]), State(sockets.state[at])
    name = protocol(sockets, at) + ("6" if family == 6 else "")
    ends = [
        f"{address(family, words)}:{port or '*'}"
        for words, port in ((sockets.local[at], sockets.local_port[at]), (sockets.remote[at], sockets.remote_port[at]))
    ]
    is_blank = name.startswith("udp") and kind == State.CLOSE
    words = [name, "0", "0", *ends, *([] if is_blank else [NETSTAT_STATES[kind]])]
    if details:
        words += ["0", str(sockets.inode[at]), "7/nginx: worker" if sockets.inode[at] else "-"]
        left = int(sockets.expires_ms[at])
        words.append(f"timewait ({left / 1000:.2f}/0/0)" if left != UNKNOWN else "off (0.00/0/0)")
    return tuple(words)


def proc_line(sockets: Sockets, at: int) -> Line:
    """A socket as /proc/net/tcp, tcp6, udp or udp6 has it."""
    family, left = int(sockets.family[at]), int(sockets.expires_ms[at])
    is_udp, kind = protocol(sockets, at) == "udp", State(sockets.state[at])
    ends = []
    for words, port in ((sockets.local[at], sockets.local_port[at]), (sockets.remote[at], sockets.remote_port[at])):
        data = packed(family, words)
        host = b"".join(data[begin : begin + 4][::-1] for begin in range(0, len(data), 4))
        ends.append(f"{host.hex().upper()}:{port:04X}")
    timer = f"03:{left // 10:08X}" if left != UNKNOWN else "00:00000000"
    words = [f"{at}:", *ends, f"{kind:02X}", "00000000:00000000", timer, "00000000", "0", "0", str(sockets.inode[at])]
    has_two = kind in {State.TIME_WAIT, State.SYN_RECV}
    return (*words, "1", "00000000bd123883", *(["0"] if is_udp else [] if has_two else ["20", "0", "0", "10", "-1"]))


def lines(sockets: Sockets, line: Callable[[int], Line]) -> list[Line]:
    """The lines of all sockets."""
    return [line(at) for at in range(len(sockets))]


def renumbered(sockets: Sockets) -> Sockets:
    """The same sockets, with the devices numbered in their order from 1 on."""
    numbers: dict[int, int] = {0: 0}
    for device in sockets.interface.tolist():
        numbers.setdefault(device, len(numbers))
    return replace(sockets, interface=np.array([numbers[one] for one in sockets.interface.tolist()], dtype=np.uint32))


def without(sockets: Sockets, *columns: str) -> Sockets:
    """The same sockets, with these columns as a dump leaves them that lacks them."""
    empty: Mapping[str, int] = {"expires_ms": UNKNOWN}
    return replace(sockets, **{name: np.full_like(getattr(sockets, name), empty.get(name, 0)) for name in columns})


def with_times(sockets: Sockets, kept: Callable[[int], int]) -> Sockets:
    """The same sockets, with their times as a format keeps them."""
    times = [one if one == UNKNOWN else kept(one) for one in sockets.expires_ms.tolist()]
    return replace(sockets, expires_ms=np.array(times, dtype=np.int32))
