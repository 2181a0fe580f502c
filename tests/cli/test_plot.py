"""`connbench plot` and `connbench run --plot` as their users type them."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from connbench.commands.reports import formats_of
from connbench.errors import EnvironmentFault, ExitCode
from connbench.model import MOST_SOURCES, StrategySpec, first_sources
from connbench.report.charts.canvas import PALETTES
from connbench.report.json import json_document
from factories import PLAIN, WINDOW, result_of, round_of, samples_of
from run_connbench import connbench, in_process, invoke

PNG = b"\x89PNG\r\n\x1a\n"
HEAVY = {"numpy", "matplotlib", "plotext", "rich"}


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A result file of two strategies, one with failures."""
    failing = samples_of([15_000] * 60, errno=[0] * 50 + [errno.EADDRNOTAVAIL] * 10)
    result = result_of({PLAIN: [round_of(samples_of([13_000] * 60))], WINDOW: [round_of(failing)]})
    path = tmp_path_factory.mktemp("results") / "r.json"
    path.write_text(json_document(result), encoding="utf-8")
    return str(path)


def test_a_picture_is_written_without_a_word(saved: str, tmp_path: Path) -> None:
    """The ending decides the format; the command prints nothing and leaves nothing beside the picture."""
    for name, magic in (("a.png", PNG), ("a.svg", b"<?xml")):
        finished = in_process("plot", saved, "-o", str(tmp_path / name))
        assert (finished.returncode, finished.stdout, finished.stderr) == (ExitCode.OK, "", "")
        assert (tmp_path / name).read_bytes().startswith(magic)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.png", "a.svg"]


def test_colours_are_the_talks_for_the_talks_measurements_alone(saved: str, tmp_path: Path) -> None:
    """Without --palette the colours suit colour-blind readers; beside the talk's own charts they are the talk's."""
    made = replace(result_of({PLAIN: [round_of(samples_of([13_000] * 60))]}), is_reproduction=True)
    talk = tmp_path / "talk.json"
    talk.write_text(formats_of(made)["json"](made), encoding="utf-8")
    for file, options, palette in (
        (saved, (), "safe"),
        (str(talk), (), "talk"),
        (saved, ("--palette", "talk"), "talk"),
        (str(talk), ("--palette", "safe"), "safe"),
    ):
        finished = in_process("plot", file, "-o", str(tmp_path / "a.svg"), "--force", *options)
        assert (finished.returncode, finished.stderr) == (ExitCode.OK, "")
        picture = (tmp_path / "a.svg").read_text(encoding="utf-8")
        assert {name for name, colours in PALETTES.items() if colours.even in picture} == {palette}


@pytest.mark.parametrize(("options", "drawn"), [((), True), (("--figure", "latency"), False)])
def test_a_search_in_bind_is_drawn_by_acquire_time(
    options: tuple[str, ...], drawn: bool, tmp_path: Path
) -> None:  # a parameter of the test
    """connect() of `early` would be a flat line; --figure latency asks for it all the same. The terminal says which."""
    file = tmp_path / "early.json"
    made = samples_of([4_000] * 60, prepare_ns=[1_000] * 30 + [700_000] * 30)
    file.write_text(json_document(result_of({StrategySpec("early"): [round_of(made)]})), encoding="utf-8")
    shown = in_process("plot", str(file), "-o", str(tmp_path / "a.svg"), "--terminal", *options)
    assert (shown.returncode, shown.stderr) == (ExitCode.OK, "")
    assert (shown.stdout.splitlines()[0] == "early, acquire time") is drawn
    assert ("500 µs" in shown.stdout) is drawn


def test_an_existing_picture_needs_force_and_is_checked_first(saved: str, tmp_path: Path) -> None:
    """The command checks whether it may write the picture before it reads a file or draws."""
    path = tmp_path / "a.png"
    path.write_bytes(b"old")
    refused = in_process("plot", "no such file", "-o", str(path))
    assert refused.returncode == ExitCode.OUTPUT
    assert "exists already\n  -> add --force" in refused.stderr
    assert path.read_bytes() == b"old"
    assert in_process("plot", saved, "-o", str(path), "--force").returncode == ExitCode.OK
    assert path.read_bytes().startswith(PNG)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ((), "there is no file for the picture"),
        (("-o", "a.pdf"), "unknown ending '.pdf'\n  -> use .png, .svg"),
        (("--terminal", "--kind", "ports"), "--terminal prints the scatter, not --kind ports"),
        (("-o", "a.png", "--kind", "ports", "--yscale", "log"), "--kind ports counts"),
        (("-o", "a.png", "--width", "99"), "--width 99 is too narrow"),
        (
            ("-o", "a.png", "--strategy", "bind"),
            "--strategy bind: no such strategy in these files\n  -> known: plain, ",
        ),
        (("-o", "a.png", "--kind", "windows", "--strategy", "plain"), "no strategy here has a window"),
    ],
)
def test_wrong_usage(saved: str, tmp_path: Path, options: tuple[str, ...], message: str) -> None:
    """Two lines say what cannot be drawn; no picture is begun."""
    finished = in_process("plot", saved, *options, cwd=tmp_path)
    assert finished.returncode == ExitCode.USAGE
    assert message in finished.stderr
    assert finished.stderr.count("\n") <= 2
    assert list(tmp_path.iterdir()) == []


def test_a_picture_that_there_is_no_memory_for(saved: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Five bytes a pixel: with one less the picture is not begun, and the fault has both figures."""
    picture = tmp_path / "c.png"
    arguments = ["plot", saved, "-o", str(picture), "--width", "1000", "--height", "1000"]
    monkeypatch.setattr("connbench.commands.plot.available_memory", lambda: 5_000_000 - 1)
    words = "a picture of 1,000 x 1,000 pixels needs about 5 MB, and 5 MB are free"
    with pytest.raises(EnvironmentFault, match=words):
        invoke(*arguments)
    assert not picture.exists()
    monkeypatch.setattr("connbench.commands.plot.available_memory", lambda: 5_000_000)
    assert invoke(*arguments) == ExitCode.OK
    assert picture.exists()


def test_an_unwritable_place_is_an_output_error(saved: str) -> None:
    """Where no file can be made, the exit code names the output."""
    finished = in_process("plot", saved, "-o", "/proc/a.png")
    assert finished.returncode == ExitCode.OUTPUT
    assert "/proc/a.png cannot be written" in finished.stderr


def test_the_terminal_chart_fits_into_a_pipe(saved: str) -> None:
    """Heading, the six lines and the scatter of the chosen strategy, within 80 columns and without colours."""
    finished = in_process("plot", saved, "--terminal", "--strategy", "window", env={**os.environ, "COLUMNS": "80"})
    assert (finished.returncode, finished.stderr) == (ExitCode.OK, "")
    lines = finished.stdout.splitlines()
    assert lines[:2] == ["window 500", "connection attempts: 60 errored: 10 total: 50"]
    assert lines[-1] == "· even  + odd  x failed  first failed: 51 (0.1% in use)"
    assert max(map(len, lines)) <= 80
    assert "\x1b" not in finished.stdout


def test_a_run_draws_what_it_has_measured() -> None:
    """After the whole text report stands a chart of each strategy."""
    finished = connbench(
        *("run", "-q", "-n", "64", "--port-range", "40000-40063", "--strategy", "plain", "--strategy", "bind", "--plot")
    )
    assert finished.returncode == ExitCode.OK
    report, *charts = finished.stdout.split("┌")
    assert "connection attempts: 64" in report
    assert "vs plain" in report
    assert len(charts) == 2
    assert all("· even  + odd" in chart for chart in charts)


def test_a_chart_amid_another_format_is_refused() -> None:
    """JSON with a picture in it is no JSON: refused before anything is measured."""
    finished = connbench("run", "-n", "4", "--plot", "--format", "json")
    assert finished.returncode == ExitCode.USAGE
    assert finished.stdout == ""
    assert "--plot goes with --format text, not json" in finished.stderr


def test_help_is_quick_and_narrow() -> None:
    """The help of plot loads nothing that draws, and fits 80 columns."""
    command = [sys.executable, "-X", "importtime", "-m", "connbench", "plot", "--help"]
    finished = subprocess.run(command, capture_output=True, text=True, check=True)
    loaded = {line.rpartition("|")[2].strip() for line in finished.stderr.splitlines()}
    assert "click" in loaded
    assert loaded & HEAVY == set()
    assert max(map(len, finished.stdout.splitlines())) <= 80


def test_thousands_of_sources_are_bounded_and_said(tmp_path: Path) -> None:
    """Of 4,096 sources plot draws the first 48, and a line says how to see others: all of them would take minutes."""
    rows, sources = 8192, first_sources(MOST_SOURCES)
    samples = samples_of([10_000] * rows, source=[row % MOST_SOURCES for row in range(rows)])
    result = result_of({PLAIN: [round_of(samples)]})
    assert result.plan is not None
    result.plan = replace(result.plan, sources=sources)
    file = tmp_path / "many.json"
    file.write_text(json_document(result), encoding="utf-8")
    drawn = in_process("plot", str(file), "--by-source", "--terminal")
    assert drawn.returncode == ExitCode.OK, drawn.stderr
    assert drawn.stderr == "connbench: the first 48 of 4,096 charts are drawn; --strategy LABEL chooses others\n"
    assert drawn.stdout.count("plain from 127.") == 48
    label = f"plain from {sources[-1]}"
    other = in_process("plot", str(file), "--by-source", "--terminal", "--strategy", label)
    assert (other.stderr, other.stdout.splitlines()[0]) == ("", label)
