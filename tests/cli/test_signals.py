"""Signals at any moment: while the command starts and ends, from a terminal that closes, and to all processes."""

from __future__ import annotations

import fcntl
import json
import os
import signal
import subprocess
import sys
import termios
from contextlib import suppress
from pathlib import Path

import pytest

from connbench import samples
from connbench.errors import ExitCode
from connbench.interrupts import ENDING_SIGNALS
from connbench.model import RoundPlan
from run_connbench import (
    COMMAND,
    HANG_S,
    caught,
    children,
    connections_of,
    engine_of,
    make_plan,
    running,
    spec,
    wait_until,
)
from signal_at_syscall import Stepped, stepped

SHORT = (COMMAND, "--version")
LONG_RUN = ("run", "--strategy", "plain")

numbers = pytest.mark.parametrize("number", sorted(ENDING_SIGNALS), ids=lambda number: number.name)


def of_pythons_own_start(ended: Stepped) -> bool:
    """Whether SIGINT came while Python starts, before any line of connbench: it has a handler of its own by then."""
    return ended.handled == {signal.SIGINT}


def assert_ended_by(number: signal.Signals, ended: Stepped) -> None:
    """128 and the number, and at most our line."""
    assert ended.code == 128 + number, ended
    assert ended.stderr in {"", f"connbench: stopped by {number.name}\n"}
    assert "Traceback" not in ended.stderr


@pytest.fixture(scope="module")
def short() -> Stepped:
    """`connbench --version`, without a signal."""
    ended = stepped([*SHORT])
    assert (ended.code, ended.stderr) == (ExitCode.OK, "")
    return ended


@pytest.fixture(scope="module")
def calls(short: Stepped) -> int:
    """Its system calls."""
    return short.calls


@numbers
def test_a_signal_while_it_starts_and_ends(number: signal.Signals, short: Stepped) -> None:
    """At six moments from the handlers on, which connbench installs first of all, to the last calls of the process."""
    begin, calls = short.ready, short.calls
    middle = (calls - begin) // 3
    for at in (begin, begin + middle, begin + 2 * middle, calls - 30, calls - 8, calls - 2):
        ended = stepped([*SHORT], number, at)
        assert not of_pythons_own_start(ended)
        assert_ended_by(number, ended)


@pytest.mark.slow
@numbers
def test_a_signal_at_every_system_call(number: signal.Signals, calls: int) -> None:
    """Each third, the first of which is another for each signal; the last call of all is exit_group()."""
    for at in range(1 + number % 3, calls, 3):
        ended = stepped([*SHORT], number, at)
        if not of_pythons_own_start(ended):
            assert_ended_by(number, ended)


@pytest.mark.slow
@numbers
def test_a_signal_anywhere_in_a_run(number: signal.Signals, tmp_path: Path) -> None:
    """From the planning to the end of the process: the file is whole or is not there, and nothing is left."""
    path = tmp_path / "r.json"
    ports = ("--port-range", "40000-40015", "-n", "8")
    command = [COMMAND, "run", *ports, "--strategy", "plain,bind", "-q", "-o", str(path)]
    whole = stepped(command)
    assert whole.code == ExitCode.OK
    for at in range(whole.calls // 5 + number, whole.calls, whole.calls // 60):
        path.unlink(missing_ok=True)
        ended = stepped(command, number, at)
        assert ended.code == 128 + number
        assert "Traceback" not in ended.stderr
        assert [entry.name for entry in tmp_path.iterdir()] in ([], [path.name])
        if path.exists():
            strategies = json.loads(path.read_text(encoding="utf-8"))["strategies"]
            assert sum(len(strategy["rounds"]) for strategy in strategies) >= 1


def test_a_closed_terminal_keeps_what_was_measured(tmp_path: Path) -> None:
    """The kernel sends SIGHUP, nothing can be drawn or printed any more (EIO), and the turn in progress is saved."""
    path = tmp_path / "r.json"
    leader, follower = os.openpty()
    process = subprocess.Popen(
        [COMMAND, *LONG_RUN, "-o", str(path)],
        stdin=follower,
        stdout=follower,
        stderr=follower,
        start_new_session=True,
        preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),  # noqa: PLW1509  # one call; the terminal is now its own
    )
    os.close(follower)
    os.set_blocking(leader, False)

    def has_come_far() -> bool:
        with suppress(BlockingIOError):
            os.read(leader, 65536)  # a terminal whose reader sleeps would stop the command
        return connections_of(engine_of(process)) >= 1000  # type: ignore[arg-type]  # of bytes or text, it has children

    try:
        wait_until(has_come_far, "1,000 connections are made")
        os.close(leader)
        assert process.wait(timeout=HANG_S) == ExitCode.HUNG_UP
    finally:
        process.kill()
        process.wait()
    found = json.loads(path.read_text(encoding="utf-8"))
    assert found["partial"] is True
    assert found["strategies"][0]["rounds"][0]["fault"]["message"] == "stopped by SIGHUP"
    assert len(found["strategies"][0]["rounds"][0]["samples"]["port"]) >= 1000


def test_a_terminal_that_goes_without_a_signal_does_not_end_a_run(tmp_path: Path) -> None:
    """A progress that cannot be drawn any more (a terminal of another session's, closed) is left out."""
    path = tmp_path / "r.json"
    leader, follower = os.openpty()
    arguments = ("run", "--strategy", "bind", "-n", "9000", "-o", str(path))
    with subprocess.Popen(
        [COMMAND, *arguments], stdout=subprocess.PIPE, stderr=follower, start_new_session=True
    ) as run:
        os.close(follower)
        os.read(leader, 1)  # something is drawn
        os.close(leader)
        stdout, _ = run.communicate(timeout=HANG_S)
    assert run.returncode in {ExitCode.OK, ExitCode.UNSOUND}
    assert b"connection attempts: 9000 " in stdout
    assert json.loads(path.read_text(encoding="utf-8"))["partial"] is False


def ignoring(*names: str) -> list[str]:
    """A command line before which a shell ignores signals, as nohup and the & of a script do."""
    return ["sh", "-c", f'trap "" {" ".join(names)}; exec "$@"', "sh"]


def test_signals_that_are_ignored_at_the_start_stay_ignored(tmp_path: Path) -> None:
    """Nohup's SIGHUP, and SIGINT and SIGQUIT of a command behind `&`; SIGTERM ends it as ever."""
    path = tmp_path / "r.json"
    command = [*ignoring("HUP", "INT", "QUIT"), COMMAND, *LONG_RUN, "-o", str(path)]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True) as process:
        wait_until(lambda: connections_of(engine_of(process)) >= 1000, "1,000 connections are made")
        assert caught(process.pid) & ENDING_SIGNALS == {signal.SIGTERM}
        for number in (signal.SIGHUP, signal.SIGINT, signal.SIGQUIT, signal.SIGTERM):
            process.send_signal(number)
        _, stderr = process.communicate(timeout=HANG_S)
    assert process.returncode == ExitCode.TERMINATED
    assert "connbench: stopped by SIGTERM" in stderr
    assert json.loads(path.read_text(encoding="utf-8"))["partial"] is True


def test_hanging_up_twice_is_hanging_up_once() -> None:
    """The kernel and the shell each send SIGHUP: the second must not end the round at once, as a second Ctrl-C does."""
    script = (
        "import os, signal\n"
        "from connbench.errors import Interrupted\n"
        "from connbench.interrupts import Interrupts\n"
        "interrupts = Interrupts()\n"
        "interrupts.install()\n"
        "for number in (signal.SIGHUP, signal.SIGHUP, signal.SIGTERM):\n"
        "    os.kill(os.getpid(), number)\n"
        "    try:\n"
        "        interrupts.check()\n"
        "    except Interrupted as signalled:\n"
        "        print(signalled)\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == ["stopped by SIGHUP", "stopped by SIGTERM"]


def test_a_signal_to_all_processes(tmp_path: Path) -> None:
    """A terminal's do nothing to engine and workers; SIGTERM to them, just before the command, is still its end."""
    path = tmp_path / "r.json"
    with running(*LONG_RUN, "-o", str(path)) as process:
        engine = engine_of(process)
        pids = (*children(engine), engine)
        assert len(pids) > 1
        for number in (signal.SIGHUP, signal.SIGINT, signal.SIGQUIT, signal.SIGTERM):
            for pid in pids:
                os.kill(pid, number)
        process.terminate()  # a manager of services sends to one after the other
        stdout, stderr = process.communicate(timeout=HANG_S)
    assert process.returncode == ExitCode.TERMINATED
    assert stderr.splitlines()[-1] == "connbench: stopped by SIGTERM"
    assert "partial" in stdout
    assert len(json.loads(path.read_text(encoding="utf-8"))["strategies"][0]["rounds"][0]["samples"]["port"]) >= 1000


def test_an_engine_stopped_before_it_is_ready_says_so() -> None:
    """SIGTERM from outside while Python starts: a fault with its cause, no bug, and no attempt."""
    plain = spec("plain")
    plan = RoundPlan(make_plan(plain, 8, 1), plain, 1)
    descriptor = samples.create(plan.rows)
    columns = samples.views(samples.attach(descriptor, plan.rows), plan.rows)
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, ENDING_SIGNALS)
    try:
        engine = subprocess.Popen(
            [sys.executable, "-P", "-m", "connbench.engine", str(descriptor), str(os.getpid())],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            pass_fds=[descriptor],
            text=True,
        )
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        os.close(descriptor)
    engine.send_signal(signal.SIGTERM)  # it is kept until the engine can answer
    stdout, stderr = engine.communicate(json.dumps(plan.to_dict()) + "\n", timeout=HANG_S)
    [said] = map(json.loads, stdout.splitlines())
    assert (said["event"], said["exit_code"]) == ("failed", ExitCode.FAULT)
    assert "stopped by SIGTERM before the round began" in said["message"]
    assert "bug" not in said["message"] + said["hint"]
    assert stderr == ""
    assert columns["tries"].tolist() == [0]
