"""Opens connections with IP_LOCAL_PORT_RANGE, so that connect() stays fast until the last port.

usage: client.py TARGET PORT CONNECTIONS LOW HIGH [SOURCE]

It prints the local address of each connection, and holds all of them until its end.
"""

import errno
import os
import random
import socket
import struct
import sys

IP_BIND_ADDRESS_NO_PORT = 24  # linux/in.h; Python has no names for them
IP_LOCAL_PORT_RANGE = 51  # since Linux 6.3
WINDOW = 500
WINDOWS = 10


def prefers_no_parity(release: str) -> bool:
    """Whether connect() searches all ports of IP_LOCAL_PORT_RANGE alike: since Linux 6.8."""
    major, minor = release.split(".")[:2]
    return (int(major), int(minor.split("-")[0])) >= (6, 8)


def port_ranges(low: int, high: int) -> list[tuple[int, int]]:
    """The ranges in which to look for a port, one after the other.

    Since Linux 6.8 the whole range is the fastest. Before, connect() first probes all ports of one parity there: a few
    random windows are faster, and the whole range comes last, so that no free port is missed.
    """
    if prefers_no_parity(os.uname().release) or high - low < WINDOW:
        return [(low, high)]
    starts = [random.randint(low, high - WINDOW + 1) for _ in range(WINDOWS)]
    return [*((start, start + WINDOW - 1) for start in starts), (low, high)]


def connect(target: tuple[str, int], low: int, high: int, source: str = "") -> socket.socket:
    """Connect to an IPv4 address from a port of low to high."""
    for first, last in port_ranges(low, high):
        sock = socket.socket()
        try:
            # The value is the lowest port, and the highest times 65,536.
            sock.setsockopt(socket.SOL_IP, IP_LOCAL_PORT_RANGE, struct.pack("=I", first | last << 16))
        except OSError as error:
            if error.errno != errno.ENOPROTOOPT:  # Linux before 6.3: the ports are those of the host's setting
                raise
        try:
            if source:
                # Without this option bind() takes a port at once, for every target: that port is lost for the others.
                sock.setsockopt(socket.SOL_IP, IP_BIND_ADDRESS_NO_PORT, 1)
                sock.bind((source, 0))
        except OSError:
            sock.close()
            raise
        try:
            sock.connect(target)
        except OSError as error:
            sock.close()
            if error.errno != errno.EADDRNOTAVAIL or (first, last) == (low, high):
                raise
        else:
            return sock
    raise AssertionError("the last range is the whole one")


def main() -> None:
    """Open the connections, and print where each comes from."""
    target, port, number, low, high, *source = sys.argv[1:]
    held = []
    for _ in range(int(number)):
        held.append(connect((target, int(port)), int(low), int(high), *source))
        print("{}:{}".format(*held[-1].getsockname()))


if __name__ == "__main__":
    main()
