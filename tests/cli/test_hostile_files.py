"""Small files that are made to take gigabytes or minutes: the command refuses them in a sentence, in little memory."""

from __future__ import annotations

from pathlib import Path

import pytest

from bombs import BOMBS
from connbench.errors import ExitCode
from mutants import SEEDS
from run_connbench import bounded

TELLING = (
    "gzip of a gigabyte of blanks",
    "gzip of a gigabyte of zeros in a column",
    "gzip of a gigabyte of line ends after a CSV's header",
    "20 MB of empty lists under a key that is ignored",
    "900 levels of lists",
    "a megabyte of blanks before a letter",
    "the whole range reserved 60,000 times",
    "300,000 hosts that were lost",
    "a CSV of 300,000 hosts",
)


def try_out(path: Path, words: str) -> None:
    """Read a file: the command refuses it with these words, or shows it where there are none."""
    done = bounded("report", str(path))
    assert done.returncode == (ExitCode.INPUT if words else ExitCode.OK), done.stderr[-500:]
    assert words in done.stderr
    assert len(done.stderr.splitlines()) == (2 if words else 0)
    assert len(done.stderr) < 1000


@pytest.mark.parametrize("name", TELLING)
def test_small_file_takes_little(name: str, tmp_path: Path) -> None:
    """What is parsed is bounded, and not only the size of the file."""
    words, make = BOMBS[name]
    path = tmp_path / "x.json"
    path.write_bytes(make())
    try_out(path, words)


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in BOMBS if name not in TELLING])
def test_no_small_file_takes_much(name: str, tmp_path: Path) -> None:
    """The same for every other kind of file."""
    test_small_file_takes_little(name, tmp_path)


def test_endless_file_is_refused_by_its_beginning() -> None:
    """/dev/zero has no end, and no result begins like it."""
    try_out(Path("/dev/zero"), "it begins with")


def test_result_is_shown_in_little_memory(tmp_path: Path) -> None:
    """A good file is read within the same bounds."""
    path = tmp_path / "x.json"
    path.write_bytes(SEEDS["json"])
    done = bounded("report", str(path))
    assert (done.returncode, done.stderr) == (ExitCode.OK, "")
