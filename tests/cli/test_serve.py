"""`connbench serve`: it holds what it accepts, closes what its peer closes, and accounts for it."""

from __future__ import annotations

import os
import resource
import shutil
import signal
import subprocess
import sys
from functools import partial
from pathlib import Path

import pytest

from connbench.errors import ExitCode
from connbench.linux.families import has_ipv6
from outside import ESTABLISHED, TIME_WAIT, clients, heard, next_report, report, serving, started, states, tell, until
from support import HANG_S, INSIDE, children, command_line, connbench, started_here, wait_until

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
    assert "the queue overflowed" in stdout


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


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_no_process_is_left(number: signal.Signals) -> None:
    """Ctrl-C, which a terminal sends to all of its processes, is an orderly end; SIGKILL takes all with it."""
    with serving(*JSON) as server, clients(server, 5):
        next_report(server)
        until(server, accepted=5)
        acceptors = children(server.pid)
        if number is signal.SIGINT:
            for pid in acceptors:
                os.kill(pid, number)
        server.send_signal(number)
        stdout, stderr = server.communicate(timeout=HANG_S)
        wait_until(lambda: set(acceptors).isdisjoint(started_here()), "all are gone")
    assert stderr == ""
    if number is signal.SIGINT:
        assert server.returncode == ExitCode.OK
        assert '"accepted": 5, "open": 5' in stdout.splitlines()[-1]


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
        (("--bind", "localhost"), ExitCode.USAGE, "--bind 'localhost' is no IP address"),
        (("--port", "65536"), ExitCode.USAGE, "--port"),
        (("--processes", "0"), ExitCode.USAGE, "--processes"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else "",
)
def test_where_it_cannot_listen(arguments: tuple[str, ...], code: ExitCode, says: str) -> None:
    """The fault is named with its value and a way out."""
    finished = connbench("serve", *arguments, inside=("--listen", "127.0.0.1:5000/8"))
    assert finished.returncode == code
    assert finished.stdout == ""
    assert says in finished.stderr
    assert "\n  -> " in finished.stderr


@pytest.mark.skipif(os.geteuid() != 0, reason="a capability can be given up only by who has it")
@pytest.mark.skipif(shutil.which("setpriv") is None, reason="needs setpriv (util-linux)")
def test_a_privileged_port() -> None:
    """Without CAP_NET_BIND_SERVICE the way out is a port that anybody may have."""
    command = [*INSIDE, "--", "setpriv", "--bounding-set=-net_bind_service", *command_line("serve", "--port", "80")]
    finished = subprocess.run(command, capture_output=True, text=True, check=False, timeout=HANG_S)
    assert finished.returncode == ExitCode.TARGET
    assert "cannot listen on 127.0.0.1:80: Permission denied" in finished.stderr
    assert "from 1024 on" in finished.stderr


def test_help_is_readable_at_80_columns() -> None:
    """`serve --help` fits, and names its signals and its exit codes."""
    text = connbench("serve", "--help").stdout
    assert max(map(len, text.splitlines())) <= 80
    assert {"SIGUSR1", "SIGTERM", "--bind", "--port", "--processes"} <= set(text.replace(".", " ").split())
