"""Words from a file that would end a line, control a terminal or pose as a command: shown, and never obeyed."""

from __future__ import annotations

import json
import os
import re
import shlex
from dataclasses import replace
from pathlib import Path

import pytest
from markdown_it import MarkdownIt

from connbench.errors import ExitCode, RunFault
from connbench.findings import Finding, Severity
from connbench.model import Churn, Load, StrategySpec
from connbench.report.formats import FORMATS
from connbench.report.json import json_document
from connbench.results.result import Result
from factories import BIND, PLAN, result_of, round_of, samples_of
from run_connbench import in_process

HOSTILE = (
    "x\x1b]0;title\x07\x1b[2J\x1b]8;;http://x.example/\x1b\\\r\n::error::pwned\u202e\x85\u2028"
    "::set-output name=a::b ##[add-mask]c ##vso[task.complete]d <img src=//x> $(touch pwned) y"
)
"""Escape sequences, a bell, line breaks of four kinds, text that runs the other way, a link, commands to CI runners
and to a shell, and HTML."""

REGISTERED = ("error", "set-output", "add-mask")
"""Those of the commands above that a GitHub runner obeys."""

ACTIONS = {**os.environ, "GITHUB_ACTIONS": "true", "GITHUB_STEP_SUMMARY": ""}


def hostile(kernel: str) -> Result:
    """An unsound and partial result of two strategies with hostile names; a plan contains no other text."""
    spec = StrategySpec(HOSTILE)
    measured = round_of(samples_of([10_000] * 60), fault=RunFault(HOSTILE, HOSTILE))
    counters = {**measured.report.counters, "TcpExt.ListenOverflows": 1}
    settings = {HOSTILE: kernel, "net.core.somaxconn": HOSTILE}
    measured = replace(measured, report=replace(measured.report, counters=counters, settings=settings))
    known = Finding(HOSTILE, Severity.WARNING, HOSTILE, HOSTILE, HOSTILE)
    whole = [round_of(samples_of([10_000 + n] * 60), n + 1) for n in range(5)]
    result = result_of({spec: [measured], BIND: whole}, PLAN, (known,))
    result.environment = dict.fromkeys(("kernel", "cpu_model", "governor", "python", HOSTILE), HOSTILE + kernel)
    return result


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, str]:
    """Two such files with hostile names, which name different kernels."""
    folder = tmp_path_factory.mktemp("hostile")
    paths = [folder / f"{kernel}{HOSTILE.replace('/', '')}.json" for kernel in ("a", "b")]
    for path in paths:
        path.write_text(json_document(hostile(path.name[0])), encoding="utf-8")
    return str(paths[0]), str(paths[1])


def said(*arguments: str, code: ExitCode = ExitCode.OK) -> tuple[str, str]:
    """The output of a command on both streams, after a check that each line of it is harmless."""
    finished = in_process(*arguments, env=ACTIONS)
    assert finished.returncode == code, finished.stderr
    for line in (finished.stdout + finished.stderr).split("\n"):
        assert line.isprintable()
        assert "##vso[" not in line
        if not line.startswith("::error title=connbench%3A threshold failed::"):
            assert not obeyed(line), line
    return finished.stdout, finished.stderr


def obeyed(line: str) -> bool:
    """Whether a GitHub runner takes a line for a command, by TryParseV2 and TryParse of its ActionCommand.cs."""
    begun, second, _ = line.lstrip().removeprefix("::").partition("::")
    if line.lstrip().startswith("::") and second and begun.partition(" ")[0] in REGISTERED:
        return True
    _, old, rest = line.partition("##[")
    begun, bracket, _ = rest.partition("]")
    return bool(old and bracket) and begun.partition(" ")[0] in REGISTERED


@pytest.mark.parametrize(
    ("line", "is_obeyed"),
    [
        ("::error::x", True),
        ("  ::error file=a::x", True),
        ("a ##[error]x", True),
        ("a ::error::x", False),
        (":\ufffderror::x", False),
        ("#\ufffd[error]x", False),
    ],
)
def test_runner_of_these_tests(line: str, *, is_obeyed: bool) -> None:
    """The tests' copy of the runner obeys what the real one obeys."""
    assert obeyed(line) is is_obeyed


def test_report_shows_hostile_words_in_their_lines(files: tuple[str, str]) -> None:
    """Strategy, kernel, plan, findings, advice and the titles of files stand in lines of their own."""
    text, _ = said("report", *files)
    assert text.count("error:\ufffdpwned") > 10
    for start in ("==> ", "x\ufffd]0;title", "warning: x\ufffd", "  -> x\ufffd"):
        assert any(line.startswith(start) for line in text.splitlines()), start


@pytest.mark.parametrize("form", [name for name in FORMATS if name not in {"text", "json", "hgrm"}])
def test_other_formats_do_so_too(form: str, files: tuple[str, str], tmp_path: Path) -> None:
    """Findings that a format has no place for are printed on stderr with their advice; talk-csv takes one strategy."""
    file = files[0]
    if form == "talk-csv":
        file = str(tmp_path / f"{HOSTILE.replace('/', '')}.json")
        alone = hostile("a")
        del alone.rounds[BIND]
        Path(file).write_text(json_document(alone), encoding="utf-8")
    text, told = said("report", file, "--format", form)
    has_findings_alone = "talk" in form or form in {"bmf", "benchmark-action"}  # the others name the kernel, too
    assert "pwned" in (told if has_findings_alone else text)
    if form == "markdown":
        assert "<img" not in text
        assert "![" not in text


def test_json_says_the_same_by_escapes(files: tuple[str, str]) -> None:
    """Programs that read it get each word as it stands in the file; a log that shows it obeys none."""
    text, _ = said("report", files[0], "--format", "json")
    document = json.loads(text)
    assert document["strategies"][0]["strategy"]["name"] == HOSTILE
    assert document["environment"]["kernel"] == HOSTILE + "a"
    text, _ = said("compare", *files, "--format", "json")
    assert json.loads(text)["strategies"][0]["strategy"]["name"] == HOSTILE


def test_command_to_repeat_is_one_word_to_a_shell(tmp_path: Path) -> None:
    """A name that a verdict puts into a command line to paste is quoted."""
    spec = StrategySpec(HOSTILE, load=Load(churn=Churn(60)))
    measured = [round_of(samples_of([10_000] * 60))]
    plan = replace(PLAN, strategies=(spec,), connections=60, rounds=1)
    result = result_of(dict.fromkeys(plan.phases, measured))
    result.plan = plan
    file = tmp_path / "churn.json"
    file.write_text(json_document(result), encoding="utf-8")
    text, _ = said("report", str(file))
    line = next((line for line in text.splitlines() if line.startswith("Next: ")), "")
    assert "--strategy" in line, text
    words = shlex.split(line)
    assert "$(touch" in words[words.index("--strategy") + 1]


def test_job_summary_shows_hostile_words_as_they_are(files: tuple[str, str], tmp_path: Path) -> None:
    """In the Markdown that GitHub shows beside a job the names are text: no HTML, no picture, no link."""
    summary = tmp_path / "summary.md"
    finished = in_process("report", files[0], env={**ACTIONS, "GITHUB_STEP_SUMMARY": str(summary)})
    assert finished.returncode == ExitCode.OK
    written = summary.read_text(encoding="utf-8")
    assert "pwned" in written
    shown = MarkdownIt("gfm-like", {"linkify": False, "html": True}).enable("table").render(written)
    assert not [tag for tag in re.findall(r"<([a-z0-9]+)", shown) if tag in {"img", "a", "script", "style"}]


def test_threshold_of_a_hostile_strategy_is_one_line_and_one_annotation(files: tuple[str, str]) -> None:
    """A failure has one line and one workflow command, which contain the strategy's and the file's names."""
    _, told = said("report", *files, "--fail-if", "p99 > 1ns", code=ExitCode.UNSOUND)
    lines = told.splitlines()
    assert len(lines) == 8
    assert all(line.startswith("connbench: threshold failed: ") for line in lines[::2])
    assert all(line.startswith("::error title=connbench%3A threshold failed::") for line in lines[1::2])


@pytest.mark.parametrize("form", ["text", "markdown"])
def test_comparison_shows_hostile_words_in_their_lines(form: str, files: tuple[str, str]) -> None:
    """Files, kernels, differences and strategies stand in lines of their own."""
    text, _ = said("compare", *files, "--format", form)
    assert text.replace("\\", "").count("error:\ufffdpwned") > 8
    assert "kernel: x" in text


def test_terminal_chart_of_a_hostile_strategy(files: tuple[str, str]) -> None:
    """The chart's heading stands in one line, and an unknown label does not break the list of known ones."""
    text, _ = said("plot", *files, "--terminal")
    assert text.count("error:\ufffdpwned") >= 2
    _, told = said("plot", *files, "--terminal", "--strategy", "nothing", code=ExitCode.USAGE)
    assert len(told.splitlines()) == 2


def test_file_that_is_no_result_is_named_in_one_line(tmp_path: Path) -> None:
    """Neither the name of a file nor its first bytes break the line of the message about it."""
    for content in (HOSTILE, f"{{{HOSTILE}", "9024,0.1\n" + HOSTILE + "\n"):
        path = tmp_path / f"{HOSTILE.replace('/', '')}.json"
        path.write_text(content, encoding="utf-8")
        _, told = said("report", str(path), code=ExitCode.INPUT)
        assert len(told.splitlines()) == 2
