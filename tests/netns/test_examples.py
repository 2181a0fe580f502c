"""The clients of examples/: they compile without a warning, use every port, and do what the kernel at hand needs."""

from __future__ import annotations

import os
import re
import struct
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from required_programs import require
from run_connbench import HANG_S, INSIDE, needs_port_range

EXAMPLES = Path(__file__).parents[2] / "examples"
LOW, HIGH, WIDE = 40000, 40099, 42999
WINDOW = 500
OLD = "6.6.0-fake"
"""The release of a kernel whose connect() prefers a parity also with IP_LOCAL_PORT_RANGE."""


def python(_folder: Path) -> list[str]:
    """Nothing is built."""
    return [sys.executable, "-W", "error", str(EXAMPLES / "python" / "client.py")]


def c(folder: Path) -> list[str]:
    """With every warning an error."""
    built = str(folder / "client")
    _build([require("cc"), "-O2", "-Wall", "-Wextra", "-Werror", "-o", built, str(EXAMPLES / "c" / "client.c")])
    return [built]


def go(folder: Path) -> list[str]:
    """With the cache in a folder that goes with the test."""
    built = str(folder / "client")
    _build([require("go"), "build", "-o", built, str(EXAMPLES / "go" / "client.go")], GOCACHE=str(folder / "cache"))
    return [built]


def rust(folder: Path) -> list[str]:
    """With the standard library alone."""
    built = str(folder / "client")
    _build([require("rustc"), "-O", "-D", "warnings", "-o", built, str(EXAMPLES / "rust" / "client.rs")])
    return [built]


def _build(command: list[str], **environment: str) -> None:
    done = subprocess.run(
        command, env={**os.environ, **environment}, capture_output=True, text=True, check=False, timeout=HANG_S
    )
    assert done.returncode == 0, done.stderr


@pytest.fixture(scope="module", params=[python, c, go, rust], ids=lambda build: build.__name__)
def client(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """The command line of a client, built where it has to be."""
    build: Callable[[Path], list[str]] = request.param
    return build(tmp_path_factory.mktemp(build.__name__))


def local_ends(client: list[str], *arguments: object, inside: tuple[str, ...] = ()) -> list[tuple[str, int]]:
    """The local ends of the connections of a client, in a host of its own with a listener that has room for all."""
    host = (*INSIDE, "--sysctl", f"net.ipv4.ip_local_port_range={LOW} {HIGH}")
    host = (*host, "--listen", "127.9.9.2:39999/4000", "--sysctl", "net.core.somaxconn=4096", *inside)
    words = [*host, "--", *client, "127.9.9.2", "39999", *map(str, arguments)]
    done = subprocess.run(words, capture_output=True, text=True, check=False, timeout=HANG_S)
    assert done.returncode == 0, done.stderr
    return [(address, int(port)) for address, _, port in (line.partition(":") for line in done.stdout.splitlines())]


def test_client_uses_every_port(client: list[str]) -> None:
    """One connection for each port of the range; with a source address from that address."""
    number = HIGH - LOW + 1
    for source in ((), ("127.0.2.1",)):
        ends = local_ends(client, number, LOW, HIGH, *source)
        assert sorted(port for _, port in ends) == [*range(LOW, HIGH + 1)]
        assert {address for address, _ in ends} == {*(source or ("127.0.0.1",))}


def test_client_runs_without_the_option(client: list[str]) -> None:
    """On Linux before 6.3 the ports are those of the host's setting."""
    ends = local_ends(client, 20, 50000, 50099, inside=("--deny", "port-range"))
    assert {port for _, port in ends} <= {*range(LOW, HIGH + 1)}


@needs_port_range
@pytest.mark.parametrize("is_old", [False, True], ids=["this kernel", "Linux 6.6"])
def test_client_searches_windows_where_the_whole_range_is_slow(
    client: list[str], tmp_path: Path, *, is_old: bool
) -> None:
    """Strace shows which ranges it sets: the whole one since Linux 6.8, before that random windows of 500 ports.

    And that bind() to the source address leaves the port to connect(), so that other targets can have it, too.
    """
    if is_old and os.geteuid() != 0:
        pytest.skip("only root can put another release in the place of this kernel's")
    trace = tmp_path / "calls.txt"
    strace = [require("strace"), "-f", "-e", "trace=setsockopt", "-o", str(trace)]
    command = [*strace, *client]
    if is_old:
        release = tmp_path / "osrelease"
        release.write_text(OLD + "\n", encoding="ascii")
        # uname(2) and /proc are two ways to the release: setarch changes the first, the mount the second.
        script = f'mount --bind {release} /proc/sys/kernel/osrelease && exec setarch --uname-2.6 "$@"'
        command = ["unshare", "--mount", "sh", "-c", script, "sh", *command]
    local_ends(command, 20, LOW, WIDE, "127.0.2.1")
    calls = trace.read_text(encoding="utf-8")
    # strace prints the value as a signed number of 32 bits, and older ones the option as 0x33.
    values = [int(value) for value in re.findall(r"(?:0x33 .*|IP_LOCAL_PORT_RANGE, )\[(-?\d+)\]", calls)]
    ranges = [struct.unpack("=HH", struct.pack("=i", value)) for value in values]
    assert len(ranges) == len(re.findall(r"IP_BIND_ADDRESS_NO_PORT, \[1\], 4\) = 0", calls)) >= 20
    if not is_old:
        assert set(ranges) == {(LOW, WIDE)}
        return
    assert {high - low + 1 for low, high in ranges} == {WINDOW}
    assert all(low >= LOW and high <= WIDE for low, high in ranges)
    assert len(set(ranges)) > 10
