"""Faults and signals in mid-run: what was measured is kept, the exit code says what happened, nothing is left."""

from __future__ import annotations

import json
import os
import resource
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from connbench.errors import ExitCode
from support import HANG_S, children, connections_of, engine_of, running, wait_until

LONG_RUN = ("run", "--strategy", "plain")
"""Takes about a minute: every test here ends it long before."""


def ending(process: subprocess.Popen[str]) -> tuple[int, str, str]:
    """Exit code, stdout and stderr of a run that is about to end."""
    stdout, stderr = process.communicate(timeout=HANG_S)
    assert "Traceback" not in stderr
    return process.returncode, stdout, stderr


def assert_kept(stdout: str, path: Path) -> None:
    """What was measured stands in the report and in the file, and is marked partial."""
    assert "partial" in stdout
    found = json.loads(path.read_text(encoding="utf-8"))
    assert found["partial"] is True
    (strategy,) = found["strategies"]
    attempts = len(strategy["rounds"][0]["samples"]["port"])
    assert attempts >= 1000
    assert f"connection attempts: {attempts} " in stdout
    assert [entry.name for entry in path.parent.iterdir()] == [path.name]


@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGINT, ExitCode.INTERRUPTED), (signal.SIGTERM, ExitCode.TERMINATED)]
)
def test_a_signal(number: signal.Signals, code: ExitCode, tmp_path: Path) -> None:
    """Ctrl-C and SIGTERM end the run in good order."""
    path = tmp_path / "r.json"
    with running(*LONG_RUN, "-o", str(path)) as process:
        process.send_signal(number)
        returned, stdout, stderr = ending(process)
    assert returned == code
    assert f"stopped by {number.name}" in stderr
    assert_kept(stdout, path)


def test_a_killed_acceptor() -> None:
    """Connections that the listener lost are not counted as open, and the figures are invalid."""
    paced = ("--port-range", "40000-40255", "--fill", "75%", "--churn", "300", "--churn-rate", "100")
    with running("run", "--strategy", "plain", *paced, "--listener", "accept", at_least=200) as process:
        os.kill(children(engine_of(process))[0], signal.SIGKILL)
        returned, stdout, _ = ending(process)
    assert returned == ExitCode.UNSOUND
    assert " connections were left at the end of " in stdout


def test_two_signals() -> None:
    """A second Ctrl-C does not wait for anything, and still leaves nothing."""
    with running(*LONG_RUN) as process:
        engine = engine_of(process)
        process.send_signal(signal.SIGINT)
        wait_until(lambda: signal.SIGTERM not in _caught(engine), "the engine has been told to stop")
        process.send_signal(signal.SIGINT)
        returned, _, _ = ending(process)
    assert returned == ExitCode.INTERRUPTED


def _caught(pid: int) -> set[signal.Signals]:
    """The signals a process has handlers for; none once it is gone."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text(encoding="ascii").splitlines()
    except OSError:
        return set()
    mask = next((int(line.split()[1], 16) for line in lines if line.startswith("SigCgt:")), 0)
    return {number for number in signal.Signals if mask & 1 << number - 1}


def engine_and_holders(process: subprocess.Popen[str]) -> list[int]:
    """Process ids of the engine, of its idle holders, and last of the holder that is connecting."""
    engine = engine_of(process)
    return [engine, *children(engine)]


def assert_broken_by(
    act: Callable[[list[int]], None], path: Path, says: str, *, inside: tuple[str, ...] = (), at_least: int = 1000
) -> None:
    """A long run in whose middle `act` does something to its processes: a fault that `says` so, and all is kept."""
    with running(*LONG_RUN, "-o", str(path), inside=inside, at_least=at_least) as process:
        act(engine_and_holders(process))
        returned, stdout, stderr = ending(process)
    assert returned == ExitCode.FAULT
    assert says in stderr
    assert_kept(stdout, path)


@pytest.mark.parametrize("which", [0, -1], ids=["engine", "holder"])
def test_a_terminated_process(which: int, tmp_path: Path) -> None:
    """SIGTERM to the engine or to a holder, which is not the command's own, is a fault too."""
    assert_broken_by(lambda pids: os.kill(pids[which], signal.SIGTERM), tmp_path / "r.json", "stopped by SIGTERM")


@pytest.mark.parametrize("which", [0, -1], ids=["engine", "holder"])
def test_a_killed_process(which: int, tmp_path: Path) -> None:
    """An engine or a holder that is killed is a fault that names the signal."""
    assert_broken_by(lambda pids: os.kill(pids[which], signal.SIGKILL), tmp_path / "r.json", "was killed by SIGKILL")


def test_a_killed_holder_that_only_holds(tmp_path: Path) -> None:
    """Losing connections made earlier is noticed while others are being made."""
    assert_broken_by(
        lambda pids: os.kill(pids[1], signal.SIGKILL),
        tmp_path / "r.json",
        "was killed by SIGKILL",
        inside=("--nofile", "2000"),
        at_least=5000,
    )


def test_no_more_descriptors(tmp_path: Path) -> None:
    """EMFILE in mid-run, caused by taking the limit away from the running holder."""

    def take_away(pids: list[int]) -> None:
        resource.prlimit(pids[-1], resource.RLIMIT_NOFILE, (100, 100))

    assert_broken_by(take_away, tmp_path / "r.json", "EMFILE")


def test_a_killed_command_takes_everything_with_it() -> None:
    """SIGKILL to connbench itself: the kernel ends engine and holders, and with them the namespace."""
    with running(*LONG_RUN) as process:
        family = engine_and_holders(process)
        process.kill()
        process.communicate()
        wait_until(lambda: not any(_alive(pid) for pid in family), "engine and holders are gone")


def _alive(pid: int) -> bool:
    try:
        return "Z" not in Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()[0]
    except OSError:
        return False


def test_an_interrupted_run_keeps_its_finished_strategies(tmp_path: Path) -> None:
    """Strategies that were done before the signal are complete; the one in its middle is partial."""
    path = tmp_path / "r.json"
    with running("run", "--strategy", "range", "--strategy", "plain", "-o", str(path)) as process:
        wait_until(path.exists, "the first strategy is saved")
        wait_until(lambda: connections_of(engine_of(process)) >= 1000, "the second one connects")
        process.send_signal(signal.SIGTERM)
        returned, stdout, _ = ending(process)
    assert returned == ExitCode.TERMINATED
    found = json.loads(path.read_text(encoding="utf-8"))
    assert [s["partial"] for s in found["strategies"]] == [False, True]
    assert "connection attempts: 56512 errored: 0 total: 56512" in stdout
