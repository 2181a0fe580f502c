"""Run a command in a network namespace from which a target is a round trip of some ms away; netem is not needed.

usage: tun_path.py [--delay MS] [--silent PORT] [--ports LOW-HIGH] [--report FILE] COMMAND...

Each end is a namespace of its own with a TUN device. A process here carries the packets between the two devices, and
holds each for half of the delay, so that both ends are the kernel's own TCP. The command runs at 198.18.0.1. At
198.19.0.1 a listener has a queue long enough for all connections; each other port refuses, and SYNs to the silent port
get lost on the way. FILE gets what the way saw, as JSON: `syns`, the connections that began, and `most_outstanding`,
how many of these waited for their answer at once.
"""

from __future__ import annotations

import argparse
import fcntl
import json
import os
import select
import socket
import struct
import subprocess
import sys
import time
from collections import deque
from pathlib import Path

from pyroute2 import IPRoute

from connbench.linux import sysctl
from connbench.linux.interfaces import bring_up_loopback
from connbench.linux.namespace import create_namespace, enter_new_namespace, in_namespace
from connbench.linux.process import die_with_parent
from connbench.model import Namespace

NEAR, FAR, LISTENING = "198.18.0.1", "198.19.0.1", 9023

TUNSETIFF, IFF_TUN, IFF_NO_PI = 0x400454CA, 0x1, 0x1000
"""linux/if_tun.h: packets without a header of the device's own."""

QUEUE = 1 << 16
"""Packets that wait in a device. The default of 500 would drop SYNs of a thousand handshakes that begin at once."""

MOST_BYTES = 2048
"""More than a packet has: the devices' MTU is 1,500."""

PROTOCOL_AT, HEADER = 9, 20
"""Offset of the protocol in an IPv4 header, and the header's length without options."""

FLAGS_AT, SYN, ACK, RST = 13, 0x02, 0x10, 0x04
"""Offset and bits of the flags in a TCP header."""


def open_device(address: str, other: str) -> int:
    """Make a TUN device in this namespace, with an address and a route to another; returns its descriptor."""
    bring_up_loopback()
    device = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK)
    fcntl.ioctl(device, TUNSETIFF, struct.pack("16sH22x", b"path", IFF_TUN | IFF_NO_PI))
    with IPRoute() as route:
        [index] = route.link_lookup(ifname="path")
        route.link("set", index=index, state="up", txqlen=QUEUE)
        route.addr("add", index=index, address=address, prefixlen=32)
        route.route("add", dst=f"{other}/32", oif=index, prefsrc=address)
    return device


def listen() -> socket.socket:
    """Listen at the far end, with a queue from which nobody accepts."""
    for name in (sysctl.SOMAXCONN, sysctl.SYN_BACKLOG):
        sysctl.write(name, str(QUEUE))
    return socket.create_server((FAR, LISTENING), backlog=QUEUE)


class Way:
    """What carries packets between two devices.

    Args:
        near: The device of the end that connects.
        far: The other one.
        delay: How long a packet is on its way, in seconds.
        silent: SYNs to this port get lost.
    """

    def __init__(self, near: int, far: int, delay: float, silent: int) -> None:
        self._near, self._far, self._delay, self._silent = near, far, delay, silent
        self._waiting: deque[tuple[float, int, bytes]] = deque()
        self._outstanding: set[bytes] = set()
        self.syns = self.most_outstanding = 0

    def carry(self, until: int) -> None:
        """Carry packets until a descriptor can be read."""
        poller = select.epoll()
        for device in (self._near, self._far, until):
            poller.register(device, select.EPOLLIN)
        while True:
            left = self._waiting[0][0] - time.monotonic() if self._waiting else None
            for device, _ in poller.poll(None if left is None else max(0.0, left)):
                if device == until:
                    return
                self._take(device)
            now = time.monotonic()
            while self._waiting and self._waiting[0][0] <= now:
                _, device, packet = self._waiting.popleft()
                if device == self._near:
                    self._note_answer(packet)
                os.write(device, packet)

    def _take(self, device: int) -> None:
        """Take up what a device sends."""
        other = self._far if device == self._near else self._near
        due = time.monotonic() + self._delay
        for _ in range(256):
            try:
                packet = os.read(device, MOST_BYTES)
            except BlockingIOError:
                return
            if device == self._near and self._note_begin(packet):
                continue
            self._waiting.append((due, other, packet))

    def _note_begin(self, packet: bytes) -> bool:
        """Count a SYN; returns whether it gets lost."""
        if packet[PROTOCOL_AT] != socket.IPPROTO_TCP or packet[HEADER + FLAGS_AT] & (SYN | ACK | RST) != SYN:
            return False
        source = packet[12:16] + packet[HEADER : HEADER + 2]
        if source not in self._outstanding:
            self.syns += 1
            self._outstanding.add(source)
            self.most_outstanding = max(self.most_outstanding, len(self._outstanding))
        return packet[HEADER + 2 : HEADER + 4] == self._silent.to_bytes(2, "big")

    def _note_answer(self, packet: bytes) -> None:
        """Note that a SYN has its answer: SYN and ACK, or RST."""
        if packet[PROTOCOL_AT] == socket.IPPROTO_TCP and packet[HEADER + FLAGS_AT] & (SYN | RST):
            self._outstanding.discard(packet[16:20] + packet[HEADER + 2 : HEADER + 4])


def main() -> int:
    """Set up both ends and what is between them, run the command, and return its exit code."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--delay", type=float, default=50.0)
    parser.add_argument("--silent", type=int, default=0)
    parser.add_argument("--ports", default="20000-60999")
    parser.add_argument("--report", type=Path)
    parser.add_argument("command", nargs=argparse.REMAINDER)
    options = parser.parse_args()
    enter_new_namespace(Namespace.NETWORK if os.geteuid() == 0 else Namespace.USER)
    sysctl.write(sysctl.PORT_RANGE, options.ports.replace("-", " "))
    near = open_device(NEAR, FAR)
    with in_namespace(create_namespace()):
        far = open_device(FAR, NEAR)
        listening = listen()
    end, ours = os.pipe()
    parent = os.getpid()
    carrier = os.fork()
    if not carrier:
        os.close(ours)
        die_with_parent(parent)
        way = Way(near, far, options.delay / 2000, options.silent)
        way.carry(end)
        if options.report:
            options.report.write_text(
                json.dumps({"syns": way.syns, "most_outstanding": way.most_outstanding}), encoding="ascii"
            )
        os._exit(0)
    for descriptor in (near, far, end):
        os.close(descriptor)
    listening.close()
    code = subprocess.run(options.command, check=False).returncode
    os.close(ours)
    _, status = os.waitpid(carrier, 0)
    return code or os.waitstatus_to_exitcode(status)


if __name__ == "__main__":
    sys.exit(main())
