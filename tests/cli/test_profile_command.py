"""The command `profile`: a run on a small range, its files, pictures and gate; how it ends early, what it refuses."""

from __future__ import annotations

import json
import resource
import signal
from pathlib import Path

import pytest

from connbench.errors import ExitCode
from connbench.linux.sockopts import LOCAL_PORT_RANGE, is_supported
from connbench.results.input_file import read
from connbench.strategies import STRATEGIES
from fault_at_moment import at, connecting
from run_connbench import connbench, in_process, needs_port_range

RANGE = ("--port-range", "40000-40199", "-q")
HERE = [name for name, row in STRATEGIES.items() if is_supported(LOCAL_PORT_RANGE) or not row.sets_port_range]


def test_a_profile_of_all_strategies(tmp_path: Path) -> None:
    """A row for each level, a column for each strategy, the verdict last; its file is printed, drawn and compared."""
    file, page, picture = tmp_path / "profile.json.gz", tmp_path / "profile.html", tmp_path / "profile.png"
    finished = connbench(
        *("profile", *RANGE, "--window", "20", "--at", "25%-100%:25%", "--samples", "9", "--seed", "7"),
        *("-o", str(file), "--html", str(page), "--fail-if", "attempts < 37"),
    )
    assert finished.returncode == ExitCode.THRESHOLD, finished.stderr
    lines = finished.stdout.splitlines()
    [head] = [line for line in lines if line.startswith("level")]
    assert head.split()[:3] == ["level", "ports", HERE[0]]
    below = lines[lines.index(head) + 1 :]
    assert [line.split()[:2] for line in below[:4]] == [["25%", "50"], ["50%", "100"], ["75%", "150"], ["100%", "200"]]
    assert below[3].count("(") == len(HERE)
    assert below[4].split()[0] == "knee"
    assert lines[-1].startswith("Next: connbench ")
    result = read(file)
    assert [spec.name for spec in result.rounds] == HERE
    assert {len(rounds[0].samples) for rounds in result.rounds.values()} == {36}
    assert in_process("report", str(file)).stdout == finished.stdout
    wide = in_process("report", str(file), "--wide").stdout
    assert f"{HERE[0]} p50" in wide
    source = page.read_text(encoding="utf-8")
    assert ">25%</" in source
    assert "<h2>Levels</h2>" in source
    assert f"<h1>A profile of {HERE[0]}, " in source
    assert "Rolling <span" not in source
    assert "<h3>Acquire time as the range fills</h3>" in source
    drawn = in_process("plot", str(file), "--kind", "utilisation", "-o", str(picture))
    assert (drawn.returncode, picture.read_bytes()[:4]) == (ExitCode.OK, b"\x89PNG")
    again = in_process("compare", str(file), str(file))
    assert again.returncode == ExitCode.OK
    assert f"{HERE[0]}, profile at 25%-100%:25%, 9 samples each" in again.stdout


def test_other_formats() -> None:
    """JSON has the figures of each level; formats of a filling are refused."""
    asked = ("profile", *RANGE, "--strategy", "plain,random", "--at", "90%,50%", "--samples", "3")
    document = json.loads(connbench(*asked, "--format", "json").stdout)
    assert [[level["share"] for level in one["levels"]] for one in document["strategies"]] == [[0.5, 0.9]] * 2
    rows = connbench(*asked, "--format", "csv").stdout.splitlines()
    assert len(rows) == 1 + 2 * 2 * 3
    assert "| level |" in connbench(*asked, "--format", "markdown").stdout
    refused = in_process(*asked, "--format", "talk")
    assert (refused.returncode, refused.stderr.splitlines()[0]) == (
        ExitCode.USAGE,
        "connbench: --format talk is unknown",
    )


def test_a_file_of_a_profile_has_no_format_of_a_filling(tmp_path: Path) -> None:
    """`report` names those that it has."""
    file = tmp_path / "profile.json"
    asked = ("--strategy", "plain", "--at", "50%", "--samples", "2", "-o", str(file))
    assert connbench("profile", *RANGE, *asked).returncode == ExitCode.OK
    refused = in_process("report", str(file), "--format", "prometheus")
    assert refused.returncode == ExitCode.USAGE
    assert "is a profile" in refused.stderr
    in_blocks = in_process("report", str(file), "--blocks").stdout
    assert "plain, profile at 50%, 2 samples each: Linux" in in_blocks


@needs_port_range
@pytest.mark.parametrize("name", ["plain", "random"])
def test_several_workers_reach_the_levels(name: str, tmp_path: Path) -> None:
    """Where RLIMIT_NOFILE leaves a process fewer files than there are ports, the next worker goes on."""
    file = tmp_path / "profile.json"
    finished = connbench(
        *("profile", *RANGE, "--strategy", name, "--at", "25%-100%:25%", "--samples", "5", "-o", str(file)),
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64)),
    )
    assert finished.returncode == ExitCode.OK, finished.stderr
    [[measured]] = read(file).rounds.values()
    workers = measured.report.workers
    assert len(workers) > 3
    assert sum(worker.opened for worker in workers) == measured.report.held == measured.report.established == 200
    assert sum(worker.attempts for worker in workers) == len(measured.samples) == 20
    assert {worker.client for worker in workers if worker.attempts} == {0}
    assert measured.samples.in_use.tolist() == [level for level in (50, 100, 150, 200) for _ in range(5)]


@needs_port_range
def test_ctrl_c_prints_the_levels_until_then(tmp_path: Path) -> None:
    """The table has those that were reached, and the verdict says that it was cut short."""
    asked = ("--strategy", "plain,bind", "--at", "10%,60%-100%:5%", "--samples", "1000", "-o", "profile.json")
    with at(connecting(2500), "profile", "--port-range", "20000-39999", "-q", *asked, folder=tmp_path) as run:
        run.send(signal.SIGINT)
    run.ended(ExitCode.INTERRUPTED, "stopped by SIGINT")
    shown = [line.split()[0] for line in run.stdout.splitlines() if "µs" in line and line.split()[0].endswith("%")]
    assert shown[0] == "10%"
    assert "100%" not in shown
    assert "not measured: bind, profile at " in run.stdout
    assert run.stdout.splitlines()[-1] == "Next: the run was cut short; run it again for the rest."
    assert read(tmp_path / "profile.json").is_partial


def test_it_needs_a_namespace_of_its_own() -> None:
    """It would take all ports of the host; what helps is named, and no option that it does not have."""
    refused = connbench("profile", *RANGE, inside=("--deny", "unshare"))
    assert refused.returncode == ExitCode.ENVIRONMENT
    assert "cannot create a network namespace" in refused.stderr
    assert "--isolate" not in refused.stderr


@pytest.mark.parametrize(
    ("words", "fault"),
    [
        (("--at", "50"), "'50' is not a share"),
        (("--at", "50%-90%"), "range 50%-90% has no step"),
        (("--at", "50%,120%"), "--at 50%,120% is not possible"),
        (("--samples", "0"), "--samples 0 is not possible"),
        (("--samples", "10M"), "attempts are too many"),
        (("--strategy", "plane"), "unknown strategy 'plane'"),
    ],
)
def test_what_it_refuses(words: tuple[str, ...], fault: str) -> None:
    """In a line with the value, and one with the way out."""
    refused = in_process("profile", *words)
    assert refused.returncode == ExitCode.USAGE
    assert fault in refused.stderr
    assert len(refused.stderr.splitlines()) == 2
