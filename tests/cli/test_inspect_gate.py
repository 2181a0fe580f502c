"""`inspect --fail-if`, `--nagios` and `--process`, on real connections in a namespace: lines, streams, exit codes."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from connbench.errors import ExitCode
from run_connbench import command_line, connbench

HOST = Path(__file__).parent.parent / "binding_host.py"
PATH = "127.0.0.1 -> 127.9.9.2:39999"
ORDINARY = ("setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", "--inh-caps=-all", "--bounding-set=-all")
WARNING = ("--warn-if", "used > 2%", "--fail-if", "used > 50%")
CRITICAL = ("--warn-if", "used > 1%", "--fail-if", "used > 2%")


def inspect(*arguments: str, user: tuple[str, ...] = (), **variables: str) -> subprocess.CompletedProcess[str]:
    """Inspect a namespace in which 100 connections are open to one target."""
    command = [sys.executable, str(HOST), "plain", "100", "1", *user, *command_line("inspect", *arguments)]
    return subprocess.run(
        command, capture_output=True, text=True, check=False, timeout=60, env={**os.environ, **variables}
    )


def failing(*conditions: str) -> list[str]:
    """The option, once for each condition."""
    return [word for condition in conditions for word in ("--fail-if", condition)]


def test_condition_that_is_true_ends_with_1() -> None:
    """The report is printed, and a line on stderr names path and value."""
    done = inspect(
        *failing("used > 90", "used > 2%", "free < 3k", "listeners > 0", "127.9.9.2:39999: established < 100")
    )
    assert done.returncode == ExitCode.THRESHOLD
    assert "verdict:" in done.stdout
    assert done.stderr.splitlines() == [
        f"connbench: threshold failed: {PATH}: used > 90, measured 100",
        f"connbench: threshold failed: {PATH}: used > 2%, measured 2.5%",
        "connbench: threshold failed: this namespace: listeners > 0, measured 1",
    ]


def test_github_gets_an_annotation_and_a_summary(tmp_path: Path) -> None:
    """As after a run."""
    summary = tmp_path / "summary.md"
    done = inspect(*failing("used > 90"), GITHUB_ACTIONS="true", GITHUB_STEP_SUMMARY=str(summary))
    assert f"::error title=connbench%3A threshold failed::{PATH}: used > 90, measured 100" in done.stderr
    assert "127.9.9.2:39999 |  100 |" in summary.read_text(encoding="utf-8")


def test_condition_that_is_not_true_ends_with_0() -> None:
    """Nothing is on stderr; a target without connections has nothing in use."""
    done = inspect(*failing("used > 50%", "127.9.9.3: used > 0", "left < 60s", "latency > 1s"), "--format", "json")
    assert (done.returncode, done.stderr) == (ExitCode.OK, "")
    assert json.loads(done.stdout)["rows"][0]["used"] == 100


@pytest.mark.parametrize(
    ("arguments", "code", "line"),
    [
        (["--fail-if", "used > 50%"], 0, "CONNBENCH OK - "),
        (
            ["--warn-if", "used > 2%", "--fail-if", "used > 50%"],
            1,
            f"CONNBENCH WARNING - {PATH}: used > 2%, measured 2.5%",
        ),
        (
            ["--warn-if", "used > 1%", "--fail-if", "used > 2%"],
            2,
            f"CONNBENCH CRITICAL - {PATH}: used > 2%, measured 2.5%",
        ),
    ],
)
def test_nagios_has_one_line_and_its_exit_codes(arguments: tuple[str, ...], code: int, line: str) -> None:
    """The line has performance data; stderr is empty."""
    done = inspect("--nagios", *arguments)
    assert (done.returncode, done.stderr) == (code, "")
    [only] = done.stdout.splitlines()
    assert only.startswith(line)
    assert " | 'used'=2.5" in only


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--fail-if", "usd > 50%"], "--fail-if: there is no metric 'usd': usd > 50% (did you mean used?)"),
        (["--bogus"], "there is no option --bogus"),
        (["--fail-if", "used > 1", "--format", "json"], "--nagios prints one line, not json"),
        (["--top", "many"], "--top"),
        (["--watch", "1"], "--nagios answers once"),
    ],
)
def test_fault_is_unknown_to_nagios(arguments: list[str], said: str) -> None:
    """Whatever is wrong: one line on stdout, the exit code 3, and the message on stderr as without --nagios."""
    done = connbench("inspect", "--nagios", *arguments)
    assert done.returncode == 3
    [line] = done.stdout.splitlines()
    assert line.startswith("CONNBENCH UNKNOWN - ")
    assert said in line
    assert done.stderr.startswith("connbench: ")


def test_bug_is_unknown_to_nagios() -> None:
    """An exception that nobody expects does not end in a code that means a warning or nothing."""
    code = (
        "import sys; from connbench.inspect import sock_diag; from connbench import commands\n"
        "def fail(*_): raise KeyError('a bug')\n"
        "sock_diag.read_sockets = fail\n"
        "commands.main(['inspect', '--nagios'])"
    )
    broken = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert broken.returncode == 3
    assert broken.stdout.startswith("CONNBENCH UNKNOWN - unexpected KeyError")


def test_help_is_help() -> None:
    """--nagios --help is no fault."""
    done = connbench("inspect", "--nagios", "--help")
    assert (done.returncode, done.stderr) == (ExitCode.OK, "")
    assert "--warn-if" in done.stdout


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--warn-if", "used > 1"], "--warn-if is for --nagios alone"),
        (["--fail-if", "example.com: used > 1"], "'example.com' is not a target"),
    ],
)
def test_wrong_usage(arguments: list[str], said: str) -> None:
    """Before anything is read, with exit code 2."""
    done = connbench("inspect", *arguments)
    assert (done.returncode, done.stdout) == (ExitCode.USAGE, "")
    assert said in done.stderr


def test_process_names_the_program_of_the_ports() -> None:
    """The program with its process and number of ports; its JSON has the same; without the option it is null."""
    done = inspect("--process")
    assert done.returncode == ExitCode.OK
    assert f"Programs with ports of {PATH}" in done.stdout
    [row] = json.loads(inspect("--process", "--format", "json").stdout)["rows"]
    [program] = row["programs"]["programs"]
    assert (program["name"][:6], program["ports"], len(program["pids"])) == ("python", 100, 1)
    assert row["programs"]["without_process"] == {"time_wait": 0, "closed": 0, "hidden": 0}
    [row] = json.loads(inspect("--format", "json").stdout)["rows"]
    assert row["programs"] is None


@pytest.mark.skipif(shutil.which("setpriv") is None, reason="needs setpriv (util-linux)")
@pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to become another user")
def test_ordinary_user_is_told_what_it_does_not_see() -> None:
    """The connections of root's program are counted, not named."""
    done = inspect("--process", user=ORDINARY)
    assert (done.returncode, done.stderr) == (ExitCode.OK, "")
    assert "100 connections belong to processes that only root sees" in done.stdout
