"""`connbench calibrate` as installed: it measures, saves, and predict and advise name what it measured."""

from __future__ import annotations

import json
import platform
from pathlib import Path

import pytest

from connbench.errors import ExitCode
from run_connbench import connbench, in_process

PORTS = ("--port-range", "40000-40299")


@pytest.fixture(scope="module")
def machine(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The calibration of a small range."""
    path = tmp_path_factory.mktemp("machine") / "machine.json"
    done = connbench("calibrate", *PORTS, "-o", str(path))
    assert done.returncode in {ExitCode.OK, ExitCode.UNSOUND}, done.stderr
    assert f"Next: connbench predict --strategy plain --calibrate {path}" in done.stdout
    assert f"wrote {path}" in done.stderr
    return path


def test_costs_of_a_real_range_are_saved(machine: Path) -> None:
    """Of the whole range and no more: a connection and a port cost something here, and a failure costs less."""
    document = json.loads(machine.read_text(encoding="utf-8"))
    found = document["calibration"]
    assert document["schema"] == 1
    assert (found["sizes"][0], found["sizes"][-1]) == (pytest.approx(151, abs=10), pytest.approx(300))
    assert found["largest"] == 300
    assert found["machine"]["kernel"] == platform.release()
    assert min(found["base_ns"]) > 0
    assert max(found["port_ns"]) > 0
    assert found["failure_ns"] > 0


def test_predict_and_advise_name_the_machine(machine: Path) -> None:
    """Times are those of the file, up to its range; beyond it they are extrapolated, and that is said."""
    done = in_process("predict", "--strategy", "plain,window", *PORTS, "--window", "30", "--calibrate", str(machine))
    assert (done.returncode, done.stderr) == (ExitCode.OK, "")
    assert f"from {machine}, " in done.stdout
    assert f"Linux {platform.release()}" in done.stdout
    assert "extrapolated" not in done.stdout
    wide = in_process("predict", "--strategy", "plain", "--port-range", "40000-42047", "--calibrate", str(machine))
    assert "extrapolated: plain has 2,048 connections open, the calibration at most 300" in wide.stdout
    advice = in_process("advise", "-n", "200", *PORTS, "--calibrate", str(machine))
    assert f"from {machine}, " in advice.stdout
    assert "another machine" not in advice.stderr
    other = in_process("advise", "-n", "200", *PORTS, "--kernel", "5.10", "--calibrate", str(machine))
    assert "was measured on another machine than --kernel: Linux" in other.stderr


def test_without_a_calibration_the_way_to_one_is_shown() -> None:
    """UDP's costs are fitted to results alone."""
    advice = in_process("advise", "-n", "200", *PORTS)
    assert "usual costs of one machine; connbench calibrate measures yours (5 s)" in advice.stdout
    predicted = in_process("predict", "--strategy", "plain", *PORTS)
    assert "connbench calibrate -o FILE measures this machine's costs (5 s)" in predicted.stdout
    udp = in_process("predict", "--strategy", "bind", *PORTS, "--protocol", "udp")
    assert "connbench calibrate" not in udp.stdout


@pytest.mark.parametrize("output_format", ["json", "markdown"])
def test_calibration_is_printed_for_programs_and_issues(output_format: str) -> None:
    """JSON is the document of the file; with the loop in Python as with the one in C."""
    done = connbench("calibrate", *PORTS, "--format", output_format, "--loop", "python")
    assert done.returncode in {ExitCode.OK, ExitCode.UNSOUND}, done.stderr
    if output_format == "json":
        assert json.loads(done.stdout)["calibration"]["residual"] >= 0
    else:
        assert "### calibration: " in done.stdout
        assert "| ports in use |" in done.stdout


@pytest.mark.parametrize(
    ("words", "code", "fault"),
    [
        (("-o", "machine.csv"), ExitCode.USAGE, "machine.csv"),
        (("-o", "missing/machine.json"), ExitCode.OUTPUT, "missing"),
        (("--port-range", "40000-40000"), ExitCode.USAGE, "40000"),
    ],
)
def test_what_cannot_be_measured_or_saved_is_refused_beforehand(
    words: tuple[str, ...], code: ExitCode, fault: str, tmp_path: Path
) -> None:
    """With the value, and nothing left behind."""
    done = in_process("calibrate", *words, cwd=tmp_path)
    assert done.returncode == code
    assert fault in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_a_file_that_exists_is_replaced_with_force_alone(tmp_path: Path) -> None:
    """Else it stays as it is."""
    path = tmp_path / "machine.json"
    path.write_text("mine", encoding="utf-8")
    assert in_process("calibrate", *PORTS, "-o", str(path)).returncode == ExitCode.OUTPUT
    assert path.read_text(encoding="utf-8") == "mine"
    assert connbench("calibrate", *PORTS, "-o", str(path), "--force").returncode in {ExitCode.OK, ExitCode.UNSOUND}
    assert json.loads(path.read_text(encoding="utf-8"))["calibration"]
