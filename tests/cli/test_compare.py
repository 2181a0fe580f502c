"""`connbench compare` as its users type it, on files of real runs."""

from __future__ import annotations

import json
import os
import re
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest

from connbench.errors import ExitCode
from connbench.report.formats import COMPARISON_FORMATS
from connbench.report.json import json_document
from factories import BIND, result_of, round_of, samples_of
from run_connbench import connbench, in_process

SMALL = ("--port-range", "40000-40063", "--seed", "1", "-q")


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Result files: five rounds of two strategies, three of others on fewer ports, and one as CSV."""
    folder = tmp_path_factory.mktemp("results")
    paths = {name: str(folder / f"{name}.{ending}") for name, ending in (("a", "json"), ("b", "json.gz"), ("c", "csv"))}
    runs = {
        "a": ("--rounds", "5", "--strategy", "bind", "--strategy", "window", "--window", "16"),
        "b": ("--rounds", "3", "-n", "32", "--strategy", "bind", "--strategy", "random"),
        "c": ("--strategy", "bind"),
    }
    for name, arguments in runs.items():
        finished = connbench("run", *SMALL, *arguments, "-o", paths[name])
        assert finished.returncode == ExitCode.OK, finished.stderr
    return paths


def compare(*arguments: str) -> subprocess.CompletedProcess[str]:
    """The comparison, after a check that it ended well."""
    finished = in_process("compare", *arguments)
    assert (finished.returncode, finished.stderr) == (ExitCode.OK, "")
    return finished


def test_file_against_itself_shows_no_difference(files: dict[str, str]) -> None:
    """Real rounds against themselves: every figure has a ratio of 1 and no difference."""
    lines = compare(files["a"], files["a"]).stdout.splitlines()
    assert "verdict: The two are comparable: of 22 figures, 22 show no difference." in lines
    assert f"{files['a']}: Linux " in lines[0] + " " + lines[1]
    rows = [line for line in lines if line.startswith(("total ", "p99 ", "odd.mean "))]
    assert len(rows) == 6
    assert all(" 1.000 x " in line and line.endswith("no difference shown") for line in rows)
    assert not [line for line in lines if line.startswith("  warning: ")]


def test_other_plan_is_warned_of_and_few_rounds_have_no_verdict(files: dict[str, str]) -> None:
    """The command warns of fewer connections above the tables, and gives no verdict on three rounds."""
    text = compare(files["a"], files["b"]).stdout
    assert text.index("  warning: connections: 64 in BASE, 32 in NEW") < text.index(
        "\nbind: 5 rounds in BASE, 3 rounds"
    )
    assert "undetermined: NEW needs 2 more complete rounds; a verdict needs 5 of each" in text
    assert "only in BASE: window 16\nonly in NEW: random" in text


def test_csv_is_compared_for_what_it_holds(files: dict[str, str]) -> None:
    """The command compares the strategies of a CSV, and warns that the file holds nothing else."""
    text = compare(files["c"], files["a"]).stdout
    assert "  warning: BASE is a connbench CSV" in text
    assert "bind: 1 round in BASE, 5 rounds in NEW" in text


def test_json_and_markdown(files: dict[str, str]) -> None:
    """JSON is for programs, markdown for issues."""
    document = json.loads(compare(files["a"], files["b"], "--format", "json").stdout)
    assert document["strategies"][0]["figures"]["p50"]["missing_rounds"] == {"base": 0, "new": 2}
    assert document["new"]["file"] == files["b"]
    printed = compare(files["a"], files["b"], "--format", "markdown").stdout
    assert re.search(r"^\| -+ \| -+: \| -+: \|", printed, re.MULTILINE)


def test_a_page_begins_with_the_verdict(files: dict[str, str], tmp_path: Path) -> None:
    """--html writes the page of both files: its first screen has the verdict, then the comparison; text is printed."""
    page = tmp_path / "c.html"
    finished = in_process("compare", files["a"], files["b"], "--html", str(page))
    assert (finished.returncode, finished.stderr.startswith(f"wrote {page}, ")) == (ExitCode.OK, True)
    document = json.loads(compare(files["a"], files["b"], "--format", "json").stdout)
    assert finished.stdout.startswith(document["verdict"][0][:40])
    opening, rest = page.read_text(encoding="utf-8").split("</section>", 1)
    assert f"<li>{document['verdict'][0]}</li>" in opening
    assert "What may be the reason of a change" in rest
    again = in_process("compare", files["a"], files["b"], "--html", str(page))
    assert again.returncode == ExitCode.OUTPUT
    assert in_process("compare", files["a"], files["b"], "--force").returncode == ExitCode.USAGE


def test_help_names_every_format() -> None:
    """The formats that --help offers are those that exist."""
    *others, last = COMPARISON_FORMATS
    assert f"Print {', '.join(others)} or {last}." in compare("--help").stdout


@pytest.mark.parametrize(
    ("arguments", "code", "named"),
    [
        (("one.json",), ExitCode.USAGE, "NEW is missing for compare"),
        (("one.json", "two.json", "three.json"), ExitCode.USAGE, "three.json"),
        (("/dev/null", "/dev/null"), ExitCode.INPUT, "/dev/null is empty"),
        (("missing.json", "/dev/null"), ExitCode.INPUT, "missing.json cannot be read"),
    ],
)
def test_wrong_files_are_named(arguments: tuple[str, ...], code: ExitCode, named: str) -> None:
    """Anything but two result files ends in the documented exit code and a line that names the fault."""
    finished = in_process("compare", *arguments)
    assert finished.returncode == code
    assert named in finished.stderr
    assert len(finished.stderr.splitlines()) <= 2
    assert finished.stdout == ""


def test_gate_on_the_base_and_on_the_verdict(files: dict[str, str]) -> None:
    """A threshold on BASE's figures and the word `slower` end in exit code 1 with what was measured, or pass."""
    same = ("compare", files["a"], files["a"], "--fail-if")
    for condition in ("p99 > 1.2x base.p99", "slower", "window: errors > 99%"):
        passed = in_process(*same, condition)
        assert (passed.returncode, passed.stderr) == (ExitCode.OK, ""), condition
    failed = in_process(*same, "bind: p99 > 0.5x base.p99")
    assert failed.returncode == ExitCode.THRESHOLD
    assert failed.stderr == "connbench: threshold failed: bind: p99 > 0.5x base.p99, measured 1x\n"
    assert failed.stdout.startswith("BASE ")


def test_gate_needs_rounds_for_a_verdict(files: dict[str, str]) -> None:
    """Three rounds have no verdict, so `slower` cannot be judged; nor can a strategy of one file alone."""
    finished = in_process("compare", files["a"], files["b"], "--fail-if", "slower")
    assert finished.returncode == ExitCode.THRESHOLD
    assert finished.stderr.splitlines() == [
        "connbench: threshold failed: bind: slower cannot be judged: there are too few rounds for a verdict",
        "connbench: threshold failed: random: slower cannot be judged: the base run does not have this strategy",
        "connbench: threshold failed: window 16: slower cannot be judged: it was not measured",
    ]


def overflowing(path: Path) -> str:
    """A result file of five rounds, in one of which the listener's queue overflowed."""
    made = [round_of(samples_of([10_000 + n] * 8), n + 1) for n in range(5)]
    report = made[2].report
    counters = {**report.counters, "TcpExt.ListenOverflows": 3}
    made[2] = replace(made[2], report=replace(report, counters=counters))
    path.write_text(json_document(result_of({BIND: made})), encoding="utf-8")
    return str(path)


@pytest.mark.parametrize("conditions", [("slower",), ("p99 > 60s", "errors > 1%"), ("p99 > 1ns",)])
def test_unsound_file_passes_no_gate(conditions: tuple[str, ...], files: dict[str, str], tmp_path: Path) -> None:
    """Thresholds on a file that is not sound end in 3, crossed or not, after the comparison is printed."""
    new = overflowing(tmp_path / "new.json")
    asked = [word for condition in conditions for word in ("--fail-if", condition)]
    finished = in_process("compare", files["a"], new, *asked)
    assert finished.returncode == ExitCode.UNSOUND
    assert "  invalid: NEW is not sound: bind, round 3: the listener's queue overflowed" in finished.stdout


def test_unsound_file_is_compared_without_a_gate(files: dict[str, str], tmp_path: Path) -> None:
    """Without a threshold the comparison contains the warning, and the exit code is 0."""
    new = overflowing(tmp_path / "new.json")
    assert "  invalid: NEW is not sound: bind, round 3: " in compare(files["a"], new).stdout


def test_wrong_gate_is_refused_before_anything_is_printed(files: dict[str, str]) -> None:
    """A wrong expression or a strategy that NEW does not have is wrong usage."""
    for condition in ("p99 >> 1ms", "plain: p99 > 1ms"):
        finished = in_process("compare", files["a"], files["a"], "--fail-if", condition)
        assert (finished.returncode, finished.stdout) == (ExitCode.USAGE, "")


def test_step_summary_gets_the_comparison(files: dict[str, str], tmp_path: Path) -> None:
    """In GitHub Actions the markdown is appended to the job's summary, and a failure is an annotation too."""
    summary = tmp_path / "summary.md"
    finished = in_process(
        *("compare", files["a"], files["a"], "--fail-if", "bind: total > 0.5x base.total"),
        env={**os.environ, "GITHUB_ACTIONS": "true", "GITHUB_STEP_SUMMARY": str(summary)},
    )
    assert "::error title=connbench%3A threshold failed::bind: total > 0.5x base.total, measured 1x" in finished.stderr
    assert "### bind" in summary.read_text(encoding="utf-8")
