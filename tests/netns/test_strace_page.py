"""docs/strategies.md: strace prints of each strategy the calls that the page shows."""

from __future__ import annotations

import re
import subprocess
from itertools import takewhile
from pathlib import Path

import pytest

from connbench.strategies import STRATEGIES
from required_programs import require
from run_connbench import COMMAND, HANG_S, needs_port_range

PAGE = (Path(__file__).parents[2] / "docs" / "strategies.md").read_text(encoding="utf-8")
CALL = re.compile(r"(setsockopt|bind|connect)\(\d+, (.*)\) = 0$")


def call_of(line: str) -> str:
    """What a line says of the strategy: the call, and the option or whether the port is 0."""
    found = CALL.search(line)
    assert found, line
    name, arguments = found.groups()
    if name == "setsockopt":
        return re.sub(r"0x33 /\* IP_\?\?\? \*/", "IP_LOCAL_PORT_RANGE", arguments).split(",")[1].strip()
    return f"{name} {'0' if 'htons(0)' in arguments else 'port'}"


def shown() -> dict[str, list[str]]:
    """The calls that the page shows, by strategy."""
    blocks = re.findall(r"^((?:`\w+`(?:,? and |, )?)+):.*\n(?:.+\n)*\n((?: {4}.*\n)+)", PAGE, re.MULTILINE)
    return {
        name: [call_of(line) for line in code.splitlines()] for names, code in blocks for name in names.split("`")[1::2]
    }


def test_page_shows_each_strategy() -> None:
    """A new strategy has its lines, too."""
    assert set(shown()) == set(STRATEGIES)


@needs_port_range
@pytest.mark.slow  # strace prints also the 500 calls by which each worker measures its own cost
def test_strace_prints_what_the_page_shows(tmp_path: Path) -> None:
    """One connection of each strategy, by the loop that is built here."""
    trace = tmp_path / "calls.txt"
    asked = ("run", "--strategy", ",".join(STRATEGIES), "--port-range", "40000-40499", "--window", "50", "-n", "1")
    strace = (require("strace"), "-f", "-e", "trace=setsockopt,bind,connect", "-o", str(trace))
    finished = subprocess.run([*strace, COMMAND, *asked], capture_output=True, text=True, check=False, timeout=HANG_S)
    if "ptrace" in finished.stderr:
        pytest.skip("this machine lets no process trace another")
    assert finished.returncode == 0, finished.stderr
    made: dict[str, list[str]] = {}
    for line in trace.read_text(encoding="utf-8").splitlines():
        if re.search("AF_INET|SOL_IP|REUSE", line):
            made.setdefault(line.split()[0], []).append(line)
    workers = [lines for lines in made.values() if any("connect(" in line for line in lines)]
    calls = [[*map(call_of, takewhile(lambda line: "EISCONN" not in line, lines))] for lines in workers]
    assert calls == [shown()[name] for name in STRATEGIES]
