"""Faults and signals in mid-run: the measured part is kept, the exit code says what happened, nothing is left."""

from __future__ import annotations

import os
import re
import resource
import signal
import subprocess
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest

from connbench.errors import ExitCode
from connbench.interrupts import ENDING_SIGNALS
from connbench.model import Loop
from fault_at_moment import (
    BEFORE_THE_ENGINE,
    ENGINE_LOADING,
    LOADING,
    LOADING_NUMPY,
    PLANNING,
    SAVING,
    SECOND_TURN,
    STARTING,
    Moment,
    Run,
    Step,
    at,
    connecting,
    end_of,
)
from run_connbench import connbench, wait_until

PLAIN = ("run", "--strategy", "plain", "-o", "r.json")
"""Takes about a minute: every test here ends it long before."""

IN_THE_MIDDLE = connecting(1001)


def assert_kept(run: Run, name: str = "r.json") -> None:
    """What was measured stands in the report and in the file, both marked partial."""
    assert "partial" in run.stdout
    result = run.kept(name)
    assert result.is_partial
    (strategy,) = result.strategies
    (measured,) = strategy.rounds
    assert len(measured.samples) >= 1000
    assert f"connection attempts: {len(measured.samples)} " in run.stdout


@pytest.mark.parametrize(
    ("number", "code"),
    [
        (signal.SIGHUP, ExitCode.HUNG_UP),
        (signal.SIGINT, ExitCode.INTERRUPTED),
        (signal.SIGQUIT, ExitCode.QUIT),
        (signal.SIGTERM, ExitCode.TERMINATED),
    ],
)
def test_a_signal(number: signal.Signals, code: ExitCode, each_loop: Loop, tmp_path: Path) -> None:
    """A closed terminal, Ctrl-C, Ctrl-backslash and SIGTERM end the run in good order."""
    with at(IN_THE_MIDDLE, *PLAIN, "--loop", each_loop, folder=tmp_path) as run:
        run.send(number)
    run.ended(code, f"stopped by {number.name}")
    assert_kept(run)


def test_what_is_left_is_seen(tmp_path: Path) -> None:
    """The tests notice a process, a namespace and a file that outlive the command."""
    with at(STARTING, *PLAIN, "-n", "10", folder=tmp_path) as run:
        namespace = os.open(f"/proc/{run.engine}/ns/net", os.O_RDONLY)
        variables = Path(f"/proc/{run.engine}/environ").read_bytes().split(b"\0")[:-1]
        sleeper = subprocess.Popen(["/usr/bin/sleep", "infinity"], env=dict(line.split(b"=", 1) for line in variables))
        (tmp_path / ".connbench-1.tmp").touch()
    os.close(namespace)
    assert sleeper.wait() == -signal.SIGKILL
    assert [line.split("/")[0] for line in run.left] == ["", ""]
    with pytest.raises(AssertionError, match="sleep infinity"):
        run.ended(ExitCode.OK)
    run.left.clear()
    with pytest.raises(AssertionError, match=r"\.connbench-1\.tmp"):
        run.ended(ExitCode.OK)


def test_a_killed_acceptor(tmp_path: Path) -> None:
    """The end of an accepting process ends the round as the end of a worker does: its connections are gone."""
    paced = ("--port-range", "40000-40255", "--fill", "75%", "--churn", "300", "--churn-rate", "100")
    # The engine's first child accepts.
    with at(connecting(200, child=2), *PLAIN, *paced, "--listener", "accept", folder=tmp_path) as run:
        acceptor = run.children[0]
        # Of 192 connections the worker has closed one at most, to replace it; two sockets are the acceptor's own.
        wait_until(lambda: _sockets_of(acceptor) >= 193, "all connections are accepted")
        run.send(signal.SIGKILL, acceptor)
    run.ended(ExitCode.FAULT)
    what = r"the listener's accepting process \d+ was killed by SIGKILL, with 19\d open connections\n"
    assert re.search(what, run.stderr), run.stderr
    assert "partial" in run.stdout


BEFORE_THE_FIRST_WORKER: Moment = (Step("engine", "os.fork", "", 2),)
"""The engine has started the process that accepts, and no client has connected."""


def test_an_acceptor_that_is_killed_before_it_accepts(tmp_path: Path) -> None:
    """The kernel completes the handshakes without it: unless the process is checked, the run would pass as sound."""
    few = ("run", "-n", "10", "--listener", "accept", "-o", "r.json")
    with at(BEFORE_THE_FIRST_WORKER, *few, folder=tmp_path) as run:
        run.send(signal.SIGKILL, run.children[0])
    run.ended(ExitCode.FAULT, "was killed by SIGKILL, before it accepted a connection")


def _sockets_of(pid: int) -> int:
    """Open sockets of a process."""
    found = 0
    for link in Path(f"/proc/{pid}/fd").iterdir():
        with suppress(FileNotFoundError):  # closed meanwhile
            found += str(link.readlink()).startswith("socket:")
    return found


@pytest.mark.parametrize("command", [("run", "-q", "-n", "10", "--listener", "accept"), ("serve", "--port", "0")])
def test_acceptors_that_end_before_they_accept(command: tuple[str, ...]) -> None:
    """The kernel completes the handshakes without them: unless connbench checks them, the run would pass as sound."""
    finished = connbench(*command, inside=("--deny", "epoll"))
    assert finished.returncode == ExitCode.FAULT
    assert " ended: Cannot allocate memory" in finished.stderr
    assert "\n  -> free memory, or raise the cgroup's memory.max or RLIMIT_AS (ulimit -v)\n" in finished.stderr
    assert "Traceback" not in finished.stderr


@pytest.mark.parametrize("denied", ["memfd_create=EPERM", "poll=ENOSYS", "setsockopt=EPERM"])
def test_a_system_call_that_is_denied_is_no_bug(denied: str, tmp_path: Path) -> None:
    """A sandbox denies a call to the command, the engine or a worker. test_matrix.py denies every call."""
    run = end_of(*PLAIN, "--port-range", "40000-40009", folder=tmp_path, inside=("--deny", denied))
    run.ended(ExitCode.ENVIRONMENT, "this machine denies what connbench needs: ")
    assert "\n  -> a sandbox, a container or a security module denies a system call" in run.stderr
    assert len(run.stderr.splitlines()) == 2


def test_a_machine_that_does_not_tell_its_memory(tmp_path: Path) -> None:
    """Where sysinfo(2) is denied sysconf(3) returns any number, which no JSON can hold."""
    run = end_of(*PLAIN, "--port-range", "40000-40009", folder=tmp_path, inside=("--deny", "sysinfo=EPERM"))
    run.ended(ExitCode.OK)
    memory = run.kept("r.json").environment["memory_total"]
    assert isinstance(memory, int)
    assert memory < 1 << 50


@pytest.mark.parametrize(
    ("command", "says"),
    [
        (("run", "-q", "-n", "10"), "Resource temporarily unavailable"),
        (
            ("run", "-q", "-n", "10", "--isolate", "never", "--strategy", "bind"),
            "the engine process cannot start: Resource",
        ),
        (("serve", "--port", "0", "--processes", "3"), "0 of 3 accepting processes started, and the next one cannot"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else "",
)
def test_no_further_process_is_no_matter_of_open_files(command: tuple[str, ...], says: str) -> None:
    """Where fork() fails with EAGAIN the message names the limits of processes, and nothing else."""
    finished = connbench(*command, inside=("--deny", "fork"))
    assert finished.returncode == ExitCode.ENVIRONMENT
    assert says in finished.stderr
    assert "\n  -> raise the limit of processes: ulimit -u, the cgroup's pids.max, kernel.pid_max" in finished.stderr
    assert "ulimit -n" not in finished.stderr
    assert "OpenBLAS" not in finished.stderr


def test_a_model_takes_no_process() -> None:
    """The library of numpy starts threads by itself, and ends a process that may not start any."""
    finished = connbench("predict", "-n", "100", inside=("--deny", "fork"))
    assert (finished.returncode, finished.stderr) == (ExitCode.OK, "")


def test_few_files_take_no_end_of_acceptors() -> None:
    """A run that would take more processes than its engine has files for is refused before the first attempt."""
    finished = connbench("run", "-q", "-n", "200", "--listener", "accept", inside=("--nofile", "20"))
    assert finished.returncode == ExitCode.ENVIRONMENT
    assert "RLIMIT_NOFILE" in finished.stderr
    assert "ulimit -Hn" in finished.stderr
    assert finished.stdout == ""


def test_two_signals(tmp_path: Path) -> None:
    """A second Ctrl-C waits for nothing, not even for an engine that does not answer, and leaves nothing."""
    with at(IN_THE_MIDDLE, *PLAIN, folder=tmp_path) as run:
        engine = run.engine
        run.send(signal.SIGSTOP, engine)
        run.send(signal.SIGINT)
        wait_until(lambda: _is_told_to_stop(engine), "the engine has been told to stop")
        run.send(signal.SIGINT)
    run.ended(ExitCode.INTERRUPTED, "stopped by SIGINT")
    assert_kept(run)


def _is_told_to_stop(engine: int) -> bool:
    """Whether the stop flag of an engine's round is set."""
    files = Path(f"/proc/{engine}/fd").iterdir()
    [memory, *_] = [file for file in files if str(file.readlink()).startswith("/memfd:connbench-samples")]
    with memory.open("rb") as file:
        return file.read(4) != bytes(4)


def the_engine(run: Run) -> int:
    """Its process id."""
    return run.engine


def the_worker(run: Run) -> int:
    """Process id of the worker that connects."""
    return run.stopped


@pytest.mark.parametrize("which", [the_engine, the_worker])
@pytest.mark.parametrize(
    ("number", "says"),
    [(signal.SIGTERM, "stopped by SIGTERM"), (signal.SIGKILL, "was killed by SIGKILL")],
    ids=["SIGTERM", "SIGKILL"],
)
def test_a_process_of_the_run_ends(
    which: Callable[[Run], int], number: signal.Signals, says: str, each_loop: Loop, tmp_path: Path
) -> None:
    """A signal to the engine or to a worker alone is a fault that names the signal."""
    with at(IN_THE_MIDDLE, *PLAIN, "--loop", each_loop, folder=tmp_path) as run:
        run.send(number, which(run))
    run.ended(ExitCode.FAULT, says)
    assert_kept(run)


def test_a_killed_worker_that_only_holds(each_loop: Loop, tmp_path: Path) -> None:
    """The loss of earlier connections is noticed while others are made."""
    few, loop = ("--nofile", "2000"), ("--loop", each_loop)
    with at(connecting(4500, child=3), *PLAIN, *loop, folder=tmp_path, inside=few) as run:
        run.send(signal.SIGKILL, run.children[0])
    run.ended(ExitCode.FAULT, "was killed by SIGKILL")
    assert_kept(run)


@pytest.mark.parametrize("more", [(), ("--in-flight", "64")], ids=["one by one", "in flight"])
def test_no_more_descriptors(more: tuple[str, ...], each_loop: Loop, tmp_path: Path) -> None:
    """EMFILE in mid-run: the test lowers the limit of the running worker."""
    with at(IN_THE_MIDDLE, *PLAIN, *more, "--loop", each_loop, folder=tmp_path) as run:
        run.allow(resource.RLIMIT_NOFILE, 100, run.stopped)
    run.ended(ExitCode.FAULT, "EMFILE")
    assert_kept(run)


def test_a_killed_command_takes_everything_with_it(tmp_path: Path) -> None:
    """SIGKILL to connbench itself: the kernel ends engine and workers, and with them the namespace."""
    with at(IN_THE_MIDDLE, *PLAIN, folder=tmp_path) as run:
        run.send(signal.SIGKILL)
    run.ended(-signal.SIGKILL)


def test_an_interrupted_run_keeps_its_finished_strategies(tmp_path: Path) -> None:
    """Strategies that ended before the signal are complete; the one in progress is partial."""
    in_the_second: Moment = (*SECOND_TURN, *IN_THE_MIDDLE)
    with at(in_the_second, "run", "--strategy", "range,plain", "-o", "r.json", folder=tmp_path) as run:
        run.send(signal.SIGTERM)
    run.ended(ExitCode.TERMINATED)
    assert [strategy.is_partial for strategy in run.kept("r.json").strategies] == [False, True]
    assert "connection attempts: 56512 errored: 0 total: 56512" in run.stdout


SMALL = ("run", "--strategy", "plain", "--port-range", "40000-40099", "-o", "r.json")

MOMENTS = {
    "loading": LOADING,
    "planning": PLANNING,
    "loading numpy": LOADING_NUMPY,
    "before the engine": BEFORE_THE_ENGINE,
    "engine loading": ENGINE_LOADING,
    "starting": STARTING,
    "saving": SAVING,
}

at_each_moment = pytest.mark.parametrize("moment", MOMENTS.values(), ids=MOMENTS)


@pytest.mark.slow
@at_each_moment
@pytest.mark.parametrize("number", sorted(ENDING_SIGNALS), ids=lambda number: number.name)
def test_a_signal_at_each_moment(number: signal.Signals, moment: Moment, tmp_path: Path) -> None:
    """The command ends with the signal's own code, and the file is whole or absent."""
    with at(moment, *SMALL, folder=tmp_path) as run:
        run.send(number)
    run.ended(128 + number)
    assert not (tmp_path / "r.json").exists() or run.kept("r.json").rounds


@pytest.mark.slow
@at_each_moment
def test_a_file_that_appears_at_each_moment(moment: Moment, tmp_path: Path) -> None:
    """The other file stays as it is, before the name is reserved and after."""
    with at(moment, *SMALL, folder=tmp_path) as run:
        theirs = run.place("r.json")
    run.ended(ExitCode.OUTPUT)
    assert theirs.read_text(encoding="utf-8") == "another's\n"


@pytest.mark.slow
@pytest.mark.parametrize("moment", [BEFORE_THE_ENGINE, SAVING], ids=["before the engine", "saving"])
def test_a_disk_that_fills_up(moment: Moment, tmp_path: Path) -> None:
    """The command prints what it measured; the file is whole or absent."""
    disk = tmp_path / "disk"
    disk.mkdir()
    output = disk / "r.json"
    with at(moment, *SMALL[:-1], str(output), folder=tmp_path, inside=("--tmpfs", f"{disk}:size=64k")) as run:
        run.fill(str(disk))
    assert "connection attempts: 100 " in run.stdout
    run.ended(ExitCode.OK if moment is SAVING else ExitCode.OUTPUT)
