"""Every command with one thing of the machine taken away: a system call, a limit, a file system, a standard stream.

There is one law for each cell: an exit code that is documented and fits (never 1, which means that a --fail-if is true,
and never 70, which means a bug), no traceback, a line or two that name the fault, nothing left behind, and an output
file that is whole or absent. Control groups bound what a cell can do to the machine.
"""

from __future__ import annotations

import os
import platform
import re
import shutil
import signal
import subprocess
import sys
import uuid
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import pytest

from connbench.errors import ExitCode
from connbench.results.input_file import read
from faulty_host import SYSTEM_CALLS
from run_connbench import COMMAND, INSIDE, REACHABLE, marked, wait_until
from server_host import LISTEN

pytestmark = [pytest.mark.slow, pytest.mark.skipif(os.geteuid() != 0, reason="control groups and mounts need root")]

AS_NOBODY = ("setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", "--inh-caps=-all", "--bounding-set=-all")
PATIENCE_S = 120
"""A cell that takes longer hangs."""

Command = tuple[str, ...]

PORTS = ("--port-range", "40000-40063")
SERVE = ("serve", "--port", "0")
DOCTOR = ("doctor",)
"""This command says on stdout what is wrong."""
MEASURING: dict[str, Command] = {
    "run": ("run", "--strategy", "plain,window", "--window", "16", *PORTS, "-o", "out.json"),
    "veth": ("run", "--strategy", "bind", "--link", "veth", "--listener", "accept", *PORTS, "-o", "out.csv"),
    "serve": SERVE,
    "doctor": DOCTOR,
    "report": ("report", "made.json", "--html", "out.html"),
}
"""The command that uses most of the kernel."""

QUICK = MEASURING | {
    "sweep": ("sweep", "--fill", "50%,90%", "--window", "16", *PORTS, "-o", "out.json.gz", "--html", "out.html"),
    "trace": ("trace", "latency", "--duration", "1s"),
    "compare": ("compare", "made.json", "made.json", "--format", "json"),
    "predict": ("predict", "made.json", "--chart", "out.png"),
    "advise": ("advise", "-n", "60", *PORTS),
    "plot": ("plot", "made.json", "-o", "out.svg"),
    "terminal": ("plot", "made.json", "--terminal"),
    "strategies": ("strategies",),
    "help": ("run", "--help"),
}
ALL = QUICK | {"reproduce": ("reproduce", "--quick", "-o", "out.json")}

ENDS = {".html": b"</html>", ".svg": b"</svg>", ".png": b"IEND"}
DONE = {ExitCode.OK, ExitCode.UNSOUND}
FIT = {*DONE, ExitCode.USAGE, ExitCode.ENVIRONMENT, ExitCode.TARGET, ExitCode.FAULT, ExitCode.OUTPUT, ExitCode.INPUT}


@dataclass(frozen=True)
class Bench:
    """Where cells run.

    Attributes:
        folder: Their working directory.
        groups: Control groups that they are in.
        made: The content of a result file, for the commands that read one.
    """

    folder: Path
    groups: list[Path]
    made: bytes

    def hold(self, inside: Command, commands: dict[str, Command], *, by: Command = (), hears: bool = True) -> None:
        """Check that commands keep the law without something.

        Args:
            inside: What faulty_host.py takes away.
            commands: Which.
            by: A program that starts the command, and takes something away too.
            hears: Whether stderr is there to be written to.
        """
        python = [*INSIDE, *inside, "--", *by, sys.executable, "-c", "import click"]
        if subprocess.run(python, check=False, capture_output=True).returncode:
            pytest.skip("Python itself cannot begin, which says nothing of connbench")
        broken = [
            f"{name}: {wrong}" for name, line in commands.items() for wrong in self._cell(line, inside, by, hears)
        ]
        assert not broken, "\n".join([f"{' '.join((*inside, *by))}:", *broken])

    def _cell(self, command: Command, inside: Command, by: Command, hears: bool) -> list[str]:
        for entry in self.folder.iterdir():
            entry.unlink()
        (self.folder / "made.json").write_bytes(self.made)
        mark = str(uuid.uuid4())
        groups = [word for group in self.groups for word in ("--cgroup", str(group))]
        told, printed = self.folder.parent / "stderr", self.folder.parent / "stdout"
        with printed.open("wb") as stdout, told.open("wb") as stderr:
            process = subprocess.Popen(
                [*INSIDE, *groups, *inside, "--", *by, COMMAND, *command],
                cwd=self.folder,
                env={**os.environ, "CONNBENCH_TEST_RUN": mark},
                stdout=stdout,
                stderr=stderr,
            )
            code = _end(process, serves=command == SERVE)
        left = marked(f"CONNBENCH_TEST_RUN={mark}")
        for pid in left:
            os.kill(pid, signal.SIGKILL)
        process.wait()
        wrong = [f"{len(left)} processes are left"] if left and code is not None else []
        words = told.read_text(encoding="utf-8", errors="replace")
        if wrong_end := _wrong_end(command, code, words, hears=hears):
            wrong.append("\n    ".join([wrong_end, *words.splitlines()[-3:]]))
        return [*wrong, *_wrong_files(self.folder, command, code)]


def _end(process: subprocess.Popen[bytes], *, serves: bool) -> int | None:
    """The exit code; None if it hangs. A server is told to end once it listens."""
    if serves:
        with suppress(TimeoutError):
            wait_until(lambda: process.poll() is not None or _listens(process.pid), "it serves")
        process.terminate()
    try:
        return process.wait(PATIENCE_S)
    except subprocess.TimeoutExpired:
        return None


def _listens(pid: int) -> bool:
    """Whether a socket listens in the network namespace that faulty_host.py has made for a process."""
    process = Path("/proc", str(pid))
    try:
        is_inside = (process / "ns/net").readlink() != Path("/proc/self/ns/net").readlink()
        return is_inside and f" {LISTEN} " in (process / "net/tcp").read_text(encoding="ascii")
    except OSError:
        return False


def _wrong_end(command: Command, code: int | None, words: str, *, hears: bool) -> str:
    """What is wrong with an exit code and the output on stderr; empty if nothing is."""
    # Several processes of a server may tell the same.
    faults = {
        re.sub(r"[0-9]+", "N", line)
        for line in words.splitlines()
        if not re.match("connbench: (warning|note): |connbench: .* combinations of|  -> |wrote ", line)
    }
    if code is None:
        return "hangs"
    if "Traceback" in words:
        return f"exit code {code} with a traceback"
    # It was told to end as it began to listen, or when it had told its fault: a shell says 143 of both.
    is_ended = command == SERVE and code in {ExitCode.TERMINATED, -signal.SIGTERM}
    if code not in FIT and not is_ended:
        return f"exit code {code}"
    if hears and command != DOCTOR and code not in DONE and not faults:
        return f"exit code {code} without a word"
    return f"exit code {code} with {len(faults)} lines" if len(faults) > 2 else ""


def _wrong_files(folder: Path, command: Command, code: int | None) -> Iterator[str]:
    """What is wrong with the files that a command left."""
    there = {entry.name: entry for entry in folder.iterdir() if entry.name != "made.json"}
    asked = {word for word in command if word.startswith("out.")}
    for name, entry in there.items():
        if name not in asked:
            yield f"{name} is left"
        elif end := ENDS.get(entry.suffix):
            if end not in entry.read_bytes()[-20:]:
                yield f"{name} is not whole"
        else:
            read(entry)
    if code in DONE and asked - set(there):
        yield f"exit code {code} without {' and '.join(asked - set(there))}"


CALLS = [*SYSTEM_CALLS[platform.machine()], "fork", "netlink", "no-port", "port-range"]
MIB = 1 << 20
LIMITS = [
    *(("NOFILE", number) for number in (20, 24, 28, 32, 40, 48, 64, 100, 256)),
    *(("AS", size * MIB) for size in (70, 100, 150, 200, 300, 400, 600, 1000)),
    *(("DATA", size * MIB) for size in (30, 60, 120)),
    *(("FSIZE", size) for size in (1000, 100_000)),
    *(("STACK", size) for size in (MIB // 4, MIB)),
    *((name, 0) for name in ("MEMLOCK", "CORE", "SIGPENDING", "MSGQUEUE")),
]
PLACES: list[Command] = [
    ("--all-read-only",),
    *(("--mask", folder) for folder in ("/tmp", "/proc", "/sys", "/dev/shm", "/etc")),  # noqa: S108  # none is written
    ("--proc", "subset=pid"),
]


@pytest.fixture(scope="session")
def made(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """The content of a result file."""
    path = tmp_path_factory.mktemp("made") / "made.json"
    line = [COMMAND, "run", "--strategy", "plain,window", "--window", "16", *PORTS, "-o", str(path)]
    subprocess.run(line, check=True, stdout=subprocess.DEVNULL)
    return path.read_bytes()


@pytest.fixture(scope="session")
def groups() -> Iterator[list[Path]]:
    """Control groups that bound processes and memory: cgroup v2, or pids and memory of v1."""
    root, name = Path("/sys/fs/cgroup"), f"connbench-matrix-{os.getpid()}"
    limits = {"pids.max": 200, "memory.max": 4 << 30, "memory.limit_in_bytes": 4 << 30}
    made = []
    for group in (root / name, root / "pids" / name, root / "memory" / name):
        try:
            group.mkdir()
        except OSError:
            continue
        made.append(group)
        for limit, value in limits.items():
            if (group / limit).exists():
                (group / limit).write_text(str(value), encoding="ascii")
    try:
        if not any((group / "pids.max").exists() for group in made):
            pytest.skip("no control group can be made here that bounds the number of processes")
        yield [group for group in made if (group / "cgroup.procs").exists()]
    finally:
        for group in made:
            wait_until(lambda: _removed(group), "the control group is empty")  # noqa: B023  # called here


def _removed(group: Path) -> bool:
    try:
        group.rmdir()
    except OSError:
        return False
    return True


@pytest.fixture
def bench(made: bytes, groups: list[Path], tmp_path: Path) -> Bench:
    """A folder that every user may write to."""
    folder = tmp_path / "work"
    folder.mkdir()
    folder.chmod(0o777)
    return Bench(folder, groups, made)


@pytest.mark.parametrize("error", ["EPERM", "ENOSYS"])
@pytest.mark.parametrize("call", CALLS)
def test_a_system_call_is_denied(call: str, error: str, bench: Bench) -> None:
    """As by the seccomp filter of a container, of systemd or of a sandbox."""
    bench.hold(("--deny", f"{call}={error}"), MEASURING)


@pytest.mark.parametrize("error", ["EAGAIN", "ENOMEM", "EMFILE"])
@pytest.mark.parametrize("call", ["fork", "clone3", "memfd_create", "socket", "pipe2", "epoll_create1", "eventfd2"])
def test_a_resource_is_exhausted(call: str, error: str, bench: Bench) -> None:
    """The kernel has no process, no memory, no descriptor."""
    bench.hold(("--deny", f"{call}={error}"), MEASURING)


@pytest.mark.parametrize(("name", "value"), LIMITS)
def test_a_small_limit(name: str, value: int, bench: Bench) -> None:
    """As by ulimit."""
    bench.hold(("--rlimit", f"{name}={value}"), QUICK)


@pytest.mark.skipif(shutil.which("setpriv") is None, reason="needs setpriv (util-linux)")
@pytest.mark.parametrize("value", [1, 2, 3, 4, 6, 10, None])
def test_few_processes(value: int | None, bench: Bench) -> None:
    """As by ulimit -u, for an ordinary user: root has no such limit."""
    limit = ("prlimit", f"--nproc={value}") if value else ()
    reach = [word for place in (*REACHABLE, bench.folder) for word in ("--expose", str(place))]
    bench.hold(tuple(reach), MEASURING, by=(*AS_NOBODY, *limit))


@pytest.mark.parametrize("inside", PLACES, ids=" ".join)
def test_a_file_system_is_missing(inside: Command, bench: Bench) -> None:
    """As in a container that is read-only or has little of a machine."""
    bench.hold(inside, ALL)


def test_an_output_folder_is_read_only(bench: Bench) -> None:
    """The working directory: a process that was in it before it became read-only would not notice."""
    bench.hold(("--read-only", str(bench.folder)), ALL, by=("/usr/bin/env", f"--chdir={bench.folder}"))


@pytest.mark.parametrize("name", ["HOME", "PATH"])
def test_a_variable_is_missing(name: str, bench: Bench) -> None:
    """As in a service."""
    bench.hold((), ALL, by=("/usr/bin/env", "-u", name))


@pytest.mark.parametrize("streams", ["<&-", ">&-", "2>&-", "<&- >&- 2>&-", ">/dev/full", "2>/dev/full", "&>/dev/full"])
def test_a_standard_stream_is_missing(streams: str, bench: Bench) -> None:
    """As in a service, or behind a full disk."""
    by = ("bash", "-c", f'exec "$0" "$@" {streams}')
    bench.hold((), ALL, by=by, hears="2>" not in streams and "&>" not in streams)
