"""The kernel's list of sockets, read over netlink: it is that of `ss` to the last socket, in any namespace."""

from __future__ import annotations

import errno
import json
import os
import platform
import re
import socket
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any, NamedTuple

import pytest

import socket_states
from connbench.errors import EnvironmentFault, ExitCode
from connbench.inspect import sock_diag
from connbench.inspect.dump_file import read_dump
from connbench.inspect.live import read_live
from connbench.inspect.sock_diag import dump_sockets, read_sockets
from connbench.inspect.sockets import Sockets, State
from connbench.kernel_release import version_of
from connbench.linux.address_family import has_ipv6
from connbench.linux.netlink import REQUEST, SOCK_DIAG_BY_FAMILY
from connbench.linux.network_namespaces import OWN, NetworkNamespace, find_namespace
from connbench.linux.sock_dump import REQUESTS, Request, SockDump
from required_programs import require
from run_connbench import HANG_S, INSIDE, connbench
from server_host import heard, started

PAIRS = 400
"""More than a datagram has room for: most datagrams have messages of several lengths, as TIME_WAIT's is shorter."""

DUMP = """
import json, os, sys
from connbench.inspect.sock_diag import dump_sockets
if len(sys.argv) > 1:
    os.setresuid(*[int(sys.argv[1])] * 3)
found = dump_sockets()
columns = ("protocol", "family", "state", "local", "local_port", "remote", "remote_port", "inode", "expires_ms")
print(json.dumps([getattr(found, name).tolist() for name in columns]))
"""
"""Prints the columns of a namespace's sockets; as another user if there is one."""

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root enters another network namespace")
pytestmark = pytest.mark.skipif(not has_ipv6(), reason="this kernel has no IPv6")

Row = tuple[object, ...]


def rows(columns: list[list[Any]]) -> list[Row]:
    """The sockets of columns, each a value that can be counted."""
    return [tuple(tuple(v) if isinstance(v, list) else v for v in row) for row in zip(*columns, strict=True)]


def rows_of(sockets: Sockets) -> list[Row]:
    """Likewise, without inode and timer."""
    columns = ("protocol", "family", "state", "local", "local_port", "remote", "remote_port")
    return rows([getattr(sockets, name).tolist() for name in columns])


def inside(pid: int, *command: str) -> str:
    """What a command prints in the namespace of a process."""
    joined = [*INSIDE, "--join", str(pid), "--", *command]
    return subprocess.run(joined, capture_output=True, text=True, check=True, timeout=HANG_S).stdout


class Host(NamedTuple):
    """A namespace in which nothing moves but the timers of TIME_WAIT.

    Attributes:
        pid: A process in it.
        listed: The sockets that `ss` lists.
        found: Those that connbench lists.
        found_by_user: Likewise, run by an ordinary user; empty if there is none.
    """

    pid: int
    listed: list[Row]
    found: list[Row]
    found_by_user: list[Row]

    @property
    def lasting(self) -> int:
        """The number of sockets that no timer ends."""
        return sum(row[2] != State.TIME_WAIT for row in self.found)


@pytest.fixture(scope="module")
def host() -> Iterator[Host]:
    """Sockets of all kinds, listed three times at once."""
    program = [*INSIDE, "--", sys.executable, str(Path(socket_states.__file__)), str(PAIRS)]
    users = ((), ("65534",)) if os.geteuid() == 0 else ((),)
    with started(program) as process:
        assert heard(process) == "open\n", process.communicate()[1]
        listed = rows_of(read_dump(inside(process.pid, require("ss"), "-ano", "-tu").encode(), "ss"))
        by_users = [rows(json.loads(inside(process.pid, sys.executable, "-c", DUMP, *user))) for user in users]
        yield Host(process.pid, listed, by_users[0], by_users[1] if len(by_users) > 1 else [])


def states_of(found: list[Row]) -> Counter[tuple[object, object, str]]:
    """The number of sockets by protocol, family and state."""
    return Counter((row[0], row[1], State(int(str(row[2]))).name) for row in found)


def test_lists_each_socket_that_ss_lists(host: Host) -> None:
    """And no other, but those that are only bound: those `ss` does not ask for."""
    found = [row[:7] for row in host.found if row[2] != State.BOUND_INACTIVE]
    listed = [row for row in host.listed if row[2] != State.BOUND_INACTIVE]  # ss from 6.8 on
    assert Counter(found) == Counter(listed)


def test_the_states_are_those_of_the_sockets(host: Host) -> None:
    """As many as the program opened; a mapped address is one of IPv4, and its listener's too."""
    few, tcp, udp = socket_states.FEW, socket.IPPROTO_TCP, socket.IPPROTO_UDP
    bound = {(tcp, 4, "BOUND_INACTIVE"): 2, (tcp, 6, "BOUND_INACTIVE"): 1}
    lists_bound = (version_of(platform.release()) or (0,)) >= (6, 8)
    assert states_of(host.found) == {
        (tcp, 4, "ESTABLISHED"): 4 * PAIRS + few,
        (tcp, 6, "ESTABLISHED"): 2 * PAIRS + 2,
        (tcp, 4, "TIME_WAIT"): PAIRS,
        (tcp, 4, "FIN_WAIT2"): few,
        (tcp, 4, "CLOSE_WAIT"): few,
        (tcp, 4, "SYN_RECV"): few,
        (tcp, 6, "SYN_SENT"): few,
        (tcp, 4, "LISTEN"): 2,
        (tcp, 6, "LISTEN"): 3,
        (udp, 4, "ESTABLISHED"): 2,
        (udp, 6, "ESTABLISHED"): 1,
        (udp, 4, "CLOSE"): 2,
        (udp, 6, "CLOSE"): 1,
        **(bound if lists_bound else {}),
    }


def test_timers_and_inodes(host: Host) -> None:
    """TIME_WAIT has what is left of its minute, and no inode; others have no such timer, and a program's an inode."""
    for *_, state, _, _, _, _, inode, expires_ms in host.found:
        assert (0 <= int(str(expires_ms)) <= 60_000) == (state == State.TIME_WAIT)
        assert (inode == 0) == (state in {State.TIME_WAIT, State.SYN_RECV}) or state == State.ESTABLISHED


@needs_root
def test_an_ordinary_user_sees_the_same(host: Host) -> None:
    """The kernel asks for no privilege."""
    assert Counter(row[:8] for row in host.found_by_user) == Counter(row[:8] for row in host.found)


def test_no_socket() -> None:
    """A new namespace has none."""
    found = connbench("inspect", "--format", "json", inside=("--sysctl", "net.ipv4.tcp_syncookies=1"))
    assert found.returncode == ExitCode.OK, found.stderr
    document = json.loads(found.stdout)
    assert (document["sockets"], document["paths"], document["rows"]) == (0, 0, [])


def test_another_dump_is_read_if_the_kernel_could_not_complete_one() -> None:
    """The sockets changed, or the kernel had no memory: the next one counts."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        for number in (errno.EINTR, errno.ENOBUFS):
            found, fallback = read_sockets(_Failing(number))
            assert fallback == ""
            assert listener.getsockname()[1] in found.local_port


def test_an_error_of_the_kernel_is_told() -> None:
    """It is no lack of a module, and no limit: there is nothing else to read."""
    with pytest.raises(EnvironmentFault, match=r"does not list its sockets .sock_diag.: Input/output error"):
        read_sockets(_Failing(errno.EIO))


class _Failing(SockDump):
    """A dump that ends by an error."""

    def __init__(self, number: int) -> None:
        super().__init__()
        self._number = number

    def __iter__(self) -> Iterator[tuple[Request, bytes]]:
        yield from ()
        raise OSError(self._number, os.strerror(self._number))


def test_without_the_module_proc_is_read() -> None:
    """For a protocol without a module the kernel answers ENOENT, as for TCP without tcp_diag."""
    body = REQUEST.pack(socket.AF_INET, 253, 0, 0xFFFFFFFF, b"", b"", b"", b"", 0, 0, 0)  # RFC 3692
    with socket.create_server(("127.0.0.1", 0)) as listener:
        found, fallback = read_sockets(SockDump((Request(253, SOCK_DIAG_BY_FAMILY, body),)))
        assert listener.getsockname()[1] in found.local_port[found.state == State.LISTEN]
    assert fallback == "No such file or directory"


def test_where_netlink_is_denied_proc_is_read() -> None:
    """And the report says so."""
    found = connbench("inspect", inside=("--deny", "netlink", "--listen", "127.0.0.1:40000/5"))
    assert found.returncode == ExitCode.OK, found.stderr
    assert "1 socket of" in found.stdout
    assert "from /proc/net" in found.stdout
    assert "'Operation not permitted'" in found.stdout


def test_the_columns_grow(monkeypatch: pytest.MonkeyPatch) -> None:
    """No socket is lost where there is room for one, and the dump has more parts than one."""
    monkeypatch.setattr(sock_diag, "ROOM", 1)
    with ExitStack() as stack:
        kinds = (socket.SOCK_STREAM, socket.SOCK_DGRAM) * 5
        opened = [stack.enter_context(socket.socket(socket.AF_INET, kind)) for kind in kinds]
        for one in opened:
            one.bind(("127.0.0.1", 0))
            if one.type == socket.SOCK_STREAM:
                one.listen()
        found = dump_sockets()
        listed = set(zip(found.protocol.tolist(), found.local_port.tolist(), found.inode.tolist(), strict=True))
        protocols = {socket.SOCK_STREAM: socket.IPPROTO_TCP, socket.SOCK_DGRAM: socket.IPPROTO_UDP}
        kept = {(protocols[one.type], one.getsockname()[1], os.fstat(one.fileno()).st_ino) for one in opened}
    assert kept <= listed


def test_a_dump_that_is_left_ends() -> None:
    """Its thread stops, whether all was read or nothing; it can be left before it could begin."""
    threads = threading.active_count()
    with SockDump():
        pass
    with SockDump() as dump:
        next(iter(dump))
    with SockDump() as dump:
        assert list(dump)
    assert threading.active_count() == threads
    assert [request.protocol for request in REQUESTS] == [6, 17, 17]


# ---- other namespaces


@needs_root
def test_the_namespace_of_a_process(host: Host) -> None:
    """--netns PID reads there, and this thread is back in its own afterwards."""
    here = Path("/proc/self/ns/net").stat().st_ino
    sockets = read_live([find_namespace(str(host.pid))])[0].sockets
    assert Path("/proc/self/ns/net").stat().st_ino == here
    lasting = [row for row in rows_of(sockets) if row[2] != State.TIME_WAIT]
    assert Counter(lasting) == Counter(row[:7] for row in host.found if row[2] != State.TIME_WAIT)


MOUNTED = """
set -e
mkdir -p /run/netns /run/docker/netns
touch /run/netns/web /run/docker/netns/1a2b
mount --bind /proc/{pid}/ns/net /run/netns/web
mount --bind /proc/{pid}/ns/net /run/docker/netns/1a2b
exec {command}
"""


def with_mounts(pid: int, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run connbench where the namespace of a process is mounted under two names."""
    command = f"{Path(sys.executable).with_name('connbench')} {' '.join(arguments)}"
    script = MOUNTED.format(pid=pid, command=command)
    program = [*INSIDE, "--tmpfs", "/run:mode=755", "--", "sh", "-c", script]
    return subprocess.run(program, capture_output=True, text=True, check=False, timeout=HANG_S)


@needs_root
@pytest.mark.parametrize("name", ["web", "1a2b", "/run/netns/web"])
def test_the_namespace_of_a_name(host: Host, name: str) -> None:
    """Of ip-netns, of Docker, or a file."""
    found = with_mounts(host.pid, "inspect", "--netns", name)
    assert found.returncode == ExitCode.OK, found.stderr
    read = re.match(rf"read +([\d,]+) sockets of namespace {name} ", found.stdout)
    assert read
    assert host.lasting <= int(read[1].replace(",", "")) <= len(host.found)


@needs_root
def test_a_name_that_is_none_is_near_one(host: Host) -> None:
    """The hint knows the names."""
    found = with_mounts(host.pid, "inspect", "--netns", "wbe")
    assert found.returncode == ExitCode.ENVIRONMENT
    assert found.stderr == "connbench: there is no network namespace wbe\n  -> did you mean web?\n"


@needs_root
def test_all_namespaces_each_once(host: Host) -> None:
    """The one with two names and several processes is there once, by its first name; and so is the command's own."""
    found = with_mounts(host.pid, "inspect", "--all-netns", "--format", "prometheus")
    assert found.returncode == ExitCode.OK, found.stderr
    names = [line.split('namespace="')[1].split('"')[0] for line in found.stdout.splitlines() if "_paths{" in line]
    assert names[:2] == ["", "web"]
    assert len(set(names)) == len(names)
    assert not any(name.startswith(f"{host.pid} ") for name in names)


@needs_root
def test_a_namespace_that_has_ended() -> None:
    """Named, it is an error; of all, it is left out."""
    with started([*INSIDE, "--", "cat"]) as process:
        gone = NetworkNamespace("gone", Path(f"/proc/{process.pid}/ns/net"))
    with pytest.raises(EnvironmentFault, match="there is no network namespace gone"):
        read_live([gone])
    assert [snapshot.namespace for snapshot in read_live([gone, OWN])] == [""]
    found = connbench("inspect", "--netns", str(process.pid))
    assert found.returncode == ExitCode.ENVIRONMENT
    assert f"there is no process {process.pid}" in found.stderr


@needs_root
def test_entering_needs_a_capability(host: Host) -> None:
    """Without CAP_SYS_ADMIN even root stays outside."""
    found = connbench("inspect", "--netns", str(host.pid), inside=("--drop", "sys_admin"))
    assert found.returncode == ExitCode.ENVIRONMENT
    assert "cannot be entered: setns: Operation not permitted" in found.stderr
    assert "CAP_SYS_ADMIN" in found.stderr


@needs_root
def test_an_ordinary_user_cannot_list_all() -> None:
    """It would miss those of other users without saying so."""
    program = (
        "import os\nfrom connbench.linux.network_namespaces import find_namespaces\nos.setresuid(*[65534] * 3)\n"
        "try:\n    find_namespaces()\nexcept Exception as error:\n    print(error.hint)"
    )
    found = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert "run it as root" in found.stdout


def test_what_is_no_namespace(tmp_path: Path) -> None:
    """A file, a folder, a pipe without a writer, and both options at once."""
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "file").touch()
    for name in ("pipe", "file", ""):
        found = connbench("inspect", "--netns", f"{tmp_path}/{name}")
        assert found.returncode == ExitCode.ENVIRONMENT
        assert f"{tmp_path / name} is no network namespace" in found.stderr
    assert connbench("inspect", "--netns", "1", "--all-netns").returncode == ExitCode.USAGE
