"""The documents of every command that prints JSON: each number has its unit, in its name or in the docs."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from json_units import without_unit
from run_connbench import connbench, in_process

PORTS = ("--port-range", "40000-40063")


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of two rounds as run.json, a sweep as sweep.json, and a profile as profile.json."""
    folder = tmp_path_factory.mktemp("files")
    connbench("run", "--strategy", "plain,bind", *PORTS, "--rounds", "2", "-o", str(folder / "run.json"))
    connbench("sweep", "--strategy", "bind", *PORTS, "--fill", "50%,90%", "-o", str(folder / "sweep.json"))
    connbench("profile", "--strategy", "plain", *PORTS, "--samples", "3", "-o", str(folder / "profile.json"))
    return folder


@pytest.mark.parametrize(
    "command",
    [
        "report run.json",
        "report sweep.json",
        "report profile.json",
        "compare run.json run.json",
        "predict --strategy plain,bind --port-range 40000-40999",
        "predict run.json --calibrate run.json",
        "advise -n 900 --rate 5/s --hold 3s --slo p99<1us --port-range 40000-40999",
        "advise -n 60 --port-range 40000-40063 --calibrate run.json",
        "calibrate --port-range 40000-40299",
        "doctor",
        "inspect",
        "strategies",
    ],
)
def test_every_number_of_a_document_has_a_unit(command: str, files: Path) -> None:
    """A program that reads a document need not guess the unit of a number."""
    finished = in_process(*command.split(), "--format", "json", cwd=files)
    document = json.loads(finished.stdout)
    assert document
    assert without_unit(document) == set()
