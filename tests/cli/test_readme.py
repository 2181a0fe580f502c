"""The README: every command in it runs, in its order, as it stands there."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import pytest

from connbench.errors import ExitCode
from support import HANG_S, INSIDE

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")
FOLDED = re.sub(r" *- run: >-\n((?: {10}.*\n)+)", lambda block: f"    {' '.join(block[1].split())}\n", README)
COMMANDS = re.findall(r"^    (?:\$ )?((?:connbench|make) .*?)(?: +#.*)?$", FOLDED, re.MULTILINE)
"""Those of indented blocks, and that of the CI job, which YAML folds."""

SMALLER = "--port-range 40000-40499"
"""What is added to a run of all 56,512 ports, which would take minutes."""

FEWER = {"window": "10,50", "churn": "50"}
"""What a sweep is given instead of its own."""

SHORTER = {"20k": "2k", "2k": "200"}
"""How much churn a run is given instead of its own."""

HOST = (
    *("--listen", "127.0.0.1:8080/2000", "--sysctl", "net.core.somaxconn=4096"),
    *("--sysctl", "net.ipv4.ip_local_port_range=40000 40999"),  # what `--port-range host` takes
)
BIN = Path(sys.executable).parent

NOT_HERE = {
    "make test",  # runs this test: within itself it would not end
    "connbench run --strategy range --sources 20 -n 1M",  # takes a minute: `make test-all` tries it
    "connbench reproduce --quick",  # what `scaled` makes of the full one
}


def scaled(command: str) -> str:
    """The command with what makes it quick, and the interpreter's own `connbench` in place of one in .venv."""
    words, redirection, file = command.partition(" > ")
    if words.startswith("connbench run") and not {"-n", "--port-range"} & set(words.split()):
        words = words.replace("run", f"run {SMALLER}", 1)
    words = re.sub(r"(run .*--churn) (20k|2k)\b", lambda found: f"{found[1]} {SHORTER[found[2]]}", words)
    if "--format csv" in words:
        words = words.replace("--port-range 20000-29999", SMALLER)
    if words.startswith("connbench sweep"):
        words = re.sub(r"--(window|churn) [\d,]+", lambda found: f"--{found[1]} {FEWER[found[1]]}", words)
        words += f" {SMALLER} --rounds 1"
    if words.startswith("connbench reproduce") and "--quick" not in words:
        words += " --quick"
    if words.startswith("make"):
        ready = ".venv/.ready-{}.{}".format(*sys.version_info)
        mine = {"--directory": ROOT, "--old-file": ready, "PYTHON": sys.executable, "BIN": BIN}
        words += "".join(f" {name}={shlex.quote(str(value))}" for name, value in mine.items())
    return words + redirection + file


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the reader is: later commands read what earlier ones wrote."""
    return tmp_path_factory.mktemp("reader")


def test_commands_are_found() -> None:
    """Every line of the README that begins with a command is read, the first, the last, and the one of the CI job."""
    assert COMMANDS[0] == "make run"
    assert COMMANDS[-1] == "connbench plot 1764000000-6.18.csv --yscale log -o talk.png"
    assert any(command.endswith("--fail-if 'window: odd.p50 > 3x even.p50'") for command in COMMANDS)
    assert len(COMMANDS) == len(re.findall(r"^ +(?:\$ )?(?:connbench|make) ", README, re.MULTILINE))


@pytest.mark.parametrize("command", [c for c in COMMANDS if c not in NOT_HERE])
def test_command_runs(folder: Path, command: str) -> None:
    """Each command does what it is there for; on a busy machine a gate may close."""
    finished = subprocess.run(
        [*INSIDE, *HOST, "--", "bash", "-c", scaled(command)],
        cwd=folder,
        env={**os.environ, "PATH": f"{BIN}:{os.environ['PATH']}"},
        capture_output=True,
        text=True,
        check=False,
        timeout=HANG_S,
    )
    busy = {"--fail-if": ExitCode.THRESHOLD}
    allowed = {ExitCode.OK, *(code for word, code in busy.items() if f" {word}" in command)}
    assert finished.returncode in allowed, finished.stderr
    assert "Traceback" not in finished.stderr
    words = shlex.split(command)
    for option, name in pairwise(words):
        assert option not in {"-o", "--html", ">"} or (folder / name).stat().st_size > 0
