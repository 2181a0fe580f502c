"""`make docs`: every page has its place in the site, every link leads somewhere, and nothing comes from elsewhere."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

import documentation
from connbench.commands import COMMANDS


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The site, built without a word of complaint."""
    folder = tmp_path_factory.mktemp("documentation") / "site"
    assert documentation.build(folder) == []
    return folder


def test_each_command_has_a_page_with_its_options(site: Path) -> None:
    """Made from its help: commands below it, too."""
    for name in COMMANDS:
        assert "--debug" in (site / "commands" / f"{name}.html").read_text(encoding="utf-8")
    text = (site / "commands" / "fleet.html").read_text(encoding="utf-8")
    assert "<h2>connbench fleet merge" in text
    assert "[default: if their --start-at is the same]" in text


def test_what_is_wrong_is_found(site: Path, tmp_path: Path) -> None:
    """A page that is not there, a heading that is not there, and a script of another server."""
    copy = Path(shutil.copytree(site, tmp_path / "site"))
    wrong = (
        '<a href="docs/no.html">a</a><a href="docs/ci.html#no">b</a><script src="https://example.com/a.js"></script>'
    )
    (copy / "extra.html").write_text(wrong, encoding="utf-8")
    assert documentation.dead_links(copy) == [
        "extra.html: there is no docs/ci.html#no",
        "extra.html: there is no docs/no.html",
        "extra.html loads https://example.com/a.js",
    ]


def test_page_without_a_place_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A new page needs a line in the menu."""
    fewer = {name: pages for name, pages in documentation.CHAPTERS.items() if "inspect" not in pages}
    monkeypatch.setattr(documentation, "CHAPTERS", fewer)
    found = documentation.build(tmp_path / "site")
    assert any("docs/inspect.md" in line and "toctree" in line for line in found), found
