"""Words from a file that would end a line, steer a terminal or pose as a command: shown, and never obeyed."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import pytest

from connbench.errors import ExitCode, RunFault
from connbench.findings import Finding, Severity
from connbench.model import Endpoint, StrategySpec
from connbench.report.machine import json_document
from connbench.results.result import Result
from made import BIND, PLAN, result_of, round_of, samples_of
from support import connbench

HOSTILE = "x\x1b]0;title\x07\x1b[2J\r\n::error::pwned\u202e\x85\u2028y"
"""Escape sequences, a bell, line breaks of four kinds, a workflow command, and text that runs the other way."""

ACTIONS = {**os.environ, "GITHUB_ACTIONS": "true", "GITHUB_STEP_SUMMARY": ""}


def hostile(kernel: str) -> Result:
    """An unsound and partial result of two strategies, in which every word that comes from a file is hostile."""
    spec = StrategySpec(HOSTILE)
    measured = round_of(samples_of([10_000] * 60), fault=RunFault(HOSTILE, HOSTILE))
    counters = {**measured.report.counters, "TcpExt.ListenOverflows": 1}
    settings = {HOSTILE: kernel, "net.core.somaxconn": HOSTILE}
    measured = replace(measured, report=replace(measured.report, counters=counters, settings=settings))
    known = Finding(HOSTILE, Severity.WARNING, HOSTILE, HOSTILE, HOSTILE)
    plan = replace(PLAN, sources=(HOSTILE + kernel,), targets=(Endpoint(HOSTILE, 1),))
    whole = [round_of(samples_of([10_000 + n] * 60), n + 1) for n in range(5)]
    result = result_of({spec: [measured], BIND: whole}, plan, (known,))
    result.environment = dict.fromkeys(("kernel", "cpu_model", "governor", "python", HOSTILE), HOSTILE + kernel)
    return result


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, str]:
    """Two such files of hostile names, which tell different kernels."""
    folder = tmp_path_factory.mktemp("hostile")
    paths = [folder / f"{kernel}{HOSTILE}.json" for kernel in ("a", "b")]
    for path in paths:
        path.write_text(json_document(hostile(path.name[0])), encoding="utf-8")
    return str(paths[0]), str(paths[1])


def said(*arguments: str, code: ExitCode = ExitCode.OK) -> tuple[str, str]:
    """What a command prints on both streams, after making sure that each line of it is harmless."""
    finished = connbench(*arguments, env=ACTIONS)
    assert finished.returncode == code, finished.stderr
    for line in (finished.stdout + finished.stderr).split("\n"):
        assert line.isprintable()
        assert not line.lstrip().startswith("::error::")
    return finished.stdout, finished.stderr


def test_report_shows_hostile_words_in_their_lines(files: tuple[str, str]) -> None:
    """Strategy, kernel, plan, findings, advice and the titles of files stand in lines of their own."""
    text, _ = said("report", *files)
    assert text.count("::error::pwned") > 10
    for start in ("==> ", "x\ufffd]0;title", "warning: x\ufffd", "  -> x\ufffd"):
        assert any(line.startswith(start) for line in text.splitlines()), start


@pytest.mark.parametrize("form", ["talk", "markdown"])
def test_other_formats_do_so_too(form: str, files: tuple[str, str]) -> None:
    """What a format has no place for is told on stderr, and the advice with it."""
    text, told = said("report", files[0], "--format", form)
    assert "::error::pwned" in (told if form == "talk" else text.replace("\\", ""))


def test_threshold_of_a_hostile_strategy_is_one_line_and_one_annotation(files: tuple[str, str]) -> None:
    """A failure has a line and a workflow command of its own, into which the strategy's and the file's names fit."""
    _, told = said("report", *files, "--fail-if", "p99 > 1ns", code=ExitCode.UNSOUND)
    lines = told.splitlines()
    assert len(lines) == 8
    assert all(line.startswith("connbench: threshold failed: ") for line in lines[::2])
    assert all(line.startswith("::error title=connbench%3A threshold failed::") for line in lines[1::2])


@pytest.mark.parametrize("form", ["text", "markdown"])
def test_comparison_shows_hostile_words_in_their_lines(form: str, files: tuple[str, str]) -> None:
    """Files, kernels, differences and strategies stand in lines of their own."""
    text, _ = said("compare", *files, "--format", form)
    assert text.replace("\\", "").count("::error::pwned") > 8
    assert "kernel: x" in text


def test_terminal_chart_of_a_hostile_strategy(files: tuple[str, str]) -> None:
    """Above the chart its heading stands in one line, and a label asked for in vain does not spoil the list of them."""
    text, _ = said("plot", *files, "--terminal")
    assert text.count("::error::pwned") >= 2
    _, told = said("plot", *files, "--terminal", "--strategy", "nothing", code=ExitCode.USAGE)
    assert len(told.splitlines()) == 2


def test_file_that_is_no_result_is_named_in_one_line(tmp_path: Path) -> None:
    """Neither the name of a file nor what it begins with gets out of the message about it."""
    for content in (HOSTILE, f"{{{HOSTILE}", "9024,0.1\n" + HOSTILE + "\n"):
        path = tmp_path / f"{HOSTILE}.json"
        path.write_text(content, encoding="utf-8")
        _, told = said("report", str(path), code=ExitCode.INPUT)
        assert len(told.splitlines()) == 2
