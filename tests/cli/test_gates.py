"""`--fail-if`: the exit code, the lines, and that connbench measures nothing for a wrong one."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path

import pytest

from connbench.errors import ExitCode
from run_connbench import command_line, connbench, in_process

SMALL = ("run", "-q", "-n", "64", "--port-range", "40000-40063")


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, str]:
    """Result files of plain and window, and of plain alone."""
    folder = tmp_path_factory.mktemp("results")
    both, plain = str(folder / "both.json"), str(folder / "plain.csv")
    connbench(*SMALL, "--strategy", "plain", "--strategy", "window", "--window", "16", "-o", both)
    connbench(*SMALL, "--strategy", "plain", "-o", plain)
    return both, plain


def failing(*conditions: str) -> list[str]:
    """The option, once for each condition."""
    return [word for condition in conditions for word in ("--fail-if", condition)]


def in_actions(*arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    """Run the command as a GitHub runner would."""
    return in_process(*arguments, env={"GITHUB_ACTIONS": "true", **variables})


def test_run_that_crosses_a_threshold() -> None:
    """Each failure is a line with the measured value, the figures are printed, and the exit code is 1."""
    strategies = ("--strategy", "plain", "--strategy", "bind")
    conditions = failing("connected < 65", "bind: p99 > 1ns", "errors > 0%", "errored.max > 1s")
    finished = connbench(*SMALL, *strategies, *conditions)
    assert finished.returncode == ExitCode.THRESHOLD
    assert finished.stdout.count("connection attempts: 64 errored: 0 total: 64\n") == 2
    lines = [re.sub(r"measured \d+ns", "measured Nns", line) for line in finished.stderr.splitlines()]
    assert lines == [
        "connbench: threshold failed: plain: connected < 65, measured 64",
        "connbench: threshold failed: plain: errored.max > 1s cannot be judged: no failed attempt",
        "connbench: threshold failed: bind: connected < 65, measured 64",
        "connbench: threshold failed: bind: p99 > 1ns, measured Nns",
        "connbench: threshold failed: bind: errored.max > 1s cannot be judged: no failed attempt",
    ]


def test_run_within_its_thresholds() -> None:
    """A threshold that holds prints nothing, and the exit code is 0."""
    finished = connbench(*SMALL, "--strategy", "bind", *failing("p99 < 1ns", "errors > 2%", "odd.min > 1x odd.max"))
    assert (finished.returncode, finished.stderr) == (ExitCode.OK, "")


@pytest.mark.parametrize(
    ("condition", "said"),
    [
        (
            "meen > 5ms",
            "connbench: --fail-if: there is no metric 'meen'\n    meen > 5ms\n    ^\n  -> did you mean mean?\n",
        ),
        ("slower", "connbench: --fail-if: 'slower' needs a base run, and there is none\n    slower\n    ^\n"),
        ("range: p99 > 5ms", "connbench: --fail-if 'range: p99 > 5ms': this run has no strategy 'range'\n  -> it has "),
    ],
)
def test_wrong_expression_is_refused_before_anything_is_measured(condition: str, said: str, tmp_path: Path) -> None:
    """Exit code 2, the fault shown, and no figure, printed or saved."""
    finished = connbench(*SMALL, "-o", str(tmp_path / "r.json"), *failing("p99 > 1ns", condition))
    assert (finished.returncode, finished.stdout) == (ExitCode.USAGE, "")
    assert finished.stderr.startswith(said)
    assert list(tmp_path.iterdir()) == []


def test_unsound_run_is_worse_than_a_crossed_threshold() -> None:
    """An invalid measurement ends in 3, and the threshold's line is printed."""
    finished = connbench(
        *("run", "-n", "40", "--isolate", "never", "--target", "127.0.0.1:5000", "--strategy", "bind"),
        *failing("errors > 0"),
        inside=("--listen-once", "127.0.0.1:5000/10"),
    )
    assert finished.returncode == ExitCode.UNSOUND
    assert "connbench: threshold failed: bind: errors > 0, measured " in finished.stderr


@pytest.mark.parametrize("verb", ["run", "report"])
def test_output_that_cannot_be_written_is_worse_than_a_crossed_threshold(verb: str, files: tuple[str, str]) -> None:
    """A full disk ends in 7, and the threshold's line is printed."""
    arguments = ("report", files[0]) if verb == "report" else (*SMALL, "--strategy", "plain")
    with Path("/dev/full").open("w", encoding="utf-8") as full:
        command = command_line(*arguments, *failing("plain: connected < 65"))
        finished = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True, check=False)
    assert finished.returncode == ExitCode.OUTPUT
    assert "connbench: threshold failed: plain: connected < 65, measured 64" in finished.stderr


def test_broken_run_is_judged_by_what_it_has() -> None:
    """A run that a fault ends early reports the thresholds crossed until then, and ends with its fault's exit code."""
    finished = connbench(
        *("run", "-n", "400", "--isolate", "never", "--target", "127.0.0.1:5000", "--strategy", "plain"),
        *("--timeout", "0.1", *failing("max > 50ms")),
        inside=("--listen", "127.0.0.1:5000/1"),
    )
    assert finished.returncode == ExitCode.FAULT
    assert "connbench: threshold failed: plain: max > 50ms, measured " in finished.stderr


def test_every_file_of_a_report_is_held(files: tuple[str, str]) -> None:
    """With several files each failure names its own."""
    finished = in_process("report", *files, "--format", "talk", *failing("connected < 65", "plain: errors > 0"))
    assert finished.returncode == ExitCode.THRESHOLD
    told = [line.partition(files[0]) for line in finished.stderr.splitlines() if files[0] in line]
    assert [rest for _, _, rest in told][:1] == [": plain: connected < 65, measured 64"]
    assert f"connbench: threshold failed: {files[1]}: plain: connected < 65, measured 64\n" in finished.stderr


def test_report_without_a_crossed_threshold(files: tuple[str, str]) -> None:
    """A file within its thresholds is printed, and the exit code is 0."""
    finished = in_process("report", files[0], *failing("window: p99 < 1ns", "connected > 64"))
    assert (finished.returncode, finished.stderr) == (ExitCode.OK, "")
    assert finished.stdout.startswith("plain: Linux ")


def test_strategy_that_one_of_the_files_lacks(files: tuple[str, str]) -> None:
    """A file without the strategy that a threshold names is wrong usage; nothing is printed."""
    finished = in_process("report", *files, *failing("window 16: p99 > 60s"))
    assert (finished.returncode, finished.stdout) == (ExitCode.USAGE, "")
    assert f"{files[1]} has no strategy 'window 16'\n  -> it has plain\n" in finished.stderr


def test_unsound_file_passes_no_gate(tmp_path: Path) -> None:
    """A report with thresholds ends in 3 for an invalid measurement; without any it prints the figures."""
    path = str(tmp_path / "r.json")
    connbench(
        *("run", "-n", "40", "--isolate", "never", "--target", "127.0.0.1:5000", "--strategy", "bind", "-o", path),
        inside=("--listen-once", "127.0.0.1:5000/10"),
    )
    assert in_process("report", path).returncode == ExitCode.OK
    finished = in_process("report", path, "--format", "talk", *failing("p99 > 60s"))
    assert finished.returncode == ExitCode.UNSOUND
    assert finished.stderr.startswith("connbench: invalid: bind: ")


def test_reader_that_leaves_does_not_open_the_gate(files: tuple[str, str]) -> None:
    """`connbench report ... | head -1` fails, so that the shell notices."""
    reader, writer = os.pipe()
    os.close(reader)
    command = command_line("report", files[0], *failing("plain: connected < 65"))
    finished = subprocess.run(command, stdout=writer, stderr=subprocess.PIPE, text=True, check=False)
    os.close(writer)
    assert finished.returncode == ExitCode.THRESHOLD
    assert finished.stderr == "connbench: threshold failed: plain: connected < 65, measured 64\n"


def test_github_gets_annotations_and_a_table(files: tuple[str, str], tmp_path: Path) -> None:
    """In GitHub Actions a failure is an annotation too, and run and report add their tables to the job's summary."""
    summary = tmp_path / "summary.md"
    summary.write_text("# Mine\n\n", encoding="utf-8")
    arguments = (*SMALL, "--strategy", "bind", *failing("errors <= 0%"))
    finished = in_actions(*arguments, GITHUB_STEP_SUMMARY=str(summary))
    assert finished.returncode == ExitCode.THRESHOLD
    assert finished.stderr.splitlines() == [
        "connbench: threshold failed: bind: errors <= 0%, measured 0%",
        "::error title=connbench%3A threshold failed::bind: errors <= 0%25, measured 0%25",
    ]
    finished = in_actions("report", *files, GITHUB_STEP_SUMMARY=str(summary))
    assert (finished.returncode, finished.stderr) == (ExitCode.OK, "")
    written = summary.read_text(encoding="utf-8")
    assert written.startswith("# Mine\n\n### connbench: Linux ")
    first, *others = re.findall(r"^\| (\w+(?: 16)?) +\| +64 ", written, re.MULTILINE)
    assert (first, sorted(others)) == ("bind", ["plain", "plain", "window 16"])  # the fastest of a file stands first


def test_summary_that_cannot_be_written_is_a_warning(files: tuple[str, str], tmp_path: Path) -> None:
    """The report is printed, and the exit code is that of the thresholds."""
    name = str(tmp_path / "missing" / "summary.md")
    finished = in_actions("report", files[1], GITHUB_STEP_SUMMARY=name)
    assert finished.returncode == ExitCode.OK
    assert finished.stderr.startswith(f"connbench: warning: GITHUB_STEP_SUMMARY {name} cannot be written: No such file")
    assert "connection attempts: 64" in finished.stdout


@pytest.mark.parametrize("variables", [{"GITHUB_ACTIONS": "false"}, {"GITHUB_STEP_SUMMARY": ""}])
def test_elsewhere_nothing_is_added(variables: dict[str, str], files: tuple[str, str], tmp_path: Path) -> None:
    """Without GitHub's runner, or without its file, connbench writes no table."""
    summary = tmp_path / "summary.md"
    finished = in_actions("report", files[1], **{"GITHUB_STEP_SUMMARY": str(summary), **variables})
    assert (finished.returncode, finished.stderr) == (ExitCode.OK, "")
    assert not summary.exists()
