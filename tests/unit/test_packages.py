"""The Debian packages that the tests use: one list, printed before it is installed, and left out on request."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from required_programs import PACKAGES, PATH, program, reason

ROOT = Path(__file__).parents[2]
LIST = [sys.executable, str(ROOT / "scripts" / "packages.py"), "--list"]


def listed(path: str) -> str:
    """The packages that are missing for that PATH."""
    return subprocess.run(LIST, env={**os.environ, "PATH": path}, capture_output=True, text=True, check=True).stdout


def test_what_is_missing_is_reported_with_its_purpose(tmp_path: Path) -> None:
    """A line for each package whose command is not in PATH; nothing is printed where all are installed."""
    said = listed("/nowhere")
    for command in {"chromium", "go", "cc"} & PACKAGES.keys():
        entry = PACKAGES[command]
        assert re.search(rf"^  {' '.join(entry['packages'])} +{entry['purpose']}$", said, re.MULTILINE)
    for name in PACKAGES:
        (tmp_path / name).touch(0o755)
    assert listed(str(tmp_path)) == ""


@pytest.mark.parametrize(("given", "expected"), [([], "scripts/packages.py"), (["NO_INSTALL=1"], "--list")])
@pytest.mark.parametrize("target", ["test", "test-all"])
def test_make_leaves_packages_out_where_one_says_so(target: str, given: list[str], expected: str) -> None:
    """Both targets use the one script, which only lists what is missing with NO_INSTALL=1."""
    command = ["make", "--dry-run", target, f"PYTHON={sys.executable}", *given]
    environment = {name: value for name, value in os.environ.items() if name not in {"MAKEFLAGS", "NO_INSTALL"}}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=True)
    [line] = [line for line in done.stdout.splitlines() if "scripts/packages.py" in line]
    assert line.split()[-1] == expected


def test_skip_says_what_installs_it() -> None:
    """A test that lacks a program names it and the line to type."""
    assert reason("cc") == "no cc here: apt-get install gcc libc6-dev"


def test_servers_are_found_where_ordinary_users_do_not_look() -> None:
    """Debian has nginx in /usr/sbin, which is not in their PATH."""
    assert "/usr/sbin" in PATH.split(":")
    assert program("sh")


def test_every_program_of_the_list_is_asked_for_by_a_test() -> None:
    """No package is installed that no test uses."""
    texts = "".join(
        path.read_text(encoding="utf-8") for path in (ROOT / "tests").rglob("*.py") if path != Path(__file__)
    )
    assert [name for name in PACKAGES if f'"{name}"' not in texts] == []
