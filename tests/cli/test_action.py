"""action.yml: its shell steps run here as GitHub's runner runs them, with the inputs in the environment."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from connbench.errors import ExitCode
from connbench.results.input_file import read
from run_connbench import COMMAND, HANG_S

ROOT = Path(__file__).parents[2]
ACTION: dict[str, Any] = yaml.safe_load((ROOT / "action.yml").read_text(encoding="utf-8"))
STEPS = {step["name"]: step for step in ACTION["runs"]["steps"]}
EXPRESSION = re.compile(r"\$\{\{ *([\w.-]+) *\}\}")


def run_step(name: str, folder: Path, **inputs: str) -> subprocess.CompletedProcess[str]:
    """Run the shell step of a name, with inputs in place of their defaults."""
    step = STEPS[name]
    values = {"github.action_path": str(ROOT)}
    values |= {f"inputs.{key}": one["default"] for key, one in ACTION["inputs"].items()}
    values |= {f"inputs.{key.replace('_', '-')}": value for key, value in inputs.items()}
    environment = {key: EXPRESSION.sub(lambda found: values[found[1]], text) for key, text in step["env"].items()}
    runner = {
        "RUNNER_TEMP": str(folder),
        "GITHUB_ACTIONS": "true",
        "GITHUB_OUTPUT": str(folder / "output"),
        "GITHUB_STEP_SUMMARY": str(folder / "summary.md"),
    }
    # As docs.github.com says that `shell: bash` is run.
    command = ["bash", "--noprofile", "--norc", "-eo", "pipefail", "-c", step["run"]]
    return subprocess.run(
        command,
        cwd=folder,
        env={**os.environ, **environment, **runner},
        capture_output=True,
        text=True,
        check=False,
        timeout=HANG_S,
    )


@pytest.fixture
def installed(tmp_path: Path) -> Path:
    """The runner's folder for temporary files, with the connbench of this checkout in the place of an installed one."""
    place = tmp_path / "connbench" / "bin"
    place.mkdir(parents=True)
    (place / "connbench").symlink_to(COMMAND)
    return tmp_path


def test_no_input_is_code() -> None:
    """Inputs reach a shell in variables alone, so that none of them is run; and every input is used."""
    assert [name for name, step in STEPS.items() if "${{" in step.get("run", "")] == []
    text = (ROOT / "action.yml").read_text(encoding="utf-8")
    assert [name for name in ACTION["inputs"] if f"inputs.{name}" not in text] == []


def test_measures_and_keeps_the_result(installed: Path) -> None:
    """With the defaults, but for a smaller range: a result file, a table in the summary, no annotation of a failure."""
    done = run_step(
        "Measure",
        installed,
        port_range="40000-40199",
        options="--window 50 -q",
        thresholds="\n p50 > 1s \nerrors > 99%\n",
    )
    assert done.returncode == ExitCode.OK, done.stderr
    path = Path((installed / "output").read_text(encoding="utf-8").partition("=")[2].strip())
    assert [one.strategy.label for one in read(path).strategies] == ["bind", "window 50"]
    assert "| window 50 |" in (installed / "summary.md").read_text(encoding="utf-8")
    assert "::error" not in done.stdout + done.stderr


def test_threshold_fails_the_step_with_an_annotation(installed: Path) -> None:
    """And the output still names the result file, which the next step keeps."""
    done = run_step("Measure", installed, strategies="bind", port_range="40000-40199", thresholds="p50 > 1ns")
    assert done.returncode == ExitCode.THRESHOLD
    assert re.search(r"^::error.*bind: p50 > 1ns", done.stdout + done.stderr, re.MULTILINE)
    assert (installed / "connbench.json.gz").stat().st_size > 0
    assert "steps.run.outputs.result" in STEPS["Keep the result"]["with"]["path"]
    assert STEPS["Keep the result"]["if"].startswith("always()")


def test_words_of_an_input_stay_words(installed: Path) -> None:
    """A strategy that a shell would run is an unknown strategy."""
    done = run_step("Measure", installed, strategies="$(touch taken)", options="")
    assert done.returncode == ExitCode.USAGE
    assert not (installed / "taken").exists()


@pytest.mark.slow
def test_installs_its_own_commit(tmp_path: Path) -> None:
    """In a virtual environment of its own, with whatever Python the job has."""
    done = run_step("Install connbench", tmp_path, python=sys.executable)
    assert done.returncode == 0, done.stderr
    said = subprocess.run(
        [tmp_path / "connbench" / "bin" / "connbench", "--version"], capture_output=True, text=True, check=True
    )
    assert said.stdout.startswith("connbench ")


def test_user_namespaces_are_allowed_only_where_they_are_forbidden(tmp_path: Path) -> None:
    """The step uses sudo for a setting of Ubuntu; it never fails the job."""
    script = STEPS["Allow user namespaces"]["run"]
    sudo = tmp_path / "sudo"
    sudo.write_text('#!/bin/sh\necho "$@" >> asked\nexit 1\n', encoding="ascii")
    sudo.chmod(0o755)
    (tmp_path / "id").write_text("#!/bin/sh\necho 1000\n", encoding="ascii")
    (tmp_path / "id").chmod(0o755)
    environment = {**os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}"}
    subprocess.run(["/bin/bash", "-eo", "pipefail", "-c", script], cwd=tmp_path, env=environment, check=True)
    assert (tmp_path / "asked").exists() == Path("/proc/sys/kernel/apparmor_restrict_unprivileged_userns").exists()
