"""`connbench report` as its users type it."""

from __future__ import annotations

import errno
import gzip
import json
import os
import pty
import re
import subprocess
from dataclasses import dataclass
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from connbench.commands.options import FORMAT_NAMES
from connbench.errors import ExitCode, Interrupted
from connbench.report.formats import FORMATS
from connbench.results.input_file import read
from connbench.results.output_file import Output
from connbench.results.result import Result
from factories import BIND, LONG, PLAIN, result_of, round_of, samples_of
from run_connbench import command_line, connbench, in_process, read_terminal

MIXED = samples_of([10_000, 20_000, 30_000, 400_000], errno=[0, 0, 0, errno.EADDRNOTAVAIL])
REFUSED = samples_of([10_000, 20_000], errno=[0, errno.ECONNREFUSED])

ONE = result_of({BIND: [round_of(MIXED)]})
SEVERAL = result_of({PLAIN: [round_of(MIXED), round_of(MIXED, 2)], LONG: [round_of(MIXED), round_of(MIXED, 2)]})
UNSOUND = result_of({BIND: [round_of(REFUSED, fault=Interrupted(2))]})


@dataclass(frozen=True)
class Measured:
    """A real run: what it printed, and the file it wrote."""

    stdout: str
    path: Path


@pytest.fixture(scope="module")
def measured(tmp_path_factory: pytest.TempPathFactory) -> Measured:
    """Two strategies in two rounds over 64 ports."""
    path = tmp_path_factory.mktemp("run") / "r.json.gz"
    arguments = ("run", "-q", "-n", "64", "--port-range", "40000-40063", "--rounds", "2", "-o", str(path))
    finished = connbench(*arguments, "--strategy", "plain", "--strategy", "window", "--window", "16")
    assert (finished.returncode, finished.stderr) == (ExitCode.OK, "")
    return Measured(finished.stdout, path)


def saved(result: Result, path: Path, form: str = "json") -> str:
    """Write a result; returns the path as one types it."""
    with Output(path, force=True) as output:
        output.save(FORMATS[form](result))
    return str(path)


def printed(*arguments: str) -> str:
    """What a report prints that has nothing to say on stderr."""
    finished = in_process("report", *arguments)
    assert (finished.returncode, finished.stderr) == (ExitCode.OK, "")
    return finished.stdout


def test_report_is_what_the_run_printed(measured: Measured) -> None:
    """Tables, comparison and findings come from the file as they came from the run."""
    assert "vs " in measured.stdout
    assert printed(str(measured.path)) == measured.stdout


@pytest.mark.parametrize("form", sorted(set(FORMAT_NAMES) - {"text", "talk-csv", "hgrm"}))
def test_every_format_is_printed(form: str, measured: Measured) -> None:
    """Stdout holds the format's text and nothing else."""
    assert printed(str(measured.path), "--format", form) == FORMATS[form](read(measured.path)).rstrip("\n") + "\n"


def test_json_is_the_file_itself(measured: Measured) -> None:
    """A packed file is unpacked, word for word."""
    assert printed(str(measured.path), "--format", "json") == gzip.decompress(measured.path.read_bytes()).decode()


def test_talk_csv_prints_the_six_lines(tmp_path: Path) -> None:
    """A file of the talk's author prints its six lines, and in its own format itself."""
    path = tmp_path / "1700000000-6.1.csv"
    path.write_text("9024,1.16e-05\n9025,0.0029\n-1,0.00075\n", encoding="utf-8")
    assert printed(str(path), "--format", "talk").splitlines() == [
        "connection attempts: 3 errored: 1 total: 2",
        "total time: 0.004s",
        "latency min: 0.012ms max: 2.9ms avg: 1.221ms",
        "even ports: 1 latency min: 0.012ms max: 0.012ms avg: 0.012ms",
        "odd ports: 1 latency min: 2.9ms max: 2.9ms avg: 2.9ms",
        "errored ports: 1 latency min: 0.75ms max: 0.75ms avg: 0.75ms",
    ]
    assert printed(str(path), "--format", "talk-csv") == "9024,1.16e-05\n9025,0.0029\n-1,0.00075\n"
    assert printed(str(path)).startswith(f"1700000000-6.1: Linux 6.1, talk CSV {path}\n")


def test_unit_of_a_csv_is_asked_for(tmp_path: Path) -> None:
    """A CSV of microseconds is not taken for one of seconds: it is refused with the option that settles it."""
    path, of_us = tmp_path / "us.csv", ("connect() then takes 11.6 s", "--unit s, ms, us or ns")
    path.write_text("port, latency\n9024, 11.6\n9025, 2900\n9026, 11.5\n", encoding="utf-8")
    other = saved(ONE, tmp_path / "r.json")
    for command in ("report", "compare", "plot"):
        more = {"report": (), "compare": (other,), "plot": ("-o", str(tmp_path / f"{command}.png"))}[command]
        finished = in_process(command, str(path), *more)
        assert (finished.returncode, finished.stdout) == (ExitCode.INPUT, "")
        assert all(words in finished.stderr for words in of_us)
        settled = in_process(command, str(path), *more, "--unit", "us")
        assert (settled.returncode, settled.stderr) == (ExitCode.OK, "")
    for unit in ("us", "µs", "\N{GREEK SMALL LETTER MU}s"):  # as reports write it, and as some keyboards do
        assert "latency min: 0.011ms max: 2.9ms" in printed(str(path), "--unit", unit)


def test_doubt_about_the_unit_is_reported_with_any_format(tmp_path: Path) -> None:
    """Milliseconds might be the seconds of a distant target: figures and charts come with a warning."""
    path = tmp_path / "ms.csv"
    path.write_text("9024,0.0116\n9025,2.9\n9026,0.0115\n", encoding="utf-8")
    for form in ("talk", "talk-csv"):
        assert "--unit ms" in in_process("report", str(path), "--format", form).stderr
    assert "--unit ms" in printed(str(path))
    assert "--unit ms" in in_process("plot", str(path), "-o", str(tmp_path / "ms.png")).stderr


def test_unit_of_what_has_its_own_is_refused(tmp_path: Path) -> None:
    """The files of connbench are in ns, and no option changes that."""
    finished = in_process("report", saved(ONE, tmp_path / "r.json"), "--unit", "us")
    assert (finished.returncode, finished.stdout) == (ExitCode.USAGE, "")
    assert "--unit is for a CSV of port and time" in finished.stderr


def test_metrics_are_for_the_textfile_collector(tmp_path: Path) -> None:
    """What is written to a .prom file is read by Prometheus' own parser."""
    metrics = printed(saved(SEVERAL, tmp_path / "r.json"), "--format", "prometheus")
    families = list(text_string_to_metric_families(metrics))
    assert {"connbench", "connbench_connect_seconds"} <= {family.name.removesuffix("_info") for family in families}


@pytest.mark.parametrize(("form", "title"), [("text", "==> {} <=="), ("talk", "==> {} <=="), ("markdown", "## {}")])
def test_several_files_stand_under_their_names(form: str, title: str, tmp_path: Path) -> None:
    """Each result follows its file's name, in the order given, a blank line between."""
    first, second = saved(SEVERAL, tmp_path / "a.json"), saved(ONE, tmp_path / "b.csv", "csv")
    reports = {path: FORMATS[form](read(Path(path))).rstrip() for path in (first, second)}
    parts = [f"{title.format(path)}\n\n{report}\n" for path, report in reports.items()]
    assert printed(first, second, "--format", form) == "\n".join(parts)


@pytest.mark.parametrize("form", ["json", "csv", "talk-csv", "prometheus", "openmetrics"])
def test_formats_for_programs_take_one_file(form: str, tmp_path: Path) -> None:
    """Other programs cannot read two documents in one stream: wrong usage, and nothing is printed."""
    path = saved(ONE, tmp_path / "a.json")
    finished = in_process("report", path, path, "--format", form)
    assert (finished.returncode, finished.stdout) == (ExitCode.USAGE, "")
    assert finished.stderr == f"connbench: --format {form} takes one file, not 2\n  -> give one file at a time\n"


def test_talk_csv_of_several_strategies_is_refused(tmp_path: Path) -> None:
    """The author's form cannot tell them apart."""
    finished = in_process("report", saved(SEVERAL, tmp_path / "a.json"), "--format", "talk-csv")
    assert (finished.returncode, finished.stdout) == (ExitCode.USAGE, "")
    assert "contains one round of one strategy, and this result has 4" in finished.stderr


REFUSALS: dict[str, tuple[bytes | None, str]] = {
    "missing": (None, "cannot be read: No such file or directory"),
    "empty": (b"", "is empty"),
    "cut off": (FORMATS["json"](ONE).encode()[:300], "is cut off"),
    "newer": (json.dumps({"schema": 99, "strategies": []}).encode(), "has schema 99"),
    "foreign": (b"name,value\n", "is not a result file: it begins with 'name,value'"),
    "binary": (bytes(range(128, 256)), "is not a result file: not text"),
}


@pytest.mark.parametrize(("data", "reason"), REFUSALS.values(), ids=REFUSALS)
def test_file_that_is_no_result_is_refused(data: bytes | None, reason: str, tmp_path: Path) -> None:
    """File and reason in one line, the remedy in another, exit code 8; nothing is printed, of other files neither."""
    path = tmp_path / "x.json"
    if data is not None:
        path.write_bytes(data)
    finished = in_process("report", saved(ONE, tmp_path / "good.json"), str(path))
    assert (finished.returncode, finished.stdout) == (ExitCode.INPUT, "")
    fault, hint = finished.stderr.splitlines()
    assert fault.startswith(f"connbench: {path} ")
    assert reason in fault
    assert hint.startswith("  -> ")


def test_no_file_is_wrong_usage() -> None:
    """Without a file there is nothing to report."""
    finished = in_process("report")
    assert (finished.returncode, finished.stdout) == (ExitCode.USAGE, "")
    assert finished.stderr.startswith("connbench: FILE... is missing for report")


@pytest.mark.parametrize("form", ["talk", "csv", "talk-csv"])
def test_formats_without_findings_warn_on_stderr(form: str, tmp_path: Path) -> None:
    """What makes figures invalid or partial is said beside a format that has no place for it, as a run says it."""
    finished = in_process("report", saved(UNSOUND, tmp_path / "r.json"), "--format", form)
    assert finished.returncode == ExitCode.OK
    assert finished.stdout == FORMATS[form](UNSOUND).rstrip("\n") + "\n"
    assert finished.stderr.splitlines()[::2] == [
        "connbench: invalid: bind: attempts failed for a reason other than ports: ECONNREFUSED 1",
        "connbench: warning: bind: partial, 2 of 2 attempts: stopped by SIGINT",
    ]


@pytest.mark.parametrize("form", ["text", "markdown", "json"])
def test_formats_with_findings_have_them_once(form: str, tmp_path: Path) -> None:
    """Where the format tells the findings itself, stderr is silent."""
    assert "ECONNREFUSED" in printed(saved(UNSOUND, tmp_path / "r.json"), "--format", form)


def test_terminal_of_80_columns_is_kept_to(tmp_path: Path) -> None:
    """On a terminal, headers and findings are folded to its width, the longest of labels included; names are bold."""
    path = saved(SEVERAL, tmp_path / "r.csv", "csv")
    leader, follower = pty.openpty()
    environment = {**os.environ, "COLUMNS": "80", "TERM": "xterm"}
    process = subprocess.Popen(command_line("report", path), stdout=follower, stderr=follower, env=environment)
    os.close(follower)
    drawn = b"".join(read_terminal(leader))
    assert process.wait() == ExitCode.OK
    assert "\r\n\x1b[1mwindow 10000 clipped, 1000 retries:\x1b[0m kernel unknown" in drawn.decode()
    lines = re.sub(r"\x1b\[[01]m", "", drawn.decode()).splitlines()
    assert [line for line in lines if len(line) > 80 and path not in line] == []
    in_a_pipe = printed(path)
    assert len(lines) > len(in_a_pipe.splitlines())
    assert "\x1b" not in in_a_pipe


def test_reader_that_leaves_is_no_error(measured: Measured) -> None:
    """`| head` takes what it wants."""
    reader, writer = os.pipe()
    os.close(reader)
    command = command_line("report", str(measured.path), str(measured.path))
    finished = subprocess.run(command, stdout=writer, stderr=subprocess.PIPE, text=True, check=False)
    os.close(writer)
    assert (finished.returncode, finished.stderr) == (ExitCode.OK, "")


def test_file_name_that_is_no_text_is_reported(tmp_path: Path) -> None:
    """A name of any bytes ends in a message, not in a traceback."""
    finished = in_process("report", str(tmp_path / os.fsdecode(b"\xff.json")))
    assert finished.returncode == ExitCode.INPUT
    assert finished.stderr.startswith(f"connbench: {tmp_path}/\ufffd.json cannot be read: ")
