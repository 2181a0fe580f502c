"""The command as an ordinary user: in a user namespace where that is allowed, in the host's where it is not."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path

import pytest

from connbench.errors import ExitCode
from run_connbench import HANG_S, INSIDE, REACHABLE, command_line
from server_host import clients, serving

pytestmark = [
    pytest.mark.skipif(
        os.geteuid() != 0, reason="becoming another user needs root; the other tests run as one already"
    ),
    pytest.mark.skipif(shutil.which("setpriv") is None, reason="needs setpriv (util-linux)"),
]

AS_NOBODY = ("setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", "--inh-caps=-all", "--bounding-set=-all")


def as_nobody(*arguments: str, inside: tuple[str, ...]) -> subprocess.CompletedProcess[str]:
    """Run the command as nobody, in a stand-in for the host."""
    reachable = [word for folder in REACHABLE for word in ("--expose", str(folder))]
    command = [*INSIDE, *reachable, *inside, "--", *AS_NOBODY, *command_line(*arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False, cwd="/", timeout=HANG_S)


def user_namespaces_allowed() -> bool:
    """Whether user nobody may make a user namespace on this machine."""
    command = [*AS_NOBODY, "unshare", "--user", "--net", "true"]
    return subprocess.run(command, capture_output=True, check=False).returncode == 0


def test_a_user_namespace_gives_the_full_run() -> None:
    """An ordinary user has the talk's range and the backlog listener too."""
    if not user_namespaces_allowed():
        pytest.skip("user namespaces are denied to ordinary users here")
    finished = as_nobody("run", "-n", "3000", "--strategy", "window", inside=("--nofile", "1024"))
    assert finished.returncode == ExitCode.OK, finished.stderr
    assert "range 9024-65535" in finished.stdout
    assert "own user and network namespace, backlog listener" in finished.stdout
    assert "connection attempts: 3000 " in finished.stdout


def test_a_user_namespace_has_room_for_a_link() -> None:
    """Without root too the listener is in a second namespace, at the other end of a veth pair."""
    if not user_namespaces_allowed():
        pytest.skip("user namespaces are denied to ordinary users here")
    finished = as_nobody("run", "-n", "100", "--strategy", "bind", "--link", "veth", inside=("--nofile", "1024"))
    assert finished.returncode == ExitCode.OK, finished.stderr
    assert "198.18.0.1 -> 198.19.0.1:9023, own user and network namespace, veth link" in finished.stdout
    assert "connection attempts: 100 errored: 0 total: 100" in finished.stdout


def test_without_user_namespaces_the_host_is_measured() -> None:
    """Where they are denied the run falls back, warns once, and works."""
    finished = as_nobody(
        *("run", "--strategy", "bind"),
        inside=("--deny", "unshare", "--sysctl", "net.ipv4.ip_local_port_range=40000 40063"),
    )
    assert finished.returncode == ExitCode.OK, finished.stderr
    assert finished.stderr.count("warning") == 1
    assert "connection attempts: 64 errored: 0 total: 64" in finished.stdout
    assert "host namespace" in finished.stdout


def test_an_output_folder_of_another_user(tmp_path: Path) -> None:
    """The command finds a folder that the user may not write to before it measures."""
    finished = as_nobody("run", "-n", "4", "-o", str(tmp_path / "r.json"), inside=("--nofile", "1024"))
    assert finished.returncode == ExitCode.OUTPUT
    assert "Permission denied" in finished.stderr


@pytest.mark.parametrize("verb", ["report", "plot", "compare"])
def test_a_file_of_another_user(verb: str, tmp_path: Path) -> None:
    """Two lines, name and reason in the first, for a file that the user may not read; the exit code is the input's."""
    path = tmp_path / "r.json"
    path.write_bytes(b"{}")
    path.chmod(0o600)
    more = {"report": (), "plot": ("--terminal",), "compare": (str(path),)}[verb]
    finished = as_nobody(verb, str(path), *more, inside=("--expose", str(tmp_path)))
    assert (finished.returncode, finished.stdout) == (ExitCode.INPUT, "")
    assert finished.stderr.splitlines() == [
        f"connbench: {path} cannot be read: Permission denied",
        "  -> name a result file",
    ]


@pytest.mark.parametrize("denied", [("--deny", "unshare"), ()], ids=["host's namespace", "as allowed"])
def test_a_smoke_job_on_a_runner(denied: tuple[str, ...]) -> None:
    """A job like the README's passes for an ordinary user of a machine with the usual settings; its gate can fail."""
    runner = ("--sysctl", "net.ipv4.ip_local_port_range=32768 60999", "--sysctl", "net.core.somaxconn=4096", *denied)
    job = ("run", "-n", "1000", "--strategy", "bind", "--strategy", "window", "--fail-if", "errors > 5%")
    passed = as_nobody(*job, "--fail-if", "window: odd.min > 1x odd.max", inside=runner)
    assert passed.returncode == ExitCode.OK, passed.stderr
    failed = as_nobody(*job, "--fail-if", "p50 > 1ns", inside=runner)
    assert failed.returncode == ExitCode.THRESHOLD, failed.stderr
    assert failed.stderr.count("connbench: threshold failed: ") == 2


def test_processes_of_others_count_against_no_user() -> None:
    """RLIMIT_NPROC counts the user's own threads; connbench once counted those of all users, and printed `-58 more`."""
    user = ("setpriv", "--reuid=64329", "--regid=64329", "--clear-groups", "--inh-caps=-all", "--bounding-set=-all")
    reachable = [word for folder in REACHABLE for word in ("--expose", str(folder))]
    run = command_line("run", "--port-range", "40000-40999", "-n", "990", "--strategy", "random")
    # The limit is set behind setpriv: exec() after setuid() fails at once where the user's limit is exceeded.
    limited = [*INSIDE, *reachable, "--", *user, "prlimit", "--nproc=12"]

    def outcome(files: int) -> subprocess.CompletedProcess[str]:
        command = [*limited, f"--nofile={files}", *run]
        return subprocess.run(command, capture_output=True, text=True, check=False, cwd="/", timeout=HANG_S)

    assert len(list(Path("/proc").glob("[0-9]*/task/*"))) > 12
    alone = outcome(1024)
    assert "connection attempts: 990" in alone.stdout, alone.stderr
    sleepers = [subprocess.Popen([*user, "sleep", "100"]) for _ in range(7)]
    try:
        crowded = outcome(200)
    finally:
        for sleeper in sleepers:
            sleeper.kill()
            sleeper.wait()
    assert (crowded.returncode, crowded.stdout) == (ExitCode.ENVIRONMENT, "")
    assert "990 connections need 6 processes of 200 files each and one that starts them, and RLIMIT_NPROC leaves 4" in (
        crowded.stderr
    )


def test_inspect_counts_the_sockets_of_all_users() -> None:
    """The kernel lists them to everybody: those of root's programs in a namespace that root made, too."""
    with serving() as server, clients(server, 40):
        shown = as_nobody("inspect", "--format", "json", inside=("--join", str(server.pid)))
    assert (shown.returncode, shown.stderr) == (ExitCode.OK, "")
    [row] = json.loads(shown.stdout)["rows"]
    assert (row["target"], row["target_port"], row["used"], row["established"]) == ("127.0.0.1", 8080, 40, 40)


def test_inspect_enters_no_namespace_of_root() -> None:
    """The message says what is needed."""
    with serving() as server:
        refused = as_nobody("inspect", "--netns", str(server.pid), inside=("--nofile", "1024"))
    assert (refused.returncode, refused.stdout) == (ExitCode.ENVIRONMENT, "")
    assert "run it as root" in refused.stderr
