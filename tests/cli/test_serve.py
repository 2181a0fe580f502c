"""`connbench serve`: it holds what it accepts, closes what its peer closes, and reports it."""

from __future__ import annotations

import json
import os
import re
import resource
import shutil
import signal
import subprocess
import sys
from functools import partial
from pathlib import Path

import pytest

from connbench.errors import ExitCode
from connbench.linux.address_family import has_ipv6
from fault_at_moment import Step, at
from run_connbench import HANG_S, INSIDE, children, command_line, connbench, started_here, wait_until
from server_host import (
    ESTABLISHED,
    TIME_WAIT,
    clients,
    heard,
    next_report,
    report,
    serving,
    started,
    states,
    tell,
    until,
)

JSON = ("--format", "json", "--processes", "2")


def test_connections_are_held_until_their_peer_closes_them() -> None:
    """What arrives is discarded; at the peer's FIN the server closes too, and the peer's end is in TIME_WAIT."""
    with serving(*JSON) as server:
        place = next_report(server)
        assert (place["event"], place["address"], place["processes"]) == ("listening", "127.0.0.1:8080", 2)
        with clients(server, 20, "words", "and more") as client:
            held = until(server, accepted=20, open=20)
            assert states(server.pid, 8080).count(ESTABLISHED) == 20
            tell(client)
            assert heard(client) == "closed\n"
            until(server, open=0, closed_by_fin=20)
            assert states(server.pid, 8080, remote=True) == [TIME_WAIT] * 20
        last = report(server, signal.SIGTERM)
        assert server.wait(HANG_S) == ExitCode.OK
    assert sum(process["accepted"] for process in held["processes"]) == 20
    assert (last["accepted"], last["most_open"], last["closed_by_reset"]) == (20, 20, 0)
    assert (last["full"], last["waiting"], set(last["counters"].values())) == (False, 0, {0})


def test_a_peer_that_resets() -> None:
    """A connection that ends by reset is closed and counted as such."""
    reset = "s.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, bytes((1, 0, 0, 0, 0, 0, 0, 0)))"
    script = f"import socket; s = socket.create_connection(('127.0.0.1', 8080)); {reset}; s.close()"
    with serving(*JSON) as server:
        next_report(server)
        subprocess.run([*INSIDE, "--join", str(server.pid), "--", sys.executable, "-c", script], check=True)
        until(server, accepted=1, open=0, closed_by_reset=1)


def test_a_full_process_leaves_the_queue_to_the_others() -> None:
    """Each holds what its open files allow; when all are full the rest waits, and is accepted once there is room."""
    with serving(*JSON, inside=("--nofile", "48")) as server:
        room = next_report(server)["room"]
        with clients(server, room) as first, clients(server, room + 3):
            full = until(server, accepted=2 * room, waiting=3)
            assert full["full"]
            assert [(process["open"], process["full"]) for process in full["processes"]] == [(room, True)] * 2
            assert set(full["counters"].values()) == {0}
            tell(first)
            after = until(server, closed_by_fin=room, waiting=0)
            assert (after["accepted"], after["open"], after["full"]) == (2 * room + 3, room + 3, False)


def has_epoll(pid: int) -> bool:
    """Whether a process has an epoll instance."""
    return any(str(entry.readlink()) == "anon_inode:[eventpoll]" for entry in Path(f"/proc/{pid}/fd").iterdir())


def test_a_process_without_descriptors_leaves_the_connection_to_another() -> None:
    """Whichever process the kernel wakes for a connection: if it cannot accept the other does, and it recovers."""
    with serving(*JSON) as server:
        place = next_report(server)
        for number, pid in enumerate(children(server.pid), 1):
            wait_until(partial(has_epoll, pid), "it has the files it begins with")
            resource.prlimit(pid, resource.RLIMIT_NOFILE, (3, place["files"]))
            with clients(server, 1):
                until(server, accepted=number, open=1)
                resource.prlimit(pid, resource.RLIMIT_NOFILE, (place["files"], place["files"]))
            until(server, open=0, full=False)
            wait_until(lambda: not any(one["full"] for one in report(server)["processes"]), "both accept again")


def test_an_overflow_is_reported() -> None:
    """With a queue of one and nobody to accept, the kernel drops SYNs: the report says how many."""
    with serving("--processes", "1", inside=("--sysctl", "net.core.somaxconn=1")) as server:
        assert heard(server) == "listening on 127.0.0.1:8080, backlog 1 (somaxconn 1)\n"
        heard(server)
        os.kill(children(server.pid)[0], signal.SIGSTOP)
        finished = connbench(
            *("run", "-q", "-n", "3", "--strategy", "bind", "--target", "127.0.0.1:8080", "--timeout", "0.1"),
            inside=("--join", str(server.pid)),
        )
        server.terminate()
        stdout, _ = server.communicate(timeout=HANG_S)
    assert finished.returncode == ExitCode.UNSOUND
    assert "the listener's queue overflowed (ListenOverflows" in finished.stdout
    assert "waiting in the queue: 2 of 1\n" in stdout
    assert "dropped by the kernel: ListenOverflows" in stdout
    assert "the queue was full: " in stdout


def test_a_killed_process_is_reported_and_the_others_go_on() -> None:
    """Its connections are gone and counted as lost, the rest stays open, and the exit code tells of it."""
    with serving(*JSON) as server:
        next_report(server)
        with clients(server, 20):
            before = until(server, accepted=20)
            # The one that holds most: of one that holds nothing no total would tell that its end was noticed.
            other, killed = sorted(before["processes"], key=lambda process: int(process["open"]))
            os.kill(killed["pid"], signal.SIGKILL)
            after = until(server, lost=killed["open"], open=other["open"])
            ends = {process["pid"]: process["end"] for process in after["processes"]}
            assert ends == {killed["pid"]: "was killed by SIGKILL", other["pid"]: None}
            with clients(server, 5):
                until(server, accepted=25, open=other["open"] + 5)
            server.terminate()
            _, stderr = server.communicate(timeout=HANG_S)
    assert server.returncode == ExitCode.FAULT
    assert f"accepting process {killed['pid']} was killed by SIGKILL" in stderr
    assert "1 of 2 accepting processes were lost" in stderr


def test_the_last_process_killed_ends_it() -> None:
    """Without anybody to accept it ends by itself, with its report."""
    with serving("--processes", "1") as server:
        heard(server)  # it says so once all its processes are there
        os.kill(children(server.pid)[0], signal.SIGKILL)
        stdout, stderr = server.communicate(timeout=HANG_S)
    assert server.returncode == ExitCode.FAULT
    assert "was killed by SIGKILL" in stdout
    assert "1 of 1 accepting processes were lost" in stderr


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGHUP, signal.SIGQUIT, signal.SIGKILL])
def test_no_process_is_left(number: signal.Signals) -> None:
    """Ctrl-C, which a terminal sends to all of its processes, is an orderly end; SIGKILL takes all with it.

    So are the signals of a terminal that is closed, and of Ctrl-backslash; these have their own exit codes.
    """
    with serving(*JSON) as server, clients(server, 5):
        next_report(server)
        until(server, accepted=5)
        acceptors = children(server.pid)
        if number is not signal.SIGKILL:
            for pid in acceptors:
                os.kill(pid, number)
        server.send_signal(number)
        stdout, stderr = server.communicate(timeout=HANG_S)
        wait_until(lambda: set(acceptors).isdisjoint(started_here()), "all are gone")
    has_own_code = number in {signal.SIGHUP, signal.SIGQUIT}
    assert stderr == (f"connbench: stopped by {number.name}\n" if has_own_code else "")
    if number is not signal.SIGKILL:
        assert server.returncode == (128 + number if has_own_code else ExitCode.OK)
        assert '"accepted": 5, "open": 5' in stdout.splitlines()[-1]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
@pytest.mark.parametrize("started", [0, 5])
def test_a_signal_while_its_processes_start(number: signal.Signals, started: int, tmp_path: Path) -> None:
    """No further process is started, and the end is as at any other time."""
    few = ("serve", "--port", "0", *JSON[:2], "--processes", "20")
    with at((Step("command", "os.fork", "", started + 1),), *few, folder=tmp_path) as run:
        run.send(number)
    code, says = (ExitCode.OK, "") if number is signal.SIGTERM else (ExitCode.HUNG_UP, "stopped by SIGHUP")
    run.ended(code, says)
    listening, last = map(json.loads, run.stdout.splitlines())
    assert listening["processes"] == len(last["processes"]) < 20


def test_signals_to_its_processes_alone_do_nothing() -> None:
    """They are for the server, which a terminal's or a service manager's signal reaches, too."""
    with serving(*JSON) as server, clients(server, 5):
        next_report(server)
        until(server, accepted=5)
        for pid in children(server.pid):
            for number in (signal.SIGHUP, signal.SIGINT, signal.SIGQUIT, signal.SIGTERM, signal.SIGUSR1):
                os.kill(pid, number)
        after = report(server)
        assert [process["end"] for process in after["processes"]] == [None, None]
        last = report(server, signal.SIGTERM)
        assert server.wait(HANG_S) == ExitCode.OK
    assert (last["accepted"], last["open"]) == (5, 5)


def test_a_closed_terminal_ends_nothing_that_was_started_with_nohup() -> None:
    """Where SIGHUP is ignored from the start, as nohup(1) has it, it still is."""
    ignoring = ["sh", "-c", 'trap "" HUP; exec "$@"', "sh"]
    with started([*ignoring, *command_line("serve", "--port", "0", *JSON)]) as server:
        next_report(server)
        server.send_signal(signal.SIGHUP)
        assert report(server)["event"] == "report"
        assert report(server, signal.SIGTERM)["event"] == "report"
        assert server.wait(HANG_S) == ExitCode.OK


def test_it_goes_on_when_the_reader_of_its_stdout_has_left() -> None:
    """As with `| head -1`: connections stay open, stderr gets the reports and is told why, and the end is in order."""
    with serving(*JSON) as server, clients(server, 3):
        next_report(server)
        until(server, accepted=3)
        assert server.stdout
        assert server.stderr
        server.stdout.close()
        server.send_signal(signal.SIGUSR1)
        why, found = server.stderr.readline(), json.loads(server.stderr.readline())
        server.terminate()
        last = json.loads(server.stderr.readline())
        assert server.wait(HANG_S) == ExitCode.OK
    assert why == "connbench: stdout was closed by its reader; serve goes on, and its reports go to stderr\n"
    assert (found["open"], last["open"]) == (3, 3)


def test_it_goes_on_when_its_stdout_takes_no_more(tmp_path: Path) -> None:
    """A log that may not grow costs no connection; the exit code tells of it."""
    log = tmp_path / "log"
    with (
        log.open("w") as stdout,
        subprocess.Popen(
            command_line("serve", "--port", "0", *JSON), stdout=stdout, stderr=subprocess.PIPE, text=True
        ) as server,
    ):
        wait_until(lambda: log.read_text().endswith("\n"), "it says where it listens")
        size = log.stat().st_size
        resource.prlimit(server.pid, resource.RLIMIT_FSIZE, (size, size))
        server.send_signal(signal.SIGUSR1)
        assert server.stderr
        why, found = server.stderr.readline(), json.loads(server.stderr.readline())
        server.terminate()
        _, rest = server.communicate(timeout=HANG_S)
    assert "stdout cannot be written: File too large; serve goes on" in why
    assert found["event"] == "report"
    assert '"event": "report"' in rest
    assert "connbench: stdout cannot be written: File too large\n  -> " in rest
    assert server.returncode == ExitCode.OUTPUT
    assert log.stat().st_size == size


AS_ORDINARY_USER = ("setpriv", "--reuid=54321", "--regid=54321", "--clear-groups", "--bounding-set=-all")
REACHABLE = [Path(sys.prefix), Path(sys.base_prefix), Path(__file__).parents[2]]
MOST_PROCESSES = 600

needs_another_user = pytest.mark.skipif(
    os.geteuid() != 0 or not shutil.which("setpriv") or not shutil.which("prlimit"),
    reason="a limit of processes holds back an ordinary user alone: needs root, and setpriv and prlimit (util-linux)",
)


def with_few_files(files: int, *arguments: str) -> list[str]:
    """`serve --port 0` as a user that may open few files, and start no more than `MOST_PROCESSES`, whatever it asks."""
    reachable = [word for folder in REACHABLE for word in ("--expose", str(folder))]
    bound = ["prlimit", f"--nproc={MOST_PROCESSES}", *AS_ORDINARY_USER]
    return [
        *INSIDE,
        *reachable,
        "--nofile",
        str(files),
        "--",
        *bound,
        *command_line("serve", "--port", "0", *arguments),
    ]


@needs_another_user
@pytest.mark.parametrize("files", [20, 64, 256, 1024])
def test_few_files_take_no_end_of_processes(files: int) -> None:
    """The number of processes is bounded by CPUs and by what the user may start; what they hold is said."""
    with started(with_few_files(files, "--format", "json")) as server:
        place = next_report(server)
        assert place["event"] == "listening"
        assert len(children(server.pid)) == place["processes"]
        last = report(server, signal.SIGTERM)
        assert server.wait(HANG_S) == ExitCode.OK
    most = min(64 * len(os.sched_getaffinity(0)), MOST_PROCESSES // 2)
    assert 1 <= place["processes"] <= most
    assert place["processes_wanted"] == -(-65535 // place["room"])
    assert bool(place["bounded_by"]) == (place["processes"] < place["processes_wanted"])
    assert len(last["processes"]) == place["processes"]


@needs_another_user
def test_more_processes_than_the_user_may_start() -> None:
    """Those that are asked for are refused before the first of them is started, with both figures and the limit."""
    finished = subprocess.run(
        with_few_files(1024, "--processes", "4096"), capture_output=True, text=True, check=False, timeout=HANG_S
    )
    assert finished.returncode == ExitCode.ENVIRONMENT
    assert "--processes 4096: this needs 4,096 more processes, and " in finished.stderr
    assert "are allowed (RLIMIT_NPROC)\n  -> " in finished.stderr
    assert finished.stdout == ""


def test_files_that_leave_no_room_for_a_connection() -> None:
    """Where RLIMIT_NOFILE leaves an accepting process nothing, the command refuses: value and remedy."""
    finished = connbench("serve", "--port", "0", inside=("--nofile", "8"))
    assert finished.returncode == ExitCode.ENVIRONMENT
    assert finished.stderr == (
        "connbench: RLIMIT_NOFILE of 8 leaves an accepting process no file for a connection\n"
        "  -> raise it: ulimit -n 1024\n"
    )


@pytest.mark.skipif(not has_ipv6(), reason="this kernel has no IPv6, or it is switched off")
def test_a_free_port_of_an_address_of_ipv6() -> None:
    """Port 0 is any free one, and the line says which."""
    with started([*INSIDE, "--", *command_line("serve", "--bind", "::1", "--port", "0")]) as server:
        address = heard(server).split()[2].rstrip(",")
        finished = connbench(
            *("run", "-q", "-n", "4", "--strategy", "bind", "--target", address), inside=("--join", str(server.pid))
        )
    assert finished.returncode == ExitCode.OK, finished.stderr
    assert "connection attempts: 4 errored: 0 total: 4" in finished.stdout


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        (("--port", "5000"), ExitCode.TARGET, "cannot listen on 127.0.0.1:5000: Address already in use"),
        (("--bind", "192.0.2.1"), ExitCode.TARGET, "cannot listen on 192.0.2.1:9023: Cannot assign requested address"),
        (("--bind", "localhost"), ExitCode.USAGE, "--bind 'localhost' is not an IP address"),
        (("--port", "65536"), ExitCode.USAGE, "--port"),
        (("--processes", "0"), ExitCode.USAGE, "--processes"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else "",
)
def test_where_it_cannot_listen(arguments: tuple[str, ...], code: ExitCode, says: str) -> None:
    """The fault is named with its value and a remedy."""
    finished = connbench("serve", *arguments, inside=("--listen", "127.0.0.1:5000/8"))
    assert finished.returncode == code
    assert finished.stdout == ""
    assert says in finished.stderr
    assert "\n  -> " in finished.stderr


@pytest.mark.skipif(os.geteuid() != 0, reason="a capability can be given up only by who has it")
@pytest.mark.skipif(shutil.which("setpriv") is None, reason="needs setpriv (util-linux)")
def test_a_privileged_port() -> None:
    """Without CAP_NET_BIND_SERVICE the remedy is a port that every user may take."""
    command = [*INSIDE, "--", "setpriv", "--bounding-set=-net_bind_service", *command_line("serve", "--port", "80")]
    finished = subprocess.run(command, capture_output=True, text=True, check=False, timeout=HANG_S)
    assert finished.returncode == ExitCode.TARGET
    assert "cannot listen on 127.0.0.1:80: Permission denied" in finished.stderr
    assert "from 1024 on" in finished.stderr


def test_help_is_readable_at_80_columns() -> None:
    """`serve --help` fits, and names its signals and its exit codes."""
    text = connbench("serve", "--help").stdout
    assert max(map(len, text.splitlines())) <= 80
    assert {"SIGUSR1", "SIGTERM", "--bind", "--port", "--processes"} <= set(re.split(r"[\s.,]+", text))
