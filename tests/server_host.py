"""A stand-in for the host with a server in it, and clients that join it."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from run_connbench import INSIDE, command_line, wait_until

LISTEN, ESTABLISHED, TIME_WAIT = "0A", "01", "06"
"""States of a socket as /proc/net/tcp has them."""

CLIENT = """
import socket, sys
peers = [socket.create_connection(("127.0.0.1", int(sys.argv[1])), 30) for _ in range(int(sys.argv[2]))]
for words in sys.argv[3:]:
    for peer in peers:
        peer.sendall(words.encode())
print("open", flush=True)
sys.stdin.readline()
for peer in peers:
    peer.close()
print("closed", flush=True)
sys.stdin.readline()
"""
"""Opens connections, sends words on them, closes them at a line on stdin, and ends at the next."""


def states(pid: int, port: int, *, remote: bool = False) -> list[str]:
    """States of the sockets of this local, or remote, IPv4 port in the namespace of a process."""
    try:
        lines = Path(f"/proc/{pid}/net/tcp").read_text(encoding="ascii").splitlines()[1:]
    except OSError:  # it has ended
        return []
    fields = [line.split() for line in lines]
    return [field[3] for field in fields if int(field[2 if remote else 1].rpartition(":")[2], 16) == port]


@contextmanager
def started(command: list[str]) -> Iterator[subprocess.Popen[str]]:
    """A process with pipes for its streams, which is ended after the body."""
    process = subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, bufsize=1
    )
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


@contextmanager
def listening(command: list[str], port: int, inside: tuple[str, ...] = ()) -> Iterator[subprocess.Popen[str]]:
    """A server of another project, once it listens, in a namespace of its own with 256 ports to connect from."""
    ports = ("--sysctl", "net.ipv4.ip_local_port_range=40000 40255")
    with started([*INSIDE, *ports, *inside, "--", *command]) as process:
        wait_until(lambda: LISTEN in states(process.pid, port) or process.poll() is not None, f"{command[0]} listens")
        assert process.poll() is None, process.communicate()
        yield process


@contextmanager
def serving(*arguments: str, inside: tuple[str, ...] = ()) -> Iterator[subprocess.Popen[str]]:
    """`connbench serve --port 8080`; its line that it listens is still unread."""
    with listening(command_line("serve", "--port", "8080", *arguments), 8080, inside) as process:
        yield process


@contextmanager
def clients(server: subprocess.Popen[str], number: int, *words: str) -> Iterator[subprocess.Popen[str]]:
    """Connections to port 8080 of a server's namespace, all open; a line on stdin closes them, another ends it."""
    command = [*INSIDE, "--join", str(server.pid), "--", sys.executable, "-c", CLIENT, "8080", str(number), *words]
    with started(command) as process:
        assert heard(process) == "open\n"
        yield process


def heard(process: subprocess.Popen[str]) -> str:
    """The next line of its stdout."""
    assert process.stdout
    return process.stdout.readline()


def tell(process: subprocess.Popen[str]) -> None:
    """Write a line to its stdin."""
    assert process.stdin
    process.stdin.write("\n")


def next_report(process: subprocess.Popen[str]) -> dict[str, Any]:
    """The next document of `serve --format json`."""
    found: dict[str, Any] = json.loads(heard(process))
    return found


def report(server: subprocess.Popen[str], number: signal.Signals = signal.SIGUSR1) -> dict[str, Any]:
    """What the server answers to a signal."""
    server.send_signal(number)
    return next_report(server)


def until(server: subprocess.Popen[str], **counts: int) -> dict[str, Any]:
    """The first report with these totals."""
    found: dict[str, Any] = {}

    def holds() -> bool:
        found.update(report(server))
        return all(found[name] == wanted for name, wanted in counts.items())

    wait_until(holds, f"the server reports {counts}")
    return found
