"""Output files of commands: one that cannot be written loses no other, and no file of another user is replaced."""

from __future__ import annotations

import os
import signal
import subprocess
from pathlib import Path

import pytest

from connbench.errors import ExitCode
from connbench.results.input_file import read
from run_connbench import HANG_S, command_line, connbench, running

SHORT_RUN = ("run", "--strategy", "plain", "--port-range", "40000-40255")
LOAD = ("--port-range", "40000-40255", "--fill", "75%", "--churn", "100", "--churn-rate", "200")
"""Takes half a second after its first connections: every test here acts in that time."""

ALWAYS_TRUE = ("--fail-if", "attempts > 1")
FAILED = "threshold failed"

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can remount, and give a file to another user")


@pytest.fixture(scope="module")
def result(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A result file."""
    path = tmp_path_factory.mktemp("result") / "r.json"
    assert connbench(*SHORT_RUN, "-o", str(path)).returncode == ExitCode.OK
    return path


def names(folder: Path) -> list[str]:
    """What is in a folder."""
    return sorted(entry.name for entry in folder.iterdir())


def ending(process: subprocess.Popen[str]) -> tuple[int, str, str]:
    """Exit code, stdout and stderr of a run that is about to end."""
    stdout, stderr = process.communicate(timeout=HANG_S)
    assert "Traceback" not in stderr
    return process.returncode, stdout, stderr


@pytest.mark.parametrize("inside", [(), ("--nofile", "4096")], ids=["one host", "each in a network namespace"])
def test_three_runs_at_once_with_one_file(inside: tuple[str, ...], tmp_path: Path) -> None:
    """One of them writes the file. On one host the others are refused at once; elsewhere they measure and save."""
    command = command_line("run", "--strategy", "plain", *LOAD, "-o", "r.json", inside=inside)
    runs = [
        subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        for _ in range(3)
    ]
    ends = [ending(run) for run in runs]
    assert sorted(code for code, _, _ in ends) == [ExitCode.OK, ExitCode.OUTPUT, ExitCode.OUTPUT]
    measured = [stdout for _, stdout, _ in ends if stdout]
    assert len(names(tmp_path)) == len(measured)
    assert inside or len(measured) == 1
    for code, stdout, stderr in ends:
        if code == ExitCode.OUTPUT:
            assert "r.json" in stderr
            assert ("r.kept-" in stderr) == bool(stdout)


@needs_root
def test_a_link_planted_in_mid_run(tmp_path: Path) -> None:
    """As root in a sticky folder: another user's link is not followed, and the result lies beside it."""
    secret, sticky = tmp_path / "secret", tmp_path / "sticky"
    secret.write_text("root's")
    secret.chmod(0o600)
    sticky.mkdir()
    sticky.chmod(0o1777)
    path = sticky / "r.json"
    with running("run", "--strategy", "plain", *LOAD, "-o", str(path), at_least=200) as process:
        path.symlink_to(secret)
        os.chown(path, 65534, 65534, follow_symlinks=False)
        code, stdout, stderr = ending(process)
    assert code == ExitCode.OUTPUT
    assert "a symbolic link of that name appeared after the start" in stderr
    assert "connection attempts:" in stdout
    assert (secret.read_text(), secret.stat().st_mode & 0o777) == ("root's", 0o600)
    assert path.is_symlink()
    (kept,) = set(names(sticky)) - {"r.json"}
    assert str(sticky / kept) in stderr
    assert not read(sticky / kept).is_partial


def test_a_loop_of_links_planted_in_mid_run(tmp_path: Path) -> None:
    """The command reports the signal, with its exit code, and the file that the result is in."""
    path = tmp_path / "r.json"
    with running("run", "--strategy", "plain", "-o", str(path)) as process:
        path.symlink_to("r.json")
        process.send_signal(signal.SIGTERM)
        code, _, stderr = ending(process)
    assert code == ExitCode.TERMINATED
    (kept,) = set(names(tmp_path)) - {"r.json"}
    assert str(tmp_path / kept) in stderr
    assert read(tmp_path / kept).is_partial


def test_after_a_kill_the_same_command_works(tmp_path: Path) -> None:
    """SIGKILL leaves neither a lock nor a file; a new run with the same file measures."""
    path = tmp_path / "r.json"
    with running("run", "--strategy", "plain", "-o", str(path)) as process:
        process.kill()
        process.communicate()
    assert names(tmp_path) == []
    assert connbench(*SHORT_RUN, "-o", str(path)).returncode == ExitCode.OK
    assert names(tmp_path) == ["r.json"]


def test_pictures_that_cannot_be_written(tmp_path: Path) -> None:
    """A sweep whose folder for pictures is gone writes its page and its file, prints, and reports the threshold."""
    folder, page, file = tmp_path / "charts", tmp_path / "p.html", tmp_path / "r.json"
    folder.mkdir()
    outputs = ("--charts", str(folder / "c"), "--html", str(page), "-o", str(file))
    sweep = ("sweep", "--window", "10,20", "--rounds", "1", *LOAD, *outputs, *ALWAYS_TRUE)
    with running(*sweep, at_least=200) as process:
        folder.rmdir()
        code, stdout, stderr = ending(process)
    assert code == ExitCode.OUTPUT
    for kind in ("windows", "utilisation"):
        assert f"--charts {folder / 'c'}-{kind}.png: folder {folder} does not exist" in stderr
    assert FAILED in stderr
    assert "window 10" in stdout
    assert page.read_text(encoding="utf-8").startswith("<!")
    assert not read(file).is_partial
    assert names(tmp_path) == ["p.html", "r.json"]


@pytest.mark.parametrize("prefix", ["/", ".."])
def test_a_prefix_that_begins_no_name(prefix: str, tmp_path: Path) -> None:
    """A folder is no prefix of a picture's name: connbench refuses it before it measures."""
    done = connbench("sweep", "--window", "10,20", "--port-range", "40000-40255", "--charts", prefix, cwd=tmp_path)
    assert (done.returncode, done.stdout) == (ExitCode.USAGE, "")
    assert "no file name can begin with this" in done.stderr
    assert names(tmp_path) == []


@pytest.mark.parametrize("command", ["report", "compare", pytest.param("reproduce", marks=pytest.mark.slow)])
def test_a_page_that_cannot_be_written(command: str, result: Path, tmp_path: Path) -> None:
    """A disk that is full when the page is written does not suppress thresholds and reports."""
    page = tmp_path / "p.html"
    arguments = {
        "report": (str(result), *ALWAYS_TRUE),
        "compare": (str(result), str(result), *ALWAYS_TRUE),
        "reproduce": ("--quick", "-o", str(tmp_path / "r.json.gz")),
    }[command]
    done = connbench(command, *arguments, "--html", str(page), inside=("--fsize", str(2 << 20)))
    assert done.returncode == ExitCode.OUTPUT
    assert f"--html {page} cannot be written: File too large" in done.stderr
    assert (FAILED in done.stderr) == (command != "reproduce")
    assert bool(done.stdout) == (command != "report")
    assert names(tmp_path) == (["r.json.gz"] if command == "reproduce" else [])


@pytest.mark.parametrize(
    ("arguments", "output", "gate"),
    [
        (("report", "RESULT"), None, ALWAYS_TRUE),
        (("compare", "RESULT", "RESULT"), ("--html", "p.html"), ALWAYS_TRUE),
        (("predict", "RESULT"), ("--chart", "p.svg"), ()),
        (("plot", "RESULT", "--terminal"), ("-o", "p.svg"), ()),
    ],
    ids=["report", "compare", "predict", "plot"],
)
def test_stdout_that_cannot_be_written(
    arguments: tuple[str, ...], output: tuple[str, str] | None, gate: tuple[str, ...], result: Path, tmp_path: Path
) -> None:
    """A full device as stdout prevents neither files nor the reports of thresholds."""
    words = [str(result) if word == "RESULT" else word for word in (*arguments, *(output or ()), *gate)]
    with Path("/dev/full").open("w", encoding="ascii") as full:
        done = subprocess.run(
            command_line(*words),
            cwd=tmp_path,
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            timeout=HANG_S,
            check=False,
        )
    assert done.returncode == ExitCode.OUTPUT
    assert "stdout cannot be written: No space left on device" in done.stderr
    assert "Traceback" not in done.stderr
    assert (FAILED in done.stderr) == bool(gate)
    assert names(tmp_path) == ([output[1]] if output else [])


@needs_root
@pytest.mark.parametrize(
    "arguments",
    [
        SHORT_RUN,
        (*SHORT_RUN, "-o", "OUT/r.json.gz"),
        ("plot", "RESULT", "-o", "OUT/p.svg"),
        ("report", "RESULT", "--html", "OUT/p.html"),
    ],
    ids=lambda arguments: " ".join(arguments[:1] + arguments[-2:]),
)
def test_no_folder_for_temporary_files(arguments: tuple[str, ...], result: Path, tmp_path: Path) -> None:
    """In a container that can write only where its output goes, or nowhere, each command works as usual."""
    words = [word.replace("OUT", str(tmp_path)).replace("RESULT", str(result)) for word in arguments]
    done = connbench(*words, inside=("--all-read-only", "--writable", str(tmp_path)))
    assert (done.returncode, done.stderr.count("Traceback")) == (ExitCode.OK, 0), done.stderr
    assert bool(names(tmp_path)) == ("OUT" in " ".join(arguments))
