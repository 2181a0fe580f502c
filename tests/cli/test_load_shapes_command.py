"""The shapes of load with the installed command: workers of few sockets, faults in their middle, and refusals."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path
from typing import Any

import pytest

from connbench.errors import ExitCode
from run_connbench import HANG_S, children, connbench, engine_of, running

SMALL = ("run", "--port-range", "40000-40063", "--seed", "3")
FEW = ("--nofile", "40")


def document(*arguments: str, inside: tuple[str, ...] = ()) -> dict[str, Any]:
    """The JSON of a sound run."""
    finished = connbench(*SMALL, *arguments, "--format", "json", inside=inside)
    assert finished.returncode == ExitCode.OK, finished.stderr
    found: dict[str, Any] = json.loads(finished.stdout)
    return found


def churned(found: dict[str, Any]) -> dict[str, Any]:
    """The round of the churn."""
    [measured] = found["strategies"][1]["rounds"]
    return dict(measured)


def test_churn_is_the_same_in_one_worker_and_in_several() -> None:
    """The same seed closes the same connections and draws the same ports, in one worker and in several of few files."""
    arguments = ("--strategy", "random", "--fill", "75%", "--churn", "60")
    alone, shared = churned(document(*arguments)), churned(document(*arguments, inside=FEW))
    assert len(alone["workers"]) == 1 < len(shared["workers"])
    assert all(worker["attempts"] for worker in shared["workers"])
    assert alone["samples"]["port"] == shared["samples"]["port"]
    assert shared["established"] == 48


def test_clients_and_churn_stop_in_good_order(tmp_path: Path) -> None:
    """Ctrl-C in a paced churn of two clients: the replacements are saved, the round is partial, nothing is left."""
    path = tmp_path / "x.json"
    load = ("--strategy", "bind", "--fill", "50%", "--concurrency", "2", "--churn", "100000", "--churn-rate", "200")
    with running("run", "--port-range", "40000-40063", *load, "-o", str(path), at_least=40) as process:
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=HANG_S)
    assert process.returncode == ExitCode.INTERRUPTED
    filled, replaced = json.loads(path.read_bytes())["strategies"]
    assert (filled["partial"], replaced["partial"]) == (False, True)
    assert len(filled["rounds"][0]["samples"]["port"]) == 32
    assert 0 < len(replaced["rounds"][0]["samples"]["port"]) < 100000
    # Each of the two clients may be stopped after it has closed a connection and before it opens the next.
    assert 30 <= replaced["rounds"][0]["established"] <= 32


def _system_call(pid: int) -> str:
    """The system call that a process waits in; "running" if it waits in none."""
    return Path(f"/proc/{pid}/syscall").read_text(encoding="ascii").split()[0]


def test_worker_stopped_while_it_waits_stops_the_churn() -> None:
    """SIGTERM reaches a worker that has nothing to do, and ends the run."""
    load = ("--strategy", "bind", "--fill", "75%", "--churn", "100000", "--churn-rate", "50")
    with running(*SMALL, *load, inside=("--nofile", "34"), at_least=50) as process:
        workers = children(engine_of(process))
        calls = [_system_call(pid) for pid in workers]
        waiting_for_work = max(calls, key=calls.count)  # only one is busy
        os.kill(workers[calls.index(waiting_for_work)], signal.SIGTERM)
        stdout, stderr = process.communicate(timeout=HANG_S)
    assert (len(workers) > 2, process.returncode) == (True, ExitCode.FAULT)
    assert "a worker was stopped by SIGTERM" in stderr
    assert "partial" in stdout


def test_engine_killed_in_the_churn_leaves_the_filling_whole(tmp_path: Path) -> None:
    """The filling that ended is kept; the churn alone is partial."""
    path = tmp_path / "x.json"
    load = ("--strategy", "bind", "--fill", "50%", "--churn", "1000", "--churn-rate", "20")
    with running(*SMALL, *load, "-o", str(path), at_least=34) as process:
        os.kill(engine_of(process), signal.SIGKILL)
        process.communicate(timeout=HANG_S)
    assert process.returncode == ExitCode.FAULT
    filled, replaced = json.loads(path.read_bytes())["strategies"]
    assert (filled["partial"], replaced["partial"]) == (False, True)
    assert filled["rounds"][0]["established"] == 32
    assert filled["rounds"][0]["counters"]["Tcp.ActiveOpens"] == 32


def test_silent_target_ends_the_churn_of_several_workers() -> None:
    """Time-outs in a row count over all workers of a client: none has more than three of these eight."""
    target = ("--target", "127.0.0.1:39999", "--timeout", "0.05")
    load = ("--strategy", "random", "--fill", "75%", "--churn", "8", "--isolate", "never")
    finished = connbench(
        *(*SMALL, *target, *load),
        inside=(
            *FEW,
            *("--listen", "127.0.0.1:39999/48"),  # nobody accepts: closed ones stay in its queue
            *("--sysctl", "net.ipv4.ip_local_port_range=40000 40063"),
        ),
    )
    assert finished.returncode == ExitCode.FAULT, finished.stderr
    assert "5 connect() in a row took longer than" in finished.stderr


def test_acceptors_are_as_many_as_are_open_at_once() -> None:
    """Replaced connections leave the acceptors: any number of replacements needs no further process."""
    load = ("--strategy", "bind", "--fill", "50%", "--churn", "100000", "--churn-rate", "100", "--listener", "accept")
    with running(*SMALL, *load, inside=("--nofile", "200"), at_least=33) as process:
        assert len(children(engine_of(process))) == 2  # one accepts, one holds
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=HANG_S)
    assert process.returncode == ExitCode.INTERRUPTED


def test_more_clients_than_cpus_are_warned_of() -> None:
    """More clients than CPUs cannot run at the same time: a warning says so before the run."""
    finished = connbench(
        *SMALL, "--strategy", "bind", "--concurrency", "40", "--cpu", str(min(os.sched_getaffinity(0)))
    )
    assert finished.returncode == ExitCode.OK
    assert "warning: 40 clients are on 1 CPU" in finished.stderr


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (("-n", "5", "--fill", "50%"), "-n 5 and --fill 50% both set the number of connections"),
        (("--fill", "half"), "--fill half is not a share"),
        (("--fill", "0%"), "--fill 0% is not possible"),
        (("--fill", "101%"), "--fill 101% is not possible"),
        (("--concurrency", "0"), "--concurrency 0 is not possible"),
        (("--concurrency", "65"), "--concurrency 65 is more than the 64 connections"),
        (("--give-up-after", "0"), "--give-up-after 0ms is not possible"),
        (("--churn", "0"), "--churn 0 is not possible"),
        (("--close", "fin"), "--close fin does nothing without --churn"),
        (("--churn-rate", "5"), "--churn-rate 5/s does nothing without --churn"),
        (("--churn", "5", "--churn-rate", "0"), "--churn-rate 0/s is not possible"),
        (("--churn", "5", "--close", "fin", "--listener", "backlog"), "--close fin: a backlog listener never closes"),
        (("--churn", "5", "--close", "fin", "--protocol", "udp"), "--close fin: UDP has neither RST nor FIN"),
        (("--protocol", "udp", "--listener", "accept"), "--listener accept does nothing for UDP"),
        (("--target", "127.0.0.1:1", "--target", "127.0.0.1:1"), "127.0.0.1:1 is named twice"),
        (("--target", "127.0.0.1:1", "--target", "[::1]:1"), "are not of one family"),
        (("--listener", "accept", "--protocol", "udp"), "--listener accept does nothing for UDP"),
        (("--target", "[::1]:80", "--family", "4"), "--target ::1 is not of IPv4"),
        (("--cpu", "0,x"), "--cpu '0,x' is neither CPUs' numbers nor none"),
        (("--cpu", "0,4095"), "--cpu 4095 is not usable here"),
    ],
)
def test_load_that_cannot_be_is_refused(arguments: tuple[str, ...], named: str) -> None:
    """In two lines, before anything is measured."""
    finished = connbench(*SMALL, *arguments)
    assert (finished.returncode, finished.stdout) == (ExitCode.USAGE, "")
    assert named in finished.stderr
    assert len(finished.stderr.splitlines()) == 2
