"""`run --target` against common servers: each holds every connection, and the run is sound."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest

from connbench.errors import ExitCode
from required_programs import require
from run_connbench import HANG_S, command_line, connbench, wait_until
from server_host import listening, next_report, report, serving, started, until

NGINX = """
daemon off;
master_process off;
user root;  # in a user namespace there is no other to become, or to give its folders to
pid {folder}/pid;
error_log {folder}/error.log;
events {{ worker_connections {most}; }}
http {{
    access_log off;
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    server {{ listen 127.0.0.1:8080 backlog=512; return 204; }}
}}
"""

REDIS = """
bind 127.0.0.1
port 8080
tcp-backlog 512
maxclients {most}
daemonize no
save ""
dir {folder}
"""

SERVERS = {
    "nginx": (NGINX, ("-c",)),
    "redis-server": (REDIS, ()),
}
"""Configuration, and what goes before its name on the command line."""

CONNECTIONS, PORTS = 200, 256

FULL = ("--strategy", "bind", "-n", str(PORTS), "--churn", "100", "--churn-rate", "50")
"""Every port, and then two seconds that are mostly idle: by then the server has closed what it does not want."""


def command_of(server: str, folder: Path, most: int = 1000) -> list[str]:
    """The server in the foreground on 127.0.0.1:8080, for `most` connections at once."""
    program = require(server)
    text, before = SERVERS[server]
    configuration = folder / "configuration"
    configuration.write_text(text.format(folder=folder, most=most), encoding="ascii")
    return [program, *before, str(configuration)]


def run_against(server: subprocess.Popen[str], path: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """A run to the server in its namespace, of 200 connections by default."""
    return connbench(
        *("run", "-q", "-n", str(CONNECTIONS), "--target", "127.0.0.1:8080", "-o", str(path), *arguments),
        inside=("--join", str(server.pid)),
    )


def rounds_of(path: Path) -> list[dict[str, Any]]:
    """The rounds of all strategies in a result file."""
    found = json.loads(path.read_text(encoding="utf-8"))
    return [one for strategy in found["strategies"] for one in strategy["rounds"]]


@pytest.mark.parametrize("server", list(SERVERS))
def test_every_strategy_is_sound_against_it(server: str, tmp_path: Path) -> None:
    """With its usual settings the server holds every connection of each strategy to the end, from any address."""
    with listening(command_of(server, tmp_path), 8080) as process:
        finished = run_against(process, tmp_path / "r.json")
    assert finished.returncode == ExitCode.OK, finished.stderr
    rounds = rounds_of(tmp_path / "r.json")
    assert [one["established"] for one in rounds] == [CONNECTIONS] * len(rounds)
    assert "invalid" not in finished.stdout


def test_a_server_that_holds_fewer_spoils_the_run(tmp_path: Path) -> None:
    """The server closes connections beyond its limit: they are missing at the end, and the figures are invalid."""
    with listening(command_of("nginx", tmp_path, PORTS // 2), 8080) as process:
        finished = run_against(process, tmp_path / "r.json", *FULL)
    assert_not_held(finished, tmp_path / "r.json")


def test_a_server_that_turns_an_address_away_spoils_the_run(tmp_path: Path) -> None:
    """In its protected mode redis closes what does not come from 127.0.0.1: the finding says so, with a remedy."""
    with listening(command_of("redis-server", tmp_path), 8080) as process:
        finished = run_against(process, tmp_path / "r.json", *FULL, "--source", "127.9.9.1")
    assert_not_held(finished, tmp_path / "r.json")
    assert "from that --source" in finished.stdout


def assert_not_held(finished: subprocess.CompletedProcess[str], path: Path) -> None:
    """A run at whose end not every connection was open."""
    last = rounds_of(path)[-1]
    assert last["established"] < last["held"]
    assert finished.returncode == ExitCode.UNSOUND
    assert f"only {last['established']} of {last['held']} connections were still open at the end" in finished.stdout


def test_the_run_and_the_server_agree(tmp_path: Path) -> None:
    """`serve` reports in mid-run, and at the end has counted what the run opened, and the probe before it."""
    replaced = 200
    paced = ("--churn", str(replaced), "--churn-rate", "100")
    arguments = ("run", "-q", "-n", str(CONNECTIONS), "--strategy", "bind", *paced)
    target = ("--target", "127.0.0.1:8080", "-o", str(tmp_path / "r.json"))
    with serving("--format", "json") as server:
        next_report(server)
        with started(command_line(*arguments, *target, inside=("--join", str(server.pid)))) as run:
            wait_until(lambda: report(server)["accepted"] > 1, "the run has begun")
            assert run.poll() is None
            _, complaints = run.communicate(timeout=HANG_S)
        assert run.returncode == ExitCode.OK, complaints
        made = CONNECTIONS + replaced + 1
        found = until(server, accepted=made, closed_by_reset=made, open=0, waiting=0)
    assert [one["established"] for one in rounds_of(tmp_path / "r.json")] == [CONNECTIONS] * 2
    assert sum(process["accepted"] for process in found["processes"]) == made
    assert set(found["counters"].values()) == {0}
