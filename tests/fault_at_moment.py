"""A fault at a moment: name both, run the command, and check that it ends as it promises.

    with at(SAVING, "run", "-o", "r.json", folder=tmp_path) as run:
        run.send(signal.SIGTERM)
    run.ended(ExitCode.TERMINATED, "stopped by SIGTERM")
    assert run.kept("r.json").is_partial

`at` runs the installed command in `folder` until the moment has come, and stops it there: nothing sleeps and hopes.
What the body of `with` does then is the fault. Afterwards the command goes on, and `ended` holds it to what every end
promises: the exit code, a message without a traceback, and nothing left behind: no process, no namespace, no file that
was not asked for. Faults that are there from the start (a system call denied, a limit, a file system that is small or
read-only) are options of faulty_host.py: `inside=("--deny", "unshare")`. A moment of None runs the command to its end.
"""

from __future__ import annotations

import contextlib
import json
import os
import resource
import signal
import subprocess
import tempfile
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import NamedTuple

from connbench.linux.faults import describe_end
from connbench.results.input_file import read
from connbench.results.result import Result
from run_connbench import HANG_S, children, command_line, connections_of, marked, wait_until

HOOK = Path(__file__).with_name("paused")


class Step(NamedTuple):
    """Something that a process of the command is about to do, for the n-th time.

    Attributes:
        who: "command", "engine", or a child of one of them, as in "engine's child".
        event: One of Python's audit events; paused/sitecustomize.py says which there are beside.
        word: A part of the event's arguments.
    """

    who: str
    event: str
    word: str = ""
    times: int = 1


class Opened(NamedTuple):
    """The engine's namespace has made `connections` connections, and its n-th child lives: the child is stopped then.

    This is seen from outside, as the loop in C has no events. Connections go on until the child has stopped.
    """

    connections: int
    child: int = 1


Moment = tuple[Step | Opened, ...]
"""The last of these steps, after the others; only the last one may be an `Opened`."""

LOADING: Moment = (Step("command", "import", "'connbench.commands'"),)
"""Python runs, and no module of connbench is loaded."""
PLANNING: Moment = (Step("command", "os.fork"),)
"""The command is about to test whether a namespace is allowed."""
LOADING_NUMPY: Moment = (Step("command", "import", "'numpy'"),)
BEFORE_THE_ENGINE: Moment = (Step("command", "subprocess.Popen", "connbench.engine"),)
"""All checks passed; the first round's engine is about to start."""
SECOND_TURN: Moment = (Step("command", "subprocess.Popen", "connbench.engine", 2),)
"""The first strategy or round is measured, printed and saved."""
ENGINE_LOADING: Moment = (Step("engine", "import", "'connbench.engine.scheduler'"),)
STARTING: Moment = (Step("engine", "socket.__new__"),)
"""The engine is in its namespace and makes its first socket: it is not ready."""
SAVING: Moment = (*BEFORE_THE_ENGINE, Step("command", "os.link", "/proc/self/fd"))
"""The first round is measured and written to a file without a name, which is about to get its own."""


def connecting(count: int, *, child: int = 1) -> Moment:
    """At least `count` connections are made, and the engine's n-th child, a worker, is about to make more."""
    return (Opened(count, child),)


@dataclass(slots=True)
class Run:
    """A command that stopped at a moment, or has ended.

    Attributes:
        folder: Where it runs, and puts its files.
        stopped: The process that reached the moment: the command itself, its engine, or a child; 0 without a moment.
        left: After the end, what it has left behind: processes, users of its namespaces, temporary files.
    """

    process: subprocess.Popen[str]
    arguments: tuple[str, ...]
    folder: Path
    stopped: int = 0
    code: int | None = None
    stdout: str = ""
    stderr: str = ""
    left: list[str] = field(default_factory=list)
    _there: set[str] = field(default_factory=set)

    @property
    def engine(self) -> int:
        """Process id of the engine; 0 while there is none."""
        return next((pid for pid in children(self.process.pid) if "connbench.engine" in _command_of(pid)), 0)

    @property
    def children(self) -> list[int]:
        """Process ids of the engine's children, oldest first: acceptors, then workers, of which the last connects."""
        return children(self.engine)

    def send(self, number: signal.Signals, pid: int = 0) -> None:
        """Send a signal, by default to the command."""
        os.kill(pid or self.process.pid, number)

    def allow(self, limit: int, value: int, pid: int) -> None:
        """Lower a limit (resource.RLIMIT_...) of a process to `value`."""
        resource.prlimit(pid, limit, (value, value))

    def place(self, name: str, content: str = "another's\n", *, link_to: Path | None = None) -> Path:
        """Create a file, or a symbolic link, in the folder, as another user."""
        path = self.folder / name
        if link_to:
            path.symlink_to(link_to)
        else:
            path.write_text(content, encoding="utf-8")
        self._there.add(name)
        return path

    def fill(self, folder: str) -> None:
        """Fill a file system that only the command sees (faulty_host.py --tmpfs)."""
        with contextlib.suppress(OSError), Path(f"/proc/{self.process.pid}/root{folder}/ballast").open("wb") as file:
            while True:
                file.write(bytes(65536))
                file.flush()

    def ended(self, code: int, says: str = "") -> None:
        """Check what every end promises: this exit code, these words on stderr, and nothing left."""
        told = f"exit code {self.code}\n{self.stdout[-2000:]}\n{self.stderr[-4000:]}"
        assert self.code == code, told
        assert says in self.stderr, told
        assert "Traceback" not in self.stdout + self.stderr, told
        asked = self._there | {word.rpartition("=")[2] for word in self.arguments}
        files = {entry.name for entry in self.folder.iterdir() if ".kept-" not in entry.name} - asked
        assert not self.left + sorted(files), f"left behind: {', '.join([*self.left, *sorted(files)])}"

    def kept(self, name: str) -> Result:
        """The result file that the run left: whole, as connbench itself reads it."""
        return read(self.folder / name)


@contextmanager
def at(
    moment: Moment | None,
    *arguments: str,
    folder: Path,
    inside: tuple[str, ...] = (),
) -> Iterator[Run]:
    """Run the installed command until a moment, and to its end after the body; see above."""
    name, value = "CONNBENCH_TEST_RUN", str(uuid.uuid4())
    with tempfile.TemporaryDirectory() as own:
        temporary, stopped = Path(own, "temporary"), Path(own, "stopped")
        temporary.mkdir()
        steps = [step for step in moment or () if isinstance(step, Step)]
        hook = {"steps": steps, "stopped": str(stopped)} if steps else None
        ours = {
            "PYTHONPATH": str(HOOK),
            "CONNBENCH_TEST_MOMENT": json.dumps(hook),
            "TMPDIR": str(temporary),
            name: value,
        }
        process = subprocess.Popen(
            command_line(*arguments, inside=inside),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            errors="replace",
            cwd=folder,
            env=os.environ | ours,
        )
        run = Run(process, arguments, folder, _there={entry.name for entry in folder.iterdir()})
        family = partial(marked, f"{name}={value}")
        namespaces: dict[str, int] = {}
        try:
            if steps:
                run.stopped = _wait_for(stopped, process)
                assert run.stopped in family()
            if moment and isinstance(moment[-1], Opened):
                if run.stopped:
                    _go_on(run.stopped)
                run.stopped = _stop_child(run, moment[-1])
            namespaces |= _namespaces(family())
            yield run
            if run.stopped:
                _go_on(run.stopped)
            out, run.stderr = process.communicate(timeout=HANG_S)
            run.stdout, run.code = out or "", process.returncode
            if run.code == -signal.SIGKILL:  # the kernel ends the others, and may take a moment
                wait_until(lambda: not family(), "the killed command's processes are gone")
            run.left = [*map(_command_of, family()), *_users(namespaces), *map(str, temporary.iterdir())]
        finally:
            for descriptor in namespaces.values():
                os.close(descriptor)
            for pid in family():
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            process.wait()
            for pipe in (process.stdout, process.stderr):
                if pipe:
                    pipe.close()


def end_of(*arguments: str, folder: Path, inside: tuple[str, ...] = ()) -> Run:
    """Run the command to its end, without a fault on the way."""
    with at(None, *arguments, folder=folder, inside=inside) as run:
        pass
    return run


def _wait_for(file: Path, process: subprocess.Popen[str]) -> int:
    """The process that stopped at the moment, once it has."""

    def has_come() -> bool:
        return file.exists() and _is_stopped(int(file.read_text(encoding="ascii") or 0))

    _wait_unless_ended(process, has_come)
    return int(file.read_text(encoding="ascii"))


def _stop_child(run: Run, opened: Opened) -> int:
    """The child that is stopped at the moment, once it is."""
    _wait_unless_ended(
        run.process,
        lambda: len(run.children) >= opened.child and connections_of(run.engine) >= opened.connections,
    )
    child = run.children[opened.child - 1]
    run.send(signal.SIGSTOP, child)
    _wait_unless_ended(run.process, lambda: _is_stopped(child))
    return child


def _wait_unless_ended(process: subprocess.Popen[str], has_come: Callable[[], bool]) -> None:
    wait_until(lambda: process.poll() is not None or has_come(), "the moment has come")
    if process.poll() is None:
        return
    stdout, stderr = process.communicate()
    how = describe_end(process.returncode)[0]
    raise AssertionError(f"the moment has not come: the command {how}\n{stdout[-2000:]}\n{stderr[-2000:]}")


def _is_stopped(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()[0] == "T"
    except OSError:
        return False


def _go_on(pid: int) -> None:
    with contextlib.suppress(ProcessLookupError):  # it may have been the fault to kill it
        os.kill(pid, signal.SIGCONT)


def _command_of(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
    except OSError:
        return f"process {pid}"


def _namespaces(pids: list[int]) -> dict[str, int]:
    """The network namespaces of some processes, other than the tests' own, each with a descriptor of it.

    The descriptor keeps the number of the namespace from being given to another.
    """
    own, found = _link(Path("/proc/self/ns/net")), dict[str, int]()
    for pid in pids:
        path = Path(f"/proc/{pid}/ns/net")
        if _link(path) not in {own, "", *found}:
            descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
            found[_link(Path(f"/proc/self/fd/{descriptor}"))] = descriptor
    return found


def _link(path: Path) -> str:
    """The text of a link of proc(5), as in "net:[4026531840]"; empty if the process is gone."""
    try:
        return str(path.readlink())
    except OSError:
        return ""


def _users(namespaces: dict[str, int]) -> list[str]:
    """What keeps namespaces, besides the descriptors here: processes in them, other descriptors, and mounts."""
    if not namespaces:
        return []
    # A process without an executable has exited, and the kernel is about to remove it.
    running = [entry for entry in Path("/proc").glob("[0-9]*") if _link(entry / "exe")]
    links = {str(link) for entry in running for kind in ("ns/net", "fd/*") for link in entry.glob(kind)}
    links -= {f"/proc/{os.getpid()}/fd/{descriptor}" for descriptor in namespaces.values()}
    mounts = Path("/proc/self/mountinfo").read_text(encoding="utf-8")
    used = sorted(link for link in links if _link(Path(link)) in namespaces)
    return used + [name for name in namespaces if name in mounts]
