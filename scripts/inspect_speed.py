"""Measures `connbench inspect` as a whole command, with 56,512 and with 1,000,000 connections open.

Both ends of a connection are sockets of the namespace: 1,000,000 connections are 2,000,000 sockets. A process may have
too few descriptors for all, so several hold them, one after the other opened by connect() with IP_LOCAL_PORT_RANGE as
the strategy `range` does. It compares the number of sockets in each state with that of `ss`, prints a table and, in the
last line, the figures as JSON; the exit code is 1 if a limit is missed. It needs root, ss, 9 GB of memory, and idle
CPUs.

With --dumps it measures `connbench inspect FILE` instead, with files of 1,000,000 lines in each format; without root.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import resource
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from statistics import median

from connbench.errors import EnvironmentFault
from connbench.linux import sysctl
from connbench.linux.interfaces import bring_up_loopback
from connbench.linux.namespace import enter_child_namespace, enter_new_namespace
from connbench.linux.process import die_with_parent, in_child
from connbench.linux.sockopts import IP_BIND_ADDRESS_NO_PORT, IP_LOCAL_PORT_RANGE, LINGER_RESET
from connbench.model import Namespace, PortRange
from connbench.model.addresses import port_range_value

CONNBENCH = Path(sys.executable).with_name("connbench")
PORTS = PortRange(9024, 65535)
LISTENER = ("127.9.9.2", 9023)
FIRST_SOURCE = 10
RESERVE = 64
"""Descriptors that a worker needs for itself."""

ROUNDS = 5
LIMITS = {56_512: (0.3, 600), 1_000_000: (3.0, 600)}
"""Seconds and MB, by the number of connections."""

DUMP_LINES, DUMP_LIMIT = 1_000_000, (5.0, 600)
"""Lines of a dump, and the seconds and MB that reading it may take."""

DUMPS = {
    "ss -tan": "TIME-WAIT  0      0           10.0.0.{source}:{port}           10.1.2.{target}:443        \n",
    "ss -tanoe": "TIME-WAIT  0      0           10.0.0.{source}:{port}           10.1.2.{target}:443   "
    "timer:(timewait,{seconds}sec,0) ino:0 sk:{number:x}\n",
    "netstat -tano": "tcp        0      0 10.0.0.{source}:{port}         10.1.2.{target}:443            TIME_WAIT   "
    "timewait ({seconds}.21/0/0)\n",
    "/proc/net/tcp": "{number:4}: {source:02X}00000A:{port:04X} {target:02X}02010A:01BB 06 00000000:00000000 "
    "03:00000{seconds:03X} 00000000     0        0 0 3 00000000852a109e\n",
}
"""A line of each format."""

STATE = re.compile(
    r'^connbench_inspect_sockets\{namespace="",protocol="tcp",state="([^"]+)"\} ([\d.e+]+)$', re.MULTILINE
)


def prepare(connections: int) -> socket.socket:
    """Enter a namespace with room for so many connections; its listener."""
    enter_new_namespace(Namespace.NETWORK)
    enter_child_namespace(1 << (2 * connections).bit_length())
    for name, value in (
        (sysctl.PORT_RANGE, f"{PORTS.low} {PORTS.high}"),
        (sysctl.SOMAXCONN, str(connections)),
        (sysctl.SYN_BACKLOG, str(connections)),
    ):
        sysctl.write(name, value)
    bring_up_loopback()
    listener = socket.socket()
    listener.bind(LISTENER)
    listener.listen(connections)
    return listener


def hold(numbers: range, sources: int, opened: int, parent: int) -> None:
    """Open connections, tell so by a byte to a pipe, and keep them; this process does not return."""
    die_with_parent(parent)
    window = port_range_value(PORTS.low, PORTS.high).to_bytes(4, sys.byteorder)
    kept = []
    for number in numbers:
        one = socket.socket()
        one.setsockopt(socket.IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, 1)
        one.setsockopt(socket.IPPROTO_IP, IP_LOCAL_PORT_RANGE, window)
        one.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, LINGER_RESET)
        one.bind((f"127.9.9.{FIRST_SOURCE + number % sources}", 0))
        one.connect(LISTENER)
        kept.append(one)
    os.write(opened, b".")
    while True:
        signal.pause()


@contextmanager
def held(connections: int) -> Iterator[None]:
    """So many connections are open in this process's namespace."""
    sources = -(-connections // len(PORTS))
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[0] - RESERVE
    workers = []
    parent = os.getpid()
    try:
        for first in range(0, connections, most):
            reader, writer = os.pipe()
            if (pid := os.fork()) == 0:
                try:
                    os.close(reader)
                    hold(range(first, min(first + most, connections)), sources, writer, parent)
                finally:
                    os._exit(1)
            workers.append(pid)
            os.close(writer)
            is_open = os.read(reader, 1)
            os.close(reader)
            if not is_open:
                raise EnvironmentFault("a process that holds connections ended", "see its traceback")
        yield
    finally:
        for pid in workers:
            os.kill(pid, signal.SIGKILL)
        for pid in workers:
            os.waitpid(pid, 0)


def inspect(*options: str) -> tuple[str, float, float]:
    """What `connbench inspect` prints, its time in seconds, and its peak RSS in MB."""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    begun = time.monotonic()
    with subprocess.Popen(
        [CONNBENCH, "inspect", *options], stdout=subprocess.PIPE, text=True, env=environment
    ) as command:
        printed = command.stdout.read() if command.stdout else ""
        _, status, usage = os.wait4(command.pid, 0)
        command.returncode = os.waitstatus_to_exitcode(status)
    seconds = time.monotonic() - begun
    if command.returncode:
        raise EnvironmentFault(f"connbench inspect ended with exit code {command.returncode}", "see its message")
    return printed, seconds, usage.ru_maxrss / 1024


def counts_of_ss() -> Counter[str]:
    """The number of TCP sockets in each state."""
    listed = subprocess.run(["/usr/bin/env", "ss", "-Htan"], capture_output=True, text=True, check=True).stdout
    return Counter(line.split(maxsplit=1)[0] for line in listed.splitlines())


def measure(connections: int) -> dict[str, object]:
    """The figures for so many connections."""
    with prepare(connections), held(connections):
        inspect()  # Python compiles the modules, and the kernel numbers the sockets
        runs = [inspect() for _ in range(ROUNDS)]
        printed, *_ = inspect("--format", "prometheus")
        counts = {state: int(float(number)) for state, number in STATE.findall(printed)}
        return {
            "seconds": round(median(seconds for _, seconds, _ in runs), 3),
            "megabytes": round(max(megabytes for *_, megabytes in runs)),
            "read": runs[-1][0].splitlines()[0],
            "sockets": sum(counts.values()),
            "equals_ss": counts == counts_of_ss(),
        }


def measure_dumps() -> int:
    """Measure files, and print a table."""
    figures, is_missed = {}, False
    print(f"{'dump':<16}{'lines':>12}{'size':>10}{'median':>10}{'peak RSS':>10}")
    for name, line in DUMPS.items():
        with tempfile.NamedTemporaryFile("w", encoding="ascii") as file:
            file.writelines(
                line.format(number=n, source=1 + n // 50_000, port=10_240 + n % 50_000, target=n % 9, seconds=n % 60)
                for n in range(DUMP_LINES)
            )
            file.flush()
            size = file.tell() / 1e6
            runs = [inspect(file.name, "--port-range", str(PORTS)) for _ in range(ROUNDS)]
        seconds, megabytes = median(one for _, one, _ in runs), max(one for *_, one in runs)
        figures[name] = {"seconds": round(seconds, 3), "megabytes": round(megabytes)}
        print(f"{name:<16}{DUMP_LINES:>12,}{size:>7.0f} MB{seconds:>8.2f} s{megabytes:>7.0f} MB", flush=True)
        is_missed |= seconds > DUMP_LIMIT[0] or megabytes > DUMP_LIMIT[1]
    print(f"at most {DUMP_LIMIT[0]} s and {DUMP_LIMIT[1]} MB expected")
    print(json.dumps(figures))
    return int(is_missed)


def main() -> int:
    """Measure, and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("connections", type=int, nargs="*", default=list(LIMITS), help="how many to hold open")
    parser.add_argument("--dumps", action="store_true", help="measure inspect FILE instead")
    if parser.parse_args().dumps:
        return measure_dumps()
    figures = {}
    print(f"{'connections':>12}{'sockets':>12}{'median':>10}{'peak RSS':>10}  counts")
    for connections in parser.parse_args().connections:
        found = in_child(partial(measure, connections), "not measured", "run it as root")
        figures[connections] = found
        verdict = "equal those of ss" if found["equals_ss"] else "DIFFER from those of ss"
        print(
            f"{connections:>12,}{found['sockets']:>12,}{found['seconds']:>8.2f} s{found['megabytes']:>7} MB  {verdict}",
            flush=True,
        )
        print(f"{'':>12}{found['read']}")
    is_missed = False
    for connections, (seconds, megabytes) in LIMITS.items():
        if found := figures.get(connections):
            print(f"{connections:,}: at most {seconds} s and {megabytes} MB expected")
            is_missed |= found["seconds"] > seconds or found["megabytes"] > megabytes or not found["equals_ss"]
    print(json.dumps(figures))
    return int(is_missed)


if __name__ == "__main__":
    sys.exit(main())
