"""The command `sweep`: one run of it on a small range, its file and its pictures, and what it refuses."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from connbench.errors import ExitCode
from connbench.results.input_file import read
from run_connbench import connbench, in_process, needs_port_range

RANGE = ("--port-range", "40000-40199", "-q")


def test_sweep_runs_the_product_and_names_the_cheapest(tmp_path: Path) -> None:
    """Every combination is measured and saved, drawn, and the verdict has a setting within the budget."""
    file, prefix, page = tmp_path / "sweep.json", tmp_path / "chart", tmp_path / "sweep.html"
    finished = connbench(
        *("sweep", *RANGE, "--strategy", "range,window", "--window", "3-5:2", "--fill", "50%,90%"),
        *("--rounds", "2", "--churn", "40", "--seed", "7", "-o", str(file), "--charts", str(prefix)),
        *("--html", str(page)),
    )
    assert finished.returncode == ExitCode.OK, finished.stderr
    assert "connbench: 6 combinations of setting and load, 2 rounds each: 12 turns, 2,160 attempts" in finished.stderr
    start = "verdict: Cheapest within 1% errors: "
    [verdict] = [line for line in finished.stdout.splitlines() if line.startswith(start)]
    result = read(file)
    assert result.plan
    assert [(spec.name, spec.window, spec.load.fill) for spec in result.plan.strategies] == [
        (name, window, fill) for fill in (0.5, 0.9) for name, window in (("range", None), ("window", 3), ("window", 5))
    ]
    assert {len(rounds) for rounds in result.rounds.values()} == {2}
    assert not result.is_partial
    assert (tmp_path / "chart-windows.png").read_bytes().startswith(b"\x89PNG")
    assert (tmp_path / "chart-utilisation.png").read_bytes().startswith(b"\x89PNG")
    again = in_process("report", str(file))
    assert verdict in again.stdout.splitlines()
    of_file = json.loads(in_process("report", str(file), "--format", "json").stdout)["sweep"]
    assert verdict == f"verdict: {of_file['verdict'][0]}"
    assert of_file["choice"]["worst_error_share"] <= 0.01
    opening = page.read_text(encoding="utf-8").partition('<section id="opening">')[2].partition("</section>")[0]
    assert f"<li>{of_file['verdict'][0]}</li>" in opening
    assert "connection attempts:" not in again.stdout
    in_blocks = in_process("report", str(file), "--blocks").stdout
    assert in_blocks.count("connection attempts:") == 12
    assert verdict in in_blocks.splitlines()


def test_sweep_in_another_format() -> None:
    """A sweep's JSON has every combination and their ranking, and a threshold is held to each of them."""
    finished = connbench(
        *("sweep", *RANGE, "--window", "50", "--concurrency", "1,2", "-n", "40"),
        *("--rounds", "1", "--format", "json", "--fail-if", "attempts < 41"),
    )
    assert finished.returncode == ExitCode.THRESHOLD
    document = json.loads(finished.stdout)
    assert len(document["strategies"]) == 2
    assert [one["label"] for one in document["sweep"]["ranking"]] == ["window 50"]
    assert document["sweep"]["choice"]["keeps_budget"]
    assert finished.stderr.count("threshold failed: window 50") == 2


@pytest.mark.parametrize(
    ("asked", "named"),
    [
        (("--window", "500"), "nothing to sweep"),
        (("--window", "10,20.5"), "'20.5' is not a whole number"),
        (("--window", "10,300"), "--window 300 does not fit"),
        (("--strategy", "window,fastest"), "unknown strategy 'fastest'"),
        (("-n", "10,20", "--fill", "50%"), "both set the number of connections"),
        (
            ("--window", "10,20", "--charts", "nowhere/a"),
            "--charts nowhere/a-windows.png: folder nowhere does not exist",
        ),
    ],
)
def test_what_cannot_be_swept_is_refused(asked: tuple[str, ...], named: str) -> None:
    """Wrong lists are told before anything is measured, in two lines."""
    finished = connbench("sweep", *RANGE, *asked)
    assert finished.returncode in {ExitCode.USAGE, ExitCode.OUTPUT}
    assert named in finished.stderr
    assert len(finished.stderr.splitlines()) <= 2
    assert finished.stdout == ""


@needs_port_range
def test_what_is_said_to_let_a_setting_in_does() -> None:
    """Windows that fail too often: what the verdict names keeps the budget on this kernel, with other draws too."""
    ports = ("--port-range", "40000-40999", "-q", "--fill", "90%", "--format", "json")
    swept = connbench("sweep", *ports, "--window", "10,20", "--error-budget", "2%", "--rounds", "1", "--seed", "7")
    found = json.loads(swept.stdout)["sweep"]
    assert found["choice"] is None
    let_in = found["runner_up"]["would_keep_budget_with"]["options"]
    assert any(one["options"].startswith("--retries ") for one in let_in)
    window = found["runner_up"]["setting"]["window"]
    for one in let_in:
        options = {"--window": str(window)} | dict([one["options"].split()])
        words = [word for option in options.items() for word in option]
        run = connbench("run", *ports, "--strategy", "window", *words, "--seed", "8")
        [summary] = [strategy["summary"] for strategy in json.loads(run.stdout)["strategies"]]
        assert 1 - summary["connected"] / 900 <= 0.02, one
