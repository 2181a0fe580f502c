"""Limits of machine, user and control group: read where the kernel shows them, and none where it does not."""

from __future__ import annotations

import os
import resource
import subprocess
import sys
from pathlib import Path

import pytest

from connbench.linux import cgroup_limits, limits
from connbench.linux.cgroup_limits import Remaining
from connbench.linux.limits import MOST_PROCESSES, UNLIMITED

V1_UNLIMITED = 9223372036854771712


class Machine:
    """A /proc and a mounted hierarchy of control groups, made of files."""

    def __init__(self, root: Path) -> None:
        self.proc, self.mount = root / "proc", root / "sys fs" / "cgroup"
        (self.proc / "self").mkdir(parents=True)
        self.mount.mkdir(parents=True)

    def tell(self, groups: str, *mounts: str) -> None:
        """Write /proc/self/cgroup, and /proc/self/mountinfo: root, mount point, kind and options of each."""
        lines = []
        for number, mount in enumerate(mounts):
            root, point, kind, options = mount.split(" ")
            where = f"{self.mount}{point}".replace(" ", "\\040")
            lines.append(f"{number} 20 0:28 {root} {where} rw,relatime shared:1 - {kind} {kind} {options}")
        (self.proc / "self" / "cgroup").write_text(groups, encoding="utf-8")
        (self.proc / "self" / "mountinfo").write_text("\n".join(lines) + "\n", encoding="utf-8")

    def group(self, path: str, **files: object) -> None:
        """A group's folder; a `memory_max` is its file `memory.max`."""
        folder = self.mount / path
        folder.mkdir(parents=True, exist_ok=True)
        for name, value in files.items():
            (folder / name.replace("_", ".", 1)).write_text(f"{value}\n", encoding="utf-8")

    def memory(self) -> tuple[int, str] | None:
        """Bytes left, and the limit below the mount."""
        left = cgroup_limits.memory_left(self.proc)
        return left and (left[0], left[1].replace(f"{self.mount}/", ""))


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    """A machine without groups."""
    return Machine(tmp_path)


def test_every_group_up_to_the_mount_binds(machine: Machine) -> None:
    """In cgroup v2 the smallest of memory.max and memory.high of all groups binds; reclaimable cache is not in use."""
    machine.tell("0::/a/b/c\n", "/ / cgroup2 rw")
    machine.group("a", memory_max=10_000, memory_high="max", memory_current=4000)
    machine.group("a/b", memory_max="max", memory_high=9500, memory_current=3000)
    machine.group("a/b/c", memory_max=8000, memory_high="max", memory_current=1000)
    assert machine.memory() == (6000, "a/memory.max")
    machine.group("a", memory_stat="anon 1000\ninactive_file 3000\nactive_file 0")
    assert machine.memory() == (6500, "a/b/memory.high")
    machine.group("a/b", memory_high="max")
    assert machine.memory() == (7000, "a/b/c/memory.max")
    machine.group("a/b/c", memory_current=20_000)
    assert machine.memory() == (0, "a/b/c/memory.max"), "never negative"


def test_groups_of_version_1(machine: Machine) -> None:
    """The memory controller's own hierarchy; a limit above the mount shows in hierarchical_memory_limit alone."""
    machine.tell(
        "4:memory:/docker/1234\n3:cpu,cpuacct:/else\n0::/\n",
        "/docker/1234 /memory cgroup rw,memory",
        "/ /cpu cgroup rw,cpu,cpuacct",
        "/ /unified cgroup2 rw",
    )
    usage = {"memory_usage_in_bytes": 500, "memory_limit_in_bytes": V1_UNLIMITED}
    machine.group("memory", **usage, memory_stat="inactive_file 7\ntotal_inactive_file 100")
    assert machine.memory() is None
    machine.group("memory", memory_stat="total_inactive_file 100\nhierarchical_memory_limit 2000")
    found = machine.memory()
    assert found
    assert found[0] == 1600
    assert "hierarchical_memory_limit" in found[1]
    machine.group("memory", memory_limit_in_bytes=1000)
    assert machine.memory() == (600, "memory/memory.limit_in_bytes")


@pytest.mark.parametrize(
    ("path", "root", "folder"),
    [
        ("/a", "/", "a"),
        ("/docker/1", "/docker/1", ""),
        ("/docker/1/inner", "/docker/1", "inner"),
        ("/", "/", ""),
        ("/../other", "/", ""),
        ("/docker/12", "/docker/1", ""),
        ("/odd:name/with blank", "/", "odd:name/with blank"),
        ("/gone (deleted)", "/", "gone"),
    ],
)
def test_the_folder_of_a_group(machine: Machine, path: str, root: str, folder: str) -> None:
    """The path where a container has its own group mounted, or a namespace of groups; else only the mount shows."""
    machine.tell(f"0::{path}\n", f"{root} / cgroup2 rw")
    machine.group(folder, memory_max=100, memory_current=10)
    assert cgroup_limits.memory_left(machine.proc) == (90, str(machine.mount / folder / "memory.max"))


def test_processes_of_a_group(machine: Machine) -> None:
    """pids.max of every group up to the mount."""
    machine.tell("8:pids:/a/b\n", "/ /pids cgroup rw,pids")
    machine.group("pids/a", pids_max=100, pids_current=98)
    machine.group("pids/a/b", pids_max="max", pids_current=5)
    assert cgroup_limits.processes_left(machine.proc) == (2, str(machine.mount / "pids/a/pids.max"))
    machine.group("pids/a", pids_current=120)
    assert cgroup_limits.processes_left(machine.proc) == (0, str(machine.mount / "pids/a/pids.max"))


@pytest.mark.parametrize("odd", ["", "nonsense", "0:", "::", ":::::", "0::/a\0b", "\xff:\n\n:", "4:memory", "-1"])
def test_odd_files_set_no_limit(machine: Machine, odd: str) -> None:
    """Whatever /proc/self/cgroup, mountinfo and a group's files hold, nothing is raised."""
    machine.tell(odd, "/ / cgroup2 rw")
    assert machine.memory() is None
    (machine.proc / "self" / "mountinfo").write_text(odd, encoding="utf-8")
    assert machine.memory() is None
    machine.tell("0::/\n", "/ / cgroup2 rw")
    machine.group("", memory_max=odd, memory_current=odd, memory_stat=odd, pids_max=odd, pids_current=odd)
    assert machine.memory() is None
    assert cgroup_limits.processes_left(machine.proc) is None
    machine.group("", memory_max=10, memory_current="1" * 5000)
    assert machine.memory() is None


def test_no_proc_sets_no_limit(tmp_path: Path) -> None:
    """Where /proc is missing nothing is known of groups."""
    assert cgroup_limits.memory_left(tmp_path / "nowhere") is None
    assert cgroup_limits.processes_left(tmp_path / "nowhere") is None


@pytest.fixture
def files(monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """Files of /proc by their paths, instead of the kernel's; any other cannot be read."""
    told: dict[str, str] = {}
    monkeypatch.setattr(limits, "_lines", lambda path: told.get(path, "").splitlines())
    monkeypatch.setattr(limits, "_visible_processes", lambda: 30)
    monkeypatch.setattr(cgroup_limits, "memory_left", lambda: None)
    monkeypatch.setattr(cgroup_limits, "processes_left", lambda: None)
    return told


def test_memory_of_the_machine(files: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    """MemAvailable; where a kernel or a container's /proc lacks it, free memory and the caches; else free memory."""
    files["/proc/meminfo"] = "MemTotal: 100 kB\nMemFree: 10 kB\nMemAvailable: 50 kB\nBuffers: 1 kB\nCached: 20 kB\nodd"
    assert limits.available_memory() == 50 * 1024
    monkeypatch.setattr(cgroup_limits, "memory_left", lambda: Remaining(40 * 1024, "memory.max"))
    assert limits.available_memory() == 40 * 1024
    monkeypatch.setattr(cgroup_limits, "memory_left", lambda: None)
    files["/proc/meminfo"] = "MemFree: 10 kB\nMemAvailable: much\nBuffers: 1 kB\nCached: 20 kB"
    assert limits.available_memory() == 31 * 1024
    files["/proc/meminfo"] = ""
    monkeypatch.setattr(os, "sysconf", {"SC_AVPHYS_PAGES": 7, "SC_PAGESIZE": 4096}.__getitem__)
    assert limits.available_memory() == 7 * 4096
    monkeypatch.setattr(os, "sysconf", {"SC_AVPHYS_PAGES": -1}.__getitem__)
    assert limits.available_memory() == UNLIMITED


def test_processes_of_machine_and_group(files: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    """The least of pid_max, threads-max and the groups', by name; threads count, and none is ever below 0."""
    assert limits.processes_left() == (MOST_PROCESSES, "the kernel's PID_MAX_LIMIT")
    files |= {"/proc/loadavg": "0.1 0.1 0.1 2/900 4711\n", "/proc/sys/kernel/pid_max": "1000\n"}
    assert limits.processes_left() == (100, "kernel.pid_max")
    files["/proc/sys/kernel/threads-max"] = "950\n"
    assert limits.processes_left() == (50, "kernel.threads-max")
    files["/proc/sys/kernel/pid_max"] = "70\n"
    assert limits.processes_left() == (40, "kernel.pid_max"), "of a pid namespace, where 30 processes are seen"
    monkeypatch.setattr(cgroup_limits, "processes_left", lambda: (3, "pids.max"))
    assert limits.processes_left() == (3, "pids.max")
    files["/proc/sys/kernel/pid_max"] = "20\n"
    assert limits.processes_left() == (0, "kernel.pid_max")
    assert limits.processes_left().amount == 0


@pytest.mark.parametrize("text", ["", "a b c", "0.1 0.1 0.1", "0.1 0.1 0.1 2/x 3", "x"])
def test_unreadable_numbers_set_no_limit(files: dict[str, str], text: str) -> None:
    """An emulation of /proc may have words where the kernel has numbers."""
    for path in ("sys/kernel/pid_max", "sys/kernel/threads-max", "loadavg", "meminfo", "sys/fs/file-nr", "self/statm"):
        files[f"/proc/{path}"] = text
    assert limits.processes_left().amount == MOST_PROCESSES
    assert limits.free_files() == UNLIMITED
    assert limits.machine_memory() > 0
    assert limits.free_address_space() > 0


def test_files_of_the_machine(files: dict[str, str]) -> None:
    """fs.file-max less the open files; the kernel does not apply it to CAP_SYS_ADMIN."""
    files["/proc/sys/fs/file-nr"] = "1000 0 1500"
    assert limits.free_files() == 500
    files["/proc/sys/fs/file-nr"] = "1600 0 1500"
    assert limits.free_files() == 0
    files["/proc/self/status"] = "Name: x\nCapEff:\t0000000000200000\n"
    assert limits.free_files() == UNLIMITED
    files["/proc/self/uid_map"] = "0 1000 1"
    assert limits.free_files() == 0, "a capability of a user namespace does not count"


@pytest.mark.parametrize(
    ("user", "id_map", "capabilities", "is_held"),
    [
        (1000, limits.WHOLE_ID_MAP, 0, True),
        (0, limits.WHOLE_ID_MAP, 0, False),
        (0, "0 1000 1", (1 << 41) - 1, True),
        (1000, limits.WHOLE_ID_MAP, 1 << limits.CAP_SYS_RESOURCE, False),
        (1000, limits.WHOLE_ID_MAP, 1 << limits.CAP_SYS_ADMIN, False),
    ],
    ids=["user", "root", "root of a user namespace", "CAP_SYS_RESOURCE", "CAP_SYS_ADMIN"],
)
def test_who_is_held_to_nproc(
    user: int, id_map: str, capabilities: int, is_held: bool, files: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The kernel applies RLIMIT_NPROC to an ordinary user, and counts the threads of that user alone."""
    monkeypatch.setattr(os, "getuid", lambda: user)
    monkeypatch.setattr(resource, "getrlimit", lambda _: (100, 100))
    monkeypatch.setattr(os, "listdir", lambda _: ["1", "2", "3", "4", "self", "meminfo"])
    files |= {
        "/proc/self/uid_map": f"  {id_map}\n",
        "/proc/self/status": f"CapEff:\t{capabilities:016x}\n",
        "/proc/1/status": "Name:\ta\nUid:\t77\t77\t77\t77\nThreads:\t5000\n",
        "/proc/2/status": f"Name:\tb\nUid:\t{user}\t77\t77\t77\nThreads:\t60\n",
        "/proc/3/status": f"Name:\tb\nUid:\t77\t{user}\t77\t77\nThreads:\t60\n",  # effective: not what is counted
        "/proc/4/status": "",  # it has ended meanwhile
    }
    expected = Remaining(40, "RLIMIT_NPROC") if is_held else Remaining(MOST_PROCESSES, "the kernel's PID_MAX_LIMIT")
    assert limits.processes_left() == expected
    files["/proc/2/status"] = files["/proc/2/status"].replace("60", "158")
    assert limits.processes_left().amount == (0 if is_held else MOST_PROCESSES)


def test_threads_of_a_user_are_the_kernels() -> None:
    """A process counts as its number of threads, for its real user."""
    user = 64_321 if os.getuid() == 0 else os.getuid()
    program = (
        f"import os, threading, sys\nos.setreuid({user}, -1)\n"
        "[threading.Thread(target=threading.Event().wait, daemon=True).start() for _ in range(7)]\n"
        "print(len(threading.enumerate()), flush=True)\nsys.stdin.read()"
    )
    before = limits._threads_of_user(user)  # noqa: SLF001  # the public figure has every other limit in it
    with subprocess.Popen(
        [sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout
        assert process.stdout.readline() == "8\n"
        counted = limits._threads_of_user(user)  # noqa: SLF001  # as above
        process.kill()
    if os.getuid() == 0:
        assert (before, counted) == (0, 8)
    else:
        assert counted >= 8


def test_address_space_that_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    """RLIMIT_AS less what is mapped."""
    monkeypatch.setattr(resource, "getrlimit", lambda _: (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    assert limits.free_address_space() == UNLIMITED
    mapped = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[0]) * os.sysconf("SC_PAGESIZE")
    monkeypatch.setattr(resource, "getrlimit", lambda _: (2 * mapped, 2 * mapped))
    assert 0 < limits.free_address_space() < 2 * mapped
    monkeypatch.setattr(resource, "getrlimit", lambda _: (mapped // 2, mapped // 2))
    assert limits.free_address_space() == 0


def test_descriptors_without_proc(monkeypatch: pytest.MonkeyPatch) -> None:
    """Descriptors are counted one by one where /proc does not list them."""
    counted = limits.free_descriptors()

    def missing(_path: str) -> None:
        raise FileNotFoundError

    monkeypatch.setattr(os, "listdir", missing)
    assert limits.free_descriptors() == counted
