"""Which processes have which sockets, of real processes; and what an ordinary user sees of them."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest

from connbench.inspect.port_usage import PathUsage, usage
from connbench.inspect.processes import blocks, choose_cgroup, document, find_processes, programs_of, unit_of
from connbench.inspect.snapshot import Process, Settings, Snapshot
from connbench.inspect.sockets import Sockets, State, address_words
from connbench.model import PortRange
from connbench.report.blocks import Heading, Lines, Table

MARK = "who-has-it"
PROGRAM = """
import os, socket, sys
open("/proc/self/comm", "w").write(sys.argv[1])
own = [socket.socket() for _ in range(3)]
print(*(os.fstat(one.fileno()).st_ino for one in own), flush=True)
sys.stdin.read()
"""
CGROUPS = Path("/sys/fs/cgroup/unified")

is_root = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")


@contextmanager
def holding(*words: str, close_fds: bool = True, name: str = MARK) -> Iterator[tuple[subprocess.Popen[str], list[int]]]:
    """A process that has three sockets until the context ends, and their inodes."""
    with subprocess.Popen(
        [*words, sys.executable, "-c", PROGRAM, name],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        close_fds=close_fds,
    ) as process:
        assert process.stdin
        assert process.stdout
        try:
            yield process, [int(word) for word in process.stdout.readline().split()]
        finally:
            process.stdin.close()
            process.wait()


def inode_of(one: socket.socket) -> int:
    """The inode of a socket."""
    return os.fstat(one.fileno()).st_ino


def snapshot_of(rows: list[tuple[int, State]], processes: dict[int, tuple[Process, ...]]) -> tuple[PathUsage, Snapshot]:
    """Connections of one path, as inode and state, with ports from 40000 on; the path and its snapshot."""
    ends = [np.array([address_words(text)[1]] * len(rows), dtype=np.uint64) for text in ("10.0.0.5", "10.1.2.3")]
    sockets = Sockets.of(
        protocol=[6] * len(rows),
        family=[4] * len(rows),
        state=[state for _, state in rows],
        local=ends[0],
        remote=ends[1],
        local_port=range(40000, 40000 + len(rows)),
        remote_port=[443] * len(rows),
        inode=[inode for inode, _ in rows],
    )
    snapshot = Snapshot(sockets, Settings(PortRange(40000, 40999)), processes=processes)
    [path] = usage(snapshot).rows()
    return path, snapshot


def test_sockets_are_found_by_their_inode() -> None:
    """Each socket of the process has the process's id and name; other descriptors and other sockets are not there."""
    with holding() as (process, inodes), socket.socket() as other:
        found = find_processes(np.array([*inodes, 2**40], dtype=np.uint64))
        assert inode_of(other) not in found
        assert {inode: [(one.pid, one.name) for one in its] for inode, its in found.items()} == {
            inode: [(process.pid, MARK)] for inode in inodes
        }


def test_name_of_a_process_is_safe_to_print() -> None:
    """A process may give itself any name: control characters and a command to a CI runner are not printed."""
    with holding(name="\x1b[1m::error::") as (_, inodes):
        [one] = find_processes(np.array(inodes[:1], dtype=np.uint64))[inodes[0]]
    assert one.name == "\N{REPLACEMENT CHARACTER}[1m:\N{REPLACEMENT CHARACTER}error::"


def test_socket_of_several_processes_names_each() -> None:
    """A socket that a child inherited belongs to both processes."""
    with socket.socket() as shared:
        shared.set_inheritable(True)
        with holding(close_fds=False) as (child, _):
            found = find_processes(np.array([inode_of(shared)], dtype=np.uint64))
        assert [one.pid for one in found[inode_of(shared)]] == sorted([os.getpid(), child.pid])


def test_process_that_has_ended_is_left_out() -> None:
    """Its sockets have no process: nothing fails, and nothing is found."""
    with holding() as (_, inodes):
        pass
    assert find_processes(np.array(inodes, dtype=np.uint64)) == {}


def test_descriptor_and_process_that_end_while_we_look_are_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    """The list of a process's descriptors is older than the look at each of them."""
    with holding() as (process, inodes), socket.socket() as first, socket.socket() as second:
        own = [inode_of(first), inode_of(second)]
        real = os.readlink

        def read_late(name: str, *, dir_fd: int) -> str:
            if process.stdin and not process.stdin.closed and name == str(first.fileno()):
                second.close()
                process.stdin.close()
                process.wait()
            return real(name, dir_fd=dir_fd)

        assert first.fileno() < second.fileno()
        monkeypatch.setattr(os, "readlink", read_late)
        found = find_processes(np.array([*own, *inodes], dtype=np.uint64))
    assert list(found) == own[:1]


@pytest.mark.skipif(shutil.which("setpriv") is None, reason="needs setpriv (util-linux)")
@is_root
def test_ordinary_user_sees_its_own_processes_only() -> None:
    """It finds its own socket and not root's; nothing fails."""
    look = (
        "import json, sys, numpy; from connbench.inspect.processes import find_processes; "
        "print(json.dumps(list(find_processes(numpy.array(json.loads(sys.argv[1]), dtype='u8')))))"
    )
    user = ("setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", "--inh-caps=-all", "--bounding-set=-all")
    with holding() as (_, of_root), holding(*user) as (_, its_own):
        command = [*user, sys.executable, "-c", look, json.dumps(of_root + its_own)]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert sorted(json.loads(done.stdout)) == sorted(its_own)


@is_root
@pytest.mark.skipif(not os.access(CGROUPS / "cgroup.procs", os.W_OK), reason="no cgroup v2 can be made here")
def test_cgroup_is_that_of_the_process() -> None:
    """A process that was moved into a cgroup has that cgroup's path, and its unit."""
    folder = CGROUPS / f"connbench-tests-{os.getpid()}-{MARK}.service"
    folder.mkdir()
    try:
        with holding() as (process, inodes):
            (folder / "cgroup.procs").write_text(f"{process.pid}\n", encoding="ascii")
            [one] = find_processes(np.array(inodes[:1], dtype=np.uint64))[inodes[0]]
        assert one.cgroup == f"/{folder.name}"
        assert unit_of(one.cgroup) == folder.name
    finally:
        folder.rmdir()


@pytest.mark.parametrize(
    ("lines", "cgroup"),
    [
        ("0::/system.slice/nginx.service\n", "/system.slice/nginx.service"),
        ("9:name=systemd:/system.slice/a.service\n4:memory:/b\n0::/\n", "/system.slice/a.service"),
        ("4:memory:/docker/0123\n1:cpu:/\n0::/\n", "/docker/0123"),
        ("4:memory:/\n0::/\n", "/"),
        ("0::/a:b.service\n", "/a:b.service"),
        ("", ""),
        ("nonsense\n", ""),
    ],
)
def test_cgroup_of_either_version(lines: str, cgroup: str) -> None:
    """That of cgroup v2 or of systemd is preferred, unless it is the root; a colon may stand in a path."""
    assert choose_cgroup(lines) == cgroup


@pytest.mark.parametrize(
    ("cgroup", "unit"),
    [
        ("/system.slice/nginx.service", "nginx.service"),
        ("/system.slice/nginx.service/workers", "nginx.service"),
        ("/user.slice/user-0.slice/user@0.service/app.slice/a.service", "a.service"),
        ("/kubepods.slice/kubepods-pod1.slice/cri-containerd-0123.scope", "cri-containerd-0123.scope"),
        ("/docker/0123", "/docker/0123"),
        ("/a.service.d/x", "/a.service.d/x"),
        ("", ""),
    ],
)
def test_unit_is_the_innermost_service_or_scope(cgroup: str, unit: str) -> None:
    """Without one it is the path."""
    assert unit_of(cgroup) == unit


def test_ports_are_counted_for_each_program_and_unit() -> None:
    """Processes of one name and unit are one program; what has no process is counted by its reason."""
    first, second = Process(7, "nginx", "/system.slice/a.service"), Process(5, "nginx", "/system.slice/a.service")
    other = Process(9, "curl", "/system.slice/a.service")
    path, snapshot = snapshot_of(
        [
            (101, State.ESTABLISHED),
            (102, State.ESTABLISHED),
            (103, State.ESTABLISHED),
            (104, State.ESTABLISHED),
            (0, State.TIME_WAIT),
            (0, State.FIN_WAIT1),
        ],
        {101: (first,), 102: (first, second), 103: (other,)},
    )
    found = programs_of(path, snapshot)
    assert [(one.name, one.unit, one.pids, one.ports) for one in found.programs] == [
        ("nginx", "a.service", (5, 7), 2),
        ("curl", "a.service", (9,), 1),
    ]
    assert found.units == {"a.service": 3}
    assert (found.time_wait, found.closed, found.hidden) == (1, 1, 1)
    assert document(path, snapshot) == {
        "programs": [
            {"name": "nginx", "unit": "a.service", "pids": [5, 7], "ports": 2},
            {"name": "curl", "unit": "a.service", "pids": [9], "ports": 1},
        ],
        "units": [{"unit": "a.service", "ports": 3}],
        "without_process": {"time_wait": 1, "closed": 1, "hidden": 1},
    }


def test_table_names_few_processes_and_says_what_has_none() -> None:
    """Ten workers are three numbers and a count; the sentences below say why connections are missing."""
    workers = tuple(Process(pid, "nginx", "/system.slice/a.service") for pid in range(1, 11))
    path, snapshot = snapshot_of([(101, State.ESTABLISHED), (0, State.TIME_WAIT), (0, State.TIME_WAIT)], {101: workers})
    [table] = blocks(path, snapshot)
    assert isinstance(table, Table)
    assert table.rows == [("nginx", "1", "1, 2, 3 and 7 more", "a.service")]
    assert table.title == "Programs with ports of 10.0.0.5 -> 10.1.2.3:443"
    assert table.remarks == ("2 connections are in TIME_WAIT, which no process has any more.",)


def test_path_without_a_process_has_sentences_alone() -> None:
    """All of it is in TIME_WAIT: there is no table without rows."""
    assert blocks(*snapshot_of([(0, State.TIME_WAIT)], {})) == [
        Heading("Programs with ports of 10.0.0.5 -> 10.1.2.3:443"),
        Lines(["1 connection is in TIME_WAIT, which no process has any more."]),
    ]
