"""What `ss`, `netstat` and /proc/net print of a namespace reads back as what the kernel says over netlink."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from typing import Any, NamedTuple

import numpy as np
import pytest

from connbench.inspect.dump_file import read_dump
from connbench.inspect.sockets import UNKNOWN, Sockets, State
from required_programs import require
from run_connbench import HANG_S, INSIDE

LONG = "2001:db8:1111:2222:3333:4444:5555:6666"
"""An address that netstat cuts off without --wide."""

PROGRAM = """
import fcntl, json, os, pty, socket, struct, subprocess, sys, termios

commands, addresses = json.loads(sys.argv[1]), [("127.0.0.1", 8080), *json.loads(sys.argv[2])]
held = []


def connect(listener, target, *, ends=2, device=b""):
    client = socket.socket(listener.family)
    if device:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, device)
    client.connect(target)
    accepted, _ = listener.accept()
    if ends < 2:  # the client closes first: TIME_WAIT, or FIN_WAIT2 while the other end stays open
        client.close()
        while accepted.recv(1):
            pass
    if ends < 1:
        accepted.close()
        client.close()
    held.extend((client, accepted))


for address, port in addresses:
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    listener = socket.create_server((address, port), family=family)
    held.append(listener)
    for ends in (2, 2, 1, 0, 0):
        connect(listener, (address, port), ends=ends)
    connect(listener, (address, port), device=b"lo")
    udp = socket.socket(family, socket.SOCK_DGRAM)
    udp.connect((address, 53))
    held.append(udp)
if len(addresses) > 1:
    both = socket.create_server(("::", 8443), family=socket.AF_INET6, dualstack_ipv6=True)
    connect(both, ("::1", 8443))
    for ends in (2, 0):
        connect(both, ("::ffff:127.0.0.1", 8443), ends=ends)
    held.append(both)
unconnected = socket.socket(type=socket.SOCK_DGRAM)
unconnected.bind(("127.0.0.1", 5353))


def on_terminal(width, command):
    pid, leader = pty.fork()
    if not pid:
        fcntl.ioctl(0, termios.TIOCSWINSZ, struct.pack("HHHH", 24, width, 0, 0))
        os.execvp(command[0], command)
    printed = b""
    while True:
        try:
            piece = os.read(leader, 65536)
        except OSError:  # the command has ended
            break
        if not piece:
            break
        printed += piece
    os.waitpid(pid, 0)
    return printed.decode()


def printed_by(command):
    if isinstance(command[0], int):
        return on_terminal(command[0], command[1:])
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def dump():
    from connbench.inspect.sock_diag import dump_sockets

    found = dump_sockets()
    return {name: getattr(found, name).tolist() for name in found.__slots__}


before = dump()
printed = [printed_by(command) for command in commands]
print(json.dumps([before, printed, dump()]))
"""
"""Has sockets of every kind, of which none moves, and prints what commands print of them, with a dump before and after.
"""

WIDTHS = (160, 80, 60, 40)
OF_SS = ("-tan", "-Htan", "-tanp", "-tano", "-tanoe", "-tuan", "-Htuanope", "-tanoepmi", "-an")
OF_NETSTAT = ("-tan", "-tanp", "-tano", "-tuanope", "-an")
NAMES = (
    *(f"ss {words}" for words in OF_SS),
    *(f"ss on {width}" for width in WIDTHS),
    *(f"netstat {words}" for words in OF_NETSTAT),
    "/proc",
)


class Printed(NamedTuple):
    """What the namespace had, and what commands printed of it.

    Attributes:
        before: The sockets over netlink, before the commands.
        texts: The output of each command, by its words.
        after: The sockets after them.
    """

    before: Sockets
    texts: dict[str, str]
    after: Sockets


def commands() -> dict[str, list[Any]]:
    """The command lines, by name."""
    ss, netstat = require("ss"), require("netstat")
    named: dict[str, list[Any]] = {f"ss {words}": [ss, words] for words in OF_SS}
    named |= {f"netstat {words}": [netstat, "--wide", words] for words in OF_NETSTAT}
    named["ss state"] = [ss, "-tano", "state", "time-wait"]
    named |= {f"ss on {width}": [width, ss, "-tanoe"] for width in WIDTHS}
    files = [f"/proc/net/{name}" for name in ("tcp", "tcp6", "udp", "udp6")]
    named["/proc"] = ["cat", *(file for file in files if os.path.exists(file))]  # noqa: PTH110  # words of a command
    return named


def has_ipv6() -> bool:
    """Whether this kernel has IPv6."""
    return socket.has_ipv6 and os.path.exists("/proc/net/if_inet6")  # noqa: PTH110  # as above


@pytest.fixture(scope="module")
def printed() -> Printed:
    """The namespace, in which nothing moves but timers."""
    named = commands()
    addresses = [("::1", 8081), (LONG, 8082)] if has_ipv6() else []
    host = [*INSIDE, *(("--address", LONG) if addresses else ()), "--"]
    program = [sys.executable, "-c", PROGRAM, json.dumps([*named.values()]), json.dumps(addresses)]
    done = subprocess.run([*host, *program], capture_output=True, text=True, timeout=HANG_S, check=False)
    assert done.returncode == 0, done.stderr
    before, texts, after = json.loads(done.stdout)
    return Printed(Sockets.of(**before), dict(zip(named, texts, strict=True)), Sockets.of(**after))


def rows(sockets: Sockets, *columns: str) -> list[tuple[object, ...]]:
    """The values of columns, in an order that does not depend on that of the sockets."""
    values = [getattr(sockets, name).tolist() for name in ("protocol", "family", "state", *columns)]
    ends = [getattr(sockets, name).tolist() for name in ("local", "local_port", "remote", "remote_port")]
    return sorted(map(repr, zip(*values, *ends, strict=True)))  # type: ignore[arg-type]  # texts compare, lists do not


def expected(sockets: Sockets, *, has_udp: bool) -> Sockets:
    """The sockets that the tools list: they leave out those that are bound, and neither connected nor listening."""
    is_listed = sockets.state != State.BOUND_INACTIVE
    return sockets[is_listed & (has_udp | (sockets.protocol == socket.IPPROTO_TCP))]


@pytest.mark.parametrize("name", NAMES)
def test_what_tools_print_is_what_the_kernel_says(name: str, printed: Printed) -> None:
    """Every socket, with its state; and its inode, device and timer where the tool prints them."""
    text = printed.texts[name]
    if name.startswith("ss on "):
        width = int(name.rsplit(maxsplit=1)[-1])
        lines = text.replace("\r", "").split("\n")
        text = "\n".join(line[at : at + width].rstrip() for line in lines for at in range(0, max(len(line), 1), width))
    found = read_dump(text.encode(), name)
    options = name.rsplit(maxsplit=1)[-1]
    has_udp = "u" in options or options in {"-an", "/proc"}
    has_device = name.startswith("ss")  # `lo` is the only one
    has_inode = "e" in options or name == "/proc" or name.startswith("ss on ")
    columns = [*(["interface"] if has_device else []), *(["inode"] if has_inode else [])]
    assert rows(found, *columns) == rows(expected(printed.before, has_udp=has_udp), *columns)
    assert len(found) > 10
    has_timer = "o" in options or name == "/proc" or name.startswith("ss on ")
    waiting = found.expires_ms[found.state == State.TIME_WAIT]
    assert len(waiting) >= 2
    if not has_timer:
        assert (found.expires_ms == UNKNOWN).all()
        return
    assert (found.expires_ms[found.state != State.TIME_WAIT] == UNKNOWN).all()
    before, after = (one.expires_ms[one.state == State.TIME_WAIT] for one in (printed.before, printed.after))
    assert waiting.max() <= before.max()
    assert waiting.min() >= after.min() - 1000  # ss leaves out fractions of a second


def test_a_filter_tells_the_state(printed: Printed) -> None:
    """`ss -tano state time-wait` has no column State; the timers of all its sockets tell it."""
    found = read_dump(printed.texts["ss state"].encode(), "ss")
    assert rows(found) == rows(printed.before[printed.before.state == State.TIME_WAIT])


def test_every_kind_of_socket_is_there(printed: Printed) -> None:
    """The states, families and protocols that this namespace was made for."""
    found = printed.before
    states = {State.ESTABLISHED, State.FIN_WAIT2, State.TIME_WAIT, State.CLOSE, State.CLOSE_WAIT, State.LISTEN}
    assert states <= set(found.state.tolist())
    assert set(found.protocol.tolist()) == {socket.IPPROTO_TCP, socket.IPPROTO_UDP}
    assert np.count_nonzero(found.interface)
    assert set(found.family.tolist()) == ({4, 6} if has_ipv6() else {4})
