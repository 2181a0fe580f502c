"""Files of several hosts, merged from real runs on this machine, read by the commands that read results."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from connbench.errors import ExitCode
from run_connbench import connbench, in_process

SMALL = ("--port-range", "40000-40063", "-q", "--strategy", "bind,window", "--window", "16")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two runs of five rounds; merged as hosts that ran by themselves, and as hosts that ran together."""
    place = tmp_path_factory.mktemp("fleet")
    for name in ("web1", "web2"):
        finished = connbench("run", *SMALL, "--rounds", "5", "-o", str(place / f"{name}.json.gz"))
        assert finished.returncode == ExitCode.OK, finished.stderr
    files = [str(place / f"{name}.json.gz") for name in ("web1", "web2")]
    for name, options in (("apart", []), ("together", ["--together"])):
        merged = connbench("fleet", "merge", *files, "-q", *options, "-o", str(place / f"{name}.json.gz"))
        assert merged.returncode == ExitCode.OK, merged.stderr
    return place


def test_report_compares_hosts_that_ran_by_themselves(folder: Path) -> None:
    """A row for each host and strategy, and the second host against the first."""
    shown = in_process("report", str(folder / "apart.json.gz"))
    assert (shown.returncode, shown.stderr) == (ExitCode.OK, "")
    lines = shown.stdout.splitlines()
    assert lines[0] == "connbench: 2 hosts, each by itself"
    for label in ("bind:", "window 16:"):
        rows = lines[lines.index(label) :]
        assert {row.split()[0] for row in rows[2:4]} == {"web1", "web2"}
        assert any(row.startswith("against web1") for row in rows)
    csv = in_process("report", str(folder / "apart.json.gz"), "--format", "csv").stdout
    assert csv.startswith("host,strategy,")
    (folder / "again.csv").write_text(csv, encoding="utf-8")
    again = in_process("report", str(folder / "again.csv")).stdout.splitlines()
    assert [row for row in again if row.startswith("web")] == [row for row in lines if row.startswith("web")]


def test_report_of_runs_one_after_the_other_says_that_they_did_not_overlap(folder: Path) -> None:
    """The times of a file are of the real clock: the second run began after the first had ended."""
    shown = in_process("report", str(folder / "together.json.gz"), "--format", "json")
    assert (shown.returncode, shown.stderr) == (ExitCode.OK, "")
    summary = json.loads(shown.stdout)["summary"]
    assert [strategy["in_all"]["overlap_share"] for strategy in summary["strategies"]] == [0, 0]
    assert [strategy["in_all"]["rounds"] for strategy in summary["strategies"]] == [5, 5]
    assert {"clock-offset", "uneven-start"} <= {finding["code"] for finding in summary["findings"]}
    said = in_process("report", str(folder / "together.json.gz")).stdout
    assert "never all ran at the same time" in said


def test_each_kind_of_output_takes_the_file(folder: Path) -> None:
    """A page, charts with a series for each host, and a chart in the terminal."""
    file = str(folder / "apart.json.gz")
    for arguments in (
        ("report", file, "--html", str(folder / "page.html")),
        ("plot", file, "-o", str(folder / "chart.svg")),
        ("plot", file, "--kind", "utilisation", "-o", str(folder / "lines.svg")),
    ):
        done = in_process(*arguments)
        assert done.returncode == ExitCode.OK, done.stderr
    assert "2 hosts, each by itself" in (folder / "page.html").read_text(encoding="utf-8")
    drawn = in_process("plot", file, "--terminal").stdout
    assert [line for line in drawn.splitlines() if line.startswith("bind (")] == ["bind (web1)", "bind (web2)"]


def test_conditions_name_the_host(folder: Path) -> None:
    """Each host is judged; a host that NEW lacks does not pass."""
    file = str(folder / "apart.json.gz")
    failed = in_process("report", file, "--fail-if", "bind: attempts < 321")
    assert failed.returncode == ExitCode.THRESHOLD
    assert failed.stderr.splitlines() == [
        f"connbench: threshold failed: {name}: bind: attempts < 321, measured 320" for name in ("web1", "web2")
    ]
    assert in_process("report", file, "--fail-if", "bind: attempts < 320").returncode == ExitCode.OK
    one = str(folder / "one.json.gz")
    merged = in_process("fleet", "merge", str(folder / "web1.json.gz"), "-q", "-o", one)
    assert merged.returncode == ExitCode.OK, merged.stderr
    compared = in_process("compare", file, one, "--fail-if", "errors > 99%")
    assert compared.returncode == ExitCode.THRESHOLD
    assert "every strategy: errors > 99% cannot be judged: NEW does not have this host" in compared.stderr


def test_file_of_one_host_is_not_compared_with_one_of_several(folder: Path) -> None:
    """The message says what to do; so does the one for a format of one host."""
    file, one = (str(folder / name) for name in ("apart.json.gz", "web1.json.gz"))
    refused = in_process("compare", file, one)
    assert refused.returncode == ExitCode.USAGE
    assert f"{file} is of several hosts, and {one} is of one" in refused.stderr
    talk = in_process("report", file, "--format", "talk")
    assert talk.returncode == ExitCode.USAGE
    assert "-> use text, json, csv" in talk.stderr
