"""The documents of promises name tests that exist."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("document", ["docs/reliability.md", "SECURITY.md"])
def test_every_promise_names_a_test_that_exists(document: str) -> None:
    """As `tests/FILE.py::FUNCTION`: a rename or removal of the test fails here."""
    named = re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", (ROOT / document).read_text(encoding="utf-8"))
    assert len(named) >= 10
    missing = [f"{file}::{name}" for file, name in named if not _has(ROOT / file, name)]
    assert missing == []


@pytest.mark.parametrize("document", ["docs/reliability.md", "SECURITY.md"])
def test_every_file_that_it_names_exists(document: str) -> None:
    """The tests' files, and the targets of links."""
    text = (ROOT / document).read_text(encoding="utf-8")
    named = {ROOT / file for file in re.findall(r"`(tests/[\w/]+\.py)", text)}
    linked = {(ROOT / document).parent / link.partition("#")[0] for link in re.findall(r"\]\(([^):]+)\)", text)}
    assert [path for path in sorted(named | linked) if not path.exists()] == []


def _has(file: Path, name: str) -> bool:
    return file.exists() and f"\ndef {name}(" in file.read_text(encoding="utf-8")
