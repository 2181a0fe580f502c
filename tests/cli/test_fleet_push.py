"""`--push`: hosts that have Python and nothing else measure, with the loop in C too, and nothing is left there."""

from __future__ import annotations

import gzip
import io
import json
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import pytest

from connbench.errors import ExitCode
from connbench.fleet.archive import BOOTSTRAP, make_archive
from connbench.model import Namespace
from connbench.results.fleet_file import Fleet
from connbench.results.input_file import parse_result, read_any
from connbench.results.result import Result
from fleet_hosts import fleet_of
from run_connbench import COMMAND, HANG_S, wait_until

SMALL = ("--strategy", "range,window", "-n", "300", "--port-range", "40000-40999", "--rounds", "2")


@pytest.fixture(scope="module")
def archive() -> bytes:
    """What is sent to a host."""
    return make_archive()


@pytest.fixture(scope="module")
def bare(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Python that has no library at all, connbench neither."""
    folder = tmp_path_factory.mktemp("bare")
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder], check=True)
    python = folder / "bin" / "python"
    for library in ("connbench", "click", "numpy"):
        assert subprocess.run([python, "-c", f"import {library}"], check=False, capture_output=True).returncode
    return python


@pytest.fixture
def bare_there(bare: Path, tmp_path: Path) -> Path:
    """The same in a folder that the hosts of a test have."""
    return shutil.copytree(bare.parents[1], tmp_path / "bare", symlinks=True) / "bin" / "python"


def pushed(python: Path, archive: bytes, *words: str, within: tuple[str, ...] = ()) -> subprocess.Popen[bytes]:
    """What a host runs, with the archive on its stdin; `within` is what starts it."""
    process = subprocess.Popen(
        [*within, python, "-I", "-c", BOOTSTRAP, str(len(archive)), *words],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    assert process.stdin
    process.stdin.write(archive)
    process.stdin.flush()
    return process


def measured_by(agent: subprocess.Popen[bytes], *options: str) -> Result:
    """Have an agent run this; what it measured."""

    def say(**order: object) -> None:
        assert agent.stdin
        agent.stdin.write(json.dumps(order).encode() + b"\n")
        agent.stdin.flush()

    def hear(kind: str) -> dict[str, Any]:
        assert agent.stdout
        assert agent.stderr
        for line in agent.stdout:
            event: dict[str, Any] = json.loads(line)
            assert event["event"] != "failed", event
            if event["event"] == kind:
                return event
        raise AssertionError(agent.stderr.read().decode())

    with agent:
        try:
            hear("hello")
            say(do="plan", options=options, together=False)
            hear("ready")
            say(do="go", at_ns=0)
            done = hear("done")
            assert done["fault"] is None
            data = Path(f"/proc/{agent.pid}/fd/{done['descriptor']}").read_bytes()
            say(do="end")
            assert agent.wait(HANG_S) == 0
        finally:
            agent.kill()
    return parse_result(gzip.decompress(data), "it", None)


@pytest.mark.parametrize(
    "options",
    [
        ("--fill", "50%", "--churn", "20", "--churn-rate", "1000/s", "--concurrency", "2"),
        ("--protocol", "udp", "-n", "50", "--loop", "python"),
        ("--in-flight", "4", "-n", "50", "--link", "veth"),
        ("--link", "nat", "--clients", "2", "-n", "50", "--listener", "accept"),
    ],
    ids=lambda options: options[1],
)
def test_each_kind_of_run_needs_no_library(bare: Path, archive: bytes, options: tuple[str, ...]) -> None:
    """Whatever a run imports, at its begin or in its midst, is in the archive."""
    result = measured_by(pushed(bare, archive, "agent"), "--port-range", "40000-40199", *options)
    assert not result.is_partial
    assert result.plan
    assert all(len(one.samples) for rounds in result.rounds.values() for one in rounds)


def test_an_ordinary_user_needs_no_more(bare: Path, archive: bytes) -> None:
    """Engine processes import the archive from within a user namespace, which may not look into that of the agent."""
    within = ("unshare", "--user", "--map-user=1000", "--map-group=1000")
    if subprocess.run([*within, "unshare", "--user", "--net", "true"], capture_output=True, check=False).returncode:
        pytest.skip("user namespaces are denied here")
    result = measured_by(pushed(bare, archive, "agent", within=within), *SMALL)
    assert result.plan
    assert result.plan.namespace is Namespace.USER


def test_loop_of_another_architecture_is_done_without(bare: Path, archive: bytes) -> None:
    """The loop in C is in the archive, and is used; where the dynamic linker refuses it, that in Python is."""
    result = measured_by(pushed(bare, archive, "agent"), *SMALL)
    assert result.plan
    assert result.plan.loop == "c"
    changed = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(archive)) as original, zipfile.ZipFile(changed, "w") as other:
        for name in original.namelist():
            other.writestr(name, b"\x7fELF of another" if name.endswith(".so") else original.read(name))
    result = measured_by(pushed(bare, changed.getvalue(), "agent"), *SMALL)
    assert result.plan
    assert result.plan.loop == "python"


def test_archive_that_ends_early_is_no_agent(bare: Path) -> None:
    """As when the controller is killed meanwhile: one line, and no traceback."""
    process = subprocess.run(
        [bare, "-I", "-c", BOOTSTRAP, "1000", "agent"], input=b"PK", capture_output=True, check=False
    )
    assert (process.returncode, process.stdout) == (1, b"")
    assert process.stderr == b"connbench: stdin has ended within the archive\n"


def test_hosts_with_python_alone_measure(bare_there: Path, tmp_path: Path) -> None:
    """Over each namespace: all attempts, nothing left after the run; a host without such a Python is named."""
    file = tmp_path / "fleet.json.gz"
    with fleet_of(tmp_path, clients=2) as hosts:
        there = ("fleet", "run", "-w", "c[1-2]", "--via", "netns", "--push")
        finished = hosts.connbench(*there, "--python", str(bare_there), "-q", "-o", str(file), "--", *SMALL)
        assert finished.returncode in {ExitCode.OK, ExitCode.UNSOUND}, finished.stderr
        assert hosts.left() == []
        fleet = read_any(file)
        assert isinstance(fleet, Fleet)
        for result in fleet.results:
            assert sum(len(one.samples) for rounds in result.rounds.values() for one in rounds) == 1200

        lacking = hosts.connbench(*there, "--python", "/nonexistent", "--", *SMALL)
        assert lacking.returncode == ExitCode.ENVIRONMENT
        assert "c1 and c2: it has no Python" in lacking.stderr
        assert "name a Python there" in lacking.stderr
        hosts.until_nothing_is_left()


def test_archive_goes_over_ssh(bare_there: Path, tmp_path: Path) -> None:
    """The shell over there gets the bootstrap whole, ssh the archive; a check and a run leave nothing there."""
    file = tmp_path / "fleet.json"
    with fleet_of(tmp_path, clients=2, ssh=True) as hosts:
        there = ("-w", "c[1-2]", "--push", "--python", str(bare_there))
        checked = hosts.connbench("fleet", "check", *there, "--format", "json")
        assert [one["fault"] for one in json.loads(checked.stdout)["hosts"]] == [None, None]
        assert [one["hostname"] for one in json.loads(checked.stdout)["hosts"]] == ["c1", "c2"]
        finished = hosts.connbench("fleet", "run", *there, "--together", "-q", "-o", str(file), "--", *SMALL)
        assert finished.returncode in {ExitCode.OK, ExitCode.UNSOUND}, finished.stderr
        fleet = read_any(file)
        assert isinstance(fleet, Fleet)
        assert [one.fault for one in fleet.hosts] == [None, None]
        hosts.until_nothing_is_left()


def test_nothing_stays_after_the_controller_is_killed(bare_there: Path, tmp_path: Path) -> None:
    """By SIGKILL, in the midst of a run: agents end by themselves, and with them the archive and all connections."""
    long = ("--strategy", "range", "--port-range", "40000-40099", "--fill", "50%", "--churn", "1e6", "--churn-rate")
    with fleet_of(tmp_path, clients=2) as hosts:
        there = ("fleet", "run", "-w", "c[1-2]", "--via", "netns", "--push", "--python", str(bare_there))
        with hosts.started(COMMAND, *there, "--", *long, "100/s") as controller:
            wait_until(lambda: all(len(hosts.agents(host)) for host in hosts.clients), "agents run")
            wait_until(lambda: "connbench.engine" in " ".join(hosts.processes().values()), "a round has begun")
            controller.kill()
            hosts.until_nothing_is_left()
