"""docs/formats.md: it names every format of a result, and each example is what the format prints of a real run."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from connbench.commands.reports import write_as
from connbench.report.formats import FORMATS, PROFILE_FORMATS
from connbench.results.input_file import read
from connbench.thresholds import parse

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "formats.md").read_text(encoding="utf-8")
EXAMPLE = ROOT / "tests" / "files" / "example.json.gz"
SECTIONS = dict(re.findall(r"^## (.*)\n((?:(?!## ).*\n)*)", PAGE, re.MULTILINE))
ROWS = re.findall(r"^\| (\S.*?) \|.*\| (.*) \|$", PAGE.partition("\n## ")[0], re.MULTILINE)
EVERYWHERE = "everything"


def test_page_has_every_format() -> None:
    """Each is in the table once, with where it can be asked for."""
    named = {name: of for cell, of in ROWS for name in re.findall(r"`([a-z][\w-]*)`", cell)}
    assert set(named) == set(FORMATS)
    assert {name for name, of in named.items() if of.startswith(EVERYWHERE)} == set(PROFILE_FORMATS)


def is_in_order(wanted: list[str], text: str) -> bool:
    """Whether a text has all these lines, one after the other; of a line that ends in `...` its beginning."""
    lines = iter(text.splitlines())
    return all(any(_fits(part, line) for line in lines) for part in wanted if part.strip() != "...")


def _fits(part: str, line: str) -> bool:
    return line.startswith(part.removesuffix("...")) if part.endswith("...") else line == part


@pytest.mark.parametrize("name", [name for name in FORMATS if name in SECTIONS])
def test_example_is_what_the_format_prints(name: str) -> None:
    """The lines of the example are in the text, in their order."""
    [example] = re.findall(r"^```\w*\n(.*?)^```", SECTIONS[name], re.MULTILINE | re.DOTALL)
    conditions = [parse(text) for text in re.findall(r"--fail-if '(.*?)'", SECTIONS[name].partition("```")[0])]
    result = read(EXAMPLE)
    if name == "hgrm":  # a histogram of one strategy
        result.rounds = {spec: rounds for spec, rounds in result.rounds.items() if spec.name == "range"}
    printed = write_as(result, name, conditions)
    assert is_in_order(example.splitlines(), printed)


def test_order_is_checked() -> None:
    """What the test above rests on finds a line that is missing, wrong or at another place."""
    assert is_in_order(["a", "...", "c d..."], "a\nb\nc d e\n")
    assert not is_in_order(["c", "a"], "a\nb\nc\n")
    assert not is_in_order(["a", "x..."], "a\nb\nc\n")
