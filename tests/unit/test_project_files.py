"""The project's own files agree with each other: CI, the hook before a commit, the issue forms and the Makefile."""

from __future__ import annotations

import re
import subprocess
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml

import connbench

ROOT = Path(__file__).parents[2]
FORMS = [path for path in sorted((ROOT / ".github" / "ISSUE_TEMPLATE").iterdir()) if path.name != "config.yml"]


def document(*place: str) -> Any:  # noqa: ANN401  # whatever the YAML file holds
    """A YAML file of the project."""
    return yaml.safe_load(ROOT.joinpath(*place).read_text(encoding="utf-8"))


def test_github_runs_what_ci_runs() -> None:
    """The workflow's last step is `.ci/run`: there is no second list of checks."""
    [job] = document(".github", "workflows", "ci.yml")["jobs"].values()
    assert job["steps"][-1] == {"run": ".ci/run"}


def test_commit_hook_is_make_lint() -> None:
    """The same target, and the hook asks pre-commit for no environment of its own."""
    [repository] = document(".pre-commit-config.yaml")["repos"]
    [hook] = repository["hooks"]
    assert (repository["repo"], hook["entry"], hook["language"]) == ("local", "make lint", "system")


@pytest.mark.parametrize("form", FORMS, ids=lambda form: form.name)
def test_issue_form_asks_for_the_machine(form: Path) -> None:
    """As doctor prints it. A form is one that GitHub takes: each field has a type, and an id of its own."""
    content = yaml.safe_load(form.read_text(encoding="utf-8"))
    assert {"name", "description", "body"} <= content.keys()
    fields = content["body"]
    assert {field["type"] for field in fields} <= {"textarea", "input"}
    assert len({field["id"] for field in fields}) == len(fields)
    [doctor] = [field for field in fields if field["id"] == "doctor"]
    assert "connbench doctor --format json" in doctor["attributes"]["label"]
    assert doctor["validations"] == {"required": True}


def test_debian_has_the_version_of_the_package() -> None:
    """The version stands in connbench alone, and dpkg reads it from the changelog's first line."""
    first = (ROOT / "debian" / "changelog").read_text(encoding="utf-8").splitlines()[0]
    assert first.startswith(f"connbench ({connbench.__version__}) ")


def test_debian_builds_with_what_connbench_requires() -> None:
    """The man pages are made by the commands during the build; dh_python3 takes the package's own needs from here."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    control = (ROOT / "debian" / "control").read_text(encoding="utf-8")
    needed = {re.split(r"[>=]", one)[0] for one in project["dependencies"]}
    assert {name for name in needed if f" python3-{name}" not in control} == set()


def test_image_is_built_from_what_is_here() -> None:
    """The stages share one base, and nothing of git or of an environment goes into the image."""
    steps = (ROOT / "Containerfile").read_text(encoding="utf-8")
    assert re.findall(r"^FROM (\S+)", steps, re.MULTILINE) == ["${BASE}", "${BASE}"]
    assert re.findall(r"^COPY (?!--from)(\S+)", steps, re.MULTILINE) == ["."]
    ignored = (ROOT / ".dockerignore").read_text(encoding="utf-8").split()
    assert {"/.git", "/.venv*"} <= {*ignored}


def test_make_help_lists_every_target_below_a_heading() -> None:
    """A target that needs no help line is a part of others, as `kernels` is."""
    command = ["/usr/bin/env", "make", "--silent", "help"]
    said = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    first, *blocks = said.strip("\n").split("\n\n")
    assert all(re.match(r"[A-Z][^\n]*\n  make ", block) for block in (first, *blocks))
    phony = re.search(r"^\.PHONY: (.*)$", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE)
    assert phony
    assert set(phony[1].split()) - set(re.findall(r"^  make ([a-z-]+) ", said, re.MULTILINE)) == {"kernels"}


def test_contributing_has_a_place_for_each_module() -> None:
    """The tables and the list of features name each module and folder of connbench."""
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    names = [path.name + "/" * path.is_dir() for path in (ROOT / "src" / "connbench").iterdir()]
    own = {"__init__.py", "__main__.py", "__pycache__/", "py.typed"}
    assert [name for name in names if name not in own and f"`{name}`" not in text] == []
