"""What needs a library of an extra says so before anything is measured, with the line that installs it."""

from __future__ import annotations

import re
import sys
import tomllib
from pathlib import Path

import pytest

from connbench.commands.exporter import exporter_address
from connbench.errors import EnvironmentFault, ExitCode
from connbench.report.libraries import EXTRA_OF
from run_connbench import in_process

PROJECT = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text(encoding="utf-8"))["project"]


@pytest.mark.parametrize("command", ["run", "report", "inspect"])
def test_format_without_its_library_is_refused_at_once(command: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Before the measurement that would then be lost, and before a file is missed."""
    monkeypatch.setitem(sys.modules, "prometheus_client", None)
    done = in_process(command, "--format", "prometheus", *(["missing.json"] if command == "report" else []))
    assert (done.returncode, done.stdout) == (ExitCode.ENVIRONMENT, "")
    assert done.stderr.splitlines() == [
        "connbench: --format prometheus needs prometheus_client, which is not installed",
        "  -> pip install 'connbench[metrics]'",
    ]


@pytest.mark.parametrize(
    ("library", "arguments", "said"),
    [
        (
            "hdrh",
            ("--format", "hlog"),
            "--format hlog needs hdrh, which is not installed\n  -> pip install 'connbench[hdr]'",
        ),
        (
            "pyarrow",
            ("-o", "x.parquet"),
            "-o x.parquet needs pyarrow, which is not installed\n  -> pip install 'connbench[parquet]'",
        ),
    ],
)
def test_run_without_the_library_of_its_output_measures_nothing(
    library: str, arguments: tuple[str, ...], said: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Nor does it reserve the file."""
    monkeypatch.setitem(sys.modules, library, None)
    done = in_process("run", *arguments, cwd=tmp_path)
    assert (done.returncode, done.stdout, done.stderr) == (ExitCode.ENVIRONMENT, "", f"connbench: {said}\n")
    assert list(tmp_path.iterdir()) == []


def test_exporter_needs_the_library_too(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever its address is."""
    monkeypatch.setitem(sys.modules, "prometheus_client", None)
    with pytest.raises(EnvironmentFault, match="--exporter needs prometheus_client") as caught:
        exporter_address("127.0.0.1:0")
    assert caught.value.hint == "pip install 'connbench[metrics]'"


def test_page_lists_every_extra() -> None:
    """docs/install.md, with the libraries of each; `docs` and `dev` are for who works on connbench."""
    page = (Path(__file__).parents[2] / "docs" / "install.md").read_text(encoding="utf-8")
    listed = dict(re.findall(r"^\| `(\w+)` \| ([\w, -]+) \|", page, re.MULTILINE))
    extras = PROJECT["optional-dependencies"]
    assert listed.keys() == extras.keys() - {"docs", "dev"}
    for extra in listed.keys() - {"all"}:
        assert listed[extra].split(", ") == [re.split("[>=]", one)[0] for one in extras[extra]]


@pytest.mark.parametrize(("module", "extra"), EXTRA_OF.items())
def test_extra_installs_the_library(module: str, extra: str) -> None:
    """pyproject.toml has it in that extra, in `all`, and not among what connbench itself requires."""
    extras = PROJECT["optional-dependencies"]
    name = {"hdrh": "hdrhistogram"}.get(module, module.replace("_", "-"))
    assert any(one.startswith(f"{name}>=") for one in extras[extra])
    assert not any(one.startswith(name) for one in PROJECT["dependencies"])
    [everything] = extras["all"]
    assert extra in everything.partition("[")[2].rstrip("]").split(",")
