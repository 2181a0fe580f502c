"""`connbench report --html`: one page of result files, and the command that made them in it."""

from __future__ import annotations

import json
import shlex
from pathlib import Path

import pytest

from connbench.errors import ExitCode
from connbench.report.json import json_document
from factories import BIND, PLAIN, result_of, round_of, samples_of
from run_connbench import connbench, in_process


@pytest.fixture
def result(tmp_path: Path) -> Path:
    """A result file of two strategies."""
    path = tmp_path / "result.json"
    rounds = [round_of(samples_of([10_000] * 50))]
    path.write_text(json_document(result_of({PLAIN: rounds, BIND: rounds})), encoding="utf-8")
    return path


def test_page_is_written_and_nothing_printed(result: Path, tmp_path: Path) -> None:
    """Stdout stays empty, stderr says what was written and how large it is."""
    page = tmp_path / "page.html"
    done = in_process("report", str(result), "--html", str(page))
    assert (done.returncode, done.stdout) == (ExitCode.OK, "")
    assert done.stderr == f"wrote {page}, {page.stat().st_size / 1e6:.1f} MB\n"
    text = page.read_text(encoding="utf-8")
    assert text.startswith("<!DOCTYPE html>")
    assert str(result) in text
    assert sorted(tmp_path.iterdir()) == [page, result]


def test_page_of_several_files_has_them_all(result: Path, tmp_path: Path) -> None:
    """Strategies of several files stand on one page."""
    other = tmp_path / "other.json"
    other.write_bytes(result.read_bytes())
    page = tmp_path / "page.html"
    assert in_process("report", str(result), str(other), "--html", str(page)).returncode == ExitCode.OK
    text = page.read_text(encoding="utf-8")
    assert "plain (result)" in text
    assert "bind (other)" in text


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        ("--html page.txt", ExitCode.USAGE, "--html page.txt: unknown ending '.txt'\n  -> use .html, .htm"),
        ("--html no/page.html", ExitCode.OUTPUT, "--html no/page.html: folder no does not exist"),
        ("--html old.html", ExitCode.OUTPUT, "--html old.html exists already\n  -> add --force"),
        (
            "--html page.html --format json",
            ExitCode.USAGE,
            "page.html is written, and nothing is printed in --format json",
        ),
        ("--force", ExitCode.USAGE, "--force replaces a page or a file, and none is asked for"),
    ],
)
def test_page_that_cannot_be_is_refused(
    result: Path, tmp_path: Path, arguments: str, code: ExitCode, said: str
) -> None:
    """A wrong ending or place, an existing file, two wishes at once: two lines and an exit code, nothing written."""
    (tmp_path / "old.html").write_text("precious", encoding="utf-8")
    done = in_process("report", str(result), *shlex.split(arguments), cwd=tmp_path)
    assert (done.returncode, done.stdout) == (code, "")
    assert said in done.stderr
    assert len(done.stderr.splitlines()) <= 2
    assert (tmp_path / "old.html").read_text(encoding="utf-8") == "precious"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["old.html", "result.json"]


def test_force_replaces_a_page(result: Path, tmp_path: Path) -> None:
    """An existing page gives way when it is said to."""
    page = tmp_path / "old.html"
    page.write_text("old", encoding="utf-8")
    assert in_process("report", str(result), "--html", str(page), "--force").returncode == ExitCode.OK
    assert page.stat().st_size > 1e6


def test_broken_file_leaves_no_page(tmp_path: Path) -> None:
    """A file that cannot be read ends it with its own exit code."""
    done = in_process("report", str(tmp_path / "none.json"), "--html", str(tmp_path / "page.html"))
    assert done.returncode == ExitCode.INPUT
    assert list(tmp_path.iterdir()) == []


def test_file_name_that_is_no_text_has_a_page(result: Path, tmp_path: Path) -> None:
    """A file's name is bytes; those that are no UTF-8 are shown as question marks."""
    odd = tmp_path / "caf\udce9.json"
    result.rename(odd)
    page = tmp_path / "page.html"
    done = in_process("report", str(odd), "--html", str(page))
    assert done.returncode == ExitCode.OK, done.stderr
    assert "caf\N{REPLACEMENT CHARACTER}.json" in page.read_text(encoding="utf-8")


def test_run_records_the_command_and_the_page_shows_it(tmp_path: Path) -> None:
    """What the user typed stands in the result, quoted for a shell, and on the page; run again, it does the same."""
    typed = ["run", "-n", "16", "--port-range", "40000-40015", "--strategy", "bind", "-o", "my result.json"]
    assert connbench(*typed, cwd=tmp_path).returncode == ExitCode.OK
    document = json.loads((tmp_path / "my result.json").read_text(encoding="utf-8"))
    command = document["environment"]["command"]
    assert shlex.split(command) == ["connbench", *typed]
    assert in_process("report", "my result.json", "--html", "page.html", cwd=tmp_path).returncode == ExitCode.OK
    page = (tmp_path / "page.html").read_text(encoding="utf-8")
    assert "<code>connbench run -n 16 --port-range 40000-40015 --strategy bind -o &#39;my result.json&#39;" in page


def test_command_with_bytes_that_are_no_text_is_recorded(tmp_path: Path) -> None:
    """An output file of any name does not break the result that goes into it."""
    name = "caf\udce9.json"
    done = connbench("run", "-n", "4", "--port-range", "40000-40003", "--strategy", "bind", "-o", name, cwd=tmp_path)
    assert done.returncode == ExitCode.OK, done.stderr
    assert "caf?.json" in json.loads((tmp_path / name).read_text(encoding="utf-8"))["environment"]["command"]
