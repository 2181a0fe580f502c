"""The man pages and completions of a wheel: made from the help of each command, and read by mandoc."""

from __future__ import annotations

import subprocess
from pathlib import Path

import click
import pytest

import manpages
from connbench.commands import COMMANDS, cli
from required_programs import require


@pytest.fixture(scope="module")
def share(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What `make man` writes."""
    folder = tmp_path_factory.mktemp("prefix") / "share"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(manpages, "SHARE", folder)
        assert manpages.main() == 0
    return folder


def test_every_command_has_a_page_with_its_options(share: Path) -> None:
    """Commands of a group have pages of their own; the page of connbench names those of its commands."""
    names = {path.stem for path in (share / "man" / "man1").iterdir()}
    assert names >= {"connbench", "connbench-trace-parity", *(f"connbench-{name}" for name in COMMANDS)}
    page = (share / "man" / "man1" / "connbench-run.1").read_text(encoding="utf-8").replace("\\-", "-")
    run = cli.get_command(click.Context(cli), "run")
    assert run
    assert [one for one in run.params for name in one.opts if name.startswith("--") and name not in page] == []
    assert "\n.SS What to open\n.TP\n" in page


def test_mandoc_reads_every_page(share: Path) -> None:
    """Without a warning but that for the date, which a page made from the same source twice would not share."""
    pages = sorted((share / "man" / "man1").iterdir())
    done = subprocess.run(
        [require("mandoc"), "-T", "lint", "-W", "warning", *pages], capture_output=True, text=True, check=False
    )
    assert [line for line in done.stdout.splitlines() if "missing date" not in line] == []
    shown = subprocess.run([require("mandoc"), "-T", "ascii", pages[0]], capture_output=True, text=True, check=True)
    assert "CONNBENCH" in shown.stdout


def test_completions_stand_where_shells_look(share: Path) -> None:
    """One for each shell, which asks connbench for what there is."""
    for shell, place in manpages.PLACES.items():
        assert f"_CONNBENCH_COMPLETE={shell}_complete" in (share / place).read_text(encoding="utf-8")
