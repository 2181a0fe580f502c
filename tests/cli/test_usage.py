"""Wrong usage and impossible wishes: one or two lines, the documented exit code, nothing measured."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from connbench.commands import cli
from connbench.errors import ExitCode
from connbench.strategies import STRATEGIES
from run_connbench import INSIDE, command_line, connbench, in_process

SMALL = ("run", "-n", "4", "--port-range", "40000-40007", "-q")

WRONG = {
    "reversed": ("--port-range 40007-40000", "40007-40000"),
    "above 65535": ("--port-range 60000-65536", "60000-65536"),
    "from 0": ("--port-range 0-100", "0-100"),
    "no range": ("--port-range many", "many"),
    "window 0": ("--window 0", "0"),
    "window -1": ("--window -1", "--window -1"),
    "window too wide": ("--window 9", "9"),
    "no connections": ("-n 0", "-n 0"),
    "negative connections": ("-n -5", "-n -5"),
    "unknown strategy": ("--strategy fastest", "fastest"),
    "strategy named twice": ("--strategy bind --strategy bind", "bind is named twice"),
    "source of plain": ("--source 127.0.0.1", "--source 127.0.0.1"),
    "window of range": ("--strategy range --window 4", "--window does nothing for range"),
    "retries of bind": ("--strategy bind --retries 1", "--retries does nothing for bind"),
    "seed that some readers of JSON would round": ("--seed 9007199254740992", "--seed"),
    "reuse of plain": ("--strategy plain --reuse-port", "--reuse-port does nothing for plain"),
    "both kinds of reuse": ("--strategy early --reuse-address --reuse-port", "--reuse-address and --reuse-port"),
    "list that begins outside": ("--strategy sequential --from 39999", "--from 39999 is not in the range"),
    "list of random": ("--strategy random --from 40001", "--from does nothing for random"),
    "stride of bind": ("--strategy bind --stride 8", "--stride does nothing for bind"),
    "stride 0": ("--strategy random --stride 0", "--stride 0"),
    "no such remainder": ("--strategy random --stride 8 --residue 8", "--residue 8"),
    "stride that no port fits": ("--strategy random --stride 100 --residue 8", "port % 100 = 8"),
    "residue alone": ("--strategy random --residue 3", "--residue 3 does nothing without --stride"),
    "window of a stride": ("--strategy window --stride 2 --window 2", "--window 2 and --stride 2"),
    "negative retries": ("--strategy random --retries -1", "-1"),
    "foreign source": ("--strategy bind --source 192.0.2.7", "192.0.2.7"),
    "source is no address": ("--strategy bind --source here", "here"),
    "source of another family": ("--strategy bind --source ::1 --family 4", "not both IPv4"),
    "target without a port": ("--target 127.0.0.1", "127.0.0.1"),
    "port out of range": ("--target 127.0.0.1:70000", "127.0.0.1:70000"),
    "unknown family": ("--family 5", "5"),
    "remote IPv6 target": ("--target [2001:db8::9]:80", "[2001:db8::9]:80 is not a loopback address"),
    "remote target": ("--target 192.0.2.1:80", "192.0.2.1:80"),
    "outside of isolation": ("--target 127.0.0.1:80 --isolate always", "--isolate always"),
    "CPU that is not there": ("--cpu 4096", "4096"),
    "CPU that is none": ("--cpu first", "first"),
    "no rounds": ("--rounds 0", "0"),
    "delay of the loopback": ("--delay 2", "--delay 2ms does nothing"),
    "delay beyond the timer of a SYN": ("--link veth --delay 1000", "--delay 1000"),
    "delay that is no number": ("--link veth --delay nan", "--delay nan"),
    "no time": ("--timeout 0", "--timeout 0"),
    "time that is no number": ("--timeout nan", "--timeout nan"),
    "sysctl of no network": ("--sysctl kernel.pid_max=9", "kernel.pid_max=9"),
    "sysctl without a value": ("--sysctl net.ipv4.tcp_tw_reuse", "--sysctl net.ipv4.tcp_tw_reuse is not possible"),
    "sysctl that is a path": ("--sysctl net/../kernel/pid_max=9", "net/../kernel/pid_max=9"),
    "sysctl twice": ("--sysctl net.a=1 --sysctl net.a=2", "net.a is given twice"),
    "sysctl of an option": ("--sysctl net.ipv4.ip_local_port_range=1", "--port-range"),
    "sysctl of a table": ("--sysctl net.ipv4.tcp_child_ehash_entries=8", "--ehash-entries"),
    "sysctl of the host": (
        "--strategy random --isolate never --sysctl net.ipv4.tcp_tw_reuse=1",
        "--sysctl net.ipv4.tcp_tw_reuse=1: the run is in the host's namespace",
    ),
    "unknown format": ("--format xml", "xml"),
    "unknown ending": ("-o result.xml", "'.xml'"),
    "unknown option": ("--fast", "--fast"),
}


def complaint(finished: subprocess.CompletedProcess[str]) -> str:
    """The words on stderr, after making sure that they are an error as the project wants it."""
    lines = finished.stderr.splitlines()
    assert 1 <= len(lines) <= 2, finished.stderr
    assert lines[0].startswith("connbench: ")
    assert all(line.startswith("  -> ") for line in lines[1:])
    assert "Traceback" not in finished.stderr
    assert finished.stdout == ""
    return finished.stderr


@pytest.mark.parametrize(("asked", "named"), WRONG.values(), ids=WRONG)
def test_wrong_usage(asked: str, named: str) -> None:
    """Exit code 2, and what is at fault is named."""
    words = asked.split()
    defaults = {"-n": "4", "--port-range": "40000-40007"}
    others = [word for name, value in defaults.items() if name not in words for word in (name, value)]
    finished = in_process("run", "-q", *others, *words)
    assert finished.returncode == ExitCode.USAGE
    assert named in complaint(finished)


def test_output_in_a_missing_folder(tmp_path: Path) -> None:
    """A folder is never created by accident."""
    finished = connbench(*SMALL, "-o", str(tmp_path / "missing" / "r.json"))
    assert finished.returncode == ExitCode.OUTPUT
    assert "does not exist" in complaint(finished)


def test_output_over_an_existing_file(tmp_path: Path) -> None:
    """Only --force replaces a file."""
    path = tmp_path / "r.json"
    path.write_text("mine", encoding="utf-8")
    finished = connbench(*SMALL, "-o", str(path))
    assert finished.returncode == ExitCode.OUTPUT
    assert "--force" in complaint(finished)
    assert path.read_text(encoding="utf-8") == "mine"
    assert connbench(*SMALL, "-o", str(path), "--force", "--strategy", "plain").returncode == ExitCode.OK
    assert path.read_text(encoding="utf-8").startswith("{")


@pytest.mark.skipif(os.geteuid() != 0, reason="mounting a read-only folder needs root")
def test_output_in_a_read_only_folder(tmp_path: Path) -> None:
    """It is found out before anything is measured."""
    finished = connbench(*SMALL, "-o", str(tmp_path / "r.json"), inside=("--tmpfs", f"{tmp_path}:ro"))
    assert finished.returncode == ExitCode.OUTPUT
    assert "Read-only file system" in complaint(finished)


@pytest.mark.skipif(os.geteuid() != 0, reason="mounting a small folder needs root")
def test_output_on_a_full_disk(tmp_path: Path) -> None:
    """The figures are printed all the same, and no half file is left."""
    show = f'"$@"; code=$?; echo "left: $(ls -A {tmp_path})"; exit $code'
    arguments = ("run", "-q", "-n", "2000", "--strategy", "plain", "-o", str(tmp_path / "r.json"))
    command = [*INSIDE, "--tmpfs", f"{tmp_path}:size=8k", "--", "sh", "-c", show, "sh"]
    finished = subprocess.run(
        [*command, *command_line(*arguments)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert finished.returncode == ExitCode.OUTPUT
    assert "No space left on device" in finished.stderr
    assert "connection attempts: 2000 errored: 0 total: 2000" in finished.stdout
    assert finished.stdout.endswith("\nleft: \n")


def test_a_kernel_without_the_option_is_told_so() -> None:
    """A strategy the kernel lacks is refused beforehand, with the option and the kernel that brings it."""
    finished = connbench(*SMALL, "--strategy", "plain", "--strategy", "range", inside=("--deny", "port-range"))
    assert finished.returncode == ExitCode.ENVIRONMENT
    words = complaint(finished)
    assert "IP_LOCAL_PORT_RANGE" in words
    assert "6.3" in words


def test_strategies_are_listed_with_what_the_kernel_lacks() -> None:
    """`connbench strategies` tells what runs here."""
    here = connbench("strategies").stdout
    lacking = connbench("strategies", inside=("--deny", "port-range")).stdout
    for name in STRATEGIES:
        assert f"\n{name} " in here
    assert re.search(r"^window +no ", lacking, re.MULTILINE)
    assert "needs IP_LOCAL_PORT_RANGE: Linux 6.3" in lacking
    assert re.search(r"^plain +yes ", lacking, re.MULTILINE)


def test_isolation_that_is_denied() -> None:
    """`--isolate always` fails where `auto` would fall back."""
    finished = connbench(*SMALL, "--isolate", "always", inside=("--deny", "unshare"))
    assert finished.returncode == ExitCode.ENVIRONMENT
    assert "Operation not permitted" in complaint(finished)


def test_another_system_than_linux() -> None:
    """Elsewhere connbench says that it measures Linux, instead of failing on its first import."""
    script = "import sys; sys.platform = 'darwin'; from connbench.commands import main; main(['run'])"
    finished = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert finished.returncode == ExitCode.ENVIRONMENT
    assert "darwin" in complaint(finished)


@pytest.mark.parametrize(("mode", "reason"), [(0o644, "Permission denied"), (None, "No such file or directory")])
def test_interpreter_that_cannot_be_executed_again(mode: int | None, reason: str, tmp_path: Path) -> None:
    """A Python that this user may not execute, as one in root's home under setpriv: exit code 4, and what to do."""
    python = tmp_path / "python"
    if mode is not None:
        python.touch(mode)
    script = f"import sys; sys.executable = {str(python)!r}; from connbench.commands import main; main({list(SMALL)!r})"
    finished = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert finished.returncode == ExitCode.ENVIRONMENT
    assert complaint(finished).splitlines() == [
        f"connbench: user {os.geteuid()} cannot execute this Python again, {python}: {reason}",
        "  -> connbench starts it for each round: install connbench where this user can execute it",
    ]


def test_a_refusing_target() -> None:
    """Nobody listens: said before anything is measured."""
    finished = connbench(*SMALL[:3], "-q", "--target", "127.0.0.1:9", inside=("--sysctl", "net.core.somaxconn=64"))
    assert finished.returncode == ExitCode.TARGET
    assert "127.0.0.1:9 refuses connections" in complaint(finished)


def test_a_target_that_does_not_answer() -> None:
    """A listener whose queue is full drops SYNs; the probe runs into its time-out."""
    fill = "c = socket.create_connection(('127.0.0.1', 5000)); os.set_inheritable(c.fileno(), True)"
    become = [sys.executable, "-c", f"import os, socket, sys; {fill}; os.execv(sys.argv[1], sys.argv[1:])"]
    command = command_line(*SMALL[:3], "-q", "--target", "127.0.0.1:5000", "--timeout", "0.2")
    finished = subprocess.run(
        [*INSIDE, "--listen", "127.0.0.1:5000/0", "--", *become, *command],
        capture_output=True,
        text=True,
        check=False,
    )
    assert finished.returncode == ExitCode.TARGET
    assert "does not answer within 0.2 s" in complaint(finished)


def test_a_taken_listener_port() -> None:
    """The listener of a run does not share a port."""
    finished = connbench(
        *("run", "-q", "-n", "4", "--isolate", "never", "--listener", "accept", "--target", "127.0.0.1:5000"),
        *("--strategy", "random"),
        inside=("--listen", "127.0.0.1:5000/8"),
    )
    assert finished.returncode == ExitCode.TARGET
    assert "the listener's port is in use: 127.0.0.1:5000" in complaint(finished)


def test_too_small_a_somaxconn_for_the_backlog_listener() -> None:
    """In the host's namespace the queue cannot be made longer, and it is said what can be done."""
    finished = connbench(
        *("run", "-q", "-n", "65", "--isolate", "never", "--listener", "backlog"),
        inside=("--sysctl", "net.core.somaxconn=64"),
    )
    assert finished.returncode == ExitCode.ENVIRONMENT
    assert "somaxconn of 64" in complaint(finished)


@pytest.mark.parametrize(
    ("strategy", "ports"), [("window", "39990-40010"), ("range", "40000-40099"), ("plain", "40000-40010")]
)
def test_a_range_the_host_does_not_give(strategy: str, ports: str) -> None:
    """In the host's namespace the kernel's own search cannot be confined, and no window may leave the host's range."""
    finished = connbench(
        *("run", "-q", "-n", "4", "--isolate", "never", "--strategy", strategy, "--port-range", ports),
        inside=("--sysctl", "net.ipv4.ip_local_port_range=40000 40063"),
    )
    assert finished.returncode == ExitCode.USAGE
    assert "40000-40063" in complaint(finished)


def test_help_needs_no_terminal_and_no_network() -> None:
    """`--help` of the command and of each subcommand fits into 80 columns; the command's names every exit code."""
    text = connbench("--help").stdout
    for code in ExitCode:
        assert str(code.value) in text
    names = [(name,) for name in cli.list_commands(click.Context(cli))]
    for command in (*names, ("trace", "latency"), ("trace", "offsets"), ("trace", "parity"), ("fleet", "merge")):
        finished = CliRunner().invoke(cli, [*command, "--help"], env={"COLUMNS": "80"})
        assert finished.exit_code == 0
        assert max(map(len, finished.stdout.splitlines())) <= 80, command


def test_a_reader_that_leaves(tmp_path: Path) -> None:
    """Output that nobody reads is no error, and what was asked for as a file is complete."""
    path = tmp_path / "r.json"
    reader, writer = os.pipe()
    os.close(reader)
    command = command_line(*SMALL, "--strategy", "plain", "--strategy", "bind", "-o", str(path))
    finished = subprocess.run(command, stdout=writer, stderr=subprocess.PIPE, text=True, check=False)
    os.close(writer)
    assert (finished.returncode, finished.stderr) == (ExitCode.OK, "")
    assert json.loads(path.read_text(encoding="utf-8"))["partial"] is False


@pytest.mark.parametrize("arguments", [("strategies",), ("--help",), SMALL])
def test_stdout_on_a_full_disk(arguments: tuple[str, ...]) -> None:
    """Output that cannot be written is told in a line."""
    with Path("/dev/full").open("w", encoding="utf-8") as full:
        finished = subprocess.run(command_line(*arguments), stdout=full, stderr=subprocess.PIPE, text=True, check=False)
    assert finished.returncode == ExitCode.OUTPUT
    assert "No space left on device" in finished.stderr
    assert "Traceback" not in finished.stderr


@pytest.mark.parametrize("closed", ["<&-", ">&-", "2>&-"])
def test_a_closed_standard_stream(closed: str) -> None:
    """Without stdin, stdout or stderr nothing of the run's own is taken for it."""
    command = " ".join(map(shlex.quote, command_line(*SMALL, "--strategy", "plain")))
    finished = subprocess.run(["/bin/sh", "-c", f"{command} {closed}"], capture_output=True, text=True, check=False)
    assert (finished.returncode, finished.stderr) == (ExitCode.OK, "")


def test_modules_in_the_current_folder_are_not_imported(tmp_path: Path) -> None:
    """A json.py lying about where connbench is started is nobody's json."""
    (tmp_path / "json.py").write_text("raise SystemExit('taken')", encoding="utf-8")
    assert connbench(*SMALL, "--strategy", "plain", cwd=tmp_path).returncode == ExitCode.OK
